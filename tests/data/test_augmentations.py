"""Random changes of training images, each against torchvision or a plain oracle with the numbers that it drew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from ray_darts.config import load_config
from ray_darts.data.batch import Draws
from ray_darts.data.images.augmentations import ColourJitter, Crop, Flip, RandomResizedCrop, read_augmentation
from ray_darts.data.images.streams import ImageStreams
from ray_darts.errors import ConfigError
from ray_darts.protocols.augmentation import Augmentation
from tests.data.settings import ALONE, CPU, assert_shards_unite, image_config, same
from tests.protocols.plugins import write_plugin

DRAWS = Draws(3, "train", 7, 0, 6, 6)


def images(channels: int = 3, size: int = 8) -> Tensor:
    drawn = np.random.default_rng(0).random((6, channels, size, size))
    return torch.from_numpy(drawn)


def drawn(name: str, count: int) -> list[list[float]]:
    """The numbers of each image."""
    found: list[list[float]] = DRAWS.uniform(f"x.{name}", (6, count), batch_dim=0, like=images()).tolist()
    return found


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    out = Crop(padding=2).apply(images(), DRAWS, "x")
    padded = torch.nn.functional.pad(images(), (2, 2, 2, 2))
    places = (DRAWS.generator("x.crop").random((6, 2)) * 5).astype(int).tolist()
    wanted = [image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, places, strict=True)]
    assert torch.equal(out, torch.stack(wanted))
    assert len(set(map(tuple, places))) > 1


def test_a_flip_exchanges_left_and_right_of_some() -> None:
    out = Flip().apply(images(), DRAWS, "x")
    turned = [torch.equal(one, image.flip(2)) for one, image in zip(out, images(), strict=True)]
    assert turned == (DRAWS.generator("x.flip").random(6) < 0.5).tolist()
    assert {True, False} == set(turned)
    assert torch.equal(Flip(probability=1).apply(images(), DRAWS, "x"), images().flip(3))


def test_a_resized_crop_of_everything_is_the_image() -> None:
    out = RandomResizedCrop(scale=(1, 1), ratio=(1, 1)).apply(images(), DRAWS, "x")
    torch.testing.assert_close(out, images(), rtol=0, atol=1e-12)


def test_a_resized_crop_is_a_part_of_the_drawn_area_ratio_and_place() -> None:
    """On an image whose channels are its own coordinates, a crop shows where it lies."""
    size = 16
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    ramp = torch.stack([centres.expand(size, size), centres[:, None].expand(size, size)]).expand(6, 2, size, size)
    settings = RandomResizedCrop(scale=(0.2, 0.6), ratio=(0.5, 2.0))
    out = settings.apply(ramp, DRAWS, "x")
    for crop, (area, tilt, across, down) in zip(out, drawn("crop", 4), strict=True):
        share, ratio = 0.2 + 0.4 * area, 0.5 * 4**tilt
        width, height = min(1.0, (share * ratio) ** 0.5), min(1.0, (share / ratio) ** 0.5)
        across, down = across * (1 - width), down * (1 - height)
        lowest, highest = centres[0], centres[-1]  # what lies beyond the middle of a border pixel is that pixel
        torch.testing.assert_close(crop[0, 0], (across + width * centres).clamp(lowest, highest), rtol=0, atol=1e-12)
        torch.testing.assert_close(crop[1, :, 0], (down + height * centres).clamp(lowest, highest), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "place", "change"),
    [
        ({"brightness": 0.4}, 0, functional.adjust_brightness),
        ({"contrast": 0.4}, 1, functional.adjust_contrast),
        ({"saturation": 0.4}, 2, functional.adjust_saturation),
        ({"hue": 0.3}, 3, functional.adjust_hue),
    ],
)
def test_colours_change_as_torchvision_changes_them(settings: dict[str, float], place: int, change: object) -> None:
    alone = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0} | settings
    out = ColourJitter(**alone).apply(images(), DRAWS, "x")
    ((name, strength),) = settings.items()
    assert callable(change)
    for one, image, numbers in zip(out, images(), drawn("colour", 4), strict=True):
        shift = strength * (2 * numbers[place] - 1)
        wanted = change(image, shift if name == "hue" else 1 + shift)
        # torchvision's luma is 0.2989, 0.587, 0.114, and it divides by a spread with an epsilon in its hue
        tolerance = {"brightness": 1e-12, "hue": 1e-6}.get(name, 2e-4)
        torch.testing.assert_close(one, wanted, rtol=0, atol=tolerance)
    assert (out - images()).abs().max() > 0.05


def test_grey_images_have_neither_saturation_nor_hue() -> None:
    only = ColourJitter(brightness=0, contrast=0, saturation=1, hue=0.5)
    assert torch.equal(only.apply(images(1), DRAWS, "x"), images(1))
    assert not torch.equal(ColourJitter().apply(images(1), DRAWS, "x"), images(1))


ALL: list[dict[str, object]] = [
    {"kind": "random_resized_crop"},
    {"kind": "crop", "padding": 2},
    {"kind": "flip"},
    {"kind": "colour_jitter", "hue": 0.2},
]


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_an_image_is_changed_equally_on_any_number_of_ranks(world_size: int, precision: str) -> None:
    data = streams(precision, ALL)
    assert_shards_unite(data, 0, 1, world_size)
    assert_shards_unite(data, 2, 0, world_size)


def streams(precision: str = "float32", augment: list[dict[str, object]] | None = None) -> ImageStreams:
    config = image_config(13, precision, source="digits", fraction=0.1, augment=augment or [])
    data = config.data.load(10**9).streams(config.search, 0)
    assert isinstance(data, ImageStreams)
    return data


def test_training_batches_are_changed_and_those_of_the_evaluation_are_not() -> None:
    plain, changed = streams(), streams(augment=ALL)
    for one, other in zip(
        plain.bilevel_batches(0, 0, ALONE, CPU), changed.bilevel_batches(0, 0, ALONE, CPU), strict=True
    ):
        assert one.inputs.shape == other.inputs.shape
        assert one.inputs.dtype == other.inputs.dtype
        assert not torch.equal(one.inputs, other.inputs)
        assert same(one.targets, other.targets)
    pairs = zip(plain.evaluation_batches(ALONE, CPU), changed.evaluation_batches(ALONE, CPU), strict=True)
    assert all(same(one.inputs, other.inputs) for one, other in pairs)


def test_no_two_steps_and_no_two_entries_of_the_list_draw_the_same() -> None:
    twice = streams(augment=[{"kind": "flip"}, {"kind": "flip"}])
    once = streams(augment=[{"kind": "flip"}])
    first, _ = twice.bilevel_batches(0, 0, ALONE, CPU)
    second, _ = once.bilevel_batches(0, 0, ALONE, CPU)
    assert not torch.equal(first.inputs, second.inputs)


PLUGIN = """
from typing import Literal
from ray_darts import Augmentation, register

class Darker(Augmentation):
    kind: Literal["darker"] = "darker"
    factor: float = 0.5

    def apply(self, images_NCHW, draws, name):
        return images_NCHW * self.factor

register(Darker)
"""


def test_an_augmentation_of_ones_own_is_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path, "darkening", PLUGIN)
    monkeypatch.chdir(tmp_path)
    overrides = ['plugins=["darkening"]', "data.padding=0", 'data.augment=[{kind="darker", factor=0.25}]']
    config = load_config("digits", overrides=overrides)
    (found,) = config.data.model_dump()["augment"]
    assert found == {"kind": "darker", "factor": 0.25}
    assert config.identity() != load_config("digits", overrides=["data.padding=0"]).identity()


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ([{"kind": "blur"}], "unknown augmentation 'blur'; known are crop, flip, random_resized_crop, colour_jitter"),
        (["flip"], "wanted"),
        ([{"kind": "random_resized_crop", "scale": [0.5, 0.1]}], "0 < smallest <= largest <= 1"),
        ([{"kind": "colour_jitter", "hue": 0.6}], "less than or equal to 0.5"),
    ],
)
def test_what_is_no_augmentation_is_refused(augment: list[object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        image_config(13, source="digits", augment=augment)


def test_the_old_settings_beside_the_list_are_refused() -> None:
    with pytest.raises(ConfigError, match="augment beside padding or flip: leave those out"):
        image_config(13, source="digits", flip=True, augment=ALL)


def test_an_augmentation_is_read_once() -> None:
    flip = Flip(probability=0.25)
    assert read_augmentation(flip) is flip
    assert isinstance(read_augmentation({"kind": "flip"}), Augmentation)
