"""Labelled pictures in Parquet files, as most hubs publish them, in local folders or at Arrow URIs.

Reads all labels at once, and pictures row group by row group. Knows columns and rows, decodes nothing.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.data.ahead import in_turn
from ray_darts.data.images.label_columns import LabelColumn, check_type, number_labels, read_labels
from ray_darts.data.images.pictures import Picture
from ray_darts.data.locations import Files, at_endpoint, file_versions, list_training_files
from ray_darts.data.summary import MOST_PROBLEMS, raise_together
from ray_darts.errors import DataError

SUFFIX = ".parquet"
_OPENED_AT_ONCE = 8
_MOST_FOOTERS = 1024
_FILES_LOOKED_AT = 4
_LARGE_GROUP_BYTES = 64 << 20
"""A row group above this is read in pieces, so that it needs not fit the memory."""
_BUFFER_BYTES = 8 << 20
_ROWS_AT_ONCE = 256


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
        self._folder = posixpath.commonpath([posixpath.dirname(file) for file in self.files]) if self.files else ""
        self.image_column = image_column
        self.label_column = label_column
        self._are_named = classes is not None
        self.classes: tuple[str, ...] = ()
        columns: list[LabelColumn] = []
        problems: list[DataError] = []
        self._footers: dict[int, _Footer] = {}
        self.starts = [0]
        with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
            for task in [pool.submit(self._labels_of, file) for file in self.files]:
                try:
                    column, names, footer = task.result()
                    self._take_classes(column.file, names)
                except DataError as error:
                    problems.append(error)
                    if len(problems) == MOST_PROBLEMS:
                        pool.shutdown(cancel_futures=True)
                        break
                    continue
                if len(columns) < _MOST_FOOTERS:
                    self._footers[len(columns)] = footer
                columns.append(column)
                self.starts.append(self.starts[-1] + len(column.codes))
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
        return self._below(self.name(row))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the column, and of the files' names below their folder and versions."""
        digest = hashlib.sha256(self.image_column.encode())
        for file, version in zip(self.files, file_versions(self.filesystem, self.files), strict=True):
            digest.update(f"\n{self._below(file)} {version}".encode())
        return digest.hexdigest()

    def reads(self, rows: NDArray[np.int64]) -> Iterator[Callable[[], Iterator[Picture]]]:
        """One read for each row group that holds some of `rows`."""
        for number, (start, stop) in enumerate(pairwise(self.starts)):
            wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)] - start
            if len(wanted):
                group_starts = self._footer(number).starts
                groups = np.searchsorted(group_starts, wanted, side="right") - 1
                for group in np.unique(groups).tolist():
                    inside = wanted[groups == group] - group_starts[group]
                    yield partial(self._pictures_of, number, group, inside)

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        return in_turn(self.reads(rows))

    def read_bytes_per_picture(self) -> float:
        """Mean bytes that are read for one picture at a random place: those of its row group."""
        footers = [self._footer(number) for number in range(min(len(self.files), _FILES_LOOKED_AT))]
        sizes = np.concatenate([footer.sizes for footer in footers])
        counts = np.concatenate([np.diff(footer.starts, append=footer.num_rows) for footer in footers])
        return float((sizes * counts).sum() / max(1, counts.sum()))

    def __getstate__(self) -> dict[str, object]:
        """For processes that decode pictures: without labels."""
        return {**self.__dict__, "labels": self.labels[:0]}

    def _below(self, file: str) -> str:
        return file.removeprefix(self._folder).lstrip("/")

    def _footer(self, number: int) -> _Footer:
        """Of a file; kept, the latest few."""
        found = self._footers.get(number)
        if found is None:
            file = self.files[number]
            found = self._footer_of(self._open(file), file)
            self._footers = dict([*self._footers.items(), (number, found)][-_MOST_FOOTERS:])
        return found

    def _footer_of(self, parquet: pq.ParquetFile, file: str) -> _Footer:
        return _Footer.of(parquet.metadata, _binary_column(parquet.schema_arrow.field(self.image_column), file))

    def _open(self, file: str, metadata: pq.FileMetaData | None = None, buffer_size: int = 0) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.filesystem.open_input_file(file), metadata=metadata, buffer_size=buffer_size)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file}{self._at} cannot be read as a Parquet file: {error}", name=file) from error

    def _labels_of(self, file: str) -> tuple[LabelColumn, tuple[str, ...], _Footer]:
        """The labels of a file, what it calls them, and its footer."""
        parquet = self._open(file)
        schema = parquet.schema_arrow
        for column in (self.image_column, self.label_column):
            if schema.names.count(column) > 1:
                raise DataError(
                    f"{file} has {schema.names.count(column)} columns called {column!r}: rename one of them", name=file
                )
            if column not in schema.names:
                raise DataError(
                    f"{file} has no column {column!r}, only {', '.join(schema.names)}; "
                    "see data.image_column and data.label_column"
                )
        footer = self._footer_of(parquet, file)
        check_type(schema.field(self.label_column).type, f"{file}: label column {self.label_column!r}")
        column = self._labels_column(parquet, file)
        return read_labels(file, column), _class_names(schema, self.label_column), footer

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

    def _pictures_of(self, number: int, group: int, rows: NDArray[np.int64]) -> Iterator[Picture]:
        """The pictures of these rows (ascending) of a row group; a large group is read piece by piece."""
        file, footer = self.files[number], self._footer(number)
        first_row, start, found = int(footer.starts[group]), 0, 0
        for column in self._columns(file, footer, group):
            stop = start + len(column)
            here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)]
            for row, scalar in zip((first_row + here).tolist(), column.take(pa.array(here - start)), strict=True):
                value = scalar.as_py()
                content = value["bytes"] if isinstance(value, dict) else value
                yield Picture(f"{file} row {row}", _absent(file, row) if content is None else content)
            start, found = stop, found + len(here)
            if start > rows[-1]:
                break
        if found < len(rows):
            raise DataError(f"{file} changed after it was opened: it has fewer rows now, begin again", name=file)

    def _columns(self, file: str, footer: _Footer, group: int) -> Iterator[pa.ChunkedArray | pa.Array]:
        large = bool(footer.sizes[group] > _LARGE_GROUP_BYTES)
        parquet = self._open(file, footer.metadata, _BUFFER_BYTES if large else 0)
        try:
            if not large:
                yield parquet.read_row_group(group, columns=[footer.leaf]).column(0)
                return
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[footer.leaf]):
                yield batch.column(0)
        except (pa.ArrowException, OSError) as error:
            place = f"{file} row group {group}{self._at}"
            raise DataError(f"{place}: column {footer.leaf!r} cannot be read: {error}", name=file) from error

    def _labels_column(self, parquet: pq.ParquetFile, file: str) -> pa.ChunkedArray:
        try:
            return parquet.read(columns=[self.label_column]).column(0)
        except (pa.ArrowException, OSError) as error:
            where = f"{file}{self._at}: column {self.label_column!r}"
            raise DataError(f"{where} cannot be read: {error}", name=file) from error


@dataclass(frozen=True)
class _Footer:
    """What a file says of its row groups: the first row of each, and the bytes of its pictures as they are stored.

    `leaf`: Parquet's name of the column that holds the encoded bytes.
    """

    metadata: pq.FileMetaData
    leaf: str
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    num_rows: int

    @classmethod
    def of(cls, metadata: pq.FileMetaData, leaf: str) -> _Footer:
        """The footer of a file."""
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        counts = np.array([group.num_rows for group in groups], np.int64)
        columns = range(groups[0].num_columns if groups else 0)
        place = next((column for column in columns if groups[0].column(column).path_in_schema == leaf), 0)
        sizes = np.array([group.column(place).total_compressed_size for group in groups], np.int64)
        return cls(metadata, leaf, np.cumsum(counts) - counts, sizes, metadata.num_rows)


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
