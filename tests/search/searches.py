"""Small real searches for tests: digits, three layers, two nodes; and a sink that records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.config import SearchConfig, load_config
from ray_darts.data.open import load_data
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import ALPHAS
from ray_darts.protocols.dataset import LoadedData, SearchData
from ray_darts.protocols.method import Order
from ray_darts.protocols.task import RunCoordinates, Snapshot, Verdict, Wants
from ray_darts.search.loop import SearchLoop
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.metrics import EpochMetrics

CPU = torch.device("cpu")

T = TypeVar("T")


# digits in float64 with batches of 13, which no two or three ranks share evenly; three epochs of three steps
TINY = (
    "space.channels=2",
    "space.nodes=2",
    "data.test_fraction=0",
    "data.fraction=0.05",
    "search.batch_size=13",
    "search.epochs=3",
    "search.precision=float64",
    "operation.agree_every_steps=2",
)


# a step costs what its operations cost, however small their maps
FEW_OPERATIONS = 'space.operations=["none","max_pool_3x3","skip_connect","dil_conv_3x3"]'


def tiny_config(*overrides: str) -> SearchConfig:
    """The preset `digits` made as small as TINY says, with four operations."""
    return eight_operations(FEW_OPERATIONS, *overrides)


def eight_operations(*overrides: str) -> SearchConfig:
    """The same with all operations."""
    return load_config("digits", overrides=(*TINY, *overrides))


@cache
def _loaded(config: SearchConfig) -> LoadedData:
    return load_data(config)


def tiny_data(config: SearchConfig, seed: int = 0) -> SearchData:
    """The streams of one seed; the images are read once per process and config."""
    return _loaded(config).streams(config.search, seed)


def tiny_loop(config: SearchConfig, order: Order, collectives: Collectives, seed: int = 0) -> SearchLoop:
    """A search on the CPU."""
    return SearchLoop(config, RunCoordinates(seed=seed, order=order), tiny_data(config, seed), collectives, CPU)


class Remembering:
    """A sink that records what it is given and returns the given requests in turn."""

    def __init__(self, asks: Mapping[int, Wants] | None = None) -> None:
        self.snapshots: list[Snapshot] = []
        self.epochs: list[EpochMetrics] = []
        self.asked = 0
        self.tests: list[str] = []
        self._asks = dict(asks or {})

    def wants(self) -> Wants:
        """Return the n-th request at the n-th call (from 0)."""
        answer = self._asks.get(self.asked, Wants())
        self.asked += 1
        return answer

    def epoch(self, metrics: EpochMetrics) -> None:
        """Keep an epoch record."""
        self.epochs.append(metrics)

    def test_opened(self, digest: str) -> int:
        """Keep the digest."""
        self.tests.append(digest)
        return len(self.tests)

    def while_waiting(self, work: Callable[[], T]) -> T:
        """Do it."""
        return work()

    def commit(self, snapshot: Snapshot) -> None:
        """Keep a snapshot."""
        self.snapshots.append(snapshot)

    @property
    def trace(self) -> NDArray[np.float32]:
        """[steps, num_alphas]: all committed rows."""
        return np.concatenate([snapshot.rows[ALPHAS] for snapshot in self.snapshots])


def answer_of(verdict: Verdict) -> tuple[Genotype, int, dict[str, Any]]:
    """(genotype, the step it decodes from, metric) of a finished search."""
    assert verdict.answer is not None
    step, metric = verdict.answer["genotype_step"], verdict.answer["metric"]
    assert isinstance(step, int)
    assert isinstance(metric, dict)
    return Genotype.from_data(verdict.answer["genotype"]), step, dict(metric)
