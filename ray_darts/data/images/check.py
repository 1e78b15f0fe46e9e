"""Reads every picture of a data set once and says what is in it: classes, sizes, modes, copies, bad pictures.

Decodes as a search does, and keeps nothing but a hash of each picture.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.decoding import is_flat
from ray_darts.data.images.decoding_room import DecodingRoom
from ray_darts.data.images.halves import Halves, check_halves, open_halves
from ray_darts.data.images.labels import check_class_weights, check_labels, check_mean, half_counts
from ray_darts.data.images.pictures import (
    NeverSkipped,
    Picture,
    PictureShape,
    decode_picture,
    decoding_bytes,
    infer_shape,
    is_turned,
    open_picture,
)
from ray_darts.data.images.sources import ImageSource, open_source
from ray_darts.data.images.split import NO_ROWS, Split
from ray_darts.data.images.test_sources import check_test_fraction
from ray_darts.data.memory import available_memory_bytes, check_memory, gigabytes
from ray_darts.data.summary import MOST_PROBLEMS, classes_line, counted_reasons
from ray_darts.errors import DataError
from ray_darts.protocols.dataset import Advance, DataReport

_AT_ONCE = 512
_MOST_BYTES = 4 << 30
"""For decoding, on all cores together: more than any picture takes that Pillow decodes."""
_ANY_SHAPE = PictureShape(32, 3, resize=True)
"""Where no shape fits all pictures, they are decoded to this one."""


@dataclass(frozen=True)
class _Seen:
    """One picture: width and height, mode, format, and a hash of its pixels as the search would have them.

    `is_flat`: of one colour. `may_skip`: the problem is the picture's own.
    """

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    form: str = ""
    turned: bool = False
    transparent: bool = False
    is_flat: bool = False
    digest: bytes = b""
    problem: str = ""
    may_skip: bool = True


@dataclass
class _Counts:
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    turned: int = 0
    transparent: int = 0
    flat: int = 0
    problems: list[str] = field(default_factory=list)
    num_problems: int = 0
    num_skipped: int = 0

    def add(self, seen: _Seen) -> None:
        """Count one picture."""
        if seen.problem:
            self.refuse(seen.problem, may_skip=seen.may_skip)
        if seen.mode:
            self.sizes[seen.size] += 1
            self.kinds[f"{seen.form} {seen.mode}".strip()] += 1
            self.turned += seen.turned
            self.transparent += seen.transparent
            self.flat += seen.is_flat

    def refuse(self, problem: str, *, may_skip: bool = False) -> None:
        """Count a problem; `may_skip`: data.on_error may leave a picture out for it."""
        self.num_problems += 1
        self.num_skipped += may_skip
        self.problems += [problem] if len(self.problems) < MOST_PROBLEMS else []

    def attempt(self, check: Callable[[], None]) -> None:
        """Count what a search would refuse."""
        try:
            check()
        except DataError as error:
            self.refuse(str(error).splitlines()[0])


def check_images(settings: Images, advance: Advance) -> DataReport:
    """Read all samples of the training set, and of a validation set that is used. Raises: DataError without any."""
    counts = _Counts()
    counts.attempt(lambda: check_test_fraction(settings))
    halves = _halves(settings, counts)
    source, split, classes = halves.source, halves.split, halves.classes
    counts.attempt(lambda: check_class_weights(settings, classes))
    rows = np.sort(np.concatenate([split.weight, split.alpha]))
    shape = _shape(settings, source, rows, counts)
    counts.attempt(lambda: check_mean(settings, shape.channels))
    digests = np.zeros((len(rows), 2), np.uint64)
    room = DecodingRoom(min(available_memory_bytes(), _MOST_BYTES))
    is_bad = np.zeros(len(rows), bool)
    for position, seen in enumerate(_look(source.pictures(rows), shape, room)):
        counts.add(seen)
        if position < len(rows):
            is_bad[position] = bool(seen.problem)
        if seen.digest:
            digests[position] = np.frombuffer(seen.digest, np.uint64)
        advance(min(position + 1, len(rows)), len(rows))
    copies = _copies(digests, rows, source, split)
    if settings.on_error == "skip" and is_bad.any():
        split, rows = split.without(rows[is_bad]), rows[~is_bad]
        left = split
        counts.attempt(lambda: check_halves(source.labels, classes, left))
    if counts.flat and counts.flat == len(rows):
        counts.refuse(f"all {counts.flat} pictures are one flat colour once decoded: see data.background")
    needed = len(rows) * shape.picture_bytes
    if settings.loading == "memory":
        counts.attempt(lambda: check_memory(needed, available_memory_bytes(), "the data set", "see data.loading"))
    weight, alpha = half_counts(source.labels, len(classes), split)
    table = [
        *(("data", note) for note in source.notes),
        ("classes", classes_line(classes, weight, alpha)),
        ("sizes", _sizes_text(counts.sizes)),
        ("pictures", counted_reasons(counts.kinds.elements())),
        ("turned", f"{counts.turned} as their EXIF data say"),
        ("transparent", f"{counts.transparent}, on {settings.background}" if shape.channels in (1, 3) else "kept"),
        ("one colour", str(counts.flat)),
        ("copies", copies.text),
        ("decoded", f"{gigabytes(needed)} GB at {shape.size}x{shape.size} pixels, {shape.channels} channels"),
    ]
    return DataReport(
        rows=tuple(table),
        problems=tuple(counts.problems),
        num_problems=counts.num_problems,
        is_refused=counts.num_problems > counts.num_skipped or counts.num_skipped > settings.most_skipped,
        figures={
            "weight_half": len(split.weight),
            "alpha_half": len(split.alpha),
            "classes": dict(zip(classes, ([w, a] for w, a in zip(weight, alpha, strict=True)), strict=True)),
            "sizes": {f"{width}x{height}": number for (width, height), number in counts.sizes.most_common()},
            "kinds": dict(counts.kinds),
            "turned": counts.turned,
            "transparent": counts.transparent,
            "one_colour": counts.flat,
            "copies": copies.number,
            "copies_in_both_halves": copies.across,
            "copies_with_another_label": copies.contradicting,
            "memory_bytes": needed,
        },
    )


def _halves(settings: Images, counts: _Counts) -> Halves:
    """As a search has them; where it could not be split, everything as the weight half."""
    try:
        return open_halves(settings)
    except DataError as error:
        source = open_source(settings)
        classes = check_labels(source, settings)
        counts.refuse(str(error).splitlines()[0])
        whole = Split(np.arange(len(source.labels), dtype=np.int64), NO_ROWS)
        return Halves(source, classes, whole, (0, len(source.labels)))


def _shape(settings: Images, source: ImageSource, rows: NDArray[np.int64], counts: _Counts) -> PictureShape:
    """As a search infers it; any where it could not. What is wrong with a picture is counted when all are read."""
    try:
        pictures = source.pictures(rows)
        return infer_shape(pictures, settings.image_size, settings.channels, settings.background, len(rows) + 1)
    except NeverSkipped as error:
        counts.refuse(str(error))
    except DataError:
        pass
    return _ANY_SHAPE


def _look(pictures: Iterator[Picture], shape: PictureShape, room: DecodingRoom) -> Iterator[_Seen]:
    """What each picture is, on all cores, in order; where the source fails, one more that says so."""

    def look(picture: Picture) -> _Seen:
        try:
            image = open_picture(picture)
            facts = _Seen(image.size, image.mode, image.format or "", is_turned(image))
        except DataError as error:
            return _Seen(problem=str(error), may_skip=not isinstance(error, NeverSkipped))
        return _decoded(image, picture.name, shape, facts, room)

    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            while group := list(islice(pictures, _AT_ONCE)):
                yield from pool.map(look, group)
        except DataError as error:
            yield _Seen(problem=f"{error}; no picture after it was read", may_skip=False)


def _decoded(image: Image.Image, name: str, shape: PictureShape, facts: _Seen, room: DecodingRoom) -> _Seen:
    try:
        with room.taken(decoding_bytes(image, shape), name, image.size):
            pixels, transparent = decode_picture(image, name, shape)
    except DataError as error:
        return replace(facts, problem=str(error), may_skip=not isinstance(error, NeverSkipped))
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
    return replace(facts, transparent=transparent, is_flat=is_flat(pixels), digest=digest)


@dataclass(frozen=True)
class _Copies:
    """Pictures that equal an earlier one: all, those of which one is in the other half, those of which one has another
    label."""

    number: int
    across: int
    contradicting: int
    text: str


def _copies(digests: NDArray[np.uint64], rows: NDArray[np.int64], source: ImageSource, split: Split) -> _Copies:
    read = np.flatnonzero(digests.any(axis=1))
    order = read[np.lexsort(digests[read].T)]  # of equal ones the first row is the first
    same = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
    if not same.any():
        return _Copies(0, 0, 0, "none")
    is_later = np.concatenate([[False], same])
    group = np.cumsum(~is_later) - 1
    starts = np.flatnonzero(~is_later)
    is_alpha, labels = np.isin(rows[order], split.alpha), source.labels[rows[order]]
    in_both = np.logical_or.reduceat(is_alpha, starts) & np.logical_or.reduceat(~is_alpha, starts)
    contradicts = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
    later = np.flatnonzero(is_later)
    across, contradicting = in_both[group[later]], contradicts[group[later]]
    shown = later[int(np.argmax(contradicting))]
    first = starts[group[shown]]
    names = f"{source.name(int(rows[order[first]]))} = {source.name(int(rows[order[shown]]))}"
    text = (
        f"{len(later)} equal another picture once decoded, {int(across.sum())} of them one in the other half, "
        f"{int(contradicting.sum())} one with another label; such as {names}"
    )
    return _Copies(len(later), int(across.sum()), int(contradicting.sum()), text)


def _sizes_text(sizes: Counter[tuple[int, int]]) -> str:
    if not sizes:
        return "none could be read"
    smallest, largest = (pick(sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
    ((width, height), number), *_ = sizes.most_common(1)
    spread = "" if len(sizes) == 1 else f", {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]}"
    return f"{len(sizes)} in all{spread}; {number} of {sizes.total()} are {width}x{height} pixels"
