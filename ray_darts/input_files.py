"""Reads the small files that people name, whole or not at all; a pipe is waited for, but not for ever."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

PATIENCE_S = 10.0
"""How long a pipe or a terminal may stay silent."""


def read_start(file: Path, most: int) -> bytes:
    """The first `most` bytes of a file and one more, if there are so many: then it is longer.

    Raises: OSError; TimeoutError, which is one, where nothing was written to a pipe for PATIENCE_S.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as opened:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        content, deadline = b"", time.monotonic() + PATIENCE_S
        while len(content) <= most:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([opened], [], [], max(0.0, left))
            piece = opened.read(most + 1 - len(content)) if ready else None
            if piece:
                content, deadline = content + piece, time.monotonic() + PATIENCE_S
            elif piece == b"" and (content or not stat.S_ISFIFO(mode)):
                break
            elif left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, f"nothing was written to it for {PATIENCE_S:.0f} s")
            elif ready:  # a pipe that no program has opened to write
                time.sleep(0.05)
    return content
