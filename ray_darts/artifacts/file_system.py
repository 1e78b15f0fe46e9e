"""What a store in a folder asks of its file system: flushed files and folders, creation under a new name, locks.

Where one system call is missing an equally safe one is used; where none is, the error names the missing ability and
what to use instead. Knows no key.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path
from typing import IO

from ray_darts.errors import ConfigError

_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_LINKS = _UNKNOWN | {errno.EPERM, errno.EXDEV}
_NO_LOCKS = _UNKNOWN | {errno.ENOLCK}

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


def write_flushed(path: Path, data: bytes) -> None:
    """Write a new file and flush its content, but not its name; after an error the caller removes it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder. Raises: OSError, ConfigError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _UNKNOWN:
            raise _lacking(folder, "cannot flush the names in a folder (fsync)", error) from error
        raise
    finally:
        os.close(descriptor)


def name_once(temporary: Path, path: Path) -> None:
    """Give the file the name `path` unless the name is taken, in one step: by a hard link, else by renameat2.

    The temporary name may stay. Raises: FileExistsError; other OSError; ConfigError where neither call is known.
    """
    try:
        os.link(temporary, path)
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        refused = error
    try:
        _rename_without_replacing(temporary, path)
    except OSError as error:
        if error.errno in _UNKNOWN:
            lacks = "supports neither hard links nor a rename that does not replace (renameat2)"
            raise _lacking(path.parent, lacks, refused) from error
        raise


def lock_exclusively(file: IO[bytes]) -> None:
    """Wait for the file's lock, which closing the file releases. Raises: OSError, ConfigError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise _lacking(Path(file.name).parent, "does not support file locks (flock)", error) from error
        raise


def _rename_without_replacing(source: Path, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    answer = libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))


def _lacking(folder: Path, lacks: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"{folder} cannot hold a store: its file system {lacks}: {error.strerror}. Use a folder on ext4, XFS, Btrfs or "
        "NFS 4 with locks, or s3://bucket/prefix"
    )
