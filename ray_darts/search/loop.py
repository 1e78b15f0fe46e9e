"""The search loop for every space, order and world size. Passes results to a sink; knows no storage and no Ray.

Runs epochs of bilevel steps. At each epoch's end it evaluates the alpha half, decodes the alphas and gives everything
to the sink. Every `agree_every_steps` steps the ranks compare digests of their alphas and decide together.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.config import SearchConfig
from ray_darts.errors import AlphaDivergence, NonFiniteStep, SearchError
from ray_darts.genotype.layout import ALPHAS
from ray_darts.protocols.dataset import SearchData
from ray_darts.protocols.method import Order, Progress
from ray_darts.protocols.task import Sink, Snapshot, Verdict
from ray_darts.search.agreement import Agreement, agree
from ray_darts.search.batch_norm import moments_reducer
from ray_darts.search.collectives import Collectives
from ray_darts.search.diagnose import first_non_finite, likely_cause
from ray_darts.search.memory import naming_what_would_fit, peak_bytes
from ray_darts.search.optimisers import learning_rate
from ray_darts.search.precision import forward_autocast, matmul_precision
from ray_darts.search.state import gather_tensors, load_tensors_
from ray_darts.search.step import BilevelStep
from ray_darts.search.watch import CollapseWatch
from ray_darts.spaces.batch_norm import synchronise
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.metrics import CellMetrics, EpochMetrics

_PAUSE_S = 1.0


class SearchLoop:
    """One run of a search on this rank; all ranks make the same calls.

    `step` counts finished bilevel steps, `epoch` finished epochs, `index` finished steps of the current epoch.
    """

    kind: ClassVar[str] = "search"
    documents: ClassVar[tuple[str, ...]] = ("genotype.json", "alpha_trace.parquet", "metrics.parquet")

    def __init__(
        self,
        config: SearchConfig,
        order: Order,
        seed: int,
        data: SearchData,
        collectives: Collectives,
        device: torch.device,
    ) -> None:
        self.config, self._data, self._collectives, self._device = config, data, collectives, device
        supernet = build_supernet(config, data.facts, seed, device)
        self.layout, self.supernet = supernet.layout, supernet
        if config.search.batch_norm == "sync" and collectives.shard.world_size > 1:
            synchronise(supernet, moments_reducer(collectives))
        self.bilevel = BilevelStep(config, order, supernet, seed, collectives, device)
        self._watch = CollapseWatch(self.layout, config.method, config.search.stop_on_skips)
        self.step = self.epoch = self.index = 0
        self.total_steps = data.total_steps(config.search.epochs)
        self._width = self.bilevel.alphas.size
        self._window = torch.zeros(config.operation.agree_every_steps, self._width, dtype=torch.float32, device=device)
        self._started_at = 0
        self._forget_commits()

    def _forget_commits(self) -> None:
        self._rows: list[NDArray[np.float32]] = []
        self._row_epochs: list[int] = []
        self._metrics: list[EpochMetrics] = []
        self._num_in_window = 0
        self._committed = self.step

    def state_dict(self) -> dict[str, object]:
        """The JSON-able part of the state; the arrays come from `state.gather_tensors`."""
        return {"step": self.step, "epoch": self.epoch, "index": self.index, "watch": self._watch.state_dict()}

    def load_state_dict(self, tensors: Mapping[str, NDArray[np.generic]], state: Mapping[str, object]) -> None:
        """Continue from a Snapshot's tensors and state, written at any world size."""
        load_tensors_(self.bilevel, tensors)
        step, epoch, index, watch = (state[key] for key in ("step", "epoch", "index", "watch"))
        assert isinstance(step, int)
        assert isinstance(epoch, int)
        assert isinstance(index, int)
        assert isinstance(watch, Mapping)
        self.step = self._started_at = step
        self.epoch, self.index = epoch, index
        self._watch.load_state_dict(watch)
        self._forget_commits()

    def run(self, sink: Sink) -> Verdict:
        """Search until the last epoch, a collapse, a stop or a failure; the same verdict on every rank.

        Raises: StepOutOfMemory; any error of the data, of the sink or of a lost rank.
        """
        self._epoch_clock = time.monotonic(), self.step
        while self.epoch < self.config.search.epochs and not self._watch.collapsed:
            with naming_what_would_fit(self.config.search, self._device):
                self._advance_()
            at_end = self.index == self._data.num_steps(self.epoch)
            if at_end or self.step % self.config.operation.agree_every_steps == 0:
                verdict = self._meet(sink, at_end)
                if verdict is not None:
                    return verdict
        detail = "stopped on skips" if self._watch.collapsed else ""
        return Verdict("finished", self.step, detail, answer=self._watch.answer(self.config.space.ranking))

    def _advance_(self) -> None:
        """Do one bilevel step; the host reads nothing from the device."""
        train, validation = self._data.bilevel_batches(self.epoch, self.index, self._collectives.shard, self._device)
        rate = self._rate(self.epoch, train.learning_rate_scale)
        warm = self.epoch >= self.config.search.alpha_warmup_epochs
        self.bilevel.step_(train, validation, rate, move_alphas=warm, progress=self._progress())
        self._window[self._num_in_window].copy_(self.bilevel.alphas.vector)
        self._num_in_window += 1
        self._row_epochs.append(self.epoch)
        self.step += 1
        self.index += 1

    def _progress(self, step: int | None = None) -> Progress:
        """Of the next step, or of `step`, counted from 0 here."""
        return Progress(self.step if step is None else step, self.total_steps, self.epoch, self.config.search.epochs)

    def _rate(self, epoch: int, scale: float) -> float:
        return learning_rate(self.config.weights, epoch, self.config.search.epochs) * scale

    def _meet(self, sink: Sink, at_end: bool) -> Verdict | None:
        """Read alphas and health from the device, agree with the other ranks; return a verdict if the run ends here."""
        if self._num_in_window:
            self._rows.append(self._window[: self._num_in_window].to("cpu", copy=True).numpy())
            self._num_in_window = 0
        agreed = self._agree(sink)
        if agreed.diverged:
            return self._diverged(agreed)
        if not agreed.healthy:
            return self._non_finite(sink, agreed)
        if at_end:
            self._end_epoch(sink)
        while agreed.pause and agreed.stop is None:
            time.sleep(_PAUSE_S)
            agreed = self._agree(sink)
        if agreed.stop in ("superseded", "store_given_up"):
            return Verdict("stopped", self.step, detail=agreed.stop)
        if at_end or agreed.commit or agreed.stop is not None:
            self._commit(sink, self.step)
        return None if agreed.stop is None else Verdict("stopped", self.step, detail=agreed.stop)

    def _agree(self, sink: Sink) -> Agreement:
        alphas = self.bilevel.alphas.vector.detach().cpu().numpy().tobytes()
        healthy, count = bool(self.bilevel.healthy), int(self.bilevel.num_healthy)
        return agree(self._collectives, sink.wants(), alphas, healthy, count, self._device)

    def _end_epoch(self, sink: Sink) -> None:
        metrics = self._epoch_metrics()
        self.epoch += 1
        self.index = 0
        self.bilevel.totals.zero_()
        self._epoch_clock = time.monotonic(), self.step
        self._metrics.append(metrics)
        sink.epoch(metrics)

    def _epoch_metrics(self) -> EpochMetrics:
        """The epoch's row of metrics.parquet. Validation: the whole alpha half, with the weights at the epoch's end and
        the space's statistics for evaluation; train: sums over the epoch's weight steps, batch statistics."""
        supernet = self.supernet
        alpha_sums, train_sums = self.bilevel.totals.tolist()
        quality = {**supernet.summarise(train_sums, "train"), **supernet.summarise(self._evaluate(), "validation")}
        flat = self._rows[-1][-1].tolist()
        ranking = quality[f"validation_{self.config.space.ranking.metric}"]
        seen, warning = self._watch.observe(self.epoch, self.step, flat, ranking)
        began, first = self._epoch_clock
        alpha_step_loss = supernet.summarise(alpha_sums, "alpha_step")["alpha_step_loss"] if alpha_sums[-1] else None
        return EpochMetrics(
            epoch=self.epoch,
            step=self.step,
            train_loss=quality.pop("train_loss"),
            validation_loss=quality.pop("validation_loss"),
            quality=quality,
            alpha_step_loss=alpha_step_loss,
            weight_learning_rate=self._rate(self.epoch, 1.0),
            steps_per_s=(self.step - first) / max(time.monotonic() - began, 1e-9),
            peak_memory_bytes=peak_bytes(self._device),
            cells={
                cell.name: CellMetrics(
                    entropy=seen.entropy[cell.name],
                    skips=seen.skips[cell.name],
                    parameter_free=seen.parameter_free[cell.name],
                    margins=seen.margins[cell.name],
                )
                for cell in self.layout.cells
            },
            genotype=seen.genotype.to_json(),
            warning=warning,
        )

    def _evaluate(self) -> list[float]:
        """The supernet's sums over the whole alpha half, over all ranks, at the progress of the step just done."""
        totals = torch.zeros(len(self.supernet.sum_names), dtype=torch.float64, device=self._device)
        progress = self._progress(self.step - 1)
        carry = None
        settings = self.config.search
        with torch.no_grad(), matmul_precision(settings), forward_autocast(settings, self._device):
            for index, batch in enumerate(self._data.evaluation_batches(self._collectives.shard, self._device)):
                if batch.starts_epoch:
                    carry = self.supernet.initial_carry(batch.num_samples, self._device)
                mixing = self.bilevel.architecture.mixing(f"evaluation.{self.epoch}", index, progress)
                output = self.supernet.evaluate(batch, carry, mixing)
                carry = output.carry
                totals += output.sums
        self._collectives.sum_(totals)
        sums: list[float] = totals.tolist()
        return sums

    def _commit(self, sink: Sink, step: int) -> None:
        """Commit steps up to `step` through rank 0's sink; every rank takes part in gathering carries."""
        rows = step - self._committed
        if rows == 0 and not self._metrics:
            return
        tensors = gather_tensors(self.bilevel)
        if self._collectives.shard.rank == 0:
            alphas = np.concatenate(self._rows)[:rows] if self._rows else np.zeros((0, self._width), np.float32)
            sink.commit(
                Snapshot(
                    step=step,
                    epoch=self.epoch,
                    first_step=self._committed + 1,
                    rows={ALPHAS: alphas},
                    epochs=np.asarray(self._row_epochs[:rows], dtype=np.int32),
                    metrics=self._metrics,
                    tensors=tensors,
                    state=json.loads(json.dumps(self.state_dict())),
                )
            )
        self._forget_commits()

    def _diverged(self, agreed: Agreement) -> Verdict:
        ranks = list(agreed.diverged)
        message = f"the alphas of ranks {ranks} differ from rank 0's at step {self.step}"
        return _failed("divergence", self.step, AlphaDivergence(message, ranks=ranks, step=self.step))

    def _non_finite(self, sink: Sink, agreed: Agreement) -> Verdict:
        """Reset the loop to the step that failed, name the tensor, and commit the steps before it."""
        bad = self._started_at + agreed.num_healthy
        while self.step > bad:
            self.index -= 1
            self.step -= 1
        shard, device = self._collectives.shard, self._device
        train, validation = self._data.bilevel_batches(self.epoch, self.index, shard, device)
        found = first_non_finite(self.bilevel, train, validation, self._progress())
        self._row_epochs = self._row_epochs[: bad - self._committed]
        self._commit(sink, bad)
        tensor, verb = str(found["tensor"]), "are" if found["tensor"] in ("alphas", "weights") else "is"
        message = (
            f"{tensor} of rank {found['rank']} {verb} not finite in step {bad + 1}; "
            f"{likely_cause(tensor, self.config)}. The steps of epoch {self.epoch} before it: {self._describe_sums()}"
        )
        return _failed("non_finite", bad, NonFiniteStep(message, **found, step=bad + 1))

    def _describe_sums(self) -> str:
        """The metrics of the epoch's finite steps so far."""
        alpha_sums, train_sums = self.bilevel.totals.tolist()
        if not train_sums[-1]:
            return "none"
        metrics = dict(self.supernet.summarise(train_sums, "train"))
        if alpha_sums[-1]:
            metrics["alpha_step_loss"] = self.supernet.summarise(alpha_sums, "alpha_step")["alpha_step_loss"]
        largest = float(self.bilevel.alphas.vector.abs().max())
        return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) + f", largest |alpha| {largest:.4g}"


def _failed(kind: Literal["non_finite", "divergence"], step: int, error: SearchError) -> Verdict:
    """Return the error as a verdict instead of raising it: Ray would retry the run after an exception."""
    return Verdict(kind, step, f"{type(error).__name__}: {error}", error.facts)
