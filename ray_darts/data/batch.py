"""A rank's part of a global batch, and its random numbers.

Every random number is drawn for the global batch from a counter-based generator keyed by (seed, stream, step, name)
and sliced by rank, so it is the same on any device and at any world size. Of ranks it knows only "shard r of W".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Rank `rank` of `world_size`; shards are contiguous and differ by at most one sample."""

    rank: int = 0
    world_size: int = 1

    def bounds(self, total: int) -> tuple[int, int]:
        """[start, stop) of this shard of `total` samples."""
        return self.rank * total // self.world_size, (self.rank + 1) * total // self.world_size


def generator(*key: object) -> np.random.Generator:
    """Return a Philox generator that depends only on `key` (the text of its parts), on any machine."""
    digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64)))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy from the host to `device` asynchronously."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one global batch of one stream; [start, stop) are this shard's samples of `total`."""

    seed: int
    stream: str
    step: int
    start: int
    stop: int
    total: int

    def generator(self, name: str) -> np.random.Generator:
        """Return a generator of this batch, equal on all ranks; use one `name` per purpose."""
        return generator(self.seed, self.stream, self.step, name)

    def keep_mask(self, name: str, shape: Sequence[int], keep: float, *, batch_dim: int | None, like: Tensor) -> Tensor:
        """Return Bernoulli(`keep`) / `keep` on the device and with the dtype of `like`.

        `shape` has this shard's number of samples at `batch_dim`; the mask is drawn for the global batch and sliced
        there. With `batch_dim = None` all ranks get the whole mask. Pure: equal calls return equal masks, so the passes
        at w, w', w+ and w- use the same mask.
        """
        kept = self.generator(name).random(self._whole(shape, batch_dim), dtype=np.float32) < keep
        return self._own_part(kept, batch_dim, like) / keep

    def normal(self, name: str, shape: Sequence[int], *, batch_dim: int, like: Tensor) -> Tensor:
        """Return standard normal numbers on the device and with the dtype of `like`.

        `shape` has this shard's number of samples at `batch_dim`. Drawn for the global batch in float32 and sliced
        there; pure, as `keep_mask`.
        """
        drawn = self.generator(name).standard_normal(self._whole(shape, batch_dim), dtype=np.float32)
        return self._own_part(drawn, batch_dim, like)

    def uniform(self, name: str, shape: Sequence[int], *, batch_dim: int, like: Tensor) -> Tensor:
        """Return uniform numbers of [0, 1), as `normal`."""
        drawn = self.generator(name).random(self._whole(shape, batch_dim), dtype=np.float32)
        return self._own_part(drawn, batch_dim, like)

    def _whole(self, shape: Sequence[int], batch_dim: int | None) -> list[int]:
        """The shape for the global batch."""
        whole = list(shape)
        if batch_dim is not None:
            whole[batch_dim] = self.total
        return whole

    def _own_part(self, drawn: NDArray[np.generic], batch_dim: int | None, like: Tensor) -> Tensor:
        """This shard's part, on the device and with the dtype of `like`."""
        if batch_dim is not None:
            drawn = np.take(drawn, range(self.start, self.stop), axis=batch_dim)
        return to_device(torch.from_numpy(drawn), like.device).to(like.dtype)


@dataclass(frozen=True)
class Batch:
    """This rank's samples of one global batch, on the device.

    `inputs`: images [N, C, H, W] (channels_last) or tokens [T, N] int64; `targets`: labels [N] or tokens [T, N];
    `share`: this rank's number of samples over the global batch's, its weight in every average.
    `starts_epoch`: a carried hidden state is reset before this batch. `weights` [N]: of the samples' losses, in a batch
    to train on; None where all are 1.
    """

    inputs: Tensor
    targets: Tensor
    draws: Draws
    share: float = 1.0
    batch_dim: int = 0
    learning_rate_scale: float = 1.0
    starts_epoch: bool = False
    weights: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """Samples (columns, for text) in this shard."""
        return self.inputs.shape[self.batch_dim]

    def split(self, parts: int) -> list[Batch]:
        """Split into `parts` micro-batches of nearly equal size whose shares sum to this batch's share."""
        if parts == 1:
            return [self]
        pieces: list[Batch] = []
        for part in range(min(parts, self.num_samples)):
            start, stop = Shard(part, min(parts, self.num_samples)).bounds(self.num_samples)
            draws = replace(self.draws, start=self.draws.start + start, stop=self.draws.start + stop)
            pieces.append(
                replace(
                    self,
                    inputs=self.inputs.narrow(self.batch_dim, start, stop - start),
                    targets=self.targets.narrow(self.batch_dim, start, stop - start),
                    weights=None if self.weights is None else self.weights.narrow(0, start, stop - start),
                    draws=draws,
                    share=self.share * (stop - start) / self.num_samples,
                )
            )
        return pieces
