"""search: what it accepts, what it refuses, and what it returns where no run is left to search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from ray_darts import api, errors, searches
from ray_darts.arguments import ConfigSource, read_config
from ray_darts.config import SearchConfig, load_config
from ray_darts.methods.darts import Darts
from ray_darts.methods.random import RandomSearch
from ray_darts.protocols.method import Order
from tests.api.finished import write_ended_runs

TINY = ("space.channels=2", "space.nodes=2", "search.epochs=2", "data.fraction=0.2")


class FirstOnly(Darts):
    """A method without a second order."""

    orders: ClassVar[tuple[Order, ...]] = ("first",)


def _config() -> SearchConfig:
    return load_config("digits", overrides=TINY)


def test_ended_runs_are_published_and_returned_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ended_runs(str(tmp_path), "done", _config(), ("first", 0), ("first", 1), fail="first-order-seed-1")
    result = api.search(_config(), seeds=[0, 1], orders=["first"], store=tmp_path, name="done")
    assert {run: outcome.kind for run, outcome in result.outcomes.items()} == {
        "first-order-seed-0": "finished",
        "first-order-seed-1": "failed",
    }
    assert result.best is not None
    assert (result.best.run, result.exit_code) == ("first-order-seed-0", 1)
    assert (result.experiment, result.store) == ("done", str(tmp_path))
    assert api.open_experiment(tmp_path, "done").traces().count_rows() == _config().space.layout().num_alphas
    assert capsys.readouterr() == ("", "")


def test_a_preset_a_file_a_dict_and_a_config_are_one_config(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[space]\nkind = "convolutional"\nchannels = 2\n[data]\nkind = "images"\nsource = "digits"\n')
    settings = {
        "space": {"kind": "convolutional", "channels": 2},
        "data": {"kind": "images", "source": "digits"},
    }
    sources: list[ConfigSource] = [file, str(file), settings, load_config(file=file)]
    digests = {read_config(source, ["search.epochs=3"]).digest() for source in sources}
    assert digests == {load_config(file=file, overrides=["search.epochs=3"]).digest()}
    assert settings["space"] == {"kind": "convolutional", "channels": 2}


def test_overrides_and_operation_change_a_config_and_not_the_callers() -> None:
    config = _config()
    request = searches.read_request(config, overrides=["search.epochs=7"], operation={"workers": 2, "max_hours": None})
    assert (request.config.search.epochs, request.config.operation.workers) == (7, "2")
    assert config.search.epochs == 2
    settings: dict[str, object] = {"search": {"epochs": 2}}
    assert read_config(settings, ["search.epochs=7"]).search.epochs == 7
    assert settings == {"search": {"epochs": 2}}


def test_orders_are_by_default_those_that_the_method_defines() -> None:
    assert searches.read_request("digits").orders == ("first", "second")
    only = _config().model_copy(update={"method": FirstOnly()})
    assert searches.read_request(only).orders == ("first",)
    with pytest.raises(errors.ConfigError, match="the method 'darts' does not define the order 'second'; wanted some"):
        searches.read_request(only, orders=["second"])


def test_an_order_that_one_of_several_methods_lacks_is_refused_by_name_and_never_ignored() -> None:
    lacking = "the method 'gdas' does not define the order 'second'; it defines first: leave orders out"
    with pytest.raises(errors.ConfigError, match=lacking):
        searches.read_request("digits", methods=["darts", "gdas", "random"], orders=["second"])
    request = searches.read_request("digits", methods=["darts", "gdas", "random"], seeds=1)
    assert [run.run for run in request.runs] == [
        "first-order-seed-0",
        "second-order-seed-0",
        "gdas-first-order-seed-0",
        "random-seed-0",
    ]
    with pytest.raises(errors.ConfigError, match=r"space\.channels 6 is no multiple of it"):
        searches.read_request("digits", methods=["darts", "pc-darts"], overrides=["space.channels=6"])


class Tempered(Darts):
    """The default method's name with a setting."""

    temperature: float = 1.0


def test_the_configs_method_keeps_its_settings_and_others_have_their_defaults() -> None:
    config = _config().model_copy(update={"method": Tempered(temperature=2.0)})
    request = searches.read_request(config, methods=["random", "darts"])
    assert request.methods == (RandomSearch(), Tempered(temperature=2.0))
    assert [run.coordinates.method for run in request.runs[:5]] == [{"kind": "random"}] * 4 + [None]
    drawing = _config().model_copy(update={"method": RandomSearch()})
    assert (searches.read_request(drawing).methods, searches.read_request(drawing).orders) == ((), ())
    assert searches.read_request(drawing, methods=["darts"]).methods == (Darts(),)


@pytest.mark.parametrize(("source", "name"), [("digits", "digits"), ({}, "search"), ("a/Mine.toml", "mine")])
def test_the_default_name_says_where_the_config_comes_from(
    source: ConfigSource, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Mine.toml").write_text("plugins = []")
    request = searches.read_request(source)
    assert request.experiment == f"{name}-{request.config.digest()[:8]}"


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("nope", {}, "unknown preset 'nope'"),
        ("nope.toml", {}, "cannot read the config file nope.toml"),
        (3, {}, "3: wanted is a preset's name"),
        ({"space": {"kind": "cubic"}}, {}, "unknown space 'cubic'"),
        ({"search": {"epochs": "many"}}, {}, "search.epochs = 'many'"),
        ("digits", {"overrides": "search.epochs=3"}, "wanted is a list of section.key=value"),
        ("digits", {"seeds": True}, "seeds = True"),
        ("digits", {"seeds": [1.5]}, r"seeds = \[1.5\]"),
        ("digits", {"seeds": []}, r"seeds = \[\]"),
        ("digits", {"seeds": [-1]}, "a seed lies between 0 and 2147483647"),
        ("digits", {"orders": "first"}, "orders = 'first'.*as a list"),
        ("digits", {"orders": []}, "orders = ''"),
        ("digits", {"methods": "random"}, "methods = 'random'.*as a list"),
        ("digits", {"methods": []}, "methods = ''"),
        ("digits", {"methods": ["nope"], "seeds": 0}, "seeds = 0(.|\\n)*unknown method 'nope'"),
        ("digits", {"workers": "2:1"}, "workers '2:1'"),
        ("digits", {"max_hours": -1.0}, "operation.max_hours = -1.0"),
        ("digits", {"name": "A b"}, "experiment 'A b'"),
        ("digits", {"store": "gs://bucket"}, "store 'gs://bucket'"),
    ],
)
def test_mistakes_are_config_errors_before_anything_is_written(
    source: Any, given: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.ConfigError, match=message):
        api.search(source, **given)
    assert list(tmp_path.iterdir()) == []


def test_flags_reach_the_request() -> None:
    retry: Sequence[Literal[True, False]] = (True, False)
    for value in retry:
        request = searches.read_request("digits", retry_failed=value, allow_world_size_change=not value, address="auto")
        assert (request.retry_failed, request.address) == (value, "auto")
        assert list(vars(request).values()).count(True) == 1
