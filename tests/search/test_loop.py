"""The loop alone: what it emits, exact resume from every commit, decisions, failures and collapse."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.batch import Batch
from ray_darts.genotype.layout import ALPHAS
from ray_darts.methods.darts import Darts
from ray_darts.protocols.method import Order
from ray_darts.protocols.task import StopReason, Verdict, Wants
from ray_darts.search.loop import SearchLoop
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass
from ray_darts.tasks.collectives import Collectives, SingleRank
from ray_darts.tasks.metrics import EpochMetrics
from tests.search.ranks import RankProcesses
from tests.search.searches import Remembering, answer_of, eight_operations, tiny_config, tiny_loop

COMMIT = Wants(commit=True)


def searched(order: Order = "second", *overrides: str) -> tuple[SearchLoop, Remembering, Verdict]:
    """A whole tiny search alone."""
    sink = Remembering()
    loop = tiny_loop(tiny_config(*overrides), order, SingleRank())
    return loop, sink, loop.run(sink)


def test_every_step_has_one_row_and_every_epoch_one_record() -> None:
    loop, sink, verdict = searched()
    assert (verdict.kind, verdict.step) == ("finished", loop.total_steps)
    assert sink.trace.shape == (loop.total_steps, loop.layout.num_alphas)
    assert [record.epoch for record in sink.epochs] == [0, 1, 2]
    assert [s.first_step for s in sink.snapshots] == [1, 4, 7]
    assert np.concatenate([s.epochs for s in sink.snapshots]).tolist() == [0] * 3 + [1] * 3 + [2] * 3
    genotype, genotype_step, metric = answer_of(verdict)
    assert Darts().decode(loop.layout, sink.trace[genotype_step - 1].tolist()).genotype == genotype
    assert metric["name"] == "supernet_validation_accuracy"
    assert metric["value"] == sink.epochs[-1].quality["validation_accuracy"]


def test_an_epoch_record_says_what_a_watcher_needs() -> None:
    loop, sink, _ = searched("first")
    record = sink.epochs[-1]
    json.dumps(record.model_dump(), allow_nan=False)
    accuracy = record.quality["validation_accuracy"]
    assert accuracy is not None
    assert 0 <= accuracy <= 1
    assert record.train_loss is not None
    assert record.train_loss > 0
    for cell in loop.layout.cells:
        assert 0 < record.cells[cell.name].entropy <= math.log(8) + 1e-9
        assert len(record.cells[cell.name].margins) == cell.num_kept == 2 * cell.num_nodes


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_search_resumed_from_any_commit_has_the_same_bits(order: Order) -> None:
    config = tiny_config()
    sink = Remembering(dict.fromkeys(range(20), COMMIT))
    whole = tiny_loop(config, order, SingleRank())
    verdict = whole.run(sink)
    assert {s.step for s in sink.snapshots} >= {2, 3, 4, 6, 8, 9}, "commits within epochs and at their ends"
    for snapshot in sink.snapshots:
        resumed = tiny_loop(config, order, SingleRank())
        resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
        rest = Remembering()
        again = resumed.run(rest)
        rows = [s.rows[ALPHAS] for s in rest.snapshots]
        both = np.concatenate([sink.trace[: snapshot.step], *rows])
        np.testing.assert_array_equal(both, sink.trace)
        assert again == verdict
        for name, array in rest.snapshots[-1].tensors.items() if rest.snapshots else ():
            np.testing.assert_array_equal(array, sink.snapshots[-1].tensors[name], err_msg=name)


def test_a_resume_without_the_alphas_would_be_seen() -> None:
    config = tiny_config()
    sink = Remembering()
    tiny_loop(config, "second", SingleRank()).run(sink)
    snapshot = sink.snapshots[0]
    tensors = {k: np.zeros_like(v) if k.startswith("alphas/") else v for k, v in snapshot.tensors.items()}
    resumed = tiny_loop(config, "second", SingleRank())
    resumed.load_state_dict(tensors, snapshot.state)
    rest = Remembering()
    resumed.run(rest)
    assert not np.array_equal(rest.trace, sink.trace[snapshot.step :])


def test_an_incomplete_checkpoint_is_refused() -> None:
    config = tiny_config()
    sink = Remembering()
    tiny_loop(config, "first", SingleRank()).run(sink)
    snapshot = sink.snapshots[0]
    tensors = {k: v for k, v in snapshot.tensors.items() if k != "alphas/normal"}
    with pytest.raises(KeyError, match="alphas/normal"):
        tiny_loop(config, "first", SingleRank()).load_state_dict(tensors, snapshot.state)


@pytest.mark.parametrize("reason", ["interrupted", "budget_spent"])
def test_a_stop_commits_and_is_resumable(reason: StopReason) -> None:
    sink = Remembering({1: Wants(stop=reason)})
    loop = tiny_loop(tiny_config(), "first", SingleRank())
    verdict = loop.run(sink)
    assert (verdict.kind, verdict.detail) == ("stopped", reason)
    assert sink.snapshots[-1].step == verdict.step < loop.total_steps


def test_a_superseded_run_writes_nothing_more() -> None:
    sink = Remembering({0: Wants(stop="superseded", commit=True)})
    verdict = tiny_loop(tiny_config(), "first", SingleRank()).run(sink)
    assert (verdict.kind, verdict.detail) == ("stopped", "superseded")
    assert sink.snapshots == []


def test_a_paused_loop_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("ray_darts.tasks.loop.time.sleep", waited.append)
    sink = Remembering({1: Wants(pause=True), 2: Wants(pause=True)})
    loop = tiny_loop(tiny_config(), "first", SingleRank())
    assert loop.run(sink).kind == "finished"
    assert waited == [1.0, 1.0]
    assert len(sink.trace) == loop.total_steps


def test_alphas_stand_still_while_warming_up() -> None:
    _, sink, _ = searched("second", "search.alpha_warmup_epochs=1")
    trace = sink.trace
    np.testing.assert_array_equal(trace[:3], np.repeat(trace[:1], 3, axis=0))
    assert not np.array_equal(trace[3], trace[2])
    assert sink.epochs[0].alpha_step_loss is None


def test_a_collapse_ends_the_run_with_the_genotype_before_it() -> None:
    loop = tiny_loop(eight_operations("search.stop_on_skips=2", "alphas.learning_rate=1e-9"), "first", SingleRank())
    skip = loop.layout.cells[0].operations.index("skip_connect")

    class Pushing(Remembering):
        def epoch(self, metrics: EpochMetrics) -> None:
            """After the first epoch, make every edge of the normal cell prefer to skip."""
            super().epoch(metrics)
            with torch.no_grad():
                loop.bilevel.alphas.tensors["normal"][:, skip] = 5.0

    sink = Pushing()
    verdict = loop.run(sink)
    assert verdict.kind == "finished"
    assert verdict.step == 6
    genotype, genotype_step, _ = answer_of(verdict)
    assert genotype_step == 3
    assert genotype.to_json() == sink.epochs[0].genotype
    assert "skip connections" in str(sink.epochs[1].warning)
    resumed = tiny_loop(loop.config, "first", SingleRank())
    resumed.load_state_dict(sink.snapshots[-1].tensors, sink.snapshots[-1].state)
    assert resumed.run(Remembering()) == verdict


def test_a_hundred_thousand_epochs_are_not_counted_one_by_one() -> None:
    loop = tiny_loop(tiny_config("search.epochs=100000"), "first", SingleRank())
    assert loop.total_steps == 10**5 * 3


def test_half_a_cell_of_skips_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    loop = tiny_loop(tiny_config("alphas.learning_rate=1e-9"), "first", SingleRank())
    with torch.no_grad():
        skip = loop.layout.cells[1].operations.index("skip_connect")
        loop.bilevel.alphas.tensors["reduction"][:, skip] = 5.0
    sink = Remembering()
    loop.run(sink)
    warnings = [record.message for record in caplog.records if "collapsing" in record.message]
    assert len(warnings) == 1
    assert all("since epoch 0" in str(epoch.warning) for epoch in sink.epochs), "it stands as long as it is true"
    assert "4 of the 4 kept edges of the reduction cell" in warnings[0]


def poisoned_run(collectives: Collectives, bad_rank: int, bad_step: int, order: Order) -> tuple[Verdict, list[int]]:
    """Make one rank's loss NaN in one step; return the verdict and the committed steps."""
    loop = tiny_loop(tiny_config("operation.agree_every_steps=3"), order, collectives)
    inner, supernet = loop.supernet.loss, loop.supernet

    def poisoned(batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        outcome = inner(batch, carry, purpose, mixing)
        bad = collectives.shard.rank == bad_rank and batch.draws.step == bad_step and batch.draws.stream == "train"
        return replace(outcome, loss=outcome.loss * torch.tensor(torch.nan)) if bad else outcome

    supernet.loss = poisoned  # type: ignore[method-assign]
    sink = Remembering()
    verdict = loop.run(sink)
    return verdict, [len(s.rows[ALPHAS]) for s in sink.snapshots]


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_loss_that_is_not_finite_on_one_rank_ends_all_with_its_name(ranks: RankProcesses, order: Order) -> None:
    results = ranks.run(2, poisoned_run, 1, 4, order)
    for verdict, _ in results:
        assert verdict.kind == "non_finite"
        assert verdict.facts == {"rank": 1, "tensor": "training loss", "step": 5}
        assert verdict.step == 4
        assert verdict.answer is None
    assert results[0][1] == [3, 1], "the finite steps before it are committed"


def diverging_run(collectives: Collectives) -> Verdict:
    """Change one alpha on the last rank only."""
    loop = tiny_loop(tiny_config(), "first", collectives)
    if collectives.shard.rank == 1:
        loop.bilevel.alphas.vector[0] += 1e-12
    return loop.run(Remembering())


def test_ranks_that_differ_in_an_alpha_are_named(ranks: RankProcesses) -> None:
    for verdict in ranks.run(2, diverging_run):
        assert verdict.kind == "divergence"
        assert verdict.facts == {"ranks": [1], "step": 2}


def stopped_by(collectives: Collectives, asking: int, wants: Wants) -> tuple[str, int, int]:
    """One rank requests a stop at its second call of `wants`."""
    sink = Remembering({1: wants} if collectives.shard.rank == asking else None)
    verdict = tiny_loop(tiny_config(), "first", collectives).run(sink)
    return verdict.kind, verdict.step, len(sink.snapshots)


def test_any_rank_can_stop_all_and_only_rank_zero_commits(ranks: RankProcesses) -> None:
    results = ranks.run(2, stopped_by, 1, Wants(stop="interrupted"))
    assert {result[:2] for result in results} == {("stopped", 3)}
    assert [result[2] for result in results] == [1, 0]


def trace_of(
    collectives: Collectives, tensors: Mapping[str, NDArray[np.generic]], state: Mapping[str, object]
) -> list[NDArray[np.float32]]:
    """Resume from a snapshot and return the rest of the trace (rank 0) or nothing."""
    loop = tiny_loop(tiny_config("search.batch_norm=sync"), "second", collectives)
    loop.load_state_dict(tensors, state)
    sink = Remembering()
    loop.run(sink)
    return [snapshot.rows[ALPHAS] for snapshot in sink.snapshots]


def test_another_world_size_reads_the_same_checkpoint(ranks: RankProcesses) -> None:
    config = tiny_config("search.batch_norm=sync")
    sink = Remembering()
    tiny_loop(config, "second", SingleRank()).run(sink)
    first = sink.snapshots[0]
    rows = ranks.run(3, trace_of, first.tensors, first.state)[0]
    np.testing.assert_allclose(np.concatenate(rows), sink.trace[first.step :], rtol=0, atol=1e-7)
