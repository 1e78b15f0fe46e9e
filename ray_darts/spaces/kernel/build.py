"""Builds the C++ sources beside this file, once per machine and version, into a cache that processes share.

An entry is one file: the library, and behind it the SHA-256 of its bytes. It is moved into its place whole, and a
damaged one is found before it is loaded. While one process builds, the others wait at a lock that ends with its holder.
Where no cache can be used, a process builds for itself.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray_darts
from ray_darts.errors import ConfigError

logger = logging.getLogger("ray_darts.spaces")

COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread", "-ldl")
_MAIN = Path(__file__).with_name("kernel.cpp")
_DIGEST_BYTES = hashlib.sha256().digest_size


def load_library(compilers: tuple[str, ...] = COMPILERS, caches: tuple[Path, ...] | None = None) -> ctypes.CDLL:
    """The built kernel, from the first of `caches` that can be used.

    `caches`: by default a folder in the user's home, then one in the system's folder of temporary files.
    Raises: ConfigError where there is no compiler or it cannot build the kernel.
    """
    compiler = next((found for name in compilers if (found := shutil.which(name))), None)
    if compiler is None:
        raise ConfigError(
            f"operation.kernel=compiled needs a C++ compiler ({', '.join(compilers)}) on PATH: "
            "install one, or set operation.kernel=torch"
        )
    key = _key(compiler)
    for folder in _default_caches() if caches is None else caches:
        try:
            return ctypes.CDLL(str(_entry(folder, key, compiler)))
        except OSError as error:
            logger.info("the kernel cannot be kept in %s: %s", folder, error)
    with tempfile.TemporaryDirectory(prefix="ray_darts-kernel-") as private:
        library = Path(private) / "kernel.so"
        _compile(compiler, library)
        return ctypes.CDLL(str(library))


def _default_caches() -> Iterator[Path]:
    with suppress(RuntimeError):  # the home of nobody
        yield Path("~/.cache/ray_darts/kernel").expanduser()
    yield Path(tempfile.gettempdir()) / f"ray_darts-kernel-{os.getuid()}"


def _key(compiler: str) -> str:
    """A name that differs wherever the built code could: sources, flags, compiler, processor, package."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    sources = {file.name: file.read_text() for file in sorted(_MAIN.parent.iterdir()) if file.suffix in (".h", ".cpp")}
    facts = [sources, _FLAGS, compiler, version, _processor(), ray_darts.__version__]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _processor() -> list[str]:
    """Model and instruction sets, as far as the system says them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return [platform.machine(), platform.processor()]
    wanted = ("model name", "flags", "CPU part", "Features")
    return [platform.machine(), *sorted({line for line in lines if line.startswith(wanted)})]


def _entry(folder: Path, key: str, compiler: str) -> Path:
    """The entry `key`, built if it is not there or damaged. Raises: OSError where the folder cannot be used."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError("others can write there")
    entry, building = folder / f"{key}.so", f".building-{key[:16]}-"
    if _is_whole(entry):
        return entry
    with _held_alone(folder / f"{key}.lock"):
        if not _is_whole(entry):
            for left in folder.glob(f"{building}*"):  # by a process that was killed while it held the lock
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=building, dir=folder) as private:
                library = Path(private) / "kernel.so"
                _compile(compiler, library)
                content = library.read_bytes()
                library.write_bytes(content + hashlib.sha256(content).digest())
                os.replace(library, entry)
    return entry


def _is_whole(entry: Path) -> bool:
    try:
        content = entry.read_bytes()
    except FileNotFoundError:
        return False
    library, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return bool(library) and hashlib.sha256(library).digest() == digest


@contextmanager
def _held_alone(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(compiler: str, library: Path) -> None:
    command = [compiler, *_FLAGS, "-o", str(library), str(_MAIN)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise ConfigError(
            f"{compiler} could not build {_MAIN.name}: {built.stderr.strip()[:500]}; set operation.kernel=torch"
        )
