"""Decodes mixing probabilities to a genotype (arXiv:1806.09055, section 2.4), with figures for monitoring a search.

Plain Python: parameters are rounded to float32 (as they are stored) and softmax is computed in float64 with an exactly
rounded sum, so a running search, a stored trace and every machine decode equally. Knows no method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import NONE, CellGenotype, Connection, Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout

_ROUNDING = 1e-9
"""A sum of probabilities that differs from 1 by less does so by rounding."""


@dataclass(frozen=True)
class Decoding:
    """What a set of alphas decodes to, and by what margins; every mapping is {cell: ...}.

    `entropy`: nats, mean over edges of the probabilities' entropy; `skips`, `parameter_free`: kept connections of that
    kind; `margins`: for each kept connection, in the genotype's order, the probability between it and its
    nearest rival (the next operation of its edge, the strongest edge that its node drops, or the threshold).
    """

    genotype: Genotype
    entropy: dict[str, float]
    skips: dict[str, int]
    parameter_free: dict[str, int]
    margins: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class _Candidate:
    """An edge into one node with its strongest operation: `weight` is its own, `next_weight` the next one's."""

    connection: Connection
    weight: float
    next_weight: float


def softmax(row: Sequence[float]) -> list[float]:
    """Softmax in float64; equal alphas get equal weights, in any order of the row."""
    highest = max(row)
    exponentials = [math.exp(alpha - highest) for alpha in row]
    total = math.fsum(exponentials)
    return [value / total for value in exponentials]


def sigmoid(alpha: float) -> float:
    """1 / (1 + exp(-alpha)) in float64, without overflow."""
    small = math.exp(-abs(alpha))
    return (1.0 if alpha >= 0 else small) / (1 + small)


def decode(
    layout: SpaceLayout, probabilities: Mapping[str, Sequence[Sequence[float]]], threshold: float | None = None
) -> Decoding:
    """Decode {cell: mixing probabilities [edge][operation]}.

    An edge is as strong as its largest probability, besides that of `none` where the layout does not keep it; each
    node keeps its `inputs_per_node` strongest edges, strongest first, or all of its edges in the order of sources.
    Ties go to the lowest source, then the lowest operation.
    `threshold` (arXiv:1911.12126, section 3.4): an edge that is weaker is not kept, and where the layout keeps `none`
    it becomes `none`. A node without edges is no source and no output. A departure from the paper: a cell in which
    no edge is strong enough keeps the strongest edge into its last node, so that it has an output.
    Raises: GenotypeError when the shape does not fit.
    """
    if set(probabilities) != {cell.name for cell in layout.cells}:
        wanted = [cell.name for cell in layout.cells]
        raise GenotypeError(f"alphas of cells {sorted(probabilities)} where the {layout.space} space has {wanted}")
    cells: list[CellGenotype] = []
    entropy: dict[str, float] = {}
    margins: dict[str, tuple[float, ...]] = {}
    for cell in layout.cells:
        rows = probabilities[cell.name]
        _check_shape(cell, rows)
        entropy[cell.name] = math.fsum(_entropy(row) for row in rows) / len(rows)
        kept, margins[cell.name] = _decode_cell(cell, rows, threshold)
        empty = {cell.num_inputs + node for node, connections in enumerate(kept) if not connections}
        outputs = tuple(state for state in cell.output_states if state not in empty)
        cells.append(CellGenotype(cell.name, cell.num_inputs, kept, outputs))
    genotype = Genotype(layout.space, tuple(cells))
    free = genotype.count(layout.parameter_free)
    return Decoding(genotype, entropy, genotype.count({layout.skip}), free, margins)


def _check_shape(cell: CellLayout, rows: Sequence[Sequence[float]]) -> None:
    num_edges, num_operations = cell.shape
    if len(rows) != num_edges or any(len(row) != num_operations for row in rows):
        shape = [len(rows), sorted({len(row) for row in rows})]
        raise GenotypeError(
            f"alphas of the {cell.name} cell have shape {shape}, wanted is {[num_edges, num_operations]}"
        )


def _entropy(weights: Sequence[float]) -> float:
    """Of the weights divided by their sum, where that is not 1 (independent or weighted edges)."""
    total = math.fsum(weights)
    if total > 0 and abs(total - 1) > _ROUNDING:
        weights = [weight / total for weight in weights]
    return math.fsum(-weight * math.log(weight) for weight in weights if weight > 0)


def _decode_cell(
    cell: CellLayout, weights: Sequence[Sequence[float]], threshold: float | None
) -> tuple[tuple[tuple[Connection, ...], ...], tuple[float, ...]]:
    nodes: list[tuple[Connection, ...]] = []
    margins: list[float] = []
    empty: set[int] = set()
    first = 0
    for node in range(cell.num_nodes):
        num_sources = cell.num_inputs + node
        sources = [source for source in range(num_sources) if source not in empty]
        candidates = [_candidate(cell, source, first + source, weights[first + source]) for source in sources]
        if cell.inputs_per_node is not None:
            candidates.sort(key=lambda candidate: -candidate.weight)  # stable: ties keep the order of sources
        kept, dropped = candidates[: cell.kept_inputs(node)], candidates[cell.kept_inputs(node) :]
        strongest_dropped = max((candidate.weight for candidate in dropped), default=0.0)
        if threshold is not None:
            kept = _above(cell, kept, threshold, is_last=node == cell.num_nodes - 1 and len(empty) == node)
        if not kept:
            empty.add(num_sources)
        nodes.append(tuple(candidate.connection for candidate in kept))
        margins += [_margin(candidate, strongest_dropped, threshold) for candidate in kept]
        first += num_sources
    return tuple(nodes), tuple(margins)


def _margin(candidate: _Candidate, strongest_dropped: float, threshold: float | None) -> float:
    """The probability by which the connection would be another one."""
    rival = max(candidate.next_weight, strongest_dropped)
    if threshold is None:
        return candidate.weight - rival
    return candidate.weight - max(rival, threshold) if candidate.weight >= threshold else threshold - candidate.weight


def _above(cell: CellLayout, kept: list[_Candidate], threshold: float, *, is_last: bool) -> list[_Candidate]:
    """The edges that are strong enough; the others are left out, or become `none` where the layout keeps it.

    `is_last`: no other node of the cell has an edge, so the strongest one stays.
    """
    if cell.keeps_none:
        return [
            candidate
            if candidate.weight >= threshold
            else replace(candidate, connection=Connection(NONE, candidate.connection.source))
            for candidate in kept
        ]
    strong = [candidate for candidate in kept if candidate.weight >= threshold]
    return strong or (kept[:1] if is_last else [])


def _candidate(cell: CellLayout, source: int, edge: int, weights: Sequence[float]) -> _Candidate:
    choices = cell.operations if cell.choices is None else cell.choices[edge]
    ranked = sorted(
        (
            (weight, name)
            for weight, name in zip(weights, cell.operations, strict=True)
            if name in choices and (cell.keeps_none or name != NONE)
        ),
        key=lambda pair: -pair[0],  # stable: ties stay in order of operation
    )
    (weight, operation), next_weight = ranked[0], ranked[1][0] if len(ranked) > 1 else 0.0
    return _Candidate(Connection(operation, source), weight, next_weight)
