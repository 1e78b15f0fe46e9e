"""The search task for every space, order and world size: bilevel steps, decoded at each epoch's end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from ray_darts.config import SearchConfig
from ray_darts.data.batch import Batch
from ray_darts.genotype.layout import ALPHAS
from ray_darts.protocols.dataset import SearchData
from ray_darts.protocols.method import Progress
from ray_darts.protocols.task import RunCoordinates, Sink
from ray_darts.search.architecture import one_hot_mixing
from ray_darts.search.curvature import dominant_eigenvalue
from ray_darts.search.diagnose import first_non_finite, likely_cause
from ray_darts.search.returns import Returns
from ray_darts.search.schedules import Schedules
from ray_darts.search.stages import Stages, build_step
from ray_darts.search.state import gather_tensors, load_tensors_
from ray_darts.search.step import BilevelStep
from ray_darts.search.watch import CollapseWatch
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Supernet
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.evaluation import total_sums
from ray_darts.tasks.loop import TaskLoop
from ray_darts.tasks.memory import naming_what_would_fit, peak_bytes
from ray_darts.tasks.metrics import EpochMetrics, cell_metrics
from ray_darts.tasks.precision import forward_autocast, matmul_precision
from ray_darts.tasks.refusals import naming_settings
from ray_darts.tasks.weight_step import Arrays

_log = logging.getLogger("ray_darts.search")


class SearchLoop(TaskLoop):
    """One run of a search on this rank; ends at the last epoch or at a collapse."""

    kind: ClassVar[str] = "search"
    documents: tuple[str, ...] = ("genotype.json", "alpha_trace.parquet", "metrics.parquet")
    stream: ClassVar[str | None] = ALPHAS

    def __init__(
        self,
        config: SearchConfig,
        coordinates: RunCoordinates,
        data: SearchData,
        collectives: Collectives,
        device: torch.device,
    ) -> None:
        order, seed = coordinates.order, coordinates.seed
        assert order is not None, "a search has a gradient order"
        config = config.with_method(coordinates.method)
        self._stages, self._data = Stages(config), data

        def build() -> BilevelStep:
            return build_step(self._stages, data.facts, order, seed, collectives, device)

        self._build = build
        self.bilevel = build()
        self.layout = config.layout()
        self._schedules = Schedules(self._stages, self.layout)
        self._watch = CollapseWatch(self.layout, config.method, config.search.stop_on_skips, config.watch)
        self._returns = Returns(config.watch, config.weights.weight_decay)
        alphas = self.bilevel.alphas.vector
        super().__init__(config.operation, data, config.total_epochs, collectives, device, row=alphas)

    @property
    def config(self) -> SearchConfig:
        """With the space and the method of the stage."""
        return self.bilevel.config

    @property
    def supernet(self) -> Supernet:
        """Of the stage."""
        return self.bilevel.supernet

    @property
    def _ended(self) -> bool:
        return super()._ended or self._watch.collapsed

    @property
    def _health(self) -> tuple[Tensor, Tensor]:
        return self.bilevel.healthy, self.bilevel.num_healthy

    @property
    def _agreed_state(self) -> Tensor:
        return self.bilevel.alphas.vector

    @property
    def _agreed_name(self) -> str:
        return "alphas"

    def _advance_(self) -> Tensor:
        """Do one bilevel step; return the alphas after it."""
        train, validation = self._batches()
        rate = self._rate() * train.learning_rate_scale
        self._decide_()
        progress = self._progress()
        moves = self._schedules.moves_alphas(self._search_epoch, self.step, self.total_steps)
        with naming_settings("search"), naming_what_would_fit(self.config.search, self._device, "search"):
            self.bilevel.step_(train, validation, rate, move_alphas=moves, progress=progress)
        return self.bilevel.alphas.vector

    def _batches(self) -> tuple[Batch, Batch]:
        """The (train, validation) batches of the next step."""
        return self._data.bilevel_batches(self.epoch, self.index, self._collectives.shard, self._device)

    @property
    def _search_epoch(self) -> int:
        """The epoch of the search's schedules: `epoch`, less what has been taken back."""
        return self.epoch - self._returns.num_epochs

    def _decide_(self) -> None:
        """In the phase after the search: before the first step of every so many epochs, the next decisions."""
        if self.index > 0 or not self._schedules.decides_at(self._search_epoch):
            return
        ranking = self.config.space.ranking
        sign = 1 if ranking.direction == "max" else -1

        def score(mixing: MixingWeights) -> float:
            totals = self._evaluate(mixing, by_batch=True)
            return sign * self.supernet.summarise(totals, "validation")[f"validation_{ranking.metric}"]

        with torch.no_grad():
            self.bilevel.architecture.decide_(score, self._progress())

    def _progress(self, step: int | None = None) -> Progress:
        """Of the next step, or of `step`, counted from 0."""
        return self._schedules.progress(self._search_epoch, self.step if step is None else step, self.total_steps)

    def _rate(self) -> float:
        return self._schedules.rate(self._search_epoch)

    def _next_epoch_(self) -> None:
        target = self._watch.roll_back_to
        if target is not None:
            load_tensors_(self.bilevel, self._returns.go_back(target, self.epoch))
            self._watch.rolled_back()
            self._returns.keep_only(self._watch.states_to_keep())
            self._follow_returns_()
        if self._stages.ends_at(self.epoch) and not self._watch.collapsed:
            before = self.bilevel
            self._stages.enter_next(before.alphas.vector.tolist())
            self.bilevel = self._build()
            self._stages.take_over_(self.bilevel, before)
            self.bilevel.architecture.leave_out_()
            self._watch.begins_anew(restart=self._stages.restarts)
            _log.info("epoch %d: %s", self.epoch, self._stages.describe())
        self.bilevel.totals.zero_()

    def load_state_dict(self, tensors: Mapping[str, NDArray[np.generic]], state: Mapping[str, object]) -> None:
        """Build the stage first, whose tensors these are."""
        stages = state.get("stages", {})
        assert isinstance(stages, Mapping)
        self._stages.load_state_dict(stages)
        if self._stages.index:
            self.bilevel = self._build()
            self.bilevel.architecture.leave_out_()
        super().load_state_dict(tensors, state)

    def _follow_returns_(self) -> None:
        """Set what depends on how often the search has gone back."""
        self.bilevel.sgd.weight_decay = self._returns.weight_decay
        self._epochs = self.config.total_epochs + self._returns.num_epochs
        self.total_steps = self._data.total_steps(self._epochs)

    def _gather(self) -> Arrays:
        return {**gather_tensors(self.bilevel), **self._returns.to_arrays()}

    def _scatter_(self, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        load_tensors_(self.bilevel, tensors)
        self._returns.from_arrays(tensors)

    def _own_state(self) -> dict[str, object]:
        projection = self.bilevel.architecture.projection
        decided = {} if projection is None else {"projection": projection.state_dict()}
        staged = {"stages": self._stages.state_dict()} if self.config.stages else {}
        return {"watch": self._watch.state_dict(), "returns": self._returns.state_dict(), **decided, **staged}

    def _load_own_state_(self, state: Mapping[str, Any]) -> None:
        self._watch.load_state_dict(state["watch"])
        self._returns.load_state_dict(state.get("returns", {}))
        self._follow_returns_()
        projection = self.bilevel.architecture.projection
        if projection is not None:
            projection.load_state_dict(state["projection"])
            self.bilevel.architecture.write_decisions_()

    def _finish(self, sink: Sink) -> tuple[str, Mapping[str, JsonValue]]:
        detail = f"stopped on {self._watch.ended_on}" if self._watch.collapsed else ""
        return detail, self._watch.answer(self.config.space.ranking)

    def _epoch_metrics(self) -> EpochMetrics:
        """The epoch's row of metrics.parquet. Validation: the whole alpha half, with the weights at the epoch's end and
        the space's statistics for evaluation; train: sums over the epoch's weight steps, batch statistics."""
        supernet = self.supernet
        alpha_sums, train_sums = self.bilevel.totals.tolist()
        quality = {**supernet.summarise(train_sums, "train"), **supernet.summarise(self._evaluate(), "validation")}
        flat = self._rows[-1][-1].tolist()
        ranking = quality[f"validation_{self.config.space.ranking.metric}"]
        eigenvalue = self._eigenvalue()
        if eigenvalue is not None:
            quality["validation_eigenvalue"] = eigenvalue
        seen, warning = self._watch.observe(self._search_epoch, self.step, flat, ranking, eigenvalue)
        if self._watch.roll_back_to is None:
            keep = self._watch.states_to_keep()
            self._returns.keep(keep, self._search_epoch, lambda: gather_tensors(self.bilevel))
        else:
            warning = f"{warning}, with {self._returns.next_decay()}"
        if self._watch.collapsed or self.epoch + 1 == self._epochs:
            quality |= self._discrete()
        alpha_step_loss = supernet.summarise(alpha_sums, "alpha_step")["alpha_step_loss"] if alpha_sums[-1] else None
        return EpochMetrics(
            epoch=self.epoch,
            step=self.step,
            train_loss=quality.pop("train_loss"),
            validation_loss=quality.pop("validation_loss"),
            quality=quality,
            alpha_step_loss=alpha_step_loss,
            weight_learning_rate=self._rate(),
            steps_per_s=self._steps_per_s,
            peak_memory_bytes=peak_bytes(self._device),
            cells=cell_metrics(seen),
            genotype=seen.genotype.to_json(),
            warning=warning,
        )

    def _eigenvalue(self) -> float | None:
        """`validation_eigenvalue`, on the epoch's last validation batch; None where the watch wants none."""
        rule = self.config.watch.eigenvalue
        if rule is None or not self._watch.wants_eigenvalue(self._search_epoch):
            return None
        last = self._data.num_steps(self.epoch) - 1
        _, batch = self._data.bilevel_batches(self.epoch, last, self._collectives.shard, self._device)
        return dominant_eigenvalue(self.bilevel, batch, self._progress(self.step - 1), rule.iterations)

    def _discrete(self) -> Mapping[str, float]:
        """`validation_mixed_loss`, `validation_discrete_loss` and so on: the supernet evaluated as it is, and with the
        decoded cells alone, mixed one-hot, with the same weights; their difference is the discretisation gap.

        Both with the statistics of each batch: running statistics are those of the mixture, and would make any other
        mixing weights score as chance.
        """
        genotype = self._watch.genotype
        assert genotype is not None
        mixed = self._evaluate(by_batch=True)
        if not mixed[-1]:  # fewer samples than two for each rank
            return {}
        partial = self.config.method.supernet_options.partial_channels > 1
        alone = one_hot_mixing(self.layout, genotype, self.bilevel.alphas.vector, with_edges=partial)
        discrete = self._evaluate(alone, by_batch=True)
        summarise = self.supernet.summarise
        return {**summarise(mixed, "validation_mixed"), **summarise(discrete, "validation_discrete")}

    def _evaluate(self, fixed: MixingWeights | None = None, *, by_batch: bool = False) -> list[float]:
        """The supernet's sums over the whole alpha half, over all ranks, at the progress of the step just done.

        `fixed`: mixing weights in place of those of the method. `by_batch`: with the statistics of each batch, without
        batches that leave a rank fewer than two samples.
        """
        world_size = self._collectives.shard.world_size
        score = self.supernet.evaluate_by_batch if by_batch else self.supernet.evaluate
        progress, settings = self._progress(self.step - 1), self.config.search
        stream = f"evaluation.{self.epoch}{'.by_batch' if by_batch else ''}"

        def evaluate(batch: Batch, carry: Tensor | None, index: int) -> LossOutput:
            return score(batch, carry, fixed or self.bilevel.architecture.mixing(stream, index, progress))

        with matmul_precision(settings), forward_autocast(settings, self._device):
            batches = self._data.evaluation_batches(self._collectives.shard, self._device)
            if by_batch:
                batches = (batch for batch in batches if batch.draws.total >= 2 * world_size)
            carry, num_sums = self.supernet.initial_carry, len(self.supernet.sum_names)
            return total_sums(batches, evaluate, carry, num_sums, self._collectives, self._device)

    def _find_non_finite(self) -> tuple[dict[str, object], str]:
        train, validation = self._batches()
        found = first_non_finite(self.bilevel, train, validation, self._progress())
        return found, likely_cause(str(found["tensor"]), self.config)

    def _describe_sums(self) -> str:
        alpha_sums, train_sums = self.bilevel.totals.tolist()
        if not train_sums[-1]:
            return "none"
        metrics = dict(self.supernet.summarise(train_sums, "train"))
        if alpha_sums[-1]:
            metrics["alpha_step_loss"] = self.supernet.summarise(alpha_sums, "alpha_step")["alpha_step_loss"]
        moving = self.bilevel.alphas.vector.masked_fill(self.bilevel.architecture.is_frozen, 0.0)
        largest = float(moving.abs().max())
        return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) + f", largest |alpha| {largest:.4g}"
