import pytest

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import Genotype
from ray_darts.spaces.genotypes import published, published_names

SHORT = {"sep_conv_3x3": "sep3", "skip_connect": "skip", "dil_conv_3x3": "dil3", "max_pool_3x3": "max"}
SHORT |= {"avg_pool_3x3": "avg"}


def _in_words(genotype: Genotype, cell: str) -> str:
    return " | ".join(
        ", ".join(f"{SHORT.get(connection.operation, connection.operation)} {connection.source}" for connection in node)
        for node in genotype.cell(cell).nodes
    )


@pytest.mark.parametrize(
    ("name", "cell", "words"),
    [
        ("DARTS_V2", "normal", "sep3 0, sep3 1 | sep3 0, sep3 1 | sep3 1, skip 0 | skip 0, dil3 2"),
        ("DARTS_V2", "reduction", "max 0, max 1 | skip 2, max 1 | max 0, skip 2 | skip 2, max 1"),
        ("DARTS_V1", "normal", "sep3 1, sep3 0 | skip 0, sep3 1 | skip 0, sep3 1 | sep3 0, skip 2"),
        ("DARTS_V1", "reduction", "max 0, max 1 | skip 2, max 0 | max 0, skip 2 | skip 2, avg 0"),
    ],
)
def test_convolutional_cells_are_those_of_the_paper(name: str, cell: str, words: str) -> None:
    genotype = published(name, "convolutional")
    assert _in_words(genotype, cell) == words
    assert genotype.cell(cell).outputs == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DARTS_V2", "sigmoid 0, relu 1, relu 1, identity 1, tanh 2, sigmoid 5, tanh 3, relu 5"),
        ("DARTS_V1", "relu 0, relu 1, tanh 2, relu 3, relu 4, identity 1, relu 5, relu 1"),
    ],
)
def test_recurrent_cells_are_those_of_the_paper(name: str, words: str) -> None:
    genotype = published(name, "recurrent")
    assert _in_words(genotype, "recurrent").replace(" |", ",") == words
    assert genotype.cell("recurrent").outputs == tuple(range(1, 9))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(GenotypeError, match=r"'DARTS_V3'; there are DARTS_V1, DARTS_V2"):
        published("DARTS_V3", "convolutional")
    with pytest.raises(GenotypeError, match=r"unknown space 'audio'; known are convolutional, recurrent"):
        published("DARTS_V2", "audio")


def test_every_name_exists_in_both_spaces() -> None:
    for space in ("convolutional", "recurrent"):
        assert [published(name, space).space for name in published_names()] == [space] * 2
