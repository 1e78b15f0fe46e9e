"""Weights of classes in the losses: their values, in both halves, in a step at any world size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ray_darts.config import SearchConfig, load_training_config
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.errors import ConfigError, DataError
from ray_darts.protocols.method import Progress
from ray_darts.spaces.supernet import Pass
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.data.files import png, random_pixels, write_parquet
from tests.data.settings import ALONE, CPU
from tests.search.ranks import RankProcesses
from tests.search.searches import Remembering, tiny_config, tiny_data, tiny_loop

UNBALANCED = [0] * 30 + [1] * 10


def load(folder: Path, **settings: object) -> ImageSet:
    write_parquet(folder / "a.parquet", [png(picture) for picture in random_pixels(40)], UNBALANCED)
    return load_images(Images.model_validate({"source": "parquet", "path": str(folder), **settings}), 10**9)


def test_balanced_weights_are_one_over_the_samples_with_a_mean_of_one(tmp_path: Path) -> None:
    data = load(tmp_path, class_weights="balanced")
    weights = data.class_weights(data.weight_rows)
    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), [20 / 30, 20 / 10], rtol=0, atol=1e-12)
    assert float(weights[data.labels[torch.from_numpy(data.alpha_rows)]].mean()) == pytest.approx(1)
    given = load(tmp_path, class_weights=[1.0, 3.0])
    found = given.class_weights(given.weight_rows)
    assert found is not None
    np.testing.assert_allclose(weights.numpy(), found.numpy(), rtol=0, atol=1e-12)
    assert load(tmp_path).class_weights(data.weight_rows) is None
    assert given.digests == load(tmp_path).digests


def test_a_weight_is_wanted_for_every_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"class_weights has 3 weights, the data have 2 classes: 0, 1"):
        load(tmp_path, class_weights=[1.0, 1.0, 2.0])


def weighted(*overrides: str) -> SearchConfig:
    weights = [0.5, 1.0, 2.0, 0.25, 1.0, 1.0, 3.0, 1.0, 1.0, 0.1]
    return tiny_config(f"data.class_weights={weights}", *overrides)


def test_the_loss_of_a_step_is_weighted_and_its_sums_are_not() -> None:
    config = weighted()
    loop, data = tiny_loop(config, "first", SingleRank()), tiny_data(config)
    mixing = loop.bilevel.architecture.mixing("weight", 0, Progress(0, 9, 0, 3))
    for batch in data.bilevel_batches(0, 0, ALONE, CPU):
        assert batch.weights is not None
        with torch.no_grad():
            output = loop.supernet.loss(batch, None, Pass.ALPHA, mixing)
            scores = loop.supernet.logits(batch.inputs, mixing, batch_statistics=True, update=False)  # type: ignore[operator]
        losses = F.cross_entropy(scores, batch.targets, reduction="none")
        assert float(output.loss) == pytest.approx(float((losses * batch.weights).mean()), abs=1e-12)
        assert float(output.sums[0]) == pytest.approx(float(losses.sum()), abs=1e-12)
        parts = batch.split(3)
        assert torch.cat([part.weights for part in parts if part.weights is not None]).equal(batch.weights)
    assert all(batch.weights is None for batch in data.evaluation_batches(ALONE, CPU))


def alphas_of(collectives: Collectives) -> NDArray[np.float64]:
    """The alphas after a whole search with synchronised batch norm."""
    loop = tiny_loop(weighted("search.batch_norm=sync"), "second", collectives)
    assert loop.run(Remembering()).kind == "finished"
    alphas: NDArray[np.float64] = loop.bilevel.alphas.vector.numpy().copy()
    return alphas


def test_two_ranks_search_as_one_does(ranks: RankProcesses) -> None:
    alone, (first, second) = alphas_of(SingleRank()), ranks.run(2, alphas_of)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=0, atol=1e-12)


def test_weights_of_the_data_and_of_the_training_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"data\.class_weights beside training\.class_weights: leave one out"):
        load_training_config("digits", overrides=["data.class_weights=balanced", "training.class_weights=balanced"])
