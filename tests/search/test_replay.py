"""Captured passes: replayed, they move a search as plain passes do, bit for bit; and what cannot be captured is seen.

The capture is that of `recorded_capture`, on the CPU; on a GPU the same claims are tests/gpu's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.config import OperationSettings, SearchConfig, load_config
from ray_darts.data.batch import Batch, Draws
from ray_darts.errors import ConfigError, SearchError
from ray_darts.protocols.dataset import SearchData
from ray_darts.protocols.method import Order, Progress
from ray_darts.search import replay
from ray_darts.search.replay import Capture, ReplayedLoss, SlottedDraws, capture_for
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass
from ray_darts.tasks.collectives import SingleRank
from tests.search.recorded_capture import NotCapturable, RecordedCapture
from tests.search.searches import CPU, tiny_config, tiny_data
from tests.search.test_named_methods import config_of
from tests.search.test_precision import SmoothSupernet, batch
from tests.search.text_searches import text_config, text_streams

STEPS = 4
SMALL = ("space.nodes=1", "space.channels=4")
NOISY = 'space.operations=["none","noise","skip_connect","sep_conv_3x3","avg_pool_3x3"]'


def step_of(config: SearchConfig, order: Order, data: SearchData, capture: Capture | None) -> BilevelStep:
    return BilevelStep(config, order, build_supernet(config, data.facts, 0, CPU), 0, SingleRank(), CPU, capture)


def moved(
    config: SearchConfig, order: Order, data: SearchData, capture: Capture | None
) -> Mapping[str, NDArray[np.generic]]:
    """All state after some steps, across the end of an epoch, with other rates, and one without an alpha step."""
    step, rows = step_of(config, order, data, capture), []
    places = [(epoch, index) for epoch in range(config.total_epochs) for index in range(data.num_steps(epoch))]
    for number, (epoch, index) in enumerate(places[:STEPS]):
        train, validation = data.bilevel_batches(epoch, index, SingleRank().shard, CPU)
        progress = Progress(step=number, total_steps=20, epoch=epoch, epochs=config.total_epochs)
        step.step_(train, validation, 0.1 / (1 + number), move_alphas=number != 1, progress=progress)
        rows.append(step.alphas.vector.clone())
    assert len(rows) == STEPS
    assert bool(step.healthy)
    state = {
        "alphas": torch.stack(rows),
        "weights": step.weights.vector,
        "statistics": step.statistics.vector,
        "totals": step.totals,
    }
    carries = {"train_carry": step.train_carry, "validation_carry": step.validation_carry}
    state |= {name: carry for name, carry in carries.items() if carry is not None}
    return {name: tensor.detach().numpy().copy() for name, tensor in state.items()}


def check(config: SearchConfig, order: Order, data: SearchData, num_captures: int) -> None:
    capture = RecordedCapture()
    plain, replayed = moved(config, order, data, None), moved(config, order, data, capture)
    assert capture.num_captures == num_captures
    assert capture.num_calls > 0
    same_bits(plain, replayed)


def same_bits(one: Mapping[str, NDArray[np.generic]], other: Mapping[str, NDArray[np.generic]]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, array in one.items() if array.tobytes() != other[name].tobytes()] == []


@pytest.mark.parametrize("formulation", ["separate", "grouped"])
@pytest.mark.parametrize(("order", "passes"), [("first", 2), ("second", 4)])
def test_replayed_passes_move_a_search_as_plain_ones_do(formulation: str, order: Order, passes: int) -> None:
    config = tiny_config(f"operation.formulation={formulation}", "space.nodes=1")
    data = tiny_data(config)
    sizes = {data.bilevel_batches(0, index, SingleRank().shard, CPU)[0].num_samples for index in range(3)}
    check(config, order, data, passes * len(sizes))


@pytest.mark.parametrize(
    "overrides",
    [
        ("operation.checkpoint_cells=true",),
        ("search.accumulate=2", "search.batch_size=12"),  # shares of a half: others are multiplied at another place
        ("search.precision=bfloat16",),
        ("search.hessian=exact",),
        (NOISY,),
        ("method.kind=darts", "method.skip_dropout.rate=0.3"),
    ],
    ids=["checkpoint_cells", "accumulate", "bfloat16", "exact", "noise", "skip_dropout"],
)
def test_with_every_setting_of_a_pass(overrides: tuple[str, ...]) -> None:
    config, capture = tiny_config(*SMALL, *overrides), RecordedCapture()
    data = tiny_data(config)
    plain, replayed = moved(config, "second", data, None), moved(config, "second", data, capture)
    assert capture.num_calls > 0
    same_bits(plain, replayed)


@pytest.mark.parametrize(
    ("order", "overrides"),
    [("first", ()), ("second", ()), ("second", ("operation.checkpoint_cells=true",))],
    ids=["first", "second", "checkpoint_cells"],
)
def test_text_with_every_dropout_and_lengths_that_vary(order: Order, overrides: tuple[str, ...]) -> None:
    config = text_config("data.bptt=6", *overrides)
    capture, data = RecordedCapture(), text_streams(config)
    plain, replayed = moved(config, order, data, None), moved(config, order, data, capture)
    assert capture.num_captures > 2
    assert "train_carry" in plain
    same_bits(plain, replayed)


@pytest.mark.parametrize("name", ["pc-darts", "drnas", "darts-minus", "beta-darts", "sdarts-adv"])
def test_methods_that_draw_or_change_with_the_progress(name: str) -> None:
    config = config_of(name, *SMALL)
    data = tiny_data(config)
    plain, replayed = moved(config, "first", data, None), moved(config, "first", data, RecordedCapture())
    same_bits(plain, replayed)


@pytest.mark.parametrize("order", ["first", "second"])
def test_nasbench201(order: Order) -> None:
    small = ("space.cells_per_stage=1", "space.channels=4", "search.batch_size=12", "search.epochs=2")
    config = load_config("nasbench201-digits", overrides=(*small, "data.fraction=0.05"))
    data = tiny_data(config)
    capture = RecordedCapture()
    plain, replayed = moved(config, order, data, None), moved(config, order, data, capture)
    assert capture.num_calls > 0
    same_bits(plain, replayed)


def test_beyond_the_most_graphs_passes_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_GRAPHS", 1)
    config = tiny_config(*SMALL)
    data, capture = tiny_data(config), RecordedCapture()
    plain, replayed = moved(config, "first", data, None), moved(config, "first", data, capture)
    assert capture.num_captures == 1
    assert plain["alphas"].tobytes() == replayed["alphas"].tobytes()


class Reading(SmoothSupernet):
    """Branches on a value."""

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        if float(batch.inputs.sum()) > 1e9:
            return super().loss(batch, carry, purpose, mixing)
        return super().loss(batch, carry, Pass.ALPHA, mixing)


class Uploading(SmoothSupernet):
    """Brings a number from the host, which would stay that of the first step."""

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        scaled = {name: table * torch.tensor(2.0) for name, table in mixing.items()}
        return super().loss(batch, carry, purpose, scaled)


class Caching(SmoothSupernet):
    """Keeps a tensor from one pass to the next."""

    kept: Tensor | None = None

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        self.kept = batch.inputs * 2
        return super().loss(batch, carry, purpose, mixing)


class Drawing(SmoothSupernet):
    """Draws on the host itself."""

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        batch.draws.generator("own").random()
        return super().loss(batch, carry, purpose, mixing)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Reading, NotCapturable, "reads a value"),
        (Uploading, NotCapturable, "from the host"),
        (Caching, NotCapturable, "outlive"),
        (Drawing, SearchError, "draws 'own' itself"),
    ],
)
def test_what_a_graph_would_freeze_is_seen(kind: type[SmoothSupernet], error: type[Exception], words: str) -> None:
    config = tiny_config("search.precision=float32")
    step = BilevelStep(config, "first", kind(config), 0, SingleRank(), CPU, RecordedCapture())
    with pytest.raises(error, match=words):
        step.step_(batch(0), batch(1), 0.1)


def test_gradients_of_an_earlier_replay_are_refused() -> None:
    config = tiny_config("search.precision=float32")
    step = BilevelStep(config, "first", SmoothSupernet(config), 0, SingleRank(), CPU, RecordedCapture())
    loss = step._losses["training"]
    assert isinstance(loss, ReplayedLoss)
    mixing = step.architecture.mixing("any", 0, Progress(step=0, total_steps=1, epoch=0, epochs=1))
    first, second = (loss(batch(seed), None, Pass.ALPHA, mixing).loss for seed in (0, 1))
    torch.autograd.grad(second, list(step.alphas.tensors.values()), retain_graph=True)
    with pytest.raises(AssertionError, match="another pass was replayed"):
        torch.autograd.grad(first, list(step.alphas.tensors.values()))


def test_a_second_derivative_is_refused() -> None:
    config = tiny_config("search.precision=float32")
    step = BilevelStep(config, "first", SmoothSupernet(config), 0, SingleRank(), CPU, RecordedCapture())
    mixing = step.architecture.mixing("any", 0, Progress(step=0, total_steps=1, epoch=0, epochs=1))
    loss = step._losses["training"](batch(0), None, Pass.ALPHA, mixing).loss
    tensors = list(step.alphas.tensors.values())
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, tensors, create_graph=True)


def test_slots_are_drawn_again_from_other_draws() -> None:
    first, second = (Draws(0, "train", step, 0, 4, 4) for step in (0, 1))
    slotted, like = SlottedDraws.of(first), torch.zeros(1, dtype=torch.float64)

    def drawn(draws: Draws) -> Sequence[Tensor]:
        return (
            draws.keep_mask("mask", (4, 3), 0.5, batch_dim=0, like=like),
            draws.normal("noise", (4, 2), batch_dim=0, like=like),
            draws.uniform("drop", (4, 2), batch_dim=0, like=like),
        )

    kept = drawn(slotted)
    assert all(torch.equal(one, other) for one, other in zip(kept, drawn(first), strict=True))
    slotted.refill_(second)
    assert all(one is other for one, other in zip(kept, drawn(slotted), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(kept, drawn(second), strict=True))
    assert not torch.equal(kept[1], drawn(first)[1])


@pytest.mark.parametrize(
    ("overrides", "reads", "has_collectives", "words"),
    [
        ({}, False, False, "computes on cpu"),
        ({"device": "cuda"}, True, False, "the method reads"),
        ({"device": "cuda"}, False, True, "inside the passes"),
    ],
)
def test_on_is_refused_where_nothing_can_be_captured(
    overrides: Mapping[str, str], reads: bool, has_collectives: bool, words: str
) -> None:
    device = torch.device(overrides.get("device", "cpu"))
    with pytest.raises(ConfigError, match=words):
        capture_for(OperationSettings(cuda_graph="on"), device, reads=reads, has_collectives=has_collectives)
    for setting in ("auto", "off"):
        operation = OperationSettings(cuda_graph=setting)
        assert capture_for(operation, device, reads=reads, has_collectives=has_collectives) is None


def test_on_and_compile_exclude_one_another() -> None:
    with pytest.raises(ConfigError, match="exclude"):
        tiny_config("operation.cuda_graph=on", "operation.compile=['training']")
    with pytest.raises(ConfigError, match="cuda_graph on beside the method gdas"):
        tiny_config("operation.cuda_graph=on", "method.kind=gdas")
