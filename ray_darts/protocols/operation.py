"""A candidate operation of a user's own, for spaces that mix modules on feature maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class Operation(Protocol):
    """One kind of operation, known by `name` in `space.operations` and in genotypes.

    `parameter_free`: it has no weights, so cells that keep many of it are watched as they are for pools and skips.
    """

    name: str
    parameter_free: bool

    def build(self, channels: int, stride: int) -> nn.Module:
        """A new module from [N, channels, H, W] to [N, channels, H / stride, W / stride], sizes rounded up.

        It is an ordinary module: batch norms may be nn.BatchNorm2d, which follow the search's batch-norm policy. It
        draws no random numbers of its own and keeps no state outside parameters and batch norms.
        """
        ...
