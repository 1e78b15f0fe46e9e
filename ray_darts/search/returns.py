"""The states that a search can go back to, and what it has gone back already (RobustDARTS's adaptive regularisation,
arXiv:1909.09656, section 5).

The log goes on: its steps and epochs count the work done, and the epochs that were taken back are searched anew, in
further epochs. Knows no tensors: states are arrays on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ray_darts.config.watch import WatchSettings
from ray_darts.tasks.weight_step import Arrays

_PREFIX = "kept"


class Returns:
    """`num_epochs`: taken back so far, in all; `weight_decay`: of the weights now."""

    def __init__(self, settings: WatchSettings, weight_decay: float) -> None:
        self._settings = settings
        self.num_epochs, self.weight_decay = 0, weight_decay
        self._states: dict[int, Arrays] = {}

    def keep(self, epochs: frozenset[int], now: int, gather: Callable[[], Arrays]) -> None:
        """Keep the states of the ends of these epochs, of which `now` may be one; every rank calls."""
        if now in epochs and now not in self._states:
            self._states[now] = {name: np.array(array) for name, array in gather().items()}
        self.keep_only(epochs)

    def keep_only(self, epochs: frozenset[int]) -> None:
        """Forget the states of other epochs."""
        self._states = {epoch: state for epoch, state in self._states.items() if epoch in epochs}

    def next_decay(self) -> str:
        """The weight decay after the next return, for a message."""
        return f"weights.weight_decay {self._stronger():g} instead of {self.weight_decay:g}"

    def go_back(self, target: int, epoch: int) -> Arrays:
        """The state of the end of the schedule's epoch `target`; `epoch`: of the log, which begins now."""
        self.num_epochs = epoch - target - 1
        self.weight_decay = self._stronger()
        return self._states[target]

    def _stronger(self) -> float:
        stronger = self.weight_decay * self._settings.weight_decay_factor
        return max(self.weight_decay, min(stronger, self._settings.weight_decay_max))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The kept states, for a checkpoint."""
        return {
            f"{_PREFIX}/{epoch}/{name}": array for epoch, state in self._states.items() for name, array in state.items()
        }

    def from_arrays(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Continue from a checkpoint with `to_arrays` among its arrays."""
        self._states = {}
        for key, array in arrays.items():
            prefix, _, rest = key.partition("/")
            if prefix == _PREFIX:
                epoch, _, name = rest.partition("/")
                self._states.setdefault(int(epoch), {})[name] = np.array(array)

    def state_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {"num_epochs": self.num_epochs, "weight_decay": self.weight_decay}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from `state_dict`; of a release without it, nothing was taken back."""
        num_epochs, weight_decay = state.get("num_epochs", 0), state.get("weight_decay", self.weight_decay)
        assert isinstance(num_epochs, int)
        assert isinstance(weight_decay, float)
        self.num_epochs, self.weight_decay = num_epochs, weight_decay
