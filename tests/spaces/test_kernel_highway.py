"""The kernel's mixture of activations: values and derivatives are those of PyTorch's operators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ray_darts.config import OperationSettings
from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.recurrent.operations import (
    Mixture,
    mixed_highway_,
    mixed_highway_gradients,
    mixture_gradients,
)
from ray_darts.spaces.supernet import Pass
from tests.spaces.recurrent_oracle import RecurrentOracle
from tests.spaces.test_cost import Calls
from tests.spaces.test_kernel import needs_compiler
from tests.spaces.test_recurrent_supernet import alphas_of, carry_of, largest_difference, supernet_of, tiny, tokens

pytestmark = needs_compiler

ALL, SOME = ("none", "tanh", "relu", "sigmoid", "identity"), ("identity", "none", "tanh")
TOLERANCES = {torch.float64: 1e-13, torch.float32: 3e-6}


def inputs(shape: tuple[int, int, int], dtype: torch.dtype, operations: tuple[str, ...]) -> tuple[Tensor, ...]:
    """States, gated candidates, a gradient and probabilities."""
    draw = torch.Generator().manual_seed(3)
    sources, _, hidden = shape
    states, gated, gradient, logits = (
        torch.randn(size, generator=draw, dtype=torch.float64)
        for size in (shape, (*shape[:2], 2 * hidden), shape[1:], (sources, len(operations)))
    )
    return states.to(dtype), (4 * gated).to(dtype), gradient.to(dtype), logits.softmax(1).to(dtype)


def results(
    shape: tuple[int, int, int], dtype: torch.dtype, operations: tuple[str, ...], kernel: Kernel | None, *, keeps: bool
) -> list[Tensor]:
    """A node, what it leaves behind, and its derivatives."""
    states, gated, gradient, probabilities = inputs(shape, dtype, operations)
    mixture = Mixture.of(probabilities, operations)
    node, excess = mixed_highway_(states, gated, mixture, kernel, keep_candidates=keeps)
    if keeps:
        found = mixture_gradients(gradient, states, gated, excess, mixture, kernel)
        assert found.weights is not None
        return [node, excess, gated, found.kept, found.gated, found.weights]
    found = mixed_highway_gradients(gradient, gated, excess, kernel)
    return [node, excess, gated, found.kept, found.gated]


@pytest.mark.parametrize("keeps", [False, True], ids=["slopes", "candidates"])
@pytest.mark.parametrize("operations", [ALL, SOME], ids=["all", "some"])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(1, 2, 1), (3, 5, 6), (2, 3, 16), (9, 17, 37)])
def test_values_and_derivatives(
    shape: tuple[int, int, int], dtype: torch.dtype, operations: tuple[str, ...], keeps: bool
) -> None:
    wanted = results(shape, torch.float64, operations, None, keeps=keeps)
    got = results(shape, dtype, operations, Kernel(), keeps=keeps)
    for theirs, ours in zip(wanted, got, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype] * 10)


@pytest.mark.parametrize("name", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_far_values_saturate_and_what_is_no_number_stays(dtype: torch.dtype, name: str) -> None:
    far = [-3e4, -200.0, -90.0, -87.5, -1e-8, 0.0, 1e-8, 87.5, 89.0, 200.0, 3e4, float("nan")]
    candidates = torch.tensor(far, dtype=dtype)
    states = torch.zeros(1, 1, len(far), dtype=dtype)
    gated = torch.cat([torch.zeros_like(candidates), candidates]).view(1, 1, -1)
    mixture = Mixture.only(name, states)
    node, _ = mixed_highway_(states, gated, mixture, Kernel(), keep_candidates=True)
    expected = 0.5 * getattr(torch, name)(candidates.double())
    torch.testing.assert_close(node[0].double(), expected, rtol=1e-6, atol=1e-7, equal_nan=True)


def test_no_bit_depends_on_the_number_of_threads() -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            each = [results((9, 37, 500), torch.float32, ALL, Kernel(), keeps=keeps) for keeps in (False, True)]
            found.append([*each[0], *each[1]])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("setting", ["kernel", "checkpoint_cells"])
def test_a_setting_reaches_the_time_steps(setting: str) -> None:
    """Seen by what a pass calls and keeps."""
    seen = []
    for runtime in (
        OperationSettings(),
        OperationSettings(kernel="compiled"),
        OperationSettings(checkpoint_cells=True),
    ):
        space, kept = tiny(nodes=8), list[int]()
        supernet = space.supernet(DataFacts(11), runtime, torch.device("cpu"))

        def pack(tensor: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        with Calls() as calls, saved_tensors_hooks(pack, lambda tensor: tensor):
            supernet.loss(tokens(16), carry_of().float(), Pass.WEIGHT, alphas_of(space).float().mixing())
        seen.append({"kernel": calls.names.total(), "checkpoint_cells": sum(kept)})
    plain, compiled, recomputed = seen
    other = compiled if setting == "kernel" else recomputed
    assert other[setting] < 0.6 * plain[setting]


@pytest.mark.parametrize("held", ["nothing", "weights", "alphas"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_a_supernet_has_the_oracles_gradients(held: str, dropout: float) -> None:
    space = tiny(dropout_hidden=dropout)
    supernet, alphas = supernet_of(space), alphas_of(space)
    supernet.cell._kernel = Kernel()
    oracle = RecurrentOracle(space, supernet, dict(alphas.cells.items()))
    supernet.requires_grad_(held != "weights")
    alphas.requires_grad_(held != "alphas")
    pairs = [*zip(supernet.parameters(), oracle.weights.values(), strict=True)] if held != "weights" else []
    pairs += [*zip(alphas.parameters(), oracle.alphas.values(), strict=True)] if held != "alphas" else []
    ours, theirs = zip(*pairs, strict=True)
    supernet.begin_step()
    loss = supernet.loss(tokens(), carry_of(), Pass.WEIGHT, alphas.mixing()).loss
    expected = oracle.loss(tokens(), carry_of(), weight_step=True)[0]
    found = torch.autograd.grad(loss, ours)
    assert largest_difference(list(found), list(torch.autograd.grad(expected, theirs))) < 1e-12


def test_a_wide_batch_in_float32_agrees_with_operators() -> None:
    """With columns enough for several vectors, of a loss and its gradients."""
    space = tiny(nodes=8)
    words = torch.randint(7, (13, 32), generator=torch.Generator().manual_seed(1))
    batch = Batch(words[:-1], words[1:], Draws(0, "train", 0, 0, 32, 32), batch_dim=1)
    found = []
    for kernel in (None, Kernel()):
        supernet, alphas = supernet_of(space).float(), alphas_of(space).float()
        supernet.cell._kernel = kernel
        loss = supernet.loss(batch, carry_of(32).float(), Pass.ALPHA, alphas.mixing()).loss
        found.append([loss, *torch.autograd.grad(loss, [*supernet.parameters(), *alphas.parameters()])])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
