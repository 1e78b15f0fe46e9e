"""The interface of a user-defined candidate operation, for spaces that mix modules on feature maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class Operation(Protocol):
    """One kind of operation, named `name` in `space.operations` and in genotypes.

    `parameter_free`: it has no weights, so metrics count kept edges with it as they count pools and skips.
    """

    name: str
    parameter_free: bool

    def build(self, channels: int, stride: int) -> nn.Module:
        """Build a module from [N, channels, H, W] to [N, channels, H / stride, W / stride], sizes rounded up.

        An ordinary module: its batch norms may be nn.BatchNorm2d, which follow the search's batch-norm policy. It must
        not draw random numbers, nor keep state outside parameters and batch norms.
        """
        ...
