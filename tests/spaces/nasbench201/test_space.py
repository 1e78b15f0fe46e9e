"""Settings, layout, decoding and text form of the NAS-Bench-201 space."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ray_darts.config import load_config
from ray_darts.data.text.dataset import Text
from ray_darts.errors import ConfigError, GenotypeError
from ray_darts.genotype.genotype import Connection, Genotype
from ray_darts.methods.darts import Darts
from ray_darts.protocols import registry
from ray_darts.protocols.registry import find_space, register
from ray_darts.spaces.genotypes import published_names, read_genotype, words_for, write_text
from ray_darts.spaces.nasbench201.space import OPERATIONS, NasBench201Space

ALL_SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
MIXED = "|none~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"


def decoded(*choices: str) -> Genotype:
    """What alphas decode to that prefer `choices`, edge by edge."""
    layout = NasBench201Space().layout()
    flat = [1.0 if name == choice else 0.0 for choice in choices for name in OPERATIONS]
    return Darts().decode(layout, flat).genotype


def test_the_registry_finds_the_space_by_its_name() -> None:
    assert find_space("nasbench201") is NasBench201Space
    assert NasBench201Space.published == {}
    assert published_names("nasbench201") == []


def test_the_cell_has_six_edges_all_kept_and_its_last_node_as_output() -> None:
    layout = NasBench201Space().layout()
    (cell,) = layout.cells
    assert cell.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert cell.operations == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert (cell.num_kept, cell.keeps_none, cell.output_states) == (6, True, (3,))
    assert (layout.num_alphas, layout.skip) == (30, "skip_connect")
    assert layout.parameter_free == {"skip_connect", "avg_pool_3x3"}


def test_decoding_keeps_none_and_every_edge_in_the_order_of_sources() -> None:
    genotype = decoded("none", "nor_conv_1x1", "skip_connect", "nor_conv_3x3", "avg_pool_3x3", "none")
    assert genotype.cell("cell").nodes == (
        (Connection("none", 0),),
        (Connection("nor_conv_1x1", 0), Connection("skip_connect", 1)),
        (Connection("nor_conv_3x3", 0), Connection("avg_pool_3x3", 1), Connection("none", 2)),
    )
    assert write_text(genotype) == MIXED
    assert Genotype.from_json(genotype.to_json(), NasBench201Space().layout()) == genotype


def test_ties_go_to_the_lowest_operation_which_may_be_none() -> None:
    seen = Darts().decode(NasBench201Space().layout(), [0.0] * 30)
    assert write_text(seen.genotype) == ALL_SKIP.replace("skip_connect", "none")
    assert seen.margins["cell"] == (0.0,) * 6
    assert seen.parameter_free == {"cell": 0}
    reordered = NasBench201Space(operations=("nor_conv_3x3", "none", "skip_connect")).layout()
    first = Darts().decode(reordered, [0.0] * 18).genotype
    assert {name for node in first.cell("cell").nodes for name, _ in node} == {"nor_conv_3x3"}


def test_margins_are_between_the_two_strongest_operations_of_an_edge_none_included() -> None:
    layout = NasBench201Space().layout()
    flat = [2.0, 1.0, 0.0, 0.0, 0.0, *[0.0] * 25]
    seen = Darts().decode(layout, flat)
    weights = Darts().mixing(layout, flat)["cell"][0]
    assert seen.margins["cell"][0] == weights[0] - weights[1]


def test_the_all_skip_cell_counts_six_skips() -> None:
    flat = [1.0 if name == "skip_connect" else 0.0 for _ in range(6) for name in OPERATIONS]
    seen = Darts().decode(NasBench201Space().layout(), flat)
    assert write_text(seen.genotype) == ALL_SKIP
    assert (seen.skips, seen.parameter_free) == ({"cell": 6}, {"cell": 6})


@settings(deadline=None)
@given(st.tuples(*[st.sampled_from(OPERATIONS)] * 6))
def test_every_cell_survives_its_text_form(choices: tuple[str, ...]) -> None:
    genotype = decoded(*choices)
    text = write_text(genotype)
    assert read_genotype(text) == genotype
    assert read_genotype(f"  {text}\n") == genotype
    assert read_genotype(genotype.to_json()) == genotype
    names = [item.partition("~")[0] for item in text.replace("+", "").split("|") if item]
    assert tuple(names) == choices


def test_a_text_lists_sources_in_order_whatever_the_genotypes_order() -> None:
    genotype = read_genotype(MIXED)
    (cell,) = genotype.cells
    turned = replace(genotype, cells=(replace(cell, nodes=tuple(node[::-1] for node in cell.nodes)),))
    assert write_text(turned) == MIXED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|none~0|+|none~0|none~1|", "2 nodes in an architecture string, wanted are 3"),
        (f"{MIXED}+|none~0|", "4 nodes"),
        (MIXED[:-1], "node 2 of an architecture string: .* does not start and end with"),
        (MIXED.replace("+|nor", "+nor"), "node 1 of an architecture string: 'nor_conv_1x1~0"),
        (MIXED.replace("|none~0|+", "|none~0|none~1|+"), "node 0 .*: 2 inputs, wanted are 1"),
        (MIXED.replace("|skip_connect~1|", "|"), "node 1 .*: 1 inputs, wanted are 2"),
        (MIXED.replace("skip_connect~1", "skip_connect~0"), "node 1 .*, input 1: source '0', wanted is 1"),
        (MIXED.replace("none~2", "none~x"), "node 2 .*, input 2: source 'x', wanted is 2"),
        (MIXED.replace("none~2", "none"), "node 2 .*, input 2: 'none' where operation~source is wanted"),
        (MIXED.replace("none~2", "~2"), "node 2 .*, input 2: '~2' where operation~source is wanted"),
        (MIXED.replace("avg_pool_3x3", "max_pool_3x3"), "node 2, input 1: unknown operation 'max_pool_3x3'; known"),
        ("|", "1 nodes"),
        ("|" * 70_000, "at most 65,536"),
    ],
)
def test_a_wrong_architecture_string_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        read_genotype(text)


def test_texts_of_other_forms_are_left_to_other_spaces() -> None:
    for text in ("Genotype(normal=[])", "", "none~0|", "DARTS_V2"):
        assert NasBench201Space.from_text(text) is None


def test_a_genotype_of_another_shape_has_no_architecture_string() -> None:
    genotype = read_genotype(MIXED)
    (cell,) = genotype.cells
    with pytest.raises(GenotypeError, match="1 inputs, wanted are 2"):
        write_text(replace(genotype, cells=(replace(cell, nodes=(cell.nodes[0],) * 3),)))


def test_drawings_name_one_input_and_the_cells_output() -> None:
    words = words_for(read_genotype(MIXED))
    assert words == (("c[k-1]",), "state", "c[k]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("space.operations=['none', 'sep_conv_3x3', 'skip_connect']", "unknown sep_conv_3x3; known are none"),
        ("space.operations=['none', 'skip_connect']", "at least two operations besides none"),
        ("space.cells_per_stage=0", "space.cells_per_stage = 0"),
        ("space.nodes=4", "space.nodes = 4"),
        ("operation.formulation=grouped", "operation.formulation has no effect on the nasbench201 space"),
        ("data.kind=text", "data"),
    ],
)
def test_wrong_settings_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("nasbench201-digits", overrides=[override])


def test_text_data_is_refused() -> None:
    lines = list(NasBench201Space().mistakes(Text(), load_config("nasbench201-digits").search))
    assert lines == ["a nasbench201 space needs images; data.kind 'text' is text"]


class Doubling:
    """An operation of a user's own."""

    name = "doubling"
    parameter_free = True

    def build(self, channels: int, stride: int) -> nn.Module:
        """Nothing but the identity."""
        return nn.Identity()


def test_an_operation_of_a_plugin_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registered, "operation", {})
    register(Doubling())
    with pytest.raises(ValueError, match="doubling: this space takes no operations of plugins"):
        NasBench201Space(operations=("none", "skip_connect", "doubling"))


def test_the_preset_is_the_benchmarks_search() -> None:
    config = load_config("nasbench201")
    space, data, weights, alphas = config.space, config.data, config.weights, config.alphas
    assert isinstance(space, NasBench201Space)
    assert (space.channels, space.cells_per_stage, space.affine, space.operations) == (16, 5, False, OPERATIONS)
    assert (config.search.epochs, config.search.batch_size) == (50, 64)
    assert (weights.learning_rate, weights.learning_rate_min, weights.schedule) == (0.025, 0.001, "cosine")
    assert (weights.momentum, weights.weight_decay, weights.clip) == (0.9, 5e-4, 5.0)
    assert (alphas.learning_rate, alphas.betas, alphas.weight_decay) == (3e-4, (0.5, 0.999), 1e-3)
    assert (alphas.init, alphas.init_scale) == ("normal", 1e-3)
    dumped = data.model_dump()
    assert (dumped["source"], dumped["padding"], dumped["flip"], dumped["alpha_fraction"]) == ("cifar10", 4, True, 0.5)
    for mean, wanted in zip(dumped["mean"], (125.3, 123.0, 113.9), strict=True):
        assert abs(mean - wanted / 255) < 1e-8
    for std, wanted in zip(dumped["std"], (63.0, 62.1, 66.7), strict=True):
        assert abs(std - wanted / 255) < 1e-8
