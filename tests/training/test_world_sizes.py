"""One, two and three workers train the same network, with drop-path and synchronised batch norm, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ray_darts.config.training import TrainingConfig
from ray_darts.data.open import open_data
from ray_darts.spaces.genotypes import published
from ray_darts.tasks.collectives import Collectives
from tests.search.ranks import RankProcesses
from tests.search.searches import Remembering
from tests.training.tiny import text_config, tiny_config, tiny_loop, weights_of

SYNCHRONISED = (
    "training.batch_norm=sync",
    "training.epochs=2",
    "training.label_smoothing=0.1",
    "training.cutout=3",
    "training.class_weights=balanced",
    "data.padding=1",
)


def trained(collectives: Collectives, *overrides: str) -> tuple[NDArray[np.float64], object]:
    """(weights and statistics, answer) after a whole training."""
    loop = tiny_loop(tiny_config(*SYNCHRONISED, *overrides), collectives)
    verdict = loop.run(Remembering())
    assert verdict.kind == "finished"
    return weights_of(loop), verdict.answer


def text_trained(collectives: Collectives, config: TrainingConfig) -> tuple[NDArray[np.float64], object]:
    """The same of a language model."""
    cell = published("DARTS_V1", "recurrent")
    loop = tiny_loop(config, collectives, genotype=cell, data=open_data(config, 0))  # type: ignore[arg-type]
    verdict = loop.run(Remembering())
    assert verdict.kind == "finished"
    return weights_of(loop), verdict.answer


def test_one_two_and_three_workers_agree_in_every_weight(ranks: RankProcesses) -> None:
    ((alone, answer),) = ranks.run(1, trained)
    for world_size in (2, 3):
        results = ranks.run(world_size, trained)
        for weights, other in results:
            assert weights.tobytes() == results[0][0].tobytes(), "all ranks have the same bits"
            np.testing.assert_allclose(weights, alone, rtol=0, atol=1e-12)
            assert other["validation"]["last"] == pytest.approx(answer["validation"]["last"])  # type: ignore[index]


def test_masks_that_each_rank_draws_for_itself_would_be_seen(ranks: RankProcesses) -> None:
    ((alone, _),) = ranks.run(1, trained)
    ((without, _),) = ranks.run(1, trained, "training.drop_path=0")
    assert np.abs(alone - without).max() > 1e-3


def test_local_batch_norm_is_another_function_at_each_world_size(ranks: RankProcesses) -> None:
    local = "training.batch_norm=local"
    ((alone, _),) = ranks.run(1, trained, local)
    (first, _), (second, _) = ranks.run(2, trained, local)
    assert first.tobytes() == second.tobytes()
    assert np.abs(first - alone).max() > 1e-6


def test_language_models_agree_too(ranks: RankProcesses, tmp_path: Path) -> None:
    """The weights are averaged from the third epoch on."""
    config = text_config(tmp_path, "training.average_after=1", "weights.learning_rate=30.0", "training.epochs=4")
    ((alone, answer),) = ranks.run(1, text_trained, config)
    (first, other), (second, _) = ranks.run(2, text_trained, config)
    assert first.tobytes() == second.tobytes()
    np.testing.assert_allclose(first, alone, rtol=0, atol=1e-10)
    assert other["validation"]["last"] == pytest.approx(answer["validation"]["last"], rel=1e-9)  # type: ignore[index]
