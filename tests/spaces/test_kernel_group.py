"""A group of edges that the compiled kernel computes in one call is the same function as node by node."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.convolutional.branches import Branches, group_branches
from ray_darts.spaces.convolutional.compiled import compute_group, plain_group
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS, StackedStage
from ray_darts.spaces.layers import POOLS
from ray_darts.spaces.mixing import EdgeGroup
from tests.spaces.test_kernel import built, needs_compiler

pytestmark = needs_compiler
NAMES = tuple(CONVOLUTIONS)
TWICE = tuple(name for name in NAMES if CONVOLUTIONS[name].repeats == 2)


class AGroup(nn.Module):
    """Edges of the sources 1 to `sources` to `targets` nodes, and what is computed on them."""

    def __init__(
        self,
        sources: int,
        targets: int,
        channels: int,
        stride: int,
        convolutions: tuple[str, ...] = NAMES,
        pools: tuple[str, ...] = POOLS,
        *,
        skips: bool = True,
    ) -> None:
        super().__init__()
        self.sources, self.targets, self.channels, self.stride = sources, targets, channels, stride
        self.skips = skips and stride == 1
        edges = sources * targets
        self.group = EdgeGroup(tuple(range(1, sources + 1)), tuple(range(targets)), 0, edges)
        stages = [convolutions, tuple(name for name in convolutions if name in TWICE)]
        self.stages = nn.ModuleList([StackedStage(names, edges, channels, 0.1) for names in stages if names])
        self.convolutions = convolutions
        self.pools = nn.ModuleDict({name: BatchNorm((sources + 1) * channels) for name in pools})
        rows = len(convolutions) + len(pools) + self.skips
        self.weights = nn.Parameter(torch.rand(rows, edges) + 0.1)

    def branches(self) -> Branches | None:
        """The weights of the convolutions."""
        columns = dict(zip(self.convolutions, self.weights, strict=False))
        modules = [module for module in self.stages if isinstance(module, StackedStage)]
        return group_branches(modules, [self.group], columns)[0] if modules else None

    def compute(self, sources: list[Tensor], *, compiled: bool, update: bool = False) -> list[Tensor]:
        """The targets, by the kernel or by PyTorch."""
        branches, rows = self.branches(), self.weights.unbind()
        norms = {name: (norm, self.channels) for name, norm in self.pools.items() if isinstance(norm, BatchNorm)}
        if compiled:
            compute = partial(compute_group, built(), skips=self.skips, update=update)
            return list(compute(sources, branches, norms, rows, self.stride, self.targets))
        parts = [part for part in (branches.first, branches.second) if part is not None] if branches else []
        kernels = [weight for part in parts for weight, _ in part.kernels]
        size = self.sources * self.targets * self.channels
        mixing = [each for part in parts for each in torch.split(part.pointwise, size)]
        plain = partial(plain_group, None, branches, norms, self.stride, self.targets, self.skips)
        return plain(sources, kernels, mixing, self.weights)


CASES = {
    "normal cell": (AGroup(1, 3, 8, 1), (3, 8, 9, 7)),
    "two sources": (AGroup(2, 2, 16, 1), (2, 16, 12, 20)),
    "reduction": (AGroup(2, 2, 16, 2), (2, 16, 9, 7)),
    "even reduction": (AGroup(1, 1, 8, 2), (3, 8, 16, 18)),
    "one pixel": (AGroup(1, 2, 8, 1), (3, 8, 1, 1)),
    "wide reduction": (AGroup(1, 1, 8, 2), (1, 8, 3, 40)),
    "more samples than slices": (AGroup(1, 1, 8, 1, ("sep_conv_3x3",)), (37, 8, 2, 2)),
    "no pools, no skips": (AGroup(1, 2, 8, 1, NAMES, (), skips=False), (2, 8, 5, 5)),
    "dilated alone": (AGroup(1, 2, 8, 2, NAMES[2:], ()), (2, 8, 6, 6)),
    "pools alone": (AGroup(2, 2, 8, 1, ()), (2, 8, 5, 4)),
    "pools alone, reduction": (AGroup(2, 1, 8, 2, (), ("max_pool_3x3",)), (2, 8, 5, 4)),
}


def inputs(group: AGroup, shape: tuple[int, ...]) -> list[Tensor]:
    """Sources with ties, which a maximum has to break."""
    torch.manual_seed(1)
    return [
        ((torch.randn(shape, dtype=torch.float64) * 4).round() / 4).contiguous(memory_format=torch.channels_last)
        for _ in range(group.sources)
    ]


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_pytorchs(name: str) -> None:
    group, shape = CASES[name]
    group.double()
    found = []
    for compiled in (True, False):
        sources = [source.clone().requires_grad_() for source in inputs(group, shape)]
        outputs = group.compute(sources, compiled=compiled)
        above = [
            torch.randn(each.shape, dtype=each.dtype, generator=seeded(number)) for number, each in enumerate(outputs)
        ]
        assert ("_Group" in type(outputs[0].grad_fn).__name__) == compiled
        leaves = [*sources, *group.stages.parameters(), group.weights]
        found.append([*outputs, *torch.autograd.grad(outputs, leaves, above)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


def seeded(number: int) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("asked", ["sources", "weights", "mixing weights"])
@pytest.mark.parametrize("stride", [1, 2])
def test_only_what_is_asked_for_is_computed(stride: int, asked: str) -> None:
    group = AGroup(2, 2, 8, stride).double()
    found = []
    for compiled in (True, False):
        group.requires_grad_(asked == "weights")
        group.weights.requires_grad_(asked == "mixing weights")
        sources = [source.requires_grad_(asked == "sources") for source in inputs(group, (2, 8, 6, 5))]
        outputs = group.compute(sources, compiled=compiled)
        leaves = [leaf for leaf in (*sources, *group.stages.parameters(), group.weights) if leaf.requires_grad]
        found.append(torch.autograd.grad([each.square().sum() for each in outputs], leaves))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["normal cell", "reduction", "pools alone"])
def test_second_derivatives_are_pytorchs(name: str) -> None:
    group, shape = CASES[name]
    group.double()
    found = []
    for compiled in (True, False):
        sources = [source.clone().requires_grad_() for source in inputs(group, shape)]
        leaves = [*sources, *group.stages.parameters(), group.weights]
        outputs = group.compute(sources, compiled=compiled)
        first = torch.autograd.grad([each.pow(3).sum() for each in outputs], leaves, create_graph=True)
        found.append(torch.autograd.grad([each.square().sum() for each in first], leaves))
    torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-7)


def test_running_statistics_move_as_pytorchs_do() -> None:
    torch.manual_seed(0)
    group = AGroup(2, 2, 8, 1).double()
    sources = inputs(group, (3, 8, 6, 5))
    group.compute(sources, compiled=True)
    norms = [module for module in group.modules() if isinstance(module, BatchNorm)]
    assert not any(norm.running_mean.any() for norm in norms), "update was not asked for"
    group.compute(sources, compiled=True, update=True)
    for name, pool in (("max_pool_3x3", torch.nn.functional.max_pool2d), ("avg_pool_3x3", average)):
        norm = group.pools[name]
        assert isinstance(norm, BatchNorm)
        plain = nn.BatchNorm2d(16, affine=False).double()
        plain(torch.cat([pool(source, 3, 1, 1) for source in sources], dim=1))
        torch.testing.assert_close(norm.running_mean[8:], plain.running_mean)
        torch.testing.assert_close(norm.running_var[8:], plain.running_var)
        assert not norm.running_mean[:8].any(), "another source's"
    stage = group.stages[0]
    assert isinstance(stage, StackedStage)
    plain = nn.BatchNorm2d(8, affine=False).double()
    kernel, row = stage.depthwise["dil_conv_5x5"][3], NAMES.index("dil_conv_5x5") * 4 + 3
    convolved = nn.functional.conv2d(sources[1].relu(), kernel, None, 1, 4, 2, groups=8)
    plain(nn.functional.conv2d(convolved, stage.pointwise[row]))
    torch.testing.assert_close(stage.batch_norm.running_mean[row * 8 : row * 8 + 8], plain.running_mean)
    torch.testing.assert_close(stage.batch_norm.running_var[row * 8 : row * 8 + 8], plain.running_var)


def average(maps: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """An average that does not count padding."""
    return torch.nn.functional.avg_pool2d(maps, size, stride, padding, count_include_pad=False)


@pytest.mark.parametrize("stride", [1, 2])
def test_no_bit_depends_on_the_number_of_threads(stride: int) -> None:
    group = AGroup(2, 2, 16, stride).float()
    sources = [source.float().requires_grad_() for source in inputs(group, (37, 16, 8, 8))]
    leaves = [*sources, *group.stages.parameters(), group.weights]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            outputs = group.compute(sources, compiled=True)
            found.append([*outputs, *torch.autograd.grad([each.square().sum() for each in outputs], leaves)])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found[0], other, strict=True))


def test_float32_is_as_close_as_pytorchs() -> None:
    group = AGroup(2, 2, 16, 1)
    sources = [source.float() + 3 for source in inputs(group, (4, 16, 16, 16))]

    def gradients(dtype: torch.dtype, *, compiled: bool) -> list[Tensor]:
        group.to(dtype)
        leaves = [source.to(dtype).requires_grad_() for source in sources]
        outputs = group.compute(leaves, compiled=compiled)
        asked = [*leaves, *group.stages.parameters(), group.weights]
        above = [torch.randn(each.shape, generator=seeded(number)).to(dtype) for number, each in enumerate(outputs)]
        return [*outputs, *torch.autograd.grad(outputs, asked, above)]

    start = {name: value.clone() for name, value in group.state_dict().items()}
    exact = gradients(torch.float64, compiled=False)
    group.load_state_dict(start)
    ours, theirs = gradients(torch.float32, compiled=True), gradients(torch.float32, compiled=False)
    for right, mine, other in zip(exact, ours, theirs, strict=True):
        ours_off, theirs_off = ((each.double() - right).norm() / right.norm() for each in (mine, other))
        assert ours_off < max(2 * theirs_off, 1e-5)


@pytest.mark.parametrize("convolutions", [NAMES, ()])
def test_a_value_that_is_not_finite_stays_visible(convolutions: tuple[str, ...]) -> None:
    group = AGroup(1, 2, 8, 1, convolutions, () if convolutions else POOLS, skips=False).double()
    [source] = inputs(group, (2, 8, 5, 5))
    source[1, :, 2, 3] = float("nan")
    source.requires_grad_()
    outputs = group.compute([source], compiled=True)
    assert all(output.isnan().any() for output in outputs)
    gradients = torch.autograd.grad([output.sum() for output in outputs], [source, group.weights])
    assert all(gradient.isnan().any() for gradient in gradients)
