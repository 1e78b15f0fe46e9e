"""A tiny experiment for the tests of the store: what a search would write, without a search.

Alphas are a function of the step alone, as those of a deterministic search are, so any two complete traces are equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS, SearchAnswer
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.experiment import register_experiment, register_run
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.parts import Rows
from ray_darts.artifacts.records import EndKind, Environment, Owner
from ray_darts.artifacts.superseded import BY_DEFAULT, Keeping
from ray_darts.artifacts.writer import RunWriter, claim_run
from ray_darts.genotype.genotype import Genotype
from ray_darts.methods.darts import Darts
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.tasks.metrics import CellMetrics, EpochMetrics

EXPERIMENT = "tiny"
RUN = "second-order-seed-3"
KEYS = RunKeys(EXPERIMENT, RUN)
PUBLISHED = tuple(KEYS.document(name) for name in SEARCH_DOCUMENTS)
LAYOUT = convolutional_layout(1)
DIGEST = "0" * 64
STEPS_PER_EPOCH = 3
ENVIRONMENT = Environment(code="test", world_size=1, device_kind="cpu", threads=1)


def owner(session: str) -> Owner:
    """A new worker-group start of a session."""
    return Owner(session=session, uuid=uuid4().hex, host="host", pid=1)


def register(store: ObjectStore, *runs: tuple[str, int]) -> None:
    """Write the descriptions of the experiment and of its runs (default: RUN)."""
    register_experiment(
        store,
        EXPERIMENT,
        identity={"search": {"epochs": 50}},
        config_digest=DIGEST,
        layout=LAYOUT,
        data_digests={},
        code="test",
    )
    for run, seed in runs or ((RUN, 3),):
        register_run(store, EXPERIMENT, run, seed, "second")


def claimed(
    store: ObjectStore,
    session: str = "a",
    run: str = RUN,
    retry_failed: bool = False,
    previous_end: EndKind | None = None,
    keeping: Keeping = BY_DEFAULT,
) -> RunWriter:
    """Claim a run for a new worker-group start of a session."""
    return claim_run(
        store,
        EXPERIMENT,
        run,
        owner(session),
        DIGEST,
        ENVIRONMENT,
        retry_failed=retry_failed,
        keeping=keeping,
        previous_end=previous_end,
        clock=lambda: 0.0,  # records differ in nothing that a test did not choose
    )


def alphas_after(step: int) -> NDArray[np.float32]:
    """The alphas after a step, float32 [num_alphas]."""
    return np.random.default_rng(step).standard_normal(LAYOUT.num_alphas).astype(np.float32)


def check_alphas(found: Iterable[Rows], last: int, first: int = 1) -> None:
    """Assert that rows are those of the steps `first` to `last`, each once, bit for bit."""
    rows = [(int(step), alphas) for each in found for step, alphas in zip(each.steps, each.values, strict=True)]
    assert [step for step, _ in rows] == list(range(first, last + 1))
    assert all(alphas.tobytes() == alphas_after(step).tobytes() for step, alphas in rows)


def genotype_after(step: int) -> Genotype:
    """What the alphas after a step decode to."""
    return Darts().decode(LAYOUT, alphas_after(step).tolist()).genotype


def epoch_of(step: int) -> int:
    """The epoch in which a step (from 1) is done."""
    return (step - 1) // STEPS_PER_EPOCH


def checkpoint_after(step: int) -> Checkpoint:
    """A loop's state after a step."""
    return Checkpoint({"weights": np.full(5, step, np.float32), "buffer": np.array(step, np.float64)}, {"step": step})


def epoch_metrics(epoch: int) -> EpochMetrics:
    """What a loop reports of an epoch."""
    cell = CellMetrics(entropy=2.0, skips=1, parameter_free=1, margins=(0.1, 0.2))
    return EpochMetrics(
        epoch=epoch,
        step=(epoch + 1) * STEPS_PER_EPOCH,
        train_loss=1.0 / (epoch + 1),
        validation_loss=2.0 / (epoch + 1),
        cells={layout.name: cell for layout in LAYOUT.cells},
    )


def advance(writer: RunWriter, step: int) -> None:
    """Make everything up to `step` durable."""
    steps = range(writer.step + 1, step + 1)
    alphas = np.array([alphas_after(s) for s in steps], np.float32).reshape(len(steps), LAYOUT.num_alphas)
    epochs = np.array([epoch_of(s) for s in steps], np.int32)
    ended = [epoch_metrics(epoch_of(s)) for s in steps if s % STEPS_PER_EPOCH == 0]
    writer.advance(step, {"alphas": alphas}, epochs, ended, checkpoint_after(step), total_steps=9)


def answer(step: int, value: float | None = 0.5) -> dict[str, JsonValue]:
    """The answer of a search whose genotype is that of a step."""
    metric = {"name": "supernet_validation_accuracy", "value": value, "direction": "max"}
    return SearchAnswer.new(genotype_after(step), step, metric).to_data()


def finish(writer: RunWriter, value: float = 0.5) -> None:
    """End the run with the answer of its last step."""
    writer.finish(answer(writer.step, value), SEARCH_DOCUMENTS)


def whole_run(store: ObjectStore, run: str = RUN, steps: int = 9, value: float = 0.5) -> RunWriter:
    """A run that nothing interrupts."""
    writer = claimed(store, run=run)
    for step in range(2, steps, 2):
        advance(writer, step)
    advance(writer, steps)
    finish(writer, value)
    return writer
