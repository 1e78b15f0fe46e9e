"""What a finished run shows to the world: genotype, alpha trace, metrics, and its claim to be the best.

Each is a function of the log alone, so publishing may stop anywhere, happen twice, or be done again by anybody.
Nothing is published before the finish record.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass

from ray_darts.artifacts.best import candidate, offer_best
from ray_darts.artifacts.crash_points import crash_point
from ray_darts.artifacts.documents import canonical_json
from ray_darts.artifacts.experiment import read_experiment, read_run, space_layout
from ray_darts.artifacts.layout import ExperimentKeys, RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Record, RunDescription
from ray_darts.artifacts.run_log import Entry, find_tip, read_log
from ray_darts.errors import CorruptObject, StoreError
from ray_darts.genotype.discretise import discretise
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import SpaceLayout


@dataclass(frozen=True)
class FinishedRun:
    """All that publications are made of."""

    store: ObjectStore
    keys: RunKeys
    layout: SpaceLayout
    description: RunDescription
    log: list[Entry]

    @property
    def finish(self) -> Record:
        return self.log[-1].record

    def genotype(self) -> bytes:
        """genotype.json. Raises: CorruptObject unless the trace decodes to the record's genotype."""
        check_genotype(self)
        return canonical_json(self.finish.genotype)

    def alpha_trace(self) -> bytes:
        """alpha_trace.parquet."""
        from ray_darts.artifacts.traces import read_rows, trace_bytes

        rows = read_rows(self.store, self.keys, self.log, self.layout.num_alphas)
        return trace_bytes(self.layout, self.description, rows)

    def metrics(self) -> bytes:
        """metrics.parquet."""
        import pyarrow.parquet as pq

        from ray_darts.artifacts.metrics import metrics_table

        epochs = [epoch for entry in self.log for epoch in entry.record.epochs]
        sink = io.BytesIO()
        pq.write_table(metrics_table(self.description, epochs), sink, compression="zstd")
        return sink.getvalue()


def publish_run(store: ObjectStore, experiment: str, run: str) -> list[str]:
    """Publish what is missing of a finished run and offer it as the best; returns the keys that were put.

    When all is there: the log's end, three existence checks and `best.json`. Raises: StoreError when the run has not
    finished, CorruptObject when the log does not hold what it says.
    """
    keys = RunKeys(experiment, run)
    tip = find_tip(store, keys)
    if tip is None or tip.record.kind != "finish":
        raise StoreError(f"{run} has not finished: nothing of it is published", run=run)
    missing = [key for key in keys.publications if not store.exists(key)]
    if missing:
        finished = load_finished(store, keys)
        contents = publication_contents(finished)
        for key in missing:
            crash_point(f"publish.before_{_stem(key)}")
            store.put(key, contents[key]())
    crash_point("publish.before_best")
    if offer_best(store, candidate(keys, read_run(store, experiment, run), tip)):
        missing.append(ExperimentKeys(experiment).best)
    crash_point("publish.after_best")
    return missing


def load_finished(store: ObjectStore, keys: RunKeys) -> FinishedRun:
    """Read a finished run's log and descriptions. Raises: StoreError when it has not finished."""
    log = read_log(store, keys)
    if not log or log[-1].record.kind != "finish":
        raise StoreError(f"{keys.run} has not finished: nothing of it is published", run=keys.run)
    layout = space_layout(read_experiment(store, keys.experiment))
    return FinishedRun(store, keys, layout, read_run(store, keys.experiment, keys.run), log)


def publication_contents(finished: FinishedRun) -> dict[str, Callable[[], bytes]]:
    """What makes the bytes of each publication, by key."""
    keys = finished.keys
    return {keys.genotype: finished.genotype, keys.alpha_trace: finished.alpha_trace, keys.metrics: finished.metrics}


def check_genotype(finished: FinishedRun) -> None:
    """Raise CorruptObject unless the trace row at `genotype_step` decodes to the finish record's genotype."""
    from ray_darts.artifacts.traces import read_part

    finish = finished.finish
    key = finished.keys.record(finish.n)
    step = finish.genotype_step
    told = Genotype.from_json(json.dumps(finish.genotype), finished.layout)
    for entry in finished.log:
        for part in entry.record.parts:
            if step is not None and part.first <= step <= part.last:
                rows = read_part(finished.store, finished.keys, part, finished.layout.num_alphas)
                flat = rows.alphas[step - part.first].tolist()
                if discretise(finished.layout, finished.layout.split(flat)) != told:
                    raise CorruptObject(f"{key} holds another genotype than the alphas after step {step}", key=key)
                return
    raise CorruptObject(f"{key} says its genotype is of step {step}, which no part holds", key=key)


def _stem(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]
