"""Two experiments of trainings that are compared, and the labels of a comparison."""

from __future__ import annotations

from ray_darts.report.comparison import Comparison
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.trainings import register_trainings, train


def good_and_poor() -> MemoryStore:
    """Trainings: `good` and `poor` of one cell each, three seeds."""
    store = MemoryStore()
    for name, values in (("good", [0.95, 0.96, 0.97]), ("poor", [0.90, 0.91, 0.89])):
        register_trainings(store, name)
        train(store, name, name[:1] * 4, 1, values)
    return store


def labels(comparison: Comparison) -> list[str]:
    return [against.side.label for against in comparison.ranked]
