"""The same name is the same experiment: by what is computed, whatever the defaults of the release that asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, JsonValue

from ray_darts.artifacts.experiment import check_same, read_experiment, register_run
from ray_darts.artifacts.local import LocalStore
from ray_darts.config import SearchConfig
from ray_darts.config.kinds import read_method
from ray_darts.config.search import SearchSettings, WeightOptimiser
from ray_darts.config.watch import WatchSettings
from ray_darts.data.images.dataset import Images
from ray_darts.data.text.dataset import Text
from ray_darts.errors import ConfigError, CorruptObject
from ray_darts.methods.darts import Darts
from ray_darts.orchestration.plan import plan_sweep
from ray_darts.orchestration.requests import SearchRequest, check_identity
from ray_darts.orchestration.run_execution import RankContext
from ray_darts.protocols import registry
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from tests.orchestration.test_run_execution import Stopping, eager
from tests.orchestration.tiny import EXPERIMENT, assigned, is_clean, published, search_here
from tests.search.searches import TINY, tiny_config

RUN = "first-order-seed-0"


class LaterWeights(WeightOptimiser):
    """A release that changed a default."""

    momentum: float = Field(0.8, ge=0, lt=1)


class OtherDefault(SearchConfig):
    weights: LaterWeights = Field(default_factory=LaterWeights)


class LaterSearch(SearchSettings):
    """A release that added a setting."""

    draws: int = 1


class MoreSettings(SearchConfig):
    search: LaterSearch = Field(default_factory=LaterSearch)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def other_default(**weights: float) -> OtherDefault:
    """The tiny config, as the release with the other default of momentum reads it."""
    config = eager()
    explicit = config.weights.model_dump(exclude_defaults=True)
    return OtherDefault(
        **{name: getattr(config, name) for name in SearchConfig.model_fields if name != "weights"},
        weights=LaterWeights(**{**explicit, **weights}),
    )


def more_settings(draws: int) -> MoreSettings:
    """The tiny config with the setting that came later."""
    config = tiny_config()
    search = LaterSearch(**config.search.model_dump(), draws=draws)
    return MoreSettings(
        **{name: getattr(config, name) for name in SearchConfig.model_fields if name != "search"}, search=search
    )


def request(store: LocalStore, config: SearchConfig) -> SearchRequest:
    return SearchRequest(config, EXPERIMENT, store.uri, (0,), ("first",))


def test_a_changed_default_does_not_continue_an_old_experiment(store: LocalStore) -> None:
    assignment = assigned(store, eager())
    search_here(assignment, store, RankContext(hooks=Stopping(after=1)))
    later = other_default()
    assert later.digest() == eager().digest(), "the digests are equal, the mathematics are not"
    with pytest.raises(ConfigError, match=r"weights\.momentum: 0\.9 there, 0\.8 asked"):
        plan_sweep(request(store, later), store)
    outcome = search_here(assignment.model_copy(update={"config": later}), store)
    assert outcome.kind != "finished"
    assert "weights.momentum: 0.9 there, 0.8 asked" in outcome.detail


def test_the_old_value_asked_for_explicitly_continues_whatever_its_digest(store: LocalStore, tmp_path: Path) -> None:
    assignment = assigned(store, eager())
    search_here(assignment, store, RankContext(hooks=Stopping(after=1)))
    later = other_default(momentum=0.9)
    assert later.digest() != eager().digest()
    assert len(plan_sweep(request(store, later), store).to_do) == 1
    assert search_here(assignment.model_copy(update={"config": later}), store).kind == "finished"
    twin = LocalStore(tmp_path / "twin")
    search_here(assigned(twin, eager()), twin)
    assert published(store, RUN) == published(twin, RUN)
    assert is_clean(store)


def test_an_experiment_from_before_a_setting_continues_at_its_default_only(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned(store, tiny_config())
    monkeypatch.setattr("ray_darts.config.root.SearchSettings", LaterSearch)  # the later release's own settings
    plan_sweep(request(store, more_settings(draws=1)), store)
    with pytest.raises(ConfigError, match=r"search\.draws: absent there, which means 1, 2 asked"):
        plan_sweep(request(store, more_settings(draws=2)), store)


def _without_added(identity: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Fields that came after the first release are left out of an identity at their default."""
    added = Images.ADDED | Text.ADDED | ConvolutionalSpace.ADDED
    sections = {"data": identity["data"], "space": identity["space"]}
    kept = {
        section: {name: value for name, value in values.items() if name not in added}
        for section, values in sections.items()
        if isinstance(values, dict)
    }
    return identity | kept


def test_default_identities_have_the_same_kinds_and_every_field() -> None:
    config = tiny_config()
    later: dict[str, JsonValue] = {
        "method": read_method().model_dump(mode="json"),
        "watch": WatchSettings().model_dump(mode="json"),
        "stages": [],
    }
    defaults = config.identity_defaults()
    assert _without_added(defaults) == SearchConfig().identity() | later
    recurrent = SearchConfig.model_validate({"space": {"kind": "recurrent"}, "data": {"kind": "text"}})
    assert _without_added(recurrent.identity_defaults()) == recurrent.identity() | later
    assert TINY, "the tiny config differs from the defaults"
    assert defaults != config.identity() | later


def test_an_experiment_whose_space_has_reordered_its_operations_is_refused(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned(store, tiny_config())
    layout = tiny_config().space.layout()
    turned = tuple(replace(cell, operations=(*cell.operations[1:], cell.operations[0])) for cell in layout.cells)
    monkeypatch.setattr(ConvolutionalSpace, "layout", lambda self: replace(layout, cells=turned))
    with pytest.raises(ConfigError, match=r"layout: normal of 2 nodes with none, .* there, normal of .*, none"):
        plan_sweep(request(store, tiny_config()), store)


def test_data_of_other_digests_is_refused_whatever_their_names(store: LocalStore) -> None:
    assigned(store, tiny_config())
    there = read_experiment(store, EXPERIMENT)
    with pytest.raises(ConfigError, match=r"data data: digest .* there, none asked\n +data split: .*\n +data train: "):
        check_same(there, there.model_copy(update={"data_digests": {"train": "0" * 64}}))


class Warming(Darts):
    """A method as its later release has it: with a setting that came later."""

    kind: Literal["warming"] = "warming"  # type: ignore[assignment]
    warm: int = 0


def test_a_methods_later_setting_continues_its_old_experiments_at_its_default_only(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered["method"], "warming", registry._Registered(Warming, "here"))

    def later(warm: int) -> SearchConfig:
        return tiny_config().model_copy(update={"method": Warming(warm=warm)})

    assigned(store, later(0))
    there = read_experiment(store, EXPERIMENT)
    old = there.model_copy(update={"identity": {**there.identity, "method": {"kind": "warming"}}})
    check_identity(old, later(0))
    with pytest.raises(ConfigError, match=r"method\.warm: absent there, which means 0, 1 asked"):
        check_identity(old, later(1))
    bare = there.model_copy(update={"identity": {name: v for name, v in there.identity.items() if name != "method"}})
    with pytest.raises(ConfigError, match=r"method\.kind: absent there, which means 'darts', 'warming' asked"):
        check_identity(bare, later(0))
    run = register_run(store, EXPERIMENT, "warming-0", 0, "first", method={"kind": "warming"})
    assert register_run(store, EXPERIMENT, "warming-0", 0, "first", method={"kind": "warming", "warm": 0}) == run
    with pytest.raises(CorruptObject, match="is not second order"):
        register_run(store, EXPERIMENT, "warming-0", 0, "second", method={"kind": "warming"})
