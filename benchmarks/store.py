"""Measures the store: commits, bytes, requests, the latency of `best`, reading traces, and an estimate for many runs.

Against a folder and against an S3 server of the test suite over HTTP on loopback, so latencies are a lower bound.
`python benchmarks/store.py`; the figures go to `results/store.json`.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import boto3
import numpy as np
import pyarrow
import pyarrow.dataset as ds

sys.path.insert(0, str(Path(__file__).parents[1]))

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS, SearchAnswer
from ray_darts.artifacts.best import read_best
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.datasets import trace_dataset
from ray_darts.artifacts.experiment import register_experiment, register_run
from ray_darts.artifacts.objects import Listed, ObjectStore, Stored
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.records import Environment, Owner
from ray_darts.artifacts.superseded import BY_DEFAULT, Keeping
from ray_darts.artifacts.writer import claim_run
from ray_darts.config import StoreSettings
from ray_darts.methods.darts import Darts
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.tasks.metrics import CellMetrics, EpochMetrics
from tests.artifacts.servers import ministack

RESULTS = Path(__file__).parent / "results"
EXPERIMENT = "bench"
LAYOUT = convolutional_layout()
EPOCHS, STEPS_PER_EPOCH, COMMIT_EVERY = 50, 390, 195
WEIGHTS = 1_930_618
TRACED_RUNS = 10

Answer = TypeVar("Answer")


class Counting(ObjectStore):
    """Counts requests and bytes and passes them on to another store."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    @property
    def uri(self) -> str:
        return self.inner.uri

    def get(self, key: str) -> Stored:
        self.requests["get"] += 1
        return self.inner.get(key)

    def exists(self, key: str) -> bool:
        self.requests["get"] += 1
        return self.inner.exists(key)

    def put(self, key: str, data: bytes) -> None:
        self._note(key, data)
        self.inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        self._note(key, data)
        self.inner.put_if_absent(key, data)

    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        self._note(key, data)
        self.inner.compare_and_swap(key, data, etag)

    def delete(self, key: str) -> None:
        self.requests["delete"] += 1
        self.inner.delete(key)

    def list_objects(self, prefix: str) -> Iterator[Listed]:
        self.requests["list"] += 1
        return self.inner.list_objects(prefix)

    def list_folders(self, prefix: str) -> list[str]:
        self.requests["list"] += 1
        return self.inner.list_folders(prefix)

    def server_time(self) -> datetime:
        return self.inner.server_time()

    def _note(self, key: str, data: bytes) -> None:
        self.requests["put"] += 1
        name = key.rpartition("/")[2]
        kind = (
            "checkpoints"
            if "/checkpoints/" in key
            else "parts"
            if "/parts/" in key
            else "log"
            if "/log/" in key
            else name
        )
        self.bytes[kind] += len(data)


def walk(steps: int, seed: int) -> np.ndarray:
    """Synthetic alphas: a random walk with the step size of Adam at 3e-4, float32 [steps, num_alphas]."""
    moves = np.random.default_rng(seed).standard_normal((steps, LAYOUT.num_alphas)) * 3e-4
    return moves.cumsum(axis=0).astype(np.float32)


def epoch_metrics(epoch: int) -> EpochMetrics:
    """Epoch metrics of realistic size."""
    cell = CellMetrics(entropy=2.0, skips=1, parameter_free=2, margins=(0.01,) * 8)
    return EpochMetrics(
        epoch=epoch,
        step=(epoch + 1) * STEPS_PER_EPOCH,
        train_loss=0.5,
        validation_loss=0.5,
        quality={"train_accuracy": 0.5, "validation_accuracy": 0.5},
        cells={"normal": cell, "reduction": cell},
        genotype=Darts().decode(LAYOUT, walk(1, epoch)[0].tolist()).genotype.to_json(),
    )


def whole_run(store: ObjectStore, seed: int, checkpoint: Checkpoint, keeping: Keeping = BY_DEFAULT) -> list[float]:
    """One run of the paper's length, two commits per epoch; returns seconds per commit."""
    run = f"second-order-seed-{seed}"
    register_run(store, EXPERIMENT, run, seed, "second")
    owner = Owner(session="bench", uuid=f"{seed}", host="bench", pid=os.getpid())
    environment = Environment(code="bench", world_size=1, device_kind="cpu", threads=1)
    writer = claim_run(store, EXPERIMENT, run, owner, "0" * 64, environment, keeping=keeping)
    alphas = walk(EPOCHS * STEPS_PER_EPOCH, seed)
    seconds = []
    for last in range(COMMIT_EVERY, len(alphas) + 1, COMMIT_EVERY):
        rows = alphas[last - COMMIT_EVERY : last]
        epoch, rest = divmod(last, STEPS_PER_EPOCH)
        ended = [] if rest else [epoch_metrics(epoch - 1)]
        epochs = np.full(len(rows), epoch if rest else epoch - 1, np.int32)
        seconds.append(timed(lambda: writer.advance(last, {"alphas": rows}, epochs, ended, checkpoint))[0])  # noqa: B023
    genotype = Darts().decode(LAYOUT, alphas[-1].tolist()).genotype
    metric = {"name": "supernet_validation_accuracy", "value": 0.5 + seed / 100, "direction": "max"}
    writer.finish(SearchAnswer.new(genotype, len(alphas), metric).to_data(), SEARCH_DOCUMENTS)
    return seconds


def timed(act: Callable[[], Answer]) -> tuple[float, Answer]:
    """Wall seconds of a call, and its answer."""
    start = time.perf_counter()
    answer = act()
    return time.perf_counter() - start, answer


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(inner: ObjectStore, runs: int) -> dict[str, object]:
    """All figures of one store."""
    store = Counting(inner)
    tensors = {"weights": np.zeros(2 * WEIGHTS, np.float32), "alphas": np.zeros(3 * LAYOUT.num_alphas, np.float32)}
    checkpoint = Checkpoint(tensors, {"step": 0})
    register_experiment(
        store, EXPERIMENT, identity={}, config_digest="0" * 64, layout=LAYOUT, data_digests={}, code="bench"
    )
    small = Checkpoint({"alphas": tensors["alphas"]}, {})
    commit_s = whole_run(store, 0, checkpoint)
    publish_s, _ = timed(lambda: publish_run(store, EXPERIMENT, "second-order-seed-0"))
    of_one_run = {"requests": dict(store.requests), "bytes": dict(store.bytes)}
    for seed in range(1, runs):
        whole_run(store, seed, small)
        publish_run(store, EXPERIMENT, f"second-order-seed-{seed}")
    best_s = [timed(lambda: read_best(store, EXPERIMENT))[0] for _ in range(50)]
    before = peak_memory_bytes()
    traces = trace_dataset(inner, EXPERIMENT)
    read_s, num_rows = timed(lambda: sum(batch.num_rows for batch in traces.to_batches(batch_readahead=2)))
    filtered_s, _ = timed(lambda: traces.to_table(filter=ds.field("step") == EPOCHS * STEPS_PER_EPOCH))
    return {
        "commits_per_s_with_15_MB_checkpoint": 1 / statistics.median(commit_s),
        "publish_s": publish_s,
        "of_one_run": of_one_run,
        "trace_bytes_per_row": store.bytes["alpha_trace.parquet"] / num_rows,
        "part_bytes_per_row": store.bytes["parts"] / num_rows,
        "best_ms": 1e3 * statistics.median(best_s),
        "rows_read": num_rows,
        "rows_read_per_s": num_rows / read_s,
        "last_step_of_all_runs_s": filtered_s,
        "memory_of_reading_bytes": peak_memory_bytes() - before,
    }


def scaled(of_one_run: dict[str, dict[str, int]], runs: int) -> dict[str, float]:
    """Bytes stored at the end and total requests, scaled to many runs; a run keeps one checkpoint."""
    stored = sum(size for kind, size in of_one_run["bytes"].items() if kind not in ("checkpoints", "head.json"))
    commits = EPOCHS * STEPS_PER_EPOCH // COMMIT_EVERY
    kept = of_one_run["bytes"]["checkpoints"] / commits
    requests = {f"{kind}_requests": runs * count for kind, count in of_one_run["requests"].items()}
    return {"stored_gigabytes": runs * (stored + kept) / 1e9, **requests}


def main() -> None:
    """Measure both stores, print and keep the figures."""
    figures: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "versions": {"python": platform.python_version(), "pyarrow": pyarrow.__version__, "boto3": boto3.__version__},
        "run": f"{EPOCHS} epochs x {STEPS_PER_EPOCH} steps x {LAYOUT.num_alphas} alphas, "
        f"a commit every {COMMIT_EVERY} steps",
    }
    with tempfile.TemporaryDirectory() as folder:
        figures["folder"] = measure(open_store(folder), TRACED_RUNS)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    with tempfile.TemporaryDirectory() as folder, ministack(Path(folder)) as url:
        boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket=EXPERIMENT)
        settings = StoreSettings(endpoint_url=url, region="us-east-1")
        bucket = measure(open_store(f"s3://{EXPERIMENT}/team", settings), 2)
        figures["bucket"] = bucket
    of_one_run = bucket["of_one_run"]
    assert isinstance(of_one_run, dict)
    figures["100_runs"] = scaled(of_one_run, 100)
    figures["10000_runs"] = scaled(of_one_run, 10_000)
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(figures, indent=2)
    (RESULTS / "store.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
