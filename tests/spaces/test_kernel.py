"""The compiled weight gradient and PyTorch's are one function, and nothing needs a compiler."""

from __future__ import annotations

import shutil

import pytest
import torch

from ray_darts.config import ConvolutionalSpace
from ray_darts.data.protocol import DataFacts
from ray_darts.errors import ConfigError
from ray_darts.spaces.convolutional.kernel import WeightGradient
from ray_darts.spaces.convolutional.separable import depthwise, separable
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.protocol import Pass
from tests.spaces.convolutional_oracle import OracleSupernet, copy_into_oracle
from tests.spaces.test_convolutional_supernet import TOLERANCE, a_batch, gradients, worst_difference

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler on PATH"
)


@needs_compiler
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(2, 16, 9, 7), (3, 32, 2, 2), (1, 16, 1, 1), (2, 6, 8, 8), (2, 8, 5, 12)])
def test_the_compiled_gradient_is_pytorchs(shape: tuple[int, ...], size: int, dilation: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape[1], 1, size, size, dtype=torch.float64, requires_grad=True)
    above = torch.randn(shape, dtype=torch.float64)
    mixing = torch.randn(shape[1], shape[1], 1, 1, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.functional.conv2d(maps, weight, None, 1, dilation * (size // 2), dilation, groups=shape[1])
    leaves = [maps, weight, mixing]
    expected = torch.autograd.grad(torch.nn.functional.conv2d(plain, mixing), leaves, above)
    for kernel in (WeightGradient(), None):
        got = torch.autograd.grad(separable(maps, weight, mixing, 1, dilation, kernel), leaves, above)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@needs_compiler
def test_the_compiled_gradient_in_float32_is_as_close_as_pytorchs() -> None:
    torch.manual_seed(0)
    maps, above = torch.randn(2, 2, 32, 8, 8, dtype=torch.float64)
    kernel = WeightGradient()
    exact = kernel(above, maps, 5, 1)
    torch.testing.assert_close(kernel(above.float(), maps.float(), 5, 1).double(), exact, rtol=1e-5, atol=1e-5)


@needs_compiler
def test_a_supernet_with_the_kernel_is_the_oracles_function() -> None:
    space, facts = ConvolutionalSpace(layers=3, channels=8, nodes=2), DataFacts(5, 3, 9)
    torch.manual_seed(0)
    supernet = ConvolutionalSupernet(space, facts, kernel=WeightGradient()).double()
    oracle = OracleSupernet(space, facts).double()
    copy_into_oracle(supernet, oracle)
    ours, plain = (network.loss(a_batch(9, 4), None, Pass.WEIGHT).loss for network in (supernet, oracle))
    assert worst_difference(gradients(supernet, ours), gradients(oracle, plain), oracle) < TOLERANCE


def test_a_missing_compiler_is_an_error_that_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"set operation\.kernel=torch"):
        WeightGradient(compilers=("no-such-compiler",))


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("held", [False, True])
def test_a_separable_convolution_can_be_differentiated_twice(held: bool, size: int, dilation: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, size, size, dtype=torch.float64, requires_grad=not held)
    mixing = torch.randn(2, 2, 1, 1, dtype=torch.float64, requires_grad=not held)
    assert torch.autograd.gradcheck(lambda *leaves: separable(*leaves, 1, dilation), (maps, weight, mixing))
    if not held:
        assert torch.autograd.gradgradcheck(lambda *leaves: separable(*leaves, 1, dilation), (maps, weight, mixing))


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("height", [7, 8])
def test_dilation_at_stride_two_is_pytorchs(height: int, size: int) -> None:
    maps, weight = torch.randn(2, 2, height, 8, dtype=torch.float64), torch.randn(2, 1, size, size, dtype=torch.float64)
    plain = torch.nn.functional.conv2d(maps, weight, None, 2, size - 1, 2, groups=2)
    torch.testing.assert_close(depthwise(maps, weight, 2, 2), plain, rtol=1e-13, atol=1e-13)
