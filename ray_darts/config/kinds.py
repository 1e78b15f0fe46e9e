"""Reads the config sections space, network, data and method; the registry finds the model of each by its `kind`."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from ray_darts.protocols.dataset import Dataset
from ray_darts.protocols.method import Method
from ray_darts.protocols.registry import DEFAULTS, find_dataset, find_method, find_space
from ray_darts.protocols.settings import KindSettings
from ray_darts.protocols.space import NetworkSettings, Space


def _network_settings(kind: object) -> type[KindSettings]:
    """The settings of the derived networks of a space. Raises: ConfigError."""
    return find_space(kind).network_settings


SECTIONS: dict[str, Callable[[object], type[KindSettings]]] = {
    "space": find_space,
    "data": find_dataset,
    "method": find_method,
    "network": _network_settings,
}
"""{config section: function that returns the model of a kind}"""

_DEFAULTS = {
    "space": DEFAULTS["space"],
    "data": DEFAULTS["dataset"],
    "method": DEFAULTS["method"],
    "network": DEFAULTS["space"],
}


def read_section(section: str, values: object) -> KindSettings:
    """Read a section as the model of its kind; an empty section has the default kind, others must name theirs.

    Raises: ConfigError on an unknown kind, ValueError (pydantic's too) on wrong fields.
    """
    if isinstance(values, KindSettings):
        return values
    if not isinstance(values, dict):
        raise ValueError(f'wanted a section with kind = "…", not {values!r}')
    if not values:
        values = {"kind": _DEFAULTS[section]}
    if "kind" not in values:
        raise ValueError("its kind is missing")
    return SECTIONS[section](values["kind"]).model_validate(values)


def read_space(values: object = None) -> Space:
    """Read a space section; without values, the default kind's."""
    return cast(Space, read_section("space", {} if values is None else values))


def read_dataset(values: object = None) -> Dataset:
    """Read a data section; without values, the default kind's."""
    return cast(Dataset, read_section("data", {} if values is None else values))


def read_method(values: object = None) -> Method:
    """Read a method section; without values, the default kind's."""
    return cast(Method, read_section("method", {} if values is None else values))


def read_network(values: object = None) -> NetworkSettings:
    """Read a network section; without values, that of the default kind of space."""
    return cast(NetworkSettings, read_section("network", {} if values is None else values))
