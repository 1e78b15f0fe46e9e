"""From the words of `ray-darts search` to a checked request; every mistake is told at once. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ray_darts.artifacts.keys import check_name
from ray_darts.cli.options import DEFAULT_STORE
from ray_darts.config import load_config
from ray_darts.errors import ConfigError
from ray_darts.orchestration.assignment import Order
from ray_darts.orchestration.plan import SweepRequest

DEFAULT_PRESET = "digits"
MAX_SEEDS = 10_000
_ORDERS: dict[str, Order] = {"first": "first", "second": "second"}

_Parsed = TypeVar("_Parsed")


def read_request(
    preset: str | None,
    config_file: Path | None,
    name: str | None,
    seeds: str,
    orders: str,
    overrides: Sequence[str],
    *,
    store: str = DEFAULT_STORE,
    retry_failed: bool = False,
    allow_local_batch_norm: bool = False,
    address: str | None = None,
) -> SweepRequest:
    """Check all of a search's arguments; the default name is the preset's (or file's) and the digest's start.

    Raises: ConfigError with one line per mistake.
    """
    if preset is None and config_file is None:
        preset = DEFAULT_PRESET
    mistakes: list[str] = []
    config = _collect(mistakes, lambda: load_config(preset, config_file, overrides))
    read_seeds = _collect(mistakes, lambda: parse_seeds(seeds))
    read_orders = _collect(mistakes, lambda: parse_orders(orders))
    experiment = None
    if name is not None:
        experiment = _collect(mistakes, lambda: check_name(name, "experiment"))
    elif config is not None:
        origin = preset if preset is not None else Path(str(config_file)).stem.lower()
        default = f"{origin}-{config.digest()[:8]}"
        experiment = _collect(mistakes, lambda: check_name(default, "experiment (give --name)"))
    if mistakes or config is None or read_seeds is None or read_orders is None or experiment is None:
        raise ConfigError("\n".join(mistakes))
    return SweepRequest(
        config, experiment, store, read_seeds, read_orders, retry_failed, allow_local_batch_norm, address
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """`4` is seeds 0 to 3, `0,3,7` are these (and `7,` is seed 7 alone). Raises: ConfigError."""
    listed = "," in text
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise ConfigError(f"--seeds {text!r}: wanted a number of seeds, such as 4, or a list, such as 0,3,7")
    numbers = [int(word) for word in words]
    if not listed:
        if not 1 <= numbers[0] <= MAX_SEEDS:
            raise ConfigError(f"--seeds {text}: the number of seeds lies between 1 and {MAX_SEEDS:,}")
        return tuple(range(numbers[0]))
    if len(set(numbers)) != len(numbers):
        raise ConfigError(f"--seeds {text}: a seed is named twice")
    if max(numbers) >= 2**31:
        raise ConfigError(f"--seeds {text}: a seed is at most {2**31 - 1}")
    return tuple(numbers)


def parse_orders(text: str) -> tuple[Order, ...]:
    """A list of `first` and `second`. Raises: ConfigError."""
    words = [word.strip() for word in text.split(",")]
    orders = tuple(_ORDERS[word] for word in words if word in _ORDERS)
    if len(orders) < len(words) or len(set(orders)) < len(orders):
        raise ConfigError(f"--orders {text!r}: wanted first, second or first,second")
    return orders


def _collect(mistakes: list[str], read: Callable[[], _Parsed]) -> _Parsed | None:
    try:
        return read()
    except ConfigError as error:
        mistakes.append(str(error))
        return None
