"""The NAS-Bench-201 supernet as the paper draws it: edge by edge, a module per operation, NCHW, all operations.

Independent of the package's layers, cells and batch norm. Edges are named by the layout's rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.nasbench201.space import NasBench201Space

EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
"""(source, node) in the order of the alphas' rows."""


class PlainNorm(nn.BatchNorm2d):
    """Batch statistics in training mode; running ones move only while `moving`."""

    moving = True

    def forward(self, input: Tensor) -> Tensor:
        """As nn.BatchNorm2d, or without its buffers."""
        if not self.training or self.moving:
            return super().forward(input)
        return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


class Zero(nn.Module):
    """`none`."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by zero."""
        return x.mul(0.0)


def relu_conv_norm(inputs: int, outputs: int, size: int, stride: int, norm: PlainNorm) -> nn.Sequential:
    """ReLU, convolution, batch norm."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), norm)


def operation(name: str, channels: int, norm: PlainNorm) -> nn.Module:
    """One candidate."""
    plain: dict[str, nn.Module] = {
        "none": Zero(),
        "skip_connect": nn.Identity(),
        "avg_pool_3x3": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    }
    return plain[name] if name in plain else relu_conv_norm(channels, channels, int(name[-1]), 1, norm)


class OracleCell(nn.Module):
    """Every edge by itself."""

    def __init__(self, names: Sequence[str], channels: int, momentum: float, affine: bool, parts: int) -> None:
        super().__init__()
        self.parts, channels = parts, channels // parts
        self.edges = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: operation(name, channels, PlainNorm(channels, momentum=momentum, affine=affine))
                    for name in names
                }
            )
            for _ in EDGES
        )

    def forward(self, x: Tensor, weights: Tensor, edges: Tensor, auxiliary: Tensor) -> Tensor:
        """The last node; `weights` [6, operations], `edges` [6]; `auxiliary`: of another skip connection."""
        states = [x]
        for node in (1, 2, 3):
            total = torch.zeros_like(x)
            for row, (source, target) in enumerate(EDGES):
                if target == node:
                    size = x.shape[1] // self.parts
                    first, rest = states[source][:, :size], states[source][:, size:]
                    mixed = auxiliary * first
                    for weight, candidate in zip(
                        weights[row], cast(nn.ModuleDict, self.edges[row]).values(), strict=True
                    ):
                        mixed = mixed + weight * candidate(first)
                    order = [c % self.parts * size + c // self.parts for c in range(x.shape[1])]
                    total = total + edges[row] * torch.cat([mixed, rest], dim=1)[:, order]
            states.append(total)
        return states[-1]


class OracleBlock(nn.Module):
    """The residual block; a 2x2 pool over an odd map's edge takes the pixels that are there."""

    def __init__(self, inputs: int, outputs: int, momentum: float) -> None:
        super().__init__()
        self.conv_a = relu_conv_norm(inputs, outputs, 3, 2, PlainNorm(outputs, momentum=momentum))
        self.conv_b = relu_conv_norm(outputs, outputs, 3, 1, PlainNorm(outputs, momentum=momentum))
        self.downsample = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Half the size, rounded up."""
        height, width = x.shape[2:]
        ones = F.pad(torch.ones_like(x), (0, width % 2, 0, height % 2))
        pooled = F.avg_pool2d(F.pad(x, (0, width % 2, 0, height % 2)), 2) / F.avg_pool2d(ones, 2)
        output: Tensor = self.conv_b(self.conv_a(x)) + self.downsample(pooled)
        return output


class OracleSupernet(nn.Module):
    """Stem, stages, blocks, head."""

    def __init__(self, space: NasBench201Space, facts: DataFacts, parts: int = 1) -> None:
        super().__init__()
        momentum, wide, number = space.batch_norm_momentum, space.channels, space.cells_per_stage
        self.number = number
        self.stem = nn.Sequential(
            nn.Conv2d(facts.channels, wide, 3, 1, 1, bias=False), PlainNorm(wide, momentum=momentum)
        )
        self.cells = nn.ModuleList(
            OracleCell(space.operations, scale * wide, momentum, space.affine, parts)
            for scale in (1, 2, 4)
            for _ in range(number)
        )
        self.blocks = nn.ModuleList(OracleBlock(scale * wide, 2 * scale * wide, momentum) for scale in (1, 2))
        self.lastact = nn.Sequential(PlainNorm(4 * wide, momentum=momentum), nn.ReLU())
        self.classifier = nn.Linear(4 * wide, facts.num_classes)

    def forward(
        self, images: Tensor, weights: Tensor, edges: Tensor | None = None, auxiliary: Tensor | None = None
    ) -> Tensor:
        """Class scores [N, classes]."""
        edges = torch.ones(len(EDGES)) if edges is None else edges
        auxiliary = torch.zeros(()) if auxiliary is None else auxiliary
        x = self.stem(images.contiguous())
        for index, cell in enumerate(self.cells):
            if index in (self.number, 2 * self.number):
                x = self.blocks[index // self.number - 1](x)
            x = cell(x, weights, edges, auxiliary)
        scores: Tensor = self.classifier(F.adaptive_avg_pool2d(self.lastact(x), 1).flatten(1))
        return scores

    def move_statistics(self, moving: bool) -> None:
        """Whether running statistics move in training mode."""
        for module in self.modules():
            if isinstance(module, PlainNorm):
                module.moving = moving


@dataclass(frozen=True)
class Match:
    """The oracle's tensor `plain` is `stacked`[part] of the supernet."""

    plain: str
    stacked: str
    part: slice


def matches(oracle: OracleSupernet) -> Iterator[Match]:
    """Every parameter and running statistic of the oracle, and where the supernet keeps it."""
    whole = slice(None)
    norm = ("weight", "bias", "running_mean", "running_var")
    yield Match("stem.0.weight", "skeleton.stem.weight", whole)
    yield from (Match(f"stem.1.{name}", f"skeleton.stem.batch_norm.{name}", whole) for name in norm)
    yield from (Match(f"lastact.0.{name}", f"skeleton.batch_norm.{name}", whole) for name in norm)
    yield from (Match(f"classifier.{name}", f"skeleton.classifier.{name}", whole) for name in ("weight", "bias"))
    for index in range(2):
        plain, ours = f"blocks.{index}", f"skeleton.blocks.{index}"
        yield Match(f"{plain}.downsample.weight", f"{ours}.shortcut", whole)
        for letter, number in (("a", "first"), ("b", "second")):
            yield Match(f"{plain}.conv_{letter}.1.weight", f"{ours}.{number}.weight", whole)
            for name in norm:
                yield Match(f"{plain}.conv_{letter}.2.{name}", f"{ours}.{number}.batch_norm.{name}", whole)
    for index, cell in enumerate(oracle.cells):
        assert isinstance(cell, OracleCell)
        yield from _cell_matches(cell, f"cells.{index}")


def part_of(row: int, channels: int) -> slice:
    """Where a stacked tensor keeps the edge of row `row`: edges stand by source, then node."""
    place = sorted(range(len(EDGES)), key=lambda other: EDGES[other]).index(row)
    return slice(place * channels, (place + 1) * channels)


def _cell_matches(cell: OracleCell, where: str) -> Iterator[Match]:
    for row, edge in enumerate(cell.edges):
        for name, candidate in cast(nn.ModuleDict, edge).items():
            if "conv" not in name:
                continue
            plain, ours = f"{where}.edges.{row}.{name}", f"skeleton.{where}.convolutions.{name}"
            layers = cast(nn.Sequential, candidate)
            channels = cast(nn.Conv2d, layers[1]).out_channels
            yield Match(f"{plain}.1.weight", f"{ours}.weight", part_of(row, channels))
            for kind, _ in [*layers[2].named_parameters(), *layers[2].named_buffers()]:
                if kind != "num_batches_tracked":
                    yield Match(f"{plain}.2.{kind}", f"{ours}.batch_norm.{kind}", part_of(row, channels))


def copy_into_oracle(supernet: nn.Module, oracle: OracleSupernet) -> None:
    """Give the oracle the supernet's weights and statistics."""
    ours = {**dict(supernet.named_parameters()), **dict(supernet.named_buffers())}
    plain = {**dict(oracle.named_parameters()), **dict(oracle.named_buffers())}
    with torch.no_grad():
        for match in matches(oracle):
            plain[match.plain].copy_(ours[match.stacked][match.part])
