"""Windows of running text: columns, the windows of an epoch, and a whole text in order.

Shapes: T words in a row, B columns; text runs down a column, and column b + 1 continues column b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.batch import Batch, Draws, Shard, generator, to_device
from ray_darts.errors import DataError

SHORTEST_WINDOW = 2
"""Temporal activation regularisation compares neighbours."""
_FULL_LENGTH_PROBABILITY = 0.95
_DEVIATION, _LONGER = 5.0, 20
_SHORTEST_DRAWN = 5

CutText = Callable[[np.random.Generator, int, int], NDArray[np.int64]]
"""(draws, length, bptt) to the starts of the windows of `length` predictions, and as last entry the end of the last."""


class EpochWindows:
    """The train text [T, B] of one seed, cut anew for each epoch; a window starts where the last one ended.

    `stream` names the draws. `fraction` keeps the first rows of all columns, and so words from all parts of the text.
    """

    def __init__(self, text_TB: Tensor, fraction: float, bptt: int, seed: int, stream: str, cut: CutText) -> None:
        self._text_TB = text_TB[: max(round(fraction * len(text_TB)), SHORTEST_WINDOW + 1)]
        self._bptt, self._seed, self._stream, self._cut = bptt, seed, stream, cut
        self._starts: dict[int, NDArray[np.int64]] = {}
        self._first_steps = [0]

    def num_steps(self, epoch: int) -> int:
        """The number of windows of `epoch`, which varies, as each epoch draws new lengths."""
        return len(self._window_starts(epoch)) - 1

    def first_step(self, epoch: int) -> int:
        """Steps in all epochs before `epoch`, whose lengths are drawn for it."""
        while len(self._first_steps) <= epoch:
            done = len(self._first_steps) - 1
            self._first_steps.append(self._first_steps[done] + self.num_steps(done))
        return self._first_steps[epoch]

    def place(self, epoch: int, index: int) -> tuple[int, int]:
        """The rows (start, stop) that window `index` of `epoch` predicts from. Raises: IndexError."""
        steps = self.num_steps(epoch)
        if not 0 <= index < steps:
            raise IndexError(f"step {index} of an epoch of {steps}")
        start, stop = self._window_starts(epoch)[index : index + 2].tolist()
        return start, stop

    def batch(self, epoch: int, index: int, shard: Shard, device: torch.device) -> Batch:
        """This shard's columns of window `index` of `epoch`. Raises: IndexError."""
        start, stop = self.place(epoch, index)
        total = self._text_TB.shape[1]
        draws = Draws(self._seed, self._stream, self.first_step(epoch) + index, *shard.bounds(total), total)
        scale = (stop - start) / self._bptt
        return window(self._text_TB, start, stop, draws, device, scale=scale, starts_epoch=index == 0)

    def _window_starts(self, epoch: int) -> NDArray[np.int64]:
        starts = self._starts.get(epoch)
        if starts is None:
            draws = generator(self._seed, self._stream, "lengths", epoch)
            starts = self._cut(draws, len(self._text_TB) - 1, self._bptt)
            self._starts = {epoch: starts}
        return starts


def window(
    text_TB: Tensor, start: int, stop: int, draws: Draws, device: torch.device, *, scale: float, starts_epoch: bool
) -> Batch:
    """Rows start..stop-1 of the columns of `draws`' shard, and the words that follow each.

    `scale`: of the learning rate.
    """
    words_TN = to_device(text_TB[start : stop + 1, draws.start : draws.stop].contiguous(), device).long()
    return Batch(
        inputs=words_TN[:-1],
        targets=words_TN[1:],
        draws=draws,
        share=(draws.stop - draws.start) / draws.total,
        batch_dim=1,
        learning_rate_scale=scale,
        starts_epoch=starts_epoch,
    )


def windows_in_order(text_TB: Tensor, bptt: int, stream: str, shard: Shard, device: torch.device) -> Iterator[Batch]:
    """All of a text once, in windows of `bptt`; the last may be shorter, so that no word is left out.

    A shard may hold no column (share 0). Nothing is drawn, so the windows have no seed.
    """
    last, total = len(text_TB) - 1, text_TB.shape[1]
    for step, start in enumerate(range(0, last, bptt)):
        draws = Draws(0, stream, step, *shard.bounds(total), total)
        yield window(text_TB, start, min(start + bptt, last), draws, device, scale=1.0, starts_epoch=step == 0)


def columns(tokens: NDArray[np.int32], num_columns: int, what: str, setting: str) -> Tensor:
    """Cut a text into columns [T, B], a view; words that do not fill a row are dropped. Raises: DataError."""
    length = len(tokens) // num_columns
    if length <= SHORTEST_WINDOW:
        raise DataError(
            f"the {what} text has {len(tokens)} words, too few for {setting} = {num_columns} columns of more than "
            f"{SHORTEST_WINDOW}: lower it, or use more text"
        )
    return torch.from_numpy(tokens[: length * num_columns].reshape(num_columns, length)).T


def full_or_half_windows(draws: np.random.Generator, length: int, bptt: int) -> NDArray[np.int64]:
    """Cut `length` predictions into windows: `bptt` with probability 0.95, else half of it; the last may be shorter.

    The rule of a search (arXiv:1806.09055, appendix A.1.2). A remainder too short for a window is dropped.
    """
    short = max(bptt // 2, SHORTEST_WINDOW)
    full = draws.random(length // short + 1) < _FULL_LENGTH_PROBABILITY
    return _starts(np.where(full, bptt, short), length)


def normal_windows(draws: np.random.Generator, length: int, bptt: int) -> NDArray[np.int64]:
    """Cut `length` predictions into windows of max(5, int(N(mean, 5))) and at most bptt + 20; the last may be shorter.

    The rule of a training: `mean` is bptt with probability 0.95, else its half (arXiv:1708.02182, section 5). A
    remainder of one is dropped.
    """
    shortest = max(SHORTEST_WINDOW, min(_SHORTEST_DRAWN, bptt))
    most = length // shortest + 1
    means = np.where(draws.random(most) < _FULL_LENGTH_PROBABILITY, bptt, bptt / 2)
    lengths = (means + _DEVIATION * draws.standard_normal(most)).astype(np.int64)
    return _starts(np.clip(lengths, shortest, bptt + _LONGER), length)


def _starts(lengths: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """The starts of windows of these lengths within `total`, and as last entry the end of the last one."""
    ends = np.cumsum(lengths)
    inside = ends[ends < total]
    remainder = total - (int(inside[-1]) if len(inside) else 0)
    tail = [total] if remainder >= SHORTEST_WINDOW else []
    return np.array([0, *inside.tolist(), *tail], np.int64)
