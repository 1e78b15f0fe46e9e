"""The stages of a search: parts of its epochs with a network and a set of operations of their own.

Progressive shrinking of operations and growth of depth as in P-DARTS (arXiv:1904.12760, section 3.2) and DrNAS
(arXiv:2006.10355, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import Field, field_validator

from ray_darts.protocols.settings import Settings

_ROUNDING = 0.01
"""A fraction may be given rounded: 0.167 for 1/6."""


class Stage(Settings):
    """What is absent is as in the stage before, in the first stage as in the space and the method.

    When a stage begins, each edge keeps its `operations_kept` most probable operations (`none` is one of them). Alphas
    and their moments go on; weights whose shape is the same go on, the others start anew, as do all weights of a
    network with another number of layers. `restart`: weights and alphas start anew, and so do the schedules of
    learning rate and method. The warm-up of the alphas is at the start of every stage.
    """

    epochs: int = Field(ge=1)
    layers: int | None = Field(None, ge=1, description="cells of the supernet")
    channels_fraction: float | None = Field(None, ge=1e-3, le=1, description="1/K: what goes through the operations")
    operations_kept: int | None = Field(None, description="of each edge, in this stage; the first stage has all")
    skip_dropout: float | None = Field(None, ge=0, lt=1, description="method.skip_dropout.rate; 0 for none")
    restart: bool = False

    @field_validator("channels_fraction")
    @classmethod
    def _one_of_k(cls, fraction: float | None) -> float | None:
        if fraction is None:
            return None
        parts = round(1 / fraction)
        if abs(parts * fraction - 1) > _ROUNDING:
            raise ValueError("wanted is 1/K of a whole K, such as 1, 0.5, 0.25 or 0.1667")
        return 1 / parts

    @field_validator("operations_kept")
    @classmethod
    def _leaves_a_choice(cls, kept: int | None) -> int | None:
        if kept is not None and kept < 2:
            left = "drops every operation" if kept < 1 else "leaves nothing to search"
            raise ValueError(f"that {left}: an edge keeps at least 2")
        return kept

    @property
    def parts(self) -> int | None:
        """K."""
        return None if self.channels_fraction is None else round(1 / self.channels_fraction)


class Span(NamedTuple):
    """`epochs` epochs from `first` on."""

    first: int
    epochs: int


def filled(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages with what is absent taken from the stage before."""
    found: list[Stage] = []
    for stage in stages:
        before = found[-1].model_dump() if found else {}
        given = {name: value for name, value in stage.model_dump().items() if value is not None}
        found.append(Stage(**{**before, **given}))
    return tuple(found)


def span(stages: Sequence[Stage], index: int) -> Span:
    """The epochs of a stage."""
    return Span(sum(stage.epochs for stage in stages[:index]), stages[index].epochs)


def schedule_span(stages: Sequence[Stage], index: int) -> Span:
    """The epochs over which the schedules of a stage run: from the last restart to the next one."""
    restarts = [0, *(place for place, stage in enumerate(stages) if place and stage.restart), len(stages)]
    first = max(place for place in restarts if place <= index)
    after = min(place for place in restarts if place > index)
    return Span(span(stages, first).first, sum(stage.epochs for stage in stages[first:after]))


def mistakes_in(stages: Sequence[Stage], epochs: int, most_operations: int) -> Iterator[str]:
    """One line per mistake that the list has as a whole. `most_operations`: of an edge of the space."""
    total = sum(stage.epochs for stage in stages)
    if stages and total != epochs:
        yield f"search.epochs {epochs}, but the stages have {total} in all: set search.epochs = {total}"
    if stages and stages[0].restart:
        yield "stages[0].restart: the first stage starts anew anyway; leave it out"
    allowed = most_operations
    for index, stage in enumerate(filled(stages)):
        kept = stage.operations_kept
        if kept is None:
            continue
        if index == 0 and kept < allowed:
            yield (
                f"stages[0].operations_kept {kept} of {allowed}: nothing is known yet by which to choose; leave it "
                "out, or shorten space.operations"
            )
        elif kept > allowed:
            yield f"stages[{index}].operations_kept {kept} exceeds the {allowed} that are left"
        allowed = min(allowed, kept)
