"""What a loop reports of an epoch: strict names, finite numbers, quality metrics beside the other fields."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from ray_darts.tasks.metrics import CellMetrics, EpochMetrics


def reported(**more: object) -> EpochMetrics:
    return EpochMetrics.model_validate({"epoch": 0, "step": 3, "train_loss": 1.0, "validation_loss": 2.0, **more})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_number_that_is_not_finite_becomes_none(value: float) -> None:
    cell = CellMetrics(entropy=2.0, skips=1, parameter_free=1, margins=(0.5, value))
    epoch = reported(train_loss=value, quality={"train_accuracy": value}, steps_per_s=value, cells={"normal": cell})
    assert (epoch.train_loss, epoch.quality["train_accuracy"], epoch.steps_per_s) == (None, None, None)
    assert epoch.cells["normal"].margins == (0.5, None)


def test_a_number_of_numpy_becomes_a_float() -> None:
    epoch = reported(train_loss=np.float32(0.5), quality={"validation_top5": np.float64(0.25)})
    assert (type(epoch.train_loss), epoch.train_loss) == (float, 0.5)
    assert type(epoch.quality["validation_top5"]) is float


def test_a_quality_metric_lies_beside_the_losses_and_comes_back() -> None:
    epoch = reported(quality={"train_accuracy": 0.5, "validation_top5": 0.75})
    plain = json.loads(epoch.model_dump_json())
    assert "quality" not in plain
    assert (plain["train_accuracy"], plain["validation_accuracy"], plain["validation_top5"]) == (0.5, None, 0.75)
    assert EpochMetrics.model_validate_json(epoch.model_dump_json()) == epoch
    assert EpochMetrics.model_validate(epoch.model_dump()) == epoch


def test_the_four_metrics_of_the_first_release_are_always_written() -> None:
    plain = reported().model_dump(mode="json")
    names = [f"{split}_{name}" for split in ("train", "validation") for name in ("accuracy", "perplexity")]
    assert {name: plain[name] for name in names} == dict.fromkeys(names)


@pytest.mark.parametrize("name", ["surprise", "accuracy", "train_", "train_Accuracy", "trainaccuracy", "test_loss"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"unknown {name}"):
        reported(**{name: 0.5})
    with pytest.raises(ValidationError, match=f"unknown {name}"):
        reported(quality={name: 0.5})


def test_a_loss_is_no_quality_metric() -> None:
    with pytest.raises(ValidationError, match="unknown train_loss"):
        reported(quality={"train_loss": 0.5})


@pytest.mark.parametrize(
    "change",
    ['"quality":{}', '"train_accuracy":NaN', '"train_accuracy":"0.5"', '"steps_per_s":"1"', '"surprise":1'],
)
def test_json_is_read_strictly(change: str) -> None:
    text = '{"epoch":0,"step":3,"train_loss":1.0,"validation_loss":2.0,' + change + "}"
    with pytest.raises(ValidationError):
        EpochMetrics.model_validate_json(text)


def test_scalars_are_what_is_known() -> None:
    cell = CellMetrics(entropy=2.0, skips=1, parameter_free=1, margins=())
    epoch = reported(quality={"train_accuracy": 0.5}, cells={"normal": cell}, genotype="{}")
    assert epoch.scalars() == {
        "epoch": 0,
        "step": 3,
        "train_loss": 1.0,
        "validation_loss": 2.0,
        "train_accuracy": 0.5,
        "normal.entropy": 2.0,
        "normal.skips": 1,
        "normal.parameter_free": 1,
    }
