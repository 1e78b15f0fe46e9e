import json
from collections.abc import Callable
from typing import Any

import pytest

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import MAX_TEXT_BYTES, CellGenotype, Connection, Genotype
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.spaces.genotypes import published, read_genotype
from ray_darts.spaces.recurrent.space import recurrent_layout

V2 = published("DARTS_V2", "convolutional")


@pytest.mark.parametrize("space", ["convolutional", "recurrent"])
def test_json_round_trips(space: str) -> None:
    genotype = published("DARTS_V2", space)
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_json_is_one_line_of_sorted_keys_with_a_schema_version() -> None:
    text = V2.to_json()
    data = json.loads(text)
    assert data["schema_version"] == 1
    assert text == json.dumps(data, sort_keys=True, separators=(",", ":"))
    assert data["cells"][0]["nodes"][0][0] == {"operation": "sep_conv_3x3", "source": 0}


def test_counts_are_per_cell() -> None:
    assert V2.count({"skip_connect"}) == {"normal": 2, "reduction": 3}
    assert V2.count({"skip_connect", "max_pool_3x3"}) == {"normal": 2, "reduction": 8}


def _set(path: list[str | int], value: object) -> Callable[[Any], None]:
    def edit(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return edit


def _node(index: int) -> list[str | int]:
    return ["cells", 0, "nodes", index]


CONNECTION = {"operation": "sep_conv_3x3", "source": 0}
SMALLER = {
    "name": "reduction",
    "num_inputs": 2,
    "nodes": [[CONNECTION, {**CONNECTION, "source": 1}]] * 3,
    "outputs": [2, 3, 4],
}

REFUSALS: list[tuple[str, Callable[[Any], None], str]] = [
    (
        "unknown operation",
        _set([*_node(2), 1, "operation"], "conv_7x7"),
        "normal cell, node 2, input 1: unknown operation",
    ),
    ("none", _set([*_node(1), 0, "operation"], "none"), "normal cell, node 1, input 0: 'none' is no operation"),
    ("no input of an output", _set(_node(3), []), "normal cell: outputs [2, 3, 4, 5], wanted are the states [2, 3, 4]"),
    (
        "a source without inputs",
        _set(_node(0), []),
        "normal cell, node 3: source 2 is a node without inputs",
    ),
    (
        "three inputs",
        _set(_node(3), [{**CONNECTION, "source": source} for source in range(3)]),
        "normal cell, node 3: 3 inputs, wanted are at most 2",
    ),
    ("source of a later node", _set([*_node(0), 1, "source"], 2), "node 0, input 1: source 2 is out of range 0..1"),
    ("negative source", _set([*_node(0), 1, "source"], -1), "node 0, input 1: source -1 is out of range"),
    ("repeated source", _set([*_node(1), 1, "source"], 0), "normal cell, node 1: source 0 is repeated"),
    ("fractional source", _set([*_node(1), 1, "source"], 1.0), r"cells[0].nodes[1][1].source: 1.0 where an integer"),
    ("boolean source", _set([*_node(1), 1, "source"], True), r"cells[0].nodes[1][1].source: True where an integer"),
    ("operation is a number", _set([*_node(1), 1, "operation"], 3), r"nodes[1][1].operation: 3 where a text"),
    (
        "connection is a list",
        _set([*_node(1), 1], ["sep_conv_3x3", 0]),
        r"cells[0].nodes[1][1]: ['sep_conv_3x3', 0] where",
    ),
    ("nodes are an object", _set(["cells", 0, "nodes"], {}), r"cells[0].nodes: {} where a list is wanted"),
    (
        "outputs leave a node out",
        _set(["cells", 0, "outputs"], [2, 3, 4]),
        "normal cell: outputs [2, 3, 4], wanted are",
    ),
    (
        "outputs that are no states",
        _set(["cells", 0, "outputs"], [2, 6]),
        "normal cell: outputs [2, 6], wanted are states of 0..5",
    ),
    ("no outputs", _set(["cells", 0, "outputs"], []), "normal cell: outputs [], wanted are states of 0..5"),
    ("number of cell inputs", _set(["cells", 1, "num_inputs"], 3), "reduction cell: 3 inputs where the space has 2"),
    ("too few cell inputs", _set(["cells", 1, "num_inputs"], 1), "reduction cell, node 0, input 1: source 1 is out of"),
    (
        "no cell inputs",
        _set(["cells", 1, "num_inputs"], 0),
        "reduction cell: 0 inputs and 4 nodes; wanted is 1 of each",
    ),
    ("cells differ in size", _set(["cells", 1], SMALLER), "reduction cell: 3 nodes, wanted are 4"),
    ("a cell without a node", _set(["cells", 1, "nodes"], []), "reduction cell: 2 inputs and 0 nodes; wanted is 1"),
    ("a missing cell", _set(["cells"], [SMALLER]), "cells ['reduction']: the convolutional space has ['normal', 'red"),
    ("a cell twice", _set(["cells", 0], SMALLER), "cell 'reduction' stands twice"),
    ("no cells", _set(["cells"], []), "a genotype of space 'convolutional' without a cell"),
    ("cells of another space", _set(["space"], "recurrent"), "the recurrent space has ['recurrent']"),
    ("newer schema", _set(["schema_version"], 2), "schema_version 2: this release reads 1 to 1"),
    ("unknown key", _set(["comment"], "x"), "genotype: unknown comment"),
    ("unknown key in a cell", _set(["cells", 0, "weights"], 1), "cells[0]: unknown weights"),
]


@pytest.mark.parametrize(("edit", "message"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_what_is_no_genotype_is_refused_with_the_place(edit: Callable[[Any], None], message: str) -> None:
    data = V2.to_data()
    edit(data)
    with pytest.raises(GenotypeError) as refusal:
        read_genotype(json.dumps(data))
    assert message in str(refusal.value)


def test_a_missing_key_is_named() -> None:
    data = V2.to_data()
    del data["space"]
    with pytest.raises(GenotypeError, match="genotype: missing space"):
        Genotype.from_data(data)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_nan_literals_are_refused(literal: str) -> None:
    text = V2.to_json().replace('"source":2', f'"source":{literal}', 1)
    with pytest.raises(GenotypeError, match=f"{literal} is no JSON number"):
        Genotype.from_json(text)


def test_repeated_keys_are_refused() -> None:
    text = V2.to_json().replace('"source":2', '"source":1,"source":2', 1)
    with pytest.raises(GenotypeError, match="key 'source' is repeated"):
        Genotype.from_json(text)


def test_a_text_over_64_kib_is_refused_unread_and_one_of_64_kib_is_read() -> None:
    padded = V2.to_json().ljust(MAX_TEXT_BYTES)
    assert Genotype.from_json(padded) == V2
    with pytest.raises(GenotypeError, match=r"65,537 bytes: a genotype's text has at most 65,536"):
        Genotype.from_json(padded + " ")


@pytest.mark.parametrize(
    "text", ["", "[" * 60_000, "null", "[]", '"genotype"', "\ud800", '{"schema_version": ' + "1" * 5000]
)
def test_other_texts_are_genotype_errors(text: str) -> None:
    with pytest.raises(GenotypeError):
        Genotype.from_json(text)


def test_a_genotype_cannot_be_constructed_wrong() -> None:
    node = (Connection("tanh", 1),)
    with pytest.raises(GenotypeError, match=r"recurrent cell, node 0, input 0: source 1 is out of range 0\.\.0"):
        Genotype("recurrent", (CellGenotype("recurrent", 1, (node,), (1,)),))


def test_a_layout_narrows_what_is_accepted() -> None:
    text = V2.to_json()
    assert Genotype.from_json(text, convolutional_layout()) == V2
    with pytest.raises(GenotypeError, match="normal cell: 4 nodes, wanted are 3"):
        Genotype.from_json(text, convolutional_layout(nodes=3))
    with pytest.raises(GenotypeError, match="unknown operation 'dil_conv_3x3'; known are"):
        V2.check(convolutional_layout(operations=("sep_conv_3x3", "skip_connect", "max_pool_3x3")))
    with pytest.raises(GenotypeError, match="a genotype of space 'convolutional' where one of 'recurrent' is wanted"):
        V2.check(recurrent_layout())
