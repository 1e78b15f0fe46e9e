"""The network of a genotype, to be trained from scratch (arXiv:1806.09055, section 3.1.2 and appendix A.2.1).

Batch norms are affine and pools have none. `train()` and `eval()` switch statistics, drop-path and the auxiliary head,
as in any PyTorch module. Knows no alphas. Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.data.batch import Batch, Draws
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import CellGenotype, Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.registry import find_operation
from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.classification import ClassifyingNetwork, Scores
from ray_darts.spaces.convolutional.operations import CONVOLUTIONS
from ray_darts.spaces.convolutional.positive_pointwise import halve
from ray_darts.spaces.convolutional.space import KNOWN, NOISE, SKIP, NetworkOptions, kind_of_cell, reduction_layers
from ray_darts.spaces.convolutional.stem import Stem, StemKind
from ray_darts.spaces.layers import POOLS, Layers, Pool
from ray_darts.spaces.own_operations import PassPolicy, build_operation, check_operation
from ray_darts.spaces.recomputing import RecomputableLayers, recomputed


class Halve(nn.Module):
    """The two 1x1 stride-2 convolutions of a factorised reduce."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.second = nn.Conv2d(inputs, outputs // 2, 1, bias=False)

    def forward(self, inputs_NCHW: Tensor) -> Tensor:
        """Half the height and width, rounded up."""
        return torch.cat(halve(inputs_NCHW, self.first.weight, self.second.weight), dim=1)


def _preprocessing(inputs: int, outputs: int, *, halving: bool = False) -> Layers:
    convolution = Halve(inputs, outputs) if halving else nn.Conv2d(inputs, outputs, 1, bias=False)
    return Layers(nn.ReLU(), convolution, BatchNorm(outputs, affine=True))


class Noise(nn.Module):
    """Standard normal numbers of a batch, `name` their own among its random numbers; zeros, their mean, where there is
    no batch, as in an exported network."""

    def __init__(self, name: str, stride: int) -> None:
        super().__init__()
        self._name, self._stride = name, stride
        self.draws: Draws | None = None

    def forward(self, inputs_NCHW: Tensor) -> Tensor:
        """[N, C, H / stride, W / stride], rounded up; of the input only the shape is used."""
        like = inputs_NCHW[:, :, :: self._stride, :: self._stride]
        if self.draws is None or not self.draws.total:
            return torch.zeros_like(like)
        return self.draws.normal(self._name, like.shape, batch_dim=0, like=like)


def _operation(name: str, channels: int, stride: int, policy: PassPolicy) -> nn.Module:
    if name in POOLS:
        return Pool(name, stride)
    if name == SKIP:
        return nn.Identity() if stride == 1 else _preprocessing(channels, channels, halving=True)
    if name not in CONVOLUTIONS:
        return build_operation(find_operation(name), channels, stride, policy)
    shape = CONVOLUTIONS[name]
    layers: list[nn.Module] = []
    for repeat in range(shape.repeats):
        own_stride = stride if repeat == 0 else 1
        layers += [
            nn.ReLU(),
            nn.Conv2d(
                channels,
                channels,
                shape.kernel,
                own_stride,
                shape.padding,
                shape.dilation,
                groups=channels,
                bias=False,
            ),
            nn.Conv2d(channels, channels, 1, bias=False),
            BatchNorm(channels, affine=True),
        ]
    return Layers(*layers)


class DerivedCell(RecomputableLayers):
    """One cell of a genotype."""

    def __init__(
        self,
        genotype: CellGenotype,
        inputs: tuple[int, int],
        channels: int,
        layer: int,
        *,
        reduction: bool,
        halving: bool,
    ) -> None:
        super().__init__()
        self._genotype, self._policy = genotype, PassPolicy()
        self._has_own = not {name for node in genotype.nodes for name, _ in node} <= set(KNOWN)
        self.preprocess = nn.ModuleList(
            [_preprocessing(inputs[0], channels, halving=halving), _preprocessing(inputs[1], channels)]
        )
        self.operations = nn.ModuleList()
        for target, node in enumerate(genotype.nodes):
            for name, source in node:
                stride = 2 if reduction and source < genotype.num_inputs else 1
                place = f"noise.{layer}.{source}.{target}"
                self.operations.append(
                    Noise(place, stride) if name == NOISE else _operation(name, channels, stride, self._policy)
                )

    def forward(self, before: Tensor, previous: Tensor, kept: Tensor | None) -> Tensor:
        """`kept` [edges, N, 1, 1, 1]: the drop-path factor of each edge and sample, or None."""
        if self._has_own:  # a compiler cannot repeat a cell that sets attributes
            self._policy.batch_statistics = self._policy.update = self.training
        states = [module(state) for module, state in zip(self.preprocess, (before, previous), strict=True)]
        edge = 0
        for node in self._genotype.nodes:
            terms = []
            for _, source in node:
                operation = self.operations[edge]
                term = operation(states[source])
                if kept is not None and not isinstance(operation, nn.Identity):
                    term = term * kept[edge]
                terms.append(term)
                edge += 1
            if not terms:  # no connection and no output uses this state
                terms = [states[0]]
            states.append(torch.stack(terms).sum(0) if len(terms) > 2 else sum(terms[1:], terms[0]))
        return torch.cat([states[index] for index in self._genotype.outputs], dim=1)


class AuxiliaryHead(nn.Module):
    """A second classifier in the middle of the network, for training only.

    Five by five average pool (stride 3, ImageNet 2), 1x1 convolution to 128, 2x2 convolution to 768, linear.
    Raises: ConfigError unless the input of its 2x2 convolution is a 2x2 map.
    """

    def __init__(self, kind: StemKind, channels: int, map_size: int, num_classes: int) -> None:
        super().__init__()
        stride = 3 if kind == "cifar" else 2
        if (map_size - 5) // stride + 1 != 2:
            wanted = "8 to 10" if kind == "cifar" else "7 or 8"
            raise ConfigError(
                f"an auxiliary head needs a map of {wanted} pixels after two thirds of the cells, not {map_size}: "
                "train without it, or choose another image size or stem"
            )
        last = BatchNorm(768, affine=True) if kind == "cifar" else nn.Identity()
        self.features = Layers(
            nn.ReLU(),
            nn.AvgPool2d(5, stride, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            BatchNorm(128, affine=True),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            last,
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, states_NCHW: Tensor) -> Tensor:
        """Class scores [N, classes]."""
        scores: Tensor = self.classifier(self.features(states_NCHW).flatten(1))
        return scores


class ConvolutionalNetwork(ClassifyingNetwork):
    """Stem, the genotype's cells with reductions at a third and two thirds of `layers`, classifier."""

    def __init__(self, genotype: Genotype, facts: DataFacts, options: NetworkOptions) -> None:
        super().__init__()
        for name in {name for cell in genotype.cells for node in cell.nodes for name, _ in node} - set(KNOWN):
            check_operation(find_operation(name), options.channels)
        layers, channels, stem = options.layers, options.channels, options.stem
        self.stem = Stem(stem, facts.channels, channels, 0.1)
        self.cells = nn.ModuleList()
        self.auxiliary: AuxiliaryHead | None = None
        before, previous = self.stem.channels
        halving, size = self.stem.halving, facts.image_size if stem == "cifar" else -(-facts.image_size // 8)
        kinds = [cell.name for cell in genotype.cells]
        self._auxiliary_layer = reduction_layers(layers)[1]
        for layer in range(layers):
            reduction = layer in reduction_layers(layers)
            if reduction:
                channels, size = 2 * channels, -(-size // 2)
            cell = genotype.cell(kind_of_cell(kinds, reduction=reduction))
            inputs = before, previous
            self.cells.append(DerivedCell(cell, inputs, channels, layer, reduction=reduction, halving=halving))
            before, previous, halving = previous, channels * len(cell.outputs), reduction
            if options.auxiliary and layer == self._auxiliary_layer:
                self.auxiliary = AuxiliaryHead(stem, previous, size, facts.num_classes)
        self.classifier = nn.Linear(previous, facts.num_classes)
        self._noises = [module for module in self.modules() if isinstance(module, Noise)]

    def forward(self, images_NCHW: Tensor, draws: Draws | None = None, drop_path: float = 0.0) -> Scores:
        """Score images; in training `drop_path` is the probability that an edge (identities excepted) drops a sample.

        `draws`: the batch's random numbers, needed with drop-path.
        """
        images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
        for module in self._noises:
            module.draws = draws
        before, previous = self.stem(images_NCHW, batch_statistics=self.training, update=self.training)
        auxiliary = None
        run = recomputed if self.recomputes_cells and self.training else DerivedCell.__call__
        for layer, cell in enumerate(self.cells):
            assert isinstance(cell, DerivedCell)
            kept = None
            if self.training and drop_path > 0 and draws is not None:
                shape = (len(cell.operations), len(images_NCHW), 1, 1, 1)
                kept = draws.keep_mask(f"drop_path.{layer}", shape, 1 - drop_path, batch_dim=1, like=previous)
            before, previous = previous, run(cell, before, previous, kept)
            if layer == self._auxiliary_layer and self.auxiliary is not None and self.training:
                auxiliary = self.auxiliary(previous)
        return Scores(self.classifier(F.adaptive_avg_pool2d(previous, 1).flatten(1)), auxiliary)

    def score(self, batch: Batch, drop_path: float) -> Scores:
        """Score the batch's images."""
        scores: Scores = self(batch.inputs, batch.draws, drop_path)
        return scores

    @property
    def main_parameters(self) -> int:
        """Without the auxiliary head."""
        head = self.auxiliary
        return super().main_parameters - (0 if head is None else sum(weight.numel() for weight in head.parameters()))
