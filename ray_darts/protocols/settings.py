"""The base of every settings model: frozen, rejects unknown fields, does not convert text silently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ray_darts.errors import ConfigError


class Settings(BaseModel):
    """Frozen settings; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class KindSettings(Settings):
    """Settings of an object that the registry finds by its `kind`; subclasses restrict it to one literal."""

    kind: str


_Model = TypeVar("_Model", bound=Settings)


def read_settings(model: type[_Model], values: Mapping[str, object], section: str) -> _Model:
    """Validate `values` as settings. Raises: ConfigError with a line per mistake: field, value seen, value wanted."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(mistakes_of(error, section))) from error


def mistakes_of(error: ValidationError, section: str = "", *, whole: bool = True) -> list[str]:
    """One line per mistake, naming the field below `section`, the value seen and the value wanted.

    Without `whole`, mistakes that concern no single field are left out.
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
