"""When growing eigenvalues are a collapse: the stopping rule of RobustDARTS (arXiv:1909.09656, section 4.3) on a
sequence of numbers. Knows no tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ray_darts.config.watch import EigenvalueRule


class EigenvalueWatch:
    """Remembers the eigenvalues of a run; a value that is not finite makes no mean that contains it."""

    def __init__(self, rule: EigenvalueRule) -> None:
        self.rule = rule
        self._values: list[float] = []

    def is_due(self, epoch: int) -> bool:
        """Whether this epoch's eigenvalue is wanted."""
        return epoch % self.rule.every_epochs == 0

    def observe(self, epoch: int, value: float) -> tuple[int, float] | None:
        """Add the eigenvalue of an epoch that is due; return (the epoch at which a collapse began, the ratio of the
        means), or None where there is none. As in the published code, the ratio of two negative means counts, too."""
        rule, values = self.rule, self._values
        values.append(value)
        begun = epoch - rule.steps_back
        earlier = values[max(0, len(values) - rule.delta - rule.window) : len(values) - rule.delta]
        if begun < rule.start_epoch or len(earlier) < math.ceil(rule.window / 2):
            return None
        recent, before = (math.fsum(part) / len(part) for part in (values[-rule.window :], earlier))
        ratio = recent / before if before else math.nan
        return (begun, ratio) if ratio > rule.factor else None

    def forget_after(self, epoch: int) -> None:
        """Forget the values of later epochs."""
        del self._values[epoch // self.rule.every_epochs + 1 :]

    def state_dict(self) -> list[float | None]:
        """JSON-able."""
        return [value if math.isfinite(value) else None for value in self._values]

    def load_state_dict(self, state: list[float | None]) -> None:
        """Continue from `state_dict`."""
        self._values = [math.nan if value is None else value for value in state]


def watch_of(settings: EigenvalueRule | None) -> EigenvalueWatch | None:
    """The watch, where there is a rule."""
    return None if settings is None else EigenvalueWatch(settings)


def history_from(state: Mapping[str, object]) -> dict[int, tuple[str, int, float | None]]:
    """{epoch: (genotype as JSON, step, metric)} of a checkpoint."""
    found = state.get("history", {})
    assert isinstance(found, Mapping)
    return {int(epoch): (str(text), int(step), metric) for epoch, (text, step, metric) in found.items()}
