"""Each setting of a training reaches its steps, and a step keeps the hidden state, the average and the totals."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_darts.config import TrainingConfig
from ray_darts.data.batch import Batch, Shard
from ray_darts.data.open import open_data
from ray_darts.protocols.dataset import TrainingData
from ray_darts.spaces.derived import LossSettings
from ray_darts.spaces.genotypes import published
from ray_darts.training.loop import TrainingLoop
from tests.search.searches import Remembering
from tests.training.tiny import CPU, text_config, tiny_config, tiny_loop

ALONE = Shard()


class Done(NamedTuple):
    """One step as it was done, and the state after it."""

    epoch: int
    rate: float
    batch: Batch
    settings: LossSettings
    weights: Tensor
    averaged: bool
    samples: float


def watched(loop: TrainingLoop) -> list[Done]:
    """The steps of the loop, which fill as it runs."""
    done: list[Done] = []
    step, do = loop.training, loop.training.step_

    def step_(batch: Batch, rate: float, settings: LossSettings) -> None:
        do(batch, rate, settings)
        averaged, samples = step.average is not None, float(step.totals[-1])
        done.append(Done(loop.epoch, rate, batch, settings, step.weights.vector.clone(), averaged, samples))

    step.step_ = step_  # type: ignore[method-assign]
    return done


def text_loop(config: TrainingConfig) -> tuple[TrainingLoop, TrainingData]:
    data = open_data(config, 0)
    return tiny_loop(config, genotype=published("DARTS_V1", "recurrent"), data=data), data  # type: ignore[arg-type, return-value]


def test_each_step_has_the_rate_of_its_epoch_times_that_of_its_window(tmp_path: Path) -> None:
    config = text_config(tmp_path, "weights.schedule=exponential", "weights.decay=0.5", "weights.learning_rate=0.8")
    loop, _ = text_loop(config)
    done = watched(loop)
    loop.run(Remembering())
    assert {step.epoch for step in done} == {0, 1, 2}
    assert len({step.batch.learning_rate_scale for step in done}) > 2
    for step in done:
        assert step.rate == pytest.approx(0.8 * 0.5**step.epoch * step.batch.learning_rate_scale)
        assert step.batch.learning_rate_scale == pytest.approx(len(step.batch.inputs) / 6)


def test_the_loss_of_every_step_has_the_settings_of_the_training() -> None:
    config = tiny_config(
        "training.label_smoothing=0.1",
        "training.auxiliary_weight=0.4",
        "training.class_weights=balanced",
        "data.image_size=32",
        "training.epochs=2",
    )
    loop = tiny_loop(config)
    done = watched(loop)
    loop.run(Remembering())
    for step in done:
        settings = step.settings
        assert (settings.label_smoothing, settings.auxiliary_weight) == (0.1, 0.4)
        assert settings.drop_path == 0.5 * step.epoch / 2
        assert settings.class_weights is loop._class_weights is not None


def test_the_totals_are_those_of_one_epoch() -> None:
    loop = tiny_loop(tiny_config())
    done = watched(loop)
    loop.run(Remembering())
    assert [step.samples for step in done] == [13.0, 26.0, 39.0, 52.0] * 3


def test_a_window_begins_with_the_hidden_state_that_the_last_one_left(tmp_path: Path) -> None:
    loop, data = text_loop(text_config(tmp_path))
    step, settings = loop.training, LossSettings()
    step.weights.vector.mul_(20)  # the first weights are so small that no state would be seen
    first, second = (data.training_batch(0, index, ALONE, CPU) for index in (0, 1))
    step.step_(first, 0.0, settings)
    carry = loop.network.training_loss(first, loop.network.initial_carry(13, CPU), settings).carry
    assert carry is not None
    torch.testing.assert_close(step.carry, carry, rtol=0, atol=0)
    step.totals.zero_()
    step.step_(second, 0.0, settings)
    wanted, without = (
        loop.network.training_loss(second, state, settings).sums.double() for state in (carry, torch.zeros_like(carry))
    )
    torch.testing.assert_close(step.totals, wanted)
    assert not torch.allclose(step.totals, without)


def test_the_average_is_the_mean_of_the_weights_since_it_began_and_it_is_scored(tmp_path: Path) -> None:
    config = text_config(tmp_path, "training.average_after=1", "training.epochs=6", "weights.learning_rate=30.0")
    loop, _ = text_loop(config)
    done = watched(loop)
    loop.run(Remembering())
    since = [step.weights for step in done if step.averaged]
    assert 1 < len(since) < len(done)
    average, last = loop.training.average, loop.training.weights.vector.clone()
    assert average is not None
    torch.testing.assert_close(average, torch.stack(since).mean(0), rtol=0, atol=1e-12)
    with loop.training.scored_weights():
        assert torch.equal(loop.training.weights.vector, average)
    assert torch.equal(loop.training.weights.vector, last)
    assert not torch.equal(average, last)


def test_restored_weights_have_no_momentum_and_no_hidden_state(tmp_path: Path) -> None:
    config = text_config(tmp_path, "weights.momentum=0.9")
    loop, _ = text_loop(config)
    loop.run(Remembering())
    step = loop.training
    momentum = step.weight_step.sgd.momentum_buffer
    assert step.carry is not None
    assert step.carry.abs().max() > 0
    assert momentum.abs().max() > 0
    weights, statistics = step.weights.vector + 1, step.statistics.vector.clone()
    step.restore_(weights, statistics)
    assert torch.equal(step.weights.vector, weights)
    assert momentum.abs().max() == 0
    assert step.carry.abs().max() == 0


def test_the_best_weights_and_statistics_are_those_that_scored_best() -> None:
    loop, sink = tiny_loop(tiny_config("weights.learning_rate=0.4", "weights.schedule=constant")), Remembering()
    loop.run(sink)
    best, last = loop.record.best, loop.record.last
    assert best is not None
    assert best != last, "else the last weights would do"
    assert loop._best is not None
    with loop.training.scored_weights(*loop._best):
        scores = loop._validate()
    assert scores == pytest.approx(best, rel=1e-12)
    accuracies = [epoch.quality["validation_accuracy"] or 0.0 for epoch in sink.epochs]
    assert loop.record.best_epoch == int(np.argmax(accuracies))
