"""The answer of a training in its finish record, and the weights that its last checkpoint holds. Imports no pyarrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ray_darts.artifacts.checkpoints import load_checkpoint
from ray_darts.artifacts.documents import Facts, canonical_json
from ray_darts.artifacts.records import Metric, Record
from ray_darts.errors import CorruptObject
from ray_darts.genotype.genotype import Genotype

if TYPE_CHECKING:
    from ray_darts.artifacts.publications import FinishedRun

Scores = dict[str, float | None]


class Validations(Facts):
    """The held-out part scored after the last epoch and after the best one; null where nothing is held out."""

    last: Scores | None
    best: Scores | None


class TrainingAnswer(Facts):
    """What a training found. `weights`: those that were tested; `test`: its scores, the digest and number of samples of
    the test set, and how many runs had opened it for these data, this one included; null where it stayed closed."""

    genotype: dict[str, JsonValue]
    metric: Metric
    weights: Literal["last", "best"]
    best_epoch: int | None
    validation: Validations
    test: dict[str, JsonValue] | None
    parameters: int
    parameters_with_auxiliary: int
    averaged: bool
    restores: int

    @classmethod
    def of(cls, record: Record, key: str) -> Self:
        """The answer of a finish record read from `key`. Raises: CorruptObject when it is not a training's."""
        try:
            return cls.model_validate(record.answer)
        except ValueError as error:
            raise CorruptObject(f"{key} has no answer of a training: {error}", key=key) from error

    def architecture(self) -> Genotype:
        """The genotype, checked. Raises: GenotypeError."""
        return Genotype.from_data(self.genotype)


def accept_training(record: Record) -> None:
    """Raise ValueError unless the record's answer is that of a training."""
    TrainingAnswer.model_validate(record.answer)


def result_bytes(finished: FinishedRun) -> bytes:
    """result.json of a run: its answer, seed and finish record."""
    answer = TrainingAnswer.of(finished.finish, finished.finish_key)
    return canonical_json(
        {
            "schema_version": 1,
            "experiment": finished.keys.experiment,
            "run": finished.description.run,
            "seed": finished.description.seed,
            "record_key": finished.finish_key,
            "record_sha256": finished.log[-1].finish_digest,
            **answer.model_dump(mode="json"),
        }
    )


def weights_bytes(finished: FinishedRun, which: Literal["last", "best"]) -> bytes:
    """The network's `state_dict` as safetensors; metadata `ray_darts`: which weights, of which run and genotype.

    "last" are the averaged weights where the training averaged them, since those are scored.
    """
    from safetensors.numpy import save

    ref = finished.finish.checkpoint
    if ref is None:
        raise CorruptObject(f"{finished.finish_key} names no checkpoint", key=finished.finish_key)
    tensors = load_checkpoint(finished.store, finished.keys, ref).tensors
    answer = TrainingAnswer.of(finished.finish, finished.finish_key)
    about = {
        "experiment": finished.keys.experiment,
        "run": finished.keys.run,
        "weights": which,
        "epoch": answer.best_epoch if which == "best" else None,
        "genotype": answer.genotype,
    }
    return save(dict(_weights(tensors, which)), {"ray_darts": canonical_json(about).decode().strip()})


def _weights(tensors: Mapping[str, NDArray[np.generic]], which: str) -> dict[str, NDArray[np.generic]]:
    """{name in the network's state_dict: array} of a training's checkpoint."""
    averaged = any(name.startswith("average/") for name in tensors)
    weights = "best" if which == "best" else "average" if averaged else "weights"
    statistics = "best_statistics" if which == "best" else "statistics"
    found: dict[str, NDArray[np.generic]] = {}
    for name, array in sorted(tensors.items()):
        prefix, _, rest = name.partition("/")
        if prefix in (weights, statistics):
            found[rest] = np.ascontiguousarray(array)
    return found
