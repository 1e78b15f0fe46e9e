"""Counts what one bilevel step computes and keeps, on the meta device and a dummy batch of two samples.

Runs the same `BilevelStep` as a search, so the counts follow the code; without data, so a step of any size takes
seconds and little memory. Knows no speeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ray_darts.config import SearchConfig
from ray_darts.data.batch import Batch
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.meta_calls import META, Call, MetaCalls, plain_call
from ray_darts.search.step import ONLY_STEP, BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.planned_device import planned_for
from ray_darts.spaces.supernet import Pass
from ray_darts.tasks.collectives import SingleRank
from ray_darts.tasks.precision import parameter_dtype

logger = logging.getLogger(__name__)

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
    try:
        return count_step(counted, facts, order, device_kind, META)
    except RuntimeError as error:  # a space of a plugin may read values, which the meta device does not have
        logger.warning("a step is counted on the CPU, with memory and time of its own: %s", error)
        return count_step(counted, facts, order, device_kind, _CPU)


def count_step(
    config: SearchConfig, facts: DataFacts, order: Order, device_kind: str, device: torch.device
) -> Footprint:
    """Count one step as `device_kind` would do it, with tensors on `device`: of a CPU, or of the meta device."""
    settings = config.search
    num_samples = min(2 * settings.accumulate, settings.batch_size)
    scale = settings.batch_size / num_samples
    with planned_for(device_kind):
        with device:
            supernet = build_supernet(config, facts, 0, torch.device(device_kind))
        step = BilevelStep(config, order, supernet, 0, SingleRank(), device)
        train, validation = (_dummy_batch(config, facts, num_samples, device) for _ in range(2))
        call = MetaCalls() if device == META else plain_call
        counter = _Counter(call)
        with counter:
            step.step_(train, validation, config.weights.learning_rate)
        carry = step.supernet.initial_carry(train.num_samples, device)
        objective = step.objective("training", train, carry, Pass.WEIGHT, ONLY_STEP)
        with _Counter(call):
            kept = _saved_bytes(lambda: next(objective(False)), step)
    return Footprint(
        num_weights=sum(weight.numel() for weight in step.weights.tensors.values()),
        num_alphas=step.alphas.size,
        flops=counter.flops * scale,
        operator_calls=counter.calls,
        activation_bytes=round(kept * scale),
    )


def _dummy_batch(config: SearchConfig, facts: DataFacts, num_samples: int, device: torch.device) -> Batch:
    batch = config.data.dummy_batch(facts, num_samples, parameter_dtype(config.search))
    inputs = batch.inputs.to(device)
    targets = inputs if batch.targets is batch.inputs else batch.targets.to(device)
    return replace(batch, inputs=inputs, targets=targets)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operator calls that compute something, and floating-point operations where PyTorch has a formula."""

    def __init__(self, call: Call) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._call = call
        self.calls = 0
        self.flops = 0.0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: tuple[type, ...],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = self._call(func, args, kwargs or {})
        if func.is_view:
            return result
        if not _is_upload(args, result):
            self.calls += 1
        self.flops += _flops(func, args, result)
        return result


def _is_upload(args: tuple[object, ...], result: object) -> bool:
    """Whether a call only moves a tensor from the host to the meta device: random draws, which a CPU has already."""
    source = args[0] if args else None
    if not isinstance(source, Tensor) or not isinstance(result, Tensor):
        return False
    return source.device != META and result.device == META


def _flops(func: torch._ops.OpOverload, args: tuple[object, ...], result: object) -> float:
    """PyTorch's own formula, except for convolutions: there it ignores groups in the weight gradient."""
    if func is torch.ops.aten.convolution.default:
        return _convolution_flops(result, args[1])
    if func is torch.ops.aten.convolution_backward.default:
        wanted = args[-1]
        assert isinstance(wanted, list)
        return _convolution_flops(args[0], args[2]) * sum(wanted[:2])
    formula: Callable[..., float] | None = flop_registry.get(func.overloadpacket)
    return 0.0 if formula is None else formula(*args, out_val=result)


def _convolution_flops(output: object, weight: object) -> float:
    assert isinstance(output, Tensor)
    assert isinstance(weight, Tensor)
    return 2.0 * output.numel() * weight[0].numel()


def _saved_bytes(run: Callable[[], object], step: BilevelStep) -> int:
    """Bytes that autograd keeps after `run`, without weights and alphas; each storage is counted once."""
    own = {step.weights.vector.untyped_storage()._cdata, step.alphas.vector.untyped_storage()._cdata}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
