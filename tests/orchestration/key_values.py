"""The key-value store of a cluster as a dict, where no cluster is."""

from __future__ import annotations

import pytest

from ray_darts.orchestration import starts


class KeyValues:
    """The cluster's key-value store as a dict."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def put(self, key: bytes, value: bytes, overwrite: bool, namespace: bytes) -> bool:
        there = key in self.values
        if overwrite or not there:
            self.values[key] = value
        return there

    def get(self, key: bytes, namespace: bytes) -> bytes | None:
        return self.values.get(key)

    def delete(self, key: bytes, namespace: bytes) -> None:
        self.values.pop(key, None)

    def keys(self, prefix: bytes, namespace: bytes) -> list[bytes]:
        return [key for key in self.values if key.startswith(prefix)]


def key_values(patch: pytest.MonkeyPatch) -> KeyValues:
    """Put a dict in the place of the cluster's, for `starts`, until the test ends."""
    kept = KeyValues()
    for name in ("put", "get", "delete", "keys"):
        patch.setattr(starts, f"kv_{name}", getattr(kept, name))
    return kept
