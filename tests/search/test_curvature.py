"""The dominant eigenvalue against the full Hessian by autograd, on one rank, on several, and in micro-batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_darts.data.batch import Batch
from ray_darts.errors import ConfigError
from ray_darts.search.curvature import dominant_eigenvalue, lanczos
from ray_darts.search.loop import SearchLoop
from ray_darts.spaces.supernet import Pass
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.search.ranks import RankProcesses
from tests.search.searches import CPU, Remembering, answer_of, tiny_config, tiny_data, tiny_loop
from tests.search.test_loop import COMMIT
from tests.search.test_named_methods import MIDDLE

SYNC = "search.batch_norm=sync"


def a_loop(collectives: Collectives, *overrides: str) -> tuple[SearchLoop, Batch]:
    """A search after two steps, and a validation batch."""
    config = tiny_config("alphas.init_scale=0.5", *overrides)
    loop, data = tiny_loop(config, "first", collectives), tiny_data(config)
    for index in range(2):
        batches = data.bilevel_batches(0, index, collectives.shard, CPU)
        loop.bilevel.step_(*batches, 0.1, progress=MIDDLE)
    return loop, data.bilevel_batches(0, 2, collectives.shard, CPU)[1]


def full_hessian(loop: SearchLoop, batch: Batch) -> Tensor:
    """Of the validation loss in all alphas [n, n], micro-batch by micro-batch, without weight decay."""
    step = loop.bilevel
    shapes = {name: tensor.shape for name, tensor in step.alphas.tensors.items()}

    def loss(flat: Tensor) -> Tensor:
        parts = torch.split(flat, [shape.numel() for shape in shapes.values()])
        tables = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        mixing = {name: table.softmax(-1) for name, table in tables.items()}
        pieces = batch.split(loop.config.search.accumulate)
        return torch.stack([step.supernet.loss(p, None, Pass.ALPHA, mixing).loss * p.share for p in pieces]).sum()

    return torch.autograd.functional.hessian(loss, step.alphas.vector.detach().clone())  # type: ignore[no-untyped-call, no-any-return]


def eigenvalue(collectives: Collectives, *overrides: str, iterations: int = 1000) -> float:
    """That of the loop above."""
    loop, batch = a_loop(collectives, *overrides)
    return dominant_eigenvalue(loop.bilevel, batch, MIDDLE, iterations)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_eigenvalue_is_that_of_the_full_hessian(accumulate: int) -> None:
    loop, batch = a_loop(SingleRank(), f"search.accumulate={accumulate}")
    before = loop.bilevel.statistics.vector.clone(), loop.bilevel.weights.vector.clone()
    found = dominant_eigenvalue(loop.bilevel, batch, MIDDLE, 1000)
    hessian = full_hessian(loop, batch)
    wanted = np.linalg.eigvalsh(hessian.numpy())[-1] + 1e-3
    assert wanted > 0.01
    assert found == pytest.approx(wanted, rel=1e-6)
    few = dominant_eigenvalue(loop.bilevel, batch, MIDDLE, 12)
    assert few == pytest.approx(wanted, rel=1e-2), "12 of 40 products are nearly enough"
    assert torch.equal(before[0], loop.bilevel.statistics.vector)
    assert torch.equal(before[1], loop.bilevel.weights.vector)
    assert all(tensor.requires_grad for tensor in loop.bilevel.weights.tensors.values())


def test_two_and_three_ranks_find_the_eigenvalue_of_the_global_batch(ranks: RankProcesses) -> None:
    alone = eigenvalue(SingleRank(), SYNC)
    for world_size in (2, 3):
        each = ranks.run(world_size, eigenvalue, SYNC)
        assert len(set(each)) == 1
        assert each[0] == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize(
    "values",
    [[3.0, 1.0, -7.0, 0.5], [-1.0, -2.0, -4.0], [2.0, 2.0, 2.0, 2.0], [5.0], [0.0, 0.0], [1e-9, 1.0, 1.0, 1e3]],
)
def test_lanczos_finds_the_largest_signed_eigenvalue(values: list[float]) -> None:
    size = len(values)
    basis, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    matrix = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.t()
    found = lanczos(lambda vector: matrix @ vector, torch.zeros(size, dtype=torch.float64), 50)
    assert found == pytest.approx(max(values), rel=1e-9, abs=1e-12)


def test_a_hessian_that_is_not_finite_has_no_eigenvalue() -> None:
    assert np.isnan(lanczos(lambda vector: vector * float("nan"), torch.zeros(3), 3))


def test_a_watched_search_stops_by_its_eigenvalues_and_is_resumed_with_the_same_bits() -> None:
    rule = ["every_epochs=1", "window=1", "delta=1", "start_epoch=0", "factor=1.0001", "iterations=8"]
    watch = ["watch.action=stop", *(f"watch.eigenvalue.{setting}" for setting in rule)]
    config = tiny_config("search.epochs=6", "alphas.learning_rate=0.05", *watch)
    sink = Remembering(dict.fromkeys(range(20), COMMIT))
    verdict = tiny_loop(config, "first", SingleRank()).run(sink)
    values = [epoch.quality["validation_eigenvalue"] for epoch in sink.epochs]
    growing = [index for index in range(1, len(values)) if values[index] / values[index - 1] > 1.0001]  # type: ignore[operator]
    assert growing[:1] == [len(values) - 1], "the search ends with the first growth"
    assert len(values) < 6
    assert verdict.detail == "stopped on the eigenvalue"
    assert answer_of(verdict)[1] == 3 * (len(values) - 1), "the genotype of the epoch before"
    resumed = tiny_loop(config, "first", SingleRank())
    snapshot = sink.snapshots[1]
    resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
    assert resumed.run(Remembering()) == verdict


@pytest.mark.parametrize("name", ["gdas", "drnas"])
def test_what_samples_its_mixing_weights_has_no_eigenvalue_to_watch(name: str) -> None:
    with pytest.raises(ConfigError, match=r"watch\.eigenvalue needs mixing weights with second derivatives"):
        tiny_config(f"method.kind={name}", "watch.eigenvalue.factor=1.5")
