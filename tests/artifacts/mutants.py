"""Broken protocols. Each replaces one line of thought; the schedules must catch every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ray_darts.artifacts import collect, run_log, writer
from ray_darts.artifacts.best import Best
from ray_darts.artifacts.compact import Release
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import Conflict, Listed, ObjectStore
from ray_darts.artifacts.records import EndKind, Environment, Owner, Record
from ray_darts.artifacts.run_log import Entry
from ray_darts.artifacts.superseded import SupersededCheckpoints
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import RunFinished, Superseded

Patch = pytest.MonkeyPatch


def overwrite_instead_of_create(patch: Patch) -> None:
    def create(store: ObjectStore, key: str, data: bytes) -> bytes | None:
        store.put(key, data)
        return None

    _everywhere(patch, "create", create)


def believe_a_412(patch: Patch) -> None:
    def create(store: ObjectStore, key: str, data: bytes) -> bytes | None:
        try:
            store.put_if_absent(key, data)
        except Conflict:
            return store.get(key).data
        return None

    _everywhere(patch, "create", create)


def records_without_a_nonce(patch: Patch) -> None:
    put = run_log.put_record

    def put_record(store: ObjectStore, keys: RunKeys, record: Record) -> Entry | None:
        return put(store, keys, record.model_copy(update={"nonce": ""}))

    _everywhere(patch, "put_record", put_record)


def publish_before_finish(patch: Patch) -> None:
    put = run_log.put_record

    def put_record(store: ObjectStore, keys: RunKeys, record: Record) -> Entry | None:
        if record.kind == "finish":
            store.put(keys.genotype, b"{}")
        return put(store, keys, record)

    _everywhere(patch, "put_record", put_record)


def retry_after_being_superseded(patch: Patch) -> None:
    check = run_log._check_claimable

    def check_claimable(tip: Record, owner: Owner, config_digest: str, retry_failed: bool) -> None:
        try:
            check(tip, owner, config_digest, retry_failed)
        except Superseded:
            return

    patch.setattr(run_log, "_check_claimable", check_claimable)


def claim_a_finished_run(patch: Patch) -> None:
    check = run_log._check_claimable

    def check_claimable(tip: Record, owner: Owner, config_digest: str, retry_failed: bool) -> None:
        try:
            check(tip, owner, config_digest, retry_failed)
        except RunFinished:
            return

    patch.setattr(run_log, "_check_claimable", check_claimable)


def claim_without_a_new_term(patch: Patch) -> None:
    make = run_log._claim_record

    def claim_record(
        tip: Entry | None, owner: Owner, config_digest: str, environment: Environment, task: str, ended: EndKind | None
    ) -> Record:
        record = make(tip, owner, config_digest, environment, task, ended)
        return record if tip is None else record.model_copy(update={"term": tip.record.term})

    patch.setattr(run_log, "_claim_record", claim_record)


def record_before_what_it_refers_to(patch: Patch) -> None:
    commit = RunWriter._commit

    def early(self: RunWriter) -> Record:
        assert self._pending is not None
        run_log.put_record(self._store, self._keys, self._pending.record)
        return commit(self)

    patch.setattr(RunWriter, "_commit", early)


def delete_the_checkpoint_in_use(patch: Patch) -> None:
    clear = SupersededCheckpoints.clear

    def eager(self: SupersededCheckpoints) -> None:
        self.keep = 0
        clear(self)

    patch.setattr(SupersededCheckpoints, "clear", eager)


def collect_without_the_term_rule(patch: Patch) -> None:
    patch.setattr(collect, "_term", lambda keys, key: -1)


def collect_records(patch: Patch) -> None:
    find = collect.run_garbage

    def run_garbage(
        store: ObjectStore, keys: RunKeys, log: list[Entry], planned: Release | None, keep: int
    ) -> Iterator[tuple[str, Listed]]:
        yield from find(store, keys, log, planned, keep)
        yield from (("records", entry) for entry in list(store.list_objects(keys.log))[:-2])

    patch.setattr(collect, "run_garbage", run_garbage)


def collect_parts_that_only_old_records_name(patch: Patch) -> None:
    kept = collect._kept_keys
    patch.setattr(collect, "_kept_keys", lambda records, *more: kept(records[-1:], *more))


def let_the_last_to_finish_be_the_best(patch: Patch) -> None:
    patch.setattr(Best, "beats", lambda self, other: self != other)


MUTANTS: list[Callable[[Patch], None]] = [
    overwrite_instead_of_create,
    believe_a_412,
    records_without_a_nonce,
    publish_before_finish,
    retry_after_being_superseded,
    claim_a_finished_run,
    claim_without_a_new_term,
    record_before_what_it_refers_to,
    delete_the_checkpoint_in_use,
    collect_without_the_term_rule,
    collect_records,
    collect_parts_that_only_old_records_name,
    let_the_last_to_finish_be_the_best,
]


def _everywhere(patch: Patch, name: str, replacement: object) -> None:
    for module in (run_log, writer):
        patch.setattr(module, name, replacement)
