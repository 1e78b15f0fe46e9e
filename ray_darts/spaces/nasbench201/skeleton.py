"""The network around the cells, in the supernet and in derived networks; batch norms here are affine.

Stem, three stages of N cells, a residual block before the second and the third, head (arXiv:2001.00326, figure 1).
Knows no alphas and no genotype. Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.layers import ConvBn, convolution_weight

NUM_STAGES = 3


class ResidualBlock(nn.Module):
    """Two ReLU-3x3-BN, the first of stride 2, beside a 2x2 average pool and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, momentum: float) -> None:
        super().__init__()
        self.first = ConvBn(inputs, outputs, 2, momentum)
        self.second = ConvBn(outputs, outputs, 1, momentum)
        self.shortcut = convolution_weight(outputs, inputs, 1, 1)

    def forward(self, states_NCHW: Tensor, *, batch_statistics: bool, update: bool) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / 2, W / 2], rounded up.

        A departure from the benchmark, which has no odd maps: on those the last row and column are pooled alone.
        """
        half = self.first(F.relu(states_NCHW), batch_statistics=batch_statistics, update=update)
        half = self.second(F.relu(half), batch_statistics=batch_statistics, update=update)
        pooled = F.avg_pool2d(states_NCHW, 2, 2, ceil_mode=True)
        return half + F.conv2d(pooled, self.shortcut)  # type: ignore[no-any-return]


class Skeleton(nn.Module):
    """A classifier around the cells built by `make_cell(channels)`, each from [N, channels, H, W] to the same."""

    def __init__(
        self,
        facts: DataFacts,
        channels: int,
        cells_per_stage: int,
        momentum: float,
        make_cell: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self._cells_per_stage = cells_per_stage
        widths = [channels * 2**stage for stage in range(NUM_STAGES)]
        self.stem = ConvBn(facts.channels, channels, 1, momentum)
        self.cells = nn.ModuleList([make_cell(width) for width in widths for _ in range(cells_per_stage)])
        self.blocks = nn.ModuleList(
            [ResidualBlock(width, 2 * width, momentum) for width in widths[:-1]]  # each doubles the channels
        )
        self.batch_norm = BatchNorm(widths[-1], momentum=momentum, affine=True)
        self.classifier = nn.Linear(widths[-1], facts.num_classes)

    def forward(
        self,
        images_NCHW: Tensor,
        run: Callable[[nn.Module, Tensor], Tensor],
        *,
        batch_statistics: bool,
        update: bool,
    ) -> Tensor:
        """Class scores [N, classes]; `run(cell, state)` calls a cell, the flags are `batch_norm.normalise`'s."""
        images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
        state: Tensor = self.stem(images_NCHW, batch_statistics=batch_statistics, update=update)
        for stage, cells in enumerate(self._stages()):
            if stage > 0:
                state = self.blocks[stage - 1](state, batch_statistics=batch_statistics, update=update)
            for cell in cells:
                state = run(cell, state)
        state = F.relu(self.batch_norm(state, batch_statistics=batch_statistics, update=update))
        scores: Tensor = self.classifier(state.mean((2, 3)))
        return scores

    def _stages(self) -> Iterator[list[nn.Module]]:
        cells = list(self.cells)
        return (cells[start : start + self._cells_per_stage] for start in range(0, len(cells), self._cells_per_stage))
