"""CSV: `<experiment>/epochs.csv`, a row each, and `<experiment>/runs.csv`; written whole each time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from ray_darts.errors import ConfigError
from ray_darts.output_files import write_file
from ray_darts.sync.runs import LoggedRun


class CsvFiles:
    """Files in a folder, which is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[str, LoggedRun] = {}
        self._points: dict[str, int] = {}

    def add(self, run: LoggedRun) -> int:
        """Keep a run for the files; returns the points that are new to this command."""
        new = len(run.points) - self._points.get(run.run, 0)
        self._runs[run.run], self._points[run.run] = run, len(run.points)
        return new

    def write(self) -> None:
        """Write both files. Raises: ConfigError."""
        if not self._runs:
            return
        runs = [self._runs[name] for name in sorted(self._runs)]
        folder = self._folder / runs[0].experiment
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the folder {folder}: {error.strerror}") from error
        epochs: list[dict[str, object]] = [
            {"run": run.run, "group": run.group, "epoch": point.epoch, "step": point.step, **point.values}
            for run in runs
            for point in run.points
        ]
        finals: list[dict[str, object]] = [
            {
                "run": run.run,
                "group": run.group,
                "state": run.state,
                "metric": None if run.metric is None else run.metric[0],
                "value": None if run.metric is None else run.metric[1],
                "genotype": None if run.genotype is None else run.genotype.to_json(),
                **{f"config.{name}": value for name, value in run.hyperparameters.items()},
            }
            for run in runs
        ]
        write_file(folder / "epochs.csv", _table(epochs))
        write_file(folder / "runs.csv", _table(finals))


def _table(rows: Iterable[Mapping[str, object]]) -> str:
    """Text that begins like a formula of a spreadsheet gets a quote before it, so that none computes it."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_safe, names))
    writer.writerows([_safe(row.get(name, "")) for name in names] for row in rows)
    return text.getvalue()


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
