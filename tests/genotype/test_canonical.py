"""Equal texts for renumbered genotypes and for nothing else, against an independent search for an isomorphism."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ray_darts.genotype import canonical as module
from ray_darts.genotype.canonical import canonical, genotype_digest
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype

OPERATIONS = ("a", "b")


def genotype(*cells: CellGenotype) -> Genotype:
    return Genotype("any", cells)


def random_cell(
    draws: random.Random, num_nodes: int, inputs_per_node: int, *, num_inputs: int = 2, all_outputs: bool = True
) -> CellGenotype:
    """Nodes with distinct random sources; outputs are all nodes or some states."""
    nodes = []
    for node in range(num_nodes):
        known = range(num_inputs + node)
        sources = draws.sample(known, min(inputs_per_node, len(known)))
        nodes.append(tuple(Connection(draws.choice(OPERATIONS), source) for source in sources))
    states = range(num_inputs, num_inputs + num_nodes)
    outputs = tuple(states) if all_outputs else tuple(draws.sample(states, draws.randint(1, num_nodes)))
    return CellGenotype("cell", num_inputs, tuple(nodes), outputs)


def renumber(cell: CellGenotype, order: Sequence[int]) -> CellGenotype | None:
    """The cell whose node i is node order[i] of this one; None where a source would come after its target."""
    new = {cell.num_inputs + old: cell.num_inputs + place for place, old in enumerate(order)}
    nodes = []
    for place, old in enumerate(order):
        connections = tuple(Connection(name, new.get(source, source)) for name, source in cell.nodes[old])
        if any(source >= cell.num_inputs + place for _, source in connections):
            return None
        nodes.append(connections)
    return replace(cell, nodes=tuple(nodes), outputs=tuple(new.get(state, state) for state in cell.outputs))


def renumbered(draws: random.Random, cell: CellGenotype) -> CellGenotype:
    """A random renumbering that keeps the outputs, with shuffled connections and outputs."""
    while True:
        order: list[int] = []
        while len(order) < len(cell.nodes):
            ready = [
                node
                for node, connections in enumerate(cell.nodes)
                if node not in order
                and all(source < cell.num_inputs or source - cell.num_inputs in order for _, source in connections)
            ]
            order.append(draws.choice(ready))
        found = renumber(cell, order)
        assert found is not None
        if sorted(found.outputs) == sorted(cell.outputs):
            break
    nodes = tuple(tuple(draws.sample(node, len(node))) for node in found.nodes)
    return replace(found, nodes=nodes, outputs=tuple(draws.sample(found.outputs, len(found.outputs))))


def same_graph(left: CellGenotype, right: CellGenotype) -> bool:
    """Whether some renumbering of one that keeps its outputs is the other, connections and outputs in any order."""
    if sorted(left.outputs) != sorted(right.outputs):
        return False

    def plain(cell: CellGenotype) -> tuple[list[list[Connection]], list[int]]:
        return [sorted(node) for node in cell.nodes], sorted(cell.outputs)

    candidates = (renumber(left, order) for order in itertools.permutations(range(len(left.nodes))))
    return any(found is not None and plain(found) == plain(right) for found in candidates)


@pytest.mark.parametrize("all_outputs", [True, False])
@pytest.mark.parametrize(("num_nodes", "inputs"), [(1, 2), (3, 2), (4, 2), (6, 2), (6, 1), (7, 1), (8, 1)])
def test_renumbered_genotypes_have_one_text(num_nodes: int, inputs: int, all_outputs: bool) -> None:
    draws = random.Random(f"{num_nodes} {inputs} {all_outputs}")
    changed = 0
    for _ in range(15):
        cell = random_cell(draws, num_nodes, inputs, all_outputs=all_outputs)
        other = renumbered(draws, cell)
        changed += other != cell
        assert canonical(genotype(cell)) == canonical(genotype(other))
    assert changed > 3, "the sample says something"


@pytest.mark.parametrize("tried", [module.MAX_RENUMBERED, 0])
@pytest.mark.parametrize("all_outputs", [True, False])
def test_texts_are_equal_exactly_for_equal_graphs(
    all_outputs: bool, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RENUMBERED", tried)  # 0: trees also where every numbering could be tried
    draws = random.Random(all_outputs)
    inputs = 1 if tried == 0 else 2
    cells = [random_cell(draws, 3, inputs, num_inputs=1, all_outputs=all_outputs) for _ in range(60)]
    cells += [renumbered(draws, cell) for cell in cells[:20]]
    texts = [canonical(genotype(cell)) for cell in cells]
    equal = {True: 0, False: 0}
    for left, right in itertools.combinations(range(len(cells)), 2):
        wanted = same_graph(cells[left], cells[right])
        assert (texts[left] == texts[right]) == wanted, (cells[left], cells[right])
        equal[wanted] += cells[left] != cells[right]
    assert min(equal.values()) > 20


def test_the_same_graph_of_many_nodes_and_sources_is_found_only_where_its_numbers_are_equal() -> None:
    draws = random.Random(0)
    cell = random_cell(draws, 7, 2)
    shuffled = replace(cell, nodes=tuple(node[::-1] for node in cell.nodes), outputs=cell.outputs[::-1])
    assert canonical(genotype(cell)) == canonical(genotype(shuffled))
    others = {renumbered(draws, cell).nodes for _ in range(20)}
    assert len({canonical(genotype(replace(cell, nodes=nodes))) for nodes in others}) > 1


def test_a_long_chain_has_a_text() -> None:
    nodes = tuple((Connection("a", state),) for state in range(256))
    assert canonical(genotype(CellGenotype("cell", 1, nodes, (256,)))).count("a") >= 256


def cell_of(*nodes: tuple[tuple[str, int], ...], outputs: tuple[int, ...] = (2, 3), name: str = "cell") -> CellGenotype:
    return CellGenotype(name, 2, tuple(tuple(Connection(*each) for each in node) for node in nodes), outputs)


BASE = cell_of((("a", 0),), (("b", 1),))


@pytest.mark.parametrize(
    "other",
    [
        cell_of((("a", 1),), (("b", 0),)),
        cell_of((("a", 0),), (("b", 2),)),
        cell_of((("a", 0),), (("a", 1),)),
        cell_of((("a", 0),), (("b", 1),), outputs=(3,)),
        cell_of((("a", 0),), (("b", 1),), name="other"),
        cell_of((("a", 0),), (("b", 1), ("none", 0))),
        cell_of((("a", 0),), (("b", 1),), (("a", 0),)),
    ],
    ids=["inputs", "source", "operation", "outputs", "name", "none", "unused state"],
)
def test_what_is_not_a_renumbering_differs(other: CellGenotype) -> None:
    assert canonical(genotype(BASE)) != canonical(genotype(other))


def test_outputs_that_a_renumbering_would_move_hold_their_nodes() -> None:
    left = cell_of((("a", 0),), (("b", 1),), outputs=(3,))
    right = cell_of((("b", 1),), (("a", 0),), outputs=(3,))
    assert canonical(genotype(left)) != canonical(genotype(right))
    assert canonical(genotype(BASE)) == canonical(genotype(replace(right, outputs=(2, 3))))


def test_a_name_of_an_operation_cannot_look_like_another_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RENUMBERED", 0)
    two = cell_of((("a", 0),), (("b", 0),), outputs=(0,))
    odd = cell_of((("a0(),b", 0),), outputs=(0,))
    assert canonical(genotype(two)) != canonical(genotype(odd))


def test_cells_are_compared_one_by_one_and_spaces_differ() -> None:
    first, second = replace(BASE, name="x"), replace(BASE, name="y")
    assert canonical(genotype(first, second)) != canonical(genotype(second, first))
    assert canonical(genotype(BASE)) != canonical(Genotype("else", (BASE,)))


def test_a_digest_names_one_genotype() -> None:
    turned = cell_of((("b", 1),), (("a", 0),))
    digest = genotype_digest(genotype(BASE))
    assert digest == hashlib.sha256(genotype(BASE).to_json().encode()).hexdigest()[:12]
    assert digest == genotype_digest(Genotype.from_json(genotype(BASE).to_json()))
    assert canonical(genotype(BASE)) == canonical(genotype(turned))
    assert digest != genotype_digest(genotype(turned))


def test_nodes_without_inputs_do_not_count() -> None:
    """A chain of two operations in a cell of four nodes, on whichever nodes it lies."""
    chain = (Connection("a", 0),), (Connection("b", 2),)
    whole = CellGenotype("cell", 2, chain, (2, 3))
    texts = {canonical(genotype(whole))}
    for first, second in itertools.combinations(range(4), 2):
        nodes: list[tuple[Connection, ...]] = [()] * 4
        nodes[first], nodes[second] = (Connection("a", 0),), (Connection("b", 2 + first),)
        texts.add(canonical(genotype(CellGenotype("cell", 2, tuple(nodes), (2 + first, 2 + second)))))
    assert len(texts) == 1
    other = CellGenotype("cell", 2, ((), (Connection("b", 0),), (), (Connection("b", 3),)), (3, 5))
    assert canonical(genotype(other)) not in texts
