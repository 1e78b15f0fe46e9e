"""A small simulated experiment: losses, late workers and a lost head, and nothing lost or doubled."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from benchmarks.scale import table
from benchmarks.simulation.clock import VirtualClock
from benchmarks.simulation.cluster import Plan
from benchmarks.simulation.losses import LossModel
from benchmarks.simulation.play import Play, Settings
from benchmarks.simulation.store import Behaviour, MemoryStore, Metered

RUNS, STEPS = 20, 16
PLAN = Plan(
    nodes=8,
    zones=2,
    workers=1,
    total_steps=STEPS,
    step_s=60.0,
    commit_every_s=120.0,
    losses=LossModel("tests", single_h=0.5, shortage_h=1.0, shortage_length_h=0.1),
    zombie_share=0.5,
)
# requests are slow, so that many machines are lost in the middle of one
SETTINGS = Settings(RUNS, PLAN, Behaviour(get_s=0.5, put_s=10.0), status_passes=20)


@pytest.fixture(scope="module")
def play() -> Play:
    played, level = Play(SETTINGS), logging.getLogger("ray_darts").level
    played.run()
    assert logging.getLogger("ray_darts").level == level, "the simulation leaves the log of this process as it was"
    return played


def test_nothing_is_lost_or_doubled_whatever_is_lost(play: Play) -> None:
    counts = play.cluster.tally.counts
    assert play.problems == []
    assert play.figures["commands typed"] == 2
    assert counts["preempted"] > RUNS / 2
    assert counts["ended inside a request"] > 0
    assert counts["late commits refused"] > 0
    finished = [run for run, outcome in play.outcomes.items() if outcome.kind == "finished"]
    assert len(finished) > RUNS / 2
    assert {play.steps[run] for run in finished} == {STEPS}


def test_counts_add_up(play: Play) -> None:
    kinds, whose = play.figures["requests"], play.figures["requests by"]
    assert isinstance(kinds, dict)
    assert isinstance(whose, dict)
    assert sum(kinds.values()) == sum(whose.values()) == play.store.requests.total()
    assert set(whose) == {"driver", "status", "workers"}
    listed = list(play.store.inner.list_objects(""))
    assert sum(entry.num_bytes for entry in listed) == play.figures["bytes kept in all"]
    assert len(play.outcomes) == len(play.steps) == RUNS
    share = play.figures["useful share of the time of places"]
    assert isinstance(share, float)
    assert 0.1 < share < 1.0
    counts = play.cluster.tally.counts
    assert counts["claims"] <= play.cluster.starts.total()
    assert "| lost or doubled | 0 |" in table({"here": play.figures})


def test_without_losses_no_start_is_repeated() -> None:
    plan = replace(PLAN, losses=LossModel("none", float("inf")), crash_h=float("inf"))
    play = Play(replace(SETTINGS, runs=10, plan=plan, head_loss=None))
    figures = play.run()
    assert (figures["claims"], figures["commands typed"], figures["steps lost and repeated"]) == (10, 1, 0)
    assert figures["runs by outcome"] == {"finished": 10}
    assert figures["lost or doubled"] == 0


class Overwriting(MemoryStore):
    """A server that ignores the condition of a put: a worker commits on a claim that it has lost."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        self.put(key, data)


def test_a_worker_that_commits_on_a_lost_claim_is_found() -> None:
    play = Play(SETTINGS)
    play.store.inner = Overwriting(play.clock)
    assert play.run()["lost or doubled"] != 0


def test_requests_above_the_rate_of_a_prefix_are_sent_again_later() -> None:
    clock = VirtualClock()
    store = Metered(MemoryStore(clock), clock, Behaviour(get_s=0.0, put_s=0.0, puts_per_s=3))
    for number in range(7):
        clock.begin(100.0)
        store.put(f"e/runs/r/parts/{number}", b"x")
    assert store.requests["driver", "put"] == 7
    assert store.throttled > 0
    assert clock.now >= 102.0
    assert store.busiest["put"] == 3
