"""A digest that names a genotype, and a text that is equal for genotypes that differ only in how nodes are numbered.

Plain Python; knows no space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype

DIGEST_LENGTH = 12
MAX_RENUMBERED = 6
"""Nodes of a cell of which every numbering is tried (at most 720)."""


def genotype_digest(genotype: Genotype) -> str:
    """The first 12 hex digits of SHA-256 of `to_json`: equal for equal genotypes only, whatever `canonical` says."""
    return hashlib.sha256(genotype.to_json().encode()).hexdigest()[:DIGEST_LENGTH]


def canonical(genotype: Genotype) -> str:
    """A text that is equal for genotypes whose cells are the same graphs; one line of JSON.

    The order of a node's connections and of a cell's outputs does not matter, and nodes may be renumbered where the
    outputs stay the same states: the order of concatenation only permutes channels before a 1x1 convolution, and a mean
    or a sum has no order. Cells and the inputs of a cell keep their names and numbers. States that nothing uses count.

    Two texts are equal exactly if the cells are such graphs, for cells of at most 6 nodes and for cells in which every
    node has one source. For all other cells nodes keep their numbers, so that equal graphs may have different texts.

    Not detected, in cells of any size: what only computes the same. A chain through skip connections differs from a
    direct connection, a connection with `none` from no connection, and a cell from itself without its unused states.
    """
    cells = [
        {"name": cell.name, "num_inputs": cell.num_inputs, "outputs": sorted(cell.outputs), "graph": _graph(cell)}
        for cell in map(_without_empty_nodes, genotype.cells)
    ]
    return json.dumps({"space": genotype.space, "cells": cells}, sort_keys=True, separators=(",", ":"))


def _without_empty_nodes(cell: CellGenotype) -> CellGenotype:
    """The cell without its nodes that have no inputs, which nothing uses, the others numbered anew."""
    if all(cell.nodes) or any(
        not cell.nodes[source - cell.num_inputs]
        for node in cell.nodes
        for _, source in node
        if source >= cell.num_inputs
    ):
        return cell
    kept = [*range(cell.num_inputs), *(cell.num_inputs + node for node, own in enumerate(cell.nodes) if own)]
    number = {state: place for place, state in enumerate(kept)}
    if not set(cell.outputs) <= number.keys():
        return cell
    nodes = tuple(tuple(Connection(name, number[source]) for name, source in node) for node in cell.nodes if node)
    return CellGenotype(cell.name, cell.num_inputs, nodes, tuple(number[state] for state in cell.outputs))


def _graph(cell: CellGenotype) -> object:
    """The graph of a cell as JSON-able data; its form depends on nothing that a renumbering changes."""
    if len(cell.nodes) <= MAX_RENUMBERED:
        return min(_renumbered(cell, order) for order in _orders(cell, ()))
    if all(len(node) == 1 for node in cell.nodes):
        return _trees(cell)
    return _renumbered(cell, tuple(range(len(cell.nodes))))


def _orders(cell: CellGenotype, begun: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every order of nodes that starts with `begun`, has sources before their targets, and keeps the outputs."""
    place = cell.num_inputs + len(begun)
    if len(begun) == len(cell.nodes):
        yield begun
    for node, connections in enumerate(cell.nodes):
        state = cell.num_inputs + node
        ready = all(source < cell.num_inputs or source - cell.num_inputs in begun for _, source in connections)
        if node not in begun and ready and cell.outputs.count(state) == cell.outputs.count(place):
            yield from _orders(cell, (*begun, node))


def _renumbered(cell: CellGenotype, order: tuple[int, ...]) -> list[list[Connection]]:
    """The nodes in this order with their new numbers, the connections of each sorted."""
    states = {cell.num_inputs + node: cell.num_inputs + place for place, node in enumerate(order)}
    return [
        sorted(Connection(operation, states.get(source, source)) for operation, source in cell.nodes[node])
        for node in order
    ]


def _trees(cell: CellGenotype) -> list[str]:
    """Per input the tree of the nodes that it feeds, as text (Aho, Hopcroft and Ullman, 1974, example 3.2).

    A node is its operation, how often it is an output, and the sorted texts of its children.
    """
    fed: list[list[str]] = [[] for _ in range(cell.num_inputs + len(cell.nodes))]
    for state in reversed(range(cell.num_inputs, len(fed))):  # children have higher numbers, so their texts are ready
        ((operation, source),) = cell.nodes[state - cell.num_inputs]
        children = ",".join(sorted(fed[state]))
        fed[source].append(f"{json.dumps(operation)}{cell.outputs.count(state)}({children})")
    return [",".join(sorted(texts)) for texts in fed[: cell.num_inputs]]
