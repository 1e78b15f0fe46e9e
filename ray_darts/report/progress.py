"""How far a whole sweep is: runs that have ended, and the time that is left, as one line. Knows no store."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from ray_darts.report.amounts import duration_text

if TYPE_CHECKING:
    from ray_darts.artifacts.status import RunStatus


def sweep_line(runs: Sequence[RunStatus]) -> str:
    """`3 of 8 runs have ended, 2 at work, about 42m10s left`; without a time while no rate is known."""
    ended = sum(run.has_ended for run in runs)
    working = sum(run.has_owner for run in runs)
    left = seconds_left(runs)
    parts = [f"{ended} of {len(runs)} runs have ended"]
    if working:
        parts.append(f"{working} at work")
    if left is not None:
        parts.append(f"about {duration_text(left)} left")
    return ", ".join(parts)


def seconds_left(runs: Sequence[RunStatus]) -> float | None:
    """Seconds until all runs have ended, if as many go on at a time as now; None while no rate is known, or at the end.

    A run that has no rate yet is taken to be as long and as fast as the others are on average.
    """
    open_runs = [run for run in runs if not run.has_ended]
    rates = {run.run: rate for run in runs if (rate := _rate(run)) is not None}
    totals = [run.total_steps for run in runs if run.total_steps]
    if not open_runs or not rates or not totals:
        return None
    usual_s, usual_steps = fmean(1 / rate for rate in rates.values()), fmean(totals)
    lefts = []
    for run in open_runs:
        rate = rates.get(run.run)
        steps = (run.total_steps or usual_steps) - run.step
        lefts.append(max(0.0, steps) * (usual_s if rate is None else 1 / rate))
    at_a_time = max(1, sum(run.has_owner for run in open_runs))
    return max(sum(lefts) / at_a_time, max(lefts))


def run_seconds_left(run: RunStatus) -> float | None:
    """Seconds until a run that is at work has done all its steps, at its present rate; None while that is not known."""
    rate = _rate(run)
    if run.state not in ("searching", "training") or not run.total_steps or rate is None:
        return None
    return (run.total_steps - run.step) / rate


def _rate(run: RunStatus) -> float | None:
    rate = run.latest.get("steps_per_s")
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None
