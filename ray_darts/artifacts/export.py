"""Alpha histories of an experiment's runs, finished or not, into one file for other tools.

Reads what the logs refer to, part by part, so memory does not grow with the history. A part with another hash or
schema is refused, naming its key. Writes a complete file or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ray_darts.artifacts.architecture import RunArchitecture, architecture_of
from ray_darts.artifacts.descriptions import RunDescription
from ray_darts.artifacts.experiment import list_runs, read_experiment, read_run, space_layout
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.trace_schema import METHOD_TRACE_SCHEMA, TRACE_SCHEMA, trace_schema, widened
from ray_darts.artifacts.traces import read_rows, trace_table
from ray_darts.errors import ConfigError
from ray_darts.output_files import whole_file


@dataclass(frozen=True)
class History:
    """One run's alphas in short: `steps` done, `rows` of the long table, mean entropy per cell after the first and last
    kept step, and what the last epoch warned of."""

    run: str
    steps: int
    rows: int
    first_entropy: dict[str, float]
    last_entropy: dict[str, float]
    warning: str | None = None


def export_traces(store: ObjectStore, experiment: str, run: str | None, output: Path | None) -> list[History]:
    """Read the alpha traces of one run or of all that have committed a step, and write their rows to `output`.

    Raises: MissingObject, CorruptObject; ConfigError for an output that is neither .parquet nor .csv, or not writable.
    """
    layout = space_layout(read_experiment(store, experiment))
    runs = list_runs(store, experiment)
    if run is not None and run not in runs:
        raise ConfigError(f"no run {run!r} in {experiment!r}; there are {', '.join(runs) or 'none'}")
    described = [read_run(store, experiment, name) for name in ([run] if run else runs)]
    architectures = [architecture_of(layout, each) for each in described]
    plain = all(trace_schema(architecture) is TRACE_SCHEMA for architecture in architectures)
    with _writing(output, TRACE_SCHEMA if plain else METHOD_TRACE_SCHEMA) as table:
        histories = [
            _export_run(store, RunKeys(experiment, each.run), each, architecture, table)
            for each, architecture in zip(described, architectures, strict=True)
        ]
    return [history for history in histories if history.steps]


class _Table(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


class _Csv:
    """CSV of plain columns; dictionary columns become text."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        plain = [(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in schema]
        self._schema = pa.schema(plain)
        self._writer = pyarrow.csv.CSVWriter(str(path), self._schema)

    def write_table(self, table: pa.Table) -> None:
        self._writer.write_table(table.cast(self._schema))

    def close(self) -> None:
        self._writer.close()


class _Wide:
    """Writes every table with the columns of other methods."""

    def __init__(self, inner: _Table) -> None:
        self._inner = inner

    def write_table(self, table: pa.Table) -> None:
        self._inner.write_table(widened(table))


@contextmanager
def _writing(output: Path | None, schema: pa.Schema) -> Iterator[_Table | None]:
    """A table to write to that becomes `output` when the block ends well, and leaves nothing otherwise."""
    if output is None:
        yield None
        return
    suffix = output.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise ConfigError(f"{output} ends neither in .parquet nor in .csv")
    with whole_file(output) as file:
        writer = _Csv(file, schema) if suffix == ".csv" else pq.ParquetWriter(file, schema, compression="zstd")
        try:
            yield _Wide(writer) if schema is METHOD_TRACE_SCHEMA else writer
        finally:
            writer.close()


def _export_run(
    store: ObjectStore, keys: RunKeys, run: RunDescription, architecture: RunArchitecture, table: _Table | None
) -> History:
    log = read_log(store, keys)
    first: Sequence[float] | None = None
    last: Sequence[float] = ()
    num_rows = 0
    for rows in read_rows(store, keys, log, architecture.width):
        if not len(rows.steps):
            continue
        first = rows.values[0].tolist() if first is None else first
        last = rows.values[-1].tolist()
        num_rows += len(rows.values) * architecture.width
        if table is not None:
            table.write_table(trace_table(architecture, run, rows))
    if first is None:
        return History(keys.run, 0, 0, {}, {})
    entropies = _entropy(architecture, first), _entropy(architecture, last)
    return History(keys.run, log[-1].record.step, num_rows, *entropies, log[-1].record.warning)


def _entropy(architecture: RunArchitecture, flat: Sequence[float]) -> dict[str, float]:
    return architecture.decoder().decode(architecture.layout, flat).entropy
