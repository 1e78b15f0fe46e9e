"""A program in a real pseudo-terminal of a given width, and the text that its screen shows."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Self

from tests.cli.running import ROOT

BOUND_S = 120.0
_CONTROLLING = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
_NOT_INHERITED = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED")
_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Terminal:
    """Runs Python `program` in a terminal of `columns`, its controlling one; a context manager.

    `variables`: of its environment.
    """

    def __init__(self, program: str, columns: int, rows: int = 40, **variables: str) -> None:
        self.columns = columns
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        left = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
        environment = {**left, **own, **variables}
        command = [sys.executable, "-c", _CONTROLLING + program]
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.written = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, keys: str) -> None:
        """Type keys; `\\x03` is Ctrl-C."""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> str:
        """The screen, once it shows `text`."""
        end = time.monotonic() + BOUND_S
        while text not in (shown := screen(self.written, self.columns)):
            assert time.monotonic() < end, f"no {text!r} on the screen:\n{shown}"
            self._read()
        return shown

    def wait(self) -> int:
        """The exit code of the program, once it has ended and all that it wrote is read."""
        end = time.monotonic() + BOUND_S
        while self._process.poll() is None:
            assert time.monotonic() < end, f"still running:\n{screen(self.written, self.columns)}"
            self._read()
        while self._read():
            pass
        return self._process.returncode

    @property
    def screen(self) -> str:
        """What the screen shows."""
        return screen(self.written, self.columns)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if ready:
            with contextlib.suppress(OSError):  # the program has ended
                data = os.read(self._master, 65536)
                self.written += self._decoder.decode(data)
                return bool(data)
        return False


def screen(written: str, columns: int) -> str:
    """The lines of an endless screen after `written`, as a terminal of `columns` shows them."""
    lines: list[list[str]] = [[]]
    row = column = position = 0
    while position < len(written):
        sequence = _SEQUENCE.match(written, position)
        if sequence is not None:
            position = sequence.end()
            number = int(sequence[1]) if sequence[1].isdigit() else 0
            if sequence[2] == "A":
                row = max(0, row - max(1, number))
            elif sequence[2] == "K":
                lines[row] = [] if number == 2 else lines[row][:column]
            continue
        character, position = written[position], position + 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
        else:
            if column == columns:
                row, column = row + 1, 0
            while len(lines) <= row:
                lines.append([])
            line = lines[row]
            line.extend(" " * (column + 1 - len(line)))
            line[column] = character
            column += 1
        while len(lines) <= row:
            lines.append([])
    return "\n".join("".join(line).rstrip() for line in lines).rstrip()
