"""What the loop promises a method: equal draws in all passes of a step, on all ranks and micro-batches; its progress;
parameters and genotypes that are checked against the layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import ClassVar, Literal, NamedTuple

import pytest
import torch
from torch import Tensor

from ray_darts.config import SearchConfig
from ray_darts.data.batch import Batch, Draws, Shard
from ray_darts.errors import ConfigError, GenotypeError
from ray_darts.genotype.decode import Decoding
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import CellLayout, ParameterGroup, SpaceLayout
from ray_darts.methods.darts import Darts
from ray_darts.protocols.method import Method, Progress, Rows
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.search.ranks import RankProcesses
from tests.search.searches import Remembering, tiny_config, tiny_loop
from tests.search.text_searches import text_config, text_loop


class Call(NamedTuple):
    """One call of a method's `weights`."""

    stream: str
    drawn: float
    progress: Progress


class Recording(Method):
    """Softmax of alphas scaled by a drawn number; keeps each call."""

    kind: Literal["recording"] = "recording"
    fail_at: int | None = None

    calls: ClassVar[list[Call]] = []

    def weights(
        self, layout: SpaceLayout, parameters: Mapping[str, Tensor], draws: Draws, progress: Progress
    ) -> Mapping[str, Tensor]:
        """NaN in step `fail_at`."""
        drawn = float(draws.generator("scale").standard_normal())
        self.calls.append(Call(draws.stream, drawn, progress))
        scale = float("nan") if progress.step == self.fail_at else 1 + 0.1 * drawn
        return {cell: (alphas * scale).softmax(-1) for cell, alphas in parameters.items()}

    def probabilities(self, cell: CellLayout, parameters: Mapping[str, Rows]) -> list[list[float]]:
        """As the default method."""
        return Darts().probabilities(cell, parameters)


class FewOutputs(Recording):
    """The output joins the first node alone where the layout joins all."""

    def decode(self, layout: SpaceLayout, flat: Sequence[float]) -> Decoding:
        """Without the outputs after the first."""
        whole = super().decode(layout, flat)
        cells = tuple(replace(cell, outputs=cell.outputs[:1]) for cell in whole.genotype.cells)
        return replace(whole, genotype=Genotype(whole.genotype.space, cells))


class Grouped(Recording):
    """Has one group of parameters besides the alphas: (kind, cell, shape)."""

    extra: tuple[str, str, tuple[int, ...]]

    def groups(self, layout: SpaceLayout) -> tuple[ParameterGroup, ...]:
        """Alphas and the extra group."""
        return (*layout.alphas, ParameterGroup(*self.extra))


@pytest.fixture(autouse=True)
def forget_calls() -> Iterator[None]:
    """Each test records its own calls."""
    Recording.calls.clear()
    yield
    Recording.calls.clear()


def with_method(config: SearchConfig, method: Method) -> SearchConfig:
    """The config with another method."""
    return config.model_copy(update={"method": method})


def recorded(collectives: Collectives, space: str, accumulate: int, *, renumber: bool = False) -> list[Call]:
    """The calls of a whole second-order search with finite differences.

    `renumber`: the batches of the two halves carry seeds and steps of their own, as a user's data set may number them.
    """
    Recording.calls.clear()
    accumulated = f"search.accumulate={accumulate}"
    if space == "text":
        loop = text_loop(with_method(text_config(accumulated), Recording()), "second", collectives)
    else:
        loop = tiny_loop(with_method(tiny_config(accumulated), Recording()), "second", collectives)
    inner = loop._data.bilevel_batches

    def numbered(epoch: int, index: int, shard: Shard, device: torch.device) -> tuple[Batch, Batch]:
        train, validation = inner(epoch, index, shard, device)
        return train, replace(validation, draws=replace(validation.draws, seed=99, step=1000 + index))

    if renumber:
        loop._data.bilevel_batches = numbered  # type: ignore[method-assign]
    verdict = loop.run(Remembering())
    assert verdict.kind == "finished"
    return list(Recording.calls)


@cache
def alone(space: str, accumulate: int = 1, *, renumber: bool = False) -> list[Call]:
    """The calls on a single rank."""
    return recorded(SingleRank(), space, accumulate, renumber=renumber)


def of_steps(calls: list[Call], stream: str) -> dict[int, list[float]]:
    """{step: numbers drawn in that step's calls with `stream`}."""
    drawn: dict[int, list[float]] = {}
    for call in calls:
        if call.stream == f"architecture.{stream}":
            drawn.setdefault(call.progress.step, []).append(call.drawn)
    return drawn


@pytest.mark.parametrize(
    ("space", "accumulate", "renumber"),
    [("images", 1, False), ("images", 1, True), ("images", 2, True), ("text", 1, True)],
)
def test_all_passes_of_a_step_draw_the_same_and_every_step_anew(space: str, accumulate: int, renumber: bool) -> None:
    calls = alone(space, accumulate, renumber=renumber)
    alpha, weight = of_steps(calls, "alpha"), of_steps(calls, "weight")
    for step, drawn in alpha.items():
        assert len(drawn) == 4 * accumulate, "at w, w', w+ and w-"
        assert len(set(drawn)) == 1
        assert len(weight[step]) == accumulate
        assert len({*drawn, *weight[step]}) == 2
    assert list(alpha) == list(weight) == list(range(len(alpha)))
    assert len({drawn[0] for drawn in alpha.values()}) == len(alpha)


def test_all_ranks_draw_the_same(ranks: RankProcesses) -> None:
    first, second = ranks.run(2, recorded, "images", 1)
    assert first == second
    assert first == alone("images")


def test_progress_counts_steps_and_epochs_from_0_and_evaluation_belongs_to_the_step_before() -> None:
    calls = alone("images")
    steps = [call.progress for call in calls if call.stream == "architecture.weight"]
    assert [(progress.step, progress.epoch) for progress in steps] == [(step, step // 3) for step in range(9)]
    assert {(progress.total_steps, progress.epochs) for progress in steps} == {(9, 3)}
    evaluations = [call for call in calls if "evaluation" in call.stream]
    assert sorted({(call.progress.step, call.progress.epoch) for call in evaluations}) == [(2, 0), (5, 1), (8, 2)]
    assert len({call.drawn for call in evaluations}) == len(evaluations), "each batch of each epoch draws anew"


def test_a_method_that_fails_at_one_step_is_named_at_that_step() -> None:
    config = with_method(tiny_config("operation.agree_every_steps=3"), Recording(fail_at=1))
    verdict = tiny_loop(config, "first", SingleRank()).run(Remembering())
    assert (verdict.kind, verdict.step) == ("non_finite", 1)
    assert verdict.facts == {"rank": 0, "tensor": "validation loss", "step": 2}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("betas", "normal", (2,)), r"'betas.normal' has the shape \[2\], wanted is \[5\] or \[5, 4\]"),
        (("betas", "normal", (4, 5)), r"'betas.normal' has the shape \[4, 5\]"),
        (("betas", "middle", (5,)), "'betas.middle' is of the cell 'middle'; the space has normal, reduction"),
        (("alphas", "normal", (5, 4)), "'normal' is there twice"),
    ],
)
def test_groups_that_do_not_fit_the_layout_are_refused_before_the_first_step(
    extra: tuple[str, str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"method 'recording': the parameter group {message}"):
        tiny_loop(with_method(tiny_config(), Grouped(extra=extra)), "first", SingleRank())


def test_a_genotype_that_does_not_fit_the_layout_ends_the_search_at_the_first_epoch() -> None:
    loop = tiny_loop(with_method(tiny_config(), FewOutputs()), "first", SingleRank())
    with pytest.raises(GenotypeError, match=r"outputs \[2\], wanted are the states"):
        loop.run(Remembering())
    assert loop.step == 3
