"""Claims, sessions and the search for the log's end."""

from __future__ import annotations

import pytest

from ray_darts.artifacts.documents import canonical_json
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.records import Head
from ray_darts.artifacts.run_log import MAX_IDLE_CLAIMS, find_tip, read_log
from ray_darts.artifacts.writer import claim_run
from ray_darts.errors import ConfigError, CorruptObject, RunFailed, RunFinished, StoreUnavailable, Superseded
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import (
    DIGEST,
    ENVIRONMENT,
    EXPERIMENT,
    KEYS,
    RUN,
    advance,
    claimed,
    finish,
    owner,
    whole_run,
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def long_log(store: MemoryStore, advances: int) -> None:
    writer = claimed(store)
    for step in range(1, advances + 1):
        advance(writer, step)


def requests(store: MemoryStore) -> list[str]:
    """What finding the end of the log asks for."""
    store.log.clear()
    find_tip(store, KEYS)
    return store.log


def test_an_empty_log_has_no_end(store: MemoryStore) -> None:
    assert find_tip(store, KEYS) is None
    assert read_log(store, KEYS) == []


@pytest.mark.parametrize("advances", [0, 1, 2, 3, 4, 7, 8, 30])
@pytest.mark.parametrize("head", ["fresh", "stale", "absent", "garbage", "beyond", "negative"])
def test_the_end_is_found_whatever_the_head_says(store: MemoryStore, advances: int, head: str) -> None:
    long_log(store, advances)
    if head == "absent":
        del store.objects[KEYS.head]
    elif head != "fresh":
        hints = {"stale": advances // 2, "beyond": advances + 5, "negative": -1}
        store.objects[KEYS.head] = b"{" if head == "garbage" else Head(n=hints[head]).to_bytes()
    tip = find_tip(store, KEYS)
    assert tip is not None
    assert tip.record.n == advances


def test_a_fresh_head_finds_the_end_in_three_requests(store: MemoryStore) -> None:
    long_log(store, 30)
    assert requests(store) == [f"GET {KEYS.head}", f"GET {KEYS.record(30)}", f"GET {KEYS.record(31)}"]


def test_without_a_head_the_end_of_1000_records_takes_few_requests_and_no_listing(store: MemoryStore) -> None:
    long_log(store, 3)
    last = store.objects[KEYS.record(3)]
    for n in range(4, 1000):
        store.objects[KEYS.record(n)] = last.replace(b'"n":3,', b'"n":%d,' % n)
        store._versions[KEYS.record(n)] = 0
    del store.objects[KEYS.head]
    seen = requests(store)
    assert len(seen) <= 25
    assert not any(request.startswith("LIST") for request in seen)


def test_a_run_is_claimed_from_nothing(store: MemoryStore) -> None:
    writer = claimed(store)
    assert (writer.term, writer.step, writer.displaced) == (1, 0, None)
    assert writer.load_checkpoint() is None


def test_the_newest_session_wins_and_names_whom_it_displaces(store: MemoryStore) -> None:
    first = claimed(store, "a")
    advance(first, 2)
    second = claimed(store, "b")
    assert second.term == 2
    assert second.step == 2
    assert second.displaced is not None
    assert second.displaced.session == "a"
    assert second.displaced_age_s is not None
    with pytest.raises(Superseded, match="session b") as raised:
        advance(first, 4)
    assert raised.value.holder["session"] == "b"  # type: ignore[index]


def test_a_displaced_session_never_claims_again(store: MemoryStore) -> None:
    claimed(store, "a")
    claimed(store, "b")
    before = dict(store.objects)
    with pytest.raises(Superseded):
        claimed(store, "a")
    assert store.objects == before


def test_a_session_claims_above_its_own_records_and_displaces_nobody(store: MemoryStore) -> None:
    advance(claimed(store, "a"), 2)
    again = claimed(store, "a")
    assert (again.term, again.step, again.displaced) == (2, 2, None)


def test_an_earlier_start_of_the_same_session_is_fenced(store: MemoryStore) -> None:
    zombie = claimed(store, "a")
    claimed(store, "a")
    with pytest.raises(Superseded):
        advance(zombie, 2)


def test_starts_that_were_killed_never_end_the_run(store: MemoryStore) -> None:
    for session in ("a", "b"):
        for _ in range(3 * MAX_IDLE_CLAIMS):
            claimed(store, session)
    advance(claimed(store, "b"), 2)


def test_starts_that_were_killed_between_others_neither_count_nor_forgive(store: MemoryStore) -> None:
    claimed(store)
    for _ in range(MAX_IDLE_CLAIMS - 1):
        claimed(store)
        claimed(store, previous_end="itself")
    with pytest.raises(RunFailed, match="ended by themselves"):
        claimed(store, previous_end="itself")


def test_five_starts_that_ended_by_themselves_end_the_run_and_a_retry_goes_on(store: MemoryStore) -> None:
    advance(claimed(store), 2)
    for _ in range(MAX_IDLE_CLAIMS):
        claimed(store, previous_end="itself")
    with pytest.raises(RunFailed) as raised:
        claimed(store, previous_end="itself")
    assert raised.value.kind == "no_progress"
    with pytest.raises(RunFailed):
        claimed(store, "b")
    writer = claimed(store, "b", retry_failed=True)
    assert writer.step == 2
    assert writer.displaced is None
    advance(writer, 3)
    assert list(broken_rules([entry.record for entry in read_log(store, KEYS)])) == []


def test_an_advance_between_claims_forgives_them(store: MemoryStore) -> None:
    for step in range(1, 3 * MAX_IDLE_CLAIMS):
        writer = claimed(store, previous_end="itself")
        if step % MAX_IDLE_CLAIMS == 0:
            advance(writer, step)
    assert claimed(store, previous_end="itself").record.idle_claims == MAX_IDLE_CLAIMS


def test_an_older_start_of_a_session_does_not_displace_a_newer_one(store: MemoryStore) -> None:
    older, newer = (owner("a").model_copy(update={"start": start}) for start in (1, 2))
    writer = claim_run(store, EXPERIMENT, RUN, newer, DIGEST, ENVIRONMENT)
    with pytest.raises(Superseded, match="another start of the same command holds this run"):
        claim_run(store, EXPERIMENT, RUN, older, DIGEST, ENVIRONMENT)
    advance(writer, 2)
    assert claim_run(store, EXPERIMENT, RUN, owner("b"), DIGEST, ENVIRONMENT).step == 2


def test_a_newer_start_displaces_an_older_one_which_says_by_whom(store: MemoryStore) -> None:
    older, newer = (owner("a").model_copy(update={"start": start}) for start in (1, 2))
    zombie = claim_run(store, EXPERIMENT, RUN, older, DIGEST, ENVIRONMENT)
    advance(claim_run(store, EXPERIMENT, RUN, newer, DIGEST, ENVIRONMENT), 2)
    with pytest.raises(Superseded, match="another start of the same command"):
        advance(zombie, 2)
    log = [entry.record for entry in read_log(store, KEYS)]
    assert list(broken_rules(log)) == []
    swapped = [record.model_copy(update={"owner": older}) if record.n == 2 else record for record in log]
    assert any("earlier start" in rule for rule in broken_rules(swapped))


def test_an_owner_without_a_number_has_the_bytes_it_had(store: MemoryStore) -> None:
    claimed(store)
    assert b'"start"' not in store.objects[KEYS.record(0)]


def test_a_failed_run_is_retried_only_when_asked_and_never_by_the_session_that_failed(store: MemoryStore) -> None:
    writer = claimed(store, "a")
    advance(writer, 2)
    writer.fail("non_finite", "alpha is NaN at step 3", {"rank": 1, "step": 3})
    with pytest.raises(RunFailed, match="--retry-failed"):
        claimed(store, "b")
    with pytest.raises(RunFailed):
        claimed(store, "a", retry_failed=True)
    again = claimed(store, "b", retry_failed=True)
    assert again.step == 2
    advance(again, 4)


def test_nothing_follows_a_finish(store: MemoryStore) -> None:
    writer = whole_run(store)
    before = dict(store.objects)
    for session in ("a", "b"):
        with pytest.raises(RunFinished):
            claimed(store, session, retry_failed=True)
    with pytest.raises(RunFinished):
        advance(writer, 11)
    with pytest.raises(RunFinished):
        finish(writer)
    assert store.objects == before


def test_another_config_does_not_claim(store: MemoryStore) -> None:
    claimed(store)
    with pytest.raises(ConfigError, match="another name"):
        claim_run(store, EXPERIMENT, RUN, owner("b"), "1" * 64, ENVIRONMENT)


def test_a_claim_whose_answer_was_lost_is_found_again(store: MemoryStore) -> None:
    mine = owner("a")
    store.schedule = ["lost"]
    with pytest.raises(StoreUnavailable):
        claim_run(store, EXPERIMENT, RUN, mine, DIGEST, ENVIRONMENT)
    writer = claim_run(store, EXPERIMENT, RUN, mine, DIGEST, ENVIRONMENT)
    assert (writer.record.n, writer.term) == (0, 1)


def test_a_gap_and_a_broken_chain_are_refused(store: MemoryStore) -> None:
    whole_run(store)
    whole = dict(store.objects)
    del store.objects[KEYS.record(2)]
    with pytest.raises(CorruptObject, match="000000000002"):
        read_log(store, KEYS)
    store.objects = whole
    changed = whole[KEYS.record(2)].replace(b'"host"', b'"ghost"', 1)
    store.objects[KEYS.record(2)] = changed
    with pytest.raises(CorruptObject):
        read_log(store, KEYS)


def test_a_record_under_another_number_is_refused(store: MemoryStore) -> None:
    long_log(store, 2)
    store.objects[KEYS.record(3)] = store.objects[KEYS.record(2)]
    store._versions[KEYS.record(3)] = 0
    with pytest.raises(CorruptObject, match="has the number of record 2"):
        find_tip(store, KEYS)


def test_a_newer_schema_is_refused_and_says_what_to_do(store: MemoryStore) -> None:
    store.put(KEYS.record(0), canonical_json({"schema_version": 4, "anything": 1}))
    with pytest.raises(CorruptObject, match="use a newer one"):
        claimed(store)
