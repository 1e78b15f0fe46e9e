"""Reads everything again and reports what is not as it was written; with repair, makes publications again.

Objects that the log refers to cannot be repaired, only reported; documents made from the log can, unless the run has
let go of what they were made from. Compares hashes and trusts no listing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ray_darts.artifacts.answer import ALPHAS, is_ranked
from ray_darts.artifacts.architecture import architecture_of
from ray_darts.artifacts.best import Best, candidate, check_best
from ray_darts.artifacts.checkpoints import load_checkpoint
from ray_darts.artifacts.experiment import list_runs, read_experiment, read_run, space_layout
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.objects import ObjectStore, get_checked, swap
from ray_darts.artifacts.publications import FinishedRun, Publication, publications_of
from ray_darts.artifacts.released import is_only_copy, read_only_copy
from ray_darts.artifacts.run_log import Entry, find_tip, read_log
from ray_darts.artifacts.selected import selected_candidates
from ray_darts.artifacts.status_index import IndexCheck
from ray_darts.errors import CorruptObject, GenotypeError, MissingObject, PluginError
from ray_darts.genotype.layout import SpaceLayout


@dataclass(frozen=True)
class Problem:
    """One object that is not as it was written; `repaired` when it is again."""

    run: str | None
    key: str
    detail: str
    repaired: bool = False


@dataclass(frozen=True)
class RunFacts:
    """What was read of one run."""

    run: str
    state: Literal["waiting", "unfinished", "finished", "failed"]
    records: int
    step: int
    num_bytes: int


@dataclass(frozen=True)
class VerifyReport:
    """What was read of an experiment, and each problem found."""

    experiment: str
    runs: list[RunFacts]
    problems: list[Problem]

    @property
    def clean(self) -> bool:
        """Whether every problem is repaired."""
        return all(problem.repaired for problem in self.problems)


def verify_experiment(store: ObjectStore, experiment: str, repair: bool = False) -> VerifyReport:
    """Read every object that the experiment refers to. Raises: MissingObject when there is no such experiment."""
    layout = space_layout(read_experiment(store, experiment))
    runs: list[RunFacts] = []
    problems: list[Problem] = []
    finished: list[Best] = []
    index = IndexCheck(store, experiment)
    for run in list_runs(store, experiment):
        verifier = _RunVerifier(store, RunKeys(experiment, run), layout, repair)
        problems += verifier.problems()
        runs.append(verifier.facts())
        index.add(run, verifier.log)
        if verifier.offer is not None:
            finished.append(verifier.offer)
    selected = selected_candidates(store, experiment) if layout.cells else []  # trainings have no selection
    problems += _best_problems(store, experiment, finished, selected, repair)
    wrong, repaired = index.result(repair)
    problems += [Problem(None, ExperimentKeys(experiment).status, detail, repaired) for detail in wrong]
    return VerifyReport(experiment, runs, problems)


class _RunVerifier:
    """One run: its log, the rows and the checkpoint it refers to, its publications."""

    def __init__(self, store: ObjectStore, keys: RunKeys, layout: SpaceLayout, repair: bool) -> None:
        self._store = store
        self._keys = keys
        self._layout = layout
        self._repair = repair
        self._log: list[Entry] = []
        self.log: list[Entry] | None = None  # None where it cannot be read, or breaks a rule
        self.offer: Best | None = None

    def problems(self) -> Iterator[Problem]:
        """Check the log, then, if it is intact, what it refers to, then what is published from it."""
        try:
            self._log = read_log(self._store, self._keys)
        except CorruptObject as error:
            yield self._problem(error)
            return
        broken = [Problem(self._keys.run, self._keys.log, rule) for rule in broken_rules([e.record for e in self._log])]
        yield from broken
        if broken:
            return
        self.log = self._log
        if not self._log:
            return
        referenced = [*self._tried(self._read_rows), *self._tried(self._read_checkpoint)]
        yield from referenced
        if self._log[-1].record.kind == "finish" and not referenced:
            yield from self._publications()

    def facts(self) -> RunFacts:
        """What was read of the run; called after `problems`."""
        if not self._log:
            return RunFacts(self._keys.run, "waiting", 0, 0, 0)
        tip = self._log[-1].record
        released = tip.released
        gone, documents = ((), {}) if released is None else (released.streams, released.documents)
        num_bytes = sum(document.num_bytes for document in documents.values())
        for entry in self._log:
            for stream, parts in entry.record.streams.items():
                num_bytes += sum(part.num_bytes for part in parts if stream not in gone)
        state: Literal["finished", "failed", "unfinished"] = "unfinished"
        if tip.is_last:
            state = "finished" if tip.kind == "finish" else "failed"
        return RunFacts(self._keys.run, state, len(self._log), tip.step, num_bytes)

    def _read_rows(self) -> None:
        """Read every part: alphas with their schema and steps, other streams by their hashes.

        Of a compacted run the trace in place of the parts.
        """
        from ray_darts.artifacts.traces import read_rows

        if any(ALPHAS in entry.record.streams for entry in self._log):
            description = read_run(self._store, self._keys.experiment, self._keys.run)
            width = architecture_of(self._layout, description).width
            for _ in read_rows(self._store, self._keys, self._log, width):
                pass
        for entry in self._log:
            for stream, parts in entry.record.streams.items():
                for part in parts if stream != ALPHAS else ():
                    self._keys.check_part(part.key)
                    get_checked(self._store, part.key, part.sha256)

    def _read_checkpoint(self) -> None:
        tip: Entry | None = self._log[-1]
        while tip is not None and tip.record.checkpoint is not None:
            if tip.record.released is not None and tip.record.released.checkpoint:
                return
            try:
                load_checkpoint(self._store, self._keys, tip.record.checkpoint)
            except MissingObject:
                newer = find_tip(self._store, self._keys)
                if newer is None or newer.record.n == tip.record.n:
                    raise
                tip = newer  # a live writer went on and deleted this checkpoint, or it was let go
            else:
                return

    def _publications(self) -> Iterator[Problem]:
        try:
            description = read_run(self._store, self._keys.experiment, self._keys.run)
        except (MissingObject, CorruptObject) as error:
            yield self._problem(error)
            return
        architecture = architecture_of(self._layout, description)
        finished = FinishedRun(self._store, self._keys, architecture, description, self._log)
        refused = list(self._tried(lambda: _check_answer(finished)))
        yield from refused
        if refused:
            return
        if is_ranked(finished.finish):
            self.offer = candidate(self._keys, description, self._log[-1])
        for name, publication in publications_of(finished.finish, finished.finish_key).items():
            if not is_only_copy(finished.finish, name):
                yield from self._publication(self._keys.document(name), partial(publication.make, finished))
            else:
                yield from self._tried(partial(self._only_copy, finished, name, publication))

    def _only_copy(self, finished: FinishedRun, name: str, publication: Publication) -> None:
        """Compare a document with its record, and what it says of its own rows with them. Raises: CorruptObject."""
        data = read_only_copy(self._store, self._keys, finished.finish, name)
        if publication.streams and not same_table(data, publication.make(finished)):
            key = self._keys.document(name)
            raise CorruptObject(f"{key} names or mixes its alphas otherwise than the log says", key=key)

    def _publication(self, key: str, make: Callable[[], bytes]) -> Iterator[Problem]:
        wanted = make()
        try:
            seen = self._store.get(key).data
        except MissingObject:
            detail = "is missing"
        else:
            if seen == wanted or (key.endswith(".parquet") and same_table(seen, wanted)):
                return
            detail = "differs from what the log says"
        if self._repair:
            self._store.put(key, wanted)
        yield Problem(self._keys.run, key, detail, self._repair)

    def _tried(self, check: Callable[[], None]) -> Iterator[Problem]:
        try:
            check()
        except (MissingObject, CorruptObject, GenotypeError, PluginError) as error:
            yield self._problem(error)

    def _problem(self, error: Exception) -> Problem:
        key = error.key if isinstance(error, MissingObject | CorruptObject) else self._keys.root
        return Problem(self._keys.run, str(key), str(error))


def _check_answer(finished: FinishedRun) -> None:
    """Raise CorruptObject or GenotypeError when the log contradicts what its finish record would publish."""
    for publication in publications_of(finished.finish, finished.finish_key).values():
        publication.check(finished)


def same_table(seen: bytes, wanted: bytes) -> bool:
    """Whether two Parquet files hold the same rows in the same order; one row group in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        left, right = (pq.ParquetFile(pa.BufferReader(data)) for data in (seen, wanted))
        if not left.schema_arrow.equals(right.schema_arrow, check_metadata=True):
            return False
        if left.num_row_groups != right.num_row_groups:
            return False
        return all(left.read_row_group(i).equals(right.read_row_group(i)) for i in range(left.num_row_groups))
    except (pa.ArrowException, OSError):
        return False


def _best_problems(
    store: ObjectStore, experiment: str, interim: list[Best], selected: list[Best], repair: bool
) -> Iterator[Problem]:
    """best.json must equal the answer of a finish record, a selected one also its short training's score, and no
    finished run may beat it."""
    key = ExperimentKeys(experiment).best
    finished = [*interim, *selected]
    detail, etag = _best_problem(store, key, finished)
    if detail is None:
        return
    repaired = False
    if repair and finished:
        winner = finished[0]
        for offer in finished[1:]:
            winner = offer if offer.beats(winner) else winner
        repaired = swap(store, key, winner.to_bytes(), etag) or _best_problem(store, key, finished)[0] is None
    yield Problem(None, key, detail, repaired)


def _best_problem(store: ObjectStore, key: str, finished: list[Best]) -> tuple[str | None, str | None]:
    """What is wrong with best.json (None: nothing), and its ETag."""
    try:
        stored = store.get(key)
    except MissingObject:
        return "is missing" if finished else None, None
    try:
        holder = Best.from_bytes(stored.data, key)
        check_best(store, holder)
    except (MissingObject, CorruptObject, GenotypeError) as error:
        return str(error), stored.etag
    if holder.metric.ranking == "selected" and holder.metric not in [offer.metric for offer in finished]:
        return f"names {holder.run} with {holder.metric.name} {holder.metric.value}, which no training has", stored.etag
    better = [offer.run for offer in finished if offer.beats(holder)]
    return f"names {holder.run}, but {better[0]} is better" if better else None, stored.etag
