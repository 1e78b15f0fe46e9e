from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.errors import DataError
from tests.data.decoded import pixels_of_set
from tests.data.files import random_pixels, write_cifar10, write_class_folders

PIXELS = random_pixels(12)


def load_folder(folder: Path, **settings: object) -> ImageSet:
    return load_images(Images.model_validate({"source": "folder", "path": str(folder), **settings}), 10**9)


def test_a_folder_of_class_folders_is_read_in_sorted_order(tmp_path: Path) -> None:
    data = load_folder(write_class_folders(tmp_path, PIXELS))
    assert data.labels.tolist() == [0] * 6 + [1] * 6
    assert np.array_equal(pixels_of_set(data), np.concatenate([PIXELS[0::2], PIXELS[1::2]]))
    assert (data.facts.num_classes, data.facts.channels, data.facts.image_size) == (2, 3, 8)


def test_a_constant_channel_needs_a_given_std(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[..., 1] = 9
    folder = write_class_folders(tmp_path, pixels)
    with pytest.raises(DataError, match=r"channel 1 is the same everywhere; set data\.mean and data\.std"):
        load_folder(folder)
    load_folder(folder, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))


def test_cifar10_is_read_by_torchvision_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = random_pixels(40, size=32)
    labels = [number % 10 for number in range(40)]
    write_cifar10(tmp_path, (pixels, labels), (pixels[:10], labels[:10]), monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    data = load_images(Images(source="cifar10", path=str(tmp_path)), 10**9)
    assert np.array_equal(pixels_of_set(data), pixels)
    assert data.labels.tolist() == labels


def test_cifar10_that_can_not_be_had_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(DataError, match=r"neither in .* nor could it be downloaded there: .*; set data\.path"):
        load_images(Images(source="cifar10", path=str(tmp_path)), 10**9)
