"""Two real processes that share a run: what a lost one and a failing one mean for the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from ray_darts.errors import ConfigError, RankFailed, RankLost, StoreUnavailable
from ray_darts.orchestration.assignment import Assignment, RunOutcome, outcome_of
from ray_darts.orchestration.group import FailureMailbox, RankGroup
from ray_darts.orchestration.rank_waiting import run_on_ranks, share_bytes
from ray_darts.orchestration.run_execution import post_failure
from ray_darts.tasks.collectives import SingleRank
from tests.search.ranks import RankProcesses

CPU = torch.device("cpu")
POSTED = RunOutcome("error", "DataError: image 7 is corrupt", 3)


def fails_and_posts(group: RankGroup, mailbox: FailureMailbox) -> str:
    if group.shard.rank == 1:
        mailbox.post(POSTED)
        return "posted"
    try:
        group.sum_(torch.ones(3))
    except RankLost:
        return str(mailbox.read())
    return "nothing happened"


def cannot_read_its_assignment(group: RankGroup, mailbox: FailureMailbox) -> str:
    try:
        if group.shard.rank == 1:
            Assignment.from_plain({})
        group.sum_(torch.ones(3))
    except ConfigError as error:
        return post_failure(error, mailbox).kind
    except RankLost:
        posted = mailbox.read()
        return "nothing posted" if posted is None else posted.kind
    return "nothing happened"


def both_fail(group: RankGroup, mailbox: FailureMailbox) -> str:
    mailbox.post(POSTED)
    return "posted"


def is_killed(group: RankGroup, mailbox: FailureMailbox) -> str:
    if group.shard.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        group.all_rows(torch.ones(3))
    except RankLost:
        return str(mailbox.read())
    return "nothing happened"


def is_killed_with_the_store(group: RankGroup, mailbox: FailureMailbox) -> str:
    if group.shard.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        group.all_rows(torch.ones(3))
    except RankLost:
        return str(mailbox.read())
    return "nothing happened"


def _rank(rank: int, meeting: str, act: Callable[[RankGroup, FailureMailbox], str], folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    group = RankGroup()
    (Path(folder) / str(rank)).write_text(act(group, FailureMailbox(group, "127.0.0.1", CPU)))


def what_each_rank_saw(act: Callable[[RankGroup, FailureMailbox], str]) -> dict[int, str]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.orchestration.worker_group"])
    with tempfile.TemporaryDirectory() as folder:
        ranks = [context.Process(target=_rank, args=(rank, f"{folder}/meeting", act, folder)) for rank in range(2)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(120)
        return {
            rank: (Path(folder) / str(rank)).read_text() for rank in range(2) if (Path(folder) / str(rank)).exists()
        }


def test_a_failing_rank_posts_its_outcome_and_the_other_reads_it() -> None:
    assert what_each_rank_saw(fails_and_posts) == {0: str(POSTED), 1: "posted"}


def test_a_config_that_one_rank_refuses_is_the_outcome_of_all() -> None:
    assert what_each_rank_saw(cannot_read_its_assignment) == {0: "refused", 1: "refused"}


def test_ranks_that_fail_alike_do_not_wait_for_each_other() -> None:
    assert what_each_rank_saw(both_fail) == {0: "posted", 1: "posted"}


@pytest.mark.parametrize(("act", "survivor"), [(is_killed, 0), (is_killed_with_the_store, 1)])
def test_a_killed_rank_has_posted_nothing(act: Callable[[RankGroup, FailureMailbox], str], survivor: int) -> None:
    assert what_each_rank_saw(act) == {survivor: "None"}


def waits(collectives: RankGroup, failing: int | None) -> str:
    rank = collectives.shard.rank

    def work() -> int:
        if rank == failing:
            raise StoreUnavailable("no answer")
        return 10 * rank

    try:
        return str(run_on_ranks(collectives, None if rank == 2 else work, CPU))
    except (StoreUnavailable, RankFailed) as error:
        return f"{type(error).__name__}: {error}, {outcome_of(error).kind}"


def test_ranks_wait_for_each_others_work(ranks: RankProcesses) -> None:
    assert ranks.run(3, waits, None) == ["0", "10", "None"]


def test_one_ranks_failure_and_its_outcome_reach_all(ranks: RankProcesses) -> None:
    failed = "RankFailed: rank 1 failed: StoreUnavailable: no answer, store_given_up"
    assert ranks.run(3, waits, 1) == [failed, "StoreUnavailable: no answer, store_given_up", failed]


def shares(collectives: RankGroup, data: bytes) -> bytes:
    return share_bytes(collectives, data if collectives.shard.rank == 0 else None, CPU)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 50])
def test_every_rank_gets_rank_0s_bytes(ranks: RankProcesses, data: bytes) -> None:
    assert ranks.run(3, shares, data) == [data] * 3


def test_a_single_rank_waits_for_nothing_and_errors_pass() -> None:
    assert run_on_ranks(SingleRank(), lambda: 3, CPU) == 3
    assert share_bytes(SingleRank(), b"x", CPU) == b"x"
    with pytest.raises(ZeroDivisionError):
        run_on_ranks(SingleRank(), lambda: 1 // 0, CPU)
