"""The documents that a finished run keeps in place of what it has let go: reads and checks them.

Nothing can make such a document again, so one that is missing or differs is reported, never replaced.
"""

from __future__ import annotations

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore, get_checked
from ray_darts.artifacts.records import Record
from ray_darts.errors import CorruptObject, MissingObject

_ONLY_COPY = (
    "what it was made from has been let go (`ray-darts gc --compact`, store.keep_finished_checkpoints), so nothing can "
    "make it again: restore it from a backup or an older version of the object"
)


def is_only_copy(record: Record, name: str) -> bool:
    """Whether the log can no longer make this document of the run whose last record this is."""
    return record.released is not None and name in record.released.documents


def read_only_copy(store: ObjectStore, keys: RunKeys, record: Record, name: str) -> bytes:
    """Read a document that the run's last record names as kept. Raises: MissingObject, CorruptObject."""
    assert record.released is not None
    key, kept = keys.document(name), record.released.documents.get(name)
    if kept is None:
        raise CorruptObject(f"{keys.record(record.n)} lets rows go without naming {key}", key=keys.record(record.n))
    try:
        data = get_checked(store, key, kept.sha256)
    except MissingObject as error:
        raise MissingObject(f"{key} is missing, and {_ONLY_COPY}", key=key) from error
    except CorruptObject as error:
        raise CorruptObject(f"{error}; {_ONLY_COPY}", key=key) from error
    if len(data) != kept.num_bytes:
        raise CorruptObject(f"{key} has {len(data)} bytes, its record says {kept.num_bytes}; {_ONLY_COPY}", key=key)
    return data


def refuse_only_copy(keys: RunKeys, record: Record, name: str) -> None:
    """Raise MissingObject for a missing document that the log can no longer make."""
    if is_only_copy(record, name):
        key = keys.document(name)
        raise MissingObject(f"{key} is missing, and {_ONLY_COPY}", key=key)
