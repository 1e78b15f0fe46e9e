import pytest

from ray_darts.genotype.layout import Edge
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
    alphas = layout.split(range(12))
    assert alphas == {"normal": [[0, 1, 2], [3, 4, 5]], "reduction": [[6, 7, 8], [9, 10, 11]]}
    assert layout.join(alphas) == list(range(12))


def test_a_flat_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"223 alphas where the convolutional layout has 224"):
        convolutional_layout().split([0.0] * 223)


def test_parameter_free_operations_are_those_of_the_space() -> None:
    assert convolutional_layout(operations=("none", "skip_connect")).parameter_free == {"skip_connect"}
    assert recurrent_layout().parameter_free == {"identity"}


def test_an_unknown_cell_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        recurrent_layout().cell("normal")
