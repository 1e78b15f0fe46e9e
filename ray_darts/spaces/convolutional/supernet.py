"""The convolutional supernet: stem, cells that mix all operations, classifier (arXiv:1806.09055, section 3.1).

Suffixes: N samples, C channels, H W pixels, E edges, K operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS, SupernetOptions
from ray_darts.spaces.batch_norm import use_kernel
from ray_darts.spaces.classification import ClassifyingSupernet
from ray_darts.spaces.convolutional.branches import NARROW, by_source, grouped, separate
from ray_darts.spaces.convolutional.cell import CellShape, SearchCell
from ray_darts.spaces.convolutional.space import ConvolutionalSpace, kind_of_cell, reduction_layers
from ray_darts.spaces.convolutional.stem import Stem
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.mixing import cell_mixtures
from ray_darts.spaces.supernet import MixingWeights


class ConvolutionalSupernet(ClassifyingSupernet):
    """Cells at layers // 3 and 2 * layers // 3 are reductions and double the channels.

    `formulation`: how convolutions are called; the function is the same. `checkpoint_cells`: keep only each cell's
    inputs and recompute the cell in the backward pass, updating statistics once. `kernel`: computes separable
    convolutions (of the separate formulation) and batch norms for the maps that it supports.
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
        self._checkpoint_cells, self._skips_zeros = checkpoint_cells, options.skips_zeros
        convolutions = grouped if formulation == "grouped" else partial(separate, kernel=kernel)
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
            compiled = None if narrow or formulation == "grouped" else kernel
            self.cells.append(SearchCell(cell_layout, shape, by_source if narrow else convolutions, compiled))
            before, previous, halving = previous, space.nodes * channels, reduction
        self.classifier = nn.Linear(previous, facts.num_classes)
        if kernel is not None:
            use_kernel(self, kernel)

    @property
    def layers_of_cells(self) -> Mapping[str, int]:
        """Of the kinds that the network has."""
        return Counter(cell.kind for cell in self.cells if isinstance(cell, SearchCell))

    def logits(self, images_NCHW: Tensor, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> Tensor:
        """Class scores [N, classes]."""
        images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
        before, previous = self.stem(images_NCHW, batch_statistics=batch_statistics, update=update)
        mixtures = cell_mixtures(self.layout, mixing, skips_zeros=self._skips_zeros, draws=self.draws)
        for cell in self.cells:
            assert isinstance(cell, SearchCell)
            mixture = next(mixtures[cell.kind])
            before, previous = previous, self._run(cell, before, previous, mixture, batch_statistics, update)
        scores: Tensor = self.classifier(previous.mean((2, 3)))
        return scores

    def _run(self, cell: SearchCell, *inputs: object) -> Tensor:
        if not (self._checkpoint_cells and torch.is_grad_enabled()):
            return cell(*inputs)  # type: ignore[no-any-return]

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), cell.recomputing()

        return checkpoint(  # type: ignore[no-any-return]
            cell, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
        )
