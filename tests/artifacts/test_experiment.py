"""What an experiment is, is written once; more runs may come, another identity may not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue

from ray_darts.artifacts.descriptions import DataSummary, ExperimentDescription
from ray_darts.artifacts.experiment import (
    check_same,
    layout_facts,
    list_experiments,
    list_runs,
    read_experiment,
    read_run,
    register_documents,
    register_experiment,
    register_run,
    space_layout,
)
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.status import run_status
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.config import SearchConfig, validate_config
from ray_darts.errors import ConfigError, CorruptObject, MissingObject
from tests.artifacts.runs import EXPERIMENT, RUN, advance, claimed, finish, register


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def write(store: ObjectStore, config: SearchConfig, data: dict[str, str]) -> None:
    register_experiment(
        store,
        "exp",
        identity=config.identity(),
        config_digest=config.digest(),
        layout=config.space.layout(),
        data_digests=data,
        code="test",
    )


@pytest.mark.parametrize("space", ["convolutional", "recurrent"])
def test_an_experiment_keeps_its_identity_and_its_layout(store: ObjectStore, space: str) -> None:
    kind = {"convolutional": "images", "recurrent": "text"}[space]
    config = validate_config({"space": {"kind": space}, "data": {"kind": kind}})
    write(store, config, {"data": "1", "split": "2"})
    described = read_experiment(store, "exp")
    assert described.identity == config.identity()
    assert described.data_digests == {"data": "1", "split": "2"}
    assert space_layout(described) == replace(config.space.layout(), may_keep_fewer=True)


def test_the_same_experiment_again_is_the_same_experiment(store: ObjectStore) -> None:
    config = validate_config({})
    write(store, config, {"data": "1"})
    before = store.get("exp/experiment.json").data
    write(store, config, {"data": "1"})
    assert store.get("exp/experiment.json").data == before


PICTURES = DataSummary(classes=("1", "2", "10"), samples=(4, 5, 6), image_size=8, channels=1, mean=(0.5,), std=(0.25,))

FOLDERS: dict[str, object] = {"kind": "images", "source": "folder", "path": "x"}


def describe(
    store: ObjectStore, data: DataSummary | None, digest: str = "1", settings: dict[str, object] = FOLDERS
) -> ExperimentDescription:
    config = validate_config({"data": settings})
    return register_experiment(
        store,
        "exp",
        identity=config.identity(),
        config_digest=config.digest(),
        layout=config.space.layout(),
        data_digests={"data": digest},
        code="test",
        data=data,
    )


def test_classes_size_mean_and_deviation_of_the_data_are_kept(store: ObjectStore) -> None:
    describe(store, PICTURES)
    assert json.loads(store.get("exp/experiment.json").data)["data"] == {
        "classes": ["1", "2", "10"],
        "samples": [4, 5, 6],
        "image_size": 8,
        "channels": 1,
        "mean": [0.5],
        "std": [0.25],
    }
    assert read_experiment(store, "exp").data == PICTURES


def test_an_experiment_without_facts_of_its_data_goes_on_and_keeps_its_bytes(store: ObjectStore) -> None:
    describe(store, None)
    before = store.get("exp/experiment.json").data
    assert "data" not in json.loads(before)
    assert describe(store, PICTURES).data is None
    assert store.get("exp/experiment.json").data == before


def test_other_data_are_refused_saying_what_is_another(store: ObjectStore) -> None:
    describe(store, PICTURES)
    text = PICTURES.model_copy(update={"classes": ("1", "10", "2"), "mean": (0.75,)})
    with pytest.raises(ConfigError) as raised:
        describe(store, text, digest="2")
    assert str(raised.value).splitlines()[1:] == [
        "  data data: digest 1 there, 2 asked",
        '  data classes: ["1", "2", "10"] there, ["1", "10", "2"] asked',
    ]


def test_other_data_than_release_0_1_read_are_refused_with_the_order_that_continues(store: ObjectStore) -> None:
    describe(store, None)
    with pytest.raises(ConfigError) as raised:
        describe(store, PICTURES, digest="2")
    _, digest, reading, order = str(raised.value).splitlines()
    assert digest == "  data data: digest 1 there, 2 asked"
    assert reading.startswith("  the files, or how they are read, have changed; 0.2 reads splits, transparency")
    assert order == (
        '  the classes are in the order ["1", "2", "10"]; 0.1 sorted class folders as text: to continue what it began, '
        'set data.classes=["1", "10", "2"]'
    )


def test_labels_that_are_no_folders_have_no_order_to_give(store: ObjectStore) -> None:
    files: dict[str, object] = {"kind": "images", "source": "parquet", "path": "x"}
    describe(store, None, settings=files)
    with pytest.raises(ConfigError) as raised:
        describe(store, PICTURES, digest="2", settings=files)
    assert "data.classes" not in str(raised.value)


def test_another_text_is_refused_saying_what_may_be_another(store: ObjectStore) -> None:
    text = validate_config({"space": {"kind": "recurrent"}, "data": {"kind": "text"}})
    write(store, text, {"data": "1"})
    with pytest.raises(ConfigError, match=r"0\.2 leaves a byte order mark out of the first word"):
        write(store, text, {"data": "2"})


def test_another_identity_is_refused_naming_every_field_that_differs(store: ObjectStore) -> None:
    write(store, validate_config({}), {"data": "1", "split": "2"})
    other = validate_config({"search": {"epochs": 3, "batch_size": 8}, "space": {"kind": "convolutional", "layers": 5}})
    with pytest.raises(ConfigError) as raised:
        write(store, other, {"data": "9", "split": "2"})
    lines = str(raised.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "search.batch_size",
        "search.epochs",
        "space.layers",
        "data data",
    ]
    assert "search.epochs: 50 there, 3 asked" in str(raised.value)


def identity_of(there: dict[str, JsonValue]) -> ExperimentDescription:
    config = validate_config({})
    return ExperimentDescription(
        experiment="exp",
        identity=there,
        config_digest="0",
        data_digests={},
        layout=layout_facts(config.space.layout()),
        code="test",
    )


OLD: dict[str, JsonValue] = {"space": {"kind": "convolutional"}, "search": {"epochs": 50}}
NEW: dict[str, JsonValue] = {
    "space": {"kind": "convolutional"},
    "search": {"epochs": 50, "draws": 1},
    "method": {"kind": "softmax", "temperature": 1.0},
}


def test_a_field_that_came_later_may_be_asked_for_at_its_default() -> None:
    check_same(identity_of(OLD), identity_of(NEW), NEW)


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("search", "draws", 2, "search.draws: absent there, which means 1, 2 asked"),
        ("method", "temperature", 0.5, "method.temperature: absent there, which means 1.0, 0.5 asked"),
        ("method", "rate", 0.5, "method.rate: absent there, 0.5 asked"),
        ("search", "epochs", 3, "search.epochs: 50 there, 3 asked"),
    ],
)
def test_a_field_that_came_later_is_refused_at_another_value(
    section: str, field: str, value: float, message: str
) -> None:
    asked = {**NEW, section: {**NEW[section], field: value}}  # type: ignore[dict-item]
    with pytest.raises(ConfigError) as raised:
        check_same(identity_of(OLD), identity_of(asked), NEW)
    assert str(raised.value).splitlines()[1:] == [f"  {message}"]


def test_a_field_that_this_release_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"search\.draws: 1 there, a field that this release does not know"):
        check_same(identity_of(NEW), identity_of({**NEW, "search": {"epochs": 50}}), OLD)


def test_digests_are_names_and_are_not_compared() -> None:
    there = identity_of(OLD).model_copy(update={"config_digest": "1"})
    check_same(there, identity_of(OLD))


def test_operation_and_store_may_differ(store: ObjectStore) -> None:
    write(store, validate_config({}), {})
    write(store, validate_config({"operation": {"workers": "4"}, "store": {"attempts": 2}}), {})


def test_runs_may_be_added_and_are_listed(store: ObjectStore) -> None:
    register(store, ("second-order-seed-3", 3))
    register(store, ("first-order-seed-0", 0), ("second-order-seed-3", 3))
    store.put(f"{EXPERIMENT}/_notes/x/marker", b"")
    assert list_runs(store, EXPERIMENT) == ["first-order-seed-0", "second-order-seed-3"]
    assert list_experiments(store) == [EXPERIMENT]
    assert read_run(store, EXPERIMENT, "first-order-seed-0").seed == 0


def test_a_run_is_not_described_twice_differently(store: ObjectStore) -> None:
    register_run(store, EXPERIMENT, RUN, 3, "second")
    with pytest.raises(CorruptObject):
        register_run(store, EXPERIMENT, RUN, 4, "second")


def test_an_absent_experiment_is_missing_and_has_no_runs(store: ObjectStore) -> None:
    with pytest.raises(MissingObject):
        read_experiment(store, "exp")
    assert list_runs(store, "exp") == []
    assert list_experiments(store) == []


def test_the_status_follows_a_run(store: ObjectStore) -> None:
    register(store)
    assert run_status(store, EXPERIMENT, RUN).state == "waiting"
    writer = claimed(store)
    assert run_status(store, EXPERIMENT, RUN).state == "claimed"
    advance(writer, 4)
    status = run_status(store, EXPERIMENT, RUN)
    assert (status.state, status.step, status.total_steps, status.epoch, status.claims) == ("searching", 4, 9, 0, 1)
    assert status.latest["train_loss"] == 1.0
    assert status.owner is not None
    assert status.owner.session == "a"
    assert status.age_s is not None
    finish(writer, 0.75)
    (status,) = experiment_status(store, EXPERIMENT)
    assert status.state == "finished"
    assert status.metric is not None
    assert status.metric.value == 0.75


def test_a_failed_run_says_why(store: ObjectStore) -> None:
    register(store)
    claimed(store).fail("non_finite", "alpha is NaN at step 7", {"rank": 1})
    status = run_status(store, EXPERIMENT, RUN)
    assert status.state == "failed"
    assert status.failure is not None
    assert (status.failure.kind, status.failure.facts) == ("non_finite", {"rank": 1})


def test_the_documents_of_a_runs_data_are_kept_once(store: ObjectStore) -> None:
    register(store)
    for _ in range(2):
        register_documents(store, EXPERIMENT, RUN, {"vocabulary.json": '["<unk>","<eos>"]'})
    assert store.get(f"{EXPERIMENT}/runs/{RUN}/vocabulary.json").data == b'["<unk>","<eos>"]'
    with pytest.raises(ConfigError, match=r"another vocabulary\.json"):
        register_documents(store, EXPERIMENT, RUN, {"vocabulary.json": '["<unk>"]'})
