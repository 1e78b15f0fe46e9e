"""The closed form of the paper's figure 2 and a small smooth network, as losses over flat vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ray_darts.search.flat import FlatVector
from ray_darts.search.hypergradient import Objective


def objective(loss: Callable[[], Tensor], parts: int = 1) -> Objective:
    """`loss` as an Objective without extras, told in `parts` equal micro-batches."""

    def evaluate(full_precision: bool) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(parts):
            yield loss() / parts, torch.zeros(0, dtype=torch.float64)

    return evaluate


def no_ranks(vector: Tensor) -> None:
    """The sum over one rank."""


def scalars(**values: float) -> FlatVector:
    """Named float64 scalars that require gradients, as one packed vector."""
    named = {name: torch.tensor([value], dtype=torch.float64, requires_grad=True) for name, value in values.items()}
    return FlatVector(named, aligned=False)


class SmoothProblem:
    """A tanh network with softmax-mixed branches: thrice differentiable everywhere, so every order can be checked."""

    def __init__(self, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        self.weights = FlatVector(
            {name: (0.5 * normal(*shape)).requires_grad_() for name, shape in {"a": (5, 3), "b": (5, 3), "out": (2, 5)}.items()}
        )
        self.alphas = FlatVector({"mix": (0.1 * normal(2, 2)).requires_grad_()}, aligned=False)
        self.train = normal(16, 3), normal(16, 2)
        self.validation = normal(16, 3), normal(16, 2)

    def loss_at(self, weights: dict[str, Tensor], mix: Tensor, data: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the mixed network."""
        inputs, targets = data
        p, q = torch.softmax(mix, dim=-1)
        first, second = torch.tanh(inputs @ weights["a"].T), torch.sin(inputs @ weights["b"].T)
        hidden = p[0] * first + p[1] * second + q[0] * first * second + q[1] * torch.tanh(second)
        return (hidden @ weights["out"].T - targets).square().mean()

    def objective(self, which: str) -> Objective:
        """`train` or `validation` loss at the present content of the vectors."""
        data = getattr(self, which)
        return objective(lambda: self.loss_at(self.weights.tensors, self.alphas.tensors["mix"], data))

    def exact_gradient(self, rate: float, decay: float, momentum: float, buffer: Tensor) -> Tensor:
        """d/dalpha L_val(w'(alpha), alpha) by autograd through the virtual step: the independent reference."""
        mix = self.alphas.tensors["mix"].detach().clone().requires_grad_()
        weights = {name: value.detach().clone().requires_grad_() for name, value in self.weights.tensors.items()}
        inner = torch.autograd.grad(self.loss_at(weights, mix, self.train), list(weights.values()), create_graph=True)
        buffers = dict(zip(weights, self.weights.views(buffer), strict=True))
        moved = {
            name: w - rate * (g + decay * w + momentum * buffers[name])
            for (name, w), g in zip(weights.items(), inner, strict=True)
        }
        (gradient,) = torch.autograd.grad(self.loss_at(moved, mix, self.validation), mix)
        return gradient.flatten()
