"""Which files are sent with a job: the package and the jobs of a checkout, named plugins, the config; nothing else.

Knows no cluster; the largest amount that a cluster takes is Ray's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ray_darts.errors import ConfigError
from ray_darts.orchestration.plugin_packages import copy_files, plugin_files, visible_files
from ray_darts.orchestration.ray_internals import MAX_UPLOAD_BYTES
from ray_darts.report.amounts import bytes_text, counted

_FOLDERS = ("ray_darts", "jobs")
_SUFFIXES = (".py", ".toml", ".yaml", ".cpp", ".h", ".typed", ".j2", ".css", ".js")
"""Kinds of files that the package and the jobs consist of; keys, data and compiled code are none of them."""

_HEADER_BYTES = 512
"""An upper bound of what Ray's archive adds to a file, twice its path aside."""

_NUM_NAMED = 5


def files_to_send(checkout: Path | None, plugins: Sequence[str], config: Path | None) -> dict[str, Path]:
    """{path in the job's folder: file here}. `checkout`: None where the cluster's image has the package.

    `plugins` are loaded modules. The config lies at the root under its own name.

    Raises: ConfigError where `checkout` is none, two files have one path, or a cluster does not take that much.
    """
    found: dict[str, Path] = {}
    parts = [{} if checkout is None else _checkout_files(checkout), plugin_files(plugins)]
    for part in [*parts, {} if config is None else {config.name: config}]:
        for inside, file in part.items():
            if not found.setdefault(inside, file).samefile(file):
                raise ConfigError(f"{found[inside]} and {file} would both be {inside} in the job's folder: rename one")
    _check_size(found)
    return found


def described(files: Mapping[str, Path]) -> str:
    """How many files with how many bytes are sent, in all and of each folder or file at the root."""
    groups: dict[str, list[int]] = {}
    for inside, file in files.items():
        top, separator, _ = inside.partition("/")
        groups.setdefault(top + separator, []).append(file.stat().st_size)
    listed = ", ".join(f"{name} ({_amount(sizes)})" for name, sizes in groups.items())
    return f"{_amount([size for sizes in groups.values() for size in sizes])}: {listed}"


@contextmanager
def sent_folder(files: Mapping[str, Path]) -> Iterator[Path | None]:
    """A folder with copies of `files` alone, which exists while the block runs; None where there are none."""
    if not files:
        yield None
        return
    with TemporaryDirectory(prefix="ray-darts-job-") as scratch:
        copy_files(files, Path(scratch))
        yield Path(scratch)


def _checkout_files(checkout: Path) -> dict[str, Path]:
    """Raises: ConfigError where `checkout` is none."""
    root = checkout.absolute()
    if not (root / "jobs" / "search.py").is_file():
        raise ConfigError(
            f"{root} has no jobs/search.py: give the root of a checkout as --working-dir, "
            "or --installed to use the package of the cluster's image"
        )

    def is_other(path: Path) -> bool:
        return path.parent == root and path.name not in _FOLDERS

    found = visible_files(root, is_other)
    return {inside: file for inside, file in found.items() if file.suffix in _SUFFIXES}


def _check_size(files: Mapping[str, Path]) -> None:
    sizes = {inside: file.stat().st_size for inside, file in files.items()}
    if sum(size + _HEADER_BYTES + 2 * len(inside.encode()) for inside, size in sizes.items()) <= MAX_UPLOAD_BYTES:
        return
    largest = sorted(sizes, key=lambda inside: -sizes[inside])[:_NUM_NAMED]
    raise ConfigError(
        f"{_amount(list(sizes.values()))} would be sent with the job; a cluster takes at most "
        f"{bytes_text(MAX_UPLOAD_BYTES)}. The largest: "
        f"{', '.join(f'{files[inside]} ({bytes_text(sizes[inside])})' for inside in largest)}. "
        "Move them away, or name them in a .rayignore of their folder; data are read from a place that every node sees"
    )


def _amount(sizes: Sequence[int]) -> str:
    return f"{counted(len(sizes), 'file')}, {bytes_text(sum(sizes))}"
