"""Users' operations: the same numbers as equal operations of the space, and errors that name rejected ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ray_darts.config import OperationSettings
from ray_darts.data.batch import Batch, Draws
from ray_darts.errors import ConfigError, PluginError
from ray_darts.protocols import registry
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.registry import register
from ray_darts.spaces.batch_norm import BatchNorm, synchronise
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.own_operations import check_operation
from ray_darts.spaces.supernet import Pass


class Made:
    """An operation that builds its modules with a given function."""

    def __init__(
        self, build: Callable[[int, int], object], name: str = "made", *, parameter_free: bool = False
    ) -> None:
        self.name, self.parameter_free, self._build = name, parameter_free, build

    def build(self, channels: int, stride: int) -> nn.Module:
        """What was given."""
        return cast(nn.Module, self._build(channels, stride))


def pool_like_the_papers(channels: int, stride: int) -> nn.Module:
    """What avg_pool_3x3 is in the supernet."""
    pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


@pytest.fixture(autouse=True)
def _forget_operations() -> Iterator[None]:
    before = dict(registry._registered["operation"])
    yield
    registry._registered["operation"].clear()
    registry._registered["operation"].update(before)


def supernet_with(operation: str) -> ConvolutionalSupernet:
    """Two nodes, mixed by equal weights for all."""
    torch.manual_seed(3)
    space = ConvolutionalSpace(
        layers=3, channels=4, nodes=2, operations=("none", "skip_connect", operation, "sep_conv_3x3")
    )
    return ConvolutionalSupernet(space, DataFacts(5, 3, 9)).double()


def mixing_of(supernet: ConvolutionalSupernet) -> dict[str, Tensor]:
    """Fixed uneven weights that ask for a gradient."""
    draws = torch.Generator().manual_seed(5)
    return {
        cell.name: torch.rand(cell.shape, generator=draws, dtype=torch.float64).requires_grad_()
        for cell in supernet.layout.cells
    }


def images(count: int = 4) -> Batch:
    """Odd maps, so that strides have to round."""
    draws = torch.Generator().manual_seed(7)
    return Batch(
        torch.randn(count, 3, 9, 9, generator=draws, dtype=torch.float64),
        torch.arange(count) % 5,
        Draws(0, "train", 0, 0, count, count),
    )


def loss_and_gradients(supernet: ConvolutionalSupernet, purpose: Pass) -> list[Tensor]:
    """The loss, and its gradients in all mixing weights and in the stem."""
    mixing = mixing_of(supernet)
    loss = supernet.loss(images(), None, purpose, mixing).loss
    stem = next(supernet.stem.parameters())
    return [loss.detach(), *torch.autograd.grad(loss, [*mixing.values(), stem])]


def test_an_operation_like_the_papers_gives_the_same_loss_gradients_and_statistics() -> None:
    register(Made(pool_like_the_papers, "my_pool", parameter_free=True))
    own, papers = supernet_with("my_pool"), supernet_with("avg_pool_3x3")
    for purpose in (Pass.WEIGHT, Pass.ALPHA):
        for ours, theirs in zip(loss_and_gradients(own, purpose), loss_and_gradients(papers, purpose), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    mixing = mixing_of(own)
    assert own.evaluate(images(), None, mixing).sums.tolist() == pytest.approx(
        papers.evaluate(images(), None, mixing).sums.tolist(), rel=1e-12
    )


def test_only_the_weight_step_moves_running_statistics_of_an_own_batch_norm() -> None:
    register(Made(pool_like_the_papers, "my_pool", parameter_free=True))
    supernet = supernet_with("my_pool")
    own = [module for module in supernet.cells[0].own.modules() if isinstance(module, BatchNorm)]  # type: ignore[union-attr]
    supernet.loss(images(), None, Pass.ALPHA, mixing_of(supernet))
    assert all(not module.running_mean.any() for module in own)
    supernet.loss(images(), None, Pass.WEIGHT, mixing_of(supernet))
    assert own
    assert all(module.running_mean.any() for module in own)


def test_synchronised_statistics_reach_an_own_batch_norm() -> None:
    register(Made(pool_like_the_papers, "my_pool", parameter_free=True))
    supernet = supernet_with("my_pool")
    calls: list[int] = []

    def alone(moments: Tensor) -> Tensor:
        calls.append(moments.numel())
        return moments

    own = sum(isinstance(module, BatchNorm) for cell in supernet.cells for module in cell.own.modules())  # type: ignore[union-attr]
    loss = supernet.loss(images(), None, Pass.ALPHA, mixing_of(supernet)).loss
    synchronise(supernet, alone)
    synchronised = supernet.loss(images(), None, Pass.ALPHA, mixing_of(supernet)).loss
    assert synchronised.item() == pytest.approx(loss.item(), rel=1e-12)
    assert own == 15
    assert len(calls) == 16 + own, "one for each group of the space's own, and one for each of the operation's"


class CountingInside(nn.Module):
    """Keeps a count in a container."""

    def __init__(self, calls: list[int] | dict[int, int]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, maps: Tensor) -> Tensor:
        """Identity."""
        self.calls[0] += 1
        return maps


class HoldingModules(nn.Module):
    """Keeps its layer in a plain container."""

    def __init__(self, layer: nn.Module, container: Callable[[nn.Module], object]) -> None:
        super().__init__()
        self.layers = container(layer)
        self.call = layer.forward

    def forward(self, maps: Tensor) -> Tensor:
        """The layer."""
        result: Tensor = self.call(maps)
        return result


class Unseeded(nn.Module):
    """Draws its weights from the operating system."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(np.random.default_rng().normal(size=(1, channels, 1, 1))).float())

    def forward(self, maps: Tensor) -> Tensor:
        """A gain per channel."""
        return maps * self.weight


class Counting(nn.Module):
    """Keeps a count on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, maps: Tensor) -> Tensor:
        """Identity."""
        self.calls += 1
        return maps[:, :, :: self.stride, :: self.stride]

    stride = 1


class Holding(nn.Module):
    """Holds a tensor that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self._scale = torch.ones(1)

    def forward(self, maps: Tensor) -> Tensor:
        """Scaled."""
        return maps * self._scale


class Function(nn.Module):
    """A module of a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, maps: Tensor) -> Tensor:
        """The function's result."""
        return self.function(maps)


def _strided(module: nn.Module, stride: int) -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(stride, stride, ceil_mode=True), module)


def _raising(channels: int, stride: int) -> object:
    raise ValueError("no such stride")


def _hiding(container: Callable[[nn.Module], object]) -> Callable[[int, int], object]:
    return lambda channels, stride: _strided(HoldingModules(nn.Conv2d(channels, channels, 1), container), stride)


REFUSED = {
    "not a module": (lambda c, s: lambda x: x, "build returned function, wanted is a torch.nn.Module"),
    "raises": (_raising, r"build\(channels=4, stride=1\) raised ValueError: no such stride"),
    "ignores the stride": (lambda c, s: nn.Identity(), r"returns \[2, 4, 8, 8\], wanted are maps of \[2, 4, 4, 4\]"),
    "other channels": (lambda c, s: nn.Conv2d(c, 2 * c, 3, s, 1), r"wanted are maps of \[2, 4, 8, 8\]"),
    "rounds down": (lambda c, s: nn.Sequential(nn.MaxPool2d(s, s)), r"wanted are maps of \[2, 4, 4, 4\]"),
    "drops": (lambda c, s: _strided(nn.Dropout(0.5), s), "a second call returns another result"),
    "counts": (lambda c, s: _strided(Counting(), s), "changes attribute 1.calls, which no checkpoint holds"),
    "holds a tensor": (lambda c, s: _strided(Holding(), s), "its attribute 1._scale holds a tensor"),
    "no gradient": (lambda c, s: _strided(Function(torch.Tensor.detach), s), "no gradient in its input"),
    "in place": (lambda c, s: Function(lambda x: x.data.mul_(2) + 0 * x), "changes its input in place"),
    "reads the host": (
        lambda c, s: _strided(Function(lambda x: x * float(x.detach().sum().item() > -1e9)), s),
        "reads values on the host",
    ),
    "counts in a list": (lambda c, s: _strided(CountingInside([0]), s), "changes attribute 1.calls"),
    "counts in a dict": (lambda c, s: _strided(CountingInside({0: 0}), s), "changes attribute 1.calls"),
    "hides a module": (_hiding(lambda layer: [layer]), "its attribute 1.layers holds a tensor or a module"),
    "hides a module in a dict": (_hiding(lambda layer: {"a": layer}), "its attribute 1.layers holds a tensor"),
    "hides a module in a set": (_hiding(lambda layer: {layer}), "its attribute 1.layers holds a tensor"),
    "hides modules in lists": (_hiding(lambda layer: {"a": [layer]}), "its attribute 1.layers holds a tensor"),
    "another precision": (lambda c, s: _strided(Function(Tensor.double), s), "returns torch.float64 for torch.float32"),
    "weights not from torch's seed": (lambda c, s: _strided(Unseeded(c), s), "1.weight differs between two calls"),
    "centres over the batch": (
        lambda c, s: _strided(Function(lambda x: x - x.mean((0, 2, 3), keepdim=True)), s),
        "depends on the other samples of the batch",
    ),
    "batch norm of its own": (
        lambda c, s: _strided(Function(lambda x: nn.functional.batch_norm(x, None, None, training=True)), s),
        "depends on the other samples of the batch",
    ),
    "own statistics": (
        lambda c, s: _strided(nn.InstanceNorm2d(c, track_running_stats=True), s),
        "changes buffer 1.running_mean",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_operation_that_would_break_a_search_is_refused_by_name(case: str) -> None:
    build, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as refused:
        check_operation(Made(build, "my_operation"), 4)
    assert "'my_operation'" in str(refused.value)


def test_parameters_of_an_operation_that_says_it_has_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="it says parameter_free, but has parameters"):
        check_operation(Made(lambda c, s: nn.Conv2d(c, c, 1, s), parameter_free=True), 4)


def test_an_operation_may_be_called_as_an_attribute_of_a_module_is() -> None:
    register(Made(pool_like_the_papers, "half", parameter_free=True))
    supernet = supernet_with("half")
    assert torch.isfinite(supernet.loss(images(), None, Pass.WEIGHT, mixing_of(supernet)).loss)


def test_an_operation_that_hides_one_of_the_space_is_refused() -> None:
    register(Made(pool_like_the_papers, "sep_conv_3x3", parameter_free=True))
    with pytest.raises(ValueError, match="registers 'sep_conv_3x3', which is an operation of this space"):
        ConvolutionalSpace()
    with pytest.raises(PluginError, match="'none', which is the absence of an operation"):
        register(Made(pool_like_the_papers, "none"))


def test_a_supernet_is_not_built_with_a_refused_operation() -> None:
    register(Made(lambda c, s: nn.Identity(), "my_identity"))
    space = ConvolutionalSpace(layers=3, channels=4, nodes=2, operations=("skip_connect", "my_identity"))
    with pytest.raises(ConfigError, match="'my_identity' cannot be searched"):
        space.supernet(DataFacts(5, 3, 8), OperationSettings(), torch.device("cpu"))
