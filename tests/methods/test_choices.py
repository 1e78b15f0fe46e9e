"""Edges that have not all operations: every method gives the others no weight, no gradient, and never decodes them."""

from __future__ import annotations

import pytest
import torch

from ray_darts.config.kinds import read_method
from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.methods.composed import Composed
from ray_darts.methods.named import BetaDarts, DrNas, FairDarts
from ray_darts.methods.relaxations import Dirichlet
from ray_darts.protocols.method import Progress
from ray_darts.protocols.registry import BUILT_IN
from tests.methods.test_relaxations import at, draws

NAMES = ("none", "a", "b", "c")
CHOICES = (("a", "b"), ("b", "c", "none"), ("c",), ("a", "none"), ("a", "b", "c"))
WHOLE = SpaceLayout("s", (CellLayout("cell", 2, 2, NAMES, 2),), "a", frozenset({"a"}), may_keep_fewer=True)
LAYOUT = SpaceLayout(
    "s", (CellLayout("cell", 2, 2, NAMES, 2, choices=CHOICES),), "a", frozenset({"a"}), may_keep_fewer=True
)
ALLOWED = torch.tensor([[name in row for name in NAMES] for row in CHOICES])
COMPOSED = [name for name in BUILT_IN["method"] if name != "random"]


def leaves(method: Composed, seed: int = 0) -> dict[str, torch.Tensor]:
    """Parameters away from zero."""
    draw = torch.Generator().manual_seed(seed)
    return {
        group.name: torch.randn(group.shape, generator=draw, dtype=torch.float64).requires_grad_()
        for group in method.groups(LAYOUT)
    }


@pytest.mark.parametrize("name", COMPOSED)
def test_operations_that_an_edge_has_not_get_no_weight_and_no_gradient(name: str) -> None:
    method = read_method({"kind": name})
    assert isinstance(method, Composed)
    parameters, progress = leaves(method), at(25)
    weights = method.weights(LAYOUT, parameters, draws(), progress)
    deltas = method.disturbance(LAYOUT, {k: v.detach() for k, v in parameters.items()}, draws(), progress, flat_loss)
    if deltas is not None:
        weights = method.disturbed(weights, deltas)
    table = weights["cell"]
    assert table[~ALLOWED].abs().max() == 0
    if name != "fair-darts":
        torch.testing.assert_close(table.sum(-1), torch.ones(5, dtype=torch.float64), rtol=1e-12, atol=0)
    upstream = torch.randn(table.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss = (table * upstream).sum()
    penalty = method.penalty(LAYOUT, parameters, progress)
    (gradient,) = torch.autograd.grad(loss if penalty is None else loss + penalty, parameters["cell"])
    assert gradient[~ALLOWED].abs().max() < 1e-15, "of a Dirichlet sample the parts cancel, up to rounding"
    assert torch.isfinite(gradient).all()


def flat_loss(weights: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A training loss for an adversary."""
    return torch.zeros(()), {"cell": torch.ones(5, 4, dtype=torch.float64)}


@pytest.mark.parametrize("name", COMPOSED)
def test_only_what_an_edge_has_is_decoded(name: str) -> None:
    method = read_method({"kind": name})
    for seed in range(20):
        flat = torch.cat([table.detach().flatten() for table in leaves(method, seed).values()]).tolist()  # type: ignore[arg-type]
        decoding = method.decode(LAYOUT, flat)
        decoding.genotype.check(LAYOUT)
        for row, has in zip(method.mixing(LAYOUT, flat)["cell"], ALLOWED.tolist(), strict=True):
            assert all(value == 0 for value, each in zip(row, has, strict=True) if not each)


def test_random_search_draws_what_the_edges_have() -> None:
    method = read_method({"kind": "random"})
    drawn = set()
    for seed in range(200):
        genotype = method.decode(LAYOUT, method.draw(LAYOUT, seed)).genotype
        genotype.check(LAYOUT)
        drawn |= {
            (operation, source, node) for node, c in enumerate(genotype.cells[0].nodes) for operation, source in c
        }
    wanted = {
        (name, source, target - 2)
        for (source, target), row in zip(LAYOUT.cells[0].edges, CHOICES, strict=True)
        for name in row
        if name != "none"
    }
    assert drawn == wanted


def test_a_genotype_with_an_operation_of_another_edge_is_refused() -> None:
    genotype = read_method().decode(WHOLE, [0.0, 0.0, 0.0, 1.0] * 5).genotype
    with pytest.raises(GenotypeError, match="'c' is not on this edge, which has a, b"):
        genotype.check(LAYOUT)
    Genotype.from_json(genotype.to_json(), WHOLE)


def test_penalties_count_the_operations_that_are_there() -> None:
    table = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    progress = Progress(0, 50, 25, 50)
    rows = [
        torch.tensor([v for v, has in zip(row, each, strict=True) if has])
        for row, each in zip(table, ALLOWED, strict=True)
    ]
    beta = BetaDarts().penalty(LAYOUT, {"cell": table}, progress)
    assert beta is not None
    assert beta.item() == pytest.approx(25 * sum(float(row.logsumexp(0)) for row in rows) / 5, rel=1e-12)
    fair = FairDarts().penalty(LAYOUT, {"cell": table}, progress)
    assert fair is not None
    flat = torch.cat(rows)
    assert fair.item() == pytest.approx(-10 * float((flat.sigmoid() - 0.5).square().mean()), rel=1e-12)
    drnas = DrNas(relaxation=Dirichlet(regulariser="kl", weight=1.0)).penalty(LAYOUT, {"cell": table}, progress)
    assert drnas is not None
    total = 0.0
    for row in rows:
        found = torch.distributions.Dirichlet(torch.nn.functional.elu(row) + 1) if len(row) > 1 else None
        if found is not None:
            flat_one = torch.distributions.Dirichlet(torch.ones(len(row), dtype=torch.float64))
            total += float(torch.distributions.kl_divergence(found, flat_one))
    assert drnas.item() == pytest.approx(total, rel=1e-9)
