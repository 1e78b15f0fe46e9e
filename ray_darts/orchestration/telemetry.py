"""Log lines and numbers of a run: lines on stderr name experiment, run, session and epoch; gauges go to Prometheus."""

from __future__ import annotations

import logging
import re
import sys

from ray.util.metrics import Gauge

from ray_darts.orchestration.assignment import Assignment

_FORMAT = "%(asctime)s %(levelname)s %(where)s: %(message)s"
_TAGS = ("experiment", "run", "order")
_epoch = 0


class _RunFilter(logging.Filter):
    """Adds the run and the current epoch to each record."""

    def __init__(self, assignment: Assignment) -> None:
        super().__init__()
        self._run = f"experiment={assignment.experiment} run={assignment.run} session={assignment.session.uuid[:8]}"

    def filter(self, record: logging.LogRecord) -> bool:
        record.where = f"{self._run} epoch={_epoch}"
        return True


def start_run_log(assignment: Assignment) -> None:
    """Send this process's ray_darts log to stderr, each line marked with the run; called once per process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_RunFilter(assignment))
    logger = logging.getLogger("ray_darts")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    set_logged_epoch(0)


def set_logged_epoch(epoch: int) -> None:
    """Mark the lines that follow with this epoch."""
    global _epoch
    _epoch = epoch


class RunGauges:
    """Gauges `ray_darts_<name>` through ray.util.metrics, tagged with the run; each is made when first set."""

    def __init__(self, assignment: Assignment) -> None:
        self._tags = {"experiment": assignment.experiment, "run": assignment.run}
        self._tags["order"] = assignment.coordinates.order or ""
        self._gauges: dict[str, Gauge] = {}

    def set(self, name: str, value: float) -> None:
        """Publish `value`; characters that a metric's name cannot have become underscores."""
        name = "ray_darts_" + re.sub(r"\W", "_", name)
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, description=f"of a search run: {name}", tag_keys=_TAGS)
        self._gauges[name].set(value, tags=self._tags)
