"""Random search: an architecture is drawn uniformly and nothing is trained (the baseline of arXiv:1806.09055).

Random numbers are a function of (seed, name of the number) alone: SHA-256 of both, read as an integer. Plain Python, so
every machine and every version of every library draws the same.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from ray_darts.genotype.genotype import NONE
from ray_darts.genotype.layout import CellLayout, SpaceLayout, flatten
from ray_darts.protocols.method import Method, Order, Progress, Rows

if TYPE_CHECKING:
    from torch import Tensor

    from ray_darts.data.batch import Draws

_WORDS = 1 << 64
"""The number of values of the integers that are drawn."""


class RandomSearch(Method):
    """Draws an architecture: per node a uniform set of sources, per kept edge a uniform operation.

    Alphas are 1 at the operation of a kept edge and 0 elsewhere, and are themselves the probabilities to decode.
    """

    task: ClassVar[str] = "draw"

    kind: Literal["random"] = "random"

    @property
    def orders(self) -> tuple[Order, ...]:
        """None: there is no gradient."""
        return ()

    def weights(
        self, layout: SpaceLayout, parameters: Mapping[str, Tensor], draws: Draws, progress: Progress
    ) -> Mapping[str, Tensor]:
        """The alphas themselves, {cell: [edges, operations]}: each kept edge has one operation."""
        return parameters

    def probabilities(self, cell: CellLayout, parameters: Mapping[str, Rows]) -> list[list[float]]:
        """The alphas themselves, edge by edge."""
        return [list(row) for row in parameters[cell.name]]

    def draw(self, layout: SpaceLayout, seed: int) -> list[float]:
        """The alphas of the architecture of one seed, flat; cells, nodes and edges are drawn independently.

        `none` is drawn only where a genotype of the layout may have it.
        """
        rows = {cell.name: _draw_cell(cell, seed) for cell in layout.cells}
        return flatten(self.groups(layout), rows)


def _draw_cell(cell: CellLayout, seed: int) -> list[list[float]]:
    """One-hot rows of the kept edges, zeros for the others."""
    drawable = [index for index, name in enumerate(cell.operations) if cell.keeps_none or name != NONE]
    rows = [[0.0] * len(cell.operations) for _ in cell.edges]
    kept = {node: _draw_sources(cell, node, seed) for node in range(cell.num_nodes)}
    for edge, (row, (source, target)) in enumerate(zip(rows, cell.edges, strict=True)):
        if source in kept[target - cell.num_inputs]:
            choices = [index for index in drawable if cell.allowed is None or cell.allowed[edge][index]]
            row[choices[below(len(choices), seed, cell.name, source, target, "operation")]] = 1.0
    return rows


def _draw_sources(cell: CellLayout, node: int, seed: int) -> frozenset[int]:
    """A uniform set of `kept_inputs` states: each in turn is taken with probability wanted / left (Knuth, The Art of
    Computer Programming 2, algorithm 3.4.2S)."""
    num_sources = cell.num_inputs + node
    wanted = min(cell.kept_inputs(node), num_sources)
    taken: set[int] = set()
    for source in range(num_sources):
        left = num_sources - source
        if below(left, seed, cell.name, source, num_sources, "source") < wanted - len(taken):
            taken.add(source)
    return frozenset(taken)


def below(limit: int, seed: int, *name: object) -> int:
    """A uniform integer of 0..limit-1, a function of (seed, name).

    The first 64 bits of SHA-256 of "seed/random architecture/name/attempt", modulo `limit`. An attempt whose number is
    not below the largest multiple of `limit` is followed by another, so no remainder is more likely than another.
    """
    highest = _WORDS - _WORDS % limit
    for attempt in itertools.count():
        text = "/".join(map(str, (seed, "random architecture", *name, attempt)))
        word = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        if word < highest:
            return word % limit
    raise AssertionError("attempts do not end")
