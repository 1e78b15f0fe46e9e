"""From the arguments of a search to a checked request, and from a request to its result; the API and the command line
share it. Imports neither torch nor Ray until a function is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ray_darts.errors import ConfigError

if TYPE_CHECKING:
    from ray_darts.arguments import ConfigSource
    from ray_darts.artifacts.best import Best
    from ray_darts.artifacts.status import RunStatus
    from ray_darts.orchestration.assignment import RunOutcome
    from ray_darts.orchestration.budget import Budget
    from ray_darts.orchestration.plan import PlannedRun
    from ray_darts.orchestration.requests import SearchRequest
    from ray_darts.orchestration.selection import SelectionResult

DEFAULT_STORE = "./results"


@dataclass(frozen=True)
class SearchResult:
    """How each run of a search ended, and the best genotype of its experiment so far (None: no run has finished).

    `runs`: name, seed, order and last status of each run; `status.warning` is what its last epoch warned of.
    `selection`: how the cells ranked after a short training each, where that was asked for. `report`: where the page of
    the experiment was published, None where it was not.
    """

    experiment: str
    store: str
    outcomes: Mapping[str, RunOutcome]
    best: Best | None
    exit_code: int
    runs: tuple[PlannedRun, ...] = ()
    selection: SelectionResult | None = None
    report: str | None = None


def read_request(
    preset_or_config: ConfigSource,
    *,
    seeds: int | Sequence[int] = 4,
    methods: Sequence[str] | None = None,
    orders: Sequence[str] | None = None,
    store: str | Path = DEFAULT_STORE,
    name: str | None = None,
    overrides: Sequence[str] = (),
    operation: Mapping[str, object] | None = None,
    select: bool = False,
    max_parameters: int | None = None,
    max_multiply_adds: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    allow_world_size_change: bool = False,
    mistakes: Iterable[str] = (),
) -> SearchRequest:
    """Check the arguments of a search; parameters as those of `search`. Writes nothing and asks no store.

    `operation`: fields of that section, None where not given. `mistakes`: found before, reported with those found here.
    Raises: ConfigError with a line per mistake.
    """
    from ray_darts.arguments import check_arguments, collect
    from ray_darts.orchestration.requests import SearchRequest

    found = list(mistakes)
    if address == "":
        found.append("the address is empty (an unset variable?): name a Ray cluster, or leave it out")
    budget = collect(found, lambda: _read_budget(select, max_parameters, max_multiply_adds))
    checked = check_arguments(
        preset_or_config,
        seeds=seeds,
        methods=methods,
        orders=orders,
        name=name,
        overrides=overrides,
        operation=operation,
        mistakes=found,
    )
    return SearchRequest(
        checked.config,
        checked.experiment,
        str(store),
        checked.seeds,
        checked.orders,
        methods=checked.methods,
        select=budget,
        retry_failed=retry_failed,
        allow_world_size_change=allow_world_size_change,
        address=address,
    )


def run_request(request: SearchRequest, observer: Callable[[list[RunStatus]], None] | None = None) -> SearchResult:
    """Search until every run of a checked request has ended, select if it says so, and publish the page.

    Raises: as `search`.
    """
    result = run_search(request, observer)
    if may_select(request, result):
        result = run_selection(request, result, observer)
    return publish_page(request, result)


def run_search(request: SearchRequest, observer: Callable[[list[RunStatus]], None] | None = None) -> SearchResult:
    """Search until every run of a checked request has ended; without its selection. Raises: as `search`."""
    from ray_darts.orchestration.sweep import run_sweep

    result = run_sweep(request, observer or (lambda runs: None))
    return SearchResult(
        request.experiment, request.store_uri, result.outcomes, result.best, result.exit_code, result.runs
    )


def may_select(request: SearchRequest, result: SearchResult) -> bool:
    """Whether a selection is asked for and every run of the search has ended for good, one of them well."""
    ended = [outcome.kind for outcome in result.outcomes.values()]
    return request.select is not None and "finished" in ended and set(ended) <= {"finished", "failed"}


def run_selection(
    request: SearchRequest, result: SearchResult, observer: Callable[[list[RunStatus]], None] | None = None
) -> SearchResult:
    """Rank the cells of a search by a short training each; `result` with the selection. Raises: as `search`."""
    from ray_darts.exit_codes import exit_code_of_outcomes
    from ray_darts.orchestration.selection import select

    selection = select(request, observer or (lambda runs: None))
    kinds = [outcome.kind for outcome in (*result.outcomes.values(), *selection.outcomes.values())]
    return replace(result, best=selection.best, selection=selection, exit_code=exit_code_of_outcomes(kinds))


def publish_page(request: SearchRequest, result: SearchResult) -> SearchResult:
    """Publish `<experiment>/report.html` unless the config or the end of the search says otherwise; never fails."""
    from ray_darts.exit_codes import DONE, FAILED

    if not request.config.operation.publish_report or result.exit_code not in (DONE, FAILED):
        return result
    from ray_darts.artifacts.open import open_store
    from ray_darts.report.page.making import publish_report

    key = publish_report(open_store(request.store_uri, request.config.store), request.experiment)
    return replace(result, report=None if key is None else f"{result.store.rstrip('/')}/{key}")


def _read_budget(select: bool, max_parameters: int | None, max_multiply_adds: int | None) -> Budget | None:
    """The budget of a selection, None without one. Raises: ConfigError for limits without a selection."""
    from ray_darts.orchestration.budget import Budget

    budget = Budget(max_parameters, max_multiply_adds)
    if not select and budget != Budget():
        name = "max_parameters" if max_parameters is not None else "max_multiply_adds"
        raise ConfigError(f"{name} limits a selection: give --select (select=True), too")
    return budget if select else None
