import math

import pytest

from ray_darts.errors import GenotypeError, NonFiniteAlphas
from ray_darts.genotype.layout import CellLayout, Edge, ParameterGroup, num_parameters
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.spaces.recurrent.space import recurrent_layout


def test_convolutional_cell_has_the_papers_fourteen_edges_node_by_node() -> None:
    cell = convolutional_layout().cell("normal")
    assert cell.edges[:5] == (Edge(0, 2), Edge(1, 2), Edge(0, 3), Edge(1, 3), Edge(2, 3))
    assert cell.edges[-1] == Edge(4, 5)
    assert cell.shape == (14, 8)


def test_recurrent_cell_has_the_papers_thirty_six_edges() -> None:
    cell = recurrent_layout().cell("recurrent")
    assert cell.edges[:4] == (Edge(0, 1), Edge(0, 2), Edge(1, 2), Edge(0, 3))
    assert cell.shape == (36, 5)


def test_flat_alphas_are_cells_in_order_then_edges_then_operations() -> None:
    layout = convolutional_layout(nodes=1, operations=("none", "skip_connect", "sep_conv_3x3"))
    assert layout.num_alphas == 12
    assert [group.name for group in layout.alphas] == ["normal", "reduction"]
    assert layout.rows(layout.alphas, range(12)) == {
        "normal": [[0, 1, 2], [3, 4, 5]],
        "reduction": [[6, 7, 8], [9, 10, 11]],
    }


def test_a_flat_vector_of_another_length_is_refused() -> None:
    layout = convolutional_layout()
    message = r"223 architecture parameters where the convolutional layout has 224"
    with pytest.raises(GenotypeError, match=message):
        layout.rows(layout.alphas, [0.0] * 223)


def test_parameters_of_another_kind_are_cut_after_the_alphas_in_one_row_per_cell() -> None:
    layout = convolutional_layout(nodes=1, operations=("none", "skip_connect", "sep_conv_3x3"))
    betas = tuple(ParameterGroup("betas", cell.name, (len(cell.edges),)) for cell in layout.cells)
    groups = (*layout.alphas, *betas)
    assert num_parameters(groups) == 16
    assert layout.rows(groups, range(16)) == {
        "normal": [[0, 1, 2], [3, 4, 5]],
        "reduction": [[6, 7, 8], [9, 10, 11]],
        "betas.normal": [[12, 13]],
        "betas.reduction": [[14, 15]],
    }
    with pytest.raises(GenotypeError, match="12 architecture parameters where the convolutional layout has 16"):
        layout.rows(groups, range(12))


@pytest.mark.parametrize(
    ("index", "place"),
    [
        (4, r"alpha is nan \(normal cell, edge 1 -> 2, skip_connect\)"),
        (15, r"beta is nan \(reduction cell, edge 1 -> 2\)"),
    ],
)
def test_a_parameter_that_is_not_finite_is_named_by_its_kind_and_place(index: int, place: str) -> None:
    layout = convolutional_layout(nodes=1, operations=("none", "skip_connect", "sep_conv_3x3"))
    groups = (*layout.alphas, *(ParameterGroup("betas", cell.name, (2,)) for cell in layout.cells))
    flat = [0.0] * 16
    flat[index] = math.nan
    with pytest.raises(NonFiniteAlphas, match=place):
        layout.rows(groups, flat)


def test_parameters_are_rounded_to_float32() -> None:
    layout = recurrent_layout(nodes=1, operations=("tanh", "relu"))
    assert layout.rows(layout.alphas, [0.1, 1 + 1e-9]) == {"recurrent": [[0.10000000149011612, 1.0]]}


def test_a_layout_may_keep_all_edges_and_name_its_outputs() -> None:
    whole = CellLayout("cell", 1, 3, ("none", "conv"), inputs_per_node=None, keeps_none=True, outputs=(3,))
    assert [whole.kept_inputs(node) for node in range(3)] == [1, 2, 3]
    assert whole.num_kept == len(whole.edges) == 6
    assert whole.output_states == (3,)
    papers = convolutional_layout().cell("normal")
    assert ([papers.kept_inputs(node) for node in range(4)], papers.num_kept) == ([2] * 4, 8)
    assert papers.output_states == (2, 3, 4, 5)


def test_parameter_free_operations_are_those_of_the_space() -> None:
    assert convolutional_layout(operations=("none", "skip_connect")).parameter_free == {"skip_connect"}
    assert recurrent_layout().parameter_free == {"identity"}


def test_an_unknown_cell_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        recurrent_layout().cell("normal")
