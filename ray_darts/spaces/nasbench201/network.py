"""The network of a genotype, to be trained from scratch (arXiv:2001.00326, section 2.1).

Batch norms are affine. `train()` and `eval()` switch their statistics, as in any PyTorch module. Knows no alphas.
Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ray_darts.data.batch import Batch
from ray_darts.genotype.genotype import NONE, CellGenotype, Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.classification import ClassifyingNetwork, Scores
from ray_darts.spaces.layers import Layers, Pool
from ray_darts.spaces.mixing import add_up
from ray_darts.spaces.nasbench201.operations import AVERAGE_POOL, CONVOLUTIONS
from ray_darts.spaces.nasbench201.skeleton import Skeleton
from ray_darts.spaces.nasbench201.space import SKIP, NetworkOptions
from ray_darts.spaces.recomputing import RecomputableLayers, recomputed


def _operation(name: str, channels: int) -> nn.Module:
    if name == SKIP:
        return nn.Identity()
    if name not in CONVOLUTIONS:
        return Pool(AVERAGE_POOL, 1)
    size = CONVOLUTIONS[name]
    convolution = nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)
    return Layers(nn.ReLU(), convolution, BatchNorm(channels, affine=True))


class DerivedCell(RecomputableLayers):
    """One cell of a genotype. Edges that are `none` are absent; a node with no other edges is zero.

    Weights of edges that do not reach the output get no gradient.
    """

    def __init__(self, genotype: CellGenotype, channels: int) -> None:
        super().__init__()
        self._nodes = [[connection for connection in node if connection.operation != NONE] for node in genotype.nodes]
        self.operations = nn.ModuleList([_operation(name, channels) for node in self._nodes for name, _ in node])

    def forward(self, state: Tensor) -> Tensor:
        """[N, C, H, W] to the same: the last node."""
        states = [state]
        operations = iter(self.operations)
        for node in self._nodes:
            terms = [next(operations)(states[source]) for _, source in node]
            states.append(add_up(terms) if terms else torch.zeros_like(state))
        return states[-1]


class NasBench201Network(ClassifyingNetwork):
    """Stem, three stages of the genotype's cell with residual blocks between, classifier."""

    def __init__(self, genotype: Genotype, facts: DataFacts, options: NetworkOptions) -> None:
        super().__init__()
        (cell,) = genotype.cells
        self.skeleton = Skeleton(
            facts, options.channels, options.cells_per_stage, 0.1, lambda channels: DerivedCell(cell, channels)
        )

    def forward(self, images_NCHW: Tensor) -> Scores:
        """Score images [N, channels, H, W]."""
        training = self.training

        def run(cell: nn.Module, state: Tensor) -> Tensor:
            assert isinstance(cell, DerivedCell)
            return recomputed(cell, state) if self.recomputes_cells and training else cell(state)

        return Scores(self.skeleton(images_NCHW, run, batch_statistics=training, update=training), None)

    def score(self, batch: Batch, drop_path: float) -> Scores:
        """Score the batch's images; the benchmark's networks have no drop-path."""
        scores: Scores = self(batch.inputs)
        return scores
