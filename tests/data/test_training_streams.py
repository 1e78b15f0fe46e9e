"""The batches of a training: each sample of its part at most once an epoch, augmented; validation as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ray_darts.config import TrainingSettings
from ray_darts.data.batch import Batch, generator
from ray_darts.data.images.training import ImageTrainingStreams
from ray_darts.data.open import open_data
from ray_darts.data.text.windows import normal_windows
from tests.data.held_out import load
from tests.data.settings import ALONE, CPU, same
from tests.training.tiny import text_config

SIZE = 13


def streams(seed: int = 0, cutout: int = 0, **data: Any) -> ImageTrainingStreams:
    """Trainings on 60 digits, validated on 30, in float64."""
    images = load("digits", fraction=0.05, alpha_fraction=0.3, **data)
    training = TrainingSettings(batch_size=SIZE, precision="float64", cutout=cutout)
    return images.training_streams(training, seed)


def batches_of(data: ImageTrainingStreams, epoch: int) -> list[Batch]:
    return [data.training_batch(epoch, index, ALONE, CPU) for index in range(data.num_steps(epoch))]


def samples_of(batches: list[Batch]) -> list[bytes]:
    """The inputs of each sample, in order, to tell samples apart."""
    return [image.numpy().tobytes() for batch in batches for image in batch.inputs]


def test_an_epoch_has_each_sample_of_the_training_part_at_most_once_in_an_order_of_its_own() -> None:
    data = streams()
    orders = [samples_of(batches_of(data, epoch)) for epoch in (0, 1)]
    assert all(len(order) == len(set(order)) == 4 * SIZE for order in orders)
    assert orders[0] != orders[1]
    assert orders[0] != samples_of(batches_of(streams(seed=1), 0))
    validation = set(samples_of(list(data.validation_batches(ALONE, CPU))))
    assert len(validation) == 30
    assert not validation & set(orders[0] + orders[1])


def test_each_step_draws_its_own_augmentation() -> None:
    data = streams(padding=1)
    steps = [batch.draws.step for epoch in (0, 1) for batch in batches_of(data, epoch)]
    assert steps == list(range(8))
    assert {batch.draws.stream for batch in batches_of(data, 0)} == {"training"}


def test_training_images_are_moved_and_flipped_and_validation_images_are_not() -> None:
    plain = streams()
    for settings in ({"padding": 1}, {"flip": True}):
        moved = streams(**settings)
        one, other = plain.training_batch(0, 0, ALONE, CPU), moved.training_batch(0, 0, ALONE, CPU)
        assert same(one.targets, other.targets)
        assert not torch.equal(one.inputs, other.inputs)
        for kept, again in zip(plain.validation_batches(ALONE, CPU), moved.validation_batches(ALONE, CPU), strict=True):
            assert same(kept.inputs, again.inputs)


def test_cutout_sets_a_square_of_each_training_image_to_the_mean_and_of_no_validation_image() -> None:
    plain, cut = streams(), streams(cutout=3)
    one, other = plain.training_batch(0, 0, ALONE, CPU).inputs, cut.training_batch(0, 0, ALONE, CPU).inputs
    changed = one != other
    assert (other[changed] == 0).all(), "0 is the mean after normalising"
    assert changed.any(dim=(1, 2, 3)).float().mean() > 0.5
    for image in changed[:, 0]:
        places = image.nonzero()
        if len(places):
            assert ((places.max(0).values - places.min(0).values) < 3).all()
    for kept, again in zip(plain.validation_batches(ALONE, CPU), cut.validation_batches(ALONE, CPU), strict=True):
        assert same(kept.inputs, again.inputs)


def test_windows_are_drawn_from_a_normal_distribution_around_bptt_or_its_half() -> None:
    """As arXiv:1708.02182, section 5, says: mean bptt at 95 %, deviation 5, at most bptt + 20; lengths are cut to whole
    words, so their mean is half a word less."""
    lengths = np.diff(normal_windows(generator(0, "lengths"), 700_000, 70))[:-1]
    short, long = lengths[lengths < 52], lengths[lengths >= 52]
    assert abs(len(short) / len(lengths) - 0.05) < 0.01
    assert abs(long.mean() - 69.5) < 0.3
    assert abs(short.mean() - 34.5) < 1
    assert abs(long.std() - 5) < 0.2
    assert 80 < lengths.max() <= 90
    narrow = np.diff(normal_windows(generator(0, "lengths"), 70_000, 6))[:-1]
    assert (narrow.min(), narrow.max() <= 26) == (5, True)


def test_a_training_on_text_draws_its_windows_by_that_rule_and_by_its_seed(tmp_path: Path) -> None:
    config = text_config(tmp_path)
    lengths = {}
    for seed in (0, 1):
        data = open_data(config, seed)
        lengths[seed] = [
            [len(data.training_batch(epoch, index, ALONE, CPU).inputs) for index in range(data.num_steps(epoch))]  # type: ignore[attr-defined]
            for epoch in range(4)
        ]
    assert len({length for epoch in lengths[0] for length in epoch}) > 3
    assert lengths[0][0] != lengths[0][1]
    assert lengths[0] != lengths[1]
