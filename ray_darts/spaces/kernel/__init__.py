"""An optional C++ kernel for the most expensive operations of a step on a CPU; PyTorch computes the same without it."""

from ray_darts.spaces.kernel.kernel import Kernel

__all__ = ["Kernel"]
