"""Lambda-DARTS: the added gradient against autograd through the cosines of the cells' own gradients."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from ray_darts.protocols.method import LayerAlignment
from ray_darts.search.alignment import alignment_gradient, cosine_gradient
from ray_darts.spaces.supernet import Pass
from ray_darts.tasks.collectives import SingleRank
from tests.search.searches import CPU, tiny_data, tiny_loop
from tests.search.test_named_methods import MIDDLE, AsModule, as_leaves, config_of


def mean_cosine(gradients_LEK: Tensor) -> Tensor:
    """Of all pairs."""
    flat = gradients_LEK.flatten(1)
    pairs = list(combinations(range(len(flat)), 2))
    return torch.stack([torch.nn.functional.cosine_similarity(flat[a], flat[b], dim=0) for a, b in pairs]).mean()


def test_the_gradient_of_the_cosines_is_that_of_autograd() -> None:
    vectors = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (wanted,) = torch.autograd.grad(mean_cosine(vectors), vectors)
    torch.testing.assert_close(cosine_gradient(vectors.detach()), wanted, rtol=1e-10, atol=1e-14)
    assert cosine_gradient(vectors.detach()[:1]).abs().max() == 0
    assert torch.isfinite(cosine_gradient(torch.zeros(3, 5, 3))).all()


@pytest.mark.parametrize("space", ["convolutional", "nasbench201"])
def test_the_added_gradient_is_that_of_autograd_through_the_cells_gradients(space: str) -> None:
    other = ["space.kind=nasbench201", "space.cells_per_stage=1"] if space == "nasbench201" else ["space.layers=5"]
    if space == "nasbench201":
        from ray_darts.config import load_config
        from tests.search.searches import TINY

        tiny = [setting for setting in TINY if not setting.startswith("space.")]
        config = load_config("nasbench201-digits", overrides=[*tiny, "space.channels=2", *other[1:]])
        config = config.with_method({"kind": "lambda-darts"})
    else:
        config = config_of("lambda-darts", *other)
    loop = tiny_loop(config, "first", SingleRank())
    step = loop.bilevel
    train, _ = tiny_data(config).bilevel_batches(0, 0, SingleRank().shard, CPU)
    mixing = step.architecture.mixing("weight", 0, MIDDLE)
    counts = step.supernet.layers_of_cells
    assert max(counts.values()) == 3
    found = alignment_gradient(
        step.supernet, step.weights, SingleRank(), config.search, train, None, mixing, LayerAlignment(0.5, 1e-6)
    )
    weights = as_leaves({f"inner.{name}": tensor for name, tensor in step.weights.tensors.items()})
    tables = as_leaves({name: mixing[name].expand(count, *mixing[name].shape) for name, count in counts.items()})
    loss = functional_call(AsModule(step.supernet), weights, (train, tables))
    gradients = torch.autograd.grad(loss, list(tables.values()), create_graph=True)
    total = torch.stack([mean_cosine(gradient) for gradient in gradients if len(gradient) > 1]).sum()
    wanted = torch.autograd.grad(-0.5 * total, list(weights.values()), allow_unused=True)
    scale = max(g.abs().max().item() for g in wanted if g is not None)
    assert scale > 1e-3
    for ours, plain in zip(step.weights.views(found), wanted, strict=True):
        expected = torch.zeros_like(ours) if plain is None else plain
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * scale)


def test_a_table_for_each_cell_is_the_same_function_where_all_are_equal() -> None:
    config = config_of("lambda-darts", "space.layers=5")
    step = tiny_loop(config, "first", SingleRank()).bilevel
    train, _ = tiny_data(config).bilevel_batches(0, 0, SingleRank().shard, CPU)
    mixing = {name: table.detach() for name, table in step.architecture.mixing("weight", 0, MIDDLE).items()}
    counts = step.supernet.layers_of_cells
    repeated = {name: mixing[name].expand(count, *mixing[name].shape) for name, count in counts.items()}
    losses = [step.supernet.loss(train, None, Pass.ALPHA, each).loss for each in (mixing, repeated)]
    assert torch.equal(*losses)
    own = {name: table.clone() for name, table in repeated.items()}
    own["normal"][1] = own["normal"][1].flip(0)
    assert not torch.equal(step.supernet.loss(train, None, Pass.ALPHA, own).loss, losses[0])


def test_the_weight_step_moves_by_the_added_gradient() -> None:
    moved = {}
    for strength in (0.5, 1.0):
        config = config_of("lambda-darts", f"method.layer_alignment.strength={strength}")
        step = tiny_loop(config, "first", SingleRank()).bilevel
        start = step.weights.vector.clone()
        batches = tiny_data(config).bilevel_batches(0, 0, SingleRank().shard, CPU)
        step.step_(*batches, 1e-3, move_alphas=False, progress=MIDDLE)
        moved[strength] = step.weights.vector - start
    plain = tiny_loop(config_of("darts"), "first", SingleRank()).bilevel
    start = plain.weights.vector.clone()
    batches = tiny_data(config_of("darts")).bilevel_batches(0, 0, SingleRank().shard, CPU)
    plain.step_(*batches, 1e-3, move_alphas=False, progress=MIDDLE)
    base = plain.weights.vector - start
    assert (moved[0.5] - base).abs().max() > 1e-9
    torch.testing.assert_close(moved[1.0] - base, 2 * (moved[0.5] - base), rtol=0, atol=1e-9)
