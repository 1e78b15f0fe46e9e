"""One bilevel step and all device-side state that it changes: weights, alphas, optimisers, statistics, carries, health.

The host reads nothing here. If any value is not finite on any rank, that step and all later steps change nothing on
any rank: `healthy` stays on the device and masks each update; `num_healthy` counts the steps before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ray_darts.config import SearchConfig
from ray_darts.data.batch import Batch
from ray_darts.protocols.method import Order, Progress
from ray_darts.search.adam import Adam
from ray_darts.search.alignment import alignment_gradient
from ray_darts.search.architecture import Architecture
from ray_darts.search.compiling import Loss, compiled_losses
from ray_darts.search.hypergradient import (
    AlphaGradient,
    VirtualStep,
    first_order,
    second_order,
)
from ray_darts.search.replay import Capture, ReplayedLoss
from ray_darts.spaces.supernet import LossOutput, Pass, Supernet
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.flat import FlatVector
from ray_darts.tasks.gradient import Objective, reduced_gradient
from ray_darts.tasks.objective import batch_objective
from ray_darts.tasks.precision import parameter_dtype
from ray_darts.tasks.weight_step import WeightStep

Half = Literal["training", "validation"]

ONLY_STEP = Progress(step=0, total_steps=1, epoch=0, epochs=1)


class BilevelStep:
    """Updates one supernet; after each step all ranks have bitwise equal weights, alphas, moments and statistics.

    `totals` float64 [2, len(sum_names)]: the supernet's sums over all ranks since the epoch began, of the alpha steps
    and of the weight steps. Carries (`train_carry`, `validation_carry`) hold this rank's samples.
    """

    def __init__(
        self,
        config: SearchConfig,
        order: Order,
        supernet: Supernet,
        seed: int,
        collectives: Collectives,
        device: torch.device,
        capture: Capture | None = None,
    ) -> None:
        """`capture`: what captures passes, once each, to be replayed; None computes them plainly."""
        self.config, self.order, self.collectives, self.device = config, order, collectives, device
        dtype = parameter_dtype(config.search)
        self.supernet = supernet.to(device=device, dtype=dtype).train()
        self.weight_step = WeightStep(supernet, config.weights, collectives)
        self.weights, self.statistics = self.weight_step.weights, self.weight_step.statistics
        self.sgd = self.weight_step.sgd
        self._losses: dict[str, Loss] = dict(compiled_losses(config.operation, supernet).items())
        if capture is not None:
            replayed = ReplayedLoss(supernet, self.weights, self.statistics, capture)
            passes = ["training", "validation", "disturbance"]
            if config.search.hessian != "exact":  # which needs a second derivative or tangents; a replay has none
                passes.append("alpha_training")
            self._losses |= dict.fromkeys(passes, replayed)
        self.architecture = Architecture(config.method, supernet.layout, config.alphas, seed, device, dtype)
        self.alphas = self.architecture.parameters
        self.adam = Adam(config.alphas, self.alphas.vector)
        self.healthy = torch.ones((), dtype=torch.bool, device=device)
        self.num_healthy = torch.zeros((), dtype=torch.int64, device=device)
        self.totals = torch.zeros(2, len(supernet.sum_names), dtype=torch.float64, device=device)
        self.train_carry: Tensor | None = None
        self.validation_carry: Tensor | None = None

    def step_(
        self,
        train: Batch,
        validation: Batch,
        rate: float,
        *,
        move_alphas: bool = True,
        progress: Progress = ONLY_STEP,
    ) -> None:
        """Step alpha on `validation`, then the weights on `train`, at weight learning rate `rate`."""
        self.supernet.begin_step()
        if train.starts_epoch:
            self.train_carry = self.supernet.initial_carry(train.num_samples, self.device)
            self.validation_carry = self.supernet.initial_carry(validation.num_samples, self.device)
        adam = self.adam
        moved = (self.alphas.vector, adam.first_moment, adam.second_moment, adam.count)
        before = [tensor.clone() for tensor in moved]
        sums = [torch.zeros_like(self.totals[0])]
        validation_carry = self.validation_carry
        if move_alphas:
            gradient, validation_carry = self.alpha_gradient(train, validation, rate, progress)
            finite = torch.isfinite(gradient.gradient).all() & torch.isfinite(gradient.extras[0])
            self.healthy = adam.step_(self.alphas.vector, gradient.gradient, self.healthy & finite)
            sums = [gradient.extras[1:].double()]
        sums.append(self._weight_step_(train, rate, progress))
        if validation_carry is not None and self.validation_carry is not None:
            self.validation_carry = torch.where(self.healthy, validation_carry, self.validation_carry)
        for tensor, old in zip(moved, before, strict=True):
            tensor.copy_(torch.where(self.healthy, tensor, old))
        if self.architecture.freezes:
            self.alphas.vector.copy_(torch.where(self.architecture.is_frozen, before[0], self.alphas.vector))
        self.totals.add_(torch.where(self.healthy, torch.stack(sums), 0.0))
        self.num_healthy.add_(self.healthy)

    def alpha_gradient(
        self, train: Batch, validation: Batch, rate: float, progress: Progress = ONLY_STEP
    ) -> tuple[AlphaGradient, Tensor | None]:
        """The global batch's alpha gradient, and the validation carry after its forward pass."""
        carries: list[Tensor] = []
        validating = self.objective("validation", validation, self.validation_carry, Pass.ALPHA, progress, carries)
        extras = 1 + len(self.supernet.sum_names)
        if self.order == "first":
            with self.weights.held():
                gradient = first_order(self.alphas, validating, extras, self.collectives.sum_)
        else:
            weights = self.config.weights
            gradient = second_order(
                self.weights,
                self.alphas,
                self.objective(
                    "training",
                    train,
                    self.train_carry,
                    Pass.ALPHA,
                    progress,
                    disturbance=self.disturbance(train, Pass.ALPHA, progress),
                ),
                validating,
                extras,
                self.collectives.sum_,
                VirtualStep(rate, self.sgd.direction, weights.clip if weights.clip_virtual_step else None),
                hessian=self.config.search.hessian,
                radius=self.config.search.finite_difference_radius,
            )
        return gradient, torch.cat(carries) if carries else None

    def objective(
        self,
        half: Half,
        batch: Batch,
        carry: Tensor | None,
        purpose: Pass,
        progress: Progress,
        carries: list[Tensor] | None = None,
        disturbance: Mapping[str, Tensor] | None = None,
    ) -> Objective:
        """The loss on `batch` as an Objective, of the validation half with the method's penalty; each micro-batch's new
        carry is appended to `carries`. `disturbance`: of the mixing weights."""

        def loss_of(micro: Batch, part: Tensor | None, full: bool) -> LossOutput:
            mixing = self.architecture.mixing(purpose.value, progress.step, progress)
            if disturbance is not None:
                mixing = self.architecture.method.disturbed(mixing, disturbance)
            compute = self._losses.get("alpha_training" if full else half, self.supernet.loss)
            output = compute(micro, part, purpose, mixing)
            penalty = self.architecture.penalty(progress) if half == "validation" else None
            return output if penalty is None else replace(output, loss=output.loss + penalty)

        return batch_objective(self.config.search, batch, carry, self.device, loss_of, carries)

    def disturbance(self, train: Batch, purpose: Pass, progress: Progress) -> Mapping[str, Tensor] | None:
        """What disturbs the mixing weights of the training loss in the passes of one purpose; every rank calls."""

        def training_loss(mixing: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            tables = FlatVector({name: nn.Parameter(table.detach().clone()) for name, table in mixing.items()})

            def loss_of(micro: Batch, part: Tensor | None, full: bool) -> LossOutput:
                compute = self._losses.get("disturbance", self.supernet.loss)
                return compute(micro, part, Pass.DISTURBANCE, tables.tensors)

            objective = batch_objective(self.config.search, train, self.train_carry, self.device, loss_of)
            num_extras = 1 + len(self.supernet.sum_names)
            with self.weights.held():
                buffer = reduced_gradient(objective, [tables], num_extras, self.collectives.sum_)
            gradients = tables.views(buffer.gradients[0])
            return buffer.extras[0], dict(zip(tables.tensors, gradients, strict=True))

        return self.architecture.disturbance(purpose.value, progress.step, progress, training_loss)

    def _weight_step_(self, train: Batch, rate: float, progress: Progress) -> Tensor:
        """Do one SGD step; return the global batch's sums."""
        carries: list[Tensor] = []
        disturbance = self.disturbance(train, Pass.WEIGHT, progress)
        objective = self.objective(
            "training", train, self.train_carry, Pass.WEIGHT, progress, carries, disturbance=disturbance
        )
        num_extras = 1 + len(self.supernet.sum_names)
        with self.alphas.held():
            added = self._alignment_gradient(train, progress, disturbance)
            extras, self.healthy = self.weight_step.step_(objective, train.share, rate, self.healthy, num_extras, added)
        if carries and self.train_carry is not None:
            self.train_carry = torch.where(self.healthy, torch.cat(carries), self.train_carry)
        return extras[1:].double()

    def _alignment_gradient(
        self, train: Batch, progress: Progress, disturbance: Mapping[str, Tensor] | None
    ) -> Tensor | None:
        """What the method adds to the gradient of the weights so that the cells of a kind agree."""
        alignment = self.architecture.method.alignment(progress)
        if alignment is None:
            return None
        mixing = self.architecture.mixing(Pass.WEIGHT.value, progress.step, progress)
        if disturbance is not None:
            mixing = self.architecture.method.disturbed(mixing, disturbance)
        return alignment_gradient(
            self.supernet,
            self.weights,
            self.collectives,
            self.config.search,
            train,
            self.train_carry,
            mixing,
            alignment,
        )
