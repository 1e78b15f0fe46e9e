"""Whole searches in this space: both orders, exact resume, any world size, no host reads, in one graph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch._dynamo.utils import counters

from ray_darts.config import SearchConfig, load_config
from ray_darts.data.batch import Batch, Draws
from ray_darts.data.open import load_data
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.dataset import DataFacts, LoadedData, SearchData
from ray_darts.protocols.method import ORDERS, Order
from ray_darts.protocols.task import RunCoordinates, Snapshot, Wants
from ray_darts.search.loop import SearchLoop
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.genotypes import read_genotype, write_text
from ray_darts.tasks.collectives import Collectives, SingleRank
from tests.search.ranks import RankProcesses

T = TypeVar("T")

CPU, META = torch.device("cpu"), torch.device("meta")
TINY = (
    "space.channels=2",
    "data.fraction=0.05",
    "search.batch_size=13",
    "search.epochs=2",
    "search.precision=float64",
    "operation.agree_every_steps=2",
)
"""Batches of 13, which no two or three ranks share evenly; two epochs of three steps."""


def tiny(*overrides: str) -> SearchConfig:
    """The preset for tests made smaller still."""
    return load_config("nasbench201-digits", overrides=(*TINY, *overrides))


@cache
def _loaded(config: SearchConfig) -> LoadedData:
    return load_data(config)


def streams(config: SearchConfig) -> SearchData:
    """The streams of seed 0; the images are read once per process and config."""
    return _loaded(config).streams(config.search, 0)


def a_loop(config: SearchConfig, order: Order, collectives: Collectives | None = None) -> SearchLoop:
    """A search on the CPU."""
    return SearchLoop(config, RunCoordinates(seed=0, order=order), streams(config), collectives or SingleRank(), CPU)


class Keeping:
    """A sink that keeps snapshots; with `commits` it asks for one whenever it is asked."""

    def __init__(self, *, commits: bool = False) -> None:
        self.snapshots: list[Snapshot] = []
        self._commits = commits

    def wants(self) -> Wants:
        """A commit, or nothing."""
        return Wants(commit=self._commits)

    def epoch(self, metrics: object) -> None:
        """Discard the metrics."""

    def test_opened(self, digest: str) -> int:
        """No search opens a test set."""
        raise AssertionError(digest)

    def while_waiting(self, work: Callable[[], T]) -> T:
        """Do it."""
        return work()

    def commit(self, snapshot: Snapshot) -> None:
        """Keep it."""
        self.snapshots.append(snapshot)

    @property
    def trace(self) -> NDArray[np.float32]:
        """All committed rows."""
        return np.concatenate([snapshot.rows["alphas"] for snapshot in self.snapshots])


@pytest.mark.parametrize("order", ORDERS)
def test_a_search_ends_with_a_genotype_and_resumes_from_every_commit_bit_for_bit(order: Order) -> None:
    config, sink = tiny(), Keeping(commits=True)
    loop = a_loop(config, order)
    verdict = loop.run(sink)
    assert (verdict.kind, verdict.step) == ("finished", loop.total_steps)
    assert sink.trace.shape == (6, 30)
    assert not np.array_equal(sink.trace[0], sink.trace[-1])
    assert isinstance(verdict.answer, Mapping)
    genotype = Genotype.from_data(verdict.answer["genotype"], loop.layout)
    assert read_genotype(write_text(genotype)) == genotype
    assert config.method.decode(loop.layout, sink.trace[-1].tolist()).genotype == genotype
    assert {snapshot.step for snapshot in sink.snapshots} >= {2, 3, 4, 6}, "within epochs and at their ends"
    for snapshot in sink.snapshots:
        resumed, rest = a_loop(config, order), Keeping()
        resumed.load_state_dict(snapshot.tensors, json.loads(json.dumps(snapshot.state)))
        assert resumed.run(rest) == verdict
        rows = [kept.rows["alphas"] for kept in rest.snapshots]
        np.testing.assert_array_equal(np.concatenate([sink.trace[: snapshot.step], *rows]), sink.trace)
        for name, array in rest.snapshots[-1].tensors.items() if rest.snapshots else ():
            np.testing.assert_array_equal(array, sink.snapshots[-1].tensors[name], err_msg=name)


def alphas_after_steps(collectives: Collectives, order: Order, hessian: str, steps: int) -> NDArray[np.float64]:
    """Alphas [30] after some steps."""
    config = tiny(f"search.hessian={hessian}", "search.batch_norm=sync", "search.epochs=9")
    loop, data = a_loop(config, order, collectives), streams(config)
    for step in range(steps):
        epoch, index = divmod(step, data.num_steps(0))
        train, validation = data.bilevel_batches(epoch, index, collectives.shard, CPU)
        loop.bilevel.step_(train, validation, 0.05)
    alphas: NDArray[np.float64] = loop.bilevel.alphas.vector.numpy().copy()
    return alphas


@pytest.mark.parametrize(
    ("order", "hessian"), [("first", "finite_difference"), ("second", "finite_difference"), ("second", "exact")]
)
def test_one_two_and_three_workers_agree_in_every_alpha(ranks: RankProcesses, order: Order, hessian: str) -> None:
    (alone,) = ranks.run(1, alphas_after_steps, order, hessian, 6)
    assert np.abs(alone).max() > 0.2, "the alphas must have moved"
    for world_size in (2, 3):
        each = ranks.run(world_size, alphas_after_steps, order, hessian, 6)
        for alphas in each:
            np.testing.assert_array_equal(alphas, each[0])
            np.testing.assert_allclose(alphas, alone, rtol=0, atol=1e-12)


def collectives_of_a_pass(collectives: Collectives) -> int:
    """The number of collectives in one forward pass."""
    config = tiny("search.batch_norm=sync")
    loop = a_loop(config, "first", collectives)
    train, _ = streams(config).bilevel_batches(0, 0, collectives.shard, CPU)
    mixing = {"cell": torch.full((6, 5), 0.2, dtype=torch.float64)}
    before = collectives.num_calls
    with torch.no_grad():
        loop.supernet.logits(train.inputs, mixing, batch_statistics=True, update=False)  # type: ignore[operator]
    return collectives.num_calls - before


def test_synchronised_statistics_cost_one_collective_per_source_state(ranks: RankProcesses) -> None:
    stem, cells, blocks, head = 1, 3 * 3, 2 * 2, 1
    assert ranks.run(2, collectives_of_a_pass) == [stem + cells + blocks + head] * 2


def meta_batch(stream: str) -> Batch:
    """A batch of no data."""
    images = torch.empty(64, 3, 32, 32, device=META).to(memory_format=torch.channels_last)
    return Batch(images, torch.empty(64, dtype=torch.int64, device=META), Draws(0, stream, 0, 0, 64, 64))


@pytest.mark.parametrize("hessian", ["finite_difference", "exact"])
def test_a_whole_step_at_full_size_reads_nothing_back(hessian: str) -> None:
    config = load_config("nasbench201", overrides=[f"search.hessian={hessian}"])
    supernet = build_supernet(config, DataFacts(10, 3, 32), 0, META)
    step = BilevelStep(config, "second", supernet, 0, SingleRank(), META)
    step.step_(meta_batch("train"), meta_batch("validation"), 0.025)
    assert step.weights.vector.device == META
    assert step.totals.shape == (2, 3)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler on PATH")
def test_the_compiled_kernel_computes_the_same_search() -> None:
    plain, compiled = Keeping(), Keeping()
    wide = ("space.channels=8", "search.epochs=1")
    a_loop(tiny(*wide), "second").run(plain)
    loop = a_loop(tiny(*wide, "operation.kernel=compiled"), "second")
    norms = [module for module in loop.supernet.modules() if isinstance(module, BatchNorm)]
    assert norms
    assert all(norm.kernel is not None for norm in norms)
    loop.run(compiled)
    np.testing.assert_allclose(compiled.trace, plain.trace, rtol=0, atol=1e-6)


@pytest.fixture(name="nothing_compiled")
def _nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("nothing_compiled")
def test_every_pass_is_one_graph_for_torch_compile() -> None:
    settings = ("search.epochs=1", "operation.compile_backend=aot_eager")
    plain, compiled = Keeping(), Keeping()
    a_loop(tiny(*settings), "second").run(plain)
    every = "operation.compile=['training', 'validation', 'alpha_training']"
    a_loop(tiny(*settings, every), "second").run(compiled)
    assert counters["stats"]["unique_graphs"] == 4
    assert not counters["graph_break"]
    np.testing.assert_allclose(compiled.trace, plain.trace, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_preset_for_tests_learns_in_seconds() -> None:
    config, sink = load_config("nasbench201-digits"), Keeping()
    verdict = a_loop(config, "first").run(sink)
    assert verdict.answer is not None
    metric = verdict.answer["metric"]
    assert isinstance(metric, dict)
    assert float(str(metric["value"])) > 0.75
