"""The base of every settings model: frozen, rejects unknown fields, converts no value to another type."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ray_darts.errors import ConfigError
from ray_darts.messages import shown_name, shown_value

_WORDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


class Settings(BaseModel):
    """Frozen settings; an unknown field is an error, and so is a value of another type: '3' is no number.

    `CONVERTED`: the fields whose own validator converts what it is given.
    """

    CONVERTED: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="wrap")
    @classmethod
    def _no_value_is_converted(cls, values: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report values of another type together with the other mistakes of their section."""
        if not isinstance(values, dict):
            return handler(values)
        found: list[InitErrorDetails] = []
        for name, value in values.items():
            if name not in cls.model_fields:
                found.append(_detail("extra_forbidden", (str(name),), value, _unknown(str(name), cls.model_fields)))
            elif name not in cls.CONVERTED:
                try:
                    _check_type(value, cls.model_fields[name].annotation)
                except ValueError as error:
                    found.append(_detail("another_type", (name,), value, str(error)))
        if not found:
            return handler(values)
        wrong = {detail["loc"][0] for detail in found}
        try:
            handler({name: value for name, value in values.items() if name not in wrong})
        except ValidationError as error:
            others = [
                entry for entry in error.errors(include_url=False) if entry["loc"] and entry["loc"][0] not in wrong
            ]
            found += [_detail(entry["type"], entry["loc"], entry["input"], entry["msg"]) for entry in others]
        raise ValidationError.from_exception_data(cls.__name__, found)


def _unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name[:100], known, n=1)
    return f"there is no such setting, did you mean {near[0]}?" if near else "there is no such setting"


def _detail(kind: str, place: tuple[int | str, ...], value: object, message: str) -> InitErrorDetails:
    kind_of_error = PydanticCustomError(kind, "{message}", {"message": message})
    return InitErrorDetails(type=kind_of_error, loc=place, input=value)


def _check_type(value: object, annotation: Any) -> None:
    """Raise ValueError for a plain value that pydantic would convert, such as '3', 1 or true, and for a NUL in text."""
    allowed, parts = _plain_types(annotation), list(_element_types(annotation))
    if isinstance(value, list | tuple) and parts:
        for element in value:
            _check_type(element, Union[tuple(parts)])  # noqa: UP007  # of types that are known when it runs
    if isinstance(value, str) and "\0" in value:
        raise ValueError("text without a NUL character is wanted")
    if type(value) not in _WORDS or allowed is None or type(value) in allowed:
        return
    if type(value) is int and float in allowed:
        return
    wanted = " or ".join(word for kind, word in _WORDS.items() if kind in allowed)
    if wanted:
        raise ValueError(f"{wanted} is wanted, not {_WORDS[type(value)]}")


@cache
def _plain_types(annotation: Any) -> frozenset[type] | None:
    """The types of `_WORDS` that an annotation allows; None where it allows any."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain_types(get_args(annotation)[0])
    if origin is Literal:
        return frozenset(type(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        found = [_plain_types(each) for each in get_args(annotation)]
        return None if None in found else frozenset[type]().union(*(each for each in found if each is not None))
    if annotation in _WORDS:
        return frozenset({annotation})
    return None if annotation in (Any, object) else frozenset()


def _element_types(annotation: Any) -> Iterator[Any]:
    """The types of the elements of the sequences that an annotation allows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _element_types(arguments[0])
    elif origin in (Union, types.UnionType):
        for each in arguments:
            yield from _element_types(each)
    elif origin in (tuple, list):
        yield from (each for each in arguments if each is not Ellipsis)


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
        field = ".".join([*([section] if section else []), *map(shown_name, map(str, entry["loc"]))])
        message = str(entry["msg"]).removeprefix("Value error, ")
        value = entry.get("input")
        if isinstance(value, BaseModel | Mapping):
            lines.append(f"{field + ': ' if field else ''}{message}")
        else:
            lines.append(f"{field} = {shown_value(value)}: {message}")
    return lines
