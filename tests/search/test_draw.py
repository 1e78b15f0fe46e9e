"""The task of a draw: one step, one row, one record, the answer of a search; resumed, stopped and on several ranks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ray_darts.config import SearchConfig
from ray_darts.errors import PluginError
from ray_darts.genotype.layout import ALPHAS
from ray_darts.methods.random import RandomSearch
from ray_darts.protocols.registry import find_task
from ray_darts.protocols.task import RunCoordinates, Verdict, Wants
from ray_darts.search.draw import Draw
from ray_darts.search.loop import SearchLoop
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.search.ranks import RankProcesses
from tests.search.searches import CPU, Remembering, answer_of, tiny_config, tiny_data

METHOD = RandomSearch()


def draw(collectives: Collectives, seed: int = 3, config: SearchConfig | None = None) -> Draw:
    """A run of random search on the CPU."""
    config = config or tiny_config()
    coordinates = RunCoordinates(seed=seed, method=METHOD.model_dump(mode="json"))
    return Draw(config, coordinates, tiny_data(config, seed), collectives, CPU)


def test_a_draw_is_one_step_with_one_row_and_the_answer_of_a_search() -> None:
    sink, task = Remembering(), draw(SingleRank())
    assert (task.kind, task.documents, task.total_steps) == ("draw", SearchLoop.documents, 1)
    verdict = task.run(sink)
    assert (verdict.kind, verdict.step, task.step) == ("finished", 1, 1)
    layout = tiny_config().layout()
    (snapshot,) = sink.snapshots
    assert (snapshot.step, snapshot.first_step, snapshot.epochs.tolist()) == (1, 1, [0])
    assert snapshot.rows[ALPHAS].tolist() == [METHOD.draw(layout, 3)]
    json.dumps(snapshot.state)
    genotype, step, metric = answer_of(verdict)
    assert (genotype, step) == (METHOD.decode(layout, METHOD.draw(layout, 3)).genotype, 1)
    wanted = {"name": "supernet_validation_accuracy", "value": None, "direction": "max", "ranking": "interim"}
    assert metric == wanted


def test_its_epoch_has_the_cells_and_no_losses() -> None:
    sink = Remembering()
    genotype, _, _ = answer_of(draw(SingleRank()).run(sink))
    (record,) = sink.epochs
    assert sink.snapshots[0].metrics == [record]
    assert (record.epoch, record.step, record.genotype) == (0, 1, genotype.to_json())
    assert (record.train_loss, record.validation_loss, set(record.quality.values())) == (None, None, {None})
    assert {name: cell.skips for name, cell in record.cells.items()} == genotype.count({"skip_connect"})


def test_it_continues_after_its_only_commit_without_another() -> None:
    sink = Remembering()
    first = draw(SingleRank()).run(sink)
    resumed, later = draw(SingleRank()), Remembering()
    resumed.load_state_dict(sink.snapshots[0].tensors, sink.snapshots[0].state)
    assert resumed.step == 1
    assert resumed.run(later) == first
    assert (later.snapshots, later.epochs, later.asked) == ([], [], 0)


def test_a_stop_commits_and_a_newer_command_does_not() -> None:
    for stop, commits in (("interrupted", 1), ("superseded", 0)):
        sink = Remembering({0: Wants(stop=stop)})  # type: ignore[arg-type]
        verdict = draw(SingleRank()).run(sink)
        assert (verdict.kind, verdict.detail, len(sink.snapshots)) == ("stopped", stop, commits)


def _on_rank(collectives: Collectives, differ: bool) -> tuple[Verdict, int]:
    sink = Remembering()
    seed = 3 + (collectives.shard.rank if differ else 0)
    verdict = draw(collectives, seed).run(sink)
    return replace(verdict, facts=dict(verdict.facts)), len(sink.snapshots)


def test_all_ranks_end_alike_and_rank_0_commits(ranks: RankProcesses) -> None:
    alone = draw(SingleRank()).run(Remembering())
    (first, commits), (second, none) = ranks.run(2, _on_rank, False)
    assert first == second == alone
    assert (commits, none) == (1, 0)


def test_ranks_that_drew_differently_are_seen(ranks: RankProcesses) -> None:
    (first, commits), (second, _) = ranks.run(2, _on_rank, True)
    assert (first.kind, first.facts["ranks"], commits) == ("divergence", [1], 0)
    assert second == first


def test_a_method_that_only_searches_cannot_be_drawn() -> None:
    with pytest.raises(PluginError, match="draws no architecture"):
        Draw(tiny_config(), RunCoordinates(seed=0), tiny_data(tiny_config()), SingleRank(), CPU)


def test_the_registry_finds_the_task_of_the_method() -> None:
    assert find_task(METHOD.task) is Draw
