"""The form of every JSON document of a store: strict, versioned, sorted keys, no NaN.

A document of a newer schema version is refused, an older one is upgraded and read. A fact added after the first
release is written only where it differs from its default, so older documents keep their bytes. Knows no document in
particular.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from ray_darts.errors import CorruptObject


class Facts(BaseModel):
    """A piece of a document: frozen, nothing coerced, nothing unknown.

    `ADDED` names the fields that came after the model's first release, each with a default: what a document without
    the field means. They are left out of the document where they have that default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    ADDED: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        plain: dict[str, object] = handler(self)
        for name in self.ADDED:
            # pydantic 2.10 calls no default factory without validated_data, though these factories take none
            default = type(self).model_fields[name].get_default(call_default_factory=True, validated_data={})
            if getattr(self, name) == default:
                plain.pop(name, None)
        return plain


class Document(Facts):
    """A whole object of JSON with a schema version, `VERSION` when written."""

    VERSION: ClassVar[int] = 1

    schema_version: int = 1

    def to_bytes(self) -> bytes:
        """The one form in which this document is written."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Self:
        """Parse the bytes read from `key`. Raises: CorruptObject, also for a newer schema version."""
        try:
            plain = json.loads(data, parse_constant=_refuse_constant)
        except RecursionError as error:
            raise CorruptObject(f"{key} is no JSON document: it is nested too deep", key=key) from error
        except ValueError as error:
            raise CorruptObject(f"{key} is no JSON document: {error}", key=key) from error
        version = plain.get("schema_version") if isinstance(plain, dict) else None
        if version is None:
            raise CorruptObject(f"{key} is no JSON document with a schema_version", key=key)
        if not isinstance(version, int) or version > cls.VERSION:
            raise CorruptObject(
                f"{key} has schema version {version!r}, this release reads up to {cls.VERSION}; use a newer one",
                key=key,
            )
        try:
            upgraded = plain if version == cls.VERSION else cls.upgraded(plain, version)
            if upgraded is not plain:
                data = json.dumps(upgraded).encode()
            return cls.model_validate_json(data)
        except ValidationError as error:
            mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
            raise CorruptObject(f"{key} is no {cls.__name__}: {mistakes}", key=key) from error
        except ValueError as error:
            raise CorruptObject(f"{key} is no {cls.__name__}: {error}", key=key) from error

    @classmethod
    def upgraded(cls, plain: Mapping[str, object], version: int) -> Mapping[str, object]:
        """The present form of a document of an older schema version. Raises: ValueError."""
        raise ValueError(f"schema version {version} never existed")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def canonical_json(plain: object) -> bytes:
    """UTF-8, sorted keys, no NaN literals, a newline at the end. Raises: ValueError on NaN or infinity."""
    text = json.dumps(plain, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"
