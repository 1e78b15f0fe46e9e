"""The code of plugins on its way to other processes: folders that Ray sends, or an import path on this machine."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ray_darts.protocols.registry import plugin_path

logger = logging.getLogger("ray_darts.orchestration")


@contextmanager
def sent_packages(plugins: Sequence[str], working_dir: Path | None = None) -> Iterator[tuple[Path, ...]]:
    """The package folders of loaded plugins to send beside `working_dir`; they exist while the block runs.

    Ray sends folders only, so a plugin of one file becomes the `__init__.py` of a folder of its name. A plugin at the
    root of `working_dir` is sent with it, and one without a file is not sent, with a warning.
    """
    root = None if working_dir is None else working_dir.resolve()
    with TemporaryDirectory(prefix="ray-darts-plugins-") as scratch:
        packages = []
        for name, path in _top_level(plugins).items():
            if path is None:
                logger.warning("the plugin %r has no file here and is not sent: every node must have it", name)
            elif path.resolve().parent == root:
                continue
            elif path.is_dir():
                packages.append(path)
            else:
                packages.append(Path(scratch) / name)
                packages[-1].mkdir()
                shutil.copyfile(path, packages[-1] / "__init__.py")
        yield tuple(packages)


def import_folders(plugins: Sequence[str]) -> list[str]:
    """The folders from which other processes of this machine can import loaded plugins, each once."""
    found = (str(path.resolve().parent) for path in _top_level(plugins).values() if path is not None)
    return list(dict.fromkeys(found))


def _top_level(plugins: Sequence[str]) -> dict[str, Path | None]:
    return {name: plugin_path(name) for name in dict.fromkeys(plugin.partition(".")[0] for plugin in plugins)}
