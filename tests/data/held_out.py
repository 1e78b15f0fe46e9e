"""Small data sets of images with a test set, and how tests open it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.data.images.augment import Normalise
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.data.images.test_set import ImagesToTest, load_test_images
from tests.data.files import png, random_pixels, write_class_folders, write_parquet

TRAIN, TEST = random_pixels(12), random_pixels(7, seed=1)
GARBAGE = b"never looked at"


def load(source: str, path: Path | None = None, **settings: Any) -> ImageSet:
    place = {} if path is None else {"path": str(path)}
    return load_images(Images.model_validate({"source": source, **place, **settings}), 10**9)


def opened(data: ImageSet, batch_size: int = 3) -> ImagesToTest | None:
    normalise = Normalise(data.mean, data.std, data.facts.image_size, torch.float64)
    return load_test_images(data, normalise, batch_size)


def must_open(data: ImageSet, batch_size: int = 3) -> ImagesToTest:
    test = opened(data, batch_size)
    assert test is not None
    return test


def pixels_of(test: ImagesToTest) -> NDArray[np.uint8]:
    return test.images.pixels.take(np.arange(test.num_samples)).numpy()


def in_folders(folder: Path) -> ImageSet:
    write_class_folders(folder / "train", TRAIN)
    write_class_folders(folder / "test", TEST)
    return load("folder", folder)


def in_parquet(folder: Path) -> ImageSet:
    write_parquet(folder / "train.parquet", [png(picture) for picture in TRAIN], [0, 1] * 6)
    write_parquet(folder / "test-0.parquet", [png(picture) for picture in TEST[:3]], [0, 1, 0])
    write_parquet(folder / "test-1.parquet", [png(picture) for picture in TEST[3:]], [1, 0, 1, 0])
    return load("parquet", folder)
