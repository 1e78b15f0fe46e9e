"""The base of every settings model: frozen, strict about unknown fields, no silent coercion of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ray_darts.errors import ConfigError


class Settings(BaseModel):
    """Frozen settings; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class KindSettings(Settings):
    """Settings of an object that the registry finds by its `kind`; subclasses narrow it to one literal."""

    kind: str


_Model = TypeVar("_Model", bound=Settings)


def read_settings(model: type[_Model], values: Mapping[str, object], section: str) -> _Model:
    """`values` as settings. Raises: ConfigError with a line per mistake: field, value seen, what is wanted."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(mistakes_of(error, section))) from error


def mistakes_of(error: ValidationError, section: str = "", *, whole: bool = True) -> list[str]:
    """A line per mistake, each naming the field below `section`, the value seen and what is wanted.

    Without `whole`, mistakes of no field in particular are left out.
    """
    lines = []
    for entry in error.errors(include_url=False):
        if not entry["loc"] and not whole:
            continue
        field = ".".join([*([section] if section else []), *map(str, entry["loc"])])
        message = str(entry["msg"]).removeprefix("Value error, ")
        value = entry.get("input")
        if isinstance(value, BaseModel | Mapping):
            lines.append(f"{field + ': ' if field else ''}{message}")
        else:
            lines.append(f"{field} = {value!r}: {message}")
    return lines
