"""A supernet computes the same function with the compiled kernel as without it, whatever its settings are."""

from __future__ import annotations

import pytest
import torch

from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS, SKIP_DROPOUT, SupernetOptions
from ray_darts.spaces.batch_norm import synchronise
from ray_darts.spaces.convolutional.space import OPERATIONS, ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.test_convolutional_supernet import a_batch
from tests.spaces.test_kernel import built, needs_compiler
from tests.spaces.test_supernet_options import gradients, seeded, some_mixing

pytestmark = needs_compiler
SPACE = ConvolutionalSpace(layers=3, channels=16, nodes=2)
CASES = {
    "plain": (SPACE, NO_OPTIONS),
    "auxiliary skips": (SPACE, SupernetOptions(auxiliary_skip=True)),
    "dropped skips": (SPACE, SupernetOptions(skip_dropout=True)),
    "both": (SPACE, SupernetOptions(auxiliary_skip=True, skip_dropout=True)),
    "edge weights": (SPACE, SupernetOptions(edge_weights=True)),
    "partial channels": (ConvolutionalSpace(layers=3, channels=32, nodes=2), SupernetOptions(partial_channels=2)),
    "noise": (ConvolutionalSpace(layers=3, channels=16, nodes=2, operations=(*OPERATIONS[2:5], "noise")), NO_OPTIONS),
    "no pools": (ConvolutionalSpace(layers=3, channels=16, nodes=2, operations=OPERATIONS[3:6]), NO_OPTIONS),
    "no convolutions": (ConvolutionalSpace(layers=3, channels=16, nodes=2, operations=OPERATIONS[:4]), NO_OPTIONS),
    "halves too narrow": (ConvolutionalSpace(layers=3, channels=8, nodes=1), NO_OPTIONS),
    "large pictures": (ConvolutionalSpace(layers=3, channels=16, nodes=1, stem="imagenet"), NO_OPTIONS),
}


def nodes_of(output: torch.Tensor) -> set[str]:
    """The names of the kinds of nodes in a graph."""
    names, left = set(), [output.grad_fn]
    seen = set(left)
    while left:
        node = left.pop()
        assert node is not None
        names.add(type(node).__name__)
        after = {following for following, _ in node.next_functions if following is not None} - seen
        seen |= after
        left += after
    return names


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_gradients_and_statistics_are_those_without_the_kernel(case: str, recomputed: bool) -> None:
    space, options = CASES[case]
    size = 40 if space.stem == "imagenet" else 9
    found = []
    for kernel in (built(), None):
        supernet = seeded(
            ConvolutionalSupernet,
            space,
            DataFacts(5, 3, size),
            kernel=kernel,
            options=options,
            checkpoint_cells=recomputed,
        )
        mixing = some_mixing(space, options)
        if options.skip_dropout:
            mixing[SKIP_DROPOUT] = torch.tensor(0.4, dtype=torch.float64)
        loss = supernet.loss(a_batch(size, 3), None, Pass.WEIGHT, mixing).loss
        if not recomputed:
            assert ("_GroupBackward" in nodes_of(loss)) == (kernel is not None)
        asked = {name: table for name, table in mixing.items() if table.requires_grad}
        found.append([loss, *gradients(loss, supernet, asked).values(), *supernet.buffers()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-8)


def test_synchronised_statistics_are_left_to_pytorch() -> None:
    supernet = seeded(ConvolutionalSupernet, SPACE, DataFacts(5, 3, 8), kernel=built())
    synchronise(supernet, lambda moments: moments)
    loss = supernet.loss(a_batch(8, 2), None, Pass.WEIGHT, some_mixing(SPACE, NO_OPTIONS)).loss
    assert "_GroupBackward" not in nodes_of(loss)


def test_evaluation_by_running_statistics_is_that_without_the_kernel() -> None:
    found = []
    for kernel in (built(), None):
        supernet = seeded(ConvolutionalSupernet, SPACE, DataFacts(5, 3, 8), kernel=kernel)
        for name, buffer in supernet.named_buffers():
            buffer.fill_(0.7 if "var" in name else 0.1)
        with torch.no_grad():
            mixing = some_mixing(SPACE, NO_OPTIONS)
            found.append(supernet.logits(a_batch(8, 2).inputs, mixing, batch_statistics=False, update=False))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)
