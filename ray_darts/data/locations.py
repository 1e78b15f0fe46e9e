"""Lists the files at a local path or an Arrow URI (s3://, gs://, hdfs://…), sorted. Opens no file.

A URI's credentials and endpoint come from that service's standard settings (for S3 also `AWS_ENDPOINT_URL`).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from ray_darts.errors import DataError

_HELD_OUT = ("test", "val")


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of `path` and the path inside it. Raises: DataError when Arrow rejects the URI."""
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).absolute())
    try:
        filesystem, root = fs.FileSystem.from_uri(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreachable(path, error) from error
    return filesystem, str(root)


def list_training_files(path: str, suffix: str) -> tuple[fs.FileSystem, list[str]]:
    """Return the file system of `path` and the files of this suffix at or below it, sorted, without hidden ones.

    Skips held-out data: if files or folders are named `train…`, only those are taken; those named `test…` or `val…`
    never are, unless `path` is the file itself. Raises: DataError when no file is left, or `path` cannot be reached.
    """
    filesystem, root = locate(path)
    try:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.File:
            return filesystem, [root]
        found = []
        if info.type == fs.FileType.Directory:
            found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise _unreachable(path, error) from error
    files = sorted(entry.path for entry in found if entry.type == fs.FileType.File and entry.path.endswith(suffix))
    names = {file: PurePosixPath(file).relative_to(root).parts for file in files}
    visible = [file for file in files if not _any_starts_with(names[file], (".", "_"))]
    train = [file for file in visible if _any_starts_with(names[file], ("train",))]
    chosen = train or [file for file in visible if not _any_starts_with(names[file], _HELD_OUT)]
    if not chosen:
        held_out = f" to train on, only {', '.join(visible)}" if visible else ""
        raise DataError(f"data.path {path} holds no {suffix} files{held_out}")
    return filesystem, chosen


def _any_starts_with(names: tuple[str, ...], starts: tuple[str, ...]) -> bool:
    return any(name.startswith(starts) for name in names)


def _unreachable(path: str, error: Exception) -> DataError:
    return DataError(f"data.path {path} cannot be reached: {error}")
