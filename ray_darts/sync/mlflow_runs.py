"""MLflow: an experiment of the same name, a run per run, with metrics, parameters, genotype and drawing.

What the tracking server has is asked first, so the same command again adds nothing twice, also after it was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from ray_darts.errors import ConfigError
from ray_darts.extras import needed
from ray_darts.messages import shown_message
from ray_darts.sync.runs import LoggedRun

_RUN_TAG = "ray_darts.run"
_FINAL = "final."
_METRICS_A_CALL, _PARAMETERS_A_CALL = 1000, 100
_LONGEST_PARAMETER = 500

_Item = TypeVar("_Item")


class MlflowRuns:
    """Runs of a tracking server, a folder or a database. Raises: ConfigError without the extra `mlflow`."""

    def __init__(self, uri: str) -> None:
        tracking = needed("mlflow.tracking", "mlflow", "--to mlflow")
        self._uri = uri
        self._client: Any = self._asked(lambda: tracking.MlflowClient(tracking_uri=uri))
        self._experiments: dict[str, str] = {}

    def add(self, run: LoggedRun) -> int:
        """Add the metrics, parameters and artifacts that the server does not have."""
        return int(self._asked(lambda: self._add(run)))

    def write(self) -> None:
        """Each call is written when it is made."""

    def _asked(self, ask: Any) -> Any:
        """What `ask` returns. Raises: ConfigError for what MLflow raises."""
        from mlflow.exceptions import MlflowException

        try:
            return ask()
        except (MlflowException, OSError) as error:
            raise ConfigError(f"MLflow at {self._uri}: {shown_message(str(error))}") from error

    def _add(self, run: LoggedRun) -> int:
        from mlflow.entities import Metric, Param

        if not run.points:
            return 0
        there = self._run_of(run)
        number = there.info.run_id
        known = {
            name: max(metric.step for metric in self._client.get_metric_history(number, name))
            for name in there.data.metrics
        }
        new = [point for point in run.points if any(known.get(name, -1) < point.step for name in point.values)]
        metrics = [
            Metric(name, value, round(point.time_s * 1000), point.step)
            for point in new
            for name, value in point.values.items()
            if known.get(name, -1) < point.step
        ]
        if run.metric is not None and f"{_FINAL}{run.metric[0]}" not in known:
            end = run.points[-1]
            metrics.append(Metric(f"{_FINAL}{run.metric[0]}", run.metric[1], round(end.time_s * 1000), end.step))
        for some in _in_calls(metrics, _METRICS_A_CALL):
            self._client.log_batch(number, metrics=some)
        missing = [
            Param(name, str(value)[:_LONGEST_PARAMETER])
            for name, value in run.hyperparameters.items()
            if name not in there.data.params
        ]
        for parameters in _in_calls(missing, _PARAMETERS_A_CALL):
            self._client.log_batch(number, params=parameters)
        if run.genotype is not None:
            names = {artifact.path for artifact in self._client.list_artifacts(number)}
            for name, text in (("genotype.json", run.genotype.to_json()), ("cell.svg", run.drawing())):
                if name not in names:
                    self._client.log_text(number, text, name)
        status = {"finished": "FINISHED", "failed": "FAILED"}.get(run.state, "RUNNING")
        if status != there.info.status:  # also of a run that failed and was searched again
            if run.has_ended:
                self._client.set_terminated(number, status, round(run.points[-1].time_s * 1000))
            else:
                self._client.update_run(number, status)
        return len(new)

    def _run_of(self, run: LoggedRun) -> Any:
        experiment = self._experiment(run.experiment)
        found: Sequence[Any] = self._client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{run.run}'", max_results=1)
        if found:
            return found[0]
        tags = {_RUN_TAG: run.run, "ray_darts.group": run.group}
        began = round(run.points[0].time_s * 1000)
        return self._client.create_run(experiment, began, tags, run_name=run.run)

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self._client.get_experiment_by_name(name)
            self._experiments[name] = self._client.create_experiment(name) if found is None else found.experiment_id
        return self._experiments[name]


def _in_calls(items: Iterable[_Item], most: int) -> Iterator[list[_Item]]:
    left = iter(items)
    while some := list(islice(left, most)):
        yield some
