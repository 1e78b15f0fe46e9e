"""Log lines that say where they belong: every line of a run carries experiment, run, session and epoch, on stderr."""

from __future__ import annotations

import logging
import sys

from ray_darts.orchestration.assignment import Assignment

_FORMAT = "%(asctime)s %(levelname)s %(where)s: %(message)s"
_epoch = 0


class _Where(logging.Filter):
    def __init__(self, assignment: Assignment) -> None:
        super().__init__()
        self._where = f"experiment={assignment.experiment} run={assignment.run} session={assignment.session.uuid[:8]}"

    def filter(self, record: logging.LogRecord) -> bool:
        record.where = f"{self._where} epoch={_epoch}"
        return True


def log_for(assignment: Assignment) -> None:
    """Send this process's ray_darts log to stderr, each line marked with the run; called once per worker."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_Where(assignment))
    logger = logging.getLogger("ray_darts")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    tell_epoch(0)


def tell_epoch(epoch: int) -> None:
    """Mark the lines that follow with this epoch."""
    global _epoch
    _epoch = epoch
