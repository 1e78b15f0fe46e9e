"""Counts how often the test set of some data was opened, over all experiments of a store.

One object per run, created before the run reads the test set and never removed, so that no reading is uncounted; a run
that was killed while it read and reads again is one opening.
"""

from __future__ import annotations

from ray_darts.artifacts.documents import Document
from ray_darts.artifacts.keys import RunKeys, opening_key, openings_prefix
from ray_darts.artifacts.objects import ObjectStore, create


class TestOpening(Document):
    """The run that opened the test set of the data with this digest."""

    __test__ = False  # pytest collects classes by this name

    data_digest: str
    experiment: str
    run: str


def record_opening(store: ObjectStore, keys: RunKeys, data_digest: str) -> int:
    """Record that a run opens the test set; returns how many runs have, this one included. Raises: StoreError."""
    opening = TestOpening(data_digest=data_digest, experiment=keys.experiment, run=keys.run)
    create(store, opening_key(data_digest, keys), opening.to_bytes())
    return sum(1 for _ in store.list_objects(openings_prefix(data_digest)))
