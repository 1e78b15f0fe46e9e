"""The recurrent cell as one node of the graph: its own derivatives are those of ordinary operators, in every mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks

from ray_darts.spaces.batch_norm import synchronise
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.recurrent.space import RecurrentSpace
from ray_darts.spaces.recurrent.supernet import RecurrentSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.mixing import Alphas
from tests.spaces.recurrent_oracle import RecurrentOracle
from tests.spaces.test_cost import Calls
from tests.spaces.test_kernel import needs_compiler
from tests.spaces.test_recurrent_supernet import alphas_of, carry_of, largest_difference, supernet_of, tiny, tokens

TOLERANCE, STEPS = 1e-12, 20


def sum_of_one(moments: Tensor) -> Tensor:
    """The sum over a single rank."""
    return moments.clone()


def loss_of(supernet: RecurrentSupernet, alphas: Alphas, purpose: Pass = Pass.WEIGHT) -> Tensor:
    supernet.begin_step()
    return supernet.loss(tokens(), carry_of(), purpose, alphas.mixing()).loss


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("held", ["nothing", "weights", "alphas"])
@pytest.mark.parametrize("synchronised", [False, True])
def test_gradients_agree_with_the_oracle_whatever_is_held(dropout: float, held: str, synchronised: bool) -> None:
    space = tiny(dropout_hidden=dropout)
    supernet, alphas = supernet_of(space), alphas_of(space)
    oracle = RecurrentOracle(space, supernet, dict(alphas.cells.items()))
    if synchronised:
        synchronise(supernet, sum_of_one)
    supernet.requires_grad_(held != "weights")
    alphas.requires_grad_(held != "alphas")
    pairs = [*zip(supernet.parameters(), oracle.weights.values(), strict=True)] if held != "weights" else []
    pairs += [*zip(alphas.parameters(), oracle.alphas.values(), strict=True)] if held != "alphas" else []
    ours, theirs = zip(*pairs, strict=True)
    loss = oracle.loss(tokens(), carry_of(), weight_step=True)[0]
    found = torch.autograd.grad(loss_of(supernet, alphas), ours)
    assert largest_difference(list(found), list(torch.autograd.grad(loss, theirs))) < TOLERANCE
    statistics = [supernet.cell.batch_norm.running_mean, supernet.cell.batch_norm.running_var]
    assert largest_difference(statistics, [oracle.running_mean, oracle.running_var]) < TOLERANCE


def test_the_gradient_in_the_first_hidden_state_is_the_oracles() -> None:
    space = tiny()
    supernet, alphas = supernet_of(space), alphas_of(space)
    oracle = RecurrentOracle(space, supernet, dict(alphas.cells.items()))
    supernet.requires_grad_(False)
    carry = carry_of().requires_grad_()
    (found,) = torch.autograd.grad(supernet.loss(tokens(), carry, Pass.ALPHA, alphas.mixing()).loss, carry)
    (expected,) = torch.autograd.grad(oracle.loss(tokens(), carry, weight_step=False)[0], carry)
    assert largest_difference([found], [expected]) < TOLERANCE


@pytest.mark.parametrize("synchronised", [False, True])
def test_the_alpha_hessian_with_weights_held_is_the_oracles(synchronised: bool) -> None:
    """What the dominant eigenvalue asks for."""
    space = tiny()
    supernet, alphas = supernet_of(space), alphas_of(space)
    oracle = RecurrentOracle(space, supernet, dict(alphas.cells.items()))
    if synchronised:
        synchronise(supernet, sum_of_one)

    def product(loss: Tensor, table: Tensor) -> Tensor:
        (inner,) = torch.autograd.grad(loss, table, create_graph=True)
        return torch.autograd.grad(inner.square().sum(), table)[0]

    with_weights = product(oracle.loss(tokens(), carry_of(), weight_step=True)[0], oracle.alphas["recurrent"])
    supernet.requires_grad_(False)
    (table,) = alphas.parameters()
    assert largest_difference([product(loss_of(supernet, alphas), table)], [with_weights]) < TOLERANCE
    statistics = [supernet.cell.batch_norm.running_mean, supernet.cell.batch_norm.running_var]
    assert largest_difference(statistics, [oracle.running_mean, oracle.running_var]) < TOLERANCE, "updated once"


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # PyTorch's own, in some rules
def test_forward_mode_differentiates_a_loss_and_its_gradient() -> None:
    """Along a direction of the mixing weights, the loss and its gradient in the weights, as by double backward."""
    supernet, space = supernet_of(tiny()), tiny()
    probabilities = alphas_of(space).mixing()["recurrent"].detach().requires_grad_()
    direction = torch.randn(probabilities.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    weight = supernet.cell.node_weights

    def loss(mixing: Tensor) -> Tensor:
        return supernet.loss(tokens(), carry_of(), Pass.ALPHA, {"recurrent": mixing}).loss

    (inner,) = torch.autograd.grad(loss(probabilities), probabilities, create_graph=True)
    expected = (inner * direction).sum()
    (mixed,) = torch.autograd.grad(expected, weight)
    with forward_ad.dual_level():
        value = loss(forward_ad.make_dual(probabilities.detach(), direction))  # type: ignore[no-untyped-call]
        (gradient,) = torch.autograd.grad(value, weight)
        tangents = [forward_ad.unpack_dual(each).tangent for each in (value, gradient)]  # type: ignore[no-untyped-call]
    assert largest_difference(tangents, [expected.detach(), mixed]) < TOLERANCE


def test_a_single_column_is_refused_and_not_normalised_to_zero() -> None:
    supernet, alphas = supernet_of(tiny()), alphas_of(tiny())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        supernet.loss(tokens(columns=1), carry_of(1), Pass.ALPHA, alphas.mixing())


def test_bfloat16_passes_stay_near_those_in_float32() -> None:
    supernet, alphas = supernet_of(tiny()).float(), alphas_of(tiny()).float()
    ours = [*supernet.parameters(), *alphas.parameters()]
    carry = carry_of().float()
    losses = []
    for reduced in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            losses.append(supernet.loss(tokens(), carry, Pass.ALPHA, alphas.mixing()).loss)
        assert all(g.isfinite().all() and g.dtype == torch.float32 for g in torch.autograd.grad(losses[-1], ours))
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("held", ["weights", "alphas"])
def test_an_edge_keeps_gate_candidate_and_excess_alone(held: str) -> None:
    space = tiny(nodes=8)
    supernet, alphas = supernet_of(space), alphas_of(space)
    (supernet if held == "weights" else alphas).requires_grad_(False)
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        inputs = torch.zeros(STEPS, 4, 6, dtype=torch.float64)
        supernet.cell(inputs, carry_of(), alphas.mixing()["recurrent"], None, update=False)
    edges, states = 36 + 1, 9
    parameters = sum(parameter.numel() for parameter in supernet.cell.parameters())
    assert sum(sizes) < STEPS * 4 * 6 * (3 * edges + 3 * states) + 2 * parameters


def recomputed_of(space: RecurrentSpace) -> tuple[RecurrentSupernet, RecurrentSupernet]:
    """The same supernet without and with time steps that are computed again."""
    plain, recomputed = supernet_of(space), supernet_of(space)
    recomputed.cell._recompute = True
    return plain, recomputed


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("synchronised", [False, True])
@pytest.mark.parametrize("reduced", [False, True], ids=["float64", "bfloat16"])
def test_recomputed_time_steps_have_the_same_bits(dropout: float, synchronised: bool, reduced: bool) -> None:
    """But for a weight step with synchronised statistics: those are taken about running means, which have moved."""
    space, purpose = tiny(dropout_hidden=dropout), Pass.ALPHA if synchronised else Pass.WEIGHT
    losses, gradients, statistics = [], [], []
    for supernet in recomputed_of(space):
        alphas = alphas_of(space)
        if synchronised:
            synchronise(supernet, sum_of_one)
        carry = carry_of()
        if reduced:
            supernet, alphas, carry = supernet.float(), alphas.float(), carry.float()
        supernet.begin_step()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            losses.append(supernet.loss(tokens(10), carry, purpose, alphas.mixing()).loss)
        asked = [*supernet.parameters(), *alphas.parameters()]
        gradients.append(torch.autograd.grad(losses[-1], asked, retain_graph=True))
        assert all(map(torch.equal, torch.autograd.grad(losses[-1], asked), gradients[-1])), "and when asked again"
        statistics.append([supernet.cell.batch_norm.running_mean, supernet.cell.batch_norm.running_var])
    assert torch.equal(*losses)
    assert all(map(torch.equal, *gradients))
    assert all(map(torch.equal, *statistics)), "updated once"


@pytest.mark.parametrize("synchronised", [False, True])
def test_recomputed_time_steps_have_second_derivatives(synchronised: bool) -> None:
    space = tiny(dropout_hidden=0.25)
    products = []
    for supernet in recomputed_of(space):
        alphas = alphas_of(space)
        if synchronised:
            synchronise(supernet, sum_of_one)
        asked = [*supernet.parameters(), *alphas.parameters()]
        inner = torch.autograd.grad(loss_of(supernet, alphas), asked, create_graph=True)
        products.append(torch.autograd.grad(torch.stack([each.square().sum() for each in inner]).sum(), asked))
        products[-1] += supernet.cell.batch_norm.running_mean, supernet.cell.batch_norm.running_var
    assert products[0][0].abs().max() > 1e-6
    assert largest_difference(*map(list, products)) < TOLERANCE


def test_recomputed_time_steps_keep_a_state_for_each_segment() -> None:
    space, kept = tiny(nodes=8), []
    for supernet in recomputed_of(space):
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            inputs = torch.zeros(25, 4, 6, dtype=torch.float64)
            supernet.cell(inputs, carry_of(), alphas_of(space).mixing()["recurrent"], None, update=False)
        kept.append(sum(sizes))
    states, projected = 5 * 4 * 6, 25 * 4 * 12
    parameters = sum(parameter.numel() for parameter in supernet.cell.parameters())
    assert kept[1] < states + projected + 3 * parameters < 0.2 * kept[0]


def test_ordinary_operators_are_recomputed_too() -> None:
    """As forward mode needs them; statistics are updated once, and segments keep what they are given alone."""
    space, kept, found = tiny(), [], []
    for supernet in recomputed_of(space):
        alphas, sizes = alphas_of(space), list[int]()

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with forward_ad.dual_level():
            with saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = supernet.loss(tokens(10), carry_of(), Pass.WEIGHT, alphas.mixing()).loss
            gradients = torch.autograd.grad(loss, [*supernet.parameters(), *alphas.parameters()])
        kept.append(sum(sizes))
        found.append([*gradients, supernet.cell.batch_norm.running_mean, supernet.cell.batch_norm.running_var])
    assert largest_difference(*found) < TOLERANCE
    assert kept[1] < 0.3 * kept[0]


@pytest.mark.parametrize(
    ("compiled", "most"), [(False, 1_030), pytest.param(True, 450, marks=needs_compiler)], ids=["operators", "kernel"]
)
def test_a_word_costs_few_operator_calls(compiled: bool, most: int) -> None:
    """Of both passes of a first-order step, forward and backward, at 8 nodes: the oracle makes 7,000 a word."""
    space = tiny(nodes=8)
    supernet, alphas = supernet_of(space), alphas_of(space)
    supernet.cell._kernel = Kernel() if compiled else None
    counts = []
    for steps in (2, 12):
        with Calls() as calls:
            for purpose, asked in ((Pass.ALPHA, alphas), (Pass.WEIGHT, supernet)):
                supernet.requires_grad_(asked is supernet)
                alphas.requires_grad_(asked is alphas)
                supernet.begin_step()
                loss = supernet.loss(tokens(steps), carry_of(), purpose, alphas.mixing()).loss
                torch.autograd.grad(loss, list(asked.parameters()))
        counts.append(calls.names.total())
        assert not any("addmm_" in name for name in calls.names), "a dry run has no formula for it"
    assert (counts[1] - counts[0]) / 10 <= most
