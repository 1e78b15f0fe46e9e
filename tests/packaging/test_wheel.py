"""The wheel holds the package alone, and its command line runs where only the wheel is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from ray_darts import __version__

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "ray_darts" / "presets").glob("*.toml"))
TRAINING = sorted(f"training/{path.stem}" for path in (ROOT / "ray_darts" / "presets" / "training").glob("*.toml"))


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program far from the checkout, without this environment's PYTHONPATH; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def tracked_files() -> list[str]:
    """The files of the checkout that git tracks, as paths below its root."""
    listed = run("git", "ls-files", "-z", cwd=ROOT)
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy of what git tracks, so that nothing left over gets in."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--wheel-dir", built, source, cwd=built)
    [path] = built.iterdir()
    return path


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel; its dependencies are those of the running one."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install")
    run(*pip, "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    # A plain path in a .pth file is searched after the environment's own packages, and .pth files of a folder that
    # is added like this, an editable install's among them, are not read.
    site_packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"ray_darts-{__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {"ray_darts", f"ray_darts-{__version__}.dist-info"}
    assert {f"ray_darts/presets/{preset}.toml" for preset in (*PRESETS, *TRAINING)} < names
    assert {"ray_darts/py.typed", "ray_darts/__main__.py"} < names
    sources = {name for name in tracked_files() if name.startswith("ray_darts/") and name.endswith((".cpp", ".h"))}
    assert "ray_darts/spaces/kernel/kernel.cpp" in sources
    assert sources < names
    assert f"ray_darts-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_wheel_holds_every_module(wheel: Path) -> None:
    modules = {name for name in tracked_files() if name.startswith("ray_darts/") and name.endswith(".py")}
    assert modules <= set(zipfile.ZipFile(wheel).namelist())


def test_the_installed_command_lists_the_presets(clean: Path, tmp_path: Path) -> None:
    listed = run(clean / "ray-darts", "presets", cwd=tmp_path)
    assert [line.split()[0] for line in listed.splitlines()] == [*PRESETS, *TRAINING]


def test_the_installed_package_is_the_wheels(clean: Path, tmp_path: Path) -> None:
    python = clean / "python"
    assert run(python, "-m", "ray_darts", "--version", cwd=tmp_path) == f"ray-darts {__version__}\n"
    imported = Path(run(python, "-c", "import ray_darts; print(ray_darts.__file__)", cwd=tmp_path).strip())
    assert imported.is_relative_to(clean.parent)
