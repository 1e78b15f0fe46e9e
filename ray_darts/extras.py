"""Packages that only an extra installs: imported when they are needed, or named with the command that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from ray_darts.errors import ConfigError


def needed(module: str, extra: str, what: str) -> Any:
    """The module; ConfigError where it is not installed: `what` needs ray-darts[`extra`]."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        install = f"pip install 'ray-darts[{extra}]'"
        raise ConfigError(f"{what} needs the packages of ray-darts[{extra}]: {install} ({error})") from error
