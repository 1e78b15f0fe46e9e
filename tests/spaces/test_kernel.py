"""The compiled kernel computes the same function as PyTorch, and no default setting needs a compiler."""

from __future__ import annotations

import shutil
from functools import cache

import pytest
import torch
from torch import Tensor

from ray_darts.errors import ConfigError
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.batch_norm import BatchNorm, normalise, use_kernel
from ray_darts.spaces.convolutional.positive_pointwise import positive_pointwise
from ray_darts.spaces.convolutional.separable import depthwise, separable
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.supernet import Pass
from tests.spaces.convolutional_oracle import OracleSupernet, copy_into_oracle
from tests.spaces.test_convolutional_supernet import TOLERANCE, a_batch, gradients, some_alphas, worst_difference

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler on PATH"
)


@cache
def built() -> Kernel:
    """The kernel, built once."""
    return Kernel()


@needs_compiler
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(2, 16, 9, 7), (3, 32, 2, 2), (1, 16, 1, 1), (2, 6, 8, 8), (2, 8, 5, 12)])
def test_the_compiled_convolutions_are_pytorchs(shape: tuple[int, ...], size: int, dilation: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape[1], 1, size, size, dtype=torch.float64, requires_grad=True)
    above = torch.randn(shape, dtype=torch.float64)
    mixing = torch.randn(shape[1], shape[1], 1, 1, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.functional.conv2d(maps, weight, None, 1, dilation * (size // 2), dilation, groups=shape[1])
    leaves = [maps, weight, mixing]
    expected = torch.autograd.grad(torch.nn.functional.conv2d(plain, mixing), leaves, above)
    for kernel in (built(), None):
        got = torch.autograd.grad(separable(maps, weight, mixing, 1, dilation, kernel), leaves, above)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("held", ["maps", "weights"])
def test_only_what_is_asked_for_is_computed(held: str) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 8, 5, 12, dtype=torch.float64, requires_grad=held != "maps")
    weight = torch.randn(8, 1, 3, 3, dtype=torch.float64, requires_grad=held != "weights")
    mixing = torch.randn(8, 8, 1, 1, dtype=torch.float64, requires_grad=held != "weights")
    leaves = [leaf for leaf in (maps, weight, mixing) if leaf.requires_grad]
    got, expected = (
        torch.autograd.grad(separable(maps, weight, mixing, 1, 1, kernel).square().sum(), leaves)
        for kernel in (built(), None)
    )
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@needs_compiler
def test_the_compiled_convolutions_in_float32_are_as_close_as_pytorchs() -> None:
    torch.manual_seed(0)
    maps, above = torch.randn(2, 2, 32, 16, 16, dtype=torch.float64)
    weight, mixing = torch.randn(32, 1, 5, 5, dtype=torch.float64), torch.randn(32, 32, 1, 1, dtype=torch.float64)

    def gradients(kernel: Kernel | None, dtype: torch.dtype) -> list[Tensor]:
        leaf, kernels, mix = (leaf.to(dtype).requires_grad_() for leaf in (maps, weight, mixing))
        output = separable(leaf, kernels, mix, 1, 1, kernel)
        return list(torch.autograd.grad(output, [leaf, kernels, mix], above.to(dtype)))

    found = gradients(None, torch.float64), gradients(built(), torch.float32), gradients(None, torch.float32)
    for exact, ours, theirs in zip(*found, strict=True):
        ours_off, theirs_off = ((got.double() - exact).norm() / exact.norm() for got in (ours, theirs))
        assert ours_off < max(2 * theirs_off, 1e-6)


@needs_compiler
@pytest.mark.parametrize("asked", ["all", "maps", "weights"])
@pytest.mark.parametrize("outputs", [(16,), (40,), (8, 8), (8, 24)])
@pytest.mark.parametrize("shape", [(3, 24, 7, 5), (2, 8, 16, 20), (37, 16, 1, 1)])
def test_the_compiled_pointwise_convolutions_after_a_relu_are_pytorchs(
    shape: tuple[int, ...], outputs: tuple[int, ...], asked: str
) -> None:
    torch.manual_seed(0)
    maps = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    maps[0, 0] = 0
    weights = [torch.randn(size, shape[1], 1, 1, dtype=torch.float64) for size in outputs]
    for leaf in (maps, *weights):
        leaf.requires_grad_(asked == "all" or (leaf is maps) == (asked == "maps"))
    leaves = [leaf for leaf in (maps, *weights) if leaf.requires_grad]
    found = []
    for kernel in (built(), None):
        output = positive_pointwise(maps, weights, kernel)
        assert ("_PositivePointwise" in type(output.grad_fn).__name__) == (kernel is not None)
        once = torch.autograd.grad(output.square().sum(), leaves, retain_graph=True)
        first = torch.autograd.grad(output.pow(3).sum(), leaves, create_graph=True)
        second = torch.autograd.grad([each.square().sum() for each in first], leaves)
        found.append([output, *once, *first, *second])
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


@needs_compiler
@pytest.mark.parametrize("affine", ["none", "gain", "both"])
@pytest.mark.parametrize("shape", [(3, 8, 5, 7), (2, 16, 1, 1), (4, 24, 20, 20)])
def test_the_compiled_batch_norm_is_pytorchs(shape: tuple[int, ...], affine: str) -> None:
    torch.manual_seed(0)
    kernel = built()
    maps = (3 * torch.randn(shape, dtype=torch.float64) + 100).contiguous(memory_format=torch.channels_last)
    above = torch.randn(shape, dtype=torch.float64)
    found = []
    for used in (kernel, None):
        module = BatchNorm(shape[1], affine=affine == "both").double()
        if used is not None:
            use_kernel(module, used)
        leaf = maps.clone().requires_grad_()
        gain = torch.linspace(0.1, 2, shape[1], dtype=torch.float64, requires_grad=True)
        norm = module.norm(gain=None if affine == "none" else gain)
        [output] = normalise([norm], [leaf], batch_statistics=True, update=True)
        leaves = [leaf, *([] if affine == "none" else [gain]), *module.parameters()]
        first = torch.autograd.grad(output, leaves, above, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), leaves, allow_unused=True)
        assert ("_Compiled" in type(output.grad_fn).__name__) == (used is not None)
        found.append([output, module.running_mean, module.running_var, *first, *second])
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


@needs_compiler
def test_what_the_kernel_does_not_know_is_left_to_pytorch() -> None:
    kernel = built()
    maps = torch.zeros(1, 16, 4, 4)
    assert kernel.fits(maps, 5)
    assert not kernel.fits(maps, 7)
    assert not kernel.fits(maps[:, :8])
    assert not kernel.fits(maps.bfloat16())
    assert not kernel.fits(maps.to("meta"))


@needs_compiler
def test_a_supernet_with_the_kernel_is_the_oracles_function() -> None:
    space, facts = ConvolutionalSpace(layers=3, channels=8, nodes=2), DataFacts(5, 3, 9)
    torch.manual_seed(0)
    supernet = ConvolutionalSupernet(space, facts, kernel=built()).double()
    oracle = OracleSupernet(space, facts).double()
    copy_into_oracle(supernet, oracle)
    alphas = some_alphas(space)
    ours, plain = (
        gradients(network, alphas, network.loss(a_batch(9, 4), None, Pass.WEIGHT, alphas.mixing()).loss)
        for network in (supernet, oracle)
    )
    assert worst_difference(ours, plain, oracle) < TOLERANCE


def test_a_missing_compiler_is_an_error_that_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"set operation\.kernel=torch"):
        Kernel(compilers=("no-such-compiler",))


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("held", [False, True])
def test_a_separable_convolution_can_be_differentiated_twice(held: bool, size: int, dilation: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, size, size, dtype=torch.float64, requires_grad=not held)
    mixing = torch.randn(2, 2, 1, 1, dtype=torch.float64, requires_grad=not held)

    def function(maps: Tensor, weight: Tensor, mixing: Tensor) -> Tensor:
        return separable(maps, weight, mixing, 1, dilation)

    assert torch.autograd.gradcheck(function, (maps, weight, mixing))
    if not held:
        assert torch.autograd.gradgradcheck(function, (maps, weight, mixing))


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("height", [7, 8])
def test_dilation_at_stride_two_is_pytorchs(height: int, size: int) -> None:
    maps, weight = torch.randn(2, 2, height, 8, dtype=torch.float64), torch.randn(2, 1, size, size, dtype=torch.float64)
    plain = torch.nn.functional.conv2d(maps, weight, None, 2, size - 1, 2, groups=2)
    torch.testing.assert_close(depthwise(maps, weight, 2, 2), plain, rtol=1e-13, atol=1e-13)
