"""The columns of an alpha trace, and what names a flat row of architecture parameters in them.

A run of the default method has the columns of the first release. Another method's run has two more, `method` and
`parameter`, and its other parameters (betas of edges) are rows without an operation and without a probability.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_darts.artifacts.architecture import RunArchitecture
from ray_darts.genotype.layout import ALPHAS, SpaceLayout

_TEXT = pa.dictionary(pa.int16(), pa.string())

DICTIONARY_COLUMNS = ["run", "order", "seed", "epoch", "step", "cell", "edge", "source", "target", "operation"]

TRACE_SCHEMA = pa.schema(
    [
        pa.field("run", _TEXT, nullable=False),
        pa.field("order", _TEXT, nullable=False, metadata={"description": "first or second: the alpha gradient"}),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False, metadata={"description": "of the search, from 0"}),
        pa.field("step", pa.int32(), nullable=False, metadata={"description": "search steps done, from 1"}),
        pa.field("cell", _TEXT, nullable=False),
        pa.field("edge", pa.int16(), nullable=False, metadata={"description": "row of the cell's alphas, from 0"}),
        pa.field("source", pa.int16(), nullable=False, metadata={"description": "state; the inputs come first"}),
        pa.field("target", pa.int16(), nullable=False, metadata={"description": "state that the edge feeds"}),
        pa.field("operation", _TEXT, nullable=False),
        pa.field("alpha", pa.float32(), nullable=False, metadata={"description": "after this step"}),
        pa.field("probability", pa.float32(), nullable=False, metadata={"description": "softmax over the edge"}),
    ],
    metadata={"schema_version": "1"},
)

METHOD_TRACE_SCHEMA = pa.schema(
    [
        *(
            field.with_nullable(field.name == "order")
            for field in TRACE_SCHEMA
            if field.name not in ("operation", "alpha", "probability")
        ),
        pa.field("operation", _TEXT),
        TRACE_SCHEMA.field("alpha"),
        pa.field("probability", pa.float32(), metadata={"description": "by the method's decode rule"}),
        pa.field("method", _TEXT, metadata={"description": "null: the default method"}),
        pa.field("parameter", _TEXT, metadata={"description": "kind of the parameter; null: alphas"}),
    ],
    metadata={"schema_version": "2"},
)
"""Columns of runs of other methods; a trace of the first form is one of this with nulls in the last two columns."""


def trace_schema(architecture: RunArchitecture) -> pa.Schema:
    """The columns of a run's trace."""
    plain = architecture.method is None and architecture.only_alphas
    return TRACE_SCHEMA if plain else METHOD_TRACE_SCHEMA


def widened(table: pa.Table) -> pa.Table:
    """A trace in the columns of METHOD_TRACE_SCHEMA."""
    missing = [name for name in METHOD_TRACE_SCHEMA.names if name not in table.column_names]
    for name in missing:
        table = table.append_column(name, pa.nulls(len(table), METHOD_TRACE_SCHEMA.field(name).type))
    return table.cast(METHOD_TRACE_SCHEMA)


def operation_names(layout: SpaceLayout) -> list[str]:
    """Every operation of the space once, in the order of the cells."""
    return list(dict.fromkeys(name for cell in layout.cells for name in cell.operations))


def parameter_kinds(architecture: RunArchitecture) -> list[str]:
    """Every kind of parameter once, in the order of the groups."""
    return list(dict.fromkeys(group.kind for group in architecture.groups))


def row_names(architecture: RunArchitecture) -> dict[str, NDArray[np.int16]]:
    """Per number of a flat row: its cell's, operation's (-1: none) and kind's number, its edge, source and target.

    int16 [width] each.
    """
    layout = architecture.layout
    operations, kinds = operation_names(layout), parameter_kinds(architecture)
    cells = [cell.name for cell in layout.cells]
    rows = []
    for group in architecture.groups:
        cell = layout.cell(group.cell)
        columns = [operations.index(name) for name in cell.operations] if len(group.shape) > 1 else [-1]
        rows += [
            (cells.index(cell.name), edge, source, target, column, kinds.index(group.kind))
            for edge, (source, target) in enumerate(cell.edges)
            for column in columns
        ]
    names = ("cell", "edge", "source", "target", "operation", "parameter")
    return dict(zip(names, np.array(rows, dtype=np.int16).T, strict=True))


def probabilities(architecture: RunArchitecture, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mixing probabilities [n, width] of rows, by the method's decode rule; NaN for parameters beside alphas.

    Raises: PluginError where the method is not installed.
    """
    decoder, layout = architecture.decoder(), architecture.layout
    found = np.full(values.shape, np.nan, np.float32)
    for row, flat in zip(found, values.tolist(), strict=True):
        mixing = decoder.mixing(layout, flat)
        start = 0
        for group in architecture.groups:
            if group.kind == ALPHAS:
                row[start : start + group.size] = [value for edge in mixing[group.cell] for value in edge]
            start += group.size
    return found
