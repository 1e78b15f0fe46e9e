"""What Ctrl-C must not tear: a signal's handler runs after a drawing, and the terminal keeps its output."""

from __future__ import annotations

import io
import os
import pty
import signal
import termios
from types import FrameType

from rich.console import Console

from ray_darts.artifacts.status import RunStatus
from ray_darts.report.table import LiveTable
from ray_darts.report.terminal import keep_output, signals_after


class Interrupting(io.StringIO):
    """A terminal's file: once armed, Ctrl-C is pressed when it is written to."""

    armed = False

    def write(self, text: str) -> int:
        if self.armed:
            self.armed = False
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def test_a_signal_within_a_drawing_is_handled_after_it() -> None:
    screen = Interrupting()
    seen: list[bool] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append("second-order-seed-0" in screen.getvalue())

    with LiveTable("demo", Console(file=screen, force_terminal=True, width=80)) as table:
        before = signal.signal(signal.SIGINT, handle)
        try:
            screen.armed = True
            table.show([RunStatus("second-order-seed-0", "waiting")])
        finally:
            signal.signal(signal.SIGINT, before)
    assert seen == [True]


def test_a_signal_without_a_handler_is_not_held_back() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals_after():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_terminal_that_is_not_this_processs_own_and_a_file_are_left_alone() -> None:
    keep_output(io.StringIO())()
    master, slave = pty.openpty()
    try:
        flags = termios.tcgetattr(slave)
        with os.fdopen(os.dup(slave), "w") as file:
            keep_output(file)()
        assert termios.tcgetattr(slave) == flags
    finally:
        os.close(master)
        os.close(slave)
