"""Synthetic experiments for the tests and the benchmark of the report: histories as a search leaves them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS, SearchAnswer
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.descriptions import DataSummary
from ray_darts.artifacts.experiment import register_experiment, register_run
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.records import Environment, Owner
from ray_darts.artifacts.superseded import BY_DEFAULT, Keeping
from ray_darts.artifacts.writer import RunWriter, claim_run
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.methods.darts import Darts
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.tasks.metrics import EpochMetrics, cell_metrics

EXPERIMENT = "shown"
LAYOUT = convolutional_layout(4)
ENVIRONMENT = Environment(code="ray_darts test", world_size=1, device_kind="cpu", threads=1)
HOSTILE = "<img src=x onerror=\"document.title='taken'\">'\"</script><b>"


def register(
    store: ObjectStore, runs: Iterable[str], *, data: DataSummary | None = None, layout: SpaceLayout = LAYOUT
) -> None:
    """Write the descriptions of the experiment and of its runs."""
    register_experiment(
        store,
        EXPERIMENT,
        identity={"search": {"epochs": 50}, "note": HOSTILE},
        config_digest="0" * 64,
        layout=layout,
        data_digests={"data": "1" * 64},
        code="ray_darts test",
        data=data,
    )
    for seed, run in enumerate(runs):
        register_run(store, EXPERIMENT, run, seed, "first" if run.startswith("first") else "second")


def claimed(
    store: ObjectStore, run: str, host: str = "host", session: str = "5" * 32, keeping: Keeping = BY_DEFAULT
) -> RunWriter:
    """Claim a run for a new start of a session."""
    owner = Owner(session=session, uuid="6" * 32, host=host, pid=1, instance_type="m5.large", spot=True)
    return claim_run(store, EXPERIMENT, run, owner, "0" * 64, ENVIRONMENT, keeping=keeping)


def alphas_of(seed: int, steps: int, layout: SpaceLayout = LAYOUT) -> NDArray[np.float32]:
    """Alphas [steps, num_alphas] that wander, as those of a search do."""
    moves = np.random.default_rng(seed).standard_normal((steps, layout.num_alphas)) * (2.0 / np.sqrt(steps))
    return np.cumsum(moves, 0).astype(np.float32)


def decoded(alphas: NDArray[np.float32], layout: SpaceLayout = LAYOUT) -> Genotype:
    """What the alphas after a step decode to."""
    return Darts().decode(layout, alphas.tolist()).genotype


def epoch_metrics(epoch: int, step: int, alphas: NDArray[np.float32], layout: SpaceLayout = LAYOUT) -> EpochMetrics:
    """What a search reports of an epoch."""
    seen = Darts().decode(layout, alphas.tolist())
    return EpochMetrics(
        epoch=epoch,
        step=step,
        train_loss=2.0 / (epoch + 1),
        validation_loss=2.2 / (epoch + 1),
        quality={"train_accuracy": 1 - 0.9 / (epoch + 1), "validation_accuracy": 1 - 0.95 / (epoch + 1)},
        alpha_step_loss=2.1 / (epoch + 1),
        weight_learning_rate=0.025 * (1 - epoch / 100),
        steps_per_s=11.5,
        peak_memory_bytes=10**9,
        cells=cell_metrics(seen),
        genotype=seen.genotype.to_json(),
        warning=f"too many skips {HOSTILE}" if epoch == 2 else None,
    )


def advance(
    writer: RunWriter,
    alphas: NDArray[np.float32],
    to: int,
    steps_per_epoch: int,
    total: int,
    layout: SpaceLayout = LAYOUT,
) -> None:
    """Make everything up to step `to` durable."""
    first = writer.step + 1
    steps = np.arange(first, to + 1)
    ended = [
        epoch_metrics(step // steps_per_epoch - 1, step, alphas[step - 1], layout)
        for step in range(first, to + 1)
        if step % steps_per_epoch == 0
    ]
    epochs = ((steps - 1) // steps_per_epoch).astype(np.int32)
    writer.advance(
        to, {"alphas": alphas[first - 1 : to]}, epochs, ended, Checkpoint({}, {"step": to}), total_steps=total
    )


def whole_run(
    store: ObjectStore,
    run: str,
    seed: int,
    steps: int = 30,
    epochs: int = 5,
    *,
    publish: bool = True,
    session: str = "5" * 32,
    layout: SpaceLayout = LAYOUT,
    keeping: Keeping = BY_DEFAULT,
) -> None:
    """A run from its claim, or from where it was left, to its end, with a commit in each epoch."""
    writer, alphas = claimed(store, run, session=session, keeping=keeping), alphas_of(seed, steps, layout)
    each = steps // epochs
    for end in range(writer.step // each * each + each, steps + 1, each):
        advance(writer, alphas, end, each, steps, layout)
    metric = {"name": "supernet_validation_accuracy", "value": 0.5 + seed / 1000, "direction": "max"}
    writer.finish(SearchAnswer.new(decoded(alphas[-1], layout), steps, metric).to_data(), SEARCH_DOCUMENTS)
    if publish:
        publish_run(store, EXPERIMENT, run)


def run_names(number: int) -> list[str]:
    """Half of them of first order."""
    return [f"{'first' if seed % 2 == 0 else 'second'}-order-seed-{seed}" for seed in range(number)]


def whole_experiment(store: ObjectStore, number: int, steps: int = 30, epochs: int = 5) -> None:
    """An experiment whose runs have all finished; its classes have hostile names."""
    summary = DataSummary(classes=(HOSTILE, "cats"), samples=(5, 5), image_size=8, channels=1, mean=(0.5,), std=(0.25,))
    register(store, run_names(number), data=summary)
    for seed, run in enumerate(run_names(number)):
        whole_run(store, run, seed, steps, epochs)


def mixed_experiment(store: ObjectStore) -> None:
    """Four finished runs, one of which changed hands, one under way and one that failed; hostile names."""
    names = run_names(6)
    summary = DataSummary(classes=(HOSTILE, "cats"), samples=(5, 5), image_size=8, channels=1, mean=(0.5,), std=(0.25,))
    register(store, names, data=summary)
    first = claimed(store, names[0], host=HOSTILE)
    advance(first, alphas_of(0, 500), 100, 100, 500)
    for seed, run in enumerate(names[:4]):
        whole_run(store, run, seed, 500, 5, session="7" * 32)
    advance(claimed(store, names[4]), alphas_of(4, 500), 200, 100, 500)
    claimed(store, names[5]).fail("non_finite", f"the loss of rank 0 is not finite in step 1 {HOSTILE}")
