"""The convolutional supernet: stem, cells that mix all operations, classifier (arXiv:1806.09055, section 3.1).

Suffixes: N samples, C channels, H W pixels, E edges, K operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS, SupernetOptions
from ray_darts.spaces.batch_norm import use_kernel
from ray_darts.spaces.classification import ClassifyingSupernet
from ray_darts.spaces.convolutional.branches import NARROW, by_source, separate
from ray_darts.spaces.convolutional.cell import CellShape, SearchCell
from ray_darts.spaces.convolutional.plan import GroupedPlans, grouped_weights
from ray_darts.spaces.convolutional.space import ConvolutionalSpace, kind_of_cell, reduction_layers
from ray_darts.spaces.convolutional.stem import Stem
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.mixing import SourceOrder, cell_mixtures
from ray_darts.spaces.recomputing import recomputed
from ray_darts.spaces.supernet import MixingWeights


class ConvolutionalSupernet(ClassifyingSupernet):
    """Cells at layers // 3 and 2 * layers // 3 are reductions and double the channels.

    `formulation`: how convolutions are called; the function is the same. `checkpoint_cells`: keep only each cell's
    inputs and recompute the cell in the backward pass, updating statistics once. `kernel`: computes batch norms, the
    convolutions before cells and, in the separate formulation, groups of edges for the maps that it supports.
    """

    def __init__(
        self,
        space: ConvolutionalSpace,
        facts: DataFacts,
        *,
        checkpoint_cells: bool = False,
        formulation: Literal["separate", "grouped"] = "separate",
        kernel: Kernel | None = None,
        options: SupernetOptions = NO_OPTIONS,
    ) -> None:
        super().__init__()
        self.layout = space.layout()
        self.order = SourceOrder(self.layout)
        self._checkpoint_cells, self._skips_zeros = checkpoint_cells, options.skips_zeros
        self._memory_format = torch.contiguous_format if formulation == "grouped" else torch.channels_last
        convolutions, plans = partial(separate, kernel=kernel), GroupedPlans(options)
        momentum = space.batch_norm_momentum
        self.stem = Stem(space.stem, facts.channels, space.channels, momentum)
        self.cells = nn.ModuleList()
        channels, halving = space.channels, self.stem.halving
        kinds = [cell.name for cell in self.layout.cells]
        before, previous = self.stem.channels
        for layer in range(space.layers):
            reduction = layer in reduction_layers(space.layers)
            channels = channels * 2 if reduction else channels
            mixed = channels // options.partial_channels
            narrow = mixed < channels and mixed <= NARROW and formulation == "separate"
            inputs = before, previous
            shape = CellShape(inputs, channels, reduction, halving, momentum, mixed, options.auxiliary_skip, layer)
            cell_layout = self.layout.cell(kind_of_cell(kinds, reduction=reduction))
            plan = plans.plan(cell_layout, mixed, reduction=reduction) if formulation == "grouped" else None
            compiled = None if narrow or formulation == "grouped" else kernel
            formulated = by_source if narrow else convolutions
            self.cells.append(SearchCell(cell_layout, shape, formulated, plan, compiled))
            before, previous, halving = previous, space.nodes * channels, reduction
        self.classifier = nn.Linear(previous, facts.num_classes)
        # With the kernel, the cells compute the ReLU of their inputs together with their first convolutions.
        self._activate = F.relu if kernel is None else _unchanged
        if kernel is not None:
            use_kernel(self, kernel)

    @property
    def layers_of_cells(self) -> Mapping[str, int]:
        """Of the kinds that the network has."""
        return Counter(cell.kind for cell in self.cells if isinstance(cell, SearchCell))

    def logits(self, images_NCHW: Tensor, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> Tensor:
        """Class scores [N, classes]."""
        images_NCHW = images_NCHW.contiguous(memory_format=self._memory_format)
        older, state = self.stem(images_NCHW, batch_statistics=batch_statistics, update=update)
        cells = [cell for cell in self.cells if isinstance(cell, SearchCell)]
        by_kind = cell_mixtures(self.layout, mixing, self.order.rows, skips_zeros=self._skips_zeros, draws=self.draws)
        mixtures = [next(by_kind[cell.kind]) for cell in cells]
        grouped = grouped_weights([cell.plan for cell in cells], mixtures)
        before = self._activate(older)
        run = recomputed if self._checkpoint_cells else SearchCell.__call__
        for cell, mixture, weights in zip(cells, mixtures, grouped, strict=True):
            activated = before if state is older else self._activate(state)
            state = run(cell, before, activated, mixture, weights, batch_statistics, update)
            before = activated
        scores: Tensor = self.classifier(state.mean((2, 3)))
        return scores


def _unchanged(state_NCHW: Tensor) -> Tensor:
    return state_NCHW
