"""Checks the labels of a source, names its classes, and describes for people what was read. Knows no pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.sources import ImageSource
from ray_darts.data.images.split import Split
from ray_darts.data.summary import classes_line, listed
from ray_darts.errors import DataError
from ray_darts.protocols.dataset import DataDescription

_MOST_NUMBERED = 1_000_000
"""Labels from here on, and beyond the number of samples, are no numbers of classes."""

_FEW = 10
"""Samples of a class in a half, below which people are warned."""


def check_labels(source: ImageSource, settings: Images) -> tuple[str, ...]:
    """Return the names of the classes in the order of their labels; a class without a name is named by its label.

    The number of classes is the given one, or the largest label plus one. Raises: DataError.
    """
    labels = source.labels
    if len(labels) == 0:
        raise DataError("the data set has no samples")
    if labels.max() < 0:
        raise DataError(
            f"all labels are negative, {labels[0]} in {source.name(0)}: integers from 0 are wanted; are these test "
            "files, whose labels are kept back?"
        )
    is_given = settings.num_classes is not None or settings.classes is not None
    if not is_given and labels.max() >= max(_MOST_NUMBERED, len(labels)):
        raise DataError(
            f"{source.name(int(labels.argmax()))} has label {labels.max()}, and there are {len(labels)} samples: "
            "number classes from 0 without gaps, or write names of classes (text); is this a column of ids?"
        )
    known = settings.num_classes or len(settings.classes or ()) or int(labels.max()) + 1
    if known < 2:
        raise DataError(f"all labels are {known - 1} in {source.name(0)} and the rest; at least 2 classes are needed")
    wrong = np.flatnonzero((labels < 0) | (labels >= known))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{source.name(row)} has label {labels[row]}, wanted are 0 to {known - 1} ({len(wrong)} rows are wrong); "
            "see data.num_classes, data.classes and data.label_column",
            row=row,
        )
    own = source.classes[:known]
    if settings.classes is not None:
        if set(settings.classes) == set(own) and settings.classes != own:
            raise DataError(
                f"data.classes names the classes in another order than the data does: labels 0 to {known - 1} there "
                f"are {listed(own, 10)}; leave data.classes out, or give them in that order"
            )
        return settings.classes
    return own if len(own) == known else tuple(map(str, range(known)))


def check_classes_have_samples(labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """Raise DataError naming labels that no sample has: numbers that begin at 1, or have gaps."""
    counts = np.bincount(labels, minlength=len(classes))
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        names = listed(
            str(label) if classes[label] == str(label) else f"{label} ({classes[label]})" for label in absent
        )
        raise DataError(
            f"no sample has the label {names}; there are {np.count_nonzero(counts)} labels, {labels.min()} to "
            f"{labels.max()}: number them from 0 without gaps, or write names of classes (text) instead of numbers"
        )


def check_class_weights(settings: Images, classes: tuple[str, ...]) -> None:
    """Raise DataError unless there is a weight for every class, where they are given."""
    given = settings.class_weights
    if given not in ("none", "balanced") and len(given) != len(classes):
        raise DataError(
            f"data.class_weights has {len(given)} weights, the data have {len(classes)} classes: {listed(classes, 10)}"
        )


def check_mean(settings: Images, channels: int) -> None:
    """Raise DataError unless there is a mean for every channel, where they are given."""
    if settings.mean is not None and len(settings.mean) != channels:
        raise DataError(f"data.mean has {len(settings.mean)} values, the images have {channels} channels")


def half_counts(labels: NDArray[np.int64], num_classes: int, split: Split) -> tuple[list[int], list[int]]:
    """The samples of each class in the weight half and in the alpha half."""
    weight, alpha = (np.bincount(labels[rows], minlength=num_classes).tolist() for rows in (split.weight, split.alpha))
    return weight, alpha


def describe(
    source: ImageSource,
    split: Split,
    classes: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    memory_bytes: int,
    loading_bytes: int,
    held_out: tuple[int, int],
    notes: tuple[str, ...] = (),
) -> DataDescription:
    """What was taken, what was left out, and the samples of each class in each half.

    `held_out`: how many samples `data.test_fraction` leaves out, and of how many.
    """
    test = (f"{held_out[0]} of {held_out[1]} samples held out as the test set (data.test_fraction)",)
    weight, alpha = half_counts(source.labels, len(classes), split)
    few = [number for number, counts in enumerate(zip(weight, alpha, strict=True)) if min(counts) < _FEW]
    warnings: tuple[str, ...] = ()
    if few:
        each = listed(f"{classes[number]} {weight[number]} + {alpha[number]}" for number in few)
        warnings = (
            f"{len(few)} of {len(classes)} classes have fewer than {_FEW} samples in a half (weight half + alpha "
            f"half): {each}",
        )
    return DataDescription(
        classes=classes,
        samples=tuple(w + a for w, a in zip(weight, alpha, strict=True)),
        mean=mean,
        std=std,
        memory_bytes=memory_bytes,
        loading_bytes=loading_bytes,
        warnings=warnings,
        notes=(*source.notes, *(test if held_out[0] else ()), *notes, classes_line(classes, weight, alpha)),
    )
