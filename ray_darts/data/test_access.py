"""The guard before a test set: it is opened after a training's last step, and never by a selection or a search."""

from __future__ import annotations

from ray_darts.config.training import TrainingSettings
from ray_darts.errors import TestSetClosed
from ray_darts.protocols.method import Progress


def check_may_open(progress: Progress, training: TrainingSettings) -> None:
    """Raise TestSetClosed unless all steps are done and the settings allow a test."""
    if not training.test:
        raise TestSetClosed("the test set stays closed: training.test is false", step=progress.step)
    if progress.step < progress.total_steps:
        raise TestSetClosed(
            f"the test set stays closed until the training has ended: step {progress.step} of {progress.total_steps}",
            step=progress.step,
        )
