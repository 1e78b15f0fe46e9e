"""Experiments of trainings and searches for the tests of reports: logs written without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import JsonValue

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS, SearchAnswer
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.experiment import register_experiment, register_run
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Environment
from ray_darts.artifacts.writer import RunWriter, claim_run
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.method import Order
from ray_darts.tasks.metrics import EpochMetrics
from tests.artifacts.runs import DIGEST, ENVIRONMENT, LAYOUT, alphas_after, epoch_metrics, genotype_after, owner

PROTOCOL: dict[str, JsonValue] = {
    "network": {"kind": "convolutional", "channels": 8},
    "data": {"kind": "images", "flip": True},
    "weights": {"learning_rate": 0.05},
    "training": {"epochs": 20, "batch_size": 64},
}
DIGESTS = {"data": "d" * 64, "split": "5" * 64}
TEST_DIGEST = "7" * 64


def register_trainings(
    store: ObjectStore,
    experiment: str,
    *,
    protocol: Mapping[str, JsonValue] = PROTOCOL,
    digests: Mapping[str, str] = DIGESTS,
) -> None:
    """Write the description of an experiment of trainings."""
    register_experiment(
        store,
        experiment,
        identity=dict(protocol),
        config_digest=DIGEST,
        layout=SpaceLayout("convolutional", (), "", frozenset()),
        data_digests=digests,
        code="ray_darts test",
    )


def genotype_data(number: int) -> dict[str, JsonValue]:
    """One of several genotypes."""
    return genotype_after(number).to_data()  # type: ignore[return-value]


def training_answer(
    number: int,
    value: float | None,
    *,
    metric: str = "test_accuracy",
    direction: Literal["max", "min"] = "max",
    ranking: Literal["selected", "trained"] = "trained",
    parameters: int = 1000,
    test_digest: str | None = TEST_DIGEST,
) -> dict[str, JsonValue]:
    """The answer of a training of genotype `number`."""
    test: dict[str, JsonValue] | None = None
    if test_digest is not None:
        test = {"test_accuracy": value, "digest": test_digest, "samples": 100, "openings": 1}
    return {
        "genotype": genotype_data(number),
        "metric": {"name": metric, "value": value, "direction": direction, "ranking": ranking},
        "weights": "last",
        "best_epoch": 0,
        "validation": {"last": {"validation_accuracy": 0.5}, "best": {"validation_accuracy": 0.6}},
        "test": test,
        "parameters": parameters,
        "parameters_with_auxiliary": parameters,
        "averaged": False,
        "restores": 0,
    }


def claim_training(
    store: ObjectStore, experiment: str, run: str, seed: int, number: int, environment: Environment = ENVIRONMENT
) -> RunWriter:
    """Register and claim one training of genotype `number`."""
    register_run(store, experiment, run, seed, None, genotype=genotype_data(number))
    return claim_run(store, experiment, run, owner("t"), DIGEST, environment, task="training")


def train(
    store: ObjectStore, experiment: str, name: str, number: int, values: Sequence[float | None], **answer: object
) -> None:
    """Trainings of genotype `number`, called `name`, with seeds 0, 1, …, that reached `values`."""
    for seed, value in enumerate(values):
        writer = claim_training(store, experiment, f"{name}-seed-{seed}", seed, number)
        _commit(writer, {})
        writer.finish(training_answer(number, value, **answer), ("result.json",))  # type: ignore[arg-type]


def register_search(store: ObjectStore, experiment: str, *, digests: Mapping[str, str] = DIGESTS) -> None:
    """Write the description of an experiment of searches."""
    register_experiment(
        store,
        experiment,
        identity={"space": {"kind": "convolutional"}, "search": {"epochs": 3}, "data": {"kind": "images"}},
        config_digest=DIGEST,
        layout=LAYOUT,
        data_digests=digests,
        code="ray_darts test",
    )


def search(
    store: ObjectStore,
    experiment: str,
    run: str,
    seed: int,
    number: int,
    *,
    order: Order | None = "first",
    method: Mapping[str, JsonValue] | None = None,
    epochs: Sequence[EpochMetrics] = (),
    value: float = 0.5,
    environment: Environment = ENVIRONMENT,
    genotype: Genotype | None = None,
) -> Genotype:
    """A finished search that found genotype `number`, or another one that is given."""
    register_run(store, experiment, run, seed, order, method=method)
    writer = claim_run(store, experiment, run, owner("s"), DIGEST, environment)
    _commit(writer, {"alphas": alphas_after(number).reshape(1, -1)}, *(epochs or (epoch_metrics(0),)))
    genotype = genotype or genotype_after(number)
    metric = {"name": "supernet_validation_accuracy", "value": value, "direction": "max"}
    writer.finish(SearchAnswer.new(genotype, 1, metric).to_data(), SEARCH_DOCUMENTS)
    return genotype


def _commit(
    writer: RunWriter, rows: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], *epochs: EpochMetrics
) -> None:
    checkpoint = Checkpoint({"w": np.zeros(1)}, {})
    writer.advance(1, rows, np.zeros(1, np.int32), list(epochs), checkpoint, total_steps=1)
