"""When simulated spot machines are reclaimed, and when a machine takes their place.

Two processes, as the published traces show them: single machines are lost now and then and soon replaced, and the
capacity of a whole zone ends within minutes and comes back after a while. Rates were read off the series of four
machines (p3.2xlarge) each that were kept for two weeks in 2023: github.com/skypilot-org/spot-traces,
preemption/4-node/aws-08-03-2023, of "Can't Be Late" (Wu et al., NSDI 2024). They are rounded to what a reader of the
series sees; a machine of us-west-2c lives for some four hours, of us-east-2a for some twenty.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

_REPLACED_S = 600.0
_ENDS_WITHIN_S = 600.0
_RETURNS_WITHIN_S = 300.0
_NEVER = float("inf")


@dataclass(frozen=True)
class LossModel:
    """Means of exponential times, in hours: between losses of one machine alone, between shortages of a zone, and of
    a shortage's length. Infinite: it never happens."""

    name: str
    single_h: float
    shortage_h: float = _NEVER
    shortage_length_h: float = 1.0


MODELS = {
    "us-west-2c": LossModel("us-west-2c", single_h=65.0, shortage_h=4.0, shortage_length_h=0.9),
    "us-east-2a": LossModel("us-east-2a", single_h=40.0, shortage_h=40.0, shortage_length_h=3.0),
    "none": LossModel("none", _NEVER),
}


def loss_model(name: str) -> LossModel:
    """A model by name, or `exponential:HOURS`, the mean life of a machine. Raises: ValueError."""
    kind, _, hours = name.partition(":")
    if kind == "exponential":
        return LossModel(name, float(hours))
    if name not in MODELS:
        raise ValueError(f"losses {name!r}: wanted one of {', '.join(MODELS)} or exponential:HOURS")
    return MODELS[name]


class Zone:
    """The shortages of one zone, drawn one ahead."""

    def __init__(self, model: LossModel, random_: random.Random) -> None:
        self._model, self._random = model, random_
        self.begins = self.ends = 0.0
        self.draw(0.0)

    def draw(self, now: float) -> None:
        """Draw the next shortage if the last one is over."""
        while self.ends <= now:
            self.begins = self.ends + exponential(self._random, self._model.shortage_h)
            self.ends = self.begins + exponential(self._random, self._model.shortage_length_h)

    def returns(self, at: float) -> float:
        """When a machine that would come at `at` comes: after the shortage, if there is one then."""
        self.draw(at)
        return self.ends + self._random.uniform(0, _RETURNS_WITHIN_S) if at >= self.begins else at


@dataclass(frozen=True)
class Life:
    """When a machine is lost, and when another one takes its place."""

    ends: float
    replaced: float


def draw_life(model: LossModel, zone: Zone, now: float, random_: random.Random) -> Life:
    """The life of a machine of a zone that starts now."""
    zone.draw(now)
    alone = now + exponential(random_, model.single_h)
    with_zone = max(now, zone.begins) + random_.uniform(0, _ENDS_WITHIN_S)
    if with_zone < alone:
        return Life(with_zone, max(with_zone, zone.ends) + random_.uniform(0, _RETURNS_WITHIN_S))
    return Life(alone, alone + _REPLACED_S)


def exponential(random_: random.Random, mean_h: float) -> float:
    """Seconds, of a mean in hours; infinite where that is."""
    return random_.expovariate(1 / (mean_h * 3600)) if mean_h < _NEVER else _NEVER
