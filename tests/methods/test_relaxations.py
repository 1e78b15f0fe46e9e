"""Each relaxation against a plain oracle: values, gradients, penalties, and the reference's golden vectors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Dirichlet as TorchDirichlet

from ray_darts.data.batch import Draws
from ray_darts.data.dirichlet import sample
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.methods.composed import Composed
from ray_darts.methods.named import BetaDarts, DrNas, FairDarts, Gdas
from ray_darts.methods.parts import LogSumExp
from ray_darts.methods.relaxations import Dirichlet, Gumbel, Sigmoid
from ray_darts.protocols.method import Method, Progress

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
LAYOUT = SpaceLayout("one", (CellLayout("cell", 2, 4, tuple("abcdefg"), 2),), "a", frozenset())
SHAPE = (14, 7)


def draws(step: int = 0, seed: int = 0) -> Draws:
    """Of one pass."""
    return Draws(seed, "architecture.alpha", step, 0, 1, 1)


def at(epoch: int, epochs: int = 50) -> Progress:
    """The first step of an epoch."""
    return Progress(step=epoch, total_steps=epochs, epoch=epoch, epochs=epochs)


def alphas(seed: int = 1) -> Tensor:
    """Leaves away from zero."""
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.requires_grad_()


def weights(method: Method, table: Tensor, step: int = 0, epoch: int = 0) -> Tensor:
    """Those of the cell in one pass."""
    return method.weights(LAYOUT, {"cell": table}, draws(step), at(epoch))["cell"]


def golden(name: str) -> dict[str, NDArray[Any]]:
    """A file of the reference's vectors; skips where there are none."""
    file = GOLDEN / f"{name}.npz"
    if not file.exists():
        pytest.skip(f"the reference's vectors are not beside this checkout ({file.name})")
    with np.load(file, allow_pickle=False) as vectors:
        return {key: vectors[key] for key in vectors}


def layout_of(tables: dict[str, Tensor]) -> SpaceLayout:
    """Cells of these names."""
    return SpaceLayout("some", tuple(CellLayout(name, 2, 4, tuple("abcdefg"), 2) for name in tables), "a", frozenset())


def penalty_of(method: Composed, tables: dict[str, Tensor], progress: Progress) -> tuple[Tensor, list[Tensor]]:
    """The penalty and its gradients."""
    value = method.penalty(layout_of(tables), tables, progress)
    assert value is not None
    return value, list(torch.autograd.grad(value, list(tables.values())))


@pytest.mark.parametrize("matrix", ["m0", "m1", "m2"])
def test_the_regulariser_of_beta_darts_is_the_published_one(matrix: str) -> None:
    vectors = golden("beta_darts")
    table = torch.from_numpy(vectors[f"{matrix}_alphas"]).requires_grad_()
    method = BetaDarts(regulariser=LogSumExp(weight=2.0))
    value, (gradient,) = penalty_of(method, {"cell": table}, at(25))  # half of the epochs: weight 1
    assert value.item() == pytest.approx(float(vectors[f"{matrix}_value"]), rel=1e-12)
    np.testing.assert_allclose(gradient.numpy(), vectors[f"{matrix}_grad"], rtol=0, atol=1e-12)


def test_the_weight_of_beta_darts_grows_as_published() -> None:
    vectors = golden("beta_darts")
    found = [LogSumExp().weight_at(at(int(epoch), 100)) for epoch in vectors["schedule_epoch"]]
    np.testing.assert_allclose(found, vectors["schedule_weight"], rtol=1e-12)


def test_the_regulariser_of_two_cells_is_the_mean_over_all_their_edges() -> None:
    normal, reduction = alphas(1), alphas(2)[:5].detach().requires_grad_()
    value, gradients = penalty_of(BetaDarts(), {"normal": normal, "reduction": reduction}, at(10))
    rows = [*normal.detach().exp().sum(-1).log(), *reduction.detach().exp().sum(-1).log()]
    assert value.item() == pytest.approx(10 * sum(map(float, rows)) / 19, rel=1e-12)
    torch.testing.assert_close(gradients[0], 10 * normal.detach().softmax(-1) / 19, rtol=1e-12, atol=0)
    one = {"normal": normal}
    assert BetaDarts().penalty(layout_of(one), one, at(0)) == 0, "the first epoch has none"


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("matrix", ["m0", "m1", "m2"])
def test_the_zero_one_loss_is_the_published_one(matrix: str, norm: Any) -> None:
    vectors = golden("fairdarts_zero_one")
    tables = {
        name: torch.from_numpy(vectors[f"{matrix}_alphas_{short}"]).requires_grad_()
        for name, short in (("normal", "normal"), ("reduction", "reduce"))
    }
    method = FairDarts(relaxation=Sigmoid(norm=norm))
    value, gradients = penalty_of(method, tables, at(0))
    assert value.item() == pytest.approx(10 * float(vectors[f"{matrix}_{norm}_zero_one"]), rel=1e-12)
    total = float(vectors[f"{matrix}_ce"]) + value.item()
    assert total == pytest.approx(float(vectors[f"{matrix}_{norm}_total"]), rel=1e-12)
    for gradient, short in zip(gradients, ("normal", "reduce"), strict=True):
        np.testing.assert_allclose(gradient.numpy(), vectors[f"{matrix}_{norm}_g_{short}"], rtol=0, atol=1e-12)


def test_sigmoids_do_not_compete() -> None:
    table = alphas()
    found = weights(FairDarts(), table)
    torch.testing.assert_close(found, 1 / (1 + (-table).exp()), rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(found[0, 0], table)
    assert int((gradient != 0).sum()) == 1
    assert FairDarts().relaxation.probabilities([0.0, 800.0, -800.0]) == [0.5, 1.0, 0.0]


@pytest.mark.parametrize("epoch", [0, 20, 49])
def test_gdas_is_its_formula_and_the_gradient_is_that_of_the_chosen_entry(epoch: int) -> None:
    table = alphas()
    found = weights(Gdas(), table, epoch=epoch)
    noise = torch.from_numpy(draws().generator("gumbel.cell").gumbel(size=SHAPE))
    temperature = 10 - 9.9 * epoch / 49
    with torch.no_grad():
        logits = table - table.exp().sum(-1, keepdim=True).log() + noise
        chosen = logits.argmax(-1)
    assert torch.equal(found.detach(), torch.nn.functional.one_hot(chosen, 7).double())
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found * upstream).sum(), table)
    # d softmax(z)_k / d alpha_j = p_k (1[j = k] - p_j) / temperature; log_softmax changes nothing, as rows are shifted
    p = (logits / temperature).softmax(-1)
    own = p.gather(1, chosen[:, None]) * upstream.gather(1, chosen[:, None]) / temperature
    wanted = own * (torch.nn.functional.one_hot(chosen, 7) - p)
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-14)


def test_gdas_draws_each_operation_as_often_as_its_softmax_says() -> None:
    table = alphas()
    counts = torch.stack([weights(Gdas(), table, step).detach() for step in range(4000)]).mean(0)
    assert (counts - table.detach().softmax(-1)).abs().max() < 0.035  # 4.4 standard deviations at 1/2


def test_a_dirichlet_sample_has_the_distributions_moments() -> None:
    table = torch.tensor([[0.5, -1.0, 2.0], [-3.0, -3.0, -2.0]], dtype=torch.float64)
    concentrations = torch.nn.functional.elu(table) + 1
    found = torch.stack([sample(concentrations, draws(step), "x") for step in range(6000)])
    torch.testing.assert_close(found.sum(-1), torch.ones(6000, 2, dtype=torch.float64), rtol=1e-12, atol=0)
    wanted = TorchDirichlet(concentrations)
    error = found.std(0) / math.sqrt(6000)
    assert ((found.mean(0) - wanted.mean).abs() < 4.5 * error).all()
    torch.testing.assert_close(found.var(0), wanted.variance, rtol=0.12, atol=0)
    assert found.min() > 0


def test_the_gradient_of_a_dirichlet_sample_is_torchs_and_that_of_the_mean_on_average() -> None:
    table = alphas()
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = weights(DrNas(), table)
    (gradient,) = torch.autograd.grad((found * upstream).sum(), table)
    leaf = table.detach().clone().requires_grad_()
    concentrations = torch.nn.functional.elu(leaf) + 1
    total = concentrations.detach().sum(-1, keepdim=True).expand(SHAPE)
    slopes = torch._dirichlet_grad(found.detach(), concentrations.detach(), total)
    inner = slopes * (upstream - (found.detach() * upstream).sum(-1, keepdim=True))
    (wanted,) = torch.autograd.grad(concentrations, leaf, inner)
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-14)
    few = torch.tensor([[0.5, -1.0, 0.2]], dtype=torch.float64, requires_grad=True)
    direction = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    each = torch.stack(
        [
            torch.autograd.grad((sample(torch.nn.functional.elu(few) + 1, draws(s), "x") * direction).sum(), few)[0]
            for s in range(3000)
        ]
    )
    positive = torch.nn.functional.elu(few) + 1
    (mean,) = torch.autograd.grad((positive / positive.sum() * direction).sum(), few)
    assert ((each.mean(0) - mean).abs() < 4.5 * each.std(0) / math.sqrt(3000)).all()


def test_the_divergence_of_drnas_is_the_integral() -> None:
    table = alphas()
    method = DrNas(relaxation=Dirichlet(regulariser="kl", weight=0.5))
    value, (gradient,) = penalty_of(method, {"cell": table}, at(0))
    leaf = table.detach().clone().requires_grad_()
    b = torch.nn.functional.elu(leaf) + 1
    total = b.sum(-1)
    by_hand = total.lgamma() - b.lgamma().sum(-1) - math.lgamma(7)
    by_hand = by_hand + ((b - 1) * (b.digamma() - total.digamma()[:, None])).sum(-1)
    torch.testing.assert_close(value, 0.5 * by_hand.sum(), rtol=1e-12, atol=0)
    (wanted,) = torch.autograd.grad(0.5 * by_hand.sum(), leaf)
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-14)
    flat = method.penalty(LAYOUT, {"cell": torch.zeros(SHAPE)}, at(0))
    assert flat is not None
    assert abs(flat.item()) < 1e-5, "at alpha 0 it is Dirichlet(1) itself"
    assert DrNas().penalty(LAYOUT, {"cell": table}, at(0)) is None, "l2 is the weight decay of the alphas"


@pytest.mark.parametrize("method", [Gdas(), DrNas()], ids=lambda method: method.kind)
def test_draws_are_a_function_of_seed_step_and_cell(method: Composed) -> None:
    layout = SpaceLayout("two", tuple(CellLayout(name, 2, 4, tuple("abcdefg"), 2) for name in "xy"), "a", frozenset())
    tables = {"x": alphas(), "y": alphas()}
    first, again = (method.weights(layout, tables, draws(), at(0)) for _ in range(2))
    assert torch.equal(first["x"], again["x"])
    assert not torch.equal(first["x"], first["y"]), "each kind of cell has draws of its own"
    for other in (draws(1), draws(0, seed=1)):
        assert not torch.equal(method.weights(layout, tables, other, at(0))["x"], first["x"])


def test_a_temperature_ends_in_the_last_epoch() -> None:
    gumbel = Gumbel()
    assert [gumbel.temperature_at(at(epoch, 250)) for epoch in (0, 249)] == [10.0, pytest.approx(0.1)]
    assert gumbel.temperature_at(at(0, 1)) == 10.0
    with pytest.raises(ValueError, match="temperature_end 11"):
        Gumbel(temperature_end=11)
