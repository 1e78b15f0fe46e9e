"""What `ray job submit --working-dir .` sends of a checkout: the package and the jobs, nothing else."""

from __future__ import annotations

import logging
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package

from ray_darts.cli.submit import requirements
from tests.cluster.files import ROOT
from tests.jobs.checkout import CANARY, copied_checkout, plant_secrets


@pytest.fixture(scope="module")
def travelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip that Ray makes of a checkout with private files in it, ignore files and default excludes applied."""
    folder = tmp_path_factory.mktemp("travel")
    checkout = copied_checkout(folder / "checkout")
    plant_secrets(checkout)
    package = folder / "package.zip"
    create_package(
        str(checkout), package, include_gitignore=True, excludes=[".git", ".venv"], logger=logging.getLogger()
    )
    return package


def test_package_and_jobs_travel_and_nothing_else(travelling: Path) -> None:
    archive = zipfile.ZipFile(travelling)
    files = [name for name in archive.namelist() if not name.endswith("/")]
    assert {"ray_darts/__init__.py", "ray_darts/presets/digits.toml", "jobs/search.py", "jobs/cifar10.toml"} <= set(
        files
    )
    assert {name.partition("/")[0] for name in files} == {"ray_darts", "jobs"}
    assert not [name for name in files if name.endswith((".md", ".pyc", ".so"))]
    assert not [name for name in files if CANARY in archive.read(name) and name != "jobs/service.pem"]
    assert travelling.stat().st_size < 2_500_000


def test_fallback_environment_installs_what_the_package_declares() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    fallback = yaml.safe_load((ROOT / "jobs" / "runtime_env.yaml").read_text())
    assert fallback == {"pip": [line for line in declared if not line.startswith("ray[")]}
    assert len(requirements()) == len(fallback["pip"])


def test_entry_points_start_from_what_travels(travelling: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(travelling).extractall(tmp_path)
    for command, code, message in (
        (["jobs/search.py", "--store", "results"], 2, "deleted after it"),
        (["jobs/search.py", "jobs/digits.toml", "--store", "s3://b/p", "--seeds", "x"], 2, "--seeds 'x'"),
        (["jobs/no_retry.py", "--codes", "2,76", "--", "true"], 0, ""),
    ):
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert message in done.stderr
    helped = subprocess.run(
        [sys.executable, "jobs/search.py", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "--allow-world-size-change" in helped.stdout
