"""Lists the files at a local path or an Arrow URI (s3://, gs://, hdfs://…), sorted. Opens no file.

Which S3 service is asked, and with which credentials, is the caller's knowledge (`asking`); without it, and for other
services, Arrow reads their standard settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Protocol

import pyarrow as pa
from pyarrow import fs

from ray_darts.data.splits import choose_training
from ray_darts.data.summary import listed
from ray_darts.errors import DataError


class S3Service(Protocol):
    """Opens s3:// URIs; `endpoint` is the service that it asks for one, as messages name it."""

    def open(self, uri: str) -> tuple[fs.FileSystem, str]: ...

    def endpoint(self, uri: str) -> str: ...


_S3: ContextVar[S3Service | None] = ContextVar("s3", default=None)


@contextmanager
def asking(service: S3Service | None) -> Iterator[None]:
    """Open s3:// paths through `service` in the block."""
    token = _S3.set(service)
    try:
        yield
    finally:
        _S3.reset(token)


def at_endpoint(path: str) -> str:
    """` at https://host` for messages about an s3:// path; nothing for other paths, or where Arrow chooses."""
    service = _S3.get()
    return f" at {service.endpoint(path)}" if service is not None and path.startswith("s3://") else ""


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of `path` and the path inside it. Raises: DataError when Arrow rejects the URI."""
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).absolute())
    service = _S3.get()
    try:
        if service is not None and path.startswith("s3://"):
            return service.open(path)
        filesystem, root = fs.FileSystem.from_uri(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreachable(path, error) from error
    return filesystem, str(root)


def list_training_files(path: str, suffix: str) -> tuple[fs.FileSystem, list[str], tuple[str, ...]]:
    """Return the file system of `path`, its training files of this suffix, sorted, and lines on what was left out.

    Hidden files are left out, and held-out data: if files or folders name a train split, only those are taken; those
    that name a validation or test split never are, unless `path` is the file itself.
    Raises: DataError when no file is left, or `path` cannot be reached.
    """
    filesystem, root = locate(path)
    try:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.File:
            return filesystem, [root], ()
        found = []
        if info.type == fs.FileType.Directory:
            found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise _unreachable(path, error) from error
    files = sorted(entry.path for entry in found if entry.type == fs.FileType.File and entry.path.endswith(suffix))
    parts = {file: PurePosixPath(file).relative_to(root).parts for file in files}
    hidden = [file for file in files if any(name.startswith((".", "_")) for name in parts[file])]
    chosen, left_out = choose_training({file: parts[file] for file in sorted({*files} - {*hidden})})
    if not chosen:
        held_out = f" to train on, only {listed(left_out)}" if left_out else ""
        raise DataError(f"data.path {path}{at_endpoint(path)} holds no {suffix} files{held_out}")
    return filesystem, chosen, _choice_lines(parts, chosen, left_out, hidden)


def _choice_lines(
    parts: Mapping[str, tuple[str, ...]], chosen: list[str], left_out: Mapping[str, str], hidden: list[str]
) -> tuple[str, ...]:
    """What was taken and what was left out, for people."""
    taken = [f"files taken ({len(chosen)}): {listed('/'.join(parts[file]) for file in chosen)}"]
    if left_out:
        shown = listed(f"{'/'.join(parts[file])} ({split})" for file, split in left_out.items())
        taken.append(f"files left out ({len(left_out)}): {shown}")
    if hidden:
        taken.append(f"hidden files left out ({len(hidden)}): {listed('/'.join(parts[file]) for file in hidden)}")
    return tuple(taken)


def _unreachable(path: str, error: Exception) -> DataError:
    return DataError(f"data.path {path} cannot be reached{at_endpoint(path)}: {error}")
