"""The alpha gradient against a closed form, against autograd through the virtual step, and its promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ray_darts.search.flat import FlatVector
from ray_darts.search.hypergradient import VirtualStep, first_order, second_order
from tests.search.toy import SmoothProblem, no_ranks, objective, scalars


def plain_sgd(weights: Tensor, gradient: Tensor) -> Tensor:
    """The direction of SGD without momentum and decay."""
    return gradient


def settle(xi: float, hessian: str) -> tuple[float, float]:
    """Alternate alpha steps and exact minimisation of w on the paper's figure-2 problem until it stands still."""
    weights, alphas = scalars(w=-2.0), scalars(alpha=2.0)
    w, alpha = weights.tensors["w"], alphas.tensors["alpha"]
    training = objective(lambda: (w * w - 2 * alpha * w + alpha * alpha).sum())
    validation = objective(lambda: (alpha * w - 2 * alpha + 1).sum())
    for _ in range(600):
        if xi == 0:
            gradient = first_order(alphas, validation, 0, no_ranks).gradient
        else:
            gradient = second_order(
                weights, alphas, training, validation, 0, no_ranks, VirtualStep(xi, plain_sgd), hessian=hessian
            ).gradient
        alphas.vector.sub_(0.05 * gradient)
        weights.vector.copy_(alphas.vector)  # argmin_w L_train = alpha
    return alphas.vector.item(), weights.vector.item()


@pytest.mark.parametrize("hessian", ["finite_difference", "exact"])
@pytest.mark.parametrize("xi", [0.0, 0.1, 0.25, 0.5])
def test_iteration_settles_where_the_closed_form_says(xi: float, hessian: str) -> None:
    alpha, w = settle(xi, hessian)
    assert alpha == pytest.approx(2 / (1 + 2 * xi), abs=1e-8)
    assert w == pytest.approx(alpha, abs=1e-12)


# The reference is a smooth network on purpose. On ReLU and max-pooling networks the finite difference at r = 0.01
# steps over kinks and disagrees with the exact product by more than its own size; both are "second order", the
# paper's is the difference, and comparing the two there would test nothing.
@pytest.mark.parametrize(("hessian", "tolerance"), [("exact", 1e-13), ("finite_difference", 2e-4)])
def test_second_order_equals_autograd_through_the_virtual_step(hessian: str, tolerance: float) -> None:
    problem = SmoothProblem()
    rate, decay, momentum = 0.3, 0.01, 0.9
    buffer = torch.randn(problem.weights.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros_like(buffer)
    for view in problem.weights.views(mask):
        view.fill_(1.0)
    buffer *= mask

    def direction(weights: Tensor, gradient: Tensor) -> Tensor:
        return gradient + decay * weights + momentum * buffer

    wanted = problem.exact_gradient(rate, decay, momentum, buffer)
    got = second_order(
        problem.weights,
        problem.alphas,
        problem.objective("train"),
        problem.objective("validation"),
        0,
        no_ranks,
        VirtualStep(rate, direction),
        hessian=hessian,
    ).gradient
    first = first_order(problem.alphas, problem.objective("validation"), 0, no_ranks).gradient
    assert (got - wanted).norm() / wanted.norm() < tolerance
    assert (first - wanted).norm() / wanted.norm() > 0.05, "the problem must tell the orders apart"


def test_clip_coefficient_scales_the_virtual_step_and_the_product() -> None:
    problem = SmoothProblem(3)
    rate = 0.4
    gradient_w = _weight_gradient(problem)
    clip = float(gradient_w.norm()) / 3
    arguments = (problem.weights, problem.alphas, problem.objective("train"), problem.objective("validation"), 0, no_ranks)
    clipped = second_order(*arguments, VirtualStep(rate, plain_sgd, clip), hessian="exact").gradient
    scaled = second_order(*arguments, VirtualStep(rate / 3, plain_sgd), hessian="exact").gradient
    torch.testing.assert_close(clipped, scaled, rtol=1e-12, atol=1e-14)
    loose = second_order(*arguments, VirtualStep(rate, plain_sgd, 1e9), hessian="exact").gradient
    unclipped = second_order(*arguments, VirtualStep(rate, plain_sgd), hessian="exact").gradient
    assert torch.equal(loose, unclipped)


def _weight_gradient(problem: SmoothProblem) -> Tensor:
    loss = problem.loss_at(problem.weights.tensors, problem.alphas.tensors["mix"], problem.train)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(problem.weights.tensors.values()))])


@pytest.mark.parametrize("failing_pass", range(4))
def test_weights_are_put_back_bit_for_bit_whatever_is_raised(failing_pass: int) -> None:
    problem = SmoothProblem()
    before = problem.weights.vector.clone()
    calls = iter(range(10))

    def breaking(which: str):  # type: ignore[no-untyped-def]
        inner = problem.objective(which)

        def evaluate(full: bool) -> Iterator[tuple[Tensor, Tensor]]:
            if next(calls) == failing_pass:
                raise KeyboardInterrupt
            yield from inner(full)

        return evaluate

    with pytest.raises(KeyboardInterrupt):
        second_order(
            problem.weights,
            problem.alphas,
            breaking("train"),
            breaking("validation"),
            0,
            no_ranks,
            VirtualStep(0.3, plain_sgd),
            hessian="finite_difference",
        )
    assert torch.equal(problem.weights.vector, before)


def test_the_product_is_zero_where_the_validation_loss_ignores_the_weights() -> None:
    weights, alphas = scalars(w=-2.0), scalars(alpha=2.0)
    w, alpha = weights.tensors["w"], alphas.tensors["alpha"]
    training = objective(lambda: (alpha * w * w).sum())
    validation = objective(lambda: (alpha * alpha).sum())
    step = VirtualStep(0.5, plain_sgd)
    gradient = second_order(
        weights, alphas, training, validation, 0, no_ranks, step, hessian="finite_difference"
    ).gradient
    assert gradient.item() == 4.0


@pytest.mark.parametrize("hessian", ["finite_difference", "exact"])
def test_a_non_finite_weight_gradient_is_never_hidden(hessian: str) -> None:
    weights, alphas = scalars(w=-2.0), scalars(alpha=2.0)
    w, alpha = weights.tensors["w"], alphas.tensors["alpha"]
    training = objective(lambda: (alpha * torch.sqrt(w)).sum())
    validation = objective(lambda: (alpha * w).sum())
    step = VirtualStep(0.5, plain_sgd)
    gradient = second_order(weights, alphas, training, validation, 0, no_ranks, step, hessian=hessian).gradient
    assert not torch.isfinite(gradient).any()


@pytest.mark.parametrize("hessian", ["finite_difference", "exact"])
def test_micro_batches_add_up_to_the_whole(hessian: str) -> None:
    gradients = []
    for parts in (1, 4):
        problem = SmoothProblem()
        train, validation = (
            objective(
                lambda data=data: problem.loss_at(problem.weights.tensors, problem.alphas.tensors["mix"], data), parts
            )
            for data in (problem.train, problem.validation)
        )
        step = VirtualStep(0.3, plain_sgd)
        gradients.append(
            second_order(
                problem.weights, problem.alphas, train, validation, 0, no_ranks, step, hessian=hessian
            ).gradient
        )
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-14)


def test_flat_views_share_memory_and_padding_stays_zero() -> None:
    named = {"a": torch.ones(3, 5), "b": torch.ones(7)}
    flat = FlatVector(named)
    flat.vector.mul_(2)
    assert torch.equal(named["a"], torch.full((3, 5), 2.0))
    assert named["b"].data_ptr() % 64 == flat.vector.data_ptr() % 64
    assert flat.vector.sum() == 2 * 22
    other = FlatVector({"a": torch.zeros(3, 5), "b": torch.zeros(7)})
    other.from_host_(other.vector, flat.to_host(flat.vector, "weights"), "weights")
    assert torch.equal(other.vector, flat.vector)
