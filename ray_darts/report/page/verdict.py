"""What a page says first, and its table of runs: from what was read of the store, in words and numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from ray_darts.artifacts.histories import RunHistory
from ray_darts.artifacts.status import state_of
from ray_darts.genotype.canonical import canonical
from ray_darts.report.card_facts import Trainings
from ray_darts.report.comparison import relative_improvement
from ray_darts.report.costs import phase_cost, worker_text
from ray_darts.report.items import trained_cells
from ray_darts.report.page.facts import PageFacts
from ray_darts.report.stability import agreement_text, group_name

_RANKINGS = {
    "unfinished": "No search has finished: this is the cell of the last sound epoch of one that its budget stopped.",
    "interim": "Ranked by the supernet's own validation, which trained cells often do not follow: rank them by "
    "training (ray-darts search --select, ray-darts train).",
    "selected": "Ranked by a short training of each cell from scratch.",
    "trained": "Ranked by a whole training from scratch.",
}
_LITTLE = 0.5
"""Below this share of equal kept edges seeds are said to disagree."""

Figures = Mapping[str, tuple[int, int]]
"""{canonical text of a genotype: (parameters, multiply-adds) of its network}"""


@dataclass(frozen=True)
class Row:
    """One run in the table; numbers are None where the store has none. `rank`: its place, from 1, among those ranked.

    `skips`: of all cells after the last epoch; `entropy`: the mean over cells, nats; `score`: of the trainings of its
    cell, the mean over seeds.
    """

    run: str
    group: str
    seed: int
    state: str
    progress: str
    metric: float | None
    score: float | None
    skips: int | None
    entropy: float | None
    parameters: int | None
    multiply_adds: int | None
    worker_hours: float
    warning: str
    rank: int | None = None


@dataclass(frozen=True)
class Verdict:
    """The head of a page. `best`: (what, text) pairs; `ranking`: what it is ranked by; `no_best`: why there is none;
    `lines`: over seeds; `warnings`: what to look at."""

    states: str
    best: tuple[tuple[str, str], ...]
    ranking: str
    no_best: str
    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    metric: str


def verdict_of(facts: PageFacts) -> Verdict:
    """The head of a page."""
    states = Counter[str](state_of(history.last) for history in facts.histories)
    states["not readable"] += len(facts.unread)
    counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()) if number)
    metrics = [history.metric for history in facts.histories if history.metric is not None]
    best: list[tuple[str, str]] = []
    if facts.best is not None:
        metric = facts.best.metric
        value = "not finite" if metric.value is None else f"{metric.value:.6g}"
        better = "higher" if metric.direction == "max" else "lower"
        best = [
            ("best run", facts.best.run),
            (metric.name, f"{value} ({better} is better)"),
            ("ranking", metric.ranking),
            ("cell of step", f"{facts.best.genotype_step:,} of {facts.best.step:,}"),
        ]
    return Verdict(
        states=counted or "no run has been started",
        best=tuple(best),
        ranking="" if facts.best is None else _RANKINGS[facts.best.metric.ranking],
        no_best=_no_best(facts),
        lines=tuple(_lines(facts)),
        warnings=tuple(_warnings(facts)),
        metric=metrics[0].name if metrics else "metric",
    )


def _no_best(facts: PageFacts) -> str:
    if facts.description is not None and not facts.description.layout.cells:
        return "An experiment of trainings: its scores are in the table."
    if any(history.has_finished for history in facts.histories):
        return "No best cell: best.json cannot be read, although a run has finished."
    return "No best cell: no run has finished yet."


def rows_of(facts: PageFacts, figures: Figures) -> list[Row]:
    """The table of runs: those whose cells were trained first, then by their own metric, the best first."""
    scores = _scores(facts)
    rows = [_row(history, scores.get(history.run), figures) for history in facts.histories]
    directions = {history.metric.direction for history in facts.histories if history.metric is not None}
    sign = 1.0 if directions == {"min"} else -1.0
    score_sign = _score_sign(facts)

    def place(row: Row) -> tuple[bool, float, bool, float, str]:
        return (
            row.score is None,
            0.0 if row.score is None else score_sign * row.score,
            row.metric is None,
            0.0 if row.metric is None else sign * row.metric,
            row.run,
        )

    ordered = sorted(rows, key=place)
    ranked = [
        Row(**{**vars(row), "rank": number if row.metric is not None or row.score is not None else None})
        for number, row in enumerate(ordered, start=1)
    ]
    missing = [
        Row(name, "", 0, "not readable", "", None, None, None, None, None, None, math.nan, why)
        for name, why in facts.unread.items()
    ]
    return [*ranked, *missing]


def _row(history: RunHistory, trained: tuple[float, int | None] | None, figures: Figures) -> Row:
    last = history.epochs[-1] if history.epochs else None
    cells = [] if last is None else list(last.cells.values())
    genotype = history.genotype()
    known = None if genotype is None else figures.get(canonical(genotype))
    record = history.last
    of = "" if record is None or not record.total_steps else f" of {record.total_steps:,}"
    return Row(
        run=history.run,
        group=group_name(history),
        seed=history.description.seed,
        state=state_of(history.last),
        progress="" if record is None else f"{record.step:,}{of}",
        metric=None if history.metric is None else history.metric.value,
        score=None if trained is None else trained[0],
        skips=sum(cell.skips for cell in cells) if cells else None,
        entropy=fmean(cell.entropy for cell in cells) if cells else None,
        parameters=known[0] if known is not None else None if trained is None else trained[1],
        multiply_adds=None if known is None else known[1],
        worker_hours=phase_cost("", "", [history]).worker_s / 3600,
        warning=(record.warning or "") if record is not None else "",
    )


def _scores(facts: PageFacts) -> dict[str, tuple[float, int | None]]:
    """{run: (mean over the trainings of its cell, parameters)}; of several experiments of trainings the last one."""
    found: dict[str, tuple[float, int | None]] = {}
    for each in facts.trainings:
        if each.has_values:
            cells = trained_cells(each.results, facts.histories)
            found |= {run: (fmean(cell.values.values()), cell.parameters) for run, cell in cells.items()}
    return found


def _score_sign(facts: PageFacts) -> float:
    metrics = [each.results.metric for each in facts.trainings if each.results.metric is not None]
    return 1.0 if metrics and metrics[-1].direction == "min" else -1.0


def _lines(facts: PageFacts) -> Iterator[str]:
    """Spread over seeds, agreement, and the baseline beside the best cell."""
    if facts.stability is not None:
        yield from (f"{name}: {spread.text()}" for name, spread in facts.stability.spreads.items())
        if facts.stability.overall.runs:
            yield agreement_text(facts.stability.overall)
    yield from _baseline(facts)
    for phase in facts.costs:
        if phase.runs:
            yield f"{phase.phase}: {worker_text(phase.worker_s)}, {phase.finished} of {phase.runs} runs finished"


def _baseline(facts: PageFacts) -> Iterator[str]:
    samplers = [history for history in facts.histories if history.is_sampler]
    if not samplers:
        is_search = facts.description is not None and bool(facts.description.layout.cells)
        if facts.histories and is_search:
            yield "No random baseline: search with --methods random beside the others, and --select."
        return
    judged = False
    for each in facts.trainings:
        draws = trained_cells(each.results, samplers)
        if draws and each.results.metric is not None:
            judged = True
            yield _compared(facts, each, fmean(fmean(cell.values.values()) for cell in draws.values()), len(draws))
    if not judged:
        yield f"{len(samplers)} runs drew their cells at random; none of these cells has been trained yet."


def _compared(facts: PageFacts, each: Trainings, random: float, draws: int) -> str:
    metric = each.results.metric
    assert metric is not None
    text = f"Random sampling: {metric.name} {random:.4g}, the mean of {draws} draws"
    searched = trained_cells(each.results, [history for history in facts.histories if not history.is_sampler])
    if not searched:
        return text
    means = [fmean(cell.values.values()) for cell in searched.values()]
    best = max(means) if metric.direction == "max" else min(means)
    gain = relative_improvement(best, random, metric.direction)
    return f"{text}; the best searched cell {best:.4g}" + ("" if gain is None else f" ({gain:+.2g} %)")


def _warnings(facts: PageFacts) -> Iterator[str]:
    for history in facts.histories:
        last = history.last
        if last is not None and last.warning:
            yield f"{history.run}: {last.warning}"
        if last is not None and last.failure is not None:
            yield f"{history.run} failed: {last.failure.kind}: {last.failure.detail}"
    if facts.stability is not None:
        drawn = {group_name(history) for history in facts.histories if history.is_sampler}
        for group, agreement in facts.stability.groups.items():
            if group not in drawn and agreement.mean is not None and agreement.mean < _LITTLE:
                yield f"Seeds of {group} disagree: {agreement_text(agreement)}"
    yield from (f"{phase.phase}: mixed {fact}" for phase in facts.costs for fact in phase.mixed)
