"""The training loop: it learns, resumes bit for bit, keeps the best weights, averages, restores, and tests once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_darts.config import TrainingConfig
from ray_darts.data.open import open_data
from ray_darts.errors import ConfigError
from ray_darts.protocols.dataset import TrainingData
from ray_darts.protocols.task import Wants
from ray_darts.spaces.derived import LossSettings
from ray_darts.spaces.genotypes import published
from ray_darts.tasks.collectives import SingleRank
from ray_darts.training.build import build_derived
from ray_darts.training.loop import TrainingLoop
from ray_darts.training.step import TrainingStep
from tests.search.searches import Remembering
from tests.training.tiny import CELLS, CPU, text_config, tiny_config, tiny_data, tiny_loop, weights_of

EVERY_MEETING = dict.fromkeys(range(99), Wants(commit=True))


def resumed(
    config: TrainingConfig, sink: Remembering, commit: int, data: TrainingData | None = None, **more: object
) -> TrainingLoop:
    """A loop that goes on from one of the sink's snapshots, which pass through JSON as in a store."""
    snapshot = sink.snapshots[commit]
    loop = tiny_loop(config, data=data, **more)  # type: ignore[arg-type]
    loop.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
    return loop


def test_a_training_resumes_from_every_commit_bit_for_bit() -> None:
    config, sink = tiny_config(), Remembering(EVERY_MEETING)
    whole = tiny_loop(config)
    verdict = whole.run(sink)
    assert (verdict.kind, verdict.step) == ("finished", whole.total_steps)
    assert len(sink.snapshots) > 5
    assert all(snapshot.rows == {} for snapshot in sink.snapshots)
    for commit in range(len(sink.snapshots)):
        loop, rest = resumed(config, sink, commit), Remembering()
        assert loop.run(rest).answer == verdict.answer
        assert weights_of(loop).tobytes() == weights_of(whole).tobytes()
        ended = [epoch.quality for epoch in rest.epochs]
        assert ended == [epoch.quality for epoch in sink.epochs][len(sink.epochs) - len(ended) :]


def test_another_seed_gives_other_weights() -> None:
    config = tiny_config("training.epochs=1")
    loops = [tiny_loop(config), tiny_loop(config, seed=1)]
    for loop in loops:
        loop.run(Remembering())
    assert not np.array_equal(weights_of(loops[0]), weights_of(loops[1]))


def test_it_learns_and_the_record_of_the_best_epoch_is_that_of_its_metrics() -> None:
    config = tiny_config("data.fraction=0.3", "training.epochs=6", "training.drop_path=0", "training.precision=float32")
    loop, sink = tiny_loop(config), Remembering()
    answer = loop.run(sink).answer
    assert answer is not None
    accuracies = [epoch.quality["validation_accuracy"] for epoch in sink.epochs]
    assert max(value for value in accuracies if value is not None) > 0.5
    assert sink.epochs[0].train_loss > sink.epochs[-1].train_loss  # type: ignore[operator]
    assert answer["best_epoch"] == int(np.argmax([value or 0.0 for value in accuracies]))
    assert answer["metric"] == {
        "name": "validation_accuracy",
        "value": accuracies[-1],
        "direction": "max",
        "ranking": "selected",
    }


def test_scoring_changes_no_bit_of_what_is_trained() -> None:
    loop = tiny_loop(tiny_config())
    before = weights_of(loop)
    other = torch.zeros_like(loop.training.weights.vector)
    with loop.training.scored_weights(other, torch.zeros_like(loop.training.statistics.vector)):
        assert not loop.network.training
        assert float(loop.training.weights.vector.abs().max()) == 0
    assert weights_of(loop).tobytes() == before.tobytes()
    assert loop.network.training


def test_the_learning_rate_rises_in_the_warm_up_and_falls_as_the_schedule_says() -> None:
    def rates(*overrides: str) -> list[float]:
        weights = tiny_config("weights.learning_rate=0.8", *overrides).weights
        return [weights.rate(epoch, 4) for epoch in range(4)]

    assert rates() == pytest.approx([0.8, 0.8 * (1 + 2**-0.5) / 2, 0.4, 0.8 * (1 - 2**-0.5) / 2])
    assert rates("weights.schedule=exponential", "weights.decay=0.5") == pytest.approx([0.8, 0.4, 0.2, 0.1])
    assert rates("weights.schedule=constant", "weights.warmup_epochs=4") == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_drop_path_rises_from_zero_over_the_epochs() -> None:
    loop = tiny_loop(tiny_config("training.epochs=5"))
    seen = []
    for epoch in range(5):
        loop.epoch = epoch
        seen.append(loop._loss_settings().drop_path)
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_nesterov_follows_pytorch() -> None:
    config = tiny_config("weights.nesterov=true", "training.drop_path=0", "weights.clip=1e9", "training.epochs=1")
    loop, twin = tiny_loop(config), tiny_loop(config)
    optimiser = torch.optim.SGD(
        twin.network.parameters(), lr=config.weights.rate(0, 1), momentum=0.9, nesterov=True, weight_decay=3e-4
    )
    loop.run(Remembering())
    data = tiny_data(config)
    for index in range(data.num_steps(0)):
        batch = data.training_batch(0, index, loop._collectives.shard, CPU)
        optimiser.zero_grad()
        twin.network.training_loss(batch, None, twin._loss_settings()).loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    torch.testing.assert_close(loop.training.weights.vector, twin.training.weights.vector, rtol=1e-12, atol=1e-14)


def test_an_auxiliary_head_is_off_with_a_message_where_maps_are_too_small(caplog: pytest.LogCaptureFixture) -> None:
    loop = tiny_loop(tiny_config("training.auxiliary_weight=0.4"))
    assert "training without the auxiliary head" in caplog.text
    assert loop.num_parameters[0] == loop.num_parameters[1]
    caplog.clear()
    large = tiny_config("training.auxiliary_weight=0.4", "data.image_size=32")
    loop = tiny_loop(large)
    assert caplog.text == ""
    assert loop.num_parameters[1] > loop.num_parameters[0]


def test_a_step_that_is_not_finite_ends_the_training_and_names_the_tensor() -> None:
    config = tiny_config("weights.learning_rate=1e200", "weights.clip=1e300")
    verdict = tiny_loop(config).run(Remembering())
    assert verdict.kind == "non_finite"
    assert "weights.learning_rate (1e+200)" in verdict.detail
    assert "tensor" in verdict.facts


class Poisoned:
    """Training data whose batches of some steps hold a NaN."""

    def __init__(self, inner: TrainingData, *steps: tuple[int, int]) -> None:
        self._inner, self._steps = inner, steps

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def training_batch(self, epoch: int, index: int, *rest: object) -> object:
        """The batch, with a NaN in those steps."""
        batch = self._inner.training_batch(epoch, index, *rest)  # type: ignore[arg-type]
        if (epoch, index) in self._steps:
            batch.inputs[0] = torch.nan
        return batch


@pytest.mark.parametrize("index", [0, 2, 3], ids=["first", "middle", "last"])
def test_the_best_weights_are_restored_after_a_step_that_is_not_finite(index: int) -> None:
    config = tiny_config("training.restores=1")
    data = Poisoned(tiny_data(config), (1, index))
    sink = Remembering(EVERY_MEETING)
    loop = tiny_loop(config, data=data)  # type: ignore[arg-type]
    verdict = loop.run(sink)
    assert (verdict.kind, verdict.step) == ("finished", loop.total_steps)
    assert verdict.answer is not None
    assert verdict.answer["restores"] == 1
    assert [epoch.epoch for epoch in sink.epochs] == [0, 1, 2]
    assert np.isfinite(weights_of(loop)).all()
    for commit in range(len(sink.snapshots)):
        again = resumed(config, sink, commit, data)  # type: ignore[arg-type]
        assert again.run(Remembering()).answer == verdict.answer
        assert weights_of(again).tobytes() == weights_of(loop).tobytes()


def test_an_epoch_whose_only_step_is_not_finite_has_no_training_loss() -> None:
    config = tiny_config("training.restores=1", "training.batch_size=60")
    sink = Remembering()
    verdict = tiny_loop(config, data=Poisoned(tiny_data(config), (1, 0))).run(sink)  # type: ignore[arg-type]
    assert verdict.kind == "finished"
    assert [epoch.train_loss is None for epoch in sink.epochs] == [False, True, False]


@pytest.mark.parametrize(("restores", "step"), [(0, 6), (1, 9)])
def test_more_failures_than_restores_end_the_training(restores: int, step: int) -> None:
    config = tiny_config(f"training.restores={restores}")
    data = Poisoned(tiny_data(config), (1, 2), (2, 1))
    verdict = tiny_loop(config, data=data).run(Remembering())  # type: ignore[arg-type]
    assert (verdict.kind, verdict.step) == ("non_finite", step)


def test_averaging_begins_when_the_loss_no_longer_falls_and_resumes(tmp_path: Path) -> None:
    config = text_config(tmp_path, "training.average_after=1", "training.epochs=6", "weights.learning_rate=30.0")
    cell = published("DARTS_V1", "recurrent")
    data = open_data(config, 0)
    loop, sink = tiny_loop(config, genotype=cell, data=data), Remembering(EVERY_MEETING)  # type: ignore[arg-type]
    verdict = loop.run(sink)
    losses = [epoch.validation_loss or 0.0 for epoch in sink.epochs]
    first = next(n for n in range(2, 6) if losses[n] > min(losses[: n - 1]))
    states = [(snapshot.epoch, "num_averaged" in snapshot.tensors) for snapshot in sink.snapshots]
    assert all(averages == (epoch > first) for epoch, averages in states)
    kept = [snapshot for snapshot in sink.snapshots if "num_averaged" in snapshot.tensors]
    begin, end = kept[0], kept[-1]
    assert int(end.tensors["num_averaged"]) == end.step - begin.step
    for commit in (0, len(sink.snapshots) // 2, len(sink.snapshots) - 2):
        again = resumed(config, sink, commit, data, genotype=cell)  # type: ignore[arg-type]
        assert again.run(Remembering()).answer == verdict.answer
        assert weights_of(again).tobytes() == weights_of(loop).tobytes()


def test_both_halves_are_trained_on_without_a_validation_part() -> None:
    whole = tiny_config("training.hold_out=false")
    assert "90 + 0 samples (training part + validation part)" in tiny_data(whole).facts.description.notes[-1]
    assert "60 + 30 samples (training part" in tiny_data(tiny_config()).facts.description.notes[-1]
    loop, sink = tiny_loop(whole), Remembering()
    assert sum(loop._data.class_counts) > sum(tiny_data(tiny_config()).class_counts)
    answer = loop.run(sink).answer
    assert answer is not None
    assert answer["validation"] == {"last": None, "best": None}
    assert "weights_best.safetensors" not in loop.documents
    assert not any(name.startswith("best") for name in sink.snapshots[-1].tensors)
    assert sink.epochs[0].validation_loss is None
    with pytest.raises(ConfigError, match="needs hold_out"):
        tiny_config("training.hold_out=false", "training.tested=best")


def test_balanced_class_weights_have_mean_one_over_the_samples() -> None:
    config = tiny_config("training.class_weights=balanced")
    loop = tiny_loop(config)
    counts = torch.tensor(tiny_data(config).class_counts, dtype=torch.float64)
    assert loop._class_weights is not None
    assert float((counts * loop._class_weights).sum() / counts.sum()) == pytest.approx(1.0)
    assert float((counts * loop._class_weights).std()) == pytest.approx(0.0, abs=1e-9)


def test_a_genotype_of_another_space_is_refused() -> None:
    cell = published("DARTS_V1", "recurrent")
    with pytest.raises(ConfigError, match=r"space 'recurrent' cannot be trained with network\.kind 'convolutional'"):
        tiny_loop(tiny_config(), genotype=cell)


def test_a_step_reads_nothing_on_the_host_and_mixes_no_devices() -> None:
    """A step on the meta device raises on every device mix and every read on the host."""
    config = tiny_config("training.class_weights=balanced", "training.label_smoothing=0.1", "training.drop_path=0")
    meta = torch.device("meta")
    with meta:
        network = build_derived(config, CELLS, tiny_data(config).facts, 0)
    step = TrainingStep(config, network, SingleRank(), meta)
    step.begin_averaging_()
    batch = config.data.dummy_batch(tiny_data(config).facts, 4, torch.float64)
    batch = replace(batch, inputs=batch.inputs.to(meta), targets=batch.targets.to(meta))
    weights = torch.ones(10, dtype=torch.float64, device=meta)
    step.step_(batch, 0.1, LossSettings(label_smoothing=0.1, class_weights=weights))
    assert step.weights.vector.device == meta
