"""A folder mounted through FUSE without hard links, as many network file systems are: a pass-through by fusepy.

`python -m tests.artifacts.linkless_mount SOURCE MOUNT` serves until it is unmounted.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def linkless_mount(source: Path, mount: Path) -> Iterator[Path]:
    """`source` mounted at `mount`. Raises: RuntimeError with the reason where it cannot be mounted."""
    if importlib.util.find_spec("fuse") is None:
        raise RuntimeError("fusepy is not installed")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise RuntimeError("/dev/fuse cannot be opened")
    source.mkdir()
    mount.mkdir()
    command = [sys.executable, "-m", "tests.artifacts.linkless_mount", str(source), str(mount)]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        while not os.path.ismount(mount):
            if server.poll() is not None:
                assert server.stderr is not None
                raise RuntimeError(f"it cannot be mounted: {server.stderr.read().strip()[-300:]}")
            time.sleep(0.05)
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=False, capture_output=True)
        server.kill()
        server.communicate()


def serve(source: str, mount: str) -> None:
    """Serve `source` at `mount` in the foreground."""
    fuse: Any = importlib.import_module("fuse")

    class PassThrough(fuse.Operations):  # type: ignore[misc]
        def __call__(self, operation: str, path: str, *arguments: Any) -> Any:
            return super().__call__(operation, source + path, *arguments)

        def getattr(self, path: str, handle: int | None = None) -> dict[str, Any]:
            facts = os.lstat(path)
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_mtime", "st_atime", "st_ctime")
            return {name: getattr(facts, name) for name in names}

        def link(self, target: str, made: str) -> int:
            raise fuse.FuseOSError(errno.EOPNOTSUPP)

        def readdir(self, path: str, handle: int) -> list[str]:
            return [".", "..", *os.listdir(path)]

        def create(self, path: str, mode: int, info: Any = None) -> int:
            return os.open(path, os.O_RDWR | os.O_CREAT, mode)

        def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
            return os.pread(handle, size, offset)

        def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
            return os.pwrite(handle, data, offset)

        def truncate(self, path: str, length: int, handle: int | None = None) -> None:
            os.truncate(path, length)

        def release(self, path: str, handle: int) -> None:
            os.close(handle)

        def rename(self, before: str, after: str) -> None:
            os.rename(before, source + after)

        def mkdir(self, path: str, mode: int) -> None:
            os.mkdir(path, mode)

        open, rmdir, unlink = staticmethod(os.open), staticmethod(os.rmdir), staticmethod(os.unlink)

    fuse.FUSE(PassThrough(), mount, foreground=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
