"""One training step and all device-side state that it changes: weights, momentum, statistics, their average, carry.

The host reads nothing here. If any value is not finite on any rank, that step and all later steps change nothing on
any rank: `healthy` stays on the device and masks each update; `num_healthy` counts the steps before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.config import TrainingConfig
from ray_darts.data.batch import Batch
from ray_darts.spaces.derived import DerivedNetwork, LossSettings
from ray_darts.spaces.supernet import LossOutput
from ray_darts.tasks.collectives import Collectives, all_shards, own_shard
from ray_darts.tasks.gradient import Objective
from ray_darts.tasks.objective import batch_objective
from ray_darts.tasks.precision import parameter_dtype
from ray_darts.tasks.weight_step import Arrays, WeightStep


class TrainingStep:
    """Updates one network; after each step all ranks have bitwise equal weights, averages and statistics.

    `totals` float64 [len(sum_names)]: the network's sums over all ranks since the epoch began. `average`: of the
    weights after each step since `begin_averaging_`, None before (ASGD, arXiv:1708.02182, section 3: the plain mean;
    that of torch.optim.ASGD with t0 = 0 leaves the first of these steps out).
    """

    def __init__(
        self, config: TrainingConfig, network: DerivedNetwork, collectives: Collectives, device: torch.device
    ) -> None:
        self.config, self.collectives, self.device = config, collectives, device
        self.network = network.to(device=device, dtype=parameter_dtype(config.training)).train()
        self.weight_step = WeightStep(network, config.weights, collectives)
        self.weights, self.statistics = self.weight_step.weights, self.weight_step.statistics
        self._loss = network.training_loss
        if config.operation.compile:
            torch.compiler.reset()  # runs of one worker group are other networks
            self._loss = torch.compile(self._loss, dynamic=False, backend=config.operation.compile_backend)
        self.healthy = torch.ones((), dtype=torch.bool, device=device)
        self.num_healthy = torch.zeros((), dtype=torch.int64, device=device)
        self.totals = torch.zeros(len(network.sum_names), dtype=torch.float64, device=device)
        self.carry: Tensor | None = None
        self.average: Tensor | None = None
        self._num_averaged = torch.zeros((), dtype=torch.float64, device=device)

    def step_(self, batch: Batch, rate: float, settings: LossSettings) -> None:
        """One SGD step on the global batch of `batch`, at learning rate `rate`."""
        if batch.starts_epoch:
            self.carry = self.network.initial_carry(batch.num_samples, self.device)
        carries: list[Tensor] = []
        objective = self.objective(batch, settings, carries)
        num_extras = 1 + len(self.network.sum_names)
        extras, self.healthy = self.weight_step.step_(objective, batch.share, rate, self.healthy, num_extras)
        if carries and self.carry is not None:
            self.carry = torch.where(self.healthy, torch.cat(carries), self.carry)
        self.totals.add_(torch.where(self.healthy, extras[1:].double(), 0.0))
        self.num_healthy.add_(self.healthy)
        if self.average is not None:
            self._num_averaged.add_(self.healthy)
            share = (1 / self._num_averaged.clamp(min=1)).to(self.average.dtype)
            moved = self.average + (self.weights.vector - self.average) * share
            self.average.copy_(torch.where(self.healthy, moved, self.average))

    def objective(self, batch: Batch, settings: LossSettings, carries: list[Tensor] | None = None) -> Objective:
        """The training loss on `batch`; each micro-batch's new carry is appended to `carries`."""

        def loss_of(micro: Batch, part: Tensor | None, full: bool) -> LossOutput:
            return self._loss(micro, part, settings)

        return batch_objective(self.config.training, batch, self.carry, self.device, loss_of, carries)

    def begin_averaging_(self) -> None:
        """Average the weights after each step from now on."""
        self.average = self.weights.vector.clone()
        self._num_averaged.zero_()

    @contextmanager
    def scored_weights(self, weights: Tensor | None = None, statistics: Tensor | None = None) -> Iterator[None]:
        """Evaluate the network inside with the given weights and statistics; without, with the average or the present
        ones. Restores all bit for bit."""
        training = self.weights.vector.clone(), self.statistics.vector.clone()
        scored = self.average if weights is None else weights
        self.network.eval()
        try:
            if scored is not None:
                self.weights.vector.copy_(scored)
            if statistics is not None:
                self.statistics.vector.copy_(statistics)
            yield
        finally:
            self.weights.vector.copy_(training[0])
            self.statistics.vector.copy_(training[1])
            self.network.train()

    def restore_(self, weights: Tensor, statistics: Tensor) -> None:
        """Go on from these weights, without momentum and hidden state, as if all steps so far had been finite."""
        self.weights.vector.copy_(weights)
        self.statistics.vector.copy_(statistics)
        self.weight_step.sgd.momentum_buffer.zero_()
        if self.carry is not None:
            self.carry = torch.zeros_like(self.carry)
        if self.average is not None:
            self.begin_averaging_()
        self.healthy.fill_(True)
        self.num_healthy.zero_()

    def to_host(self) -> Arrays:
        """Everything that a resume needs; every rank calls it."""
        arrays = self.weight_step.to_host()
        arrays["epoch_totals"] = self.totals.detach().to("cpu", copy=True).numpy()
        if self.average is not None:
            arrays |= self.weights.to_host(self.average, "average")
            arrays["num_averaged"] = self._num_averaged.detach().to("cpu", copy=True).numpy()
        if self.carry is not None:
            whole = all_shards(self.collectives, self.carry, self.config.training.batch_size)
            arrays["carry/train"] = whole.to("cpu", copy=True).numpy()
        return arrays

    def from_host_(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Load the arrays of `to_host`; carries are sliced to this rank's shard."""
        self.weight_step.from_host_(arrays)
        self.totals.copy_(torch.from_numpy(np.array(arrays["epoch_totals"])))
        if "num_averaged" in arrays:
            self.average = torch.zeros_like(self.weights.vector)
            self.weights.from_host_(self.average, arrays, "average")
            self._num_averaged.copy_(torch.from_numpy(np.array(arrays["num_averaged"])))
        self.carry = own_shard(self.collectives.shard, arrays.get("carry/train"), self.device)
