import ast

import pytest

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.genotype.literal import LiteralFields, is_literal, read_literal, write_literal
from ray_darts.spaces.convolutional.space import ConvolutionalSpace, convolutional_layout
from ray_darts.spaces.genotypes import published, read_genotype, write_text
from ray_darts.spaces.recurrent.space import RecurrentSpace, recurrent_layout

NODE = "('sep_conv_3x3', 0), ('skip_connect', 1)"
SMALL = f"Genotype(normal=[{NODE}], normal_concat=[2], reduce=[{NODE}], reduce_concat=[2])"


@pytest.mark.parametrize("space", ["convolutional", "recurrent"])
@pytest.mark.parametrize("name", ["DARTS_V1", "DARTS_V2"])
def test_text_round_trips(name: str, space: str) -> None:
    genotype = published(name, space)
    assert read_genotype(write_text(genotype)) == genotype


def test_written_text_is_the_references() -> None:
    assert write_text(read_genotype(SMALL)) == SMALL
    text = write_text(published("DARTS_V2", "recurrent"))
    assert text.startswith("Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ")
    assert text.endswith(", ('relu', 5)], concat=range(1, 9))")


def test_written_text_means_in_python_what_it_says() -> None:
    genotype = published("DARTS_V2", "convolutional")
    call = ast.parse(write_text(genotype), mode="eval").body
    assert isinstance(call, ast.Call)
    fields = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    flat = [tuple(connection) for node in genotype.cell("reduction").nodes for connection in node]
    assert fields["reduce"] == flat
    assert fields["normal_concat"] == [2, 3, 4, 5]


def test_an_assignment_tuples_and_ranges_are_read() -> None:
    text = SMALL.replace("normal_concat=[2]", "normal_concat=range(2, 3)").replace(
        "reduce_concat=[2]", "reduce_concat=(2,)"
    )
    assert read_genotype(f"\n  BEST = {text}\n") == read_genotype(SMALL)


FIELDS = {
    "normal": LiteralFields("normal", "normal_concat", 2, 2),
    "reduction": LiteralFields("reduce", "reduce_concat", 2, 2),
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one call of Genotype with named fields"),
        ("import os", "one call of Genotype"),
        ("__import__('os').system('true')", "one call of Genotype"),
        ("Other(normal=[])", "one call of Genotype"),
        (f"{SMALL}; {SMALL}", "one call of Genotype"),
        ("Genotype(", "not a Genotype"),
        ("Genotype([])", "fields without a name"),
        ("Genotype(**{})", r"\*\* is not read"),
        (SMALL.replace("normal=[", "normal=list("), "not a Genotype"),
        (SMALL.replace("normal=[", "normal=[open('x'), ", 1), r"normal\[0\]: \('operation', source\) is wanted"),
        (SMALL.replace("0)", "0.5)", 1), r"normal\[0\]"),
        (SMALL.replace("0)", "True)", 1), r"normal\[0\]"),
        (SMALL.replace("normal=[", "normal=[('skip_connect', 0), ", 1), "normal: 3 connections, wanted are 2 per node"),
        (SMALL.replace("[2]", "['2']", 1), "normal_concat: a list of states"),
        (SMALL.replace("[2]", "range(0, 10**9)", 1), "normal_concat: a list of states"),
        (SMALL.replace("[2]", "range(0, 1000000000)", 1), "is no list of a cell's nodes"),
        ("(" * 60_000, "not a Genotype"),
        ("-" * 60_000 + "1", "nested too deeply|one call of Genotype|not a Genotype"),
        ("Genotype\0()", "not a Genotype"),
        ("#" * 70_000, "70,000 bytes"),
    ],
)
def test_anything_else_is_refused_and_nothing_is_run(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        read_literal(text, "convolutional", FIELDS)
    with pytest.raises(GenotypeError):
        read_genotype(text)


@pytest.mark.parametrize("text", ["", "import os", "__import__('os').system('true')", "Other(normal=[])", "DARTS_V2"])
def test_a_text_of_no_form_is_refused_with_its_beginning(text: str) -> None:
    assert not is_literal(text)
    with pytest.raises(GenotypeError, match="neither the JSON of a genotype nor the text form of a space: "):
        read_genotype(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL.replace("sep_conv_3x3", "none", 1), "normal cell, node 0, input 0: 'none'"),
        (SMALL.replace("('skip_connect', 1)", "('skip_connect', 0)", 1), "normal cell, node 0: source 0 is repeated"),
        (SMALL.replace("[2]", "[3]", 1), r"normal cell: outputs \[3\]"),
        (SMALL.replace("sep_conv_3x3", "conv_7x7", 1), "normal cell, node 0, input 0: unknown operation 'conv_7x7'"),
    ],
)
def test_a_literal_that_is_no_genotype_of_its_space_is_refused(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        read_genotype(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Genotype(normal=[])", "fields normal of Genotype"),
        ("Genotype()", "fields none of Genotype"),
    ],
)
def test_fields_of_no_space_are_refused_and_those_of_another_are_left_to_it(text: str, message: str) -> None:
    assert read_literal(text, "convolutional", FIELDS) is None
    with pytest.raises(GenotypeError, match=message):
        read_genotype(text)


def test_a_literal_of_one_space_is_none_to_another() -> None:
    assert ConvolutionalSpace.from_text(write_text(published("DARTS_V2", "recurrent"))) is None
    assert RecurrentSpace.from_text(SMALL) is None
    assert read_genotype(SMALL).space == "convolutional"


def test_the_fields_of_a_space_say_how_its_literal_is_written() -> None:
    genotype = read_literal(SMALL, "convolutional", FIELDS)
    assert genotype is not None
    assert write_literal(genotype, FIELDS) == SMALL
    ranges = {name: fields._replace(as_range=True) for name, fields in FIELDS.items()}
    assert write_literal(genotype, ranges) == SMALL.replace("[2]", "range(2, 3)")


def test_a_field_given_twice_is_refused() -> None:
    with pytest.raises(GenotypeError, match="normal_concat twice"):
        read_genotype(SMALL.replace("reduce_concat", "normal_concat"))


def test_a_layout_narrows_what_is_accepted() -> None:
    read_genotype(SMALL).check(convolutional_layout(nodes=1))
    with pytest.raises(GenotypeError, match="1 nodes, wanted are 4"):
        read_genotype(SMALL).check(convolutional_layout())
    with pytest.raises(GenotypeError, match="'convolutional' where one of 'recurrent' is wanted"):
        read_genotype(SMALL).check(recurrent_layout())


def test_a_single_kind_of_cell_has_a_literal_without_the_fields_of_the_other() -> None:
    layout = ConvolutionalSpace(single_cell=True, nodes=1).layout()
    assert [cell.name for cell in layout.cells] == ["normal"]
    connections = (Connection("skip_connect", 0), Connection("sep_conv_3x3", 1))
    genotype = Genotype("convolutional", (CellGenotype("normal", 2, (connections,), (2,)),))
    text = ConvolutionalSpace.to_text(genotype)
    assert text == "Genotype(normal=[('skip_connect', 0), ('sep_conv_3x3', 1)], normal_concat=[2])"
    assert ConvolutionalSpace.from_text(text) == genotype
    found = ConvolutionalSpace.layout_of(genotype)
    genotype.check(found)
    assert [cell.name for cell in found.cells] == ["normal"]
