"""Writes the files that people name: a whole file or nothing, and never in the place of what is no regular file."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from ray_darts.errors import ConfigError
from ray_darts.messages import shown_name

STANDARD_OUTPUT = Path("-")
PATIENCE_S = 10.0
"""How long a pipe may have no reader."""

_SYSTEM_FOLDERS = ("/dev", "/proc")


def write_file(output: Path, content: str | bytes) -> None:
    """Write a whole file or nothing; `-` is standard output. Raises: as `whole_file`."""
    data = content.encode() if isinstance(content, str) else content
    if output == STANDARD_OUTPUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with whole_file(output) as file:
        file.write_bytes(data)


@contextlib.contextmanager
def whole_file(output: Path) -> Iterator[Path]:
    """A new file to write: it becomes `output` when the block ends well, and is removed otherwise.

    A link is followed, and stays. A device or a pipe is written to, and stays.
    Raises: ConfigError naming `output`: it is a folder, its folder is missing, the disk is full.
    """
    try:
        if _is_special(output):
            with _scratch_file(output) as file:
                yield file
                _copy_into(output, file)
            return
        target = Path(os.path.realpath(output))
        _check_place(output, target)
        file = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.tmp")
        try:
            yield file
            if target.exists():
                shutil.copymode(target, file)
            os.replace(file, target)
        finally:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {shown_name(output)}: {error.strerror or error}", path=str(output)) from error


def _is_special(output: Path) -> bool:
    """Whether there is something that is neither a regular file nor a folder, or a name of a running process's file.

    `/dev/stdout` may be a regular file, which is open: a new one in its place would be lost.
    """
    if any(output.absolute().is_relative_to(folder) for folder in _SYSTEM_FOLDERS):
        return True
    try:
        mode = os.stat(output).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _check_place(output: Path, target: Path) -> None:
    if target.exists() and any(
        (folder / "experiment.json").is_file() and (folder / "runs").is_dir() for folder in target.parents
    ):
        raise ConfigError(
            f"cannot write {shown_name(output)}: it is a file of an experiment in a store, name another",
            path=str(output),
        )
    if str(output) in ("", ".") or target.is_dir():
        raise ConfigError(f"cannot write {shown_name(output)}: it is a folder, name a file in it", path=str(output))
    if target.is_symlink():
        raise ConfigError(f"cannot write {shown_name(output)}: it is a link to itself", path=str(output))
    if not target.parent.is_dir():
        raise ConfigError(
            f"cannot write {shown_name(output)}: there is no folder {shown_name(target.parent)}",
            path=str(output),
        )


@contextlib.contextmanager
def _scratch_file(output: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / f"output{output.suffix}"


def _copy_into(output: Path, file: Path) -> None:
    """Open without creating: a device that is gone meanwhile is an error, not a new file. What an open file holds
    stays in it. A reader of a pipe is waited for PATIENCE_S."""
    with (
        os.fdopen(_opened(output), "wb") as target,
        file.open("rb") as source,
    ):
        shutil.copyfileobj(source, target)


def _opened(output: Path) -> int:
    """Open to append; OSError where no program reads a pipe."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.ENXIO, f"no program has read this pipe for {PATIENCE_S:.0f} s") from error
            time.sleep(0.05)
        else:
            os.set_blocking(descriptor, True)
            return descriptor
