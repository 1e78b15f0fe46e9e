"""A gain multiplies what a batch norm returns, whatever the gain's strides and with or without affine."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ray_darts.spaces.batch_norm import BatchNorm, normalise


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("synchronised", [False, True])
def test_a_gain_of_stride_zero_multiplies_values_and_gradients(affine: bool, synchronised: bool) -> None:
    torch.manual_seed(0)
    module = BatchNorm(6, affine=affine).double()
    if module.weight is not None and module.bias is not None:
        torch.nn.init.normal_(module.weight)
        torch.nn.init.normal_(module.bias)
    if synchronised:
        module.moments_reducer = torch.clone
    maps = torch.randn(3, 4, 5, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    gain = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 4, 5, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    stretched = gain.unsqueeze(1).expand(-1, 4).flatten()
    assert stretched.stride() == (0,), "the case that a kernel reads wrongly"
    ours = normalise([module.norm(1, 5, gain=stretched)], [maps], batch_statistics=True)[0]
    weight, bias = (None if p is None else p[1:5] for p in (module.weight, module.bias))
    plain = gain * F.batch_norm(maps, None, None, weight, bias, True)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    for found, wanted in zip(
        torch.autograd.grad((ours * upstream).sum(), [maps, gain]),
        torch.autograd.grad((plain * upstream).sum(), [maps, gain]),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
