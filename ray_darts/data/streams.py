"""Orders of samples: shuffled epochs without replacement, as a pure function of (seed, stream, position).

Knows only row numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.batch import generator


def permutation(draws: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return a random order of range(count).

    Sorts raw 64-bit numbers: NumPy guarantees a stable stream for these, but not for `Generator.permutation`.
    """
    return np.argsort(draws.bit_generator.random_raw(count), kind="stable").astype(np.int64)


class ShuffledRows:
    """Endless epochs over `rows`, each in its own random order."""

    def __init__(self, rows: NDArray[np.int64], seed: int, stream: str) -> None:
        self.rows = rows
        self.seed = seed
        self.stream = stream
        self._orders: dict[int, NDArray[np.int64]] = {}

    def epoch(self, number: int) -> NDArray[np.int64]:
        """The rows in the order of epoch `number` (from 0)."""
        order = self._orders.get(number)
        if order is None:
            order = self.rows[permutation(generator(self.seed, self.stream, "order", number), len(self.rows))]
            # keep two: a batch spans at most two epochs
            self._orders = dict([*self._orders.items(), (number, order)][-2:])
        return order

    def take(self, start: int, stop: int) -> NDArray[np.int64]:
        """Samples start..stop-1 of the endless stream: sample k belongs to epoch k // len(rows)."""
        count = len(self.rows)
        pieces = [
            self.epoch(number)[max(start - number * count, 0) : stop - number * count]
            for number in range(start // count, max(stop - 1, start) // count + 1)
        ]
        return np.concatenate(pieces)
