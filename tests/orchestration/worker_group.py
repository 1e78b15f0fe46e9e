"""Worker groups of plain processes: real ranks over gloo on loopback, started again as Ray would when one is lost."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.status import run_status
from ray_darts.orchestration.assignment import Assignment, RunOutcome
from ray_darts.orchestration.crashes import VARIABLE, install_crash_hook
from ray_darts.orchestration.group import FailureMailbox, RankGroup
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.tasks.collectives import SingleRank
from tests.orchestration.tiny import execute_here

_JOIN_S = 240.0
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.orchestration.worker_group"])


class GroupLost(Exception):
    """A process of the group was lost, or raised; `exit_codes` by rank."""

    def __init__(self, exit_codes: list[int | None]) -> None:
        super().__init__(str(exit_codes))
        self.exit_codes = exit_codes


@dataclass(frozen=True)
class Shot:
    """SIGKILL to a rank a moment after a step has become durable."""

    rank: int
    at_step: int
    delay_s: float


def start_group(
    assignment: Assignment, world_size: int, moments: Path | None = None, shot: Shot | None = None
) -> RunOutcome:
    """One worker-group start, ended by a shot or at the `moments` of a folder; returns rank 0's outcome.

    Raises: GroupLost.
    """
    with tempfile.TemporaryDirectory() as folder:
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        arguments = (str(Path(folder) / "meeting"), world_size, assignment.to_plain(), sender, moments)
        ranks = [_CONTEXT.Process(target=_rank, args=(rank, *arguments)) for rank in range(world_size)]
        for process in ranks:
            process.start()
        sender.close()
        if shot is not None:
            _fire(shot, assignment, ranks)
        wait([process.sentinel for process in ranks], timeout=_JOIN_S)
        for process in ranks:
            process.join(_JOIN_S)
        codes = [process.exitcode for process in ranks]
        if any(codes):
            raise GroupLost(codes)
        outcome: dict[str, object] = receiver.recv()
        return RunOutcome.from_plain(outcome)


def _fire(shot: Shot, assignment: Assignment, ranks: Sequence[BaseProcess]) -> None:
    store = LocalStore(Path(assignment.store_uri))
    while all(process.is_alive() for process in ranks):
        if run_status(store, assignment.experiment, assignment.run).step >= shot.at_step:
            wait([process.sentinel for process in ranks], timeout=shot.delay_s)
            ranks[shot.rank].kill()
            return
        wait([process.sentinel for process in ranks], timeout=0.02)


def search_until_ended(
    assignment: Assignment, world_size: int, moments: Path | None = None, max_starts: int = 14
) -> tuple[RunOutcome, int]:
    """Start groups until one returns a verdict; (outcome, number of starts)."""
    for start in range(1, max_starts + 1):
        try:
            return start_group(assignment, world_size, moments), start
        except GroupLost:
            continue
    raise AssertionError(f"{max_starts} starts were lost")


def _rank(
    rank: int, meeting: str, world_size: int, plain: dict[str, object], sender: Connection, moments: Path | None
) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if moments is not None:
        os.environ[VARIABLE] = str(moments)
    install_crash_hook()
    assignment = Assignment.from_plain(plain)
    if world_size > 1:
        dist.init_process_group(
            "gloo", f"file://{meeting}", rank=rank, world_size=world_size, timeout=timedelta(seconds=120)
        )
        group = RankGroup()
        context = RankContext(group, mailbox=FailureMailbox(group, "127.0.0.1", torch.device("cpu")))
    else:
        context = RankContext(SingleRank())
    outcome = execute_here(assignment, LocalStore(Path(assignment.store_uri)), context, world_size)
    if rank == 0:
        assert outcome is not None
        sender.send(outcome.to_plain())
