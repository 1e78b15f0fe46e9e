"""A folder of class folders as a source of labelled pictures: which folders are classes, which files are pictures.

Decodes nothing. A folder of a validation or test split never becomes a class unless it is named as one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_darts.data.images.pictures import Picture
from ray_darts.data.splits import TRAIN, natural_key, split_folders
from ray_darts.data.summary import counted_reasons, listed
from ray_darts.errors import DataError
from ray_darts.messages import one_line, shown_name

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_SYSTEM_FOLDERS = ("__MACOSX",)


class _ClassPictures:
    """The pictures of class folders at any depth, those of a class sorted by path; the label is the class's number."""

    def __init__(self) -> None:
        self.classes: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.files = pa.array([], pa.large_string())  # a tenth of the memory of paths
        self._folder = Path()
        self.labels = np.empty(0, np.int64)
        self._digest = hashlib.sha256()
        self._passed_over: Counter[str] = Counter()

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the files' names, their sizes and times of change."""
        return self._digest.hexdigest()

    def name(self, row: int) -> str:
        return one_line(str(self._folder / self.short_name(row)))

    def short_name(self, row: int) -> str:
        return str(self.files[row].as_py())

    def reads(self, rows: NDArray[np.int64]) -> Iterator[Callable[[], Iterator[Picture]]]:
        """One read: files are opened where their pictures are decoded."""
        yield partial(self.pictures, rows)

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        for row in rows.tolist():
            yield Picture(self.name(row), (self._folder / self.short_name(row)).read_bytes)

    def read_bytes_per_picture(self) -> float:
        """A picture is a file of its own."""
        return 0.0

    def __getstate__(self) -> dict[str, object]:
        """For processes that decode pictures: without labels."""
        return {**self.__dict__, "labels": self.labels[:0], "_digest": None}

    def _take(self, folder: Path, classes: tuple[str, ...]) -> list[int]:
        """List the pictures of the class folders that there are; return their number in each class."""
        self.classes, self._folder = classes, folder
        files, counts = [], []
        for name in classes:
            found = list(self._pictures_below(folder / name)) if (folder / name).is_dir() else []
            found.sort(key=lambda entry: entry[0].split("/"))
            for below, version in found:
                self._digest.update(f"{name}/{below} {version}\n".encode())
            files.append(pa.array([f"{name}/{below}" for below, _ in found], pa.large_string()))
            counts.append(len(found))
        self.files = pa.concat_arrays(files)
        self.labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
        return counts

    def _pictures_below(self, folder: Path) -> Iterator[tuple[str, str]]:
        """(path below `folder`, size and times of change) of pictures at any depth; all else is counted."""
        links: list[str] = []
        for file in _files_below(folder, links):
            below = str(file.relative_to(folder))
            if file.name.startswith(".") or _is_hidden(file.parent, folder):
                self._passed_over["hidden"] += 1
            elif file.suffix.lower() not in _SUFFIXES:
                self._passed_over[shown_name(file.suffix) or "without a suffix"] += 1
            elif (status := _status(file)) is None:
                self._passed_over["dangling links" if file.is_symlink() else "no regular files"] += 1
            else:
                version = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
                yield _checked_name(below, folder), version
        self._passed_over["linked folders"] += len(links)


class ClassFolders(_ClassPictures):
    """`<folder>/<class>/<picture>`, the pictures of a class sorted by path; of splits the train folder is taken.

    `classes`: the class folders and their order; without it all, sorted naturally (1, 2, 10). `also`: as in
    `choose_folder`. Raises: DataError.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...] | None = None, also: str | None = None) -> None:
        super().__init__()
        chosen = choose_folder(folder, classes, also)
        folder, names, self.notes = chosen.folder, chosen.names, chosen.notes
        classes = tuple(names) if classes is None else classes
        absent = [name for name in classes if name not in names]
        if absent:
            raise DataError(f"{folder} has no folder {listed(absent)} (data.classes), only {listed(names)}")
        if len(classes) < 2:
            raise DataError(f"{folder} has {len(classes)} class folders; one folder per class is wanted, at least 2")
        left_out = [name for name in names if name not in classes]
        if left_out:
            self.notes += (f"folders left out ({len(left_out)}), not in data.classes: {listed(left_out)}",)
        counts = self._take(folder, classes)
        if 0 in counts:
            empty = folder / classes[counts.index(0)]
            raise DataError(f"class folder {empty} holds no picture ({' '.join(_SUFFIXES)})")
        if self._passed_over.total():
            kinds = counted_reasons(self._passed_over.elements())
            self.notes += (f"left out, as no pictures: {kinds}",)


class HeldOutFolders(_ClassPictures):
    """The class folders of another split, such as a test set: `folder`, or the one folder of the split in it.

    A class without pictures is allowed. `unused`: class folders that the training leaves out, and so does this split.
    `setting`: that of its path; `otherwise`: the one that does without it.
    Raises: DataError naming a folder that is no class.
    """

    def __init__(
        self,
        folder: Path,
        classes: tuple[str, ...],
        unused: frozenset[str],
        split: str,
        setting: str,
        otherwise: str,
    ) -> None:
        super().__init__()
        if not os.path.isdir(folder):
            raise DataError(f"{setting} {folder} is no folder; a folder of class folders is wanted")
        names = _subfolders(folder)
        own = [name for name, found in split_folders(names).items() if found == split]
        if len(own) == 1 and not {*names} & {*classes}:
            folder /= own[0]
            names = _subfolders(folder)
        unknown = [name for name in names if name not in classes and name not in unused]
        if unknown:
            raise DataError(
                f"{split} set {folder} has folders that are no class of the training data: {listed(unknown)}; classes "
                f"are {listed(classes, 10)}: remove or rename these folders, or set {setting}"
            )
        if not sum(self._take(folder, classes)):
            raise DataError(
                f"{split} set {folder} holds no picture in a folder of a class ({listed(classes, 10)}): set {setting}, "
                f"or {otherwise}"
            )


@dataclass(frozen=True)
class ChosenFolder:
    """The folder whose subfolders `names` may be classes, lines on why, and {folder beside it: its split}."""

    folder: Path
    names: list[str]
    notes: tuple[str, ...] = ()
    splits: Mapping[Path, str] = field(default_factory=dict)

    def of_split(self, split: str) -> list[Path]:
        """The folders of a split."""
        return [folder for folder, found in self.splits.items() if found == split]


def choose_folder(folder: Path, classes: tuple[str, ...] | None, also: str | None = None) -> ChosenFolder:
    """`folder` itself where it holds `classes` or no split, else its one folder of a train split; lists names only.

    `also`: a split that is used, too, and not said to be left out.
    Raises: DataError when splits lie beside classes, or when it is not clear which split is to be trained on.
    """
    if not os.path.isdir(folder):  # unlike Path.is_dir also False for a name that is too long
        raise DataError(f"data.path {folder} is no folder; a folder of class folders is wanted")
    names = _subfolders(folder)
    splits = split_folders(names)
    if not splits or (classes is not None and set(classes) <= set(names)):
        return ChosenFolder(folder, names)
    others = [name for name in names if name not in splits]
    train = [name for name, split in splits.items() if split == TRAIN]
    found = _subfolders(folder / train[0]) if len(train) == 1 else []
    beside = [name for name in others if any(_files_below(folder / name, [], pictures_only=True))]
    if len(found) < 2 or beside:
        named = listed(f"{name} ({split})" for name, split in splits.items())
        also = f", and beside them {listed(beside)}" if beside else ""
        advice = f"data.path to {folder / train[0]}" if found else "data.path to the folder of one split"
        raise DataError(
            f"{folder} has folders named like splits of a data set: {named}{also}; set {advice}, or, where these "
            "are classes, name all classes in data.classes"
        )
    left_out = [
        f"{name} ({splits.get(name, 'no split')})"
        for name in names
        if name != train[0] and (also is None or splits.get(name) != also)
    ]
    notes = [f"folder {shown_name(train[0])} taken as the training data"]
    if left_out:
        notes.append(f"folders left out ({len(left_out)}): {listed(left_out)}")
    beside_it = {folder / name: split for name, split in splits.items() if name != train[0]}
    return ChosenFolder(folder / train[0], found, tuple(notes), beside_it)


def _subfolders(folder: Path) -> list[str]:
    """Names of the visible folders below `folder`, sorted naturally. Raises: DataError."""
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror or error}", name=str(folder)) from error
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"folder {name!r} in {folder} has no name in UTF-8: rename it") from error
    return sorted((name for name in names if not _hides(name)), key=natural_key)


def _files_below(folder: Path, links: list[str], *, pictures_only: bool = False) -> Iterator[Path]:
    """All that is no folder at any depth; links to folders are added to `links`, not followed. Raises: DataError."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror or error}", name=error.filename) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        links += [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in names:
            if not pictures_only or (not _hides(name) and name.lower().endswith(_SUFFIXES)):
                yield Path(parent, name)


def _checked_name(below: str, folder: Path) -> str:
    try:
        below.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"file {below!r} in {folder} has no name in UTF-8: rename it", name=repr(below)) from error
    return below


def _status(file: Path) -> os.stat_result | None:
    """Of a regular file, also behind a link; None for anything else, and where there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _hides(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _is_hidden(folder: Path, root: Path) -> bool:
    return any(_hides(part) for part in folder.relative_to(root).parts)
