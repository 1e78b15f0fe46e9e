"""Processes that decode pictures: started when they are needed, replaced when they are lost. Knows no order."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.decoding_process import PictureDecoder, serve

logger = logging.getLogger("ray_darts.data")

Decoded = Future[NDArray[np.uint8]]


class ProcessLost(Exception):
    """The process that had a request is gone."""


class DecodingPool:
    """`count` processes, each with a pipe of its own; they end with this object, or with the process that made it."""

    def __init__(self, decoder: PictureDecoder, count: int) -> None:
        self._decoder = decoder
        self._processes: list[_Process | None] = [None] * count
        self._turn = 0

    def submit(self, positions: NDArray[np.int64]) -> Decoded:
        """Decode in one of the processes, each in its turn. The future raises DataError; ProcessLost."""
        self._turn = (self._turn + 1) % len(self._processes)
        process = self._processes[self._turn]
        if process is None or process.is_lost:
            if process is not None:
                logger.warning("a process that decodes pictures was lost; its requests are done again")
            process = self._processes[self._turn] = _Process(self._decoder)
        return process.submit(positions)

    @property
    def ids(self) -> list[int]:
        """Of the processes that were started."""
        return [process.id for process in self._processes if process is not None]


class _Process:
    """One process, and a thread that receives what it decodes, so that it can go on with the next request."""

    def __init__(self, decoder: PictureDecoder) -> None:
        # not forked: a process of Ray has threads, and a GPU's driver does not survive a fork
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self.id = process.pid or 0
        self._waiting: deque[Decoded] = deque()
        self._lost = threading.Event()
        with contextlib.suppress(OSError):  # not an argument: a process that dies at its start would never take it
            self._pipe.send(decoder)
        threading.Thread(target=_receive, args=(self._pipe, self._waiting, self._lost), daemon=True).start()
        weakref.finalize(self, _end, process)

    @property
    def is_lost(self) -> bool:
        """Whether it answers no request any more."""
        return self._lost.is_set()

    def submit(self, positions: NDArray[np.int64]) -> Decoded:
        """Its requests are answered in their order."""
        future: Decoded = Future()
        self._waiting.append(future)
        with contextlib.suppress(OSError):  # the receiving thread sees the loss, too
            self._pipe.send(positions)
        if self.is_lost:
            _fail(self._waiting)
        return future


def _receive(pipe: Connection, waiting: deque[Decoded], lost: threading.Event) -> None:
    """Give each answer to the future that waits for it, until the process is gone."""
    while True:
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            break
        future = waiting.popleft()
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
    lost.set()
    _fail(waiting)


def _fail(waiting: deque[Decoded]) -> None:
    while waiting:
        with contextlib.suppress(IndexError):
            waiting.popleft().set_exception(ProcessLost())


def _end(process: SpawnProcess) -> None:
    """At once, also in the middle of a request, which may wait for a server."""
    process.terminate()
