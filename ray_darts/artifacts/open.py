"""From the name of a store to the store. Knows no key."""

from __future__ import annotations

import re
from pathlib import Path

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.config.operation import StoreSettings
from ray_darts.errors import ConfigError
from ray_darts.messages import shown_name, shown_value

_ONE_SLASH = re.compile(r"(s3|file|gs|https?):/(?!/)")


def open_store(uri: str, settings: StoreSettings | None = None) -> ObjectStore:
    """Open `s3://bucket/prefix`, `file:///folder` or a folder; nothing is written or asked yet.

    Raises: ConfigError on any other scheme, a file in the folder's place, or an endpoint that is not allowed.
    """
    if not uri.strip():
        raise ConfigError("the store's name is empty (an unset variable?): wanted s3://bucket/prefix or a folder")
    if "\0" in uri:
        raise ConfigError(f"store {shown_value(uri)} has a NUL character in its name")
    settings = settings or StoreSettings()
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "s3":
        from ray_darts.artifacts.s3 import S3Store

        return S3Store(uri, settings)
    if separator and scheme != "file":
        raise ConfigError(f"store {shown_value(uri)}: wanted s3://bucket/prefix or a folder")
    if _ONE_SLASH.match(uri) or (separator and not rest.startswith("/")):
        raise ConfigError(f"store {shown_value(uri)}: wanted s3://bucket/prefix, file:///folder or a folder")
    from ray_darts.artifacts.local import LocalStore

    try:
        folder = Path(rest if separator else uri).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"store {shown_value(uri)}: {error}") from error
    try:
        is_file = folder.exists() and not folder.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ConfigError(f"store {shown_name(uri)} cannot be reached: {error.strerror}") from error
    if is_file:
        raise ConfigError(f"store {shown_value(uri)} is a file; wanted a folder")
    return LocalStore(folder)
