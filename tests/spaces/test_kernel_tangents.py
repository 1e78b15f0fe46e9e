"""A group of edges computed on numbers with tangents is its derivative along them, forward and backward."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS
from ray_darts.spaces import tangents
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.test_convolutional_supernet import a_batch
from tests.spaces.test_kernel import built, needs_compiler
from tests.spaces.test_kernel_group import CASES, NAMES, AGroup, inputs, seeded
from tests.spaces.test_kernel_supernet import SPACE, nodes_of
from tests.spaces.test_supernet_options import seeded as seeded_supernet
from tests.spaces.test_supernet_options import some_mixing

pytestmark = needs_compiler


class _Moving:
    """A group, its sources and weights, and a direction of all of them but the mixing weights."""

    def __init__(self, group: AGroup, sources: list[Tensor]) -> None:
        self.group, self.sources = group, [source.requires_grad_() for source in sources]
        self.stages = dict(group.stages.named_parameters(prefix="stages"))
        self.leaves = [*self.sources, *self.stages.values(), group.weights]
        self.directions = [normal(leaf, number).requires_grad_() for number, leaf in enumerate(self.leaves[:-1])]

    def with_tangents(self, of_values: list[Tensor], of_tangents: list[Tensor]) -> list[list[Tensor]]:
        """Targets, their tangents, and the gradients in leaves and directions of those that come in for both."""
        with tangents.carried():
            moved = [tangents.moving(leaf, move) for leaf, move in zip(self.leaves, self.directions, strict=False)]
            sources, stages = moved[: len(self.sources)], moved[len(self.sources) :]
            called = _Called(self.group)
            parameters = {f"group.{name}": each for name, each in zip(self.stages, stages, strict=True)}
            outputs = torch.func.functional_call(called, parameters, (sources,))
            values, moves = [tangents.without(output) for output in outputs], [tangent_of(output) for output in outputs]
            assert "_DualGroupBackward" in nodes_of(values[0])
            with tangents.paused():
                both = [*values, *moves], [*of_values, *of_tangents]
                found = torch.autograd.grad(both[0], [*self.leaves, *self.directions], both[1])
        return [values, moves, list(found)]

    def by_two_backward_passes(self, of_values: list[Tensor], of_tangents: list[Tensor]) -> list[list[Tensor]]:
        """The same without the kernel and without tangents."""
        values = self.group.compute(self.sources, compiled=False)
        dummies = [torch.zeros_like(value).requires_grad_() for value in values]
        moves = torch.autograd.grad(self._slope(values, dummies), dummies, retain_graph=True)
        first = torch.autograd.grad(values, self.leaves, of_values, retain_graph=True)
        slope = self._slope(values, of_tangents)
        second = torch.autograd.grad(slope, [*self.leaves, *self.directions])
        gradients = [a + b for a, b in zip(first, second, strict=False)]
        return [values, list(moves), [*gradients, *second[len(first) :]]]

    def _slope(self, values: list[Tensor], of_tangents: list[Tensor]) -> Tensor:
        gradients = torch.autograd.grad(values, self.leaves[:-1], of_tangents, create_graph=True)
        products = [(each * move).sum() for each, move in zip(gradients, self.directions, strict=True)]
        return torch.stack(products).sum()


class _Called(nn.Module):
    """A group by the kernel as a module's forward."""

    def __init__(self, group: AGroup) -> None:
        super().__init__()
        self.group = group

    def forward(self, sources: list[Tensor]) -> list[Tensor]:
        """Its targets."""
        return self.group.compute(sources, compiled=True)


def tangent_of(output: Tensor) -> Tensor:
    """The tangent, which is there."""
    tangent = tangents.of(output)
    assert tangent is not None
    return tangent


def normal(like: Tensor, number: int) -> Tensor:
    """Numbers in the shape of `like`."""
    return torch.randn(like.shape, dtype=torch.float64, generator=seeded(number)).to(like.dtype)


def incoming(group: AGroup, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], ...]:
    """Gradients of the targets and of their tangents."""
    samples, channels, height, width = shape
    size = samples, channels, -(-height // group.stride), -(-width // group.stride)
    like = torch.empty(size, dtype=dtype)
    numbers = range(group.targets)
    return [normal(like, 100 + number) for number in numbers], [normal(like, 200 + number) for number in numbers]


@pytest.mark.parametrize("name", CASES)
def test_tangents_and_gradients_through_them_are_those_of_two_backward_passes(name: str) -> None:
    group, shape = CASES[name]
    moving = _Moving(group.double(), [source.clone() for source in inputs(group, shape)])
    above = incoming(group, shape)
    found, wanted = moving.with_tangents(*above), moving.by_two_backward_passes(*above)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def test_float32_is_close_to_float64() -> None:
    group, shape = AGroup(2, 2, 16, 1), (4, 16, 16, 16)
    sources = [source.float() + 3 for source in inputs(group, shape)]
    found = _Moving(group.float(), [each.clone() for each in sources]).with_tangents(
        *incoming(group, shape, torch.float32)
    )
    wanted = _Moving(group.double(), [each.double() for each in sources]).with_tangents(*incoming(group, shape))
    for ours, exact in zip(chain(*found), chain(*wanted), strict=True):
        assert (ours.double() - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("stride", [1, 2])
def test_no_bit_depends_on_the_number_of_threads(stride: int) -> None:
    group, shape = AGroup(2, 2, 16, stride).float(), (37, 16, 8, 8)
    moving = _Moving(group, [source.float() for source in inputs(group, shape)])
    above, before, found = incoming(group, shape, torch.float32), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(list(chain(*moving.with_tangents(*above))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_what_needs_no_gradient_gets_none_and_what_has_no_tangent_stands_still() -> None:
    group, shape = AGroup(1, 2, 8, 1, NAMES[:1]).double(), (2, 8, 5, 4)
    group.stages.requires_grad_(False)
    [source] = inputs(group, shape)
    source.requires_grad_()
    direction = normal(source, 1)
    with tangents.carried():
        outputs = group.compute([tangents.moving(source, direction)], compiled=True)
        slope = torch.stack([tangent_of(output).sin().sum() for output in outputs]).sum()
        with tangents.paused():
            found = torch.autograd.grad(slope, [source, group.weights])
    plain = group.compute([source], compiled=False)
    dummies = [torch.zeros_like(each).requires_grad_() for each in plain]
    [gradient] = torch.autograd.grad(plain, [source], dummies, create_graph=True)
    moves = torch.autograd.grad((gradient * direction).sum(), dummies)
    [gradient] = torch.autograd.grad(plain, [source], [move.cos() for move in moves], create_graph=True)
    wanted = torch.autograd.grad((gradient * direction).sum(), [source, group.weights])
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_a_pass_with_tangents_takes_the_kernel_of_whole_groups() -> None:
    supernet = seeded_supernet(ConvolutionalSupernet, SPACE, DataFacts(5, 3, 8), kernel=built())
    with tangents.carried():
        loss = supernet.loss(a_batch(8, 2), None, Pass.ALPHA, some_mixing(SPACE, NO_OPTIONS)).loss
    assert "_DualGroupBackward" in nodes_of(loss)


def test_a_pass_that_moves_running_statistics_leaves_tangents_to_single_operations() -> None:
    found = []
    for carried in (False, True):
        supernet = seeded_supernet(ConvolutionalSupernet, SPACE, DataFacts(5, 3, 8), kernel=built())
        with tangents.carried() if carried else nullcontext():
            loss = supernet.loss(a_batch(8, 2), None, Pass.WEIGHT, some_mixing(SPACE, NO_OPTIONS)).loss
        assert "_DualGroupBackward" not in nodes_of(loss)
        found.append(list(supernet.buffers()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)
