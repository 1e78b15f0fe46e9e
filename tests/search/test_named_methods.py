"""Every method of the package in a real search: the gradient against autograd, any world size, resumed, on `meta`."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ray_darts.config import SearchConfig, load_config
from ray_darts.data.batch import Batch, Draws
from ray_darts.genotype.layout import ALPHAS
from ray_darts.methods.composed import Composed
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order, Progress
from ray_darts.protocols.registry import BUILT_IN
from ray_darts.search.architecture import one_hot_mixing
from ray_darts.search.footprint import measure_footprint
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.supernet import Pass, Supernet
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.search.ranks import RankProcesses
from tests.search.searches import CPU, Remembering, tiny_config, tiny_data, tiny_loop
from tests.search.test_loop import COMMIT
from tests.search.test_meta import META, image_batch, meta_step

METHODS = [name for name in BUILT_IN["method"] if name not in ("darts", "random")]
SMALLER = {"pc-darts": ("method.partial_channels.parts=2",), "sdarts-adv": ("method.perturbation.ascent_steps=3",)}
MIDDLE = Progress(step=4, total_steps=9, epoch=1, epochs=3)


def config_of(name: str, *overrides: str) -> SearchConfig:
    """A tiny search with a method; four channels, of which parts can be taken."""
    return tiny_config(
        f"method.kind={name}", *SMALLER.get(name, ()), "space.channels=4", "alphas.init_scale=0.5", *overrides
    )


def orders() -> list[tuple[str, Order]]:
    """Each method in each order that it defines."""
    methods = {name: config_of(name).method for name in METHODS}
    return [(name, order) for name, method in methods.items() for order in method.orders]


class AsModule(nn.Module):
    """Calls the loss of a supernet, so that functional_call can give it weights."""

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.inner = supernet

    def forward(self, batch: Batch, mixing: Mapping[str, Tensor]) -> Tensor:
        """The loss of a pass of the alpha step."""
        return self.inner.loss(batch, None, Pass.ALPHA, mixing).loss


def as_leaves(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that require gradients."""
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}


def reference_gradient(step: BilevelStep, train: Batch, validation: Batch, rate: float) -> Tensor:
    """d/dalpha of L_val(w', alpha) + penalty by autograd through w' (arXiv:1806.09055, eq. 6); first order: w' = w."""
    method = step.architecture.method
    leaves = as_leaves(step.alphas.tensors)
    weights = as_leaves({f"inner.{name}": tensor for name, tensor in step.weights.tensors.items()})
    module, layout = AsModule(step.supernet), step.supernet.layout
    draws = Draws(0, "architecture.alpha", MIDDLE.step, 0, 1, 1)
    mixing = method.weights(layout, leaves, draws, MIDDLE)
    moved = weights
    if step.order == "second":
        training = mixing
        disturbance = step.disturbance(train, Pass.ALPHA, MIDDLE)
        if disturbance is not None:
            training = method.disturbed(mixing, disturbance)
        loss = functional_call(module, weights, (train, training))
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, allow_unused=True)
        settings = step.config.weights
        buffers = step.weights.views(step.sgd.momentum_buffer)
        moved = {
            name: weight
            - rate * ((0 if g is None else g) + settings.weight_decay * weight + settings.momentum * buffer)
            for (name, weight), g, buffer in zip(weights.items(), gradients, buffers, strict=True)
        }
    value = functional_call(module, moved, (validation, mixing))
    penalty = method.penalty(layout, leaves, MIDDLE)
    value = value if penalty is None else value + penalty
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.values(), found, strict=True)
    return torch.cat([(torch.zeros_like(leaf) if g is None else g).flatten() for leaf, g in pairs])


@pytest.mark.parametrize(("name", "order"), orders())
def test_the_alpha_gradient_is_that_of_autograd_through_the_virtual_step(name: str, order: Order) -> None:
    config = config_of(name, "search.hessian=exact")
    loop = tiny_loop(config, order, SingleRank())
    step, data = loop.bilevel, tiny_data(config)
    for index in range(2):  # momentum away from zero
        step.step_(*data.bilevel_batches(0, index, SingleRank().shard, CPU), 0.1, progress=MIDDLE)
    train, validation = data.bilevel_batches(0, 2, SingleRank().shard, CPU)
    found, _ = step.alpha_gradient(train, validation, 0.1, MIDDLE)
    wanted = reference_gradient(step, train, validation, 0.1)
    assert wanted.abs().max() > 1e-4
    torch.testing.assert_close(found.gradient, wanted, rtol=1e-9, atol=1e-12)


def test_a_perturbation_changes_the_second_order_and_not_the_first() -> None:
    """With the same weights and draws: the first order knows the validation loss alone."""
    found = {}
    for name in ("darts", "sdarts-rs"):
        for order in ("first", "second"):
            config = config_of(name, "search.hessian=exact")
            loop = tiny_loop(config, "second" if order == "second" else "first", SingleRank())
            train, validation = tiny_data(config).bilevel_batches(0, 0, SingleRank().shard, CPU)
            found[name, order] = loop.bilevel.alpha_gradient(train, validation, 0.1, MIDDLE)[0].gradient
    torch.testing.assert_close(found["darts", "first"], found["sdarts-rs", "first"], rtol=0, atol=0)
    assert (found["darts", "second"] - found["sdarts-rs", "second"]).abs().max() > 1e-6


def alphas_after_steps(collectives: Collectives, names: list[str], steps: int) -> dict[str, NDArray[np.float64]]:
    """{method: all architecture parameters after some steps} with synchronised batch norm."""
    found = {}
    for name in names:
        config = config_of(name, "search.batch_norm=sync", "search.epochs=9", "alphas.learning_rate=0.02")
        loop = tiny_loop(config, config.method.orders[-1], collectives)
        data = tiny_data(config)
        for index in range(steps):
            epoch, place = divmod(index, data.num_steps(0))
            batches = data.bilevel_batches(epoch, place, collectives.shard, CPU)
            loop.bilevel.step_(*batches, 0.05, progress=Progress(index, 27, epoch, 9))
        found[name] = np.array(loop.bilevel.alphas.vector.numpy())
    return found


def test_one_two_and_three_workers_agree_in_every_alpha_of_every_method(ranks: RankProcesses) -> None:
    (alone,) = ranks.run(1, alphas_after_steps, METHODS, 2)
    for world_size in (2, 3):
        each = ranks.run(world_size, alphas_after_steps, METHODS, 2)
        for name in METHODS:
            for found in each:
                np.testing.assert_array_equal(found[name], each[0][name], err_msg=name)
                np.testing.assert_allclose(found[name], alone[name], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "darts-pt"])  # its phase: test_projection.py
def test_a_search_resumed_from_any_commit_has_the_same_bits(name: str) -> None:
    config = config_of(name)
    order = config.method.orders[-1]
    sink = Remembering(dict.fromkeys(range(20), COMMIT))
    verdict = tiny_loop(config, order, SingleRank()).run(sink)
    assert verdict.kind == "finished"
    for snapshot in sink.snapshots[1::3]:
        resumed = tiny_loop(config, order, SingleRank())
        resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
        rest = Remembering()
        assert resumed.run(rest) == verdict
        rows = np.concatenate([sink.trace[: snapshot.step], *[s.rows[ALPHAS] for s in rest.snapshots]])
        np.testing.assert_array_equal(rows, sink.trace)


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_step_at_full_size_reads_nothing_back(name: str) -> None:
    """But for the chosen operations: on the meta device each edge has another one in its turn."""
    config = load_config("cifar10", overrides=[f"method.kind={name}", "space.layers=3", "space.nodes=2"])
    step = meta_step(config, DataFacts(10, 3, 32), config.method.orders[-1])
    step.step_(image_batch(32, 64, "train"), image_batch(32, 64, "validation"), 0.025, progress=MIDDLE)
    assert step.alphas.vector.device == META


@pytest.mark.parametrize("name", ["gdas", "drnas", "fair-darts", "sdarts-adv"])
def test_text_is_searched_too(name: str) -> None:
    """Methods that ask nothing of a supernet work in every space."""
    from tests.search.text_searches import text_config, text_loop

    overrides = ["method.relaxation.keep_above=0"] if name == "fair-darts" else []
    config = text_config(f"method.kind={name}", *overrides)
    verdict = text_loop(config, "first", SingleRank()).run(Remembering())
    assert verdict.kind == "finished"


def test_alphas_are_frozen_while_a_method_warms_up() -> None:
    sink = Remembering()
    tiny_loop(config_of("darts", "method.warmup=0.4"), "first", SingleRank()).run(sink)
    moved = [bool(np.any(row != sink.trace[0])) for row in sink.trace]
    assert moved == [False] * 3 + [True] * 6, "one of three epochs, rounded down"


def test_a_penalty_counts_once_however_many_micro_batches() -> None:
    """The gradient of beta-DARTS less that of DARTS is the penalty's alone."""
    for accumulate in (1, 3):
        found = {}
        for name in ("darts", "beta-darts"):
            config = config_of(name, f"search.accumulate={accumulate}")
            loop = tiny_loop(config, "first", SingleRank())
            train, validation = tiny_data(config).bilevel_batches(0, 0, SingleRank().shard, CPU)
            found[name] = loop.bilevel.alpha_gradient(train, validation, 0.1, MIDDLE)[0].gradient
        method = config_of("beta-darts").method
        assert isinstance(method, Composed)
        tables = as_leaves(loop.bilevel.alphas.tensors)
        penalty = method.penalty(loop.layout, tables, MIDDLE)
        assert penalty is not None
        wanted = torch.cat([g.flatten() for g in torch.autograd.grad(penalty, list(tables.values()))])
        torch.testing.assert_close(found["beta-darts"] - found["darts"], wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["darts", "sdarts-rs", "sdarts-adv"])
def test_the_weight_step_descends_the_disturbed_training_loss(name: str) -> None:
    config = config_of(name)
    step = tiny_loop(config, "first", SingleRank()).bilevel
    train, validation = tiny_data(config).bilevel_batches(0, 0, SingleRank().shard, CPU)
    leaves = as_leaves({f"inner.{name}": tensor for name, tensor in step.weights.tensors.items()})
    mixing = {cell: table.detach() for cell, table in step.architecture.mixing("weight", MIDDLE.step, MIDDLE).items()}
    disturbance = step.disturbance(train, Pass.WEIGHT, MIDDLE)
    assert (disturbance is None) == (name == "darts")
    if disturbance is not None:
        assert max(float(delta.abs().max()) for delta in disturbance.values()) > 0.01
        mixing = dict(config.method.disturbed(mixing, disturbance))
    loss = functional_call(AsModule(step.supernet), leaves, (train, mixing))
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.values(), found, strict=True)
    gradients = [torch.zeros_like(leaf) if g is None else g for leaf, g in pairs]
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    assert config.weights.clip is not None
    scale = float((config.weights.clip / norm).clamp(max=1))
    start = step.weights.vector.clone()
    step.step_(train, validation, 0.1, move_alphas=False, progress=MIDDLE)
    before, after = step.weights.views(start), step.weights.views(step.weights.vector)
    for w, moved, gradient in zip(before, after, gradients, strict=True):
        wanted = w - 0.1 * (scale * gradient + config.weights.weight_decay * w)
        torch.testing.assert_close(moved, wanted, rtol=0, atol=1e-12)


def test_the_gap_of_discretising_partial_channels_is_that_of_the_kept_edges_alone() -> None:
    config = config_of("pc-darts")
    loop = tiny_loop(config, "first", SingleRank())
    loop.run(Remembering())
    genotype = loop._watch.genotype
    assert genotype is not None
    alone = one_hot_mixing(loop.layout, genotype, loop.bilevel.alphas.vector, with_edges=True)
    assert [int(alone[f"edges.{cell.name}"].sum()) for cell in loop.layout.cells] == [4, 4]
    plain = {name: table for name, table in alone.items() if not name.startswith("edges.")}
    totals = [loop._evaluate(mixing, by_batch=True) for mixing in (alone, plain)]
    found = loop._discrete()["validation_discrete_loss"]
    losses = [loop.supernet.summarise(total, "x")["x_loss"] for total in totals]
    assert found == losses[0]
    assert abs(losses[0] - losses[1]) > 1e-3, "the channels that bypass dropped edges count there"


def test_a_dry_run_counts_what_a_method_adds_or_leaves_out() -> None:
    flops = {}
    for name in ("darts", "lambda-darts", "gdas"):
        config = load_config("cifar10", overrides=[f"method.kind={name}", "space.layers=3", "space.nodes=2"])
        flops[name] = measure_footprint(config, DataFacts(10, 3, 32), "first", "cpu").flops
    assert flops["lambda-darts"] > 1.5 * flops["darts"]
    assert flops["gdas"] < 0.5 * flops["darts"]


def test_one_kind_of_cell_has_one_set_of_alphas_whose_gradient_has_the_reduction_cells_in_it() -> None:
    config = tiny_config("space.single_cell=true", "search.hessian=exact", "alphas.init_scale=0.5")
    loop = tiny_loop(config, "second", SingleRank())
    assert list(loop.bilevel.alphas.tensors) == ["normal"]
    train, validation = tiny_data(config).bilevel_batches(0, 0, SingleRank().shard, CPU)
    found, _ = loop.bilevel.alpha_gradient(train, validation, 0.1, MIDDLE)
    wanted = reference_gradient(loop.bilevel, train, validation, 0.1)
    torch.testing.assert_close(found.gradient, wanted, rtol=1e-9, atol=1e-12)
    assert loop.supernet.layers_of_cells == {"normal": 3}
    verdict = loop.run(Remembering())
    assert verdict.kind == "finished"
    assert verdict.answer is not None


@pytest.mark.parametrize("preset", ["digits", "nasbench201-digits"])
def test_a_pass_in_which_every_edge_samples_none_has_no_gradient_and_is_a_step_like_any_other(preset: str) -> None:
    sizes = ["space.channels=2", "data.fraction=0.1", "search.batch_size=16", "search.epochs=1"]
    config = load_config(preset, overrides=[*sizes, "method.kind=gdas", "alphas.weight_decay=0"])
    loop = tiny_loop(config, "first", SingleRank())
    with torch.no_grad():
        for cell in loop.layout.cells:
            loop.bilevel.alphas.tensors[cell.name][:, cell.operations.index("none")] = 1000.0
    before = loop.bilevel.alphas.vector.clone()
    sink = Remembering()
    verdict = loop.run(sink)
    assert (verdict.kind, verdict.step) == ("finished", loop.total_steps)
    assert torch.equal(loop.bilevel.alphas.vector, before)
    assert sink.epochs[0].train_loss is not None
