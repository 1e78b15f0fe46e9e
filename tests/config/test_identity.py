"""What makes two commands one experiment. The literal digests here name users' results and must never change."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ray_darts.config import SearchConfig, load_config, preset_names, validate_config

IDENTITY = ("space", "data", "method", "weights", "alphas", "search", "watch")


@pytest.mark.parametrize(
    ("preset", "digest"),
    [
        ("cifar10", "7628a9d130180a5eb20819a949bafb5753319cae6966bbad878f433fce33862e"),
        ("digits", "4ad6e9f21d04c212435ec5f16489b3b7257a4a160914b36fb16452e55597fcd9"),
        ("ptb", "e1e333206ac7c5d06c7ed47696357d94fda8e04efebd3700e6a179038c3938cb"),
        ("sotu", "654e8e796610595733a246559093e6f911738fae92181f96ddf646202849807e"),
    ],
)
def test_a_presets_digest_stays_what_it_was(preset: str, digest: str) -> None:
    assert load_config(preset).digest() == digest


def test_the_digest_of_all_defaults_stays_what_it_was() -> None:
    assert SearchConfig().digest() == "3bd442822a95d66cad8f258555e46dd9d7debb6c01d735a03ca70b376383219a"


def test_operation_store_and_the_datas_place_are_no_part_of_the_digest() -> None:
    plain = load_config("cifar10")
    elsewhere = load_config(
        "cifar10",
        overrides=[
            "data.path=s3://bucket/data",
            "data.endpoint_url=https://data.example.org",
            "operation.workers=4",
            "operation.device=cuda",
            "store.region=eu-west-1",
        ],
    )
    assert elsewhere != plain
    assert elsewhere.digest() == plain.digest()
    assert elsewhere.identity() == plain.identity()


def test_a_default_spelled_out_is_the_same_experiment() -> None:
    spelled = load_config("digits", overrides=["search.hessian=finite_difference", "space.nodes=4", "data.flip=false"])
    assert spelled.digest() == load_config("digits").digest()


def test_identity_spells_every_default_out_and_is_json() -> None:
    identity = load_config("digits").identity()
    assert json.loads(json.dumps(identity)) == identity
    assert set(identity) == set(IDENTITY) - {"method", "watch"}, "the first release knew neither"
    assert section(identity, "search")["hessian"] == "finite_difference"
    assert not {"path", "endpoint_url"} & set(section(identity, "data"))


def test_an_identity_can_be_read_back_as_the_same_config() -> None:
    config = load_config("sotu")
    assert validate_config(config.identity()).digest() == config.digest()


@pytest.mark.parametrize("preset", preset_names())
def test_identity_defaults_are_those_of_the_same_kinds(preset: str) -> None:
    config = load_config(preset)
    defaults = config.identity_defaults()
    kinds = {name: {"kind": section(defaults, name)["kind"]} for name in ("space", "data")}
    assert kinds == {name: {"kind": getattr(config, name).kind} for name in kinds}
    identity = validate_config(kinds).identity()
    for name, later in (("data", config.data.ADDED), ("space", config.space.ADDED)):
        identity[name] = section(identity, name) | {field: section(defaults, name)[field] for field in later}
    assert identity | {name: defaults[name] for name in ("method", "watch", "stages")} == defaults
    method = section(defaults, "method")
    assert method["kind"] == "darts"
    if config.method.kind != "darts":  # the defaults of its own parts
        return
    assert method["relaxation"] == {"kind": "softmax"}
    assert not [name for name, value in method.items() if name not in ("kind", "relaxation") and value], "no part"


def test_fields_of_the_data_that_came_later_are_absent() -> None:
    plain = section(load_config("cifar10").identity(), "data")
    first = "alpha_fraction channels flip fraction image_column image_size kind label_column mean num_classes padding"
    assert plain.keys() == {*first.split(), "source", "split_seed", "std"}, (
        "release 0.1 refuses fields it does not know"
    )
    assert "test_batch_size" not in section(load_config("sotu").identity(), "data")


def test_a_held_out_test_set_is_part_of_the_identity_and_its_place_is_not() -> None:
    held_out, plain = load_config("digits"), load_config("digits", overrides=["data.test_fraction=0"])
    assert section(held_out.identity(), "data")["test_fraction"] == 0.2
    assert held_out.digest() != plain.digest()
    folder = ["data.test_fraction=0", "data.source=folder", "data.path=/x"]
    elsewhere = load_config("digits", overrides=[*folder, "data.test_path=/y"])
    assert elsewhere.identity() == load_config("digits", overrides=folder).identity()
    assert elsewhere.digest() == load_config("digits", overrides=folder).digest()


@pytest.mark.parametrize("override", ['data.classes=["cat","dog"]', "data.background=black"])
def test_labels_and_colours_are_compared_by_the_digest_of_the_data_alone(override: str) -> None:
    named = load_config("digits", overrides=[override])
    assert named.identity() == load_config("digits").identity()
    assert named.digest() != load_config("digits").digest(), "two experiments have two names by default"


def test_plugins_are_no_part_of_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare_plugin.py").write_text("")
    monkeypatch.chdir(tmp_path)
    plain, named = load_config("digits"), load_config("digits", overrides=['plugins=["bare_plugin"]'])
    monkeypatch.delitem(sys.modules, "bare_plugin")
    assert named.plugins == ("bare_plugin",)
    assert (named.digest(), named.identity()) == (plain.digest(), plain.identity())


def test_the_default_method_leaves_the_digest_as_it_was_before_there_were_methods() -> None:
    spelled = load_config("digits", overrides=["method.kind=darts"])
    assert spelled.digest() == load_config("digits").digest()


def section(identity: Mapping[str, object], name: str) -> dict[str, Any]:
    """One section of an identity."""
    values = identity[name]
    assert isinstance(values, dict)
    return values


def _leaves(model: BaseModel, prefix: str) -> Iterator[tuple[str, object]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


OTHERS: dict[str, object] = {
    "data.loading": "mapped",
    "data.storage": "aws",
    "data.cache_bytes": 10,
    "space.edge_operations": {cell: [["skip_connect", "sep_conv_3x3"]] * 14 for cell in ("normal", "reduction")},
    "space.operations": ["none", "skip_connect", "sep_conv_3x3"],
    "space.stem": "imagenet",
    "space.layers": 9,
    "space.channels": 18,
    "data.source": "cifar10",
    "data.mean": [0.5],
    "data.std": [0.5],
    "data.image_size": 16,
    "data.channels": 3,
    "data.num_classes": 10,
    "data.classes": ["cat", "dog"],
    "data.background": "black",
    "data.alpha_fraction": 0.4,
    "data.fraction": 0.9,
    "data.test_fraction": 0.2,
    "data.alpha": "validation",
    "data.on_error": "skip",
    "data.augment": [{"kind": "flip"}],
    "data.class_weights": "balanced",
    "weights.schedule": "constant",
    "weights.learning_rate_min": 0.002,
    "weights.momentum": 0.8,
    "alphas.betas": [0.4, 0.99],
    "alphas.init": "zeros",
    "search.hessian": "exact",
    "search.precision": "float64",
    "search.batch_norm": "sync",
    "search.stop_on_skips": 2,
    "space.batch_norm_momentum": 0.2,
    "method.relaxation": {"kind": "sigmoid"},
    "method.partial_channels": {"parts": 2},
    "method.regulariser": {"weight": 50.0},
    "method.perturbation": {"kind": "random"},
    "method.auxiliary_skip": {"start": 1.0},
    "method.layer_alignment": {"strength": 0.125},
    "method.decoding": {"tune_epochs": 5},
    "method.skip_dropout": {"rate": 0.4},
    "method.warmup": 0.2,
    "method.skip_limit": 2,
    "watch.action": "stop",
    "watch.parameter_free": 3,
    "watch.entropy_below": 0.5,
    "watch.eigenvalue": {"factor": 1.3},
}
TOGETHER: dict[str, dict[str, object]] = {
    "data.mean": {"data.std": [0.5]},
    "data.std": {"data.mean": [0.5]},
    "watch.action": {"watch.parameter_free": 3},
    "data.max_skipped": {"data.on_error": "skip"},
    "data.alpha": {"data.source": "folder", "data.path": "/x"},
    **{
        f"watch.{name}": {"watch.action": "roll_back", "watch.parameter_free": 3}
        for name in ("roll_backs", "weight_decay_factor", "weight_decay_max")
    },
}
"""{field: what must be set beside it}"""
PAIRS = ("data.mean", "data.std")
"""Fields that are set together or not at all."""
PLACES = ("path", "endpoint_url", "test_path", "validation_path")
FIELDS = [
    name
    for name, _ in _leaves(SearchConfig(), "")
    if name.split(".")[0] in IDENTITY
    and name not in ("space.kind", "data.kind", "method.kind", *(f"data.{place}" for place in PLACES))
]


@pytest.mark.parametrize("field", FIELDS)
def test_every_identity_field_is_part_of_the_digest(field: str) -> None:
    values = dict(_leaves(SearchConfig(), ""))
    name = ".".join(field.split(".")[:2])
    beside = TOGETHER.get(name, {})
    plain = _config_with({} if name in PAIRS else beside)
    changed = _config_with({**beside, name: OTHERS[name] if name in OTHERS else _another(values[name])})
    assert changed.digest() != plain.digest()


def _config_with(fields: Mapping[str, object]) -> SearchConfig:
    settings: dict[str, dict[str, object]] = {
        "space": {"kind": "convolutional"},
        "data": {"kind": "images"},
        "method": {"kind": "darts"},
    }
    for path, value in fields.items():
        section, key = path.split(".")
        settings.setdefault(section, {})[key] = value
    return validate_config(settings)


def _another(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 2
    return f"another {value}"
