"""Counts what one bilevel step computes and keeps, on a dummy batch of two samples; takes seconds for any config.

Runs the same `BilevelStep` as a search, so the counts follow the code. Knows no speeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ray_darts.config import SearchConfig
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.collectives import SingleRank
from ray_darts.search.precision import parameter_dtype
from ray_darts.search.step import ONLY_STEP, BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.supernet import Pass

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
    """Count one step of `order`; `device_kind` ("cpu" or "cuda") decides the formulation where it is "auto".

    Operations and activations are proportional to the batch, so a batch of two samples (per micro-batch) is enough.
    """
    settings = config.search
    num_samples = min(2 * settings.accumulate, settings.batch_size)
    scale = settings.batch_size / num_samples
    step = BilevelStep(
        config, order, build_supernet(config, facts, 0, torch.device(device_kind)), 0, SingleRank(), _CPU
    )
    dtype = parameter_dtype(settings)
    train, validation = (config.data.dummy_batch(facts, num_samples, dtype) for _ in range(2))
    counter = _Counter()
    with counter:
        step.step_(train, validation, config.weights.learning_rate)
    carry = step.supernet.initial_carry(train.num_samples, _CPU)
    objective = step.objective("training", train, carry, Pass.WEIGHT, ONLY_STEP)
    kept = _saved_bytes(lambda: next(objective(False)), step)
    return Footprint(
        num_weights=sum(weight.numel() for weight in step.weights.tensors.values()),
        num_alphas=step.alphas.size,
        flops=counter.flops * scale,
        operator_calls=counter.calls,
        activation_bytes=round(kept * scale),
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operator calls that compute something, and floating-point operations where PyTorch has a formula."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0
        self.flops = 0.0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: tuple[type, ...],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.calls += 1
        self.flops += _flops(func, args, result)
        return result


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
