"""Stages of a search: what each keeps and starts anew, decoded, resumed, at any world size, with every relaxation."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ray_darts.config import SearchConfig, load_config
from ray_darts.genotype.layout import ALPHAS, CellLayout, Edge
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.architecture import LEFT_OUT
from ray_darts.search.footprint import measure_footprint
from ray_darts.search.loop import SearchLoop
from ray_darts.search.stages import strongest
from ray_darts.search.step import BilevelStep
from ray_darts.tasks.collectives import Collectives, SingleRank
from ray_darts.tasks.metrics import EpochMetrics
from tests.search.ranks import RankProcesses
from tests.search.searches import Remembering, answer_of, tiny_config, tiny_loop
from tests.search.test_loop import COMMIT

STAGES = (
    "{epochs=1}, {epochs=1, channels_fraction=0.5, operations_kept=3}, {epochs=1, layers=4, operations_kept=2}, "
    "{epochs=1, restart=true}"
)


def staged(*overrides: str, stages: str = STAGES) -> SearchConfig:
    """Four stages of three steps each."""
    return tiny_config(
        "space.channels=4", "search.epochs=4", "alphas.learning_rate=0.05", f"stages=[{stages}]", *overrides
    )


def rows_of(sink: Remembering, loop: SearchLoop) -> NDArray[np.float32]:
    """[steps, edges of both cells, operations]."""
    width = len(loop.layout.cells[0].operations)
    return sink.trace.reshape(len(sink.trace), -1, width)


def test_the_strongest_operations_of_each_edge_are_kept_in_the_layouts_order() -> None:
    cell = CellLayout("cell", 2, 1, ("none", "a", "b", "c"), 2, choices=(("none", "a", "b", "c"), ("a", "c")))
    rows = [[0.3, 0.1, 0.3, 0.3], [0.0, 0.2, 0.0, 0.8]]
    assert strongest(cell, rows, 2) == [["none", "b"], ["a", "c"]], "the first of equal ones, none like any other"
    assert strongest(cell, rows, 3) == [["none", "b", "c"], ["a", "c"]]


def test_edges_lose_their_weakest_operations_for_good_and_the_answer_has_none_of_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, sink = tiny_loop(staged(), "first", SingleRank()), Remembering()
    with caplog.at_level(logging.INFO, "ray_darts.search"):
        verdict = loop.run(sink)
    assert "stage 3 of 4 begins: 4 layers, 1/2 of the channels, 2 operations of each edge" in caplog.text
    rows = rows_of(sink, loop)
    is_out = rows == LEFT_OUT
    assert [int(is_out[step].sum(axis=1).max()) for step in (2, 3, 5, 6, 8, 9, 11)] == [0, 1, 1, 2, 2, 2, 2]
    assert (is_out.sum(axis=2) == is_out.sum(axis=2)[:, :1]).all(), "every edge has lost as many"
    assert (is_out[1:] | ~is_out[:-1]).all(), "none comes back"
    for step in (3, 6):
        kept, before = ~is_out[step], np.where(is_out[step - 1], -np.inf, rows[step - 1])
        assert (np.where(kept, before, np.inf).min(axis=1) >= np.where(kept, -np.inf, before).max(axis=1)).all()
    genotype, _, _ = answer_of(verdict)
    assert loop.config.method.decode(loop.layout, sink.trace[-1].tolist()).genotype == genotype
    for cell in loop.supernet.layout.cells:
        assert cell.choices is not None
        left = dict(zip(cell.edges, cell.choices, strict=True))
        for node, connections in enumerate(genotype.cell(cell.name).nodes):
            assert all(operation in left[Edge(source, cell.num_inputs + node)] for operation, source in connections)


@pytest.mark.parametrize(("name", "order"), [("darts", "second"), ("gdas", "first"), ("sdarts-rs", "first")])
def test_stages_that_change_nothing_change_no_bit(name: str, order: Order) -> None:
    """Weights, statistics and schedules go on, too."""
    plain, split = Remembering(), Remembering()
    for sink, stages in ((plain, ""), (split, "{epochs=1}, {epochs=2, layers=3}, {epochs=1, operations_kept=4}")):
        config = staged(f"method.kind={name}", "method.skip_dropout.rate=0.3", stages=stages)
        tiny_loop(config, order, SingleRank()).run(sink)
    np.testing.assert_array_equal(split.trace, plain.trace)
    for one, other in zip(split.epochs, plain.epochs, strict=True):
        # where single edges are computed, float64 sums have another order
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-12)
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-12)


def test_a_stage_goes_on_with_what_it_can_and_a_restart_with_nothing() -> None:
    loop, sink = tiny_loop(staged(), "first", SingleRank()), Remembering(dict.fromkeys(range(40), COMMIT))
    loop.run(sink)
    ends = {snapshot.epoch: snapshot.tensors for snapshot in sink.snapshots if snapshot.step % 3 == 0}
    stem, moved = "stem.layers.0.weight", "cells.0.stages.0.pointwise"
    fresh = tiny_loop(staged(), "first", SingleRank())
    assert ends[1][f"weights/{moved}"].shape != tuple(fresh.bilevel.weights.tensors[moved].shape)
    assert (ends[1][f"momentum/{stem}"] != 0).any(), "a tensor of the same shape goes on with its momentum"
    assert (ends[1][f"weights/{stem}"] != fresh.bilevel.weights.tensors[stem].detach().numpy()).any()
    assert (ends[1][f"momentum/{moved}"] == 0).all(), "one of another shape starts anew"
    assert (ends[2][f"momentum/{stem}"] == 0).all(), "so does a network with other layers"
    assert [int(ends[epoch]["adam_count"]) for epoch in (1, 2, 3)] == [3, 6, 0]
    start = fresh.bilevel.alphas.vector.numpy()
    anew = np.concatenate([ends[3][f"alphas/{cell.name}"].flatten() for cell in loop.layout.cells])
    assert ((anew == start) | (anew == LEFT_OUT)).all(), "the alphas of a restart are those of the start"
    assert [round(epoch.weight_learning_rate or 0, 6) for epoch in sink.epochs][3] == pytest.approx(0.05)


def test_the_warm_up_is_at_the_start_of_every_stage() -> None:
    stages = "{epochs=2}, {epochs=2, operations_kept=3}"
    loop, sink = (
        tiny_loop(staged("method.kind=darts", "method.warmup=0.5", stages=stages), "first", SingleRank()),
        Remembering(),
    )
    loop.run(sink)
    rows = rows_of(sink, loop)
    moves = [(rows[step] != rows[step - 1]) & (rows[step] != LEFT_OUT) for step in range(1, 12)]
    assert [bool(changed.any()) for changed in moves] == [False] * 2 + [True] * 3 + [False] * 3 + [True] * 3


def test_a_collapse_in_the_last_epoch_of_a_stage_ends_the_search_there() -> None:
    stages = "{epochs=2}, {epochs=2, layers=5}"
    sink = Remembering()
    tiny_loop(staged(stages=stages), "first", SingleRank()).run(sink)
    lowest = [min(cell.entropy for cell in epoch.cells.values()) for epoch in sink.epochs]
    bound = (lowest[0] + lowest[1]) / 2
    loop = tiny_loop(staged("watch.action=stop", f"watch.entropy_below={bound}", stages=stages), "first", SingleRank())
    verdict = loop.run(Remembering())
    assert (verdict.detail, verdict.step) == ("stopped on entropy", 6)
    assert loop.supernet.layers_of_cells == {"normal": 1, "reduction": 2}, "still three layers"


def test_a_restart_is_no_collapse_and_the_eigenvalues_before_it_are_forgotten() -> None:
    config = staged("watch.eigenvalue.every_epochs=1", stages="{epochs=2}, {epochs=2, operations_kept=3, restart=true}")
    loop = tiny_loop(config, "first", SingleRank())
    seen: list[tuple[int, bool]] = []

    class Looking(Remembering):
        """Notes what the watch remembers at the end of every epoch."""

        def epoch(self, metrics: EpochMetrics) -> None:
            super().epoch(metrics)
            state = loop._watch.state_dict()
            values = state["eigenvalues"]
            assert isinstance(values, list)
            seen.append((len(values), bool(state["sound"])))

    loop.run(Looking())
    assert seen == [(1, True), (0, False), (1, True), (2, True)], "an epoch is reported after the next stage began"


def test_a_step_that_is_not_finite_in_a_later_stage_is_named_by_its_number() -> None:
    loop, sink = tiny_loop(staged(stages="{epochs=2}, {epochs=2, layers=4}"), "first", SingleRank()), Remembering()
    step = type(loop.bilevel).step_

    def spoil(self: BilevelStep, *args: Any, **kwargs: Any) -> None:
        if loop.step == 8:
            self.weights.vector[0] = torch.nan
        step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BilevelStep, "step_", spoil)
        verdict = loop.run(sink)
    assert (verdict.kind, verdict.step) == ("non_finite", 8)
    assert "step 9" in verdict.detail
    assert len(sink.trace) == 8


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_search_resumed_in_and_between_stages_has_the_same_bits(order: Order) -> None:
    config, sink = staged("search.hessian=finite_difference"), Remembering(dict.fromkeys(range(40), COMMIT))
    verdict = tiny_loop(config, order, SingleRank()).run(sink)
    for snapshot in [s for s in sink.snapshots if s.step in (2, 3, 5, 6, 8, 9, 11)]:
        resumed = tiny_loop(config, order, SingleRank())
        resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
        rest = Remembering()
        assert resumed.run(rest) == verdict
        rows = np.concatenate([sink.trace[: snapshot.step], *[s.rows[ALPHAS] for s in rest.snapshots]])
        np.testing.assert_array_equal(rows, sink.trace)


def alphas_of(collectives: Collectives) -> NDArray[np.float64]:
    """The alphas after a whole search with synchronised batch norm."""
    loop = tiny_loop(staged("search.batch_norm=sync"), "second", collectives)
    assert loop.run(Remembering()).kind == "finished"
    alphas: NDArray[np.float64] = loop.bilevel.alphas.vector.numpy().copy()
    return alphas


def test_two_ranks_enter_the_stages_of_one(ranks: RankProcesses) -> None:
    alone, (first, second) = alphas_of(SingleRank()), ranks.run(2, alphas_of)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["pc-darts", "gdas", "drnas", "fair-darts", "beta-darts", "sdarts-rs", "lambda-darts"])
def test_every_relaxation_and_part_computes_with_fewer_operations(name: str) -> None:
    parts = ["method.relaxation.keep_above=0"] if name == "fair-darts" else []
    parts += ["method.partial_channels.parts=2"] if name == "pc-darts" else []
    config = staged(f"method.kind={name}", *parts, stages="{epochs=2}, {epochs=2, operations_kept=2}")
    loop, sink = tiny_loop(config, "first", SingleRank()), Remembering()
    verdict = loop.run(sink)
    assert verdict.kind == "finished", verdict.detail
    groups = config.method.groups(loop.layout)
    alphas = sink.trace[-1][: sum(group.size for group in groups if group.kind == ALPHAS)]
    assert (alphas.reshape(-1, 4) == LEFT_OUT).sum(axis=1).tolist() == [2] * 10
    assert config.method.decode(loop.layout, sink.trace[-1].tolist()).genotype == answer_of(verdict)[0]


def test_the_operation_that_an_edge_lost_changes_nothing() -> None:
    """A supernet whose layout has fewer operations computes what one with weights of 0 there computes."""
    loop = tiny_loop(staged(), "first", SingleRank())
    train, _ = loop._batches()
    whole = loop.supernet.layout
    mixing = {cell.name: torch.rand(cell.shape, dtype=torch.float64) for cell in whole.cells}
    loop._stages.index, loop._stages._kept = 1, {cell.name: [["none", "dil_conv_3x3"]] * 5 for cell in whole.cells}
    for cell in whole.cells:
        mixing[cell.name][:, 1:3] = 0
    with torch.no_grad():
        before = loop.supernet.evaluate_by_batch(train, None, mixing).loss
        loop.supernet.layout = loop._stages.layout
        after = loop.supernet.evaluate_by_batch(train, None, mixing).loss
    assert float(after) == pytest.approx(float(before), abs=1e-12)


def test_a_dry_run_counts_the_steps_of_all_stages() -> None:
    facts = DataFacts(10, 1, 8)
    plain = ["space.channels=4", "space.nodes=2", "search.epochs=4"]

    def flops(*stages: str) -> float:
        sets = [*plain, f"stages=[{', '.join(stages)}]"]
        return measure_footprint(load_config("digits", overrides=sets), facts, "first", "cpu").flops

    shallow, deep = flops("{epochs=4, layers=3}"), flops("{epochs=4, layers=6}")
    assert flops("{epochs=1, layers=3}", "{epochs=3, layers=6}") == pytest.approx((shallow + 3 * deep) / 4)
    assert flops("{epochs=1}", "{epochs=3, operations_kept=2}") < flops("{epochs=4}")
