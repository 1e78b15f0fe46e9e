"""Whole steps at full size on the `meta` device, where any host read raises; tests readiness for GPUs without one.

The meta device holds no data, so `.item()`, `bool()`, `.cpu()` and any mix of devices are errors there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ray_darts.config import SearchConfig, load_config
from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass
from ray_darts.tasks.collectives import SingleRank

META = torch.device("meta")


def image_batch(size: int, count: int, stream: str) -> Batch:
    """A batch of no data."""
    images = torch.empty(count, 3, size, size, device=META).to(memory_format=torch.channels_last)
    labels = torch.empty(count, dtype=torch.int64, device=META)
    return Batch(images, labels, Draws(0, stream, 0, 0, count, count))


def text_batch(length: int, columns: int, stream: str) -> Batch:
    """Tokens of no text, an epoch's first."""
    tokens = torch.empty(length, columns, dtype=torch.int64, device=META)
    draws = Draws(0, stream, 0, 0, columns, columns)
    return Batch(tokens, tokens.clone(), draws, batch_dim=1, starts_epoch=True)


def meta_step(config: SearchConfig, facts: DataFacts, order: str) -> BilevelStep:
    """A step object without data."""
    assert order in ("first", "second")
    supernet = build_supernet(config, facts, 0, META)
    return BilevelStep(config, "second" if order == "second" else "first", supernet, 0, SingleRank(), META)


@pytest.mark.parametrize(
    ("size", "stem", "formulation", "layers"),
    [(32, "cifar", "separate", 4), (32, "cifar", "grouped", 8), (224, "imagenet", "grouped", 8)],
)
def test_a_whole_second_order_step_reads_nothing_back(size: int, stem: str, formulation: str, layers: int) -> None:
    settings = [f"space.stem={stem}", f"operation.formulation={formulation}", f"space.layers={layers}"]
    config = load_config("cifar10", overrides=settings)
    step = meta_step(config, DataFacts(10, 3, size), "second")
    step.step_(image_batch(size, 64, "train"), image_batch(size, 64, "validation"), 0.025)
    assert step.weights.vector.device == META
    assert step.totals.shape == (2, 3)


@pytest.mark.parametrize("hessian", ["finite_difference", "exact"])
def test_a_whole_step_on_text_reads_nothing_back(hessian: str) -> None:
    config = load_config("ptb", overrides=[f"search.hessian={hessian}", "data.bptt=5"])
    step = meta_step(config, DataFacts(10_000), "second")
    step.step_(text_batch(5, 256, "train"), text_batch(5, 256, "validation"), 20.0)
    assert step.train_carry is not None
    assert step.train_carry.shape == (256, 300)


@pytest.mark.parametrize("read", [lambda loss: loss.item(), lambda loss: bool(loss > 0), lambda loss: loss.cpu()])
def test_a_host_read_within_the_step_would_be_seen(
    read: Callable[[torch.Tensor], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("cifar10", overrides=["space.layers=3", "space.channels=2", "space.nodes=1"])
    step = meta_step(config, DataFacts(10, 3, 8), "first")
    inner = step.supernet.loss

    def reading(batch: Batch, carry: torch.Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        outcome = inner(batch, carry, purpose, mixing)
        read(outcome.loss.detach())
        return outcome

    monkeypatch.setattr(step.supernet, "loss", reading)
    with pytest.raises(RuntimeError, match="meta"):
        step.step_(image_batch(8, 4, "train"), image_batch(8, 4, "validation"), 0.025)
