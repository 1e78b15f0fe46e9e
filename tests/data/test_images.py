from __future__ import annotations

import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import ImageSet, ImageStreams, load_images
from ray_darts.data.open import load_data, open_data
from ray_darts.errors import DataError
from tests.data.decoded import pixels_of_set
from tests.data.settings import ALONE, CPU, assert_shards_unite, assert_union, image_config, same, shards

DIGITS = load_images(Images(), 10**9)
AUGMENTED = replace(DIGITS, settings=Images(padding=1, flip=True))


def streams(seed: int = 0, batch_size: int = 64) -> ImageStreams:
    return AUGMENTED.streams(image_config(batch_size).search, seed)


def positions(batch_inputs: torch.Tensor, data: ImageSet) -> list[int]:
    """Which samples of `data` a batch without augmentation holds."""
    pixels = batch_inputs.permute(0, 2, 3, 1).double() * data.std[0] + data.mean[0]
    wanted = (pixels * 255).round().to(torch.uint8)
    known = {image.tobytes(): row for row, image in enumerate(pixels_of_set(data))}
    assert len(known) == len(data.labels), "the check needs distinct images"
    return [known[image.numpy().tobytes()] for image in wanted]


def test_digits_are_what_they_were() -> None:
    data = open_data(image_config(), 0)
    assert data.digests == {
        "data": "bbe74ba6220adbe5995dc1c231e80955bb564b15bdd32c6aa732efb403fa14f7",
        "split": "61ae67b1359cb8db77f77698308c40802eac4bf9fe6011edf130dc5d20f18081",
    }
    assert (data.facts.num_classes, data.facts.channels, data.facts.image_size) == (10, 1, 8)
    assert data.documents == {}
    assert data.num_steps(0) == data.num_steps(7) == 14


def test_any_order_of_calls_gives_the_same_batches() -> None:
    steps = [(epoch, index) for epoch in range(3) for index in range(0, 14, 3)]
    first = {step: streams().bilevel_batches(*step, ALONE, CPU) for step in steps}
    shuffled = random.Random(0).sample(steps * 2, k=2 * len(steps))
    data = streams()
    for step in shuffled:
        for one, other in zip(first[step], data.bilevel_batches(*step, ALONE, CPU), strict=True):
            assert same(one.inputs, other.inputs)
            assert same(one.targets, other.targets)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shards_unite_to_the_global_batch_bit_for_bit(world_size: int) -> None:
    for epoch, index in [(0, 0), (0, 13), (2, 5)]:
        assert_shards_unite(streams(), epoch, index, world_size)


def test_seeds_differ_and_share_one_loaded_set() -> None:
    batches = [streams(seed).bilevel_batches(0, 0, ALONE, CPU) for seed in (0, 1)]
    for one, other in zip(*batches, strict=True):
        assert not torch.equal(one.targets, other.targets)


def test_an_epoch_never_repeats_a_weight_sample_and_drops_the_last_partial_batch() -> None:
    data = DIGITS.streams(image_config(64).search, 0)
    used: list[int] = []
    for index in range(data.num_steps(0)):
        train, _ = data.bilevel_batches(0, index, ALONE, CPU)
        assert train.num_samples == 64
        assert train.starts_epoch is (index == 0)
        used += positions(train.inputs, DIGITS)
    assert len(set(used)) == len(used) == 14 * 64 < len(DIGITS.weight_rows)
    assert set(used) <= set(DIGITS.weight_rows.tolist())
    with pytest.raises(IndexError):
        data.bilevel_batches(0, 14, ALONE, CPU)


def test_the_alpha_stream_goes_on_over_its_own_epochs_without_replacement() -> None:
    few = replace(DIGITS, alpha_rows=DIGITS.alpha_rows[:150])
    data = few.streams(image_config(64).search, 0)
    used: list[int] = []
    for step in range(20):
        _, validation = data.bilevel_batches(*divmod(step, 14), ALONE, CPU)
        assert validation.num_samples == 64
        used += positions(validation.inputs, DIGITS)
    for epoch in range(len(used) // 150):
        assert sorted(used[epoch * 150 : (epoch + 1) * 150]) == sorted(few.alpha_rows.tolist())


def test_the_halves_share_no_sample_and_are_stratified() -> None:
    assert not set(DIGITS.weight_rows) & set(DIGITS.alpha_rows)
    counts = [np.bincount(DIGITS.labels.numpy()[rows]) for rows in (DIGITS.weight_rows, DIGITS.alpha_rows)]
    assert np.abs(counts[0] - counts[1]).max() <= 1


def test_each_epoch_goes_through_the_weight_half_in_another_order() -> None:
    data = DIGITS.streams(image_config(64).search, 0)
    first, second = (data.bilevel_batches(epoch, 0, ALONE, CPU)[0] for epoch in (0, 1))
    assert set(positions(first.inputs, DIGITS)) != set(positions(second.inputs, DIGITS))


def test_augmentation_is_drawn_anew_at_each_step_and_for_each_stream() -> None:
    draws = [batch.draws for epoch in (0, 1) for batch in streams().bilevel_batches(epoch, 3, ALONE, CPU)]
    assert len({draw.generator("crop").random() for draw in draws}) == 4


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_is_the_alpha_half_once_in_order_without_augmentation(world_size: int) -> None:
    data = streams()
    wholes = list(data.evaluation_batches(ALONE, CPU))
    per_rank = [list(data.evaluation_batches(shard, CPU)) for shard in shards(world_size)]
    assert {len(batches) for batches in per_rank} == {len(wholes)}
    for index, whole in enumerate(wholes):
        assert_union(whole, [batches[index] for batches in per_rank])
    assert positions(torch.cat([whole.inputs for whole in wholes]), DIGITS) == DIGITS.alpha_rows.tolist()


def test_a_shard_of_the_last_evaluation_batch_may_be_empty() -> None:
    few = replace(DIGITS, alpha_rows=DIGITS.alpha_rows[:65])
    data = few.streams(image_config(64).search, 0)
    first, second = ([*data.evaluation_batches(shard, CPU)][-1] for shard in shards(2))
    assert first.inputs.shape == (0, 1, 8, 8)
    assert first.targets.shape == (0,)
    assert (first.share, second.share) == (0.0, 1.0)


@pytest.mark.parametrize(("precision", "dtype"), [("float64", torch.float64), ("bfloat16", torch.float32)])
def test_inputs_are_channels_last_in_the_base_type(precision: str, dtype: torch.dtype) -> None:
    train, _ = DIGITS.streams(image_config(precision=precision).search, 0).bilevel_batches(0, 0, ALONE, CPU)
    assert train.inputs.dtype == dtype
    assert train.inputs.is_contiguous(memory_format=torch.channels_last)
    assert train.targets.dtype == torch.int64


def test_batches_can_be_asked_for_on_another_device() -> None:
    for batch in streams().bilevel_batches(0, 0, ALONE, torch.device("meta")):
        assert (batch.inputs.device.type, batch.targets.device.type) == ("meta", "meta")


def test_mean_and_std_are_those_of_the_weight_half() -> None:
    pixels = pixels_of_set(DIGITS)[DIGITS.weight_rows] / 255
    assert DIGITS.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert DIGITS.std == pytest.approx([pixels.std()], rel=1e-12)
    given = load_images(Images(mean=(0.5,), std=(0.25,)), 10**9)
    assert (given.mean, given.std) == ((0.5,), (0.25,))


def test_a_fraction_of_the_data_is_less_memory_and_another_digest() -> None:
    part = load_images(Images(fraction=0.25), 10**9)
    assert len(part.labels) == pytest.approx(1797 / 4, abs=10)
    assert part.digests["data"] != DIGITS.digests["data"]
    assert len(part.weight_rows) + len(part.alpha_rows) == len(part.labels)


def test_too_little_memory_is_reported_before_decoding() -> None:
    with pytest.raises(DataError, match=r"needs 0\.000115 GB, has 1e-05; see data\.fraction"):
        load_data(image_config(loading="memory"), memory_limit_bytes=10_000)


@pytest.mark.parametrize(("alpha_fraction", "half"), [(0.9, "weight"), (0.1, "alpha")])
def test_a_half_smaller_than_a_batch_is_an_error(alpha_fraction: float, half: str) -> None:
    with pytest.raises(DataError, match=rf"the {half} half has 179 samples, fewer than search\.batch_size = 256"):
        open_data(image_config(256, alpha_fraction=alpha_fraction), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": (0.5, 0.5), "std": (1, 1)}, "data.mean has 2 values, the images have 1 channels"),
        ({"num_classes": 9}, r"digits sample 9 has label 9, wanted are 0 to 8 \(180 rows are wrong\)"),
        ({"num_classes": 11}, "no sample has the label 10"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_images(Images.model_validate(settings), 10**9)


def test_missing_scikit_learn_is_reported_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'ray-darts\[demo\]'"):
        load_images(Images(), 10**9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_bits_of_the_cpu() -> None:
    for on_cpu, on_gpu in zip(
        streams().bilevel_batches(1, 2, ALONE, CPU),
        streams().bilevel_batches(1, 2, ALONE, torch.device("cuda")),
        strict=True,
    ):
        assert on_gpu.inputs.is_contiguous(memory_format=torch.channels_last)
        assert same(on_gpu.inputs.cpu(), on_cpu.inputs)
        assert same(on_gpu.targets.cpu(), on_cpu.targets)
