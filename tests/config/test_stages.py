"""The list of stages: what is absent, the epochs of each, and lists that contradict the rest of a config."""

from __future__ import annotations

import pytest

from ray_darts.config import SearchConfig, load_config
from ray_darts.config.stages import Span, Stage, filled, schedule_span, span
from ray_darts.errors import ConfigError


def staged(stages: str, *overrides: str) -> SearchConfig:
    """The preset `digits` with eight channels and stages of six epochs in all."""
    return load_config("digits", overrides=["space.channels=8", "search.epochs=6", f"stages=[{stages}]", *overrides])


def test_what_is_absent_is_as_in_the_stage_before() -> None:
    first, second, third = filled(
        [Stage(epochs=2, layers=5), Stage(epochs=3, operations_kept=4, restart=True), Stage(epochs=1, layers=9)]
    )
    assert (first.layers, first.operations_kept, first.parts) == (5, None, None)
    assert (second.layers, second.operations_kept, second.restart) == (5, 4, True)
    assert (third.epochs, third.layers, third.operations_kept, third.restart) == (1, 9, 4, False)
    assert [Stage(epochs=1, channels_fraction=part).parts for part in (1, 0.5, 0.333, 0.167)] == [1, 2, 3, 6]


def test_schedules_run_from_one_restart_to_the_next() -> None:
    stages = [Stage(epochs=n, restart=restart) for n, restart in ((2, True), (3, False), (4, True), (5, False))]
    assert [span(stages, index) for index in range(4)] == [Span(0, 2), Span(2, 3), Span(5, 4), Span(9, 5)]
    assert [schedule_span(stages, index) for index in range(4)] == [Span(0, 5)] * 2 + [Span(5, 9)] * 2


def test_a_stage_has_its_own_space_and_method() -> None:
    config = staged("{epochs=2}, {epochs=4, layers=5, channels_fraction=0.25, skip_dropout=0.5}")
    assert config.at_stage(0).model_dump(exclude={"stages"}) == config.model_dump(exclude={"stages"})
    later = config.at_stage(1)
    assert later.space.model_dump()["layers"] == 5
    assert later.method.supernet_options.partial_channels == 4
    assert not later.method.supernet_options.edge_weights, "edges have no weights, as in the first stage"
    assert later.method.supernet_options.skip_dropout
    weighted = staged("{epochs=2}, {epochs=4, channels_fraction=0.5}", "method.kind=pc-darts").at_stage(1).method
    assert weighted.supernet_options.edge_weights
    assert weighted.supernet_options.partial_channels == 2


def test_stages_are_part_of_the_identity_and_none_leave_it_as_it_was() -> None:
    plain = staged("")
    assert "stages" not in plain.identity()
    assert plain.digest() == load_config("digits", overrides=["space.channels=8", "search.epochs=6"]).digest()
    rounded = staged("{epochs=6, channels_fraction=0.334}", "space.channels=12")
    exact = staged("{epochs=6, channels_fraction=0.3333}", "space.channels=12")
    assert (rounded.identity(), rounded.digest()) == (exact.identity(), exact.digest())
    one, other = staged("{epochs=2}, {epochs=4}"), staged("{epochs=3}, {epochs=3}")
    assert one.identity()["stages"] != other.identity()["stages"]
    assert len({plain.digest(), one.digest(), other.digest()}) == 3


@pytest.mark.parametrize(
    ("stages", "overrides", "message"),
    [
        ("{epochs=2}, {epochs=3}", [], r"search\.epochs 6, but the stages have 5 in all: set search\.epochs = 5"),
        ("{epochs=2}, {epochs=4, operations_kept=0}", [], "drops every operation: an edge keeps at least 2"),
        ("{epochs=2}, {epochs=4, operations_kept=1}", [], "leaves nothing to search: an edge keeps at least 2"),
        ("{epochs=2, operations_kept=5}, {epochs=4}", [], r"stages\[0\].* nothing is known yet by which to choose"),
        ("{epochs=3, operations_kept=8}, {epochs=3, operations_kept=9}", [], r"\[1\].* exceeds the 8 that are left"),
        ("{epochs=2}, {epochs=2, operations_kept=3}, {epochs=2, operations_kept=4}", [], "exceeds the 3 that are left"),
        ("{epochs=6, channels_fraction=0.3}", [], "wanted is 1/K of a whole K"),
        ("{epochs=6, channels_fraction=1e-320}", [], "greater than or equal to 0.001"),
        ("{epochs=6, restart=true}", [], r"stages\[0\]\.restart: the first stage starts anew anyway"),
        ("{epochs=5}", ["method.kind=random"], "the stages have 5 in all"),
        (
            "{epochs=2}, {epochs=4, operations_kept=2}",
            ["watch.entropy_below=0.7"],
            r"watch.entropy_below 0.7: alphas of 2 operations that are all equal have the entropy 0.693",
        ),
        ("{epochs=2}, {epochs=4, channels_fraction=0.334}", [], r"stages\[1\]: .*parts 3: space.channels 8 is no mult"),
        ("{epochs=2}, {epochs=4, channels_fraction=1}", ["method.kind=pc-darts"], "edge_weights = false"),
        ("{epochs=2}, {epochs=4, layers=2}", [], r"stages\[1\]: layers = 2: .*greater than or equal to 3"),
        ("{epochs=2}, {epochs=4}", ["search.alpha_warmup_epochs=2"], r"\[0\]: epochs 2, but .*_warmup_epochs 2"),
        (
            "{epochs=2}, {epochs=4, operations_kept=3}",
            ["watch.action=roll_back", "watch.parameter_free=3"],
            "'roll_back' beside stages",
        ),
        (
            "{epochs=2}, {epochs=4, operations_kept=3}",
            ['operation.compile=["training"]'],
            r"stages\.operations_kept is computed edge by edge",
        ),
        ("{epochs=2}, {epochs=4, channels_fraction=0.5}", ["method.kind=darts-pt"], "decoding removes edges"),
    ],
)
def test_contradictions_say_what_to_set_instead(stages: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        staged(stages, *overrides)


def test_all_mistakes_are_named_together_and_each_once() -> None:
    with pytest.raises(ConfigError) as caught:
        staged("{epochs=2, channels_fraction=0.3333}, {epochs=2, channels_fraction=0.3333}", "method.kind=darts")
    text = str(caught.value)
    assert "the stages have 4 in all" in text
    assert text.count("is no multiple of it") == 1


def test_a_space_without_layers_refuses_other_ones() -> None:
    with pytest.raises(ConfigError, match="the nasbench201 space has no number of layers"):
        load_config("nasbench201-digits", overrides=["search.epochs=2", "stages=[{epochs=1},{epochs=1,layers=4}]"])
    text = load_config("sotu").search.epochs
    with pytest.raises(ConfigError, match=r"partial_channels, which the supernet of the recurrent space has not"):
        load_config("sotu", overrides=[f"stages=[{{epochs={text}, channels_fraction=0.5}}]"])
