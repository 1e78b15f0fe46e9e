"""A search that goes back: to the state from before, with a stronger weight decay, so often and no more; the log goes
on, and a killed search has gone back as often as one that was not."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from ray_darts.config import SearchConfig
from ray_darts.errors import ConfigError
from ray_darts.genotype.layout import ALPHAS
from ray_darts.protocols.task import Verdict
from ray_darts.tasks.collectives import SingleRank
from tests.search.searches import Remembering, answer_of, tiny_config, tiny_loop
from tests.search.test_loop import COMMIT

QUICK = ("alphas.learning_rate=0.2", "search.epochs=4")


@cache
def entropies() -> list[float]:
    """The lowest of each epoch of a search that is not watched."""
    sink = Remembering()
    tiny_loop(tiny_config(*QUICK), "first", SingleRank()).run(sink)
    return [min(cell.entropy for cell in epoch.cells.values()) for epoch in sink.epochs]


def watched(*overrides: str) -> SearchConfig:
    """Goes back when the entropy falls below a bound that the second epoch does not hold, twice."""
    bound = (entropies()[0] + entropies()[1]) / 2
    watch = ["watch.action=roll_back", "watch.roll_backs=2", f"watch.entropy_below={bound}"]
    return tiny_config(*QUICK, *watch, *overrides)


@cache
def whole() -> tuple[Verdict, Remembering]:
    """The watched search, with every commit."""
    sink = Remembering(dict.fromkeys(range(40), COMMIT))
    return tiny_loop(watched(), "second", SingleRank()).run(sink), sink


def test_a_search_goes_back_with_a_stronger_weight_decay_and_stops_after_the_last_time() -> None:
    verdict, sink = whole()
    assert [epoch.epoch for epoch in sink.epochs] == [0, 1, 2, 3], "the log counts every epoch"
    warnings = [epoch.warning or "" for epoch in sink.epochs]
    assert "goes back to the end of epoch 0, with weights.weight_decay 0.003 instead of 0.0003" in warnings[1]
    assert "goes back to the end of epoch 0, with weights.weight_decay 0.03 instead of 0.003" in warnings[2]
    assert "the search ends with the genotype of step 3" in warnings[3]
    assert (verdict.kind, verdict.detail, verdict.step) == ("finished", "stopped on entropy", 12)
    assert answer_of(verdict)[1] == 3
    rates = [epoch.weight_learning_rate for epoch in sink.epochs]
    assert rates[1] == rates[2] == rates[3] != rates[0], "the schedule goes back, too"


def test_the_whole_state_is_that_of_before() -> None:
    """Weights, momentum, statistics, alphas, moments and Adam's count, at the ends of epochs 0, 1 and 2."""
    _, sink = whole()
    start, *backs = (next(s for s in sink.snapshots if s.step == step) for step in (3, 6, 9))
    names = [name for name in start.tensors if not name.startswith("kept/") and name != "epoch_totals"]
    assert {name.split("/")[0] for name in names} >= {"weights", "momentum", "statistics", "alphas", "adam_count"}
    for snapshot in backs:
        for name in names:
            np.testing.assert_array_equal(snapshot.tensors[name], start.tensors[name], err_msg=name)
    assert not np.array_equal(sink.trace[5], sink.trace[2])
    assert not np.array_equal(sink.trace[6], sink.trace[3]), "the next batches are others"


def test_a_killed_search_has_gone_back_as_often_as_one_that_was_not() -> None:
    verdict, sink = whole()
    config = watched()
    assert [snapshot.step for snapshot in sink.snapshots][-1] == 12
    for snapshot in sink.snapshots[:-1]:
        resumed = tiny_loop(config, "second", SingleRank())
        resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
        rest = Remembering()
        assert resumed.run(rest) == verdict
        rows = np.concatenate([sink.trace[: snapshot.step], *[s.rows[ALPHAS] for s in rest.snapshots]])
        np.testing.assert_array_equal(rows, sink.trace, err_msg=f"resumed at step {snapshot.step}")


def test_a_checkpoint_holds_the_states_to_go_back_to_until_there_is_no_further_time() -> None:
    _, sink = whole()
    kept = [{name.split("/")[1] for name in s.tensors if name.startswith("kept/")} for s in sink.snapshots]
    by_step = {snapshot.step: epochs for snapshot, epochs in zip(sink.snapshots, kept, strict=True)}
    assert (by_step[2], by_step[3], by_step[6]) == (set(), {"0"}, {"0"})
    assert (by_step[9], by_step[12]) == (set(), set()), "after the last return"


def test_grown_eigenvalues_take_a_search_back_to_where_the_growth_began() -> None:
    rule = ["every_epochs=1", "window=1", "delta=1", "start_epoch=0", "factor=1.0001", "iterations=8"]
    watch = ["watch.action=roll_back", "watch.roll_backs=1", *(f"watch.eigenvalue.{setting}" for setting in rule)]
    config = tiny_config("search.epochs=6", "alphas.learning_rate=0.05", *watch)
    sink = Remembering(dict.fromkeys(range(60), COMMIT))
    verdict = tiny_loop(config, "first", SingleRank()).run(sink)
    back = [epoch.epoch for epoch in sink.epochs if "goes back" in (epoch.warning or "")]
    assert len(back) == 1
    assert f"goes back to the end of epoch {back[0] - 1}" in str(sink.epochs[back[0]].warning)
    assert verdict.kind == "finished"
    for snapshot in sink.snapshots[1:-1:4]:
        resumed = tiny_loop(config, "first", SingleRank())
        resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
        assert resumed.run(Remembering()) == verdict


def test_decisions_of_a_phase_cannot_be_taken_back() -> None:
    with pytest.raises(ConfigError, match=r"set watch\.action = 'stop'"):
        watched("method.kind=darts-pt")
