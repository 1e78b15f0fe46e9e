"""The training task: a derived network from scratch, validated each epoch, tested once at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from ray_darts.config import TrainingConfig
from ray_darts.data.batch import Batch, to_device
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.dataset import TrainingData
from ray_darts.protocols.method import Progress
from ray_darts.protocols.registry import find_space
from ray_darts.protocols.task import RunCoordinates, Sink
from ray_darts.spaces.batch_norm import synchronise
from ray_darts.spaces.derived import LossSettings
from ray_darts.spaces.supernet import LossOutput
from ray_darts.tasks.batch_norm import moments_reducer
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.diagnosis import first_found, loss_findings
from ray_darts.tasks.evaluation import total_sums
from ray_darts.tasks.loop import TaskLoop
from ray_darts.tasks.memory import naming_what_would_fit, peak_bytes
from ray_darts.tasks.metrics import EpochMetrics
from ray_darts.tasks.precision import forward_autocast, matmul_precision
from ray_darts.tasks.refusals import naming_settings
from ray_darts.tasks.weight_step import Arrays
from ray_darts.training.build import build_derived
from ray_darts.training.record import TrainingRecord, finite_or_none
from ray_darts.training.step import TrainingStep


class TrainingLoop(TaskLoop):
    """One training of one genotype with one seed on this rank."""

    kind: ClassVar[str] = "training"

    def __init__(
        self,
        config: TrainingConfig,
        coordinates: RunCoordinates,
        data: TrainingData,
        collectives: Collectives,
        device: torch.device,
    ) -> None:
        assert coordinates.genotype is not None, "a training has a genotype"
        self.config, self._data = config, data
        self._genotype, self._plain_genotype = Genotype.from_data(coordinates.genotype), coordinates.genotype
        self._ranking = find_space(self._genotype.space).ranking
        network = build_derived(config, self._genotype, data.facts, coordinates.seed)
        if config.training.batch_norm == "sync" and collectives.shard.world_size > 1:
            synchronise(network, moments_reducer(collectives))
        self.num_parameters = network.main_parameters, sum(weight.numel() for weight in network.parameters())
        self.training = TrainingStep(config, network, collectives, device)
        self.network = network
        self.record = TrainingRecord(self._ranking)
        self._best: tuple[Tensor, Tensor] | None = None
        balanced = config.training.class_weights == "balanced"
        self._class_weights = _class_weights(data.class_counts, device) if balanced else None
        super().__init__(config.operation, data, config.training.epochs, collectives, device)

    @property
    def documents(self) -> tuple[str, ...]:
        """The best weights are among them once a validation had a finite metric."""
        best = () if self._best is None else ("weights_best.safetensors",)
        return ("result.json", "weights_last.safetensors", *best, "metrics.parquet")

    @property
    def _health(self) -> tuple[Tensor, Tensor]:
        return self.training.healthy, self.training.num_healthy

    @property
    def _agreed_state(self) -> Tensor:
        return self.training.weights.vector

    def _advance_(self) -> None:
        """One SGD step."""
        batch = self._batch()
        rate = self._rate(self.epoch) * batch.learning_rate_scale
        with naming_settings("training"), naming_what_would_fit(self.config.training, self._device, "training"):
            self.training.step_(batch, rate, self._loss_settings())

    def _batch(self) -> Batch:
        return self._data.training_batch(self.epoch, self.index, self._collectives.shard, self._device)

    def _rate(self, epoch: int) -> float:
        return self.config.weights.rate(epoch, self._epochs)

    def _loss_settings(self) -> LossSettings:
        """Of this epoch: drop-path rises linearly from 0 (arXiv:1806.09055, appendix A.2.1)."""
        training = self.config.training
        return LossSettings(
            label_smoothing=training.label_smoothing,
            auxiliary_weight=training.auxiliary_weight,
            drop_path=training.drop_path * self.epoch / self._epochs,
            class_weights=self._class_weights,
        )

    def _epoch_metrics(self) -> EpochMetrics:
        """The epoch's row. Train: sums over its steps, in train mode; validation: the held-out part at its end."""
        totals = self.training.totals.tolist()
        quality = dict(self.network.summarise(totals, "train")) if totals[-1] else {}  # no step may have been finite
        if self.config.training.hold_out:
            with self.training.scored_weights():
                validation = self._validate()
                if self.record.observe(self.epoch, validation):
                    self._best = self.training.weights.vector.clone(), self.training.statistics.vector.clone()
            quality |= validation
            averages = self.training.average is not None
            if not averages and self.record.averaging_is_due(self.config.training.average_after):
                self.training.begin_averaging_()
        return EpochMetrics(
            epoch=self.epoch,
            step=self.step,
            train_loss=quality.pop("train_loss", None),
            validation_loss=quality.pop("validation_loss", None),
            quality=quality,
            weight_learning_rate=self._rate(self.epoch),
            steps_per_s=self._steps_per_s,
            peak_memory_bytes=peak_bytes(self._device),
        )

    def _validate(self) -> dict[str, float]:
        batches = self._data.validation_batches(self._collectives.shard, self._device)
        return dict(self.network.summarise(self._score(batches), "validation"))

    def _score(self, batches: Any) -> list[float]:
        """The network's sums over `batches` and ranks, with the present weights, in eval mode."""
        training = self.config.training

        def evaluate(batch: Batch, carry: Tensor | None, index: int) -> LossOutput:
            return self.network.evaluate(batch, carry)

        with matmul_precision(training), forward_autocast(training, self._device):
            carry, num_sums = self.network.initial_carry, len(self.network.sum_names)
            return total_sums(batches, evaluate, carry, num_sums, self._collectives, self._device)

    def _next_epoch_(self) -> None:
        self.training.totals.zero_()

    def _finish(self, sink: Sink) -> tuple[str, Mapping[str, JsonValue]]:
        """Score the test set once, with the last or the best weights."""
        which = self.config.training.tested
        best = self._best if which == "best" else None
        test: dict[str, JsonValue] | None = None
        if self.config.training.test:
            openings = sink.test_opened(self._data.digests["data"])
            progress = Progress(self.step, self.total_steps, self.epoch, self._epochs)
            opened = sink.while_waiting(lambda: self._data.open_test(progress))
            if opened is not None:
                with self.training.scored_weights(*(best or ())):
                    sums = self._score(opened.batches(self._collectives.shard, self._device))
                scores = self.network.summarise(sums, "test")
                test = {name: finite_or_none(value) for name, value in scores.items()}
                test |= {"digest": opened.digest, "samples": opened.num_samples, "openings": openings}
        validation = self.record.last if best is None else self.record.best
        return "", self._answer("last" if best is None else "best", validation, test)

    def _answer(
        self, which: str, validation: Mapping[str, float | None] | None, test: Mapping[str, JsonValue] | None
    ) -> dict[str, JsonValue]:
        name, scores = f"validation_{self._ranking.metric}", dict(validation or {})
        ranking = "selected"
        if test is not None:
            name, ranking = f"test_{self._ranking.metric}", "trained"
        value = (test or scores).get(name)
        main, whole = self.num_parameters
        return {
            "genotype": self._plain_genotype,
            "metric": {"name": name, "value": value, "direction": self._ranking.direction, "ranking": ranking},
            "weights": which,
            "best_epoch": self.record.best_epoch,
            "validation": {"last": self.record.last, "best": self.record.best},  # type: ignore[dict-item]
            "test": None if test is None else dict(test),
            "parameters": main,
            "parameters_with_auxiliary": whole,
            "averaged": self.training.average is not None,
            "restores": self.record.restores,
        }

    def _gather(self) -> Arrays:
        training, arrays = self.training, self.training.to_host()
        if self._best is not None:
            weights, statistics = self._best
            arrays |= training.weights.to_host(weights, "best")
            arrays |= training.statistics.to_host(statistics, "best_statistics")
        return arrays

    def _scatter_(self, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        training, self._best = self.training, None
        training.from_host_(tensors)
        if any(name.startswith("best/") for name in tensors):
            self._best = torch.empty_like(training.weights.vector), torch.empty_like(training.statistics.vector)
            training.weights.from_host_(self._best[0], tensors, "best")
            training.statistics.from_host_(self._best[1], tensors, "best_statistics")

    def _own_state(self) -> dict[str, object]:
        return {"record": self.record.state_dict()}

    def _load_own_state_(self, state: Mapping[str, Any]) -> None:
        self.record.load_state_dict(state["record"])

    def _recover_(self) -> bool:
        """Go on after the failed step from the best weights, at most `training.restores` times."""
        if self._best is None or self.record.restores >= self.config.training.restores:
            return False
        self.record.restores += 1
        self.training.restore_(*self._best)
        return True

    def _find_non_finite(self) -> tuple[dict[str, object], str]:
        batch = self._batch()
        statistics = self.training.statistics.vector.clone()
        findings = {"training input": batch.inputs.is_floating_point() and not bool(torch.isfinite(batch.inputs).all())}
        objective = self.training.objective(batch, self._loss_settings())
        findings |= loss_findings(objective, self.training.weights, 1 + len(self.network.sum_names), "training")
        self.training.statistics.vector.copy_(statistics)
        found = first_found(findings, self._collectives, self._device, "weights")
        if str(found["tensor"]).endswith("input"):
            return found, "the data hold values that are not finite: check data.path"
        rate = f"weights.learning_rate ({self.config.weights.learning_rate:g})"
        return found, f"as a rule {rate} is too high, or the data are not normalised"

    def _describe_sums(self) -> str:
        sums = self.training.totals.tolist()
        if not sums[-1]:
            return "none"
        return ", ".join(f"{name} {value:.4g}" for name, value in self.network.summarise(sums, "train").items())


def _class_weights(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """1 / samples of each class, scaled to a mean of 1 over the training samples; 0 for a class without samples."""
    total, present = sum(counts), sum(count > 0 for count in counts)
    weights = [total / (present * count) if count else 0.0 for count in counts]
    return to_device(torch.tensor(weights, dtype=torch.float64), device)
