"""The labels of a Parquet column: numbers, or names of classes, one a picture. Knows columns, and no pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_darts.data.splits import natural_key
from ray_darts.data.summary import MOST_PROBLEMS, listed, raise_together
from ray_darts.errors import DataError
from ray_darts.messages import shown_name

_MOST_SURE_CLASSES = 1000
_WANTED = "integers from 0, or names of classes (text), are wanted, one a picture"


@dataclass(frozen=True)
class LabelColumn:
    """The labels of one file: `codes`, int64 [rows], index `names`, or are the labels themselves where it is None."""

    file: str
    codes: NDArray[np.int64]
    names: tuple[str, ...] | None


def check_type(kind: pa.DataType, place: str) -> None:
    """Raise DataError where a column of this type holds no labels. `place`: file and column, for the message."""
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_list(values) or pa.types.is_large_list(values) or pa.types.is_fixed_size_list(values):
        raise DataError(f"{place} is {kind}: several labels a picture are not supported; {_WANTED}")
    if not (_is_text(values) or _is_number(values) or pa.types.is_null(values)):
        raise DataError(f"{place} is {kind}; {_WANTED}")


def read_labels(file: str, column: pa.ChunkedArray) -> LabelColumn:
    """The labels of a column whose type `check_type` allows. Raises: DataError naming a row without a label."""
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{file} row {row} has no label", name=file, row=row)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):  # a file without rows
        return LabelColumn(file, np.empty(0, np.int64), None)
    if not _is_text(kind):
        try:
            numbers = column.cast(kind).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise DataError(f"{file}: a label is too large: {error}", name=file) from error
        return LabelColumn(file, np.asarray(numbers.to_numpy()), None)
    encoded = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
    try:
        names = tuple(encoded.dictionary.to_pylist())
    except UnicodeDecodeError as error:
        raise DataError(f"{file} has labels that are no UTF-8 text: {error}", name=file) from error
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False)).astype(np.int64)
    if "" in names:
        row = int(np.argmax(codes == names.index("")))
        raise DataError(f"{file} row {row} has an empty label", name=file, row=row)
    return LabelColumn(file, codes, names)


def number_labels(
    columns: Sequence[LabelColumn], classes: tuple[str, ...] | None
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """The labels 0, 1, … of each file, and the names of the classes, () where labels are numbers.

    Names are numbered as in `classes`, without it in their natural order. Raises: DataError naming up to ten labels
    that are not in `classes`, or files of which some name classes and others number them.
    """
    named = [column for column in columns if column.names is not None]
    numbered = [column for column in columns if column.names is None and len(column.codes)]
    if not named:
        return [column.codes for column in columns], ()
    if numbered:
        raise DataError(
            f"{named[0].file} names classes, {numbered[0].file} numbers them: write one of them again",
            name=numbered[0].file,
        )
    names = {name for column in named for name in column.names or ()}
    num_rows = sum(len(column.codes) for column in columns)
    if len(names) > max(_MOST_SURE_CLASSES, num_rows / 2):
        raise DataError(f"{len(names)} different labels in {num_rows} rows name no classes: see data.label_column")
    order = classes if classes is not None else tuple(sorted(names, key=natural_key))
    number = {name: label for label, name in enumerate(order)}
    problems: list[DataError] = []
    for column in named:
        for code, name in enumerate(column.names or ()):
            if name not in number and len(problems) < MOST_PROBLEMS:
                row = int(np.argmax(column.codes == code))
                place = f"{column.file} row {row} has label {shown_name(name)!r}"
                problems.append(
                    DataError(f"{place}, classes are {listed(order, 10)}: see data.classes", name=column.file, row=row)
                )
    raise_together(problems, "labels name no class")
    labels = []
    for column in columns:
        numbers = np.array([number[name] for name in column.names or ()], np.int64)
        labels.append(numbers[column.codes] if len(column.codes) else column.codes)
    return labels, order


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))
