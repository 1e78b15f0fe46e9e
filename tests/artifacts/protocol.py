"""The run log protocol as a state machine: sessions, starts, kills, lost replies, clones and collection in any order.

After each step the invariants are checked against the store itself; at the end every run is driven to its finish. The
checks share nothing with the package but the documents' form and the rules of a log.
"""

from __future__ import annotations

import copy
import hashlib
from collections import deque
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ray_darts.artifacts import collect, publish, verify
from ray_darts.artifacts.answer import SEARCH_DOCUMENTS
from ray_darts.artifacts.best import Best
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.parts import decode_part
from ray_darts.artifacts.records import ObjectRef, Record
from ray_darts.artifacts.traces import trace_rows
from ray_darts.artifacts.writer import RunWriter
from ray_darts.errors import RunFailed, RunFinished, StoreUnavailable, Superseded
from tests.artifacts.memory_store import Fault, Killed, MemoryStore
from tests.artifacts.moves import (
    RUNS,
    Process,
    Store,
    amounts_kept,
    claim_at_last,
    pauses,
    runs,
    schedules,
    with_faults,
    works,
)
from tests.artifacts.runs import EXPERIMENT, LAYOUT, advance, check_alphas, claimed, finish, register

MAX_STEP = 12
WIDTH = LAYOUT.num_alphas


class Protocol(RuleBasedStateMachine):
    """What anybody may do at any time, and what must hold nevertheless."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make_store()
        self.store.sweep = self.sweep
        register(self.store, *RUNS)
        self.processes: list[Process] = []
        self.sessions = self.sweeps = 0
        self.seen: dict[str, bytes] = {}
        self.parsed: dict[str, Record] = {}
        self.checked: set[str] = set()
        self.acknowledged: dict[str, tuple[Process, bytes]] = {}
        self.best: Best | None = None
        self.keys = {run: RunKeys(EXPERIMENT, run) for run, _ in RUNS}

    def make_store(self) -> Store:
        return MemoryStore()

    @initialize()
    def begin(self) -> None:
        for run in self.keys:
            self.type_the_command(run, [])

    @rule(run=runs, faults=schedules)
    def type_the_command(self, run: str, faults: list[Fault | None]) -> None:
        self.sessions += 1
        self.start(run, f"session-{self.sessions}", faults)

    @precondition(lambda self: self.processes)
    @rule(index=st.integers(0, 20), faults=schedules, kill=st.booleans())
    def restart(self, index: int, faults: list[Fault | None], kill: bool) -> None:
        """A worker group starts again; the one before may still be alive."""
        process = self.pick(index)
        if kill:
            self.processes.remove(process)
        self.start(process.run, process.session, faults)

    @precondition(lambda self: self.processes)
    @rule(index=st.integers(0, 20), does=works, amount=st.integers(0, 3), faults=schedules)
    def work(self, index: int, does: str, amount: int, faults: list[Fault | None]) -> None:
        """A process appends; an amount is rows or tenths of accuracy."""
        process = self.pick(index)
        step = min(process.writer.step + amount, MAX_STEP)
        if does == "advance" or process.writer.step == 0:
            self.act(process, lambda writer: advance(writer, step), faults)
        elif does == "finish":
            self.act(process, lambda writer: finish(writer, amount / 10), faults)
        else:
            self.act(process, lambda writer: writer.fail("non_finite", "NaN"), faults)

    @precondition(lambda self: self.processes)
    @rule(index=st.integers(0, 20), does=works)
    def clone(self, index: int, does: str) -> None:
        """A machine is restored from a snapshot while the original goes on: both do the same."""
        process = self.pick(index)
        if process.owed is None:
            twin = copy.copy(process.writer)
            twin._superseded = copy.copy(process.writer._superseded)
            twin._superseded.kept = deque(process.writer._superseded.kept)
            twin._superseded.old = deque(process.writer._superseded.old)
            both = process, Process(process.run, process.session, twin)
            self.processes.append(both[1])
            for one in both:
                if does == "advance":
                    self.act(one, lambda writer: advance(writer, writer.step + 1), [])
                elif does == "finish" and one.writer.step > 0:
                    self.act(one, finish, [])
                elif does == "fail":
                    self.act(one, lambda writer: writer.fail("non_finite", "NaN"), [])

    @rule(run=runs, faults=schedules)
    def publish(self, run: str, faults: list[Fault | None]) -> None:
        with_faults(self.store, faults, lambda: publish.publish_run(self.store, EXPERIMENT, run))

    @rule(faults=schedules, compact=st.booleans(), keep=amounts_kept, pause=pauses)
    def collect(self, faults: list[Fault | None], compact: bool, keep: int, pause: int | None) -> None:
        """A collector; another one, which may want less or more, comes between its reads and writes."""
        with_faults(self.store, faults, lambda: self.sweep(compact, keep), pause)

    def pick(self, index: int) -> Process:
        """The newest process for 0, older ones for larger numbers."""
        return self.processes[-1 - index % len(self.processes)]

    def start(self, run: str, session: str, faults: list[Fault | None]) -> None:
        """A worker group starts: its claim may die, be refused, or be overtaken."""
        self.store.overtake = lambda: self.interlope(run)
        retry = session.endswith(("0", "5"))
        writer = with_faults(self.store, faults, lambda: claimed(self.store, session, run, retry_failed=retry))
        if writer is not None:
            process = Process(run, session, writer)
            self.acknowledge(process)
            self.processes.append(process)

    def interlope(self, run: str) -> None:
        """A new session comes between."""
        self.sessions += 1
        self.start(run, f"session-{self.sessions}", [])

    def sweep(self, compact: bool | None = None, keep: int | None = None) -> None:
        """A collection that waits for nothing, not even for age; what it lets go changes by turns."""
        self.sweeps += 1
        compact = self.sweeps % 4 == 0 if compact is None else compact
        keep = self.sweeps % 3 if keep is None else keep
        collect.collect_experiment(
            self.store, EXPERIMENT, 0.0, delete=True, compact=compact, keep_finished_checkpoints=keep
        )

    def act(self, process: Process, wanted: Callable[[RunWriter], None], faults: list[Fault | None]) -> None:
        """Let a process append; what it owes from an earlier try comes first."""
        act = process.owed or wanted
        process.owed = act
        self.store.overtake = lambda: self.interlope(process.run)
        self.store.schedule = list(faults)
        try:
            act(process.writer)
        except StoreUnavailable:
            return
        except (Killed, RunFinished, RunFailed):
            self.processes.remove(process)
            return
        except Superseded:
            self.processes.remove(process)
            self.check_superseded(process)
            return
        finally:
            self.store.schedule = []
        process.owed = None
        self.acknowledge(process)

    def check_superseded(self, process: Process) -> None:
        """Nobody is superseded by a record of its own whose answer was lost."""
        pending = process.writer._pending
        assert pending is not None
        there = self.store.objects[self.keys[process.run].record(pending.record.n)]
        assert there != pending.record.to_bytes(), "a writer took its own record for another's"

    def acknowledge(self, process: Process) -> None:
        """Believe what a writer believes: this record is mine, and durable."""
        key = self.keys[process.run].record(process.writer.record.n)
        holder, _ = self.acknowledged.setdefault(key, (process, self.store.objects[key]))
        assert holder is process, f"two writers believe that {key} is theirs"

    @invariant()
    def what_was_written_stays(self) -> None:
        for key, data in self.seen.items():
            assert self.store.objects.get(key) == data, f"{key} changed or vanished"
        for key, (_, data) in self.acknowledged.items():
            assert self.store.objects.get(key) == data, f"{key} was acknowledged"

    @invariant()
    def every_log_keeps_its_rules(self) -> None:
        for run in self.keys:
            log = self.log(run)
            assert not list(broken_rules(log))
            assert all(
                "alphas" in record.streams for n, record in enumerate(log) if n and record.step > log[n - 1].step
            )
            holders = [record.owner.session for record in log]
            turns = [session for n, session in enumerate(holders) if n == 0 or holders[n - 1] != session]
            assert len(turns) == len(set(turns)), f"a displaced session came back: {turns}"

    @invariant()
    def what_a_log_refers_to_is_there(self) -> None:
        for run, keys in self.keys.items():
            log = self.log(run)
            released = log[-1].released if log else None
            for document, kept in ({} if released is None else released.documents).items():
                data = self.store.objects.get(keys.document(document))
                assert data is not None, f"{document} of {run} stands for its parts, but is gone"
                assert (hashlib.sha256(data).hexdigest(), len(data)) == (kept.sha256, kept.num_bytes)
                check_alphas(trace_rows(data, document, WIDTH), log[-1].step)
            for record in log:
                for part in record.parts if released is None or not released.streams else ():
                    name = keys.part_name(part.key)
                    assert name is not None
                    assert name.term == record.term
                    if self.check(part):
                        rows = decode_part(self.store.objects[part.key], part.key, WIDTH, part.first, part.last)
                        check_alphas([rows], part.last, part.first)
            if log and log[-1].checkpoint is not None and not (released is not None and released.checkpoint):
                self.check(log[-1].checkpoint.tensors)
                self.check(log[-1].checkpoint.state)

    @invariant()
    def only_finished_runs_are_published(self) -> None:
        for run, keys in self.keys.items():
            log = self.log(run)
            finished = bool(log) and log[-1].kind == "finish"
            assert finished or not any(keys.document(name) in self.store.objects for name in SEARCH_DOCUMENTS)

    @invariant()
    def the_best_is_of_a_finished_run_and_never_gets_worse(self) -> None:
        key = ExperimentKeys(EXPERIMENT).best
        if key not in self.store.objects:
            assert self.best is None
            return
        best = Best.from_bytes(self.store.objects[key], key)
        tip = self.log(best.run)[-1]
        assert tip.kind == "finish"
        finish = self.parsed[best.record_key]
        assert (finish.kind, finish.released) == ("finish", None)
        assert hashlib.sha256(self.store.objects[best.record_key]).hexdigest() == best.record_sha256
        assert tip.answer is not None
        assert (tip.answer["genotype"], tip.answer["metric"]) == (best.genotype, best.metric.model_dump(mode="json"))
        if self.best is not None and best != self.best:
            assert best.metric.value is not None
            assert self.best.metric.value is not None
            assert (-best.metric.value, best.run) < (-self.best.metric.value, self.best.run)
        self.best = best

    def keys_below(self, prefix: str) -> list[str]:
        return sorted(key for key in self.store.objects if key.startswith(prefix))

    def log(self, run: str) -> list[Record]:
        """The records of a run; without a gap, or it fails."""
        keys = self.keys[run]
        found = self.keys_below(keys.log)
        assert found == [keys.record(n) for n in range(len(found))]
        for key in found:
            if key not in self.parsed:
                self.seen[key] = self.store.objects[key]
                self.parsed[key] = Record.from_bytes(self.store.objects[key], key)
        return [self.parsed[key] for key in found]

    def check(self, ref: ObjectRef) -> bool:
        """Whether a referenced object was checked for the first time; fails unless it is there and whole."""
        data = self.store.objects.get(ref.key)
        assert data is not None, f"{ref.key} is referred to, but gone"
        fresh = ref.key not in self.checked
        if fresh:
            assert hashlib.sha256(data).hexdigest() == ref.sha256
            self.checked.add(ref.key)
        return fresh

    def teardown(self) -> None:
        """Whatever happened, a new session brings every run to its end, whole."""
        self.store.schedule = []
        for run, keys in self.keys.items():
            log = self.log(run)
            if not log or log[-1].kind != "finish":
                writer = claim_at_last(self.store, run)
                advance(writer, max(writer.step, MAX_STEP) + 1)
                finish(writer)
            publish.publish_run(self.store, EXPERIMENT, run)
            assert self.store.objects[keys.genotype]
        self.sweep()
        self.the_best_is_of_a_finished_run_and_never_gets_worse()
        self.every_log_keeps_its_rules()
        self.what_a_log_refers_to_is_there()
        if self.sessions % 4 == 0:
            report = verify.verify_experiment(self.store, EXPERIMENT)
            assert report.clean, report.problems
