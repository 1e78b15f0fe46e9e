"""Estimates a search before it starts: steps, memory, time, worker-hours, store bytes and requests.

Applies formulas to counts that the caller measured (operations of a step, steps of the data). The assumed speeds are
constants of this module; times are right within a factor of three. Imports no torch and no Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ray_darts.report.amounts import bytes_text, counted, duration_text

FLOPS_PER_S = {"cpu": 2e10, "cuda": 5e12}
"""{device: operations a second}: of one thread of a server CPU, of one data-centre GPU in float32.

Measured on one thread for convolutions (1.6e10 to 2e10) and for the recurrent space's wide products (5e10)."""
CALL_S = {"cpu": 30e-6, "cuda": 6e-6}
"""{device: seconds per operator call}: the overhead of a call besides its arithmetic; it dominates small searches."""
RUN_START_S = 40.0
"""Ray's fixed cost of one run: a worker group, a process group, the data; an assumption."""
PROCESS_BYTES = 690_000_000
"""Resident memory of one worker before its data and its network."""
BYTES_PER_ALPHA = 3.7 + 5.7
"""In a part and in alpha_trace.parquet, measured on a random walk (benchmarks/README.md): a part has only alphas, the
trace also probabilities; the other columns are dictionary-encoded."""
RECORD_BYTES = 3_000
REQUESTS_PER_COMMIT = 8
"""Part, two files of the checkpoint, record, head; two deletes; one read of the part for the publication."""
REQUESTS_PER_RUN = 20
"""Descriptions, claim, finish, publications, `best.json`."""
VECTORS_PER_WEIGHT = 5
"""Weights, momentum, gradient, and during a step w' and its direction."""


@dataclass(frozen=True)
class StepSize:
    """One bilevel step of one order over the global batch, forward and backward: what it computes and keeps.

    `flops`: floating-point operations (a multiply-add is two); `operator_calls`: of PyTorch; `activation_bytes`:
    saved for one pass's backward, the largest of its passes.
    """

    flops: float
    operator_calls: int
    activation_bytes: int


@dataclass(frozen=True)
class Plan:
    """The counts that an estimate needs; `concurrent` runs at a time, `workers` per run."""

    experiment: str
    steps_done: Mapping[str, Sequence[int]]
    """{order: steps that each run still to be searched has committed}"""
    num_ended: int
    """Runs that have ended already."""
    sizes: Mapping[str, StepSize]
    """{order: size of its step}"""
    epochs: int
    total_steps: int
    num_weights: int
    num_alphas: int
    workers: int
    concurrent: int
    device: str
    threads: int
    commit_every_s: float
    checkpoints_kept: int = 1
    """Of a finished run."""
    trace_every_steps: int = 1
    data_bytes: int = 0
    """What a worker holds of the data."""
    loading_bytes: int = 0
    """The peak of a worker's memory for the data while it reads them."""
    selection_epochs: int | None = None
    """Of each short training after the search; None without a selection."""
    drawn: Mapping[str, int] = field(default_factory=dict)
    """{method: runs still to be done that draw an architecture}; they only start and publish, and train nothing."""


@dataclass(frozen=True)
class OrderEstimate:
    """The runs of one order.

    `left_s` and `requests_left` are of all its runs, `longest_s` of the longest one, without the steps that are done;
    the other fields except `num_runs` are per run.
    """

    order: str
    num_runs: int
    step_s: float
    run_s: float
    worker_memory_bytes: float
    commits: int
    store_bytes: float
    store_requests: int
    left_s: float
    longest_s: float
    requests_left: int

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data; times in seconds, sizes in bytes."""
        return {
            "runs": self.num_runs,
            "step_s": float(f"{self.step_s:.3g}"),
            "run_s": round(self.run_s, 1),
            "left_s": round(self.left_s, 1),
            "worker_memory_bytes": round(self.worker_memory_bytes),
            "commits": self.commits,
            "store_bytes": round(self.store_bytes),
            "store_requests": self.store_requests,
        }


@dataclass(frozen=True)
class Estimate:
    """All runs together; `wall_s` with `plan.concurrent` runs at a time."""

    plan: Plan
    orders: tuple[OrderEstimate, ...]

    @property
    def num_drawn(self) -> int:
        """Runs that are still to be drawn."""
        return sum(self.plan.drawn.values())

    @property
    def num_runs(self) -> int:
        """Runs that are still to be searched or drawn."""
        return sum(order.num_runs for order in self.orders) + self.num_drawn

    @property
    def left_s(self) -> float:
        """The sum over all runs, without the steps that are done; all draws share one start."""
        return sum(order.left_s for order in self.orders) + (RUN_START_S if self.num_drawn else 0.0)

    @property
    def worker_hours(self) -> float:
        """Workers x hours of all runs, without the steps that are done."""
        return self.left_s * self.plan.workers / 3600

    @property
    def wall_s(self) -> float:
        """With `concurrent` runs at a time: at least the longest run, at least the mean load."""
        return max([self.left_s / self.plan.concurrent, *(order.longest_s for order in self.orders)])

    @property
    def steps_done(self) -> int:
        """Steps that the runs still to be searched have committed."""
        return sum(map(sum, self.plan.steps_done.values()))

    @property
    def store_bytes(self) -> float:
        """Bytes that stay in the store when all runs have finished."""
        return sum(order.num_runs * order.store_bytes for order in self.orders)

    @property
    def store_requests(self) -> int:
        """Requests of all runs, reading for the publications included, without those of the steps that are done."""
        drawn = self.num_drawn * (REQUESTS_PER_COMMIT + REQUESTS_PER_RUN)
        return sum(order.requests_left for order in self.orders) + drawn

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data; times in seconds, sizes in bytes."""
        plan = self.plan
        return {
            "experiment": plan.experiment,
            "runs": self.num_runs,
            "runs_ended": plan.num_ended,
            "steps_per_run": plan.total_steps,
            "steps_done": self.steps_done,
            "weights": plan.num_weights,
            "alphas": plan.num_alphas,
            "device": plan.device,
            "workers_per_run": plan.workers,
            "concurrent_runs": plan.concurrent,
            "orders": {order.order: order.to_data() for order in self.orders},
            "drawn": dict(plan.drawn),
            "selection": None
            if plan.selection_epochs is None
            else {"trainings_at_most": self.num_runs + plan.num_ended, "epochs": plan.selection_epochs},
            "wall_s": round(self.wall_s, 1),
            "worker_hours": round(self.worker_hours, 3),
            "store_bytes": round(self.store_bytes),
            "store_requests": self.store_requests,
        }

    def text(self) -> str:
        """A short table for people."""
        plan = self.plan
        searched = [f"{order.num_runs} of {order.order} order" for order in self.orders]
        runs = ", ".join([*searched, *(f"{num_runs} {method}" for method, num_runs in plan.drawn.items())])
        ended = f"; {plan.num_ended} have ended already" if plan.num_ended else ""
        if self.steps_done:
            all_steps = (self.num_runs - self.num_drawn) * plan.total_steps
            ended += f"; {self.steps_done:,} of {all_steps:,} steps are done already"
        workers = f"{plan.workers} worker{'s' * (plan.workers > 1)} each on {plan.device}"
        rows = [
            ("experiment", plan.experiment),
            ("runs", f"{self.num_runs} ({runs}), {plan.concurrent} at a time, {workers}{ended}"),
        ]
        if self.orders:
            size = f"{plan.num_weights:,} weights, {plan.num_alphas} alphas"
            rows.append(("a run", f"{plan.epochs} epochs, {plan.total_steps:,} steps, {size}"))
        rows += [
            (
                f"{order.order} order",
                f"about {order.step_s:.2g} s a step, {duration_text(order.run_s)} a run, "
                f"{bytes_text(order.worker_memory_bytes)} of memory a worker",
            )
            for order in self.orders
        ]
        rows += [
            ("in all", f"about {duration_text(self.wall_s)}, {self.worker_hours:.2g} worker-hours"),
            *self._selection_rows(),
            ("store", f"about {bytes_text(self.store_bytes)} kept, {self.store_requests:,} requests"),
        ]
        width = max(len("second order"), *(len(name) for name, _ in rows)) + 2
        lines = [
            *(f"{name:<{width}}{text}" for name, text in rows),
            "Times are right within a factor of three (report/cost.py names the speeds assumed). Nothing was written.",
        ]
        return "\n".join(lines)

    def _selection_rows(self) -> Iterator[tuple[str, str]]:
        if self.plan.selection_epochs is not None:
            trainings = counted(self.num_runs + self.plan.num_ended, "short training")
            yield "selection", f"not counted: at most {trainings} of {counted(self.plan.selection_epochs, 'epoch')}"


def estimate(plan: Plan) -> Estimate:
    """Apply the formulas to a plan."""
    return Estimate(plan, tuple(_estimate_order(plan, order, size) for order, size in plan.sizes.items()))


def step_seconds(size: StepSize, device: str, workers: int, threads: int) -> float:
    """Time of one step: arithmetic is shared by the workers, operator calls are each worker's own."""
    flops_per_s = FLOPS_PER_S[device] * (threads if device == "cpu" else 1)
    return size.operator_calls * CALL_S[device] + size.flops / workers / flops_per_s


def checkpoint_bytes(num_weights: int, num_alphas: int) -> int:
    """Float32 weights and their momentum; alphas and Adam's two moments."""
    return 4 * (2 * num_weights + 3 * num_alphas)


def _estimate_order(plan: Plan, order: str, size: StepSize) -> OrderEstimate:
    step_s = step_seconds(size, plan.device, plan.workers, plan.threads)
    search_s = step_s * plan.total_steps
    by_time = math.floor(search_s / plan.commit_every_s) if plan.commit_every_s else plan.total_steps
    commits = plan.epochs + by_time
    rows = min(plan.total_steps, plan.total_steps / plan.trace_every_steps + plan.epochs)
    traces = rows * plan.num_alphas * BYTES_PER_ALPHA
    checkpoints = plan.checkpoints_kept * checkpoint_bytes(plan.num_weights, plan.num_alphas)
    network = VECTORS_PER_WEIGHT * 4 * plan.num_weights + size.activation_bytes / plan.workers
    requests = commits * REQUESTS_PER_COMMIT
    left = [1.0 - min(steps / plan.total_steps, 1.0) for steps in plan.steps_done[order]]
    return OrderEstimate(
        order=order,
        num_runs=len(left),
        step_s=step_s,
        run_s=RUN_START_S + search_s,
        worker_memory_bytes=PROCESS_BYTES + max(plan.data_bytes + network, plan.loading_bytes),
        commits=commits,
        store_bytes=traces + checkpoints + commits * RECORD_BYTES,
        store_requests=requests + REQUESTS_PER_RUN,
        left_s=sum(RUN_START_S + share * search_s for share in left),
        longest_s=max((RUN_START_S + share * search_s for share in left), default=0.0),
        requests_left=round(sum(share * requests + REQUESTS_PER_RUN for share in left)),
    )
