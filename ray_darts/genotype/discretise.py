"""From alphas to a genotype: THE implementation (arXiv:1806.09055, section 2.4), and what to watch while searching.

Plain Python on purpose: alphas are rounded to float32 (as they are stored), softmaxed in float64 with an exactly
rounded sum, so a live supernet, a trace read back years later and any machine decode alike.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray_darts.errors import GenotypeError, NonFiniteAlphas
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype, node_states
from ray_darts.genotype.layout import CellLayout, SpaceLayout

_NONE = "none"


@dataclass(frozen=True)
class Discretisation:
    """What a set of alphas decodes to and how surely; every mapping is {cell: ...}.

    `entropy`: nats, mean over edges of the softmax's entropy; `skips`, `parameter_free`: kept connections of that
    kind; `margins`: for each kept connection, in the genotype's order, the softmax weight between it and its
    nearest rival (the next operation of its edge, or the strongest edge that its node drops).
    """

    genotype: Genotype
    entropy: dict[str, float]
    skips: dict[str, int]
    parameter_free: dict[str, int]
    margins: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class _Candidate:
    """An edge into one node, as its strongest operation: `weight` is that operation's, `next_weight` its rival's."""

    connection: Connection
    weight: float
    next_weight: float


def softmax(row: Sequence[float]) -> list[float]:
    """Softmax in float64; equal alphas get equal weights, in any order of the row."""
    highest = max(row)
    exponentials = [math.exp(alpha - highest) for alpha in row]
    total = math.fsum(exponentials)
    return [value / total for value in exponentials]


def discretise(layout: SpaceLayout, alphas: Mapping[str, Sequence[Sequence[float]]]) -> Genotype:
    """Decode `alphas` ({cell: rows [edge][operation]}) by the paper's rule.

    An edge is as strong as its largest softmax weight besides `none` (which stays in the softmax); each node keeps
    its `inputs_per_node` strongest edges, strongest first. Ties go to the lowest source, then the lowest operation.
    Raises: NonFiniteAlphas; GenotypeError when the alphas do not have the layout's shape.
    """
    return describe(layout, alphas).genotype


def describe(layout: SpaceLayout, alphas: Mapping[str, Sequence[Sequence[float]]]) -> Discretisation:
    """Decode `alphas` as `discretise` does, with what the watch needs. Raises: as `discretise`."""
    if set(alphas) != {cell.name for cell in layout.cells}:
        wanted = [cell.name for cell in layout.cells]
        raise GenotypeError(f"alphas of cells {sorted(alphas)} where the {layout.space} space has {wanted}")
    cells: list[CellGenotype] = []
    entropy: dict[str, float] = {}
    margins: dict[str, tuple[float, ...]] = {}
    for cell in layout.cells:
        weights = [softmax(row) for row in _stored(cell, alphas[cell.name])]
        entropy[cell.name] = math.fsum(_entropy(row) for row in weights) / len(weights)
        kept, margins[cell.name] = _decode(cell, weights)
        cells.append(CellGenotype(cell.name, cell.num_inputs, kept, node_states(cell)))
    genotype = Genotype(layout.space, tuple(cells))
    free = genotype.count(layout.parameter_free)
    return Discretisation(genotype, entropy, genotype.count({layout.skip}), free, margins)


def _stored(cell: CellLayout, rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Check one cell's alphas and round them to float32."""
    num_edges, num_operations = cell.shape
    if len(rows) != num_edges or any(len(row) != num_operations for row in rows):
        shape = [len(rows), sorted({len(row) for row in rows})]
        raise GenotypeError(
            f"alphas of the {cell.name} cell have shape {shape}, wanted is {[num_edges, num_operations]}"
        )
    return [[_float32(alpha, cell, edge, column) for column, alpha in enumerate(row)] for edge, row in enumerate(rows)]


def _float32(alpha: float, cell: CellLayout, edge: int, column: int) -> float:
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", alpha))[0]
    except OverflowError:
        rounded = math.inf
    if not math.isfinite(rounded):
        source, target = cell.edges[edge]
        place = f"{cell.name} cell, edge {source} -> {target}, {cell.operations[column]}"
        raise NonFiniteAlphas(f"alpha is {float(alpha)} ({place}): non-finite alphas never become a genotype")
    return rounded


def _entropy(weights: Sequence[float]) -> float:
    return math.fsum(-weight * math.log(weight) for weight in weights if weight > 0)


def _decode(
    cell: CellLayout, weights: Sequence[Sequence[float]]
) -> tuple[tuple[tuple[Connection, ...], ...], tuple[float, ...]]:
    nodes: list[tuple[Connection, ...]] = []
    margins: list[float] = []
    first = 0
    for node in range(cell.num_nodes):
        num_sources = cell.num_inputs + node
        candidates = [_candidate(cell, source, weights[first + source]) for source in range(num_sources)]
        candidates.sort(key=lambda candidate: -candidate.weight)  # stable: ties stay in order of source
        kept, dropped = candidates[: cell.inputs_per_node], candidates[cell.inputs_per_node :]
        strongest_dropped = max((candidate.weight for candidate in dropped), default=0.0)
        nodes.append(tuple(candidate.connection for candidate in kept))
        margins += [candidate.weight - max(candidate.next_weight, strongest_dropped) for candidate in kept]
        first += num_sources
    return tuple(nodes), tuple(margins)


def _candidate(cell: CellLayout, source: int, weights: Sequence[float]) -> _Candidate:
    ranked = sorted(
        ((weight, name) for weight, name in zip(weights, cell.operations, strict=True) if name != _NONE),
        key=lambda pair: -pair[0],  # stable: ties stay in order of operation
    )
    (weight, operation), next_weight = ranked[0], ranked[1][0] if len(ranked) > 1 else 0.0
    return _Candidate(Connection(operation, source), weight, next_weight)
