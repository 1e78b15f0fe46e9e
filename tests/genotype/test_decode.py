import math
import random
import struct
from dataclasses import replace
from decimal import Decimal, localcontext

import pytest

from ray_darts.errors import GenotypeError, NonFiniteAlphas
from ray_darts.genotype.decode import Decoding, decode, softmax
from ray_darts.genotype.genotype import Connection, Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.methods.darts import Darts
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.spaces.recurrent.space import recurrent_layout

SMALL = convolutional_layout(nodes=2, operations=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"))
NONE, POOL, SKIP, SEP = range(4)


def _zeros(layout: SpaceLayout) -> dict[str, list[list[float]]]:
    return layout.rows(layout.alphas, [0.0] * layout.num_alphas)


def described(layout: SpaceLayout, alphas: dict[str, list[list[float]]]) -> Decoding:
    """What the flat vector of these alphas decodes to, by the softmax of the default method."""
    return Darts().decode(layout, [alpha for cell in layout.cells for row in alphas[cell.name] for alpha in row])


def decoded(layout: SpaceLayout, alphas: dict[str, list[list[float]]]) -> Genotype:
    """The genotype alone, checked against the layout."""
    genotype = described(layout, alphas).genotype
    genotype.check(layout)
    return genotype


def _by_decimals(layout: SpaceLayout, alphas: dict[str, list[list[float]]]) -> dict[str, list[list[tuple[str, int]]]]:
    """The paper's rule in 60-digit decimals: an oracle that shares no arithmetic with the implementation."""
    chosen = {}
    with localcontext() as context:
        context.prec = 60
        for cell in layout.cells:
            nodes, rows = [], iter(alphas[cell.name])
            for node in range(cell.num_nodes):
                strongest = []
                for source in range(cell.num_inputs + node):
                    exponentials = [Decimal(alpha).exp() for alpha in next(rows)]
                    weights = [round(value / sum(exponentials), 40) for value in exponentials]
                    choices = [i for i, name in enumerate(cell.operations) if name != "none"]
                    _, best = min((-weights[i], i) for i in choices)
                    strongest.append((-weights[best], source, cell.operations[best]))
                nodes.append([(name, source) for _, source, name in sorted(strongest)[: cell.inputs_per_node]])
            chosen[cell.name] = nodes
    return chosen


@pytest.mark.parametrize("layout", [SMALL, convolutional_layout(), recurrent_layout()], ids=["small", "images", "text"])
def test_discretising_agrees_with_exact_decimals_ties_included(layout: SpaceLayout) -> None:
    rng = random.Random(7)
    for coarseness in (1, 2, 64):
        for _ in range(4):
            flat = [rng.randrange(-2 * coarseness, 2 * coarseness) / coarseness for _ in range(layout.num_alphas)]
            alphas = layout.rows(layout.alphas, flat)
            cells = decoded(layout, alphas).cells
            found = {cell.name: [[tuple(c) for c in node] for node in cell.nodes] for cell in cells}
            assert found == _by_decimals(layout, alphas)


def test_all_zero_alphas_decode_to_the_lowest_sources_and_operation() -> None:
    genotype = decoded(convolutional_layout(), _zeros(convolutional_layout()))
    first = (Connection("max_pool_3x3", 0), Connection("max_pool_3x3", 1))
    assert [cell.nodes for cell in genotype.cells] == [(first,) * 4] * 2


def test_edges_stand_strongest_first() -> None:
    alphas = _zeros(SMALL)
    alphas["normal"][0][SEP], alphas["normal"][1][SKIP] = 1.0, 2.0
    assert decoded(SMALL, alphas).cell("normal").nodes[0] == (
        Connection("skip_connect", 1),
        Connection("sep_conv_3x3", 0),
    )


def test_none_is_never_chosen_but_weakens_its_edge() -> None:
    alphas = _zeros(SMALL)
    for row in alphas["normal"]:
        row[SEP] = 1.0
    alphas["normal"][2][NONE] = 5.0
    node = decoded(SMALL, alphas).cell("normal").nodes[1]
    assert node == (Connection("sep_conv_3x3", 1), Connection("sep_conv_3x3", 2))


def test_the_same_alphas_in_another_order_tie_exactly() -> None:
    """A plain sum depends on its order: these two rows then differ in the last bit and the tie breaks by chance."""
    values = [0.1, 1.7, -2.3, 0.9, 0.30000001192092896, -1.1, 0.7, 1.3]
    for seed in range(200):
        shuffled = list(values)
        random.Random(seed).shuffle(shuffled)
        assert sorted(softmax(shuffled)) == sorted(softmax(values))


def test_recurrent_nodes_keep_one_edge() -> None:
    layout = recurrent_layout(nodes=3)
    alphas = _zeros(layout)
    alphas["recurrent"][2][4] = 3.0
    nodes = decoded(layout, alphas).cell("recurrent").nodes
    assert nodes == ((Connection("tanh", 0),), (Connection("identity", 1),), (Connection("tanh", 0),))
    assert decoded(layout, alphas).cell("recurrent").outputs == (1, 2, 3)


def test_alphas_are_rounded_to_float32_first() -> None:
    """What a float64 search holds and what its trace stores must decode alike."""
    alphas = _zeros(SMALL)
    alphas["normal"][0][SEP] = 1e-9 + 1.0
    alphas["normal"][0][POOL] = 1.0
    assert struct.unpack("<f", struct.pack("<f", 1e-9 + 1.0))[0] == 1.0
    kept = decoded(SMALL, alphas).cell("normal").nodes[0]
    assert Connection("max_pool_3x3", 0) in kept


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_non_finite_alphas_never_become_a_genotype(value: float) -> None:
    alphas = _zeros(SMALL)
    alphas["reduction"][3][SEP] = value
    with pytest.raises(NonFiniteAlphas, match=r"reduction cell, edge 1 -> 3, sep_conv_3x3"):
        decoded(SMALL, alphas)


def test_all_nan_alphas_never_become_a_genotype() -> None:
    with pytest.raises(NonFiniteAlphas):
        Darts().decode(SMALL, [math.nan] * SMALL.num_alphas)


def test_alphas_of_another_shape_are_refused() -> None:
    alphas = _zeros(SMALL)
    with pytest.raises(GenotypeError, match=r"normal cell have shape \[4, \[4\]\], wanted is \[5, 4\]"):
        decode(SMALL, {**alphas, "normal": alphas["normal"][:4]})
    with pytest.raises(GenotypeError, match=r"wanted is \[5, 4\]"):
        decode(SMALL, {**alphas, "normal": [row[:3] for row in alphas["normal"]]})
    with pytest.raises(GenotypeError, match=r"alphas of cells \['normal'\]"):
        decode(SMALL, {"normal": alphas["normal"]})


def test_large_alphas_do_not_overflow() -> None:
    alphas = _zeros(SMALL)
    alphas["normal"][0][SEP] = 3e38
    assert decoded(SMALL, alphas).cell("normal").nodes[0][0] == Connection("sep_conv_3x3", 0)


def test_entropy_is_ln_of_the_operations_at_zero_and_zero_when_decided() -> None:
    layout = convolutional_layout()
    assert described(layout, _zeros(layout)).entropy == pytest.approx({"normal": math.log(8), "reduction": math.log(8)})
    decided = layout.rows(layout.alphas, [200.0 if index % 8 == 3 else 0.0 for index in range(layout.num_alphas)])
    assert described(layout, decided).entropy == {"normal": pytest.approx(0.0), "reduction": pytest.approx(0.0)}


def test_entropy_is_the_mean_over_edges() -> None:
    layout = recurrent_layout(nodes=1, operations=("tanh", "relu"))
    third = math.log(2.0)  # weights 2/3, 1/3
    expected = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert described(layout, {"recurrent": [[third, 0.0]]}).entropy["recurrent"] == pytest.approx(expected, rel=1e-7)
    two = recurrent_layout(nodes=2, operations=("tanh", "relu"))
    alphas = {"recurrent": [[third, 0.0], [0.0, 0.0], [0.0, 0.0]]}
    assert described(two, alphas).entropy["recurrent"] == pytest.approx((expected + 2 * math.log(2)) / 3, rel=1e-7)


def test_skips_and_parameter_free_connections_are_counted() -> None:
    alphas = _zeros(SMALL)
    for row in alphas["normal"]:
        row[SKIP] = 1.0
    for row in alphas["reduction"]:
        row[SEP] = 1.0
    seen = described(SMALL, alphas)
    assert seen.skips == {"normal": 4, "reduction": 0}
    assert seen.parameter_free == {"normal": 4, "reduction": 0}
    assert described(SMALL, _zeros(SMALL)).parameter_free == {"normal": 4, "reduction": 4}
    assert described(SMALL, _zeros(SMALL)).skips == {"normal": 0, "reduction": 0}


def test_margins_measure_the_distance_to_the_nearest_rival() -> None:
    layout = recurrent_layout(nodes=2, operations=("tanh", "relu"))
    half, quarters = [0.0, 0.0], [math.log(3.0), 0.0]  # weights 1/2, 1/2 and 3/4, 1/4
    seen = described(layout, {"recurrent": [quarters, half, quarters]})
    # node 0: 3/4 against its own 1/4; node 1 keeps 3/4 from state 1 against the dropped edge's 1/2
    assert seen.margins["recurrent"] == pytest.approx((0.5, 0.25), rel=1e-6)


# All edges are kept, `none` may win, and the output is the last node alone: the cell of NAS-Bench-201.
WHOLE = SpaceLayout(
    "whole",
    (CellLayout("cell", 1, 3, ("none", "skip", "conv"), inputs_per_node=None, keeps_none=True, outputs=(3,)),),
    skip="skip",
    parameter_free=frozenset({"skip"}),
)


def test_a_layout_that_keeps_every_edge_keeps_them_in_the_order_of_sources() -> None:
    rows = [[0.0, 1.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 5.0, 0.0], [0.0, 0.0, 9.0], [1.0, 0.0, 0.0]]
    seen = described(WHOLE, {"cell": rows})
    cell = seen.genotype.cell("cell")
    assert cell.nodes == (
        (Connection("skip", 0),),
        (Connection("none", 0), Connection("conv", 1)),
        (Connection("skip", 0), Connection("conv", 1), Connection("none", 2)),
    )
    assert cell.outputs == (3,)
    assert seen.skips == seen.parameter_free == {"cell": 2}
    assert len(seen.margins["cell"]) == WHOLE.cells[0].num_kept == 6
    weights = [sorted(softmax(row)) for row in rows]
    assert seen.margins["cell"] == pytest.approx([row[-1] - row[-2] for row in weights])
    seen.genotype.check(WHOLE)
    assert Genotype.from_json(seen.genotype.to_json(), WHOLE) == seen.genotype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keeps_none": False}, "cell cell, node 1, input 0: 'none' is no operation of a genotype"),
        ({"inputs_per_node": 1}, "cell cell, node 1: 2 inputs, wanted are 1"),
        ({"outputs": None}, r"cell cell: outputs \[3\], wanted are the states \[1, 2, 3\]"),
        ({"operations": ("none", "skip")}, "unknown operation 'conv'; known are none, skip"),
    ],
)
def test_a_genotype_that_keeps_every_edge_is_refused_where_the_layout_does_not(
    change: dict[str, object], message: str
) -> None:
    rows = [[0.0, 1.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 5.0, 0.0], [0.0, 0.0, 9.0], [1.0, 0.0, 0.0]]
    genotype = decoded(WHOLE, {"cell": rows})
    other = replace(WHOLE, cells=(replace(WHOLE.cells[0], **change),))  # type: ignore[arg-type]
    with pytest.raises(GenotypeError, match=message):
        genotype.check(other)


def test_probabilities_are_decoded_as_they_are() -> None:
    layout = recurrent_layout(nodes=1, operations=("none", "tanh", "relu"))
    seen = decode(layout, {"recurrent": [[0.5, 0.2, 0.3]]})
    assert seen.genotype.cell("recurrent").nodes == ((Connection("relu", 0),),)
    assert seen.margins["recurrent"] == pytest.approx((0.1,))
