"""Work outside the loop that every rank waits for, sharing of bytes, and retries during a store outage.

While one rank talks to the store or loads data, all ranks exchange a keep-alive once a second, so that no collective
times out. Refuses to know what the work is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

import torch

from ray_darts.errors import RankFailed, StoreUnavailable
from ray_darts.orchestration.assignment import outcome_of
from ray_darts.tasks.collectives import Collectives

logger = logging.getLogger("ray_darts.orchestration")

_Result = TypeVar("_Result")

_KEEP_ALIVE_S = 1.0
_BUSY, _DONE, _FAILED = range(3)
_FAILURE_BYTES = 4096
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 1.5
_LOG_EVERY_S = 60.0


def run_on_ranks(collectives: Collectives, work: Callable[[], _Result] | None, device: torch.device) -> _Result | None:
    """Do this rank's `work` and return its result once all ranks are done; every rank calls, with work or None.

    Raises: this rank's own error; RankFailed with text and outcome kind of the first error, where another rank failed.
    """
    if collectives.shard.world_size == 1:
        return None if work is None else work()
    future: Future[_Result] | None = None if work is None else _start(work)
    while True:
        own = torch.tensor([_state(future)], device=device)
        states = collectives.all_rows(own).flatten().tolist()
        if _BUSY not in states:
            break
        if future is not None:
            wait([future], timeout=_KEEP_ALIVE_S)
    if _FAILED in states:
        _raise_failure(collectives, states.index(_FAILED), future, device)
    return None if future is None else future.result()


def share_bytes(collectives: Collectives, data: bytes | None, device: torch.device) -> bytes:
    """Give every rank the bytes of rank 0; the others pass None."""
    if collectives.shard.world_size == 1:
        assert data is not None
        return data
    length = torch.tensor([0 if data is None else len(data)], device=device)
    collectives.sum_(length)
    buffer = torch.zeros(int(length), dtype=torch.uint8, device=device)
    if data:
        buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    if int(length):
        collectives.sum_(buffer)
    return buffer.cpu().numpy().tobytes()


def retry_during_outage(
    call: Callable[[], _Result], give_up_s: float, waiting: str, *, stopped: Callable[[], object] = lambda: None
) -> _Result:
    """Call until the store answers and return the answer; `call` may be repeated after StoreUnavailable.

    `waiting` says in the log what waits: at the first failure, then once a minute, and when the store answers again.
    Raises: StoreUnavailable after `give_up_s`, or at the next failure once `stopped()` is true.
    """
    began = time.monotonic()
    pause, logged_s = _FIRST_PAUSE_S, -_LOG_EVERY_S
    while True:
        try:
            result = call()
        except StoreUnavailable as error:
            passed_s = time.monotonic() - began
            if passed_s + pause > give_up_s or stopped():
                raise
            if passed_s - logged_s >= _LOG_EVERY_S:
                logged_s = passed_s
                logger.warning(
                    "the store does not answer: %s waits, for %.0f s more at most: %s",
                    waiting,
                    give_up_s - passed_s,
                    error,
                )
        else:
            if logged_s >= 0:
                logger.warning("the store answers again after %.0f s: %s goes on", time.monotonic() - began, waiting)
            return result
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _start(work: Callable[[], _Result]) -> Future[_Result]:
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="run_on_ranks").start()
    return future


def _state(future: Future[_Result] | None) -> int:
    if future is None:
        return _DONE
    if not future.done():
        return _BUSY
    return _DONE if future.exception() is None else _FAILED


def _raise_failure(collectives: Collectives, rank: int, future: Future[_Result] | None, device: torch.device) -> None:
    """Send the error of `rank` to every rank, as `kind of outcome\\ntype: text`, and raise it."""
    own = None if future is None else future.exception()
    buffer = torch.zeros(_FAILURE_BYTES, dtype=torch.uint8, device=device)
    if rank == collectives.shard.rank:
        kind = outcome_of(own).kind if isinstance(own, Exception) else "error"
        sent = f"{kind}\n{type(own).__name__}: {own}".encode()[:_FAILURE_BYTES]
        buffer[: len(sent)] = torch.frombuffer(bytearray(sent), dtype=torch.uint8).to(device)
    collectives.sum_(buffer)
    if own is not None:
        raise own
    received = buffer.cpu().numpy().tobytes().rstrip(b"\0").decode(errors="replace")
    outcome_kind, _, text = received.partition("\n")
    raise RankFailed(f"rank {rank} failed: {text}", rank=rank, kind=outcome_kind)
