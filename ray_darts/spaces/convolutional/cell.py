"""The search cell: every edge mixes every operation, computed source by source.

What depends on a source alone (its ReLU, its pools and their batch norms) is computed once for all its edges; `none`
is skipped; all batch norms at equal depth of one source are applied together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_darts.genotype.layout import CellLayout
from ray_darts.spaces.batch_norm import BatchNorm, normalise
from ray_darts.spaces.convolutional.operations import FactorisedReduce, pooled, preprocessing, stages_of

_POOLS = ("max_pool_3x3", "avg_pool_3x3")
_SKIP = "skip_connect"


class SourceEdges(nn.Module):
    """All edges that leave one state, at one stride."""

    def __init__(
        self, num_edges: int, operations: tuple[str, ...], channels: int, stride: int, momentum: float
    ) -> None:
        super().__init__()
        self.operations, self.stride = operations, stride
        pools = [name for name in operations if name in _POOLS]
        self.pool_norms = nn.ModuleDict({name: BatchNorm(channels, momentum=momentum) for name in pools})
        self.blocks = nn.ModuleList()
        for _ in range(num_edges):
            blocks = nn.ModuleDict()
            for name in operations:
                if "conv" in name:
                    blocks[name] = nn.ModuleList(stages_of(name, channels, stride, affine=False, momentum=momentum))
                elif name == _SKIP and stride == 2:
                    reduce = FactorisedReduce(channels, channels, BatchNorm(channels, momentum=momentum))
                    blocks[name] = nn.ModuleList([reduce])
            self.blocks.append(blocks)

    def forward(
        self, state_NCHW: Tensor, rows: Sequence[Tensor], *, batch_statistics: bool, update: bool
    ) -> list[Tensor]:
        """Return one mixed map per edge; `rows` [K] are the edges' softmax(alpha), in the order of `operations`."""

        def normalised(norms: list[BatchNorm], maps: list[Tensor]) -> list[Tensor]:
            return normalise(norms, maps, batch_statistics=batch_statistics, update=update)

        rectified = F.relu(state_NCHW)
        blocks = [(edge, name, block) for edge, by_name in enumerate(self.blocks) for name, block in by_name.items()]
        norms = [*self.pool_norms.values(), *(block[0].norm for _, _, block in blocks)]
        maps = [pooled(name, state_NCHW, self.stride) for name in self.pool_norms]
        maps += [block[0](rectified) for _, _, block in blocks]
        done = normalised(norms, maps)
        pools = dict(zip(self.pool_norms, done, strict=False))
        outputs = {key[:2]: value for key, value in zip(blocks, done[len(pools) :], strict=True)}
        twice = [(edge, name, block[1]) for edge, name, block in blocks if len(block) == 2]
        if twice:
            maps = [stage(F.relu(outputs[edge, name])) for edge, name, stage in twice]
            second = normalised([stage.norm for _, _, stage in twice], maps)
            outputs.update({(edge, name): value for (edge, name, _), value in zip(twice, second, strict=True)})
        shared = {**pools, **({_SKIP: state_NCHW} if self.stride == 1 else {})}
        return [self._mix(row, {**shared, **_of_edge(outputs, edge)}) for edge, row in enumerate(rows)]

    def _mix(self, row: Tensor, outputs: Mapping[str, Tensor]) -> Tensor:
        mixed: Tensor | None = None
        for weight, name in zip(row.unbind(), self.operations, strict=True):
            if name in outputs:
                term = outputs[name]
                mixed = term * weight if mixed is None else torch.addcmul(mixed, term, weight)
        assert mixed is not None
        return mixed


def _of_edge(outputs: Mapping[tuple[int, str], Tensor], edge: int) -> dict[str, Tensor]:
    return {name: value for (number, name), value in outputs.items() if number == edge}


class SearchCell(nn.Module):
    """One cell: preprocesses its two inputs, mixes every edge, returns the nodes concatenated over channels.

    `halve_first`: the first input comes from before a reduction, at twice the size of the second.
    """

    def __init__(
        self,
        layout: CellLayout,
        inputs: tuple[int, int],
        channels: int,
        *,
        reduction: bool,
        halve_first: bool,
        momentum: float,
    ) -> None:
        super().__init__()
        self.layout = layout
        settings = {"affine": False, "momentum": momentum}
        self.preprocess = nn.ModuleList(
            [
                preprocessing(inputs[0], channels, halve=halve_first, **settings),
                preprocessing(inputs[1], channels, halve=False, **settings),
            ]
        )
        self._rows_of: list[list[int]] = []
        self.sources = nn.ModuleList()
        for source in range(layout.num_inputs + layout.num_nodes - 1):
            rows = [row for row, edge in enumerate(layout.edges) if edge.source == source]
            stride = 2 if reduction and source < layout.num_inputs else 1
            self._rows_of.append(rows)
            self.sources.append(SourceEdges(len(rows), layout.operations, channels, stride, momentum))

    def forward(
        self, earlier: Tensor, latest: Tensor, probabilities: Tensor, *, batch_statistics: bool, update: bool
    ) -> Tensor:
        """Mix [N, C, H, W] inputs by `probabilities` [edges, operations]; returns [N, nodes * C, H', W']."""
        mode = {"batch_statistics": batch_statistics, "update": update}
        rows = probabilities.unbind()
        maps = [block(F.relu(x)) for block, x in zip(self.preprocess, (earlier, latest), strict=True)]
        states = normalise([block.norm for block in self.preprocess], maps, **mode)
        nodes: list[Tensor | None] = [None] * self.layout.num_nodes
        for source, (block, own) in enumerate(zip(self.sources, self._rows_of, strict=True)):
            for row, mixed in zip(own, block(states[source], [rows[row] for row in own], **mode), strict=True):
                node = self.layout.edges[row].target - self.layout.num_inputs
                present = nodes[node]
                nodes[node] = mixed if present is None else present + mixed
            done = source - self.layout.num_inputs + 1
            if source + 1 >= self.layout.num_inputs:
                state = nodes[done]
                assert state is not None
                states.append(state)
        return torch.cat(states[self.layout.num_inputs :], dim=1)
