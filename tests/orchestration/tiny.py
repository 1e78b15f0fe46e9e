"""Tiny real runs in this process: a store, an experiment in it, and one run of it as often as a test likes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_darts.artifacts.experiment import register_experiment, register_run
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Environment
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.config import SearchConfig
from ray_darts.orchestration.assignment import Assignment, RunOutcome, new_session, owner_of, run_name
from ray_darts.orchestration.data_access import open_data
from ray_darts.orchestration.run_execution import RankContext, execute_run
from ray_darts.protocols.method import Order
from tests.search.searches import tiny_config

EXPERIMENT = "tiny"
ALONE = Environment(code="test", world_size=1, device_kind="cpu", threads=1)


def assigned(
    store: ObjectStore, config: SearchConfig | None = None, order: Order = "first", seed: int = 0
) -> Assignment:
    """A run of a registered experiment, as a new command would ask for it."""
    config = config or tiny_config()
    run = run_name(config.method, order, seed)
    digests = open_data(config, 0).digests
    register_experiment(
        store,
        EXPERIMENT,
        identity=config.identity(),
        config_digest=config.digest(),
        layout=config.space.layout(),
        data_digests=digests,
        code="test",
    )
    register_run(store, EXPERIMENT, run, seed, order)
    plain = {
        "config": config.model_dump(mode="json"),
        "experiment": EXPERIMENT,
        "run": run,
        "coordinates": {"seed": seed, "order": order},
        "store_uri": store.uri,
        "session": new_session().model_dump(mode="json"),
        "data_digests": digests,
    }
    return Assignment.from_plain(plain)


def search_here(
    assignment: Assignment, store: ObjectStore, context: RankContext | None = None, world_size: int = 1
) -> RunOutcome:
    """One worker-group start in this process, on one rank unless `context` says otherwise."""
    outcome = execute_here(assignment, store, context, world_size)
    assert outcome is not None
    return outcome


def execute_here(
    assignment: Assignment, store: ObjectStore, context: RankContext | None = None, world_size: int = 1
) -> RunOutcome | None:
    """What one rank returns."""
    environment = ALONE.model_copy(update={"world_size": world_size})
    return execute_run(assignment, store, owner_of(assignment.session), environment, context or RankContext())


def trace_digest(store: ObjectStore, run: str) -> str:
    """SHA-256 over steps and float32 alphas of a published trace, in order."""
    table = pq.read_table(pa.BufferReader(store.get(RunKeys(EXPERIMENT, run).alpha_trace).data))
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(table["step"].to_numpy(), dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(table["alpha"].to_numpy(), dtype=np.float32).tobytes())
    return digest.hexdigest()


def published(store: LocalStore, run: str) -> dict[str, object]:
    """What a finished run leaves that does not depend on when and by whom it was searched."""
    folder = Path(store.uri)
    keys = RunKeys(EXPERIMENT, run)
    metrics = pq.read_table(folder / keys.metrics)
    timeless = [name for name in metrics.column_names if name not in ("steps_per_s", "peak_memory_bytes")]
    return {
        "trace": trace_digest(store, run),
        "genotype": json.loads((folder / keys.genotype).read_text()),
        "metrics": metrics.select(timeless).to_pylist(),
    }


def is_clean(store: ObjectStore) -> bool:
    """Whether `verify` finds nothing wrong."""
    report = verify_experiment(store, EXPERIMENT)
    assert report.clean, report.problems
    return True
