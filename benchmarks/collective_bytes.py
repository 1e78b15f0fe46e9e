"""What the workers of one search exchange in a step: reductions and bytes, counted in the real step, and where scaling
of one run ends by a plain model of a ring.

python -m benchmarks.collective_bytes [--presets cifar10,ptb,...] [--milliseconds 200,1700,4400]

Counts `BilevelStep` on the meta device with a batch of two samples: sizes of what is reduced depend on neither the
batch nor the number of workers. No data is read. Figures go to results/collective_bytes.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmarks.measure import report
from ray_darts.config import SearchConfig, load_config
from ray_darts.data.batch import Shard
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order, Progress
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.batch_norm import synchronise
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.planned_device import planned_for
from ray_darts.tasks.batch_norm import moments_reducer
from ray_darts.tasks.counting import dummy_batch
from ray_darts.tasks.precision import parameter_dtype

META = torch.device("meta")
_MIDDLE = Progress(step=1, total_steps=2, epoch=1, epochs=2)
_MOST_WORKERS = 4096
PRESETS = {
    "cifar10": DataFacts(10, 3, 32),
    "imagenet": DataFacts(1000, 3, 224),
    "nasbench201": DataFacts(10, 3, 32),
    "digits": DataFacts(10, 1, 8),
    "ptb": DataFacts(10_000),
}


class Counting:
    """One rank of two that sums nothing and counts what it would."""

    def __init__(self) -> None:
        self.shard = Shard(0, 2)
        self.num_calls = self.num_bytes = 0

    def sum_(self, vector: Tensor) -> None:
        """Count a reduction."""
        self.num_calls += 1
        self.num_bytes += vector.numel() * vector.element_size()

    def all_rows(self, row: Tensor) -> Tensor:
        """Count a gathering."""
        self.sum_(row)
        return torch.stack([row, row])


@dataclass(frozen=True)
class Exchange:
    """One step of one worker: what it reduces over all workers."""

    preset: str
    order: Order
    batch_norm: str
    reductions: int
    num_bytes: int


@dataclass(frozen=True)
class Link:
    """A network between workers. `latency_s`: of one hop of a ring, software included; an assumption."""

    name: str
    bytes_per_s: float
    latency_s: float


LINKS = (
    Link("10 Gbit/s", 10e9 / 8, 50e-6),
    Link("25 Gbit/s", 25e9 / 8, 30e-6),
    Link("100 Gbit/s", 100e9 / 8, 15e-6),
    Link("NVLink, 450 GB/s", 450e9, 3e-6),
)


def count(
    config: SearchConfig, facts: DataFacts, order: Order, batch_norm: str, device_kind: str = "cuda"
) -> tuple[int, int]:
    """(reductions, bytes) of one bilevel step as `device_kind` does it."""
    counting = Counting()
    with planned_for(device_kind):
        with META:
            supernet = build_supernet(config, facts, 0, torch.device(device_kind))
        if batch_norm == "sync":
            synchronise(supernet, moments_reducer(counting))
        step = BilevelStep(config, order, supernet, 0, counting, META)
        samples = min(2 * config.search.accumulate, config.search.batch_size)
        dtype = parameter_dtype(config.search)
        train, validation = (dummy_batch(config.data, facts, samples, dtype, META) for _ in range(2))
        step.step_(train, validation, config.weights.learning_rate, progress=_MIDDLE)
    return counting.num_calls, counting.num_bytes


def exchanges(presets: Sequence[str]) -> Iterator[Exchange]:
    """Every preset with both orders, batch norm of the shard and of the global batch."""
    for preset in presets:
        config = load_config(preset, overrides=["search.precision=float32", "operation.kernel=torch"])
        orders: tuple[Order, ...] = ("first", "second")
        for order in orders:
            for policy in ("local", "sync"):
                yield Exchange(preset, order, policy, *count(config, PRESETS[preset], order, policy))


def exchange_s(exchange: Exchange, link: Link, workers: int) -> float:
    """Seconds of a step's reductions in a ring: 2 (W - 1) / W of the bytes, and 2 (W - 1) hops for each reduction."""
    if workers == 1:
        return 0.0
    share = 2 * (workers - 1) / workers
    return share * exchange.num_bytes / link.bytes_per_s + 2 * (workers - 1) * link.latency_s * exchange.reductions


def efficiency(exchange: Exchange, link: Link, workers: int, compute_s: float) -> float:
    """The share of a step that computes, where `compute_s` is that of one worker on its share of the batch, the same
    for any number of workers (weak scaling), and nothing overlaps."""
    return compute_s / (compute_s + exchange_s(exchange, link, workers))


def most_workers(exchange: Exchange, link: Link, compute_s: float, least: float, batch: int | None = None) -> int:
    """The largest number of workers, 4096 at most, whose efficiency is at least `least`.

    `batch`: of all workers together; `compute_s` is then that of the whole batch on one worker, and there are no more
    workers than samples. None: each worker has a batch of its own, which takes `compute_s`.
    """
    workers = 1
    while workers < (batch or _MOST_WORKERS):
        share_s = compute_s if batch is None else compute_s / (workers + 1)
        if efficiency(exchange, link, workers + 1, share_s) < least:
            break
        workers += 1
    return workers


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--milliseconds", default="200,1700,4400", help="of computing a step, for the tables")
    parser.add_argument("--of", default="cifar10", help="the preset of the second table")
    arguments = parser.parse_args()
    found = list(exchanges(arguments.presets.split(",")))
    rows = ["| preset | order | batch norm | reductions | bytes |", "|---|---|---|---|---|"]
    rows += [f"| {e.preset} | {e.order} | {e.batch_norm} | {e.reductions:,} | {e.num_bytes:,} |" for e in found]
    compute = [float(each) / 1000 for each in arguments.milliseconds.split(",")]
    whole = load_config(arguments.of).search.batch_size
    for name, batch in (("the batch grows with the workers", None), (f"the batch stays {whole}", whole)):
        rows += ["", f"{arguments.of}, {name}: workers at 80 % / 50 %", ""]
        rows += ["| order, batch norm | link | " + " | ".join(f"{each * 1000:g} ms" for each in compute) + " |"]
        rows += [f"|{'---|' * (2 + len(compute))}"]
        for exchange in (each for each in found if each.preset == arguments.of):
            for link in LINKS:
                both = ([most_workers(exchange, link, each, share, batch) for share in (0.8, 0.5)] for each in compute)
                cells = [f"{at_80:,} / {at_50:,}" for at_80, at_50 in both]
                rows.append(f"| {exchange.order}, {exchange.batch_norm} | {link.name} | {' | '.join(cells)} |")
    report("collective_bytes", vars(arguments), {f"{e.preset} {e.order} {e.batch_norm}": asdict(e) for e in found})
    print("\n".join(rows))


if __name__ == "__main__":
    main()
