"""A pointwise convolution and its batch norm as one node are PyTorch's two, and keep one map in place of two."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ray_darts.spaces.batch_norm import BatchNorm, normalise
from ray_darts.spaces.convolutional.separable import separable, separable_before
from ray_darts.spaces.pointwise import Pointwise
from tests.spaces.test_kernel import built, needs_compiler

EPSILON = 1e-5


def leaves(*, affine: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Maps [4, 3, 5, 4], a weight [6, 3, 1, 1], a gain and a bias [6]."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    maps = normal(4, 3, 5, 4).to(memory_format=torch.channels_last).requires_grad_()
    weight = normal(6, 3, 1, 1).requires_grad_()
    return maps, weight, *((normal(6).requires_grad_(), normal(6).requires_grad_()) if affine else (None, None))


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_values_gradients_and_second_derivatives_are_pytorchs(affine: bool, by_rows: bool) -> None:
    maps, weight, gain, bias = leaves(affine=affine)
    given = [leaf for leaf in (maps, weight, gain, bias) if leaf is not None]
    running, plain_running = ((torch.zeros(6).double(), torch.ones(6).double()) for _ in range(2))
    ours = Pointwise(maps, weight, by_rows).normalised(gain, bias, running, 0.1, EPSILON)
    plain = F.batch_norm(F.conv2d(maps, weight), *plain_running, gain, bias, True, 0.1, EPSILON)
    torch.testing.assert_close((ours, running), (plain, plain_running), rtol=1e-12, atol=1e-12)
    above = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for output in (ours, plain):
        loss = (output.sin() * above).sum()
        first = torch.autograd.grad(loss, given, retain_graph=True)
        inner = torch.autograd.grad(loss, given, create_graph=True)
        second = torch.autograd.grad(torch.stack([(g * g).sum() for g in inner]).sum(), given)
        found.append((first, second))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_convolution_keeps_no_input_of_its_batch_norm(stride: int) -> None:
    mixing, kernel = (tensor.requires_grad_() for tensor in kernels())
    maps = torch.randn(2, 8, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    norm = BatchNorm(8)

    def kept(*, together: bool) -> tuple[int, Tensor, Tensor]:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            if together:
                output = normalise(
                    [norm.norm()], [separable_before(norm, maps, kernel, mixing, stride, 1)], batch_statistics=True
                )[0]
            else:
                output = norm(separable(maps, kernel, mixing, stride, 1), batch_statistics=True)
        return sum(sizes.values()), output, torch.autograd.grad(output.sin().sum(), maps, retain_graph=True)[0]

    (fewer, output, gradient), (more, plain, wanted) = kept(together=True), kept(together=False)
    assert torch.equal(output, plain)
    assert torch.equal(gradient, wanted)
    assert more - fewer >= 0.9 * 2 * 8 * (16 // stride) ** 2 * 4


def kernels() -> tuple[Tensor, Tensor]:
    """A pointwise and a depthwise weight of 8 channels."""
    torch.manual_seed(0)
    return torch.randn(8, 8, 1, 1), torch.randn(8, 1, 3, 3)


@needs_compiler
def test_only_a_local_batch_norm_of_pytorch_computes_the_convolution_before_it() -> None:
    mixing, kernel = (tensor.requires_grad_() for tensor in kernels())
    maps = torch.randn(2, 8, 4, 4)
    synchronised, compiled = BatchNorm(8), BatchNorm(8)
    synchronised.moments_reducer = lambda moments: moments
    compiled.kernel = built()
    for norm in (synchronised, compiled):
        assert isinstance(separable_before(norm, maps, kernel, mixing, 1, 1), Tensor)
    with torch.no_grad():
        assert isinstance(separable_before(BatchNorm(8), maps, kernel, mixing, 1, 1), Tensor)
    assert isinstance(separable_before(BatchNorm(8), maps, kernel, mixing.detach(), 1, 1), Tensor)
    assert isinstance(separable_before(BatchNorm(8), maps, kernel, mixing, 1, 1), Pointwise)
