"""An experiment of any number of runs in a few lines: how many are in which state, and the best so far; and the choice
of the runs to show. Knows no store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ray_darts.errors import ConfigError
from ray_darts.messages import escaped
from ray_darts.report.amounts import counted
from ray_darts.report.progress import run_seconds_left, seconds_left, sweep_line

if TYPE_CHECKING:
    from ray_darts.artifacts.best import Best
    from ray_darts.artifacts.records import Metric
    from ray_darts.artifacts.status import RunStatus

STATES = ("failed", "claimed", "searching", "training", "finished", "waiting")
"""All states, those that a reader wants to know of first."""

_Key = int | float | str | None
SORTS: Mapping[str, Callable[[RunStatus], _Key]] = {
    "run": lambda run: run.run,
    "state": lambda run: STATES.index(run.state),
    "step": lambda run: run.step,
    "epoch": lambda run: run.epoch,
    "loss": lambda run: _number(run.latest.get("validation_loss")),
    "metric": lambda run: None if run.metric is None else run.metric.value,
    "age": lambda run: run.age_s,
    "left": run_seconds_left,
    "claims": lambda run: run.claims,
}
"""What runs can be sorted by; those without a value come last."""


def choose_runs(
    runs: Sequence[RunStatus], states: str | None = None, sort: str | None = None, limit: int | None = None
) -> list[RunStatus]:
    """The runs in one of `states` (`failed,searching`), in the order of `sort` (`step`; `-step`: the highest first), at
    most `limit`. Raises: ConfigError for an unknown state or order."""
    return order_of(sort)(filter(_is_in(states), runs))[:limit]


def check_choice(states: str | None, sort: str | None) -> None:
    """Raise ConfigError for an unknown state or order."""
    _is_in(states)
    order_of(sort)


def _is_in(states: str | None) -> Callable[[RunStatus], bool]:
    if states is None:
        return lambda run: True
    wanted = {state.strip() for state in states.split(",")}
    unknown = sorted(wanted - set(STATES))
    if unknown:
        raise ConfigError(f"--state {states!r}: {unknown[0]!r} is no state; states are {', '.join(sorted(STATES))}")
    return lambda run: run.state in wanted


def order_of(sort: str | None) -> Callable[[Iterable[RunStatus]], list[RunStatus]]:
    """Sorts runs by `sort`; equal ones keep their order. Raises: ConfigError."""
    if sort is None:
        return list
    name = sort.removeprefix("-")
    if name not in SORTS:
        raise ConfigError(f"--sort {sort!r}: wanted {', '.join(SORTS)}, or one of these after a minus sign")
    key, reverse = SORTS[name], sort.startswith("-")

    def ordered(runs: Iterable[RunStatus]) -> list[RunStatus]:
        pairs = [(key(run), run) for run in runs]
        known = [(value, run) for value, run in pairs if value is not None]
        known.sort(key=lambda pair: pair[0], reverse=reverse)
        return [run for _, run in known] + [run for value, run in pairs if value is None]

    return ordered


def counts_text(runs: Iterable[RunStatus]) -> str:
    """`3 failed, 97 searching, 900 finished`."""
    counts = Counter(run.state for run in runs)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])  # type: ignore[index]


def best_metric(runs: Iterable[RunStatus]) -> tuple[str, Metric] | None:
    """(Run, metric) of the finished run with the best finite value; None without any. Of several kinds of metric, that
    of the first run counts."""
    scored = [(run.run, run.metric) for run in runs if run.metric is not None and run.metric.value is not None]
    scored = [(run, metric) for run, metric in scored if _kind(metric) == _kind(scored[0][1])]
    if not scored:
        return None
    sign = -1.0 if scored[0][1].direction == "max" else 1.0
    return min(scored, key=lambda pair: (sign * (pair[1].value or 0.0), pair[0]))


def summary_lines(runs: Sequence[RunStatus], best: Best | None, num_shown: int) -> list[str]:
    """How many runs there are, in which states, how far they are, what they have used, and the best; a few lines."""
    lines = [f"{len(runs)} runs: {counts_text(runs)}; {sweep_line(runs)}" if len(runs) != 1 else sweep_line(runs)]
    found = _best(runs, best)
    if found is not None:
        run, metric = found
        value = "not finite" if metric.value is None else f"{metric.value:.6g}"
        lines.append(escaped(f"best so far: {run}, {metric.name} {value} ({metric.ranking} ranking)"))
    used = summary_used(runs)
    if used:
        lines.append(used)
    if num_shown != len(runs):
        lines.append(f"shown: {num_shown} of {len(runs)} runs")
    return lines


def summary_used(runs: Sequence[RunStatus]) -> str:
    """`12.3 worker-hours, 4.56 of cost; lost: 3 machines, 1 process`; empty where nothing was used."""
    used = used_data(runs)
    if not used["worker_hours"]:
        return ""
    cost = f", {used['cost']:.4g} of cost" if used["cost"] else ""
    lost = losses_text(int(used["preemptions"]), int(used["failures"]))
    return f"{used['worker_hours']:.3g} worker-hours{cost}{lost and f'; lost: {lost}'}"


def losses_text(machines: int, processes: int) -> str:
    """`3 machines, 1 process`; empty where nothing was lost."""
    counts = [counted(machines, "machine")] if machines else []
    if processes:
        counts.append("1 process" if processes == 1 else f"{processes} processes")
    return ", ".join(counts)


def used_data(runs: Sequence[RunStatus]) -> dict[str, float]:
    """Worker-hours, cost, and lost machines and processes of all starts of the runs."""
    return {
        "worker_hours": sum(run.spent.worker_s for run in runs) / 3600,
        "cost": sum(run.spent.cost for run in runs),
        "preemptions": sum(run.preemptions for run in runs),
        "failures": sum(run.failures for run in runs),
    }


def summary_data(runs: Sequence[RunStatus], best: Best | None) -> dict[str, object]:
    """The same as plain JSON-able data; `workers`: of the runs whose last record is of a start that was at work."""
    found = _best(runs, best)
    counts = Counter(run.state for run in runs)
    working = [run.environment.world_size for run in runs if run.has_owner and run.environment is not None]
    return {
        "runs": len(runs),
        "states": {state: counts[state] for state in STATES if counts[state]},  # type: ignore[index]
        "ended": sum(run.has_ended for run in runs),
        "at_work": len(working),
        "workers": sum(working),
        "seconds_left": seconds_left(runs),
        **used_data(runs),
        "best": None if found is None else {"run": found[0], "metric": found[1].model_dump(mode="json")},
    }


def _best(runs: Iterable[RunStatus], best: Best | None) -> tuple[str, Metric] | None:
    return best_metric(runs) if best is None else (best.run, best.metric)


def _kind(metric: Metric) -> tuple[str, str, str]:
    return metric.name, metric.direction, metric.ranking


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
