"""The source that holds another split of a data set than the training one: beside it, or at a path of its own.

Lists names until a source is opened; decodes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.folders import HeldOutFolders, choose_folder
from ray_darts.data.images.parquet import SUFFIX, ParquetPictures
from ray_darts.data.images.sources import ImageSource, open_source
from ray_darts.data.locations import list_at, list_beside
from ray_darts.data.splits import TEST, VALIDATION
from ray_darts.data.summary import listed
from ray_darts.errors import DataError


@dataclass(frozen=True)
class HeldOut:
    """A split: `word`, the setting of its path, and how to do without it."""

    split: str
    word: str
    setting: str
    otherwise: str

    def path(self, settings: Images) -> str | None:
        """The path that the settings give it."""
        path: str | None = getattr(settings, self.setting.removeprefix("data."))
        return path


TEST_SET = HeldOut(TEST, "test", "data.test_path", "training.test = false")
VALIDATION_SET = HeldOut(VALIDATION, "validation", "data.validation_path", 'data.alpha = "split"')


def beside(settings: Images, held_out: HeldOut) -> list[str]:
    """The folders or files of a split that lie beside the training data."""
    if settings.path is None:
        return []
    if settings.source == "folder" and "://" not in settings.path:
        chosen = choose_folder(Path(settings.path), settings.classes)
        return [str(folder) for folder in chosen.of_split(held_out.split)]
    return list_beside(settings.path, SUFFIX, held_out.split)[1] if settings.source == "parquet" else []


def open_held_out(settings: Images, classes: tuple[str, ...], held_out: HeldOut) -> ImageSource | None:
    """The source of a split of class folders or Parquet files, its labels read; None where there is none.

    `classes`: the names of the training's classes. Raises: DataError.
    """
    if settings.source == "folder":
        return _folders(settings, classes, held_out)
    if settings.source == "parquet":
        return _parquet(settings, classes, held_out)
    return None


def _folders(settings: Images, classes: tuple[str, ...], held_out: HeldOut) -> ImageSource | None:
    assert settings.path is not None
    chosen = choose_folder(Path(settings.path), settings.classes)
    unused = frozenset(chosen.names) - {*classes}
    path = held_out.path(settings)
    if path is not None:
        if "://" in path:
            raise DataError(f"{held_out.setting} {path}: class folders are read from a mounted folder")
        return HeldOutFolders(Path(path), classes, unused, held_out.split, held_out.setting, held_out.otherwise)
    found = chosen.of_split(held_out.split)
    if len(found) > 1:
        raise DataError(
            f"data.path {settings.path} has several {held_out.word} folders: {listed(map(str, found))}; set "
            f"{held_out.setting} to one"
        )
    if not found:
        return None
    return HeldOutFolders(found[0], classes, unused, held_out.split, held_out.setting, held_out.otherwise)


def _parquet(settings: Images, classes: tuple[str, ...], held_out: HeldOut) -> ImageSource | None:
    assert settings.path is not None
    path = held_out.path(settings)
    if path is not None:
        choose = partial(list_at, split=held_out.split, setting=held_out.setting)
    elif beside(settings, held_out):
        path, choose = settings.path, partial(list_beside, split=held_out.split)
    else:
        return None
    source = ParquetPictures(path, settings.image_column, settings.label_column, settings.classes, choose, classes)
    if not source.labels_are_names and not source.classes and settings.classes is None:
        training = open_source(settings)
        if isinstance(training, ParquetPictures) and training.labels_are_names:
            raise DataError(
                f"the training files name classes, the {held_out.word} files number them ({source.name(0)}): write the "
                "names there, too"
            )
    # classes that are all called by their numbers have no names in the training files
    if settings.classes is None and classes != tuple(map(str, range(len(classes)))):
        for label, (known, name) in enumerate(zip(classes, source.classes, strict=False)):
            if known != name:
                raise DataError(
                    f"the {held_out.word} files call label {label} {name!r}, the training files {known!r}: write one "
                    "of them again, or, where both mean the same class, name all classes in data.classes"
                )
    return source
