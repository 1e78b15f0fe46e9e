"""The search on text: the same loop with a carry, dropout masks held within a step, and batch norm in a time loop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.config import SearchConfig
from ray_darts.data.batch import Batch
from ray_darts.protocols.method import Order
from ray_darts.protocols.task import Wants
from ray_darts.search.loop import SearchLoop
from ray_darts.spaces.recurrent.space import RecurrentSpace
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.search.ranks import RankProcesses
from tests.search.searches import CPU, Remembering, answer_of
from tests.search.text_searches import language, text_config, text_loop, text_streams, unigram_perplexity
from tests.spaces.recurrent_oracle import RecurrentOracle

STEPS = 6
RATE = 2.0
ORDERS = [("first", "finite_difference"), ("second", "finite_difference"), ("second", "exact")]


def after_steps(
    collectives: Collectives, order: Order, hessian: str, batch_norm: str, masks: str = "global"
) -> dict[str, NDArray[np.float64]]:
    """Alphas, weights and statistics after some steps over two epochs; `masks` "local": each rank draws its own."""
    config = text_config(f"search.hessian={hessian}", f"search.batch_norm={batch_norm}")
    loop = text_loop(config, order, collectives)
    streams = text_streams(config)
    epochs = [(epoch, index) for epoch in range(2) for index in range(streams.num_steps(epoch))]
    for epoch, index in epochs[:STEPS]:
        train, validation = streams.bilevel_batches(epoch, index, collectives.shard, CPU)
        if masks == "local":
            rank = collectives.shard.rank
            train, validation = (replace(b, draws=replace(b.draws, seed=rank)) for b in (train, validation))
        loop.bilevel.step_(train, validation, RATE * train.learning_rate_scale)
    bilevel = loop.bilevel
    flat = {"alphas": bilevel.alphas, "weights": bilevel.weights, "statistics": bilevel.statistics}
    return {name: vector.vector.numpy().copy() for name, vector in flat.items()}


@pytest.mark.parametrize(("order", "hessian"), ORDERS)
def test_one_two_and_three_workers_agree_with_dropout_on(ranks: RankProcesses, order: Order, hessian: str) -> None:
    (alone,) = ranks.run(1, after_steps, order, hessian, "sync")
    assert np.abs(alone["alphas"]).max() > 0.01, "the alphas must have moved from 1e-3 * randn"
    for world_size in (2, 3):
        for state in ranks.run(world_size, after_steps, order, hessian, "sync"):
            for name, values in state.items():
                np.testing.assert_allclose(values, alone[name], rtol=0, atol=1e-12, err_msg=name)


def test_masks_of_a_rank_s_own_or_local_statistics_would_be_seen(ranks: RankProcesses) -> None:
    (alone,) = ranks.run(1, after_steps, "first", "finite_difference", "sync")
    for batch_norm, masks in (("sync", "local"), ("local", "global")):
        other = ranks.run(2, after_steps, "first", "finite_difference", batch_norm, masks)[1]
        assert np.abs(other["alphas"] - alone["alphas"]).max() > 1e-6


def calls_of_a_step(collectives: Collectives, batch_norm: str) -> tuple[int, int, int]:
    """(collectives of one first-order step, words of its train window, words of its validation window)."""
    config = text_config(f"search.batch_norm={batch_norm}")
    loop = text_loop(config, "first", collectives)
    train, validation = text_streams(config).bilevel_batches(0, 0, collectives.shard, CPU)
    before = collectives.num_calls
    loop.bilevel.step_(train, validation, 20.0)
    return collectives.num_calls - before, len(train.inputs), len(validation.inputs)


def test_synchronised_statistics_cost_two_collectives_per_state_and_word(ranks: RankProcesses) -> None:
    """1 + nodes normalised states a word, forward and backward, in the alpha and in the weight pass.

    The alphas reach all but the very first state, so the alpha pass saves one.
    """
    states = 1 + 2
    calls, words, validation_words = ranks.run(2, calls_of_a_step, "sync")[0]
    assert calls == 2 + 2 * states * (words + validation_words) - 1
    assert ranks.run(2, calls_of_a_step, "local")[0][0] == 2


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_search_on_text_resumed_from_any_commit_has_the_same_bits(order: Order) -> None:
    config = text_config()
    sink = Remembering(dict.fromkeys(range(20), Wants(commit=True)))
    whole = text_loop(config, order, SingleRank())
    verdict = whole.run(sink)
    assert verdict.kind == "finished"
    within = [s for s in sink.snapshots if s.state["index"]]
    assert within, "some commits lie within an epoch, where hidden states count"
    assert all({"carry/train", "carry/validation"} <= s.tensors.keys() for s in within)
    for snapshot in sink.snapshots[:-1]:
        resumed = text_loop(config, order, SingleRank())
        resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
        rest = Remembering()
        again = resumed.run(rest)
        np.testing.assert_array_equal(rest.trace, sink.trace[snapshot.step :])
        assert again == verdict
        for name, array in rest.snapshots[-1].tensors.items():
            np.testing.assert_array_equal(array, sink.snapshots[-1].tensors[name], err_msg=name)


@pytest.mark.parametrize("forgotten", ["carry/train", "carry/validation"])
def test_a_resume_without_a_hidden_state_would_be_seen(forgotten: str) -> None:
    config = text_config()
    sink = Remembering({0: Wants(commit=True)})
    text_loop(config, "second", SingleRank()).run(sink)
    snapshot = sink.snapshots[0]
    assert snapshot.state["index"]
    tensors = dict(snapshot.tensors)
    tensors[forgotten] = np.zeros_like(tensors[forgotten])
    resumed = text_loop(config, "second", SingleRank())
    resumed.load_state_dict(tensors, snapshot.state)
    rest = Remembering()
    resumed.run(rest)
    assert not np.array_equal(rest.trace, sink.trace[snapshot.step :])


def rest_of(
    collectives: Collectives, tensors: Mapping[str, NDArray[np.generic]], state: Mapping[str, object]
) -> list[NDArray[np.float32]]:
    """The rows that rank 0 commits after a resume."""
    loop = text_loop(text_config("search.batch_norm=sync"), "second", collectives)
    loop.load_state_dict(tensors, state)
    sink = Remembering()
    loop.run(sink)
    return [snapshot.rows["alphas"] for snapshot in sink.snapshots]


def test_hidden_states_are_read_at_another_world_size(ranks: RankProcesses) -> None:
    sink = Remembering({0: Wants(commit=True)})
    text_loop(text_config("search.batch_norm=sync"), "second", SingleRank()).run(sink)
    snapshot = sink.snapshots[0]
    rows = ranks.run(3, rest_of, snapshot.tensors, snapshot.state)[0]
    np.testing.assert_allclose(np.concatenate(rows), sink.trace[snapshot.step :], rtol=0, atol=1e-7)


def second_step(config: SearchConfig) -> tuple[SearchLoop, Batch, Batch]:
    """A loop with hidden states from a first step, and the batches of the second."""
    loop = text_loop(config, "second", SingleRank())
    streams = text_streams(config)
    loop.bilevel.step_(*streams.bilevel_batches(0, 0, SingleRank().shard, CPU), 20.0)
    loop.supernet.begin_step()
    with torch.no_grad():
        loop.bilevel.weights.vector.mul_(10)  # far from where weights start, so that all terms count
    return loop, *streams.bilevel_batches(0, 1, SingleRank().shard, CPU)


def through_the_virtual_step(loop: SearchLoop, train: Batch, validation: Batch, rate: float) -> Tensor:
    """d/dalpha L_val(w - xi (c gw + wd w), alpha) by autograd through the oracle, c = min(1, clip / ||gw||) held."""
    settings, space = loop.config.weights, cast(RecurrentSpace, loop.config.space)
    oracle = RecurrentOracle(space, loop.supernet, loop.bilevel.alphas.tensors)
    carries = loop.bilevel.train_carry, loop.bilevel.validation_carry
    assert carries[0] is not None
    assert carries[1] is not None
    assert settings.clip is not None
    training, _ = oracle.loss(train, carries[0], weight_step=False)
    gradients = torch.autograd.grad(training, list(oracle.weights.values()), create_graph=True)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().detach()
    coefficient = settings.clip / norm
    assert coefficient < 1, "the clip must be at work"
    oracle.weights = {
        name: weight - rate * (coefficient * gradient + settings.weight_decay * weight)
        for (name, weight), gradient in zip(oracle.weights.items(), gradients, strict=True)
    }
    outer, _ = oracle.loss(validation, carries[1], weight_step=False)
    return torch.autograd.grad(outer, oracle.alphas["recurrent"])[0]


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted.flatten()).norm() / wanted.norm())


# Without relu: at a kink the finite difference is no derivative (see test_hypergradient.py).
@pytest.mark.parametrize(("hessian", "tolerance"), [("exact", 1e-11), ("finite_difference", 1e-3)])
def test_the_alpha_gradient_is_autograd_through_the_virtual_step(hessian: str, tolerance: float) -> None:
    smooth = 'space.operations=["none", "tanh", "sigmoid", "identity"]'
    config = text_config(smooth, f"search.hessian={hessian}", "weights.clip=0.05")
    loop, train, validation = second_step(config)
    wanted = through_the_virtual_step(loop, train, validation, 20.0)
    got, _ = loop.bilevel.alpha_gradient(train, validation, 20.0)
    assert relative_error(got.gradient, wanted) < tolerance
    loop.bilevel.order = "first"
    first, _ = loop.bilevel.alpha_gradient(train, validation, 20.0)
    assert relative_error(first.gradient, wanted) > 0.05, "the problem must tell the orders apart"


def test_masks_drawn_afresh_for_each_pass_ruin_the_second_order(monkeypatch: pytest.MonkeyPatch) -> None:
    config = text_config('space.operations=["none", "tanh", "sigmoid", "identity"]', "weights.clip=0.05")
    loop, train, validation = second_step(config)
    wanted = through_the_virtual_step(loop, train, validation, 20.0)
    held, supernet = loop.supernet.loss, loop.supernet
    passes = iter(range(1000, 2000))

    def afresh(batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        return held(replace(batch, draws=replace(batch.draws, step=next(passes))), carry, purpose, mixing)

    monkeypatch.setattr(supernet, "loss", afresh)
    got, _ = loop.bilevel.alpha_gradient(train, validation, 20.0)
    assert relative_error(got.gradient, wanted) > 1


def test_a_search_on_text_learns_more_than_word_frequencies() -> None:
    data = language(2000, 500)
    off = [f"space.dropout_{name}=0" for name in ("output", "hidden", "cell_input", "embedded", "words")]
    config = text_config(
        "space.embedding=16",
        "space.hidden=16",
        "search.batch_size=8",
        "search.epochs=4",
        "weights.learning_rate=5",
        "data.evaluation_batch_size=20",
        *off,
    )
    sink = Remembering()
    verdict = text_loop(config, "first", SingleRank(), data).run(sink)
    genotype, _, metric = answer_of(verdict)
    assert metric["name"] == "supernet_validation_perplexity"
    assert metric["value"] < 0.6 * unigram_perplexity(data)
    assert [len(node) for node in genotype.cell("recurrent").nodes] == [1, 1]
    assert sink.trace.shape == (verdict.step, 3 * 5)
