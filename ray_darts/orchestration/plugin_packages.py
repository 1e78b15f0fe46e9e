"""The code of plugins on its way to other processes: folders that Ray sends, or an import path on this machine."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ray_darts.errors import ConfigError
from ray_darts.orchestration.ray_internals import visit_folder
from ray_darts.protocols.registry import plugin_path

logger = logging.getLogger("ray_darts.orchestration")


@contextmanager
def sent_packages(plugins: Sequence[str]) -> Iterator[tuple[Path, ...]]:
    """The package folders of loaded plugins, as Ray can send them; they exist while the block runs."""
    with TemporaryDirectory(prefix="ray-darts-plugins-") as scratch:
        files = plugin_files(plugins)
        copy_files(files, Path(scratch))
        yield tuple(Path(scratch) / name for name in dict.fromkeys(path.partition("/")[0] for path in files))


def plugin_files(plugins: Sequence[str]) -> dict[str, Path]:
    """{path below a folder from which it can be imported: file here} of the packages of loaded plugins.

    Ray sends folders only, so a plugin of one file becomes the `__init__.py` of a folder of its name. One without a
    file is not sent, with a warning.
    """
    found: dict[str, Path] = {}
    for name, path in _top_level(plugins).items():
        if path is None:
            logger.warning("the plugin %r has no file here and is not sent: every node must have it", name)
        elif path.is_dir():
            found |= {f"{name}/{inside}": file for inside, file in visible_files(path).items()}
        else:
            found[f"{name}/__init__.py"] = path
    return found


def visible_files(folder: Path, leave_out: Callable[[Path], bool] = lambda path: False) -> dict[str, Path]:
    """{path below `folder`: file}, sorted, without hidden files (`.env`), caches, and what ignore files name.

    `leave_out(path)`: do not visit this file or folder.
    """

    def is_left_out(path: Path) -> bool:
        return path != folder and (path.name.startswith(".") or path.name == "__pycache__" or leave_out(path))

    found = [path for path in visit_folder(folder, is_left_out) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


def copy_files(files: Mapping[str, Path], target: Path) -> None:
    """Copy files to their paths below `target`. Raises: ConfigError naming a file that cannot be read."""
    for inside, file in files.items():
        try:
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / inside)
        except OSError as error:
            raise ConfigError(f"{file} cannot be sent: {error.strerror}") from error


def import_folders(plugins: Sequence[str]) -> list[str]:
    """The folders from which other processes of this machine can import loaded plugins, each once."""
    found = (str(path.resolve().parent) for path in _top_level(plugins).values() if path is not None)
    return list(dict.fromkeys(found))


def _top_level(plugins: Sequence[str]) -> dict[str, Path | None]:
    """{top-level package: where it lies}; a module of this package is everywhere already."""
    names = dict.fromkeys(plugin.partition(".")[0] for plugin in plugins)
    return {name: plugin_path(name) for name in names if name != "ray_darts"}
