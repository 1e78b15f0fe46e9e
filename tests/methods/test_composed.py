"""Parts of a method: their settings, their contradictions, betas, decoding of known alphas."""

from __future__ import annotations

import json
import math

import pytest
import torch

from ray_darts.config import load_config
from ray_darts.config.kinds import read_method
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import Connection
from ray_darts.genotype.layout import CellLayout, SpaceLayout, flatten
from ray_darts.methods.composed import Composed
from ray_darts.methods.darts import Darts
from ray_darts.methods.named import DartsMinus, FairDarts, Gdas, PcDarts, SdartsAdv
from ray_darts.methods.parts import AuxiliarySkip, PartialChannels
from ray_darts.methods.perturbation import Perturbation
from ray_darts.protocols.method import SupernetOptions
from ray_darts.protocols.registry import BUILT_IN, find_method
from ray_darts.search.architecture import LEFT_OUT
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.spaces.nasbench201.space import nasbench201_layout
from tests.methods.test_relaxations import at, draws

COMPOSED = [name for name in BUILT_IN["method"] if name != "random"]
SMALL = SpaceLayout(
    "small", (CellLayout("cell", 2, 2, ("none", "a", "b"), 2),), "a", frozenset({"a"}), may_keep_fewer=True
)


def edges_of(preset: str) -> str:
    """An override that gives every edge of a preset two operations."""
    cells = load_config(preset).layout().cells
    rows = {cell.name: [["skip_connect", "sep_conv_3x3"]] * len(cell.edges) for cell in cells}
    return "space.edge_operations={" + ", ".join(f"{name} = {json.dumps(row)}" for name, row in rows.items()) + "}"


@pytest.mark.parametrize("name", COMPOSED)
def test_a_named_method_is_read_by_its_name_and_back_from_its_own_dump(name: str) -> None:
    method = read_method({"kind": name})
    assert isinstance(method, Composed)
    assert read_method(method.model_dump(mode="json")) == method
    assert method.orders == (("first",) if name in ("gdas", "sdarts-adv", "lambda-darts") else ("first", "second"))


def test_parts_can_be_set_on_any_method_one_field_at_a_time() -> None:
    config = load_config("digits", overrides=["method.kind=sdarts-adv", "method.perturbation.radius=0.1"])
    assert config.method == SdartsAdv(perturbation=Perturbation(kind="adversarial", radius=0.1))
    config = load_config("digits", overrides=["method.kind=darts", "method.relaxation.kind=gumbel"])
    assert isinstance(config.method, Darts)
    assert config.method.orders == ("first",)
    both = ["method.kind=beta-darts", "method.perturbation.kind=random", "method.auxiliary_skip.end=0.1"]
    method = load_config("digits", overrides=both).method
    assert isinstance(method, Composed)
    assert method.auxiliary_skip == AuxiliarySkip(end=0.1)
    assert method.regulariser is not None


def test_every_method_has_a_digest_of_its_own() -> None:
    digests = {
        load_config("digits", overrides=[f"method.kind={name}", "space.channels=8"]).digest() for name in COMPOSED
    }
    assert len(digests) == len(COMPOSED)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.kind=gdas", "method.perturbation.kind=random"], 'set relaxation.kind to "softmax" or "dirichlet"'),
        (["method.kind=fair-darts", "method.regulariser.weight=1"], 'set relaxation.kind to "softmax" or "gumbel"'),
        (
            ["method.kind=pc-darts", "space.channels=6"],
            "space.channels 6 is no multiple of it: set space.channels = 8",
        ),
        (["method.kind=gdas", "method.relaxation.temperature_end=20"], "temperature_end 20.0 exceeds temperature 10.0"),
        (["method.kind=drnas", "method.relaxation.regulariser=kl"], "set alphas.weight_decay = 0"),
        (["method.kind=gdas", 'operation.compile=["training"]'], r"set operation.compile = \[\]"),
        (
            ['operation.compile=["training"]', "method.kind=darts", "method.skip_dropout.rate=0.1"],
            "whose masks the host",
        ),
        (['operation.compile=["training"]', 'space.operations=["noise","skip_connect"]'], "are not compiled"),
        (
            ["method.kind=fair-darts", "method.partial_channels.parts=2"],
            r"set relaxation\.keep_above = 0 or partial_channels\.edge_weights = false",
        ),
        (['operation.compile=["training"]', "method.kind=darts", edges_of("digits")], "not compiled"),
        (["method.kind=pc-darts", "method.warmup=1"], "less than 1"),
        (["method.kind=darts", "method.edge_weights=true"], "edge_weights"),
    ],
)
def test_contradictions_are_refused_with_what_to_set(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("digits", overrides=overrides)


def test_contradictions_are_reported_all_at_once() -> None:
    method = {"kind": "fair-darts", "regulariser": {}, "perturbation": {}}
    with pytest.raises(ValueError, match=r"perturbation needs.*; regulariser is of softmax"):
        read_method(method)


@pytest.mark.parametrize("name", ["pc-darts", "darts-minus"])
def test_a_space_without_an_option_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"the method {name} needs .* the recurrent space has not"):
        load_config("sotu", overrides=[f"method.kind={name}"])


def test_a_threshold_needs_a_space_that_may_keep_fewer_edges() -> None:
    with pytest.raises(ConfigError, match=r"set method\.relaxation\.keep_above = 0"):
        load_config("sotu", overrides=["method.kind=fair-darts"])
    load_config("sotu", overrides=["method.kind=fair-darts", "method.relaxation.keep_above=0"])
    some = 'space.operations=["skip_connect","nor_conv_3x3"]'
    with pytest.raises(ConfigError, match="of which none is `none`"):
        load_config("nasbench201-digits", overrides=["method.kind=fair-darts", some])


def test_betas_are_a_softmax_over_each_nodes_edges_and_weight_the_decoding() -> None:
    layout, method = convolutional_layout(), PcDarts()
    groups = method.groups(layout)
    assert [group.name for group in groups] == ["normal", "reduction", "betas.normal", "betas.reduction"]
    draw = torch.Generator().manual_seed(2)
    parameters = {group.name: torch.randn(group.shape, generator=draw, dtype=torch.float64) for group in groups}
    found = method.weights(layout, parameters, draws(), at(0))
    assert set(found) == {"normal", "reduction", "edges.normal", "edges.reduction"}
    sizes = [2, 3, 4, 5]
    tables = (found["edges.normal"], parameters["betas.normal"])
    for part, betas in zip(*(torch.split(table, sizes) for table in tables), strict=True):
        torch.testing.assert_close(part, betas.exp() / betas.exp().sum(), rtol=1e-12, atol=0)
    flat = torch.cat([parameters[group.name].flatten() for group in groups]).tolist()
    product = found["normal"] * found["edges.normal"].unsqueeze(1)
    decoded = torch.tensor(method.mixing(layout, flat)["normal"], dtype=torch.float64)
    torch.testing.assert_close(decoded, product, rtol=1e-6, atol=0)  # decoding rounds parameters to float32
    assert method.supernet_options == SupernetOptions(edge_weights=True, partial_channels=4)


def test_betas_decide_which_edges_a_node_keeps() -> None:
    method, layout = PcDarts(partial_channels=PartialChannels(parts=2)), SMALL
    rows = {"cell": [[0.0, 1.0, 0.0]] * 5, "betas.cell": [[0.0, 0.0, -2.0, 1.0, 1.0]]}
    genotype = method.decode(layout, flatten(method.groups(layout), rows)).genotype
    assert [source for _, source in genotype.cells[0].nodes[1]] == [1, 2]
    plain = Darts().decode(layout, flatten(layout.alphas, {"cell": rows["cell"]})).genotype
    assert [source for _, source in plain.cells[0].nodes[1]] == [0, 1]


def logit(probability: float) -> float:
    """The alpha of a sigmoid."""
    return math.log(probability / (1 - probability))


def test_fair_darts_keeps_only_strong_edges_and_drops_empty_nodes() -> None:
    rows = [[0.99, 0.9, 0.1], [0.99, 0.84, 0.2], [0.1, 0.2, 0.3], [0.1, 0.2, 0.4], [0.1, 0.2, 0.5]]
    flat = flatten(SMALL.alphas, {"cell": [[logit(p) for p in row] for row in rows]})
    decoding = FairDarts().decode(SMALL, flat)
    (cell,) = decoding.genotype.cells
    assert cell.nodes == ((Connection("a", 0),), ())
    assert cell.outputs == (2,)
    decoding.genotype.check(SMALL)
    assert list(decoding.margins["cell"]) == pytest.approx([0.05], abs=1e-6)


def test_an_empty_node_feeds_no_later_one() -> None:
    rows = [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.9], [0.1, 0.2, 0.4], [0.1, 0.99, 0.5]]
    flat = flatten(SMALL.alphas, {"cell": [[logit(p) for p in row] for row in rows]})
    (cell,) = FairDarts().decode(SMALL, flat).genotype.cells
    assert cell.nodes == ((), (Connection("b", 0),))
    assert cell.outputs == (3,)


def test_a_cell_of_weak_edges_keeps_the_strongest_of_its_last_node() -> None:
    decoding = FairDarts().decode(SMALL, [0.0] * 15)
    assert decoding.genotype.cells[0].nodes == ((), (Connection("a", 0),))
    decoding.genotype.check(SMALL)


def test_weak_edges_become_none_where_a_space_keeps_all_edges() -> None:
    layout = nasbench201_layout()
    rows = [[logit(0.5)] * 5 for _ in range(6)]
    rows[3][2] = logit(0.9)
    genotype = FairDarts().decode(layout, flatten(layout.alphas, {"cell": rows})).genotype
    genotype.check(layout)
    names = [operation for node in genotype.cells[0].nodes for operation, _ in node]
    assert names == ["none", "none", "none", "nor_conv_1x1", "none", "none"]


def test_warm_up_ends_after_its_part_of_the_epochs() -> None:
    moves = [PcDarts().moves_alphas(at(epoch, 50)) for epoch in range(50)]
    assert moves == [False] * 15 + [True] * 35
    assert all(Gdas().moves_alphas(at(epoch, 3)) for epoch in range(3))
    assert [PcDarts(warmup=0.29).moves_alphas(at(epoch, 100)) for epoch in (28, 29)] == [False, True], "0.29 * 100 < 29"


def test_the_auxiliary_skip_fades_and_is_not_decoded() -> None:
    layout, method = convolutional_layout(2), DartsMinus()
    parameters = {group.name: torch.zeros(group.shape) for group in method.groups(layout)}
    factors = [float(method.weights(layout, parameters, draws(), at(e))["auxiliary_skip"]) for e in (0, 25, 49)]
    assert factors == pytest.approx([1.0, 0.5, 0.02])
    assert set(method.mixing(layout, [0.0] * layout.num_alphas)) == {"normal", "reduction"}


def test_all_named_methods_are_registered() -> None:
    assert {find_method(name).model_fields["kind"].default for name in COMPOSED} == set(COMPOSED)


def test_the_weakest_skip_connections_beyond_the_limit_are_decoded_as_their_next_operation() -> None:
    layout = convolutional_layout(2, ("none", "skip_connect", "sep_conv_3x3"))
    skips = [[0.0, 3.0, 1.0], [0.0, 2.0, 1.0], [0.0, 1.5, 1.0], [0.0, 4.0, 1.0], [0.0, 2.5, 1.0]]
    flat = flatten(layout.alphas, {"normal": skips, "reduction": skips})
    plain = Darts().decode(layout, flat)
    assert plain.skips == {"normal": 4, "reduction": 4}
    limited = Darts(skip_limit=2).decode(layout, flat)
    found = limited.genotype.count({"skip_connect"})
    assert found == {"normal": 2, "reduction": 4}, "the reduction cell is as it was"
    assert (limited.entropy, limited.skips) == (plain.entropy, plain.skips), "a watch sees what the search does"
    first, second = limited.genotype.cell("normal").nodes
    assert first == (Connection("skip_connect", 0), Connection("sep_conv_3x3", 1)), "2.0 is weaker than 3.0"
    assert second[0] == Connection("skip_connect", 1), "4.0, the strongest, stays"
    assert second[1].operation == "sep_conv_3x3", "2.5 is weaker than 3.0 and 4.0"
    assert Darts(skip_limit=4).decode(layout, flat) == plain


def test_an_edge_without_another_operation_keeps_its_skip_connection() -> None:
    cells = tuple(
        CellLayout(cell.name, 2, 1, cell.operations, 2, choices=(("skip_connect",), ("skip_connect", "sep_conv_3x3")))
        for cell in convolutional_layout(1, ("skip_connect", "sep_conv_3x3")).cells
    )
    layout = SpaceLayout("convolutional", cells, "skip_connect", frozenset({"skip_connect"}))
    found = Darts(skip_limit=0).decode(layout, [1.0, 0.0] * 4).genotype
    assert found.count({"skip_connect"})["normal"] == 1


def test_an_operation_that_an_edge_lost_in_a_stage_does_not_take_the_place_of_its_skip_connection() -> None:
    layout = convolutional_layout(1, ("none", "skip_connect", "max_pool_3x3"))
    rows = [[0.5, 0.0, LEFT_OUT], [LEFT_OUT, 1.0, 0.5]]
    flat = flatten(layout.alphas, {"normal": rows, "reduction": rows})
    (node,) = Darts(skip_limit=0).decode(layout, flat).genotype.cell("normal").nodes
    assert set(node) == {Connection("skip_connect", 0), Connection("max_pool_3x3", 1)}
