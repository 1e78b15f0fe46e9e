"""The documents that a finished run publishes: what makes the bytes of each from the run's log.

A finish record names its documents; each name stands here once. A maker reads the log and what it refers to, nothing
else, so a document can be made again at any time, by anybody. Puts nothing into the store.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ray_darts.artifacts.answer import ALPHAS, GENOTYPE, SearchAnswer
from ray_darts.artifacts.architecture import RunArchitecture
from ray_darts.artifacts.descriptions import RunDescription
from ray_darts.artifacts.documents import canonical_json
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.run_log import Entry
from ray_darts.artifacts.training_answer import accept_training, result_bytes, weights_bytes
from ray_darts.errors import CorruptObject


@dataclass(frozen=True)
class FinishedRun:
    """Everything that a document is made of."""

    store: ObjectStore
    keys: RunKeys
    architecture: RunArchitecture
    description: RunDescription
    log: list[Entry]

    @property
    def finish(self) -> Record:
        """The last record: the finish, or one that repeats it and says what was let go."""
        return self.log[-1].record

    @property
    def finish_key(self) -> str:
        """Where the record lies that finished the run."""
        return self.keys.record(self.log[-1].finish_n)


def _nothing(_: object) -> None:
    """Accept anything."""


@dataclass(frozen=True)
class Publication:
    """One kind of document.

    `make` returns its bytes. `accept` refuses a finish record that cannot have it, with ValueError, before the record
    is written; `check` reads the log and refuses, with CorruptObject, what the document would contradict. `streams`:
    those of which it holds every value; `from_checkpoint`: whether it is made from the last checkpoint.
    """

    make: Callable[[FinishedRun], bytes]
    accept: Callable[[Record], None] = _nothing
    check: Callable[[FinishedRun], None] = _nothing
    streams: tuple[str, ...] = ()
    from_checkpoint: bool = False


def genotype_bytes(finished: FinishedRun) -> bytes:
    """genotype.json. Raises: CorruptObject unless the trace decodes to the record's genotype."""
    check_genotype(finished)
    return canonical_json(SearchAnswer.of(finished.finish, finished.finish_key).genotype)


def alpha_trace_bytes(finished: FinishedRun) -> bytes:
    """alpha_trace.parquet."""
    from ray_darts.artifacts.traces import read_rows, trace_bytes

    rows = read_rows(finished.store, finished.keys, finished.log, finished.architecture.width)
    return trace_bytes(finished.architecture, finished.description, rows)


def metrics_bytes(finished: FinishedRun) -> bytes:
    """metrics.parquet."""
    import pyarrow.parquet as pq

    from ray_darts.artifacts.metrics import metrics_table

    epochs = [epoch for entry in finished.log for epoch in entry.record.epochs]
    sink = io.BytesIO()
    pq.write_table(metrics_table(finished.description, epochs), sink, compression="zstd")
    return sink.getvalue()


def accept_genotype(record: Record) -> None:
    """Raise ValueError unless the record's answer is that of a search, of a durable step."""
    SearchAnswer.model_validate(record.answer).check_step(record.step)


def check_genotype(finished: FinishedRun) -> None:
    """Raise CorruptObject unless the alphas after `genotype_step` decode to the finish record's genotype."""
    from ray_darts.artifacts.traces import read_row

    key = finished.finish_key
    answer = SearchAnswer.of(finished.finish, key)
    architecture = finished.architecture
    genotype, step = answer.architecture(architecture.layout), answer.genotype_step
    flat = read_row(finished.store, finished.keys, finished.log, architecture.width, step)
    if flat is None:
        raise CorruptObject(f"{key} says its genotype is of step {step}, which no part holds", key=key)
    if architecture.decoder().decode(architecture.layout, flat).genotype != genotype:
        raise CorruptObject(f"{key} holds another genotype than the alphas after step {step}", key=key)


PUBLICATIONS: Mapping[str, Publication] = {
    GENOTYPE: Publication(genotype_bytes, accept_genotype, check_genotype),
    "alpha_trace.parquet": Publication(alpha_trace_bytes, streams=(ALPHAS,)),
    "metrics.parquet": Publication(metrics_bytes),
    "result.json": Publication(result_bytes, accept_training),
    "weights_last.safetensors": Publication(
        partial(weights_bytes, which="last"), accept_training, from_checkpoint=True
    ),
    "weights_best.safetensors": Publication(
        partial(weights_bytes, which="best"), accept_training, from_checkpoint=True
    ),
}


def publications_of(record: Record, key: str) -> dict[str, Publication]:
    """The documents that a finish record names, in order. Raises: CorruptObject for a name that is not known here."""
    unknown = [name for name in record.documents if name not in PUBLICATIONS]
    if unknown:
        raise CorruptObject(
            f"{key} names the documents {', '.join(unknown)}, this release makes {', '.join(PUBLICATIONS)}; "
            "use a newer one",
            key=key,
        )
    return {name: PUBLICATIONS[name] for name in record.documents}


def accept_finish(record: Record) -> None:
    """Raise ValueError for a finish record that could not be published; called before it is written."""
    unknown = [name for name in record.documents if name not in PUBLICATIONS]
    if unknown:
        raise ValueError(f"unknown documents {', '.join(unknown)}; known are {', '.join(PUBLICATIONS)}")
    for name in record.documents:
        PUBLICATIONS[name].accept(record)
