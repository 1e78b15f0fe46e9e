"""Passes of a step that are captured once and replayed: a forward pass and its backward pass become one CUDA graph.

What varies between steps enters a captured pass through tensors at fixed addresses: the batch, the carry, the mixing
weights and the random numbers, which the host draws as ever. Learning rates, counters, the method, the optimisers and
the sums over ranks stay outside, so every method works and nothing that a graph would freeze is in it. Knows no CUDA
beyond `CudaGraphs`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ray_darts.config import OperationSettings
from ray_darts.data.batch import Batch, Draws
from ray_darts.errors import ConfigError, SearchError
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass, Supernet
from ray_darts.tasks.flat import FlatVector

logger = logging.getLogger("ray_darts.search")

Replay = Callable[[], None]

_WARM_UPS = 3
"""Passes before a capture, in which libraries choose their kernels and allocate what they keep."""

MOST_GRAPHS = 24
"""Passes of one step, times kinds of batches (shapes above all), that are captured; others are computed plainly."""

AUTO_IS_ON = False
"""Whether "auto" captures on GPUs: not before `python -m benchmarks.on_gpu` has passed on one."""


class Capture(Protocol):
    """What can capture a computation on tensors."""

    def capture(self, run: Callable[[], None]) -> Replay:
        """Do `run` some times, record it once, and return what repeats the record on the same tensors."""
        ...


class CudaGraphs:
    """Captures into CUDA graphs, which share one pool of memory: only the newest replay's results are whole."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, run: Callable[[], None]) -> Replay:
        """As PyTorch asks for: on a stream of its own, after passes that are not captured."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                run()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads (commits, health checks) may go on calling CUDA meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            run()
        return graph.replay


@dataclass(frozen=True, eq=False)
class SlottedDraws(Draws):
    """Draws whose tensors stay at their addresses: each is drawn at its first use, and again by `refill_`."""

    slots: dict[tuple[object, ...], tuple[Tensor, Callable[[Draws], Tensor]]] = field(default_factory=dict)

    @classmethod
    def of(cls, draws: Draws) -> SlottedDraws:
        """For passes over the same shard of batches of the same size as that of `draws`."""
        return cls(**_fields_of(draws))

    def refill_(self, draws: Draws) -> None:
        """Draw every tensor again, from `draws`."""
        for tensor, draw in self.slots.values():
            tensor.copy_(draw(draws))

    def generator(self, name: str) -> np.random.Generator:
        """Raises: SearchError, as numbers on the host would stay those of the first step."""
        raise SearchError(f"a captured pass draws {name!r} itself: only keep_mask, normal and uniform are replayed")

    def keep_mask(self, name: str, shape: Sequence[int], keep: float, *, batch_dim: int | None, like: Tensor) -> Tensor:
        """As `Draws.keep_mask`."""
        return self._slot("keep_mask", name, shape, like, keep=keep, batch_dim=batch_dim)

    def normal(self, name: str, shape: Sequence[int], *, batch_dim: int, like: Tensor) -> Tensor:
        """As `Draws.normal`."""
        return self._slot("normal", name, shape, like, batch_dim=batch_dim)

    def uniform(self, name: str, shape: Sequence[int], *, batch_dim: int, like: Tensor) -> Tensor:
        """As `Draws.uniform`."""
        return self._slot("uniform", name, shape, like, batch_dim=batch_dim)

    def _slot(self, kind: str, name: str, shape: Sequence[int], like: Tensor, **options: float | None) -> Tensor:
        key = kind, name, tuple(shape), like.dtype, *options.values()
        if key not in self.slots:
            alike = like.detach().new_empty(0)

            def draw(draws: Draws) -> Tensor:
                drawn: Tensor = getattr(draws, kind)(name, shape, like=alike, **options)
                return drawn

            self.slots[key] = draw(Draws(**_fields_of(self))), draw
        return self.slots[key][0]


def _fields_of(draws: Draws) -> dict[str, Any]:
    return {each.name: getattr(draws, each.name) for each in fields(Draws)}


class ReplayedLoss:
    """A supernet's loss whose passes are captured, one for each kind of batch, and replayed from then on.

    Called as `Supernet.loss`. Its result has a backward pass, which hands out the gradients that the replay has
    computed already, in the weights and mixing weights that ask for one; it must come before the next replay. There is
    no second derivative. Bits are those of plain passes, but for micro-batches whose share of the batch is no power of
    two: gradients are multiplied by it at the end.
    """

    def __init__(self, supernet: Supernet, weights: FlatVector, statistics: FlatVector, capture: Capture) -> None:
        self._supernet, self._weights, self._statistics, self._capture = supernet, weights, statistics, capture
        self._captured: dict[object, _CapturedPass] = {}
        self.num_replays, self._is_full = 0, False

    def __call__(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        weights = [weight for weight in self._weights.tensors.values() if weight.requires_grad]
        key = _kind(batch, carry, purpose, mixing, len(weights))
        if key not in self._captured:
            if len(self._captured) == MOST_GRAPHS:
                if not self._is_full:
                    logger.warning("more than %d kinds of passes: others are computed without graphs", MOST_GRAPHS)
                self._is_full = True
                return self._supernet.loss(batch, carry, purpose, mixing)
            captured = _CapturedPass(self._supernet, batch, carry, purpose, mixing, weights)
            before = self._statistics.vector.clone()
            captured.capture_(self._capture)
            self._statistics.vector.copy_(before)
            self._captured[key] = captured
        captured = self._captured[key]
        captured.replay_(batch, carry, mixing)
        self.num_replays += 1
        wanted = [table for table in mixing.values() if table.requires_grad] + weights
        loss: Tensor = _Replayed.apply(captured, self, *wanted)
        output = captured.output
        kept = None if output.carry is None else output.carry.clone()
        return LossOutput(loss, kept, output.sums.clone())


class _CapturedPass:
    """One pass and the tensors at fixed addresses that it reads and writes."""

    def __init__(
        self,
        supernet: Supernet,
        batch: Batch,
        carry: Tensor | None,
        purpose: Pass,
        mixing: MixingWeights,
        weights: Sequence[Tensor],
    ) -> None:
        self._supernet, self._purpose = supernet, purpose
        self._draws = SlottedDraws.of(batch.draws)
        inputs = batch.inputs.clone()
        self._batch = replace(
            batch,
            inputs=inputs,
            targets=inputs if batch.targets is batch.inputs else batch.targets.clone(),
            weights=None if batch.weights is None else batch.weights.clone(),
            draws=self._draws,
        )
        self._carry = None if carry is None else carry.clone()
        self._mixing = {name: _fixed(table) for name, table in mixing.items()}
        self._wanted = [table for table in self._mixing.values() if table.requires_grad] + list(weights)
        self._gradients: Sequence[Tensor | None] = ()
        self._replay: Replay = lambda: None

    def capture_(self, capture: Capture) -> None:
        """Record the pass; leaves what it computed on the way, running statistics too."""
        self._replay = capture.capture(self._run)

    def replay_(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> None:
        """Compute the pass of these values."""
        self._batch.inputs.copy_(batch.inputs)
        if self._batch.targets is not self._batch.inputs:
            self._batch.targets.copy_(batch.targets)
        if self._batch.weights is not None and batch.weights is not None:
            self._batch.weights.copy_(batch.weights)
        if self._carry is not None and carry is not None:
            self._carry.copy_(carry)
        self._draws.refill_(batch.draws)
        with torch.no_grad():
            torch._foreach_copy_(list(self._mixing.values()), [mixing[name] for name in self._mixing])
        self._replay()

    def gradients(self, outer: Tensor) -> list[Tensor | None]:
        """Those of the newest replay, times `outer`, the gradient of its loss; tensors of their own."""
        there = [gradient for gradient in self._gradients if gradient is not None]
        multiplied = iter(torch._foreach_mul(there, outer)) if there else iter(())
        return [None if gradient is None else next(multiplied) for gradient in self._gradients]

    def _run(self) -> None:
        self._supernet.begin_step()  # what is cached of another pass is at no fixed address
        torch.clear_autocast_cache()
        output = self._supernet.loss(self._batch, self._carry, self._purpose, self._mixing)
        self._gradients = [None] * len(self._wanted)
        if output.loss.requires_grad:
            with torch.autocast(self._batch.inputs.device.type, enabled=False):
                self._gradients = torch.autograd.grad(output.loss, self._wanted, allow_unused=True)
        self.output = LossOutput(output.loss.detach(), output.carry, output.sums)
        self._supernet.begin_step()
        torch.clear_autocast_cache()


class _Replayed(torch.autograd.Function):
    """The loss of the newest replay, as a function of what it has gradients in."""

    @staticmethod
    def forward(ctx: FunctionCtx, captured: _CapturedPass, among: ReplayedLoss, *wanted: Tensor) -> Tensor:
        ctx.captured, ctx.among, ctx.number = captured, among, among.num_replays  # type: ignore[attr-defined]
        return captured.output.loss.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("a replayed pass has no second derivative")
        assert ctx.number == ctx.among.num_replays, "another pass was replayed before this one's gradients were taken"
        return None, None, *ctx.captured.gradients(outer)


def capture_for(
    operation: OperationSettings, device: torch.device, *, reads: bool, has_collectives: bool
) -> Capture | None:
    """What `operation.cuda_graph` asks for; None computes passes plainly. `reads`: the host reads in a pass which
    operations to compute; `has_collectives`: ranks exchange sums inside passes.

    Raises: ConfigError for "on" where no pass can be captured.
    """
    if operation.cuda_graph == "off" or (operation.cuda_graph == "auto" and not AUTO_IS_ON):
        return None
    mistake = None
    if device.type != "cuda":
        mistake = f"this worker computes on {device.type}"
    elif reads:
        mistake = "the method reads in each pass which operations to compute"
    elif has_collectives:
        mistake = "search.batch_norm=sync of several workers exchanges sums inside the passes"
    if mistake is None:
        return CudaGraphs(device)
    if operation.cuda_graph == "on":
        raise ConfigError(f"operation.cuda_graph=on: {mistake}; set it to auto or off")
    return None


def _fixed(table: Tensor) -> Tensor:
    return table.detach().clone().requires_grad_(table.requires_grad)


def _kind(batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights, num_weights: int) -> object:
    """Everything but values that a captured pass is made for."""
    tensors = (batch.inputs, batch.targets, batch.weights, carry, *mixing.values())
    shapes = tuple(None if each is None else (each.shape, each.stride(), each.dtype) for each in tensors)
    tables = tuple((name, table.requires_grad) for name, table in mixing.items())
    draws = batch.draws
    modes = (
        torch.is_autocast_enabled(batch.inputs.device.type),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.is_grad_enabled(),
    )
    return purpose, shapes, tables, num_weights, modes, batch.share, draws.start, draws.stop, draws.total
