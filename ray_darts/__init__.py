"""Distributed differentiable architecture search: Ray Train for each run, Ray Tune for the sweep, S3 for the answer.

Importing the package imports nothing heavy; each layer is imported by whoever needs it.
"""

from __future__ import annotations

import importlib

__version__ = "0.2.0.dev0"

_EXPORTS = {"register": "ray_darts.protocols.registry", "Operation": "ray_darts.protocols.operation"}


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
