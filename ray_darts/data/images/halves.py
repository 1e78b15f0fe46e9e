"""Which samples train the weights and which the alphas: two parts of one training set, or that and a validation set of
the user's own. Decodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.ahead import in_turn
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.labels import check_classes_have_samples, check_labels
from ray_darts.data.images.pictures import Picture
from ray_darts.data.images.sources import ImageSource, open_source
from ray_darts.data.images.split import Split, held_out_rows, rows_of_classes, stratified_split
from ray_darts.data.images.split_sources import VALIDATION_SET, open_held_out
from ray_darts.errors import DataError


@dataclass(frozen=True)
class Halves:
    """`split`: rows of `source`; `classes`: the names of its labels; `held_out`: samples of the test set in the
    training set, and of all in it."""

    source: ImageSource
    classes: tuple[str, ...]
    split: Split
    held_out: tuple[int, int]


class JoinedSource:
    """Two sources as one: the rows of the second follow those of the first."""

    def __init__(self, first: ImageSource, second: ImageSource, notes: tuple[str, ...]) -> None:
        self._sources = first, second
        self._start = len(first.labels)
        self.classes = first.classes
        self.labels = np.concatenate([first.labels, second.labels])
        self.notes = (*first.notes, *notes)

    def name(self, row: int) -> str:
        return self._sources[0].name(row) if row < self._start else self._sources[1].name(row - self._start)

    def short_name(self, row: int) -> str:
        if row < self._start:
            return self._sources[0].short_name(row)
        return f"validation/{self._sources[1].short_name(row - self._start)}"

    @property
    def fingerprint(self) -> str:
        return f"{self._sources[0].fingerprint} {self._sources[1].fingerprint}"

    def reads(self, rows: NDArray[np.int64]) -> Iterator[Callable[[], Iterator[Picture]]]:
        place = int(np.searchsorted(rows, self._start))
        yield from self._sources[0].reads(rows[:place])
        yield from self._sources[1].reads(rows[place:] - self._start)

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        return in_turn(self.reads(rows))

    def read_bytes_per_picture(self) -> float:
        return max(source.read_bytes_per_picture() for source in self._sources)

    def __getstate__(self) -> dict[str, object]:
        """For processes that decode pictures: without labels."""
        return {**self.__dict__, "labels": self.labels[:0]}


def open_halves(settings: Images) -> Halves:
    """Open the source and split it. Raises: DataError naming the file, row or setting at fault."""
    source = open_source(settings)
    classes = check_labels(source, settings)
    check_classes_have_samples(source.labels, classes)
    held_out = held_out_rows(
        source.labels, len(classes), test_fraction=settings.test_fraction, split_seed=settings.split_seed
    )
    if settings.alpha == "split":
        split = stratified_split(
            source.labels,
            len(classes),
            fraction=settings.fraction,
            alpha_fraction=settings.alpha_fraction,
            split_seed=settings.split_seed,
            held_out=held_out,
        )
        return Halves(source, classes, split, (len(held_out), len(source.labels)))
    weight = rows_of_classes(
        source.labels, len(classes), fraction=settings.fraction, split_seed=settings.split_seed, held_out=held_out
    )
    validation = open_held_out(settings, classes, VALIDATION_SET)
    if validation is None or len(validation.labels) == 0:
        raise DataError(
            f'data.alpha = "validation", but no validation split lies in data.path {settings.path}: set '
            'data.validation_path, or data.alpha = "split"'
        )
    check_labels(validation, settings.model_copy(update={"num_classes": len(classes), "classes": classes}))
    where = settings.validation_path or f"the validation split in {settings.path}"
    note = f"alpha half: {len(validation.labels)} samples of {where} (data.alpha)"
    joined = JoinedSource(source, validation, (note,))
    alpha = np.arange(len(source.labels), len(joined.labels), dtype=np.int64)
    return Halves(joined, classes, Split(weight, alpha), (len(held_out), len(source.labels)))


def check_halves(labels: NDArray[np.int64], classes: tuple[str, ...], split: Split) -> None:
    """Raise DataError where a class has no sample left to train the weights on."""
    counts = np.bincount(labels[split.weight], minlength=len(classes))
    if not counts.all():
        name = classes[int(np.argmin(counts))]
        raise DataError(
            f"every picture of the class {name} in the weight half was skipped (data.on_error): repair some"
        )
