"""The operations of the benchmark that compute something, by name (arXiv:2001.00326, section 2.1)."""

from __future__ import annotations

CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""{name: kernel size}: ReLU, convolution, batch norm."""

AVERAGE_POOL = "avg_pool_3x3"
"""At stride 1, without batch norm."""
