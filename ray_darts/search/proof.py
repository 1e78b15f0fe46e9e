"""Checks the mathematics on the user's own machine; `ray-darts doctor` runs it.

Each check compares the code of the search with an independent reference, so it finds a broken BLAS, PyTorch build or
communication back end before a search is run.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from ray_darts.config import load_config
from ray_darts.protocols.dataset import DataFacts
from ray_darts.search.hypergradient import Hessian, VirtualStep, first_order, second_order
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.collectives import ProcessGroup, SingleRank
from ray_darts.tasks.flat import FlatVector
from ray_darts.tasks.gradient import Objective, Sum

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Proof:
    """One claim about the mathematics, whether it holds on this machine, and the measured figure."""

    name: str
    holds: bool
    detail: str


class SmoothProblem:
    """A bilevel problem on a small network that is smooth everywhere, so that each order has one exact gradient.

    Weights [5, 3], [5, 3], [2, 5]; alphas [2, 2] mix two branches and their products; 16 samples per half; float64.
    `shard`: (rank, world_size), of both data sets.
    """

    def __init__(self, seed: int = 0, shard: tuple[int, int] = (0, 1)) -> None:
        draw = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        shapes = {"a": (5, 3), "b": (5, 3), "out": (2, 5)}
        self.weights = FlatVector({name: (0.5 * normal(*shape)).requires_grad_() for name, shape in shapes.items()})
        self.alphas = FlatVector({"mix": (0.1 * normal(2, 2)).requires_grad_()}, aligned=False)
        self.train: Data = normal(16, 3), normal(16, 2)
        self.validation: Data = normal(16, 3), normal(16, 2)
        self._part = slice(shard[0], None, shard[1])

    def loss_at(self, weights: dict[str, Tensor], mix: Tensor, data: Data) -> Tensor:
        """Mean squared error of the mixed network over `data`."""
        inputs, targets = data
        p, q = torch.softmax(mix, dim=-1)
        first, second = torch.tanh(inputs @ weights["a"].T), torch.sin(inputs @ weights["b"].T)
        hidden = p[0] * first + p[1] * second + q[0] * first * second + q[1] * torch.tanh(second)
        error: Tensor = hidden @ weights["out"].T - targets
        return error.square().mean()

    def objective(self, data: Data, micro_batches: int = 1) -> Objective:
        """This shard's loss on `data` at the current values of the vectors, weighted by its share."""
        inputs, targets = data[0][self._part], data[1][self._part]

        def evaluate(full_precision: bool) -> Iterator[tuple[Tensor, Tensor]]:
            for x, y in zip(inputs.chunk(micro_batches), targets.chunk(micro_batches), strict=True):
                share = len(x) / len(data[0])
                loss = self.loss_at(self.weights.tensors, self.alphas.tensors["mix"], (x, y))
                yield loss * share, torch.zeros(0, dtype=torch.float64)

        return evaluate

    def gradient(self, step: VirtualStep, hessian: Hessian, sum_: Sum, micro_batches: int = 1) -> Tensor:
        """The second-order alpha gradient, computed by the code of the search."""
        training, validation = (self.objective(data, micro_batches) for data in (self.train, self.validation))
        return second_order(self.weights, self.alphas, training, validation, 0, sum_, step, hessian=hessian).gradient

    def reference_gradient(self, step: VirtualStep) -> Tensor:
        """d/dalpha L_val(w'(alpha), alpha) by autograd through the virtual step, on all samples."""
        mix = self.alphas.tensors["mix"].detach().clone().requires_grad_()
        weights = {name: value.detach().clone().requires_grad_() for name, value in self.weights.tensors.items()}
        inner = torch.autograd.grad(self.loss_at(weights, mix, self.train), list(weights.values()), create_graph=True)
        flat = torch.cat([self._padded(value) for value in weights.values()])
        moved = flat - step.rate * step.direction(flat, torch.cat([self._padded(value) for value in inner]))
        views = dict(zip(weights, self.weights.views(moved), strict=True))
        (gradient,) = torch.autograd.grad(self.loss_at(views, mix, self.validation), mix)
        return gradient.flatten()

    @staticmethod
    def _padded(value: Tensor) -> Tensor:
        flat = value.flatten()
        return torch.cat([flat, flat.new_zeros(-len(flat) % 16)])


def _direction(weights: Tensor, gradient: Tensor) -> Tensor:
    return gradient + 0.01 * weights


_STEP = VirtualStep(0.3, _direction)
_BOUNDS: dict[Hessian, float] = {"exact": 1e-12, "finite_difference": 1e-3}
"""Relative errors on a smooth problem that each Hessian setting stays below."""


def _no_ranks(vector: Tensor) -> None:
    """The sum over one rank."""


def prove_second_order() -> Iterator[Proof]:
    """Compare both Hessian settings with autograd through the virtual step, in float64."""
    for hessian, bound in _BOUNDS.items():
        problem = SmoothProblem()
        wanted = problem.reference_gradient(_STEP)
        error = float((problem.gradient(_STEP, hessian, _no_ranks) - wanted).norm() / wanted.norm())
        detail = f"relative error {error:.1e} against autograd through the virtual step (bound {bound:g})"
        yield Proof(f"second order ({hessian})", error < bound, detail)


def prove_figure_2() -> Proof:
    """Compare the gradients of the paper's example (arXiv:1806.09055, figure 2) with their values by hand.

    L_val = alpha w - 2 alpha + 1, L_train = w^2 - 2 alpha w + alpha^2, at alpha 2, w -2, xi 0.5: w' = 2, so the first
    order is w - 2 = -4 and the second (w' - 2) - 0.5 * (-2) * 2 = +2, of the opposite sign.
    """
    weights, alphas = (
        FlatVector({name: torch.tensor(at, dtype=torch.float64)}) for name, at in (("w", -2.0), ("a", 2.0))
    )
    w, a = (vector.tensors[name].requires_grad_() for vector, name in ((weights, "w"), (alphas, "a")))

    def training(full_precision: bool) -> Iterator[tuple[Tensor, Tensor]]:
        yield w.square() - 2 * a * w + a.square(), a.new_zeros(0)

    def validation(full_precision: bool) -> Iterator[tuple[Tensor, Tensor]]:
        yield a * w - 2 * a + 1, a.new_zeros(0)

    step = VirtualStep(0.5, lambda weights, gradient: gradient)
    found = [first_order(alphas, validation, 0, _no_ranks).gradient[0].item()]
    for hessian in _BOUNDS:
        second = second_order(weights, alphas, training, validation, 0, _no_ranks, step, hessian=hessian)
        found.append(second.gradient[0].item())
    error = max(abs(one - wanted) for one, wanted in zip(found, (-4.0, 2.0, 2.0), strict=True))
    first, *seconds = (f"{one:+.6g}" for one in found)
    detail = (
        f"gradient {' and '.join(seconds)} ({' and '.join(_BOUNDS)}) at alpha 2, w -2, xi 0.5, wanted +2; first order "
        f"{first}, wanted -4 (bound 1e-9)"
    )
    return Proof("the paper's figure 2", error < 1e-9, detail)


def prove_alphas_apart() -> Proof:
    """Check that one weight step changes the vector of weights and no alpha."""
    config = load_config("digits", overrides=("space.channels=2", "space.nodes=2"))
    supernet = build_supernet(config, DataFacts(10, 1, 8), 0, torch.device("cpu"))
    step = BilevelStep(config, "first", supernet, 0, SingleRank(), torch.device("cpu"))
    alphas = step.alphas.vector.clone()
    step.sgd.step_(step.weights.vector, torch.ones_like(step.weights.vector), 0.1, step.healthy)
    shared = {id(p) for p in step.weights.tensors.values()} & {id(p) for p in step.alphas.tensors.values()}
    apart = bool(torch.equal(alphas, step.alphas.vector)) and not shared
    return Proof("alphas outside the weight optimiser", apart, f"{len(alphas)} alphas unmoved by a weight step")


def prove_ranks_agree(num_ranks: int = 2) -> Proof:
    """Compare gloo processes that each have a part of the samples with one process that has all samples."""
    problem = SmoothProblem()
    wanted = problem.gradient(_STEP, "finite_difference", _no_ranks)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, context.Pool(num_ranks) as pool:
        meeting = f"file://{Path(folder) / 'store'}"
        waiting = [pool.apply_async(_on_rank, (meeting, rank, num_ranks)) for rank in range(num_ranks)]
        each = [torch.tensor(result.get(timeout=120), dtype=torch.float64) for result in waiting]
    same = all(torch.equal(one, each[0]) for one in each)
    error = float((each[0] - wanted).norm() / wanted.norm())
    detail = f"{num_ranks} ranks {'bitwise equal' if same else 'DIFFERENT'}; {error:.1e} from one rank (bound 1e-10)"
    return Proof("ranks agree", same and error < 1e-10, detail)


def _on_rank(meeting: str, rank: int, num_ranks: int) -> list[float]:
    torch.set_num_threads(1)
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=num_ranks, timeout=limit)
    try:
        problem = SmoothProblem(shard=(rank, num_ranks))
        gradient: list[float] = problem.gradient(_STEP, "finite_difference", ProcessGroup().sum_).tolist()
        return gradient
    finally:
        dist.destroy_process_group()


def all_proofs() -> Iterator[Proof]:
    """Run every check in turn; the last one starts processes."""
    proofs: tuple[Callable[[], Proof], ...] = (prove_figure_2, prove_alphas_apart, prove_ranks_agree)
    yield from prove_second_order()
    for proof in proofs:
        yield proof()
