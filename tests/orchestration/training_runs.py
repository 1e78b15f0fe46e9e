"""Tiny real trainings in this process: registered as a sweep does, executed as often as a test likes."""

from __future__ import annotations

import json

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore, sha256
from ray_darts.config import TrainingConfig
from ray_darts.genotype.genotype import Genotype
from ray_darts.orchestration.assignment import Assignment, new_session
from ray_darts.orchestration.data_access import open_data
from ray_darts.orchestration.requests import SweepRequest
from ray_darts.orchestration.trainings import TrainingRequest
from tests.training.tiny import CELLS, tiny_config

TRAININGS = "trained"
DOCUMENTS = ("result.json", "weights_last.safetensors", "weights_best.safetensors", "metrics.parquet")


def request_of(
    store: ObjectStore,
    config: TrainingConfig | None = None,
    genotypes: tuple[Genotype, ...] = (CELLS,),
    seeds: tuple[int, ...] = (0,),
    experiment: str = TRAININGS,
) -> TrainingRequest:
    """A command's request."""
    return TrainingRequest(config or tiny_config(), experiment, store.uri, genotypes, seeds)


def assigned_runs(store: ObjectStore, request: SweepRequest) -> list[Assignment]:
    """The runs of a request, registered, as a new command would give them to a worker group."""
    data = open_data(request.config, 0)
    request.check()
    request.register(store, request.config, data.digests, request.runs, data.facts)
    session = new_session()
    made = [
        Assignment(
            config=request.config,
            experiment=request.experiment,
            task=run.task,
            run=run.run,
            coordinates=run.coordinates,
            store_uri=store.uri,
            session=session,
            data_digests=data.digests,
        )
        for run in request.runs
    ]
    return [Assignment.from_plain(json.loads(json.dumps(each.to_plain()))) for each in made]


def document_digests(store: ObjectStore, run: str, experiment: str = TRAININGS) -> dict[str, str]:
    """{document: SHA-256} of what does not depend on when and by whom a run was trained."""
    keys = RunKeys(experiment, run)
    return {name: sha256(store.get(keys.document(name)).data) for name in DOCUMENTS if name.startswith("weights")}
