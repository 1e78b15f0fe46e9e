"""With bfloat16 passes, the finite difference of a second-order step equals that in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from ray_darts.config import SearchConfig
from ray_darts.data.batch import Batch, Draws
from ray_darts.search import hypergradient
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.supernet import LossOutput, MixingWeights, Pass, Supernet
from ray_darts.tasks.collectives import SingleRank
from tests.search.searches import CPU, tiny_config

WIDTH, SAMPLES = 32, 64


class SmoothSupernet(Supernet):
    """Branches tanh(W x) mixed on every edge and read out linearly, with a squared error: smooth and well conditioned,
    so that a difference has one right value. A net with batch norms of few samples has none in bfloat16: at the first
    step of a recurrent search v itself is off by half its size, as float32 is off by 3e-5 there."""

    sum_names = ("loss_sum", "samples")

    def __init__(self, config: SearchConfig) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.layout = config.space.layout()
        num_operations = self.layout.cells[0].shape[1]
        self.branches = nn.Parameter(torch.randn(num_operations, WIDTH, WIDTH, generator=draw) / WIDTH**0.5)
        self.readout = nn.Parameter(torch.randn(WIDTH, 4, generator=draw) / WIDTH**0.5)

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass, mixing: MixingWeights) -> LossOutput:
        state = batch.inputs
        for weights in mixing.values():
            mixed = weights.mean(0)
            branches = torch.tanh(torch.matmul(state, self.branches))
            state = torch.tensordot(mixed, branches.float(), dims=1)
        loss = (torch.matmul(state, self.readout).float() - batch.targets).square().mean()
        return LossOutput(loss, None, torch.stack([loss.detach(), loss.new_ones(())]))

    def evaluate(self, batch: Batch, carry: Tensor | None, mixing: MixingWeights) -> LossOutput:
        return self.loss(batch, carry, Pass.ALPHA, mixing)

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        return {f"{prefix}_loss": totals[0]}


def batch(seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randn(SAMPLES, WIDTH, generator=draw), torch.randn(SAMPLES, 4, generator=draw)
    return Batch(inputs, targets, Draws(0, "any", 0, 0, SAMPLES, SAMPLES))


def difference(precision: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """(h, v) of a whole second-order step in `precision`."""
    seen: list[tuple[Tensor, Tensor]] = []
    whole = hypergradient._difference_product

    def remembering(weights, alphas, training, v, *rest):  # type: ignore[no-untyped-def]
        seen.append((whole(weights, alphas, training, v, *rest), v.clone()))
        return seen[0][0]

    config = tiny_config(f"search.precision={precision}", "alphas.init=zeros")
    step = BilevelStep(config, "second", SmoothSupernet(config), 0, SingleRank(), CPU)
    with monkeypatch.context() as patch:
        patch.setattr(hypergradient, "_difference_product", remembering)
        step.step_(batch(1), batch(2), 0.1)
    [found] = seen
    return found


def test_h_under_bfloat16_is_within_one_per_cent_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    h, v = difference("float32", monkeypatch)
    reduced, reduced_v = difference("bfloat16", monkeypatch)
    assert h.dtype == reduced.dtype == torch.float32
    assert not torch.equal(v, reduced_v), "the validation pass was not in bfloat16"
    error = float((reduced - h).norm() / h.norm())
    assert error < 0.01
