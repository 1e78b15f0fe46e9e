"""The operations of the benchmark that compute something, by name (arXiv:2001.00326, section 2.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""{name: kernel size}: ReLU, convolution, batch norm."""

AVERAGE_POOL = "avg_pool_3x3"


def average_pool(states_NCHW: Tensor) -> Tensor:
    """3x3 at stride 1, padding not counted, no batch norm."""
    return F.avg_pool2d(states_NCHW, 3, 1, 1, count_include_pad=False)
