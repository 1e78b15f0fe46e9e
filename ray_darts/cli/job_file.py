"""Job files: the options of `ray-darts search` as TOML, for searches that are run often. Knows no cluster.

preset = "cifar10"
seeds = 4
orders = ["first", "second"]
[set]
operation.device = "cuda"
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ray_darts.config.load import read_toml
from ray_darts.errors import ConfigError
from ray_darts.messages import shown_name, shown_value

KEYS = (
    "preset",
    "name",
    "seeds",
    "methods",
    "orders",
    "workers",
    "max_concurrent",
    "max_hours",
    "max_worker_hours",
    "max_cost",
    "set",
)

_HELP = {"--help", "-h"}


def search_words(words: Sequence[str]) -> list[str]:
    """The arguments of a search in a job: a job file in first place becomes its options, before those typed.

    A request for help is `--help` alone. Raises: ConfigError for a file that cannot be used, and without a store that
    is still there after the job.
    """
    if words and words[0].endswith(".toml") and not _HELP & set(words):
        words = [*read_job(Path(words[0])), *words[1:]]
    return checked_words(words)


def checked_words(words: Sequence[str]) -> list[str]:
    """The arguments of a search or training in a job.

    A request for help is `--help` alone. Raises: ConfigError without a store that is still there after the job.
    """
    if _HELP & set(words):
        return ["--help"]
    check_store(_last_value(words, "--store"))
    return list(words)


def check_store(store: str | None) -> str:
    """A store outside the job's own folder, which is deleted after the job. Raises: ConfigError."""
    if store is None or not (store.startswith("s3://") or Path(store).is_absolute()):
        raise ConfigError(
            f"--store {store or '(none)'}: a job runs in a folder that is deleted after it; "
            "wanted s3://bucket/prefix, or an absolute path that every node sees"
        )
    return store


def read_job(file: Path) -> list[str]:
    """A job file as arguments of `ray-darts search`. Raises: ConfigError."""
    job = read_toml(file, "job file")
    unknown = [shown_name(key) for key in job if key not in KEYS]
    if unknown:
        raise ConfigError(f"{file}: unknown {', '.join(unknown)}; a job file knows {', '.join(KEYS)}")
    words: list[str] = []
    for key, value in job.items():
        if key == "set":
            words += [word for override in _overrides(value, ()) for word in ("--set", override)]
        else:
            if not _is_plain(key, value):
                wanted = "a number, or a list of numbers" if key == "seeds" else "text, a number or a list"
                raise ConfigError(f"{shown_name(file)}: {key} = {shown_value(value)}: {wanted} is wanted")
            words += [f"--{key.replace('_', '-')}", _text(key, value)]
    return words


def _is_plain(key: str, value: object) -> bool:
    allowed = (int,) if key == "seeds" else (int, float, str)
    return all(isinstance(each, allowed) and not isinstance(each, bool) for each in _listed(value))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _text(key: str, value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    listed = ",".join(map(str, value))
    return f"{listed}," if key == "seeds" else listed  # `7,` is seed 7, `7` is seven seeds


def _overrides(value: object, path: tuple[str, ...]) -> Iterator[str]:
    """`a.b=value` for each leaf of a table, the value as TOML (of which JSON scalars and lists are a part)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _overrides(inner, (*path, key))
    else:
        yield f"{'.'.join(path)}={json.dumps(value)}"


def _last_value(words: Sequence[str], option: str) -> str | None:
    value = None
    for position, word in enumerate(words):
        if word == option and position + 1 < len(words):
            value = words[position + 1]
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value
