"""The ObjectStore contract, one suite for every store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray_darts.artifacts.objects import Conflict, ObjectStore, create, get_checked, sha256
from ray_darts.errors import CorruptObject, MissingObject, StoreDenied


def missing(hides_missing: bool) -> type[Exception]:
    return StoreDenied if hides_missing else MissingObject


@pytest.mark.parametrize("data", [b"", b"\x00\xff\n", b"x" * 3_000_000], ids=["empty", "binary", "3 MB"])
def test_what_is_put_is_read_back_whole(store: ObjectStore, data: bytes) -> None:
    store.put("a/b/c.bin", data)
    stored = store.get("a/b/c.bin")
    assert stored.data == data
    assert 0 <= stored.age_s < 60


def test_put_replaces(store: ObjectStore) -> None:
    store.put("a", b"one")
    first = store.get("a").etag
    store.put("a", b"two")
    assert store.get("a").data == b"two"
    assert store.get("a").etag != first


def test_an_object_is_created_once(store: ObjectStore) -> None:
    store.put_if_absent("log/0", b"one")
    with pytest.raises(Conflict):
        store.put_if_absent("log/0", b"two")
    assert store.get("log/0").data == b"one"


def test_create_distinguishes_our_own_bytes_from_anothers(store: ObjectStore) -> None:
    assert create(store, "log/0", b"one") is None
    assert create(store, "log/0", b"one") is None
    assert create(store, "log/0", b"two") == b"one"


def test_a_swap_needs_the_tag_of_what_it_replaces(store: ObjectStore) -> None:
    store.put("best", b"one")
    seen = store.get("best").etag
    store.compare_and_swap("best", b"two", seen)
    with pytest.raises(Conflict):
        store.compare_and_swap("best", b"three", seen)
    assert store.get("best").data == b"two"


def test_a_swap_of_nothing_is_missing(store: ObjectStore) -> None:
    store.put("folder/other", b"")
    with pytest.raises(MissingObject):
        store.compare_and_swap("folder/best", b"one", store.get("folder/other").etag)
    assert [entry.key for entry in store.list_objects("")] == ["folder/other"]


def test_a_missing_key_is_reported_or_the_missing_right_is(store: ObjectStore, hides_missing: bool) -> None:
    with pytest.raises(missing(hides_missing)) as raised:
        store.get("nothing/here")
    if hides_missing:
        assert "s3:ListBucket" in str(raised.value)
        with pytest.raises(StoreDenied, match="s3:ListBucket"):
            store.exists("nothing/here")
    else:
        assert raised.value.key == "nothing/here"  # type: ignore[attr-defined]
        assert not store.exists("nothing/here")


def test_existence_is_of_objects_not_of_folders(store: ObjectStore, hides_missing: bool) -> None:
    store.put("a/b", b"")
    assert store.exists("a/b")
    if not hides_missing:
        assert not store.exists("a")


def test_delete_removes_and_may_be_repeated(store: ObjectStore, hides_missing: bool) -> None:
    store.put("a/b", b"one")
    store.delete("a/b")
    store.delete("a/b")
    with pytest.raises(missing(hides_missing)):
        store.get("a/b")
    assert list(store.list_objects("")) == []
    store.put_if_absent("a/b", b"two")
    assert store.get("a/b").data == b"two"


def test_a_listing_holds_what_is_below_a_prefix_in_order(store: ObjectStore) -> None:
    for key in ("run/b/2", "run/b/10", "run/a", "runner/x", "other"):
        store.put(key, key.encode())
    seen = list(store.list_objects("run/"))
    assert [(entry.key, entry.num_bytes) for entry in seen] == [("run/a", 5), ("run/b/10", 8), ("run/b/2", 7)]
    assert all(0 <= entry.age_s < 60 for entry in seen)
    assert list(store.list_objects("nowhere/")) == []


def test_folders_are_those_with_objects_below(store: ObjectStore) -> None:
    for key in ("runs/b/x/y", "runs/a/x", "runs/file", "other/z"):
        store.put(key, b"")
    assert store.list_folders("runs/") == ["a", "b"]
    assert store.list_folders("") == ["other", "runs"]
    assert store.list_folders("nowhere/") == []


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_a_listing_of_1500_keys_is_whole(store: ObjectStore) -> None:
    keys = [f"parts/{number:04d}" for number in range(1500)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda key: store.put(key, b"x"), keys))
    assert [entry.key for entry in store.list_objects("parts/")] == keys
    assert store.list_folders("") == ["parts"]


def together(number: int, act: Callable[[int], None]) -> None:
    """Run `act` in `number` threads that start at once."""
    start = threading.Barrier(number)

    def run(index: int) -> None:
        start.wait()
        act(index)

    with ThreadPoolExecutor(number) as threads:
        list(threads.map(run, range(number)))


@pytest.mark.parametrize(("store", "times"), [("local", 50), ("s3", 50), ("s3-bare-tags", 15)], indirect=["store"])
def test_of_8_writers_racing_for_a_key_one_wins_each_time(store: ObjectStore, times: int) -> None:
    for n in range(times):
        won: list[int] = []

        def race(writer: int, n: int = n, won: list[int] = won) -> None:
            if create(store, f"log/{n}", b"writer %d" % writer) is None:
                won.append(writer)

        together(8, race)
        assert len(won) == 1
        assert store.get(f"log/{n}").data == b"writer %d" % won[0]


@pytest.mark.parametrize("store", ["local", "s3", "s3-bare-tags"], indirect=True)
def test_no_swap_is_lost_among_racing_writers(store: ObjectStore) -> None:
    store.put("count", b"0")

    def add(writer: int) -> None:
        for _ in range(5):
            while True:
                seen = store.get("count")
                try:
                    store.compare_and_swap("count", b"%d" % (int(seen.data) + 1), seen.etag)
                except Conflict:
                    continue
                break

    together(4, add)
    assert store.get("count").data == b"20"


def test_a_wrong_hash_is_refused_naming_the_key(store: ObjectStore) -> None:
    store.put("parts/1", b"one")
    assert get_checked(store, "parts/1", sha256(b"one")) == b"one"
    with pytest.raises(CorruptObject, match="parts/1"):
        get_checked(store, "parts/1", sha256(b"two"))
