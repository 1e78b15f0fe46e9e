"""A layered layout of a small directed graph, left to right: vertices in columns, edges bent around vertices.

The classic three steps (Sugiyama, Tagawa and Toda, 1981): long edges get a bend in each column they pass, columns
are ordered by barycentres, heights are placed by least squares under minimum distances. Deterministic, plain Python,
for tens of vertices. Knows neither cells nor drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ORDER_SWEEPS = 24
_PLACE_SWEEPS = 40

Point = tuple[float, float]


@dataclass(frozen=True)
class Column:
    """The column of a vertex, and the height that it needs there."""

    index: int
    height: float


@dataclass(frozen=True)
class Placement:
    """`heights`: {vertex: y of its middle}; `paths`: for each edge, the (column, y) of source, bends and target."""

    heights: dict[str, float]
    paths: list[list[Point]]


def lay_out(
    vertices: Mapping[str, Column], edges: Sequence[tuple[str, str]], gap: float, bend_height: float
) -> Placement:
    """Place vertices whose columns are given; every edge leads to a later column. y grows downwards from 0."""
    columns = dict(vertices)
    chains = [_chain(edge, number, columns, bend_height) for number, edge in enumerate(edges)]
    links = [link for chain in chains for link in itertools.pairwise(chain)]
    before: dict[str, list[str]] = {vertex: [] for vertex in columns}
    after: dict[str, list[str]] = {vertex: [] for vertex in columns}
    for source, target in links:
        after[source].append(target)
        before[target].append(source)
    order = _ordered(columns, links, before, after)
    heights = _placed(order, columns, before, after, gap)
    paths: list[list[Point]] = [[(columns[vertex].index, heights[vertex]) for vertex in chain] for chain in chains]
    return Placement({vertex: heights[vertex] for vertex in vertices}, paths)


def _chain(edge: tuple[str, str], number: int, columns: dict[str, Column], bend_height: float) -> list[str]:
    """The vertices of one edge, bends included; bends are added to `columns`."""
    source, target = edge
    bends = []
    for column in range(columns[source].index + 1, columns[target].index):
        bend = f"bend {number}.{column}"
        columns[bend] = Column(column, bend_height)
        bends.append(bend)
    return [source, *bends, target]


def _ordered(
    columns: Mapping[str, Column],
    links: Sequence[tuple[str, str]],
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
) -> list[list[str]]:
    """Sort columns by their neighbours' mean position, forward and backward; keep the order that crosses least."""
    order = [
        [vertex for vertex, column in columns.items() if column.index == index]
        for index in range(1 + max(column.index for column in columns.values()))
    ]
    best, best_crossings = [list(column) for column in order], _crossings(order, links)
    seen: set[tuple[bool, tuple[tuple[str, ...], ...]]] = set()
    for sweep in range(_ORDER_SWEEPS):
        forward = sweep % 2 == 0
        state = forward, tuple(map(tuple, order))
        if state in seen or best_crossings == 0:  # from here on it would only repeat itself
            break
        seen.add(state)
        neighbours = before if forward else after
        for column in order if forward else reversed(order):
            position = {vertex: place for other in order for place, vertex in enumerate(other)}
            column.sort(key=lambda vertex: _mean([position[other] for other in neighbours[vertex]], position[vertex]))
        crossings = _crossings(order, links)
        if crossings < best_crossings:
            best, best_crossings = [list(column) for column in order], crossings
    return best


def _crossings(order: Sequence[Sequence[str]], links: Sequence[tuple[str, str]]) -> int:
    position = {vertex: (index, place) for index, column in enumerate(order) for place, vertex in enumerate(column)}
    ends = sorted((*position[source], position[target][1]) for source, target in links)
    return sum(
        one[0] == other[0] and one[1] != other[1] and one[2] > other[2]
        for number, one in enumerate(ends)
        for other in ends[number + 1 :]
    )


def _placed(
    order: Sequence[Sequence[str]],
    columns: Mapping[str, Column],
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
    gap: float,
) -> dict[str, float]:
    heights: dict[str, float] = {}
    for column in order:
        offsets = _offsets([columns[vertex].height for vertex in column], gap)
        heights.update((vertex, offset - offsets[-1] / 2) for vertex, offset in zip(column, offsets, strict=True))
    for sweep in range(_PLACE_SWEEPS):
        before_sweep = dict(heights)
        for column in order if sweep % 2 == 0 else reversed(order):
            wanted = [
                _mean([heights[other] for other in (*before[vertex], *after[vertex])], heights[vertex])
                for vertex in column
            ]
            offsets = _offsets([columns[vertex].height for vertex in column], gap)
            heights.update(zip(column, _spread(wanted, offsets), strict=True))
        if heights == before_sweep:
            break
    top = min(heights[vertex] - columns[vertex].height / 2 for vertex in heights)
    return {vertex: height - top for vertex, height in heights.items()}


def _offsets(sizes: Sequence[float], gap: float) -> list[float]:
    """Middles of boxes stacked as tightly as allowed, the first at 0."""
    offsets = [0.0] if sizes else []
    for upper, lower in itertools.pairwise(sizes):
        offsets.append(offsets[-1] + (upper + lower) / 2 + gap)
    return offsets


def _spread(wanted: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """The least-squares closest heights to `wanted` that keep the distances of `offsets` (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value, offset in zip(wanted, offsets, strict=True):
        mean, count = value - offset, 1
        while pools and pools[-1][0] > mean:
            other, size = pools.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        pools.append((mean, count))
    flat = [mean for mean, count in pools for _ in range(count)]
    return [value + offset for value, offset in zip(flat, offsets, strict=True)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
