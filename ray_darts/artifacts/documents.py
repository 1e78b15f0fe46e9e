"""The form of every JSON document of a store: strict, versioned, sorted keys, no NaN.

A document of a newer schema version is refused, an older one read. Knows no document in particular.
"""

from __future__ import annotations

import json
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ray_darts.errors import CorruptObject


class Facts(BaseModel):
    """A piece of a document: frozen, nothing coerced, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Document(Facts):
    """A whole object of JSON with a schema version."""

    VERSION: ClassVar[int] = 1

    schema_version: int = 1

    def to_bytes(self) -> bytes:
        """The one form in which this document is written."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Self:
        """Parse what lies under `key`. Raises: CorruptObject, also for a newer schema version."""
        try:
            plain = json.loads(data)
            version = plain["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptObject(f"{key} is no JSON document with a schema_version: {error}", key=key) from error
        if not isinstance(version, int) or version > cls.VERSION:
            raise CorruptObject(
                f"{key} has schema version {version!r}, this release reads up to {cls.VERSION}; use a newer one",
                key=key,
            )
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
            raise CorruptObject(f"{key} is no {cls.__name__}: {mistakes}", key=key) from error


def canonical_json(plain: object) -> bytes:
    """UTF-8, sorted keys, no NaN literals, a newline at the end. Raises: ValueError on NaN or infinity."""
    text = json.dumps(plain, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"
