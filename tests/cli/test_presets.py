import json
import tomllib

import pytest

from ray_darts.config import (
    load_config,
    load_training_config,
    preset_names,
    preset_text,
    training_preset_names,
    training_preset_text,
)
from tests.cli.running import ray_darts


def test_every_preset_is_listed_with_a_line() -> None:
    names = [*preset_names(), *(f"training/{name}" for name in training_preset_names())]
    lines = ray_darts("presets").stdout.splitlines()
    assert [line.split()[0] for line in lines] == names
    assert all(len(line.split()) > 3 and len(line) < 120 for line in lines)
    assert set(json.loads(ray_darts("presets", "--json").stdout)) == set(names)


@pytest.mark.parametrize(
    ("name", "text"), [("digits", preset_text("digits")), ("training/digits", training_preset_text("digits"))]
)
def test_a_named_preset_is_printed_as_it_is_shipped(name: str, text: str) -> None:
    ran = ray_darts("presets", name)
    assert ran.stdout == text
    assert tomllib.loads(ran.stdout)


def test_as_json_it_is_spelled_out() -> None:
    assert json.loads(ray_darts("presets", "digits", "--json").stdout) == load_config("digits").model_dump(mode="json")
    training = json.loads(ray_darts("presets", "training/ptb", "--json").stdout)
    assert training == load_training_config("ptb").model_dump(mode="json")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("nope", "there are cifar10, cifar10-deep"),
        ("training/nope", "there are cifar10, cifar100"),
    ],
)
def test_an_unknown_preset_exits_2(name: str, known: str) -> None:
    ran = ray_darts("presets", name)
    assert (ran.code, ran.stdout) == (2, "")
    assert known in ran.stderr
