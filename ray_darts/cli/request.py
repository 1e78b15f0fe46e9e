"""From the options of `ray-darts search` to a checked request; every mistake is reported at once. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ray_darts import searches
from ray_darts.arguments import collect
from ray_darts.cli.output import report_line
from ray_darts.errors import ConfigError
from ray_darts.messages import shown_value

if TYPE_CHECKING:
    from ray_darts.orchestration.requests import SearchRequest

DEFAULT_PRESET = "digits"
_MOST_DIGITS = 18


def read_request(
    *,
    preset: str | None = None,
    config: Path | None = None,
    name: str | None = None,
    seeds: str = "4",
    methods: str | None = None,
    orders: str | None = None,
    overrides: Sequence[str] | None = None,
    store: str = searches.DEFAULT_STORE,
    workers: str | None = None,
    max_concurrent: int | None = None,
    max_hours: float | None = None,
    max_worker_hours: float | None = None,
    max_cost: float | None = None,
    select: bool = False,
    max_parameters: int | None = None,
    max_multiply_adds: int | None = None,
    retry_failed: bool = False,
    allow_world_size_change: bool = False,
    allow_local_batch_norm: bool = False,
    address: str | None = None,
) -> SearchRequest:
    """Check all options of a search; parameters are named as those of the command.

    Raises: ConfigError with one line per mistake.
    """
    source, mistakes = config_source(preset, config), list[str]()
    if allow_local_batch_norm:
        report_line("warning: --allow-local-batch-norm is now --allow-world-size-change; the old name goes in 0.3")
    return searches.read_request(
        source,
        seeds=seeds_or_mistake(seeds, mistakes),
        methods=_words(methods),
        orders=_words(orders),
        store=store,
        name=name,
        overrides=overrides or (),
        operation={
            "workers": workers,
            "max_concurrent": max_concurrent,
            "max_hours": max_hours,
            "max_worker_hours": max_worker_hours,
            "max_cost": max_cost,
        },
        select=select,
        max_parameters=max_parameters,
        max_multiply_adds=max_multiply_adds,
        address=address,
        retry_failed=retry_failed,
        allow_world_size_change=allow_world_size_change or allow_local_batch_norm,
        mistakes=mistakes,
    )


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",")]


def config_source(preset: str | None, config: Path | None) -> str | Path:
    """The one that is given, or the default preset. Raises: ConfigError for both."""
    if preset is not None and config is not None:
        raise ConfigError("name either a preset or a config file")
    if config is not None:
        return config
    return DEFAULT_PRESET if preset is None else preset


def seeds_or_mistake(text: str, mistakes: list[str]) -> int | tuple[int, ...]:
    """The seeds of `--seeds`; where it cannot be read, any seed, and what is wrong is added to `mistakes`."""
    seeds = collect(mistakes, lambda: parse_seeds(text))
    return 1 if seeds is None else seeds


def parse_seeds(text: str) -> int | tuple[int, ...]:
    """`4` is a number of seeds, `0,3,7` are these seeds, and `7,` is seed 7 alone. Raises: ConfigError."""
    words = [word.strip() for word in text.strip().removesuffix(",").split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise ConfigError(f"--seeds {shown_value(text)}: wanted a number of seeds, such as 4, or a list, such as 0,3,7")
    if any(len(word) > _MOST_DIGITS for word in words):
        raise ConfigError(f"--seeds {shown_value(text)}: a seed has at most {_MOST_DIGITS} digits")
    numbers = tuple(int(word) for word in words)
    return numbers if "," in text else numbers[0]
