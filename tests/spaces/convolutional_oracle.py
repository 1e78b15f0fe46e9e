"""The convolutional supernet as the paper draws it: edge by edge, a module call per operation, NCHW, all operations.
Shares only settings, layout and the Supernet protocol, so that the same search step runs around either network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.data.batch import Batch
from ray_darts.genotype.layout import CellLayout, Edge
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass, Supernet


class PlainNorm(nn.BatchNorm2d):
    """Batch statistics; running ones move only while `moving`."""

    moving = True

    def forward(self, input: Tensor) -> Tensor:
        """As nn.BatchNorm2d in training mode, or without its buffers."""
        if not self.training or self.moving:
            return super().forward(input)
        return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


def norm(channels: int, momentum: float, *, affine: bool = False) -> PlainNorm:
    """A batch norm, without affine unless asked for."""
    return PlainNorm(channels, momentum=momentum, affine=affine)


class Zero(nn.Module):
    """`none`: zeros, subsampled at stride 2."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by zero."""
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class FactorisedReduce(nn.Module):
    """Two 1x1 stride-2 convolutions, on x and on x shifted by one pixel; odd maps padded with zeros after ReLU."""

    def __init__(self, inputs: int, outputs: int, momentum: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.second = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = norm(outputs, momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Halve height and width, rounding up."""
        x = F.relu(x)
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        halves = torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1)
        return self.norm(halves)  # type: ignore[no-any-return]


def relu_conv_norm(inputs: int, outputs: int, momentum: float) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs, momentum))


def convolution(channels: int, kernel: int, stride: int, dilation: int, momentum: float) -> list[nn.Module]:
    """ReLU, depthwise, pointwise, batch norm."""
    padding = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels, momentum),
    ]


def operation(name: str, channels: int, stride: int, momentum: float) -> nn.Module:
    """One candidate."""
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorisedReduce(channels, channels, momentum)
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(channels, momentum))
    if name == "avg_pool_3x3":
        return nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(channels, momentum))
    kernel = int(name[-1])
    if name.startswith("dil"):
        return nn.Sequential(*convolution(channels, kernel, stride, 2, momentum))
    first = convolution(channels, kernel, stride, 1, momentum)
    return nn.Sequential(*first, *convolution(channels, kernel, 1, 1, momentum))


class MixedEdge(nn.Module):
    """Sum over operations of softmax(alpha) times the operation."""

    def __init__(self, names: Sequence[str], channels: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({name: operation(name, channels, stride, momentum) for name in names})

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """`weights` [operations]."""
        terms = [weight * op(x) for weight, op in zip(weights, self.operations.values(), strict=True)]
        return torch.stack(terms).sum(0) if len(terms) == 1 else sum(terms[1:], terms[0])


class OracleCell(nn.Module):
    """Every edge by itself."""

    def __init__(
        self,
        layout: CellLayout,
        inputs: tuple[int, int],
        channels: int,
        reduction: bool,
        halving: bool,
        momentum: float,
    ) -> None:
        super().__init__()
        self.layout, self.channels, self.reduction = layout, channels, reduction
        older = FactorisedReduce if halving else relu_conv_norm
        self.preprocess = nn.ModuleList(
            [older(inputs[0], channels, momentum), relu_conv_norm(inputs[1], channels, momentum)]
        )
        self.edges = nn.ModuleList(
            [
                MixedEdge(layout.operations, channels, 2 if reduction and edge.source < 2 else 1, momentum)
                for edge in layout.edges
            ]
        )

    def forward(self, before: Tensor, previous: Tensor, weights: Tensor) -> Tensor:
        """Concatenate all nodes."""
        states = [self.preprocess[0](before), self.preprocess[1](previous)]
        for node in range(self.layout.num_nodes):
            rows = [row for row, edge in enumerate(self.layout.edges) if edge.target == node + 2]
            terms = [self.edges[row](states[self.layout.edges[row].source], weights[row]) for row in rows]
            states.append(sum(terms[1:], terms[0]))
        return torch.cat(states[2:], dim=1)


class OracleSupernet(Supernet):
    """Stem, cells, classifier."""

    sum_names = ("loss_sum", "correct", "samples")

    def __init__(self, space: ConvolutionalSpace, facts: DataFacts) -> None:
        super().__init__()
        self.layout, momentum = space.layout(), space.batch_norm_momentum
        wide = space.channels
        sizes = [(facts.channels, 3 * wide, 1)]
        if space.stem == "imagenet":
            sizes = [(facts.channels, wide // 2, 2), (wide // 2, wide, 2), (wide, wide, 2)]
        self.stem = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), norm(b, momentum, affine=True))
                for a, b, stride in sizes
            ]
        )
        self.cells = nn.ModuleList()
        before = previous = sizes[-1][1]
        halving = space.stem == "imagenet"
        for layer in range(space.layers):
            reduction = layer in (space.layers // 3, 2 * space.layers // 3)
            wide = 2 * wide if reduction else wide
            cell = self.layout.cell("reduction" if reduction else "normal")
            self.cells.append(OracleCell(cell, (before, previous), wide, reduction, halving, momentum))
            before, previous, halving = previous, space.nodes * wide, reduction
        self.classifier = nn.Linear(previous, facts.num_classes)

    def logits(self, images: Tensor, mixing: MixingWeights) -> Tensor:
        """Class scores [N, classes]."""
        states = [images.contiguous()]
        for index, layer in enumerate(self.stem):
            states.append(layer(F.relu(states[-1]) if index else states[-1]))
        before, previous = states[-2 if len(self.stem) > 1 else -1], states[-1]
        for cell in self.cells:
            assert isinstance(cell, OracleCell)
            weights = mixing["reduction" if cell.reduction else "normal"]
            before, previous = previous, cell(before, previous, weights)
        scores: Tensor = self.classifier(F.adaptive_avg_pool2d(previous, 1).flatten(1))
        return scores

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        """Cross entropy; statistics move in the weight step."""
        for module in self.modules():
            if isinstance(module, PlainNorm):
                module.moving = purpose is Pass.WEIGHT
        return self._output(batch, mixing)

    @torch.no_grad()
    def evaluate(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        """Cross entropy by running statistics."""
        self.eval()
        output = self._output(batch, mixing)
        self.train()
        return output

    def _output(self, batch: Batch, mixing: MixingWeights) -> LossOutput:
        scores = self.logits(batch.inputs, mixing)
        loss = F.cross_entropy(scores, batch.targets)
        correct = (scores.argmax(1) == batch.targets).sum().to(loss.dtype)
        count = torch.full_like(loss.detach(), batch.num_samples)
        return LossOutput(loss, None, torch.stack([loss.detach() * batch.num_samples, correct, count]))

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """Loss and accuracy."""
        return {f"{prefix}_loss": totals[0] / totals[2], f"{prefix}_accuracy": totals[1] / totals[2]}


@dataclass(frozen=True)
class Match:
    """The oracle's tensor `plain` is `stacked`[part] of the supernet."""

    plain: str
    stacked: str
    part: int | slice


def matches(oracle: OracleSupernet) -> Iterator[Match]:
    """Every parameter and running statistic of the oracle, and where the supernet keeps it."""
    whole = slice(None)
    for index in range(len(oracle.stem)):
        yield Match(f"stem.{index}.0.weight", f"stem.layers.{index}.weight", whole)
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield Match(f"stem.{index}.1.{name}", f"stem.layers.{index}.batch_norm.{name}", whole)
    for name in ("classifier.weight", "classifier.bias"):
        yield Match(name, name, whole)
    for index, cell in enumerate(oracle.cells):
        assert isinstance(cell, OracleCell)
        for match in _cell_matches(cell):
            yield Match(f"cells.{index}.{match.plain}", f"cells.{index}.{match.stacked}", match.part)


def _cell_matches(cell: OracleCell) -> Iterator[Match]:
    for index, module in enumerate(cell.preprocess):
        weights = ("first", "second") if isinstance(module, FactorisedReduce) else ("1",)
        for number, name in enumerate(weights):
            yield Match(f"preprocess.{index}.{name}.weight", f"preprocess.{index}.weights.{number}", slice(None))
        last = "norm" if isinstance(module, FactorisedReduce) else "2"
        yield from _norm_matches(f"preprocess.{index}.{last}", f"preprocess.{index}.batch_norm", slice(None))
    edges = cell.layout.edges
    by_source = sorted(range(len(edges)), key=lambda row: edges[row])
    channels = cell.channels
    for place, row_of_edge in enumerate(by_source):
        edge = cell.edges[row_of_edge]
        assert isinstance(edge, MixedEdge)
        for name, module in edge.operations.items():
            plain = f"edges.{row_of_edge}.operations.{name}"
            part = slice(place * channels, (place + 1) * channels)
            if isinstance(module, FactorisedReduce):
                yield Match(f"{plain}.first.weight", "reduce.first", place)
                yield Match(f"{plain}.second.weight", "reduce.second", place)
                yield from _norm_matches(f"{plain}.norm", "reduce.batch_norm", part)
            elif "pool" in name:
                source = edges[row_of_edge].source
                shared = slice(source * channels, (source + 1) * channels)
                yield from _norm_matches(f"{plain}.1", f"pools.{name}", shared)
            elif isinstance(module, nn.Sequential):
                for stage in range(len(module) // 4):
                    row = _row(cell.layout, edges[row_of_edge], name, stage)
                    features = slice(row * channels, (row + 1) * channels)
                    stacked = f"stages.{stage}"
                    yield Match(f"{plain}.{4 * stage + 1}.weight", f"{stacked}.depthwise.{name}", place)
                    yield Match(f"{plain}.{4 * stage + 2}.weight", f"{stacked}.pointwise", row)
                    yield from _norm_matches(f"{plain}.{4 * stage + 3}", f"{stacked}.batch_norm", features)


def _row(layout: CellLayout, edge: Edge, name: str, stage: int) -> int:
    """Where a stage keeps an edge's operation: by group (both inputs, then node by node), operation, edge."""

    def group(other: Edge) -> int:
        return max(other.source, 1)

    names = [other for other in layout.operations if "conv" in other and (stage == 0 or "sep" in other)]
    every = [(group(other), operation, other) for operation in names for other in layout.edges]
    order = sorted(every, key=lambda item: (item[0], names.index(item[1]), item[2]))
    return order.index((group(edge), name, edge))


def _norm_matches(plain: str, stacked: str, part: slice) -> Iterator[Match]:
    for name in ("running_mean", "running_var"):
        yield Match(f"{plain}.{name}", f"{stacked}.{name}", part)


def copy_into_oracle(supernet: Supernet, oracle: OracleSupernet) -> None:
    """Give the oracle the supernet's weights and statistics."""
    ours = {**dict(supernet.named_parameters()), **dict(supernet.named_buffers())}
    plain = {**dict(oracle.named_parameters()), **dict(oracle.named_buffers())}
    with torch.no_grad():
        for match in matches(oracle):
            plain[match.plain].copy_(ours[match.stacked][match.part])
