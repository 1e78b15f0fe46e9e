"""Keeps a table that is drawn in place on a terminal whole when Ctrl-C is pressed.

At Ctrl-C a terminal discards output that it has not shown yet and echoes `^C` where the cursor is, and an unbuffered
write ends early: the next drawing would go over other lines. Knows no table.
"""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, TextIO

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOCAL_FLAGS = 3


def keep_output(file: IO[str]) -> Callable[[], None]:
    """Make the terminal of `file` keep its output at Ctrl-C, and not echo it; returns what restores the terminal.

    Changes nothing where `file` is no terminal, or where this process is in the background, as it would be stopped.
    """
    try:
        import termios

        descriptor = file.fileno()
        if os.tcgetpgrp(descriptor) != os.getpgrp():
            return _nothing
        before = termios.tcgetattr(descriptor)
        changed = list(before)
        changed[_LOCAL_FLAGS] = (changed[_LOCAL_FLAGS] | termios.NOFLSH) & ~termios.ECHOCTL
        termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
    except (ImportError, OSError, ValueError, termios.error):
        return _nothing

    def restore() -> None:
        try:
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        except (OSError, termios.error):  # the terminal is gone
            return

    return restore


def buffered(stream: TextIO) -> TextIO:
    """`stream`, or a buffered one to the same terminal where it has no buffer, as under PYTHONUNBUFFERED.

    Of an unbuffered write that a signal interrupts, Python drops the rest.
    """
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase) or not stream.isatty():
        return stream
    descriptor = io.FileIO(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(descriptor), encoding=stream.encoding, errors=stream.errors)


def _nothing() -> None:
    """Restore what was not changed."""


@contextmanager
def signals_after() -> Iterator[None]:
    """Call the handlers of SIGINT and SIGTERM after the block: a line that one prints would be amid a drawing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    seen: list[tuple[int, FrameType | None]] = []
    for number in handlers:
        signal.signal(number, lambda *given: seen.append(given))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for which, frame in seen:
        handlers[signal.Signals(which)](which, frame)
