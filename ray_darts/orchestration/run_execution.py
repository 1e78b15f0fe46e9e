"""One run from claim to publication, as every rank executes it; needs neither a Ray cluster nor a second process.

Rank 0 alone uses the store: it claims the run before anything is loaded, shares the checkpoint, commits, finishes and
publishes. Every end of a run is returned as a RunOutcome; only a lost process raises.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch
from safetensors.numpy import load, save

from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.compact import conclude_run
from ray_darts.artifacts.experiment import read_experiment, register_documents
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.openings import record_opening
from ray_darts.artifacts.records import EndKind, Environment, Owner
from ray_darts.artifacts.run_log import find_tip
from ray_darts.artifacts.superseded import Keeping
from ray_darts.artifacts.writer import RunWriter, claim_run
from ray_darts.errors import ConfigError, DataError, RankFailed, RankLost, RunFailed, RunFinished
from ray_darts.orchestration.assignment import Assignment, OutcomeKind, RunOutcome, outcome_of
from ray_darts.orchestration.data_access import DataCache
from ray_darts.orchestration.group import FailureMailbox
from ray_darts.orchestration.kernel_choice import choose_kernel
from ray_darts.orchestration.rank_waiting import retry_during_outage, run_on_ranks, share_bytes
from ray_darts.orchestration.requests import check_identity
from ray_darts.orchestration.run_sink import Committer, RunSink
from ray_darts.orchestration.runtime_hooks import NoHooks, RuntimeHooks
from ray_darts.protocols.registry import find_task
from ray_darts.protocols.task import Verdict
from ray_darts.tasks.collectives import Collectives, SingleRank

logger = logging.getLogger("ray_darts.orchestration")

_Result = TypeVar("_Result")

_ENDED: tuple[OutcomeKind | None, ...] = (None, "finished", "failed")
"""How a run had ended before it was claimed, as the ranks send it to each other."""


@dataclass(frozen=True)
class RankContext:
    """What a rank computes with: the other ranks, the device, the hooks of its process, and the group's mailbox.

    `mailbox` is None where the run has one rank; `data`: kept from run to run of a worker group.
    """

    collectives: Collectives = field(default_factory=SingleRank)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    hooks: RuntimeHooks = field(default_factory=NoHooks)
    mailbox: FailureMailbox | None = None
    data: DataCache = field(default_factory=DataCache)


@dataclass(frozen=True)
class _OutageWait:
    """Waits out an outage of the store for `give_up_s`, or until the command asks for a stop."""

    give_up_s: float
    hooks: RuntimeHooks

    def __call__(self, call: Callable[[], _Result], waiting: str) -> _Result:
        return retry_during_outage(call, self.give_up_s, waiting, stopped=self.hooks.stop_requested)


def execute_run(
    assignment: Assignment, store: ObjectStore, owner: Owner, environment: Environment, context: RankContext
) -> RunOutcome:
    """Do the assignment's task until it ends, is stopped or fails; every rank calls. Rank 0's outcome is the run's.

    Returns: the outcome; of another rank than 0 only its kind counts, which is the same on every rank.
    Raises: RankLost, and what a broken device raises: a restart goes on from the last durable step.
    """
    writer: RunWriter | None = None
    waits = _OutageWait(assignment.config.operation.give_up_s, context.hooks)
    try:
        assignment, environment = choose_kernel(
            assignment, store, environment, context.collectives, context.device, waits
        )
        claimed = _claim_on_rank_0(assignment, store, owner, environment, context)
        if isinstance(claimed, RunOutcome):
            return claimed
        writer = claimed
        return _execute(assignment, store, writer, context)
    except RankLost:
        posted = None if context.mailbox is None else context.mailbox.read()
        if posted is None:
            raise
        return _at_durable_step(posted, writer)
    except torch.AcceleratorError:
        raise
    except Exception as error:  # noqa: BLE001 - Ray would repeat whatever is raised; a retry would fail alike
        return _at_durable_step(post_failure(error, context.mailbox), writer)


def _at_durable_step(outcome: RunOutcome, writer: RunWriter | None) -> RunOutcome:
    """The outcome with the last step that is in the log, which rank 0 knows."""
    return outcome if writer is None else replace(outcome, step=writer.step)


def post_failure(error: Exception, mailbox: FailureMailbox | None) -> RunOutcome:
    """Log the error of this rank, post the outcome that it means to the other ranks, and return the outcome."""
    outcome = outcome_of(error)
    if outcome.kind in ("error", "refused") and not isinstance(error, RankFailed):
        logger.error("the run cannot go on", exc_info=error)
    if mailbox is not None:
        mailbox.post(outcome)
    return outcome


def _claim_on_rank_0(
    assignment: Assignment, store: ObjectStore, owner: Owner, environment: Environment, context: RankContext
) -> RunWriter | RunOutcome | None:
    """Claim on rank 0 while the others wait; every rank calls.

    Returns: the writer on rank 0 and None on the others; or on every rank an outcome, of a run that has ended before.
    """
    hooks, collectives = context.hooks, context.collectives
    through_outages = _OutageWait(assignment.config.operation.give_up_s, hooks)

    def claim() -> RunWriter | RunOutcome:
        start = partial(_claim, assignment, store, owner, environment, hooks.previous_end)
        try:
            return through_outages(start, "the claim of the run")
        except (RunFinished, RunFailed) as ended:
            return outcome_of(ended)

    claimed = run_on_ranks(collectives, claim if collectives.shard.rank == 0 else None, context.device)
    ended = claimed if isinstance(claimed, RunOutcome) else None
    has_ended = torch.tensor([0 if ended is None else _ENDED.index(ended.kind)], device=context.device)
    collectives.sum_(has_ended)
    kind = _ENDED[int(has_ended)]
    return (ended or RunOutcome(kind)) if kind is not None else claimed


def _execute(assignment: Assignment, store: ObjectStore, writer: RunWriter | None, context: RankContext) -> RunOutcome:
    config, collectives, device, hooks = assignment.config, context.collectives, context.device, context.hooks
    is_rank_0 = writer is not None
    through_outages = _OutageWait(config.operation.give_up_s, hooks)
    checkpoint = _shared_checkpoint(writer, through_outages, context)
    data = run_on_ranks(collectives, lambda: context.data.open(config, assignment.coordinates.seed), device)
    assert data is not None
    _check_digests(assignment.data_digests, data.digests)
    if data.documents:
        register = partial(register_documents, store, assignment.experiment, assignment.run, data.documents)
        run_on_ranks(collectives, (lambda: through_outages(register, "the vocabulary")) if is_rank_0 else None, device)
    task = find_task(assignment.task)(config, assignment.coordinates, data, collectives, device)
    if checkpoint is not None:
        task.load_state_dict(checkpoint.tensors, checkpoint.state)
        logger.info("continuing after step %d of %d", task.step, task.total_steps)
    committer = None
    if writer is not None:
        committer = Committer(
            writer,
            total_steps=task.total_steps,
            max_pending=config.operation.max_pending_commits,
            give_up_s=config.operation.give_up_s,
            committed=hooks.committed,
        )
    operation = config.operation
    keys = RunKeys(assignment.experiment, assignment.run)

    def record(digest: str) -> int:
        return through_outages(partial(record_opening, store, keys, digest), "the record of the test")

    sink = RunSink(operation.commit_every_s, operation.report_every_s, collectives, device, hooks, committer, record)
    verdict = task.run(sink)
    conclude: Callable[[], RunOutcome] | None = None
    if writer is not None and committer is not None:
        conclude = partial(_conclude, assignment, store, writer, committer, through_outages, verdict, task.documents)
    return run_on_ranks(collectives, conclude, device) or _kind_of(verdict)


def _claim(
    assignment: Assignment, store: ObjectStore, owner: Owner, environment: Environment, previous_end: EndKind | None
) -> RunWriter:
    """Claim the run; publish what is missing if it has finished. Raises: as `claim_run`, ConfigError."""
    config, kept = assignment.config, assignment.config.store
    described = read_experiment(store, assignment.experiment)
    check_identity(described, config)
    _check_world_size(assignment, store, environment.world_size)
    try:
        writer = claim_run(
            store,
            assignment.experiment,
            assignment.run,
            owner,
            described.config_digest,
            environment,
            task=assignment.task,
            retry_failed=assignment.retry_failed,
            keeping=Keeping(kept.keep_checkpoints, kept.keep_finished_checkpoints, config.operation.trace_every_steps),
            previous_end=previous_end,
        )
    except RunFinished:
        conclude_run(store, assignment.experiment, assignment.run, kept.keep_finished_checkpoints)
        raise
    if writer.displaced is not None:
        holder = writer.displaced
        logger.warning(
            "displacing session %s on %s (pid %d), whose last record is %.0f s old",
            holder.session[:8],
            holder.host,
            holder.pid,
            writer.displaced_age_s or 0.0,
        )
    return writer


def _check_world_size(assignment: Assignment, store: ObjectStore, world_size: int) -> None:
    """Refuse to continue local batch norm, which depends on the world size, at another one. Raises: ConfigError."""
    if assignment.config.batch_norm == "sync" or assignment.allow_world_size_change:
        return
    tip = find_tip(store, RunKeys(assignment.experiment, assignment.run))
    if tip is None or tip.record.checkpoint is None or tip.record.environment.world_size == world_size:
        return
    raise ConfigError(
        f"the run was done by {tip.record.environment.world_size} workers with local batch norm, whose results "
        f"differ with {world_size}: use as many workers, {assignment.config.BATCH_NORM}=sync from the start, or "
        "--allow-world-size-change",
        world_size=tip.record.environment.world_size,
    )


def _shared_checkpoint(
    writer: RunWriter | None, through_outages: _OutageWait, context: RankContext
) -> Checkpoint | None:
    """Read the checkpoint on rank 0 and return it on every rank; None at the start of a run."""
    read = run_on_ranks(
        context.collectives,
        None if writer is None else lambda: through_outages(writer.load_checkpoint, "the checkpoint"),
        context.device,
    )
    if context.collectives.shard.world_size == 1:
        return read
    tensors, state = b"", b""
    if read is not None:
        tensors, state = (
            save({name: read.tensors[name] for name in sorted(read.tensors)}),
            json.dumps(read.state).encode(),
        )
    is_rank_0 = writer is not None
    tensors = share_bytes(context.collectives, tensors if is_rank_0 else None, context.device)
    state = share_bytes(context.collectives, state if is_rank_0 else None, context.device)
    return Checkpoint(load(tensors), json.loads(state)) if state else None


def _check_digests(wanted: Mapping[str, str], seen: Mapping[str, str]) -> None:
    for name, digest in wanted.items():
        if seen.get(name) != digest:
            raise DataError(
                f"this worker's {name} has digest {seen.get(name, 'none')[:16]}, the experiment's is {digest[:16]}: "
                "every node must see the same data (data.path)",
                digest=name,
            )


def _kind_of(verdict: Verdict) -> RunOutcome:
    """The outcome that a verdict means, where nothing goes wrong with its last record."""
    if verdict.kind == "stopped":
        return RunOutcome.from_plain({"kind": verdict.detail, "detail": "", "step": verdict.step})
    return RunOutcome("finished" if verdict.kind == "finished" else "failed", verdict.detail, verdict.step)


def _conclude(
    assignment: Assignment,
    store: ObjectStore,
    writer: RunWriter,
    committer: Committer,
    through_outages: _OutageWait,
    verdict: Verdict,
    documents: tuple[str, ...],
) -> RunOutcome:
    """On rank 0: wait for the last commit, end the run in the log, publish. Raises: StoreError."""
    stopped = verdict.kind == "stopped"
    committer.close(
        assignment.config.operation.stop_patience_s, (lambda: True) if stopped else through_outages.hooks.stop_requested
    )
    if stopped:
        plain = {"kind": verdict.detail, "detail": f"resumable after step {writer.step}", "step": writer.step}
        return RunOutcome.from_plain(plain)
    if verdict.kind == "finished":
        answer = verdict.answer
        assert answer is not None
        through_outages(lambda: writer.finish(answer, documents), "the last record")
        keep = assignment.config.store.keep_finished_checkpoints
        through_outages(lambda: conclude_run(store, assignment.experiment, assignment.run, keep), "the publication")
        return RunOutcome("finished", verdict.detail, writer.step)
    facts = json.loads(json.dumps(verdict.facts))
    through_outages(lambda: writer.fail(verdict.kind, verdict.detail, facts), "the last record")
    return RunOutcome("failed", verdict.detail, writer.step)
