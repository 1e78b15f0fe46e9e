"""DARTS-PT: decisions against scores given by hand, and a whole search whose trace decodes to what was decided."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measure import OperatorCalls
from ray_darts.config import SearchConfig
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import NONE
from ray_darts.genotype.layout import ALPHAS, CellLayout, SpaceLayout
from ray_darts.methods.projection import PerturbationSelection, decisions, num_decisions
from ray_darts.search.projection import DECIDED, Projection
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.spaces.nasbench201.space import nasbench201_layout
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.search.ranks import RankProcesses
from tests.search.searches import Remembering, answer_of, tiny_config, tiny_loop
from tests.search.test_loop import COMMIT

SMALL = SpaceLayout("small", (CellLayout("cell", 2, 2, ("none", "a", "b"), 2),), "a", frozenset({"a"}))


def test_every_edge_and_then_every_node_with_too_many_inputs_is_decided_once() -> None:
    layout = convolutional_layout()
    turns = [decisions(layout, 0, turn) for turn in range(num_decisions(layout))]
    assert len(turns) == 14 + 3
    assert [[d.cell for d in turn] for turn in turns] == [["normal", "reduction"]] * 17
    for cell in ("normal", "reduction"):
        own = [next(d for d in turn if d.cell == cell) for turn in turns]
        assert sorted(d.edge for d in own[:14]) == list(range(14))  # type: ignore[type-var]
        assert sorted(d.node for d in own[14:]) == [1, 2, 3]  # type: ignore[type-var]
    assert turns != [decisions(layout, 1, turn) for turn in range(17)], "another seed, another order"
    assert num_decisions(nasbench201_layout()) == 6, "every edge is kept there"
    assert PerturbationSelection().epochs(layout) == 81
    assert PerturbationSelection().epochs(nasbench201_layout()) == 26


def test_the_operation_whose_removal_costs_most_is_kept_and_the_edges_that_cost_least_go() -> None:
    worth = torch.tensor([[9.0, 1.0, 2.0], [9.0, 4.0, 3.0], [9.0, 5.0, 1.0], [9.0, 1.0, 1.5], [9.0, 0.2, 0.1]])
    mixing = {"cell": torch.full((5, 3), 1 / 3)}
    asked = []

    def score(weights: Mapping[str, Tensor]) -> float:
        asked.append(weights["cell"].clone())
        return float((worth * weights["cell"]).sum())

    projection = Projection(SMALL, seed=3)
    for _ in range(num_decisions(SMALL)):
        projection.decide(mixing, score)
        again = Projection(SMALL, seed=3)
        again.load_state_dict(json.loads(json.dumps(projection.state_dict())))
        projection = again
    assert projection.chosen["cell"] == {0: 2, 1: 1, 2: 1, 3: 2, 4: 1}, "none is not kept, although worth most"
    assert projection.removed["cell"] == {4}
    assert len(asked) == 5 * 2 + 3
    first = asked[0]
    assert int((first == 0).sum()) == 1, "one weight is zeroed, the others are not divided again"
    fixed = projection.apply(mixing)["cell"]
    wanted = torch.tensor([[0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert torch.equal(fixed, wanted.float())
    alphas, frozen = {"cell": torch.randn(5, 3)}, {"cell": torch.zeros(5, 3, dtype=torch.bool)}
    projection.write_(alphas, frozen)
    assert frozen["cell"].all()
    torch.testing.assert_close(alphas["cell"].softmax(-1)[:4], wanted[:4].float(), rtol=0, atol=1e-6)
    assert alphas["cell"][4].abs().max() == 0


def test_a_pass_reads_the_tables_of_the_last_decision_and_builds_none() -> None:
    mixing = {"cell": torch.full((5, 3), 1 / 3)}
    projection, before = Projection(SMALL, seed=3), mixing["cell"]
    for _ in range(num_decisions(SMALL)):
        projection.decide(mixing, lambda weights: float(weights["cell"].sum()))
        found = projection.apply(mixing)["cell"]
        assert not torch.equal(found, before), "every decision is seen"
        with OperatorCalls() as calls:
            assert torch.equal(projection.apply(mixing)["cell"], found)
        assert calls.count == 2, "where, and the comparison"
        before = found
    wide = projection.apply({"cell": mixing["cell"].double()})["cell"]
    assert torch.equal(wide, before.double())
    projection.load_state_dict(Projection(SMALL, seed=3).state_dict())
    assert torch.equal(projection.apply(mixing)["cell"], mixing["cell"])


def small(*overrides: str) -> SearchConfig:
    """A search of three epochs, then a phase of ten decisions at most."""
    return tiny_config("method.kind=darts-pt", "method.decoding.tune_epochs=1", "alphas.learning_rate=0.05", *overrides)


def test_the_phase_decides_everything_and_the_last_row_decodes_to_it() -> None:
    config = small()
    loop, sink = tiny_loop(config, "first", SingleRank()), Remembering()
    verdict = loop.run(sink)
    layout = loop.layout
    assert config.total_epochs == 3 + num_decisions(layout) == 9
    assert len(sink.epochs) == 9
    projection = loop.bilevel.architecture.projection
    assert projection is not None
    assert projection.turns == 6
    genotype, step, _ = answer_of(verdict)
    assert step == loop.step == 27
    for cell in layout.cells:
        kept = {}
        for row, edge in enumerate(cell.edges):
            if row not in projection.removed[cell.name]:
                kept[edge] = cell.operations[projection.chosen[cell.name][row]]
        found = {
            (source, cell.num_inputs + node): operation
            for node, connections in enumerate(genotype.cell(cell.name).nodes)
            for operation, source in connections
        }
        assert found == kept
        assert NONE not in kept.values()
    assert config.method.decode(layout, sink.trace[-1].tolist()).genotype == genotype
    rates = [epoch.weight_learning_rate for epoch in sink.epochs]
    assert rates[3] == pytest.approx(0.0025)
    assert all(0.001 < rate < 0.0025 for rate in rates[4:])  # type: ignore[operator]


def test_decided_alphas_stand_still_and_the_others_move() -> None:
    sink = Remembering()
    loop = tiny_loop(small(), "first", SingleRank())
    loop.run(sink)
    width = len(loop.layout.cells[0].operations)
    rows = sink.trace.reshape(27, -1, width)
    is_decided = (np.abs(rows) == DECIDED).all(axis=2)
    counts = is_decided.sum(axis=1)
    assert list(counts[8::3])[:4] == [0, 2, 4, 6], "one edge of each cell at the start of every epoch"
    for step in range(10, 26):
        same = (rows[step] == rows[step - 1]).all(axis=1) | (rows[step] == 0).all(axis=1)  # 0: removed
        assert same[is_decided[step - 1]].all()
        if step < 20:
            assert not same[~is_decided[step]].any()


def test_a_search_resumed_within_the_phase_has_the_same_bits() -> None:
    config = small()
    sink = Remembering(dict.fromkeys(range(40), COMMIT))
    verdict = tiny_loop(config, "second", SingleRank()).run(sink)
    for snapshot in [s for s in sink.snapshots if s.step in (9, 11, 12, 20, 26)]:
        resumed = tiny_loop(config, "second", SingleRank())
        resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
        rest = Remembering()
        assert resumed.run(rest) == verdict
        rows = np.concatenate([sink.trace[: snapshot.step], *[s.rows[ALPHAS] for s in rest.snapshots]])
        np.testing.assert_array_equal(rows, sink.trace)


def decided(collectives: Collectives) -> tuple[str, dict[str, object], NDArray[np.float32]]:
    """(genotype, decisions, trace) of a whole search with synchronised batch norm."""
    loop, sink = tiny_loop(small("search.batch_norm=sync", "search.epochs=1"), "first", collectives), Remembering()
    verdict = loop.run(sink)
    projection = loop.bilevel.architecture.projection
    assert projection is not None
    trace = sink.trace if sink.snapshots else np.zeros((0, 0), np.float32)
    return answer_of(verdict)[0].to_json(), projection.state_dict(), trace


def test_two_ranks_decide_as_one_does(ranks: RankProcesses) -> None:
    alone = decided(SingleRank())
    first, second = ranks.run(2, decided)
    assert first[:2] == second[:2] == alone[:2]
    np.testing.assert_allclose(first[2], alone[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.relaxation.kind=gumbel"], "decoding scores mixing weights that are not drawn"),
        (["method.partial_channels.parts=2", "space.channels=4"], "a part of their channels would stay"),
        (["method.decoding.learning_rate=0.0001"], r"learning_rate_min 0\.001 exceeds 0\.0001"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(*overrides)
