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
from tests.spaces.edge_oracle import FactorisedReduce, PartialEdge, PlainNorm, norm, operation, relu_conv_norm


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
        parts: int,
        auxiliary: bool,
    ) -> None:
        super().__init__()
        self.layout, self.mixed, self.reduction = layout, channels // parts, reduction
        older = FactorisedReduce if halving else relu_conv_norm
        self.preprocess = nn.ModuleList(
            [older(inputs[0], channels, momentum), relu_conv_norm(inputs[1], channels, momentum)]
        )
        self.edges = nn.ModuleList(
            [
                PartialEdge(layout.operations, channels, 2 if reduction and edge.source < 2 else 1, momentum, parts)
                for edge in layout.edges
            ]
        )
        if auxiliary:
            for edge in self.edges:
                assert isinstance(edge, PartialEdge)
                edge.auxiliary = operation("skip_connect", self.mixed, edge.stride, momentum)

    def forward(
        self, before: Tensor, previous: Tensor, weights: Tensor, edges: Tensor, auxiliary: Tensor | None
    ) -> Tensor:
        """Concatenate all nodes; `edges`: the weight of each edge."""
        states = [self.preprocess[0](before), self.preprocess[1](previous)]
        for node in range(self.layout.num_nodes):
            rows = [row for row, edge in enumerate(self.layout.edges) if edge.target == node + 2]
            terms = [
                edges[row] * self.edges[row](states[self.layout.edges[row].source], weights[row], auxiliary)
                for row in rows
            ]
            states.append(sum(terms[1:], terms[0]))
        return torch.cat(states[2:], dim=1)


class OracleSupernet(Supernet):
    """Stem, cells, classifier."""

    sum_names = ("loss_sum", "correct", "samples")

    def __init__(self, space: ConvolutionalSpace, facts: DataFacts, *, parts: int = 1, auxiliary: bool = False) -> None:
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
            self.cells.append(
                OracleCell(cell, (before, previous), wide, reduction, halving, momentum, parts, auxiliary)
            )
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
            name = "reduction" if cell.reduction else "normal"
            edges = mixing.get(f"edges.{name}", torch.ones(len(mixing[name])))
            auxiliary = mixing.get("auxiliary_skip")
            before, previous = previous, cell(before, previous, mixing[name], edges, auxiliary)
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
    channels = cell.mixed
    for place, row_of_edge in enumerate(by_source):
        edge = cell.edges[row_of_edge]
        assert isinstance(edge, PartialEdge)
        part = slice(place * channels, (place + 1) * channels)
        if isinstance(edge.auxiliary, FactorisedReduce):
            plain = f"edges.{row_of_edge}.auxiliary"
            yield Match(f"{plain}.first.weight", "auxiliary_reduce.first", place)
            yield Match(f"{plain}.second.weight", "auxiliary_reduce.second", place)
            yield from _norm_matches(f"{plain}.norm", "auxiliary_reduce.batch_norm", part)
        for name, module in edge.mixed.operations.items():
            plain = f"edges.{row_of_edge}.mixed.operations.{name}"
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
