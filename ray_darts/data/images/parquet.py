"""Labelled pictures in Parquet files, as most hubs publish them, in local folders or at Arrow URIs.

Reads all labels at once, and pictures row group by row group. Knows columns and rows, decodes nothing.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.data.images.label_columns import LabelColumn, check_type, number_labels, read_labels
from ray_darts.data.images.pictures import Picture
from ray_darts.data.locations import Files, at_endpoint, list_training_files
from ray_darts.data.summary import MOST_PROBLEMS, raise_together
from ray_darts.errors import DataError

SUFFIX = ".parquet"


class ParquetPictures:
    """All rows of the files under `path` that `choose` lists, file by file in the order of their paths.

    `classes` names the labels, whatever the files call them; without it files must not name one label differently.
    Labels that are names of classes are numbered as in `numbering`, without it in their natural order.
    Raises: DataError naming up to ten files that cannot be read.
    """

    def __init__(
        self,
        path: str,
        image_column: str,
        label_column: str,
        classes: tuple[str, ...] | None = None,
        choose: Callable[[str, str], Files] = list_training_files,
        numbering: tuple[str, ...] | None = None,
    ) -> None:
        self.filesystem, self.files, self.notes = choose(path, SUFFIX)
        self._at = at_endpoint(path)
        self.image_column = image_column
        self.label_column = label_column
        self._are_named = classes is not None
        self.classes: tuple[str, ...] = ()
        columns: list[LabelColumn] = []
        problems: list[DataError] = []
        self.starts = [0]
        for file in self.files:
            try:
                columns.append(self._labels_of(file))
            except DataError as error:
                problems.append(error)
                if len(problems) == MOST_PROBLEMS:
                    break
                continue
            self.starts.append(self.starts[-1] + len(columns[-1].codes))
        raise_together(problems, "Parquet files cannot be used")
        labels, names = number_labels(columns, classes if numbering is None else numbering)
        self.labels = np.concatenate(labels)
        self.labels_are_names = bool(names)
        self.classes = names or self.classes

    def name(self, row: int) -> str:
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.files[file]} row {row - self.starts[file]}"

    def short_name(self, row: int) -> str:
        """Below the folder that all files share."""
        folder = posixpath.commonpath([posixpath.dirname(file) for file in self.files])
        return self.name(row).removeprefix(folder).lstrip("/")

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        for file, start, stop in zip(self.files, self.starts[:-1], self.starts[1:], strict=True):
            wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)] - start
            if len(wanted):
                yield from self._pictures_of(file, wanted)

    def _open(self, file: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.filesystem.open_input_file(file))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file}{self._at} cannot be read as a Parquet file: {error}", name=file) from error

    def _labels_of(self, file: str) -> LabelColumn:
        parquet = self._open(file)
        schema = parquet.schema_arrow
        for column in (self.image_column, self.label_column):
            if column not in schema.names:
                raise DataError(
                    f"{file} has no column {column!r}, only {', '.join(schema.names)}; "
                    "see data.image_column and data.label_column"
                )
        _binary_column(schema.field(self.image_column), file)
        check_type(schema.field(self.label_column).type, f"{file}: label column {self.label_column!r}")
        column = self._read(parquet, file, None, self.label_column)
        self._take_classes(file, _class_names(schema, self.label_column))
        return read_labels(file, column)

    def _take_classes(self, file: str, names: tuple[str, ...]) -> None:
        """Keep the most names of labels that a file has. Raises: DataError where two files name one label differently.

        Where `data.classes` names the labels, what the files call them is only compared with it.
        """
        for label, (known, name) in enumerate(zip(self.classes, names, strict=False)):
            if known != name and not self._are_named:
                raise DataError(
                    f"{file} calls label {label} {name!r}, a file before it {known!r}: write one of them again, or, "
                    "where both mean the same class, name all classes in data.classes",
                    name=file,
                )
        self.classes = max(self.classes, names, key=len)

    def _pictures_of(self, file: str, wanted: NDArray[np.int64]) -> Iterator[Picture]:
        parquet = self._open(file)
        leaf = _binary_column(parquet.schema_arrow.field(self.image_column), file)
        start = 0
        for group in range(parquet.num_row_groups):
            stop = start + parquet.metadata.row_group(group).num_rows
            here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, stop)]
            if len(here):
                column = self._read(parquet, file, group, leaf).take(pa.array(here - start))
                for row, scalar in zip(here.tolist(), column, strict=True):
                    value = scalar.as_py()
                    content = value["bytes"] if isinstance(value, dict) else value
                    yield Picture(f"{file} row {row}", _absent(file, row) if content is None else content)
            start = stop

    def _read(self, parquet: pq.ParquetFile, file: str, group: int | None, leaf: str) -> pa.ChunkedArray:
        try:
            if group is None:
                return parquet.read(columns=[leaf]).column(0)
            return parquet.read_row_group(group, columns=[leaf]).column(0)
        except (pa.ArrowException, OSError) as error:
            where = file if group is None else f"{file} row group {group}"
            raise DataError(f"{where}{self._at}: column {leaf!r} cannot be read: {error}", name=file) from error


def _absent(file: str, row: int) -> Callable[[], bytes]:
    """The content of a row without image bytes: it raises when it is read, with all other bad pictures."""

    def read() -> bytes:
        raise DataError(f"{file} row {row} has no image bytes", name=file, row=row)

    return read


def _class_names(schema: pa.Schema, label_column: str) -> tuple[str, ...]:
    """The names of the labels 0, 1, …, where a hub wrote them into the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label_column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _binary_column(field: pa.Field, file: str) -> str:
    """Parquet's name of the column (or struct member) that holds the encoded bytes."""
    kind = field.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return str(field.name)
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        inner = kind.field("bytes").type
        if pa.types.is_binary(inner) or pa.types.is_large_binary(inner):
            return f"{field.name}.bytes"
    raise DataError(f"{file}: image column {field.name!r} is {kind}; encoded bytes, or a struct with bytes, are wanted")
