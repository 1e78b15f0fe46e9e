"""How long commands have worked on an experiment: one small object per command, which that command writes again.

A budget of hours is kept by the experiment, over commands and kills; the time since a killed command's last writing is
not known and not counted. Commands side by side count once. Times are those of the machines that wrote them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ray_darts.artifacts.documents import Document
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.errors import MissingObject


class SessionHours(Document):
    """One command: it began to work on its runs at `began` (ISO 8601) and has worked for `seconds`."""

    session: str
    began: str
    seconds: float


def write_hours(store: ObjectStore, experiment: str, hours: SessionHours) -> None:
    """Replace what the command said before. Raises: StoreError."""
    store.put(ExperimentKeys(experiment).session_hours(hours.session), hours.to_bytes())


def read_hours(store: ObjectStore, experiment: str) -> list[SessionHours]:
    """Those of all commands of an experiment. Raises: CorruptObject, StoreError."""
    found = []
    for entry in store.list_objects(ExperimentKeys(experiment).hours):
        try:
            found.append(SessionHours.from_bytes(store.get(entry.key).data, entry.key))
        except MissingObject:  # removed since it was listed
            continue
    return found


def seconds_at_work(hours: Iterable[SessionHours]) -> float:
    """Seconds in which at least one command worked."""
    spans = sorted((datetime.fromisoformat(each.began).timestamp(), each.seconds) for each in hours)
    total, until = 0.0, float("-inf")
    for began, seconds in spans:
        ended = began + seconds
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total
