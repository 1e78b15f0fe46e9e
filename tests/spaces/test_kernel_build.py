"""The kernel is built once per machine and version, also by several processes at once, and never loaded damaged."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ray_darts.errors import ConfigError
from ray_darts.spaces.kernel.build import COMPILERS, load_library
from tests.spaces.test_kernel import needs_compiler

LOAD = (
    "import sys; from pathlib import Path; from ray_darts.spaces.kernel.build import load_library\n"
    "assert load_library((sys.argv[1],), (Path(sys.argv[2]),))['float32_group']"
)


def a_compiler(folder: Path, *before: str, version: str = "1") -> Path:
    """The real compiler, which notes each build, of a small library; `before`: shell commands before a build."""
    real = next(found for name in COMPILERS if (found := shutil.which(name)))
    script = folder / "compiler"
    lines = [f'[ "$1" = --version ] && echo {version} && exit', f"echo built >> {folder}/builds", *before]
    (folder / "small.cpp").write_text('extern "C" void float32_group() {}\nextern "C" void float64_group() {}\n')
    small = [
        f"small={folder}/small.cpp",
        "while [ $# -gt 2 ]; do shift; done",
        f'exec {real} -shared -fPIC -o "$1" $small',
    ]
    script.write_text("\n".join(["#!/bin/sh", *lines, *small, ""]))
    script.chmod(0o755)
    return script


def builds(folder: Path) -> int:
    """How often the compiler has been asked to build."""
    return len((folder / "builds").read_text().splitlines())


def start(compiler: Path, cache: Path) -> subprocess.Popen[str]:
    """A process of a group of its own that loads the kernel."""
    command = [sys.executable, "-c", LOAD, str(compiler), str(cache)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


@needs_compiler
def test_processes_at_once_build_one_library(tmp_path: Path) -> None:
    compiler, cache = a_compiler(tmp_path, "sleep 3"), tmp_path / "cache"
    loading = [start(compiler, cache) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in loading] == [("", 0)] * 3
    assert builds(tmp_path) == 1
    assert [file.suffix for file in sorted(cache.iterdir())] == [".lock", ".so"]
    load_library((str(compiler),), (cache,))
    assert builds(tmp_path) == 1


@needs_compiler
def test_a_process_killed_while_it_builds_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    first = f"[ -e {tmp_path}/begun ] || {{ touch {tmp_path}/begun; sleep 600; }}"
    compiler, cache = a_compiler(tmp_path, first), tmp_path / "cache"
    killed = start(compiler, cache)
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").exists():
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    waiting = start(compiler, cache)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert list(cache.glob(".building-*")), "the killed process was at work there"
    assert (waiting.communicate()[1], waiting.returncode) == ("", 0)
    assert builds(tmp_path) == 2
    assert not list(cache.glob(".building-*"))


@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    compiler, cache = a_compiler(tmp_path), tmp_path / "cache"
    load_library((str(compiler),), (cache,))
    [entry] = cache.glob("*.so")
    whole = entry.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    (tmp_path / "damaged").write_bytes({"cut": whole[:middle], "changed": changed, "empty": b""}[damage])
    os.replace(tmp_path / "damaged", entry)  # a library that is loaded must not change
    load_library((str(compiler),), (cache,))
    assert builds(tmp_path) == 2
    assert entry.stat().st_size == len(whole)


@needs_compiler
def test_another_compiler_has_an_entry_of_its_own(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for version in ("1", "2"):
        load_library((str(a_compiler(tmp_path, version=version)),), (cache,))
    assert builds(tmp_path) == len(list(cache.glob("*.so"))) == 2


@needs_compiler
def test_a_cache_that_cannot_be_trusted_or_used_is_passed_over(tmp_path: Path) -> None:
    compiler, shared, file, good = a_compiler(tmp_path), tmp_path / "shared", tmp_path / "file", tmp_path / "good"
    shared.mkdir()
    shared.chmod(0o777)
    file.touch()
    load_library((str(compiler),), (shared, file, good))
    assert not list(shared.iterdir()), "others could replace what lies there"
    assert list(good.glob("*.so"))
    assert stat.S_IMODE(good.stat().st_mode) == 0o700
    assert load_library((str(compiler),), (shared, file))["float64_group"], "built for this process alone"
    assert builds(tmp_path) == 2


@needs_compiler
def test_a_compiler_that_fails_is_an_error_with_its_words(tmp_path: Path) -> None:
    compiler = a_compiler(tmp_path, "echo no room for this >&2; exit 1")
    with pytest.raises(ConfigError, match=r"no room for this; set operation\.kernel=torch"):
        load_library((str(compiler),), (tmp_path / "cache",))
    assert not list((tmp_path / "cache").glob(".building-*"))
