"""Decodes mixing probabilities to a genotype (arXiv:1806.09055, section 2.4), with figures for monitoring a search.

Plain Python: parameters are rounded to float32 (as they are stored) and softmax is computed in float64 with an exactly
rounded sum, so a running search, a stored trace and every machine decode equally. Knows no method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import NONE, CellGenotype, Connection, Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout


@dataclass(frozen=True)
class Decoding:
    """What a set of alphas decodes to, and by what margins; every mapping is {cell: ...}.

    `entropy`: nats, mean over edges of the probabilities' entropy; `skips`, `parameter_free`: kept connections of that
    kind; `margins`: for each kept connection, in the genotype's order, the probability between it and its
    nearest rival (the next operation of its edge, or the strongest edge that its node drops).
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


def decode(layout: SpaceLayout, probabilities: Mapping[str, Sequence[Sequence[float]]]) -> Decoding:
    """Decode {cell: mixing probabilities [edge][operation]}.

    An edge is as strong as its largest probability, besides that of `none` where the layout does not keep it; each
    node keeps its `inputs_per_node` strongest edges, strongest first, or all of its edges in the order of sources.
    Ties go to the lowest source, then the lowest operation. Raises: GenotypeError when the shape does not fit.
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
        kept, margins[cell.name] = _decode_cell(cell, rows)
        cells.append(CellGenotype(cell.name, cell.num_inputs, kept, cell.output_states))
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
    return math.fsum(-weight * math.log(weight) for weight in weights if weight > 0)


def _decode_cell(
    cell: CellLayout, weights: Sequence[Sequence[float]]
) -> tuple[tuple[tuple[Connection, ...], ...], tuple[float, ...]]:
    nodes: list[tuple[Connection, ...]] = []
    margins: list[float] = []
    first = 0
    for node in range(cell.num_nodes):
        num_sources = cell.num_inputs + node
        candidates = [_candidate(cell, source, weights[first + source]) for source in range(num_sources)]
        if cell.inputs_per_node is not None:
            candidates.sort(key=lambda candidate: -candidate.weight)  # stable: ties keep the order of sources
        kept, dropped = candidates[: cell.kept_inputs(node)], candidates[cell.kept_inputs(node) :]
        strongest_dropped = max((candidate.weight for candidate in dropped), default=0.0)
        nodes.append(tuple(candidate.connection for candidate in kept))
        margins += [candidate.weight - max(candidate.next_weight, strongest_dropped) for candidate in kept]
        first += num_sources
    return tuple(nodes), tuple(margins)


def _candidate(cell: CellLayout, source: int, weights: Sequence[float]) -> _Candidate:
    ranked = sorted(
        (
            (weight, name)
            for weight, name in zip(weights, cell.operations, strict=True)
            if cell.keeps_none or name != NONE
        ),
        key=lambda pair: -pair[0],  # stable: ties stay in order of operation
    )
    (weight, operation), next_weight = ranked[0], ranked[1][0] if len(ranked) > 1 else 0.0
    return _Candidate(Connection(operation, source), weight, next_weight)
