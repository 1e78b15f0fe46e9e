"""Decoding with a limit of skip connections in the first (normal) cell of a space (P-DARTS, arXiv:1904.12760, section
3.3). Plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ray_darts.genotype.decode import Decoding, decode
from ray_darts.genotype.genotype import NONE, Genotype
from ray_darts.genotype.layout import CellLayout, Edge, SpaceLayout

_LOST = 1e-30
"""No operation that an edge still has is less probable; one that it lost in a stage is (alpha = -100)."""


def decode_limited(
    layout: SpaceLayout, mixing: Mapping[str, list[list[float]]], threshold: float | None, limit: int | None
) -> Decoding:
    """As `decode`; while the first cell keeps more than `limit` skip connections, the weakest of them counts as 0, and
    the cell is decoded again. An edge that has no other operation keeps it.

    Entropy and numbers of operations are those without the limit, as they show what the search does.
    """
    first = seen = decode(layout, mixing, threshold)
    cell = layout.cells[0]
    rows = [list(row) for row in mixing[cell.name]]
    while limit is not None and seen.genotype.count({layout.skip})[cell.name] > limit:
        kept = [
            row for row in _skipping(cell, seen.genotype, layout.skip) if _has_another(cell, rows[row], layout.skip)
        ]
        if not kept:
            break
        column = cell.operations.index(layout.skip)
        rows[min(kept, key=lambda row: (rows[row][column], row))][column] = 0.0
        seen = decode(layout, {**mixing, cell.name: rows}, threshold)
    return replace(seen, entropy=first.entropy, skips=first.skips, parameter_free=first.parameter_free)


def _skipping(cell: CellLayout, genotype: Genotype, skip: str) -> Iterator[int]:
    """The rows of the edges that a genotype keeps as skip connections."""
    for node, connections in enumerate(genotype.cell(cell.name).nodes):
        for operation, source in connections:
            if operation == skip:
                yield cell.edges.index(Edge(source, cell.num_inputs + node))


def _has_another(cell: CellLayout, row: Sequence[float], name: str) -> bool:
    """Whether an edge that has the operation `name` has another one that it may keep."""
    others = [
        value
        for other, value in zip(cell.operations, row, strict=True)
        if other != name and (cell.keeps_none or other != NONE)
    ]
    return row[cell.operations.index(name)] > 0 and max(others, default=0.0) > _LOST
