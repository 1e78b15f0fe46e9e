"""Reads a finished training: its description, its answer, and the weights that it published. Knows no network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from ray_darts.artifacts.descriptions import ExperimentDescription, RunDescription
from ray_darts.artifacts.experiment import list_runs, read_experiment, read_run
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.publications import PUBLICATIONS
from ray_darts.artifacts.publish import load_finished
from ray_darts.artifacts.released import refuse_only_copy
from ray_darts.artifacts.results import training_results
from ray_darts.artifacts.run_log import Entry, find_tip
from ray_darts.artifacts.training_answer import TrainingAnswer
from ray_darts.errors import ConfigError, CorruptObject, MissingObject

Which = Literal["last", "best"]

VOCABULARY = "vocabulary.json"


@dataclass(frozen=True)
class TrainedRun:
    """A finished training and one set of its weights.

    `weights`: {name in the network's state_dict: array}; `weights_sha256`: of the published file. `epoch`: after which
    epoch (from 0) the network had them. `vocabulary`: the text of its vocabulary.json; None where it has none.
    """

    experiment: ExperimentDescription
    run: RunDescription
    answer: TrainingAnswer
    record_key: str
    record_sha256: str
    which: Which
    epoch: int | None
    weights: Mapping[str, NDArray[np.generic]]
    weights_sha256: str
    vocabulary: str | None


def read_trained(store: ObjectStore, experiment: str, run: str | None = None, which: Which | None = None) -> TrainedRun:
    """Read the finished run called `run`, by default the best, and its weights, by default those that were tested.

    Raises: ConfigError when it is no experiment of trainings, or the run kept no such weights; MissingObject when there
    is no such run, or it has not finished; CorruptObject.
    """
    described = read_experiment(store, experiment)
    if "network" not in described.identity:
        raise ConfigError(
            f"{experiment!r} is an experiment of a search, and export takes a training: ray-darts train {experiment} …",
            experiment=experiment,
        )
    name, finish, answer = best_run(store, experiment) if run is None else _named_run(store, experiment, run)
    keys = RunKeys(experiment, name)
    which = answer.weights if which is None else which
    document = f"weights_{which}.safetensors"
    if document not in finish.record.documents:
        raise ConfigError(
            f"{name} of {experiment!r} kept no {which} weights: no epoch had a validation score (training.hold_out)",
            run=name,
        )
    data = _document(store, keys, document)
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise CorruptObject(f"{keys.document(document)} is no safetensors file: {error}", key=document) from error
    return TrainedRun(
        experiment=described,
        run=read_run(store, experiment, name),
        answer=answer,
        record_key=keys.record(finish.finish_n),
        record_sha256=finish.finish_digest,
        which=which,
        epoch=answer.best_epoch if which == "best" else _last_epoch(finish),
        weights=arrays,
        weights_sha256=hashlib.sha256(data).hexdigest(),
        vocabulary=_vocabulary(store, keys),
    )


def best_run(store: ObjectStore, experiment: str) -> tuple[str, Entry, TrainingAnswer]:
    """The finished run with the best value in result.json; without one it ranks last, and of equal ones the lower name
    is first."""
    results = training_results(store, experiment)
    finished = [run for cell in results.genotypes for run in cell.runs if run.state == "finished"]
    if results.metric is None or not finished:
        raise MissingObject(f"no run of {experiment!r} has finished: there is nothing to export", experiment=experiment)
    sign = -1.0 if results.metric.direction == "max" else 1.0
    best = min(finished, key=lambda run: (run.value is None, sign * (run.value or 0.0), run.run))
    return _named_run(store, experiment, best.run)


def _named_run(store: ObjectStore, experiment: str, run: str) -> tuple[str, Entry, TrainingAnswer]:
    keys = RunKeys(experiment, run)
    tip = find_tip(store, keys)
    if tip is None and not store.exists(keys.description):
        there = list_runs(store, experiment)
        known = f"there are {', '.join(there)}" if there else "it has none"
        raise MissingObject(f"no run {run!r} in {experiment!r}; {known}", run=run)
    if tip is None or tip.record.kind != "finish":
        how = "has failed" if tip is not None and tip.record.kind == "fail" else "has not finished"
        raise MissingObject(f"{run} of {experiment!r} {how}: only a finished training can be exported", run=run)
    return run, tip, TrainingAnswer.of(tip.record, keys.record(tip.record.n))


def _document(store: ObjectStore, keys: RunKeys, name: str) -> bytes:
    """A document of the run; where it was not published yet, it is made from the log, and not put."""
    try:
        return store.get(keys.document(name)).data
    except MissingObject:
        finished = load_finished(store, keys)
        refuse_only_copy(keys, finished.finish, name)
        return PUBLICATIONS[name].make(finished)


def _vocabulary(store: ObjectStore, keys: RunKeys) -> str | None:
    try:
        return store.get(keys.document(VOCABULARY)).data.decode()
    except MissingObject:
        return None


def _last_epoch(finish: Entry) -> int | None:
    epoch = finish.record.latest.get("epoch")
    return epoch if isinstance(epoch, int) else None
