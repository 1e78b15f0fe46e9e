"""Lists the files at a local path or a URI (s3://, gs://, hdfs://, hf://…), sorted. Opens no file.

Which S3 service is asked, and with which credentials, is the caller's knowledge (`asking`); without it, and for other
services, Arrow reads their standard settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pyarrow as pa
from fsspec.core import url_to_fs
from pyarrow import fs

from ray_darts.data.splits import choose_training, files_of_split
from ray_darts.data.summary import listed
from ray_darts.errors import DataError


class S3Service(Protocol):
    """Opens s3:// URIs; `endpoint` is the service that it asks for one, as messages name it."""

    def open(self, uri: str) -> tuple[fs.FileSystem, str]: ...

    def endpoint(self, uri: str) -> str: ...


_ARROW_SCHEMES = ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss", "mock")
"""Read by Arrow itself; all others by fsspec, each with the package that its message names."""

_S3: ContextVar[S3Service | None] = ContextVar("s3", default=None)


@contextmanager
def asking(service: S3Service | None) -> Iterator[None]:
    """Open s3:// paths through `service` in the block."""
    token = _S3.set(service)
    try:
        yield
    finally:
        _S3.reset(token)


def asked_service() -> S3Service | None:
    """The service of the block, for whoever reads more files of the same data later."""
    return _S3.get()


def at_endpoint(path: str) -> str:
    """` at https://host` for messages about an s3:// path; nothing for other paths, or where Arrow chooses."""
    service = _S3.get()
    return f" at {service.endpoint(path)}" if service is not None and path.startswith("s3://") else ""


def locate(path: str, setting: str = "data.path") -> tuple[fs.FileSystem, str]:
    """Return the file system of `path` and the path inside it; `setting` names the path in messages.

    Raises: DataError when the URI is rejected, or its package is missing.
    """
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).absolute())
    service = _S3.get()
    try:
        if service is not None and path.startswith("s3://"):
            return service.open(path)
        if path.partition("://")[0] in _ARROW_SCHEMES:
            filesystem, root = fs.FileSystem.from_uri(path)
            return filesystem, str(root)
        filesystem, root = url_to_fs(path)
    except ImportError as error:
        hub = ": pip install 'ray-darts[hub]'" if path.startswith("hf://") else ""
        raise DataError(f"{setting} {path} needs a package ({error}){hub}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreachable(path, error, setting) from error
    return fs.PyFileSystem(_Translating(filesystem)), str(root)


class _Translating(fs.FSSpecHandler):  # type: ignore[misc]  # pyarrow has no types
    """A file system of fsspec, whose packages raise errors of many kinds: all become OSError."""

    def get_file_info(self, paths: list[str]) -> Any:
        return _translated(super().get_file_info, paths)

    def get_file_info_selector(self, selector: fs.FileSelector) -> Any:
        return _translated(super().get_file_info_selector, selector)

    def version(self, path: str) -> str:
        """What fsspec knows of a file, as one text."""
        return str(_translated(self.fs.ukey, path))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return _translated(super().open_input_stream, path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return _translated(super().open_input_file, path)


def _translated(call: Callable[[Any], Any], argument: object) -> Any:
    try:
        return call(argument)
    except OSError:
        raise
    except Exception as error:  # of whatever package
        raise OSError(f"{type(error).__name__}: {error}") from error


Files = tuple[fs.FileSystem, list[str], tuple[str, ...]]
"""A file system, the paths of files in it, sorted, and lines for people on what was left out."""


def list_training_files(path: str, suffix: str, also: str | None = None) -> Files:
    """Return the file system of `path`, its training files of this suffix, sorted, and lines on what was left out.

    Hidden files are left out, and held-out data: if files or folders name a train split, only those are taken; those
    that name a validation or test split never are, unless `path` is the file itself. `also`: a split that is used, too,
    and not said to be left out.
    Raises: DataError when no file is left, or `path` cannot be reached.
    """
    found = _find(path, suffix, "data.path")
    if found.single is not None:
        return found.filesystem, [found.single], ()
    chosen, left_out = choose_training(found.visible)
    if not chosen:
        held_out = f" to train on, only {listed(left_out)}" if left_out else ""
        raise DataError(f"data.path {path}{at_endpoint(path)} holds no {suffix} files{held_out}")
    unused = {file: split for file, split in left_out.items() if also is None or split != also}
    return found.filesystem, chosen, _choice_lines(found, chosen, unused)


def list_beside(path: str, suffix: str, split: str) -> Files:
    """As `list_training_files`, the files of another split beside the training files; without one, no file."""
    found = _find(path, suffix, "data.path")
    return found.filesystem, files_of_split(found.visible, split), ()


def list_at(path: str, suffix: str, split: str, setting: str) -> Files:
    """As `list_training_files`, the files at the path of a split: those that name it, else those that name no split.

    Raises: DataError when there is none, or `path` cannot be reached.
    """
    found = _find(path, suffix, setting)
    if found.single is not None:
        return found.filesystem, [found.single], ()
    chosen = files_of_split(found.visible, split) or files_of_split(found.visible, None)
    if not chosen:
        others = f" of the {split} split, only {listed(found.visible)}" if found.visible else ""
        raise DataError(f"{setting} {path}{at_endpoint(path)} holds no {suffix} files{others}")
    return found.filesystem, chosen, ()


def file_versions(filesystem: fs.FileSystem, files: Sequence[str]) -> list[str]:
    """A text of each file that is another one once its content changed: what its system tells without reading it.

    Of local files also the time at which anything of them changed: archives give files of one size one date.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        found = (os.stat(file) for file in files)
        return [f"{one.st_size} {one.st_mtime_ns} {one.st_ctime_ns} {one.st_ino}" for one in found]
    version = getattr(getattr(filesystem, "handler", None), "version", None)
    if version is not None:
        return [version(file) for file in files]
    infos = filesystem.get_file_info(list(files))
    return [f"{info.path} {info.size} {info.mtime_ns}" for info in infos]


@dataclass(frozen=True)
class _Found:
    """The files of one suffix at a path: `single` where the path is a file; else {file: its folders and its name}."""

    filesystem: fs.FileSystem
    single: str | None
    visible: Mapping[str, tuple[str, ...]]
    hidden: Mapping[str, tuple[str, ...]]


def _find(path: str, suffix: str, setting: str) -> _Found:
    filesystem, root = locate(path, setting)
    try:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.File:
            return _Found(filesystem, root, {}, {})
        found = []
        if info.type == fs.FileType.Directory:
            found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise _unreachable(path, error, setting) from error
    files = sorted(entry.path for entry in found if entry.type == fs.FileType.File and entry.path.endswith(suffix))
    parts = {file: PurePosixPath(file).relative_to(root).parts for file in files}
    hidden = {file: names for file, names in parts.items() if any(name.startswith((".", "_")) for name in names)}
    return _Found(filesystem, None, {file: parts[file] for file in parts if file not in hidden}, hidden)


def _choice_lines(found: _Found, chosen: list[str], left_out: Mapping[str, str]) -> tuple[str, ...]:
    """What was taken and what was left out, for people."""
    parts, hidden = found.visible, found.hidden
    taken = [f"files taken ({len(chosen)}): {listed('/'.join(parts[file]) for file in chosen)}"]
    if left_out:
        shown = listed(f"{'/'.join(parts[file])} ({split})" for file, split in left_out.items())
        taken.append(f"files left out ({len(left_out)}): {shown}")
    if hidden:
        taken.append(f"hidden files left out ({len(hidden)}): {listed('/'.join(names) for names in hidden.values())}")
    return tuple(taken)


def _unreachable(path: str, error: Exception, setting: str) -> DataError:
    return DataError(f"{setting} {path} cannot be reached{at_endpoint(path)}: {error}")
