"""Random search: uniform draws, equal on every machine, that the default rule decodes to what was drawn."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable

import pytest

from ray_darts.config.kinds import read_method
from ray_darts.genotype.decode import decode
from ray_darts.genotype.genotype import NONE, Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.methods.darts import Darts
from ray_darts.methods.random import RandomSearch, below
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.spaces.nasbench201.space import nasbench201_layout
from ray_darts.spaces.recurrent.space import recurrent_layout

LAYOUTS = {"images": convolutional_layout(), "text": recurrent_layout(), "benchmark": nasbench201_layout()}
SMALL = SpaceLayout("small", (CellLayout("cell", 2, 2, ("none", "a", "b", "c"), 2),), "a", frozenset({"a"}))
WITH_NONE = SpaceLayout(
    "kept", (CellLayout("cell", 1, 2, ("none", "a"), None, keeps_none=True),), "a", frozenset({"a"})
)


def drawn(layout: SpaceLayout, seed: int) -> Genotype:
    """What a seed decodes to."""
    method = RandomSearch()
    return method.decode(layout, method.draw(layout, seed)).genotype


def p_value(counts: Iterable[int], num_values: int) -> float:
    """Of chi-square against equal frequencies (Wilson and Hilferty's normal approximation)."""
    seen = list(counts)
    expected = sum(seen) / num_values
    statistic = sum((count - expected) ** 2 for count in seen) / expected + expected * (num_values - len(seen))
    freedom = num_values - 1
    spread = 2 / (9 * freedom)
    normal = ((statistic / freedom) ** (1 / 3) - 1 + spread) / math.sqrt(spread)
    return math.erfc(normal / math.sqrt(2)) / 2


def test_every_cell_of_a_small_layout_is_equally_likely() -> None:
    # node 0 keeps both inputs, node 1 two of three states: 3**2 * 3 * 3**2 = 243 cells
    cells = Counter(drawn(SMALL, seed).cells[0].nodes for seed in range(6000))
    assert len(cells) == 243
    assert 0.01 < p_value(cells.values(), 243) < 0.99


def test_every_cell_that_keeps_none_is_equally_likely() -> None:
    cells = Counter(drawn(WITH_NONE, seed).cells[0].nodes for seed in range(4000))
    assert 0.01 < p_value(cells.values(), 2**3) < 0.99


def test_numbers_below_a_limit_are_uniform_and_independent_of_others_names() -> None:
    pairs = Counter((below(5, seed, "left"), below(3, seed, "right")) for seed in range(6000))
    assert set(pairs) == set(itertools.product(range(5), range(3)))
    assert 0.01 < p_value(pairs.values(), 15) < 0.99


def test_a_number_that_would_favour_small_remainders_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # with 6 values, 4 and 5 lie beyond the largest multiple of 4: the digests below start with 8 such bytes each
    monkeypatch.setattr("ray_darts.methods.random._WORDS", 6)
    asked: list[str] = []

    class Digest:
        def __init__(self, text: bytes) -> None:
            asked.append(text.decode())

        def digest(self) -> bytes:
            return [4, 5, 3][len(asked) - 1].to_bytes(8, "big")

    monkeypatch.setattr("ray_darts.methods.random.hashlib.sha256", Digest)
    assert below(4, 7, "x") == 3
    assert asked == [f"7/random architecture/x/{attempt}" for attempt in range(3)]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_draw_fits_the_layout_and_the_default_rule_decodes_it(layout: SpaceLayout) -> None:
    method = RandomSearch()
    for seed in range(50):
        flat = method.draw(layout, seed)
        decoding = method.decode(layout, flat)
        decoding.genotype.check(layout)
        assert Darts().decode(layout, flat).genotype == decoding.genotype
        assert set(decoding.entropy.values()) == {0.0}
        assert {margin for margins in decoding.margins.values() for margin in margins} == {1.0}
        for cell in decoding.genotype.cells:
            rows = iter(layout.rows(layout.alphas, flat)[cell.name])
            for node, kept in enumerate(cell.nodes):
                sources = [source for _, source in kept]
                assert sources == sorted(sources)
                chosen = {source: operation for operation, source in kept}
                for source in range(cell.num_inputs + node):
                    names = layout.cell(cell.name).operations
                    wanted = [float(name == chosen.get(source)) for name in names]
                    assert next(rows) == wanted


def test_none_is_drawn_only_where_a_genotype_may_have_it() -> None:
    operations = {
        name: {
            operation
            for seed in range(50)
            for cell in drawn(layout, seed).cells
            for node in cell.nodes
            for operation, _ in node
        }
        for name, layout in LAYOUTS.items()
    }
    assert {name: NONE in seen for name, seen in operations.items()} == {
        "images": False,
        "text": False,
        "benchmark": True,
    }
    for name, layout in LAYOUTS.items():
        cell = layout.cells[0]
        assert operations[name] == {each for each in cell.operations if cell.keeps_none or each != NONE}


def test_one_operation_leaves_the_sources_to_be_drawn() -> None:
    layout = SpaceLayout("one", (CellLayout("cell", 3, 1, ("a",), 1),), "a", frozenset({"a"}))
    sources = Counter(drawn(layout, seed).cells[0].nodes[0][0].source for seed in range(300))
    assert 0.01 < p_value(sources.values(), 3) < 0.99


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_equal_seeds_draw_equally_and_others_differently(layout: SpaceLayout) -> None:
    assert RandomSearch().draw(layout, 3) == RandomSearch().draw(layout, 3)
    assert len({drawn(layout, seed) for seed in range(100)}) > 95


def test_cells_are_drawn_independently() -> None:
    normal, reduce = drawn(LAYOUTS["images"], 0).cells
    assert normal.nodes != reduce.nodes


def test_a_draw_is_the_same_for_ever() -> None:
    assert [below(1000, 7, "x"), below(1000, 7, "x", 1)] == [49, 122]
    assert drawn(SMALL, 0).cells[0].nodes == ((("a", 0), ("c", 1)), (("b", 1), ("b", 2)))


def test_the_decode_rule_reads_what_a_store_holds() -> None:
    flat = RandomSearch().draw(SMALL, 1)
    assert decode(SMALL, RandomSearch().mixing(SMALL, flat)).genotype == drawn(SMALL, 1)


def test_it_has_no_order_and_names_its_runs() -> None:
    method = read_method({"kind": "random"})
    assert (method.orders, method.task, method.run_prefix) == ((), "draw", "random-")
