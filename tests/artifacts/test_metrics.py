"""metrics.parquet: the columns of the first release for every space, further metrics at the end."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ray_darts.artifacts.descriptions import RunDescription
from ray_darts.artifacts.metrics import metrics_schema, metrics_table
from ray_darts.tasks.metrics import EpochMetrics

RUN = RunDescription(run="first-order-seed-0", seed=0, order="first")
OF_0_1 = Path(__file__).parents[1] / "data" / "schema_1" / "tiny" / "runs" / RUN.run / "metrics.parquet"


def epoch(number: int, **quality: float) -> EpochMetrics:
    return EpochMetrics(epoch=number, step=number + 1, train_loss=1.0, validation_loss=2.0, quality=quality)


def test_the_columns_are_those_of_the_first_release() -> None:
    written = pa.BufferOutputStream()
    pq.write_table(metrics_table(RUN, [epoch(0, train_accuracy=0.5)]), written)
    schema = pq.read_schema(pa.BufferReader(written.getvalue()))
    assert schema.equals(pq.read_schema(OF_0_1), check_metadata=True)


def test_metrics_of_other_names_are_further_columns() -> None:
    table = metrics_table(RUN, [epoch(0, train_top5=0.5), epoch(1, train_top5=0.75, validation_top5=0.25)])
    first = metrics_schema().names
    assert table.column_names == [*first, "train_top5", "validation_top5"]
    assert table["train_top5"].to_pylist() == [0.5, 0.75]
    assert table["validation_top5"].to_pylist() == [None, 0.25]
    assert table["train_accuracy"].to_pylist() == [None, None]
