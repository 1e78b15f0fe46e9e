"""The doctor proves a good store and refuses a broken one, saying what it would cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_darts.artifacts.doctor import check_store, probe_store
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import ObjectStore, Stored
from ray_darts.errors import StoreDenied, StoreError, StoreUnavailable
from tests.artifacts.memory_store import MemoryStore


def broken(store: ObjectStore) -> dict[str, str]:
    """Names and details of what does not hold."""
    return {check.name: check.detail for check in probe_store(store) if not check.ok}


def test_every_promise_holds_and_the_probe_is_gone(store: ObjectStore, hides_missing: bool) -> None:
    if hides_missing:
        assert "s3:ListBucket" in broken(store)["missing keys"]
        with pytest.raises(StoreError, match="missing keys"):
            check_store(store)
    else:
        assert broken(store) == {}
        check_store(store)
    assert list(store.list_objects("")) == []


def test_not_even_a_lock_is_left_in_a_folder(tmp_path: Path) -> None:
    check_store(LocalStore(tmp_path))
    assert list(tmp_path.rglob("*")) == []


class _IgnoresIfNoneMatch(MemoryStore):
    def put_if_absent(self, key: str, data: bytes) -> None:
        self.put(key, data)


class _IgnoresIfMatch(MemoryStore):
    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        self.put(key, data)


class _ReadsLate(MemoryStore):
    def get(self, key: str) -> Stored:
        stored = super().get(key)
        return stored._replace(data=b"")


class _ReadOnly(MemoryStore):
    def put_if_absent(self, key: str, data: bytes) -> None:
        raise StoreDenied("the right s3:PutObject is missing", key=key)


class _Out(MemoryStore):
    def put_if_absent(self, key: str, data: bytes) -> None:
        raise StoreUnavailable("no answer", key=key)


class _KeepsAll(MemoryStore):
    def delete(self, key: str) -> None:
        raise StoreDenied("the right s3:DeleteObject is missing", key=key)


@pytest.mark.parametrize(
    ("kind", "promise", "message"),
    [
        (_IgnoresIfNoneMatch, "conditional create", "If-None-Match is ignored"),
        (_IgnoresIfMatch, "compare and swap", "If-Match is ignored"),
        (_ReadsLate, "read after write", "instead of"),
    ],
)
def test_a_store_without_a_promise_is_refused(kind: type[MemoryStore], promise: str, message: str) -> None:
    assert message in broken(kind())[promise]
    with pytest.raises(StoreError, match=f"{promise}: .*{message}.*Without it"):
        check_store(kind())


def test_a_missing_right_and_an_outage_say_nothing_against_the_store() -> None:
    assert "s3:PutObject" in broken(_ReadOnly())["create"]
    with pytest.raises(StoreDenied, match="s3:PutObject"):
        check_store(_ReadOnly())
    assert "no answer" in broken(_Out())["create"]
    with pytest.raises(StoreUnavailable, match="no answer"):
        check_store(_Out())


def test_a_store_that_only_cannot_delete_is_told_and_accepted() -> None:
    assert broken(_KeepsAll()).keys() == {"delete"}
    check_store(_KeepsAll())
