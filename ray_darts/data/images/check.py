"""Reads every picture of a data set once and says what is in it: classes, sizes, modes, copies, bad pictures.

Decodes as a search does, and keeps nothing but a hash of each picture.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.decoding import DecodingRoom
from ray_darts.data.images.halves import Halves, open_halves
from ray_darts.data.images.labels import check_labels, half_counts
from ray_darts.data.images.pictures import (
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
from ray_darts.data.memory import available_memory_bytes, gigabytes
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
    """One picture: width and height, mode, format, and a hash of its pixels as the search would have them."""

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    form: str = ""
    turned: bool = False
    transparent: bool = False
    digest: bytes = b""
    problem: str = ""


@dataclass
class _Counts:
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    turned: int = 0
    transparent: int = 0
    problems: list[str] = field(default_factory=list)
    num_problems: int = 0

    def add(self, seen: _Seen) -> None:
        """Count one picture."""
        if seen.problem:
            self.num_problems += 1
            self.problems += [seen.problem] if len(self.problems) < MOST_PROBLEMS else []
        if seen.mode:
            self.sizes[seen.size] += 1
            self.kinds[f"{seen.form} {seen.mode}".strip()] += 1
            self.turned += seen.turned
            self.transparent += seen.transparent


def check_images(settings: Images, advance: Advance) -> DataReport:
    """Read all samples of the training set, and of a validation set that is used. Raises: DataError without any."""
    halves, problem = _halves(settings)
    source, split = halves.source, halves.split
    rows = np.sort(np.concatenate([split.weight, split.alpha]))
    counts = _Counts()
    if problem:
        counts.problems, counts.num_problems = [problem], 1
    shape = _shape(settings, source, rows, counts)
    digests = np.zeros((len(rows), 2), np.uint64)
    room = DecodingRoom(min(available_memory_bytes(), _MOST_BYTES))
    for position, seen in enumerate(_look(source.pictures(rows), shape, room)):
        counts.add(seen)
        if seen.digest:
            digests[position] = np.frombuffer(seen.digest, np.uint64)
        advance(position + 1, len(rows))
    copies = _copies(digests, rows, source, split)
    weight, alpha = half_counts(source.labels, len(halves.classes), split)
    needed = len(rows) * shape.picture_bytes
    table = [
        *(("data", note) for note in source.notes),
        ("classes", classes_line(halves.classes, weight, alpha)),
        ("sizes", _sizes_text(counts.sizes)),
        ("pictures", counted_reasons(counts.kinds.elements())),
        ("turned", f"{counts.turned} as their EXIF data say"),
        ("transparent", f"{counts.transparent}, on {settings.background}" if shape.channels in (1, 3) else "kept"),
        ("copies", copies.text),
        ("memory", f"{gigabytes(needed)} GB a worker at {shape.size}x{shape.size} pixels, {shape.channels} channels"),
    ]
    return DataReport(
        rows=tuple(table),
        problems=tuple(counts.problems),
        num_problems=counts.num_problems,
        figures={
            "weight_half": len(split.weight),
            "alpha_half": len(split.alpha),
            "classes": dict(zip(halves.classes, ([w, a] for w, a in zip(weight, alpha, strict=True)), strict=True)),
            "sizes": {f"{width}x{height}": number for (width, height), number in counts.sizes.most_common()},
            "kinds": dict(counts.kinds),
            "turned": counts.turned,
            "transparent": counts.transparent,
            "copies": copies.number,
            "copies_in_both_halves": copies.across,
            "copies_with_another_label": copies.contradicting,
            "memory_bytes": needed,
        },
    )


def _halves(settings: Images) -> tuple[Halves, str]:
    """As a search has them; where it could not be split, everything as the weight half, and why."""
    try:
        return open_halves(settings), ""
    except DataError as error:
        source = open_source(settings)
        classes = check_labels(source, settings)
        whole = Split(np.arange(len(source.labels), dtype=np.int64), NO_ROWS)
        return Halves(source, classes, whole, (0, len(source.labels))), str(error)


def _shape(settings: Images, source: ImageSource, rows: NDArray[np.int64], counts: _Counts) -> PictureShape:
    try:
        pictures = source.pictures(rows)
        return infer_shape(pictures, settings.image_size, settings.channels, settings.background, len(rows) + 1)
    except DataError as error:
        counts.problems.append(str(error).splitlines()[0])
        counts.num_problems += 1
        return _ANY_SHAPE


def _look(pictures: Iterator[Picture], shape: PictureShape, room: DecodingRoom) -> Iterator[_Seen]:
    """What each picture is, on all cores, in order."""

    def look(picture: Picture) -> _Seen:
        try:
            image = open_picture(picture)
            facts = _Seen(image.size, image.mode, image.format or "", is_turned(image))
        except DataError as error:
            return _Seen(problem=str(error))
        return _decoded(image, picture.name, shape, facts, room)

    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while group := list(islice(pictures, _AT_ONCE)):
            yield from pool.map(look, group)


def _decoded(image: Image.Image, name: str, shape: PictureShape, facts: _Seen, room: DecodingRoom) -> _Seen:
    try:
        with room.taken(decoding_bytes(image, shape), name, image.size):
            pixels, transparent = decode_picture(image, name, shape)
    except DataError as error:
        return _Seen(facts.size, facts.mode, facts.form, facts.turned, problem=str(error))
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
    return _Seen(facts.size, facts.mode, facts.form, facts.turned, transparent, digest)


@dataclass(frozen=True)
class _Copies:
    """Pictures that equal an earlier one: all, those in the other half, those with another label."""

    number: int
    across: int
    contradicting: int
    text: str


def _copies(digests: NDArray[np.uint64], rows: NDArray[np.int64], source: ImageSource, split: Split) -> _Copies:
    read = np.flatnonzero(digests.any(axis=1))
    order = read[np.lexsort(digests[read].T)]
    same = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
    is_alpha = np.isin(rows, split.alpha)
    labels = source.labels[rows]
    later, earlier = order[1:][same], order[:-1][same]
    across, contradicting = is_alpha[later] != is_alpha[earlier], labels[later] != labels[earlier]
    if not len(later):
        return _Copies(0, 0, 0, "none")
    first = int(np.argmin(later)) if not contradicting.any() else int(np.flatnonzero(contradicting)[0])
    names = " = ".join(sorted(source.name(int(rows[place])) for place in (earlier[first], later[first])))
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
