"""Experiments whose runs have ended, as a search of one step leaves them before anything is published."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS, SearchAnswer
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.experiment import register_experiment, register_run
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.writer import claim_run
from ray_darts.config import SearchConfig
from ray_darts.tasks.metrics import EpochMetrics
from tests.artifacts.runs import ENVIRONMENT, owner


def write_ended_runs(
    uri: str,
    experiment: str,
    config: SearchConfig,
    *runs: tuple[Literal["first", "second"], int],
    fail: str | None = None,
    warning: str | None = None,
    unfinished: str | None = None,
) -> None:
    """Write the records of runs of one step and one epoch; the run called `fail` failed for good.

    `warning`: what that epoch warned of. The run called `unfinished` goes on after its first step.
    """
    store = open_store(uri)
    layout = config.space.layout()
    register_experiment(
        store,
        experiment,
        identity=config.identity(),
        config_digest=config.digest(),
        layout=layout,
        data_digests={},
        code="test",
    )
    for order, seed in runs:
        run = f"{order}-order-seed-{seed}"
        register_run(store, experiment, run, seed, order)
        writer = claim_run(store, experiment, run, owner("session"), config.digest(), ENVIRONMENT)
        if run == fail:
            writer.fail("non_finite", "the training loss of rank 0 is not finite in step 1")
            continue
        alphas = np.random.default_rng(seed).standard_normal((1, layout.num_alphas)).astype(np.float32)
        epoch = EpochMetrics(epoch=0, step=1, train_loss=1.0, validation_loss=2.0, warning=warning)
        checkpoint = Checkpoint({"w": np.zeros(1)}, {})
        writer.advance(1, {"alphas": alphas}, np.zeros(1, np.int32), [epoch], checkpoint, total_steps=1)
        if run == unfinished:
            continue
        genotype = config.method.decode(layout, alphas[0].tolist()).genotype
        metric = {"name": "supernet_validation_accuracy", "value": 0.5 + seed / 10, "direction": "max"}
        writer.finish(SearchAnswer.new(genotype, 1, metric).to_data(), SEARCH_DOCUMENTS)
