"""One run from claim to publication, as every rank executes it; needs neither Ray nor a second process.

Rank 0 alone speaks to the store: it claims before anything is loaded, shares the checkpoint, commits, finishes and
publishes. Verdicts are returned; only a lost process raises.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from safetensors.numpy import load, save

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS, SearchAnswer
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.experiment import read_experiment, register_documents
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.records import Environment, Owner
from ray_darts.artifacts.run_log import find_tip
from ray_darts.artifacts.writer import RunWriter, claim_run
from ray_darts.data.open import open_data
from ray_darts.errors import ConfigError, DataError, RankFailed, RankLost, RunFinished
from ray_darts.orchestration.assignment import Assignment
from ray_darts.orchestration.committer import Committer
from ray_darts.orchestration.group import LastWords
from ray_darts.orchestration.outcome import Outcome, outcome_of
from ray_darts.orchestration.plan import check_identity
from ray_darts.orchestration.run_sink import RunSink
from ray_darts.orchestration.surroundings import Quiet, Surroundings
from ray_darts.orchestration.together import ride_out, share_bytes, wait_together
from ray_darts.search.collectives import Alone, Collectives
from ray_darts.search.loop import SearchLoop
from ray_darts.search.sink import Verdict

logger = logging.getLogger("ray_darts.orchestration")

_STOP_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Place:
    """Where a rank computes and who is around it; `last_words` is None for a rank alone."""

    collectives: Collectives = field(default_factory=Alone)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    surroundings: Surroundings = field(default_factory=Quiet)
    last_words: LastWords | None = None


def search_run(
    assignment: Assignment, store: ObjectStore, owner: Owner, environment: Environment, place: Place
) -> Outcome:
    """Search until the run ends, is stopped or fails; every rank calls, and rank 0's outcome is the run's.

    Raises: RankLost, and what a broken device raises: the caller's restart goes on from the last durable step.
    """
    try:
        return _search(assignment, store, owner, environment, place)
    except RankLost:
        word = None if place.last_words is None else place.last_words.read()
        if word is None:
            raise
        return word
    except torch.AcceleratorError:
        raise
    except Exception as error:
        outcome = outcome_of(error)
        if outcome.kind == "error" and not isinstance(error, RankFailed):
            logger.exception("the run cannot go on")
        if place.last_words is not None:
            place.last_words.leave(outcome)
        return outcome


def _search(
    assignment: Assignment, store: ObjectStore, owner: Owner, environment: Environment, place: Place
) -> Outcome:
    config, collectives, device = assignment.config, place.collectives, place.device
    leads = collectives.shard.rank == 0
    give_up_s = config.operation.give_up_s
    writer = wait_together(
        collectives,
        (lambda: ride_out(lambda: _claim(assignment, store, owner, environment), give_up_s)) if leads else None,
        device,
    )
    checkpoint = _shared_checkpoint(assignment, writer, place)
    data = wait_together(collectives, lambda: open_data(config, assignment.seed), device)
    assert data is not None
    _check_digests(assignment.data_digests, data.digests)
    if data.documents:
        keep = partial(register_documents, store, assignment.experiment, assignment.run, data.documents)
        wait_together(collectives, (lambda: ride_out(keep, give_up_s)) if leads else None, device)
    loop = SearchLoop(config, assignment.order, assignment.seed, data, collectives, device)
    if checkpoint is not None:
        loop.load_state_dict(checkpoint.tensors, checkpoint.state)
        logger.info("continuing after step %d of %d", loop.step, loop.total_steps)
    committer = None
    if writer is not None:
        committer = Committer(
            writer,
            total_steps=loop.total_steps,
            max_pending=config.operation.max_pending_commits,
            give_up_s=give_up_s,
            committed=lambda step, seconds: place.surroundings.gauge("commit_seconds", seconds),
        )
    sink = RunSink(config.operation, collectives, device, place.surroundings, committer)
    verdict = loop.run(sink)
    if writer is None or committer is None:
        return Outcome("error", "only rank 0 knows how the run ended", verdict.step)
    return _conclude(assignment, store, writer, committer, verdict)


def _claim(assignment: Assignment, store: ObjectStore, owner: Owner, environment: Environment) -> RunWriter:
    """Claim the run; what is missing of one that has finished is published first. Raises: as `claim_run`."""
    config = assignment.config
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
            retry_failed=assignment.retry_failed,
            keep_checkpoints=config.store.keep_checkpoints,
        )
    except RunFinished:
        publish_run(store, assignment.experiment, assignment.run)
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
    """Local batch norm is another function at each world size. Raises: ConfigError."""
    if assignment.config.search.batch_norm == "sync" or assignment.allow_local_batch_norm:
        return
    tip = find_tip(store, RunKeys(assignment.experiment, assignment.run))
    if tip is None or tip.record.checkpoint is None or tip.record.environment.world_size == world_size:
        return
    raise ConfigError(
        f"the run was searched by {tip.record.environment.world_size} workers with local batch norm, which is another "
        f"function for {world_size}: use as many workers, search.batch_norm=sync from the start, or "
        "--allow-local-batch-norm",
        world_size=tip.record.environment.world_size,
    )


def _shared_checkpoint(assignment: Assignment, writer: RunWriter | None, place: Place) -> Checkpoint | None:
    """Rank 0 reads the checkpoint, every rank gets it."""
    give_up_s = assignment.config.operation.give_up_s
    read = wait_together(
        place.collectives,
        None if writer is None else lambda: ride_out(writer.load_checkpoint, give_up_s),
        place.device,
    )
    if place.collectives.shard.world_size == 1:
        return read
    tensors, state = b"", b""
    if read is not None:
        tensors, state = (
            save({name: read.tensors[name] for name in sorted(read.tensors)}),
            json.dumps(read.state).encode(),
        )
    leads = writer is not None
    tensors = share_bytes(place.collectives, tensors if leads else None, place.device)
    state = share_bytes(place.collectives, state if leads else None, place.device)
    return Checkpoint(load(tensors), json.loads(state)) if state else None


def _check_digests(wanted: Mapping[str, str], seen: Mapping[str, str]) -> None:
    for name, digest in wanted.items():
        if seen.get(name) != digest:
            raise DataError(
                f"this worker's {name} has digest {seen.get(name, 'none')[:16]}, the experiment's is {digest[:16]}: "
                "every node must see the same data (data.path)",
                digest=name,
            )


def _conclude(
    assignment: Assignment, store: ObjectStore, writer: RunWriter, committer: Committer, verdict: Verdict
) -> Outcome:
    """Rank 0: wait for the last commit, then end the run in the log and publish. Raises: what the store does."""
    stopped = verdict.kind == "stopped"
    committer.close(_STOP_PATIENCE_S if stopped else None)
    if stopped:
        plain = {"kind": verdict.detail, "detail": f"resumable after step {writer.step}", "step": writer.step}
        return Outcome.from_plain(plain)
    give_up_s = assignment.config.operation.give_up_s
    if verdict.kind == "finished":
        assert verdict.genotype is not None
        answer = SearchAnswer.new(verdict.genotype, verdict.genotype_step, verdict.metric).to_data()
        ride_out(lambda: writer.finish(answer, SEARCH_DOCUMENTS), give_up_s)
        ride_out(lambda: publish_run(store, assignment.experiment, assignment.run), give_up_s)
        return Outcome("finished", verdict.detail, writer.step)
    facts = json.loads(json.dumps(verdict.facts))
    ride_out(lambda: writer.fail(verdict.kind, verdict.detail, facts), give_up_s)
    return Outcome("failed", verdict.detail, writer.step)
