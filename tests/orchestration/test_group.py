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

from ray_darts.errors import RankFailed, RankLost, StoreUnavailable
from ray_darts.orchestration.group import LastWords, RankGroup
from ray_darts.orchestration.outcome import Outcome
from ray_darts.orchestration.together import ride_out, share_bytes, wait_together
from ray_darts.search.collectives import SingleRank
from tests.search.ranks import RankProcesses

CPU = torch.device("cpu")
WORD = Outcome("error", "DataError: image 7 is corrupt", 3)


def fails_with_a_word(group: RankGroup, words: LastWords) -> str:
    if group.shard.rank == 1:
        words.leave(WORD)
        return "left"
    try:
        group.sum_(torch.ones(3))
    except RankLost:
        return str(words.read())
    return "nothing happened"


def both_fail(group: RankGroup, words: LastWords) -> str:
    words.leave(WORD)
    return "left"


def is_killed(group: RankGroup, words: LastWords) -> str:
    if group.shard.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        group.all_rows(torch.ones(3))
    except RankLost:
        return str(words.read())
    return "nothing happened"


def is_killed_with_the_store(group: RankGroup, words: LastWords) -> str:
    if group.shard.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        group.all_rows(torch.ones(3))
    except RankLost:
        return str(words.read())
    return "nothing happened"


def _rank(rank: int, meeting: str, act: Callable[[RankGroup, LastWords], str], told: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    group = RankGroup()
    (Path(told) / str(rank)).write_text(act(group, LastWords(group, "127.0.0.1", CPU)))


def what_each_rank_saw(act: Callable[[RankGroup, LastWords], str]) -> dict[int, str]:
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


def test_a_rank_that_fails_leaves_word_and_the_other_returns_it() -> None:
    assert what_each_rank_saw(fails_with_a_word) == {0: str(WORD), 1: "left"}


def test_ranks_that_fail_alike_do_not_wait_for_each_other() -> None:
    assert what_each_rank_saw(both_fail) == {0: "left", 1: "left"}


@pytest.mark.parametrize(("act", "survivor"), [(is_killed, 0), (is_killed_with_the_store, 1)])
def test_a_rank_that_is_killed_leaves_no_word(act: Callable[[RankGroup, LastWords], str], survivor: int) -> None:
    assert what_each_rank_saw(act) == {survivor: "None"}


def waits(collectives: RankGroup, failing: int | None) -> str:
    rank = collectives.shard.rank

    def work() -> int:
        if rank == failing:
            raise StoreUnavailable("no answer")
        return 10 * rank

    try:
        return str(wait_together(collectives, None if rank == 2 else work, CPU))
    except (StoreUnavailable, RankFailed) as error:
        return f"{type(error).__name__}: {error}"


def test_ranks_wait_for_each_others_work(ranks: RankProcesses) -> None:
    assert ranks.run(3, waits, None) == ["0", "10", "None"]


def test_one_ranks_failure_is_told_to_all(ranks: RankProcesses) -> None:
    told = "RankFailed: rank 1 failed: StoreUnavailable: no answer"
    assert ranks.run(3, waits, 1) == [told, "StoreUnavailable: no answer", told]


def shares(collectives: RankGroup, data: bytes) -> bytes:
    return share_bytes(collectives, data if collectives.shard.rank == 0 else None, CPU)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 50])
def test_every_rank_gets_rank_0s_bytes(ranks: RankProcesses, data: bytes) -> None:
    assert ranks.run(3, shares, data) == [data] * 3


def test_alone_nothing_is_waited_for_and_errors_pass() -> None:
    assert wait_together(SingleRank(), lambda: 3, CPU) == 3
    assert share_bytes(SingleRank(), b"x", CPU) == b"x"
    with pytest.raises(ZeroDivisionError):
        wait_together(SingleRank(), lambda: 1 // 0, CPU)


def test_an_outage_is_ridden_out() -> None:
    failures = [StoreUnavailable("once")]

    def call() -> int:
        if failures:
            raise failures.pop()
        return 7

    assert ride_out(call, give_up_s=60.0) == 7


def test_an_outage_that_lasts_too_long_is_raised() -> None:
    def call() -> int:
        raise StoreUnavailable("for ever")

    with pytest.raises(StoreUnavailable, match="for ever"):
        ride_out(call, give_up_s=0.2)
