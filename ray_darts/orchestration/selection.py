"""The selection of a search: every finished run's cell is trained briefly from scratch and ranked.

Trains on the weight half of the search's data and ranks on the alpha half; the test set stays closed (the paper's
protocol, arXiv:1806.09055, section 3.1.2). Equal cells are trained once. The trainings are an experiment of their own,
`<experiment>/selection`, with the store, the run log and the resume of every run.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ray_darts.artifacts.best import Best, offer_best, read_best
from ray_darts.artifacts.experiment import read_experiment
from ray_darts.artifacts.histories import method_of
from ray_darts.artifacts.keys import RunKeys, selection_of
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.records import Metric
from ray_darts.artifacts.run_log import find_tip
from ray_darts.artifacts.selected import FinishedSearch, finished_searches, selected_candidate
from ray_darts.artifacts.status import run_status
from ray_darts.errors import MissingObject
from ray_darts.genotype.canonical import canonical, genotype_digest
from ray_darts.genotype.genotype import Genotype
from ray_darts.orchestration.assignment import RunOutcome
from ray_darts.orchestration.budget import Budget, stored_facts
from ray_darts.orchestration.requests import SearchRequest
from ray_darts.orchestration.sweep import Observer, run_sweep
from ray_darts.orchestration.trainings import TrainingRequest, training_name

logger = logging.getLogger("ray_darts.orchestration")

_SEED = 0
"""Every cell is trained with one seed, the same for all."""


@dataclass(frozen=True)
class SelectedRun:
    """A finished run of a search and how its cell ranked.

    `cell`: the digest of the cell that was trained, which is an equal one where several runs found it. `value`: of
    the selection's metric; None where the cell was not trained (`note` says why) or its score is not finite.
    """

    run: str
    method: str
    order: str | None
    seed: int
    cell: str
    value: float | None
    parameters: int | None
    note: str = ""


@dataclass(frozen=True)
class SelectionResult:
    """`runs`: the best first. `trained`: distinct cells. `outcomes`: how each short training ended for this command."""

    experiment: str
    metric: str
    direction: str
    runs: tuple[SelectedRun, ...]
    trained: int
    outcomes: Mapping[str, RunOutcome]
    best: Best | None


@dataclass(frozen=True)
class SelectionPlan:
    """What a selection trains: `trainings` is None where every cell exceeds the budget."""

    candidates: tuple[FinishedSearch, ...]
    representatives: Mapping[str, Genotype]
    excess: Mapping[str, str]
    trainings: TrainingRequest | None


def select(request: SearchRequest, observer: Observer) -> SelectionResult:
    """Train the cells of all finished runs of the request's experiment and offer the best one to `best.json`.

    The same call again trains only what has not finished. Raises: as `run_sweep`; MissingObject when no run has
    finished.
    """
    store = open_store(request.store_uri, request.config.store)
    plan = plan_selection(request, store)
    for cell, reason in plan.excess.items():
        logger.info("cell %s is left out: %s", cell, reason)
    outcomes: Mapping[str, RunOutcome] = {}
    if plan.trainings is not None:
        logger.info(
            "selection: %d cells of %d runs are trained for %d epochs each",
            len(plan.trainings.genotypes),
            len(plan.candidates),
            plan.trainings.config.training.epochs,
        )
        outcomes = run_sweep(plan.trainings, observer).outcomes
    return _ranked(store, request, plan, outcomes)


def plan_selection(request: SearchRequest, store: ObjectStore) -> SelectionPlan:
    """The cells of all finished runs, equal ones once, without those beyond the budget. Raises: MissingObject."""
    config, budget = request.config.selection_config(), request.select or Budget()
    candidates = tuple(finished_searches(store, request.experiment))
    if not candidates:
        raise MissingObject(f"no run of {request.experiment!r} has finished: there is nothing to select from")
    representatives = _representatives(candidates)
    excess = budget.excess(config, representatives.values(), stored_facts(store, request.experiment))
    to_train = tuple(genotype for genotype in representatives.values() if genotype_digest(genotype) not in excess)
    trainings = TrainingRequest(
        config,
        selection_of(request.experiment),
        request.store_uri,
        to_train,
        (_SEED,),
        wanted_digests=read_experiment(store, request.experiment).data_digests,
        retry_failed=request.retry_failed,
        allow_world_size_change=request.allow_world_size_change,
        address=request.address,
    )
    return SelectionPlan(candidates, representatives, excess, trainings if to_train else None)


def _representatives(candidates: Iterable[FinishedSearch]) -> dict[str, Genotype]:
    """{canonical form: the genotype that is trained}: of equal cells that of the first run."""
    found: dict[str, Genotype] = {}
    for each in candidates:
        found.setdefault(canonical(each.genotype), each.genotype)
    return found


def _ranked(
    store: ObjectStore, request: SearchRequest, plan: SelectionPlan, outcomes: Mapping[str, RunOutcome]
) -> SelectionResult:
    """Read the scores, offer every scored run to `best.json`, and list the runs, the best first."""
    ranking = request.config.space.ranking
    name, direction = f"selected_validation_{ranking.metric}", ranking.direction
    rows: list[tuple[SelectedRun, Best | None]] = []
    selection = selection_of(request.experiment)
    for each in plan.candidates:
        trained = plan.representatives[canonical(each.genotype)]
        cell, run = genotype_digest(trained), each.description
        value, parameters, note = None, None, plan.excess.get(cell, "")
        offered: Best | None = None
        if not note:
            metric, parameters, note = _score(store, selection, training_name(trained, _SEED))
            if metric is not None and metric.value is not None:
                value, offered = metric.value, selected_candidate(request.experiment, each, metric)
        row = SelectedRun(run.run, method_of(run), run.order, run.seed, cell, value, parameters, note)
        rows.append((row, offered))
    for _, offered in rows:
        if offered is not None:
            offer_best(store, offered)
    sign = -1.0 if direction == "max" else 1.0
    listed = sorted((row for row, _ in rows), key=lambda row: (row.value is None, sign * (row.value or 0.0), row.run))
    beyond = {row.run for row, _ in rows if row.cell in plan.excess}
    best = _best_of(store, request, [offered for _, offered in rows if offered is not None], beyond)
    return SelectionResult(
        request.experiment, name, direction, tuple(listed), len(plan.representatives), outcomes, best
    )


def _best_of(store: ObjectStore, request: SearchRequest, offered: list[Best], beyond: Collection[str]) -> Best | None:
    """The best of the experiment; with a budget the best of those within it, with a warning where that is another.

    `beyond`: the runs whose cells exceed the budget.
    """
    try:
        best: Best | None = read_best(store, request.experiment)
    except MissingObject:
        best = None
    if request.select in (None, Budget()):
        return best
    within = next((entry for entry in offered if not any(other.beats(entry) for other in offered)), None)
    if best is not None and best.run in beyond:
        logger.warning("warning: best.json names %s, whose network exceeds this command's budget", best.run)
    return within


def _score(store: ObjectStore, selection: str, run: str) -> tuple[Metric | None, int | None, str]:
    """(metric, parameters, why there is no metric) of a short training."""
    status = run_status(store, selection, run)
    if status.state != "finished" or status.metric is None:
        detail = "" if status.failure is None else f": {status.failure.detail}"
        return None, None, f"its training has {'failed' if status.state == 'failed' else 'not finished'}{detail}"
    tip = find_tip(store, RunKeys(selection, run))
    parameters = None if tip is None or tip.record.answer is None else tip.record.answer.get("parameters")
    return status.metric, parameters if isinstance(parameters, int) else None, ""
