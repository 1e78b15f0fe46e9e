"""The doctor proves a good store and refuses a broken one, saying what it would cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_darts.artifacts.doctor import check_store, probe_store
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import Conflict, Listed, ObjectStore, Stored
from ray_darts.artifacts.open import open_store
from ray_darts.errors import StoreDenied, StoreError, StoreUnavailable
from tests.artifacts.buckets import fresh_uri, settings
from tests.artifacts.gateway import Gateway, gateway
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.relay import Relay
from tests.artifacts.servers import free_port


def broken(store: ObjectStore) -> dict[str, str]:
    """Names and details of what does not hold."""
    return {check.name: check.detail for check in probe_store(store) if not check.ok}


def test_every_promise_holds_and_the_probe_is_gone(store: ObjectStore, hides_missing: bool) -> None:
    if hides_missing:
        assert broken(store).keys() == {"missing keys"}
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


class _RefusesIfMatch(MemoryStore):
    def compare_and_swap(self, key: str, data: bytes, etag: str) -> None:
        raise Conflict(f"{key} exists already or has changed", key=key)


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


class _ListsNothing(MemoryStore):
    def list_objects(self, prefix: str) -> Iterator[Listed]:
        raise StoreUnavailable("503 SlowDown", key=prefix)


@pytest.mark.parametrize("kind", [MemoryStore, _IgnoresIfMatch, _ReadsLate, _ListsNothing])
def test_no_probe_is_left_whatever_promise_is_broken(kind: type[MemoryStore]) -> None:
    store = kind()
    probe_store(store)
    assert store.objects == {}


@pytest.mark.parametrize(
    ("kind", "promise", "message"),
    [
        (_IgnoresIfNoneMatch, "conditional create", "If-None-Match is ignored"),
        (_IgnoresIfMatch, "compare and swap", "If-Match is ignored"),
        (_RefusesIfMatch, "compare and swap", "tag that the store has just sent is refused"),
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


def test_a_store_that_only_cannot_delete_is_reported_and_accepted() -> None:
    assert broken(_KeepsAll()).keys() == {"delete"}
    check_store(_KeepsAll())


def test_a_lost_answer_to_a_probe_breaks_no_promise(aws: None, relay: tuple[Relay, str]) -> None:
    lost = ["If-None-Match", "If-Match"]
    relay[0].loses = lambda method, path: method == "PUT" and bool(lost) and bool(lost.pop())
    store = open_store(fresh_uri(), settings(relay[1]))
    assert broken(store) == {}
    assert len(relay[0].lost) == 2


def test_a_wrong_secret_is_the_only_cause_that_is_named(
    guarded: tuple[str, str, str], aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, key, _ = guarded
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = open_store(fresh_uri(), settings(url))
    assert [check.name for check in probe_store(store)] == ["create"]
    assert "secret key does not belong to the access key" in broken(store)["create"]
    assert "not tried because of this: conditional create, read after write" in broken(store)["create"]
    with pytest.raises(StoreDenied, match="secret key"):
        check_store(store)


def test_a_missing_right_to_write_is_no_missing_right_to_list(aws: None, relay: tuple[Relay, str]) -> None:
    relay[0].replaces = lambda method, status: (403, "AccessDenied")
    found = broken(open_store(fresh_uri(), settings(relay[1])))
    assert found.keys() == {"create"}
    assert "s3:PutObject" in found["create"]
    assert "s3:ListBucket" not in found["create"]


def test_an_outage_is_one_cause_after_one_call(server_down: ObjectStore) -> None:
    found = broken(server_down)
    assert found.keys() == {"create"}
    assert "does not answer" in found["create"]
    with pytest.raises(StoreUnavailable):
        check_store(server_down)


@pytest.fixture
def server_down(aws: None) -> ObjectStore:
    return open_store(fresh_uri(), settings(f"http://127.0.0.1:{free_port()}", attempts=1))


class _IgnoresChecksums(Gateway):
    """Stores whatever arrives."""

    def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        for name in [name for name in headers if name.lower().startswith("x-amz-checksum")]:
            del headers[name]
        return super().enter(method, path, headers)


class _HasNoKeys(Gateway):
    """Refuses encryption as Ceph RGW does where it has none: 400 without a message."""

    def enter(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        if any(name.lower() == "x-amz-server-side-encryption" for name in headers):
            return 400, "InvalidRequest"
        return super().enter(method, path, headers)


def test_a_server_that_compares_checksums_is_said_to(s3_store: ObjectStore) -> None:
    details = {check.name: check.detail for check in probe_store(s3_store)}
    assert details["create"] == "a new object is put"
    assert details["checksums"] == "an object with another object's SHA-256 is refused"


def test_a_server_that_ignores_checksums_is_warned_of_and_accepted(aws: None, s3_server: str) -> None:
    with gateway(s3_server, _IgnoresChecksums) as (_, url):
        store = open_store(fresh_uri(), settings(url))
        assert broken(store).keys() == {"checksums"}
        assert "does not compare it" in broken(store)["checksums"]
        check_store(store)
        assert list(store.list_objects("")) == []


def test_a_folder_makes_no_promise_about_checksums(tmp_path: Path) -> None:
    assert "checksums" not in {check.name for check in probe_store(LocalStore(tmp_path))}


@pytest.mark.parametrize("encryption", ["AES256", "aws:kms"])
def test_a_refused_encryption_is_named_with_its_setting(aws: None, s3_server: str, encryption: str) -> None:
    with gateway(s3_server, _HasNoKeys) as (_, url):
        found = broken(open_store(fresh_uri(), settings(url, encryption=encryption)))
        assert broken(open_store(fresh_uri(), settings(url))) == {}
    assert found.keys() == {"create"}
    assert f"store.encryption={encryption}" in found["create"]
    assert "400 InvalidRequest" in found["create"]
    assert "None" not in found["create"]
