"""Distributed differentiable architecture search: Ray Train for each run, Ray Tune for the sweep, S3 for the answer.

The Python API is `ray_darts.api`, and the protocols that a plugin implements are `Space`, `Method`, `Dataset` and
`Operation`. All of them are imported on first use: `import ray_darts` imports neither torch nor ray nor pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_darts import errors
    from ray_darts.api import (
        Experiment,
        SearchResult,
        build_network,
        decode,
        open_experiment,
        read_genotype,
        search,
        write_text,
    )
    from ray_darts.deployment import export_model
    from ray_darts.genotype.genotype import Genotype
    from ray_darts.genotype.layout import CellLayout, ParameterGroup, SpaceLayout
    from ray_darts.protocols.augmentation import Augmentation
    from ray_darts.protocols.dataset import Dataset
    from ray_darts.protocols.method import Method
    from ray_darts.protocols.operation import Operation
    from ray_darts.protocols.registry import register
    from ray_darts.protocols.space import CellWords, Ranking, Space
    from ray_darts.spaces.classification import ClassifyingSupernet
    from ray_darts.spaces.supernet import Supernet
    from ray_darts.trainings import TrainingResult, train

__version__ = "0.2.0.dev0"

__all__ = [
    "Augmentation",
    "CellLayout",
    "CellWords",
    "ClassifyingSupernet",
    "Dataset",
    "Experiment",
    "Genotype",
    "Method",
    "Operation",
    "ParameterGroup",
    "Ranking",
    "SearchResult",
    "Space",
    "SpaceLayout",
    "Supernet",
    "TrainingResult",
    "build_network",
    "decode",
    "errors",
    "export_model",
    "open_experiment",
    "read_genotype",
    "register",
    "search",
    "train",
    "write_text",
]

_HOMES = {
    "Augmentation": "ray_darts.protocols.augmentation",
    "CellLayout": "ray_darts.genotype.layout",
    "CellWords": "ray_darts.protocols.space",
    "ClassifyingSupernet": "ray_darts.spaces.classification",
    "Dataset": "ray_darts.protocols.dataset",
    "Genotype": "ray_darts.genotype.genotype",
    "Method": "ray_darts.protocols.method",
    "Operation": "ray_darts.protocols.operation",
    "ParameterGroup": "ray_darts.genotype.layout",
    "Ranking": "ray_darts.protocols.space",
    "Space": "ray_darts.protocols.space",
    "SpaceLayout": "ray_darts.genotype.layout",
    "Supernet": "ray_darts.spaces.supernet",
    "TrainingResult": "ray_darts.trainings",
    "export_model": "ray_darts.deployment",
    "register": "ray_darts.protocols.registry",
    "train": "ray_darts.trainings",
}
"""{exported name: its module}; the names that are not here are of `ray_darts.api`."""


def __getattr__(name: str) -> object:
    """Import an exported name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'ray_darts' has no attribute {name!r}")
    if name in ("errors", "search"):  # modules; that of the search can be called
        return importlib.import_module(f"ray_darts.{name}")
    return getattr(importlib.import_module(_HOMES.get(name, "ray_darts.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
