"""Counts what one bilevel step computes and keeps, on the meta device and a dummy batch of two samples.

Runs the same `BilevelStep` as a search, so the counts follow the code; without data, so a step of any size takes
seconds and little memory. Knows no speeds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from ray_darts.config import SearchConfig
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order, Progress
from ray_darts.search.step import ONLY_STEP, BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.planned_device import planned_for
from ray_darts.spaces.supernet import Pass
from ray_darts.tasks.collectives import SingleRank
from ray_darts.tasks.counting import OperatorCounter, caller, dummy_batch, saved_bytes
from ray_darts.tasks.meta_calls import META
from ray_darts.tasks.precision import parameter_dtype

logger = logging.getLogger(__name__)

_MIDDLE = Progress(step=1, total_steps=2, epoch=1, epochs=2)
"""What a method does from its second epoch on is counted, too."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Footprint:
    """One step over the global batch on one worker.

    `flops`: of convolutions and products, forward and backward, two per multiply-add; `operator_calls`: of PyTorch,
    each a kernel launch on a GPU; `activation_bytes`: kept for the backward of one pass of one micro-batch.
    """

    num_weights: int
    num_alphas: int
    flops: float
    operator_calls: int
    activation_bytes: int


def measure_footprint(config: SearchConfig, facts: DataFacts, order: Order, device_kind: str) -> Footprint:
    """Count one step of `order` on `device_kind` ("cpu" or "cuda"), in PyTorch's own formulation.

    Operations and activations are proportional to the batch, so a batch of two samples (per micro-batch) is enough.
    bfloat16 is counted as float32, as there is no autocast on the meta device: its activations are an upper bound.
    """
    settings, operation = config.search, config.operation.model_copy(update={"compile": (), "kernel": "torch"})
    if settings.precision == "bfloat16":
        settings = settings.model_copy(update={"precision": "float32"})
    counted = config.model_copy(update={"search": settings, "operation": operation})
    stages = counted.filled_stages
    known: dict[str, Footprint] = {}
    each = []
    for index, stage in enumerate(stages):
        key = stage.model_dump_json(exclude={"epochs", "restart"}) + str(index > 0)
        if key not in known:
            known[key] = _count_stage(counted, index, facts, order, device_kind)
        each.append(known[key])

    def mean(values: Iterable[float]) -> float:
        return sum(value * stage.epochs for value, stage in zip(values, stages, strict=True)) / settings.epochs

    return Footprint(
        num_weights=max(one.num_weights for one in each),
        num_alphas=each[0].num_alphas,
        flops=mean(one.flops for one in each),
        operator_calls=round(mean(one.operator_calls for one in each)),
        activation_bytes=max(one.activation_bytes for one in each),
    )


def _count_stage(config: SearchConfig, index: int, facts: DataFacts, order: Order, device_kind: str) -> Footprint:
    """One step of a stage. Which operations its edges keep is not known: the last of each edge are counted, where the
    convolutions are."""
    kept = config.filled_stages[index].operations_kept
    staged = config.at_stage(index)
    fewer = None
    if kept is not None and index:
        whole = staged.layout()
        cells = (
            replace(cell, choices=tuple(names[-kept:] for names in cell.operations_by_edge)) for cell in whole.cells
        )
        fewer = replace(whole, cells=tuple(cells))
    try:
        return count_step(staged, facts, order, device_kind, META, fewer)
    except RuntimeError as error:  # a space of a plugin may read values, which the meta device does not have
        logger.warning("a step is counted on the CPU, with memory and time of its own: %s", error)
        return count_step(staged, facts, order, device_kind, _CPU, fewer)


def count_step(
    config: SearchConfig,
    facts: DataFacts,
    order: Order,
    device_kind: str,
    device: torch.device,
    layout: SpaceLayout | None = None,
) -> Footprint:
    """Count one step as `device_kind` would do it, with tensors on `device`: of a CPU, or of the meta device.

    `layout`: of a stage whose edges have fewer operations.
    """
    settings = config.search
    num_samples = min(2 * settings.accumulate, settings.batch_size)
    scale = settings.batch_size / num_samples
    with planned_for(device_kind):
        with device:
            supernet = build_supernet(config, facts, 0, torch.device(device_kind))
        if layout is not None:
            supernet.layout = layout
        step = BilevelStep(config, order, supernet, 0, SingleRank(), device)
        dtype = parameter_dtype(settings)
        train, validation = (dummy_batch(config.data, facts, num_samples, dtype, device) for _ in range(2))
        call = caller(device)
        counter = OperatorCounter(call)
        with counter:
            step.step_(train, validation, config.weights.learning_rate, progress=_MIDDLE)
        carry = step.supernet.initial_carry(train.num_samples, device)
        objective = step.objective("training", train, carry, Pass.WEIGHT, ONLY_STEP)
        with OperatorCounter(call):
            kept = saved_bytes(lambda: next(objective(False)), (step.weights.vector, step.alphas.vector))
    return Footprint(
        num_weights=sum(weight.numel() for weight in step.weights.tensors.values()),
        num_alphas=step.alphas.size,
        flops=counter.flops * scale,
        operator_calls=counter.calls,
        activation_bytes=round(kept * scale),
    )
