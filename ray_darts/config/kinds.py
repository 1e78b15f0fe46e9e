"""Reads the sections of a config whose model the registry finds by their `kind`: space, data, method."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from ray_darts.protocols.dataset import Dataset
from ray_darts.protocols.method import Method
from ray_darts.protocols.registry import DEFAULTS, find_dataset, find_method, find_space
from ray_darts.protocols.settings import KindSettings
from ray_darts.protocols.space import Space

SECTIONS: dict[str, Callable[[object], type[KindSettings]]] = {
    "space": find_space,
    "data": find_dataset,
    "method": find_method,
}
"""{section of a config: finds the model of a kind}"""

_DEFAULTS = {"space": DEFAULTS["space"], "data": DEFAULTS["dataset"], "method": DEFAULTS["method"]}


def read_section(section: str, values: object) -> KindSettings:
    """A section as its kind's model; an empty one is the default kind's, another must name its kind.

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
    """A space section, by default that of the default kind."""
    return cast(Space, read_section("space", {} if values is None else values))


def read_dataset(values: object = None) -> Dataset:
    """A data section, by default that of the default kind."""
    return cast(Dataset, read_section("data", {} if values is None else values))


def read_method(values: object = None) -> Method:
    """A method section, by default that of the default kind."""
    return cast(Method, read_section("method", {} if values is None else values))
