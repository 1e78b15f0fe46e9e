"""CIFAR-10 as Parquet files (train.parquet, test.parquet), where the environment names a folder that has them."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ray_darts.config import load_config
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import load_images
from ray_darts.data.open import open_data
from tests.data.decoded import pixels_of_set
from tests.data.settings import assert_shards_unite

FOLDER = os.environ.get("RAY_DARTS_CIFAR10_PARQUET")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="RAY_DARTS_CIFAR10_PARQUET names no folder with train.parquet"),
]


def test_the_paper_preset_splits_cifar10_in_equal_halves_of_2500_a_class() -> None:
    data = load_images(Images(source="parquet", path=FOLDER), 10**9)
    assert pixels_of_set(data).shape == (50_000, 32, 32, 3)
    for rows in (data.weight_rows, data.alpha_rows):
        assert np.bincount(data.labels.numpy()[rows]).tolist() == [2500] * 10
    assert data.digests["split"] == "b951ca1b318da34d044b5346e38f6f090f1ce14525f670e6849623f25ede53fc"
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-3)


def test_the_paper_preset_has_390_full_steps_and_shards_that_unite() -> None:
    data = open_data(load_config("cifar10", overrides=["data.source=parquet", f"data.path={FOLDER}"]), 0)
    assert data.num_steps(0) == 390
    assert_shards_unite(data, 3, 389, 3)
