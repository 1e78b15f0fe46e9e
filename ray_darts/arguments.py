"""Checks the arguments of a search: config, methods, seeds, orders, the experiment's name; every mistake at once.

The same checks for the Python API and the command line. Writes nothing and asks no store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeGuard, TypeVar

from ray_darts.artifacts.keys import check_name
from ray_darts.config import RunConfig, SearchConfig, TrainingConfig, load_config, load_training_config
from ray_darts.errors import ConfigError
from ray_darts.protocols.method import Method, Order
from ray_darts.protocols.registry import find_method
from ray_darts.protocols.settings import read_settings

MAX_SEEDS = 10_000
MAX_SEED = 2**31 - 1

ConfigSource = str | Path | Mapping[str, object] | SearchConfig
TrainingSource = str | Path | Mapping[str, object] | TrainingConfig

_Read = TypeVar("_Read")
_Config = TypeVar("_Config", bound=RunConfig)


class Arguments(NamedTuple):
    """What to search, under which name of an experiment. `methods`: empty for that of the config."""

    config: SearchConfig
    experiment: str
    seeds: tuple[int, ...]
    orders: tuple[Order, ...]
    methods: tuple[Method, ...] = ()


def check_arguments(
    source: ConfigSource,
    *,
    seeds: int | Sequence[int],
    orders: Sequence[str] | None,
    name: str | None,
    methods: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    operation: Mapping[str, object] | None = None,
    mistakes: Iterable[str] = (),
) -> Arguments:
    """Check the arguments of a search, as `ray_darts.api.search` documents them.

    `operation`: fields of that section of the config, None where not given. `mistakes`: those found before, reported
    together with those found here. Raises: ConfigError with a line per mistake.
    """
    found = list(mistakes)
    config = collect(found, lambda: read_config(source, overrides, operation or {}))
    some_seeds = collect(found, lambda: _read_seeds(seeds))
    some_methods: tuple[Method, ...] | None = ()
    some_orders = None
    if config is not None:
        if methods is not None:
            some_methods = collect(found, lambda: _read_methods(methods, config))
        if some_methods is not None:
            searched = some_methods or (config.method,)
            some_orders = collect(found, lambda: _read_orders(orders, searched))
    experiment = collect(found, lambda: _experiment(name, source, config))
    if found or config is None or some_seeds is None or some_orders is None or experiment is None:
        raise ConfigError("\n".join(found))
    return Arguments(config, experiment, some_seeds, some_orders, some_methods or ())


class TrainingArguments(NamedTuple):
    """With what to train, under which name of an experiment."""

    config: TrainingConfig
    experiment: str
    seeds: tuple[int, ...]


def check_training_arguments(
    source: TrainingSource,
    *,
    seeds: int | Sequence[int],
    name: str | None,
    overrides: Sequence[str] = (),
    operation: Mapping[str, object] | None = None,
    mistakes: Iterable[str] = (),
) -> TrainingArguments:
    """Check the arguments of a training, as `ray_darts.trainings.train` documents them; otherwise as `check_arguments`.

    Raises: ConfigError with a line per mistake.
    """
    found = list(mistakes)
    config = collect(found, lambda: _read(load_training_config, TrainingConfig, source, overrides, operation or {}))
    some_seeds = collect(found, lambda: _read_seeds(seeds))
    experiment = collect(found, lambda: _experiment(name, source, config, "-training"))
    if found or config is None or some_seeds is None or experiment is None:
        raise ConfigError("\n".join(found))
    return TrainingArguments(config, experiment, some_seeds)


def read_config(
    source: ConfigSource, overrides: Sequence[str] = (), operation: Mapping[str, object] | None = None
) -> SearchConfig:
    """The config of a preset's name, a TOML file, settings or a config, with overrides and fields of `operation`.

    Raises: ConfigError.
    """
    return _read(load_config, SearchConfig, source, overrides, operation or {})


def _read(
    load: Callable[..., _Config],
    model: type[_Config],
    source: object,
    overrides: Sequence[str],
    operation: Mapping[str, object],
) -> _Config:
    """A config of `model`, read by `load` from whatever `source` is. Raises: ConfigError."""
    given = {field: value for field, value in operation.items() if value is not None}
    if isinstance(overrides, str) or not all(isinstance(override, str) for override in overrides):
        raise ConfigError(f"overrides = {overrides!r}: wanted is a list of section.key=value")
    if isinstance(source, model):
        if not overrides and not given:
            return source
        source = source.model_dump(mode="json")
    changes = {"operation": given} if given else None
    if isinstance(source, Mapping):
        return load(settings=source, overrides=overrides, changes=changes)
    if isinstance(source, Path) or (isinstance(source, str) and source.endswith(".toml")):
        return load(file=Path(source), overrides=overrides, changes=changes)
    if isinstance(source, str):
        return load(preset=source, overrides=overrides, changes=changes)
    raise ConfigError(f"{source!r}: wanted is a preset's name, the path of a TOML file, a dict or a {model.__name__}")


def _experiment(name: str | None, source: object, config: RunConfig | None, kind: str = "") -> str | None:
    """The given name of an experiment, or the default one; None without a config. Raises: ConfigError."""
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"name = {name!r}: wanted is a string")
    if name is not None:
        return check_name(name, "experiment")
    if config is None:
        return None
    return check_name(f"{_origin(source)}{kind}-{config.digest()[:8]}", "experiment (give another --name)")


def _read_seeds(seeds: object) -> tuple[int, ...]:
    if _is_whole(seeds):
        if not 1 <= seeds <= MAX_SEEDS:
            raise ConfigError(f"seeds = {seeds}: the number of seeds lies between 1 and {MAX_SEEDS:,}")
        return tuple(range(seeds))
    if not isinstance(seeds, Sequence) or isinstance(seeds, str) or not seeds or not all(map(_is_whole, seeds)):
        raise ConfigError(f"seeds = {seeds!r}: wanted a number of seeds, such as 4, or a list, such as 0,3,7")
    listed = ",".join(map(str, seeds))
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds = {listed}: a seed is named twice")
    if not 0 <= min(seeds) <= max(seeds) <= MAX_SEED:
        raise ConfigError(f"seeds = {listed}: a seed lies between 0 and {MAX_SEED}")
    return tuple(seeds)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_methods(names: Sequence[str], config: SearchConfig) -> tuple[Method, ...]:
    """The methods of these names: with the config's settings that of the config, with their defaults the others.

    Raises: ConfigError, also where one does not fit the config's other sections.
    """
    of_config = config.method
    wanted = "wanted some names of methods, each once"
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"methods = {names!r}: {wanted}, as a list")
    mistakes: list[str] = []
    found = [of_config if name == of_config.kind else collect(mistakes, partial(_method, name)) for name in names]
    if not names or len(set(names)) < len(names):
        mistakes.append(f"methods = {','.join(names)!r}: {wanted}")
    for method in found:
        if method is not None:
            mistakes += config.model_copy(update={"method": method}).method_mistakes()
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))
    return tuple(method for method in found if method is not None)


def _method(name: str) -> Method:
    return read_settings(find_method(name), {"kind": name}, f"method {name}")


def _read_orders(orders: Sequence[str] | None, methods: Sequence[Method]) -> tuple[Order, ...]:
    """Orders that every method with a gradient defines; absent: all that at least one of them defines."""
    defined = {str(order): order for method in methods for order in method.orders}
    if orders is None:
        return tuple(defined.values())
    names = " and ".join(repr(method.kind) for method in methods)
    verb = "does" if len(methods) == 1 else "do"
    named = f"the method{'s' * (len(methods) > 1)} {names} {verb} not define"
    if not defined:
        raise ConfigError(f"orders: {named} any order; leave orders out")
    wanted = f"wanted some of {', '.join(defined)}, each once"
    if isinstance(orders, str):
        raise ConfigError(f"orders = {orders!r}: {wanted}, as a list")
    unknown = [order for order in orders if order not in defined]
    if unknown:
        raise ConfigError(f"orders: {named} the order {unknown[0]!r}; {wanted}")
    if not orders or len(set(orders)) < len(orders):
        raise ConfigError(f"orders = {','.join(orders)!r}: {wanted}")
    lacking = [
        f"orders: the method {method.kind!r} does not define the order {order!r}; it defines "
        f"{', '.join(method.orders)}: leave orders out to search with each method in every order that it defines"
        for method in methods
        if method.orders
        for order in orders
        if order not in method.orders
    ]
    if lacking:
        raise ConfigError("\n".join(lacking))
    return tuple(defined[order] for order in orders)


def _origin(source: object) -> str:
    """The start of an experiment's default name."""
    if isinstance(source, Path) or (isinstance(source, str) and source.endswith(".toml")):
        return Path(source).stem.lower()
    return source if isinstance(source, str) else "search"


def collect(mistakes: list[str], read: Callable[[], _Read]) -> _Read | None:
    """What `read` returns, or None where it raises ConfigError, whose lines are added to `mistakes`."""
    try:
        return read()
    except ConfigError as error:
        mistakes.append(str(error))
        return None
