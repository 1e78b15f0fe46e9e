"""What a run's epoch means for the method and the learning rate: stage by stage, then in the phase that decides
operations after the search."""

from __future__ import annotations

import math

from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.method import DecisionPhase, Progress
from ray_darts.search.stages import Stages


class Schedules:
    """Epochs are those of the search, from 0; `layout` is the space's. Follows `stages` as they are entered."""

    def __init__(self, stages: Stages, layout: SpaceLayout) -> None:
        self._stages, self._layout = stages, layout

    def progress(self, epoch: int, step: int, total_steps: int) -> Progress:
        """Of a step; after the search the epoch stays the last one."""
        first, epochs = self._stages.schedule
        return Progress(step, total_steps, min(epoch - first, epochs - 1), epochs)

    def moves_alphas(self, epoch: int, step: int, total_steps: int) -> bool:
        """Whether a step has an alpha step: not in the warm-up of its stage."""
        first, epochs = self._stages.epochs
        progress = Progress(step, total_steps, min(epoch - first, epochs - 1), epochs)
        config = self._stages.config
        return progress.epoch >= config.search.alpha_warmup_epochs and config.method.moves_alphas(progress)

    def rate(self, epoch: int) -> float:
        """Learning rate of the weights."""
        config = self._stages.config
        selection, after = config.method.perturbation_selection, epoch - config.search.epochs
        if selection is None or after < 0:
            first, epochs = self._stages.schedule
            return config.weights.rate(epoch - first, epochs)
        part = (1 + math.cos(math.pi * after / selection.epochs(self._layout))) / 2
        return selection.learning_rate_min + (selection.learning_rate - selection.learning_rate_min) * part

    def decides_at(self, epoch: int) -> bool:
        """Whether the phase after the search makes decisions before the first step of this epoch."""
        selection: DecisionPhase | None = self._stages.config.method.perturbation_selection
        after = epoch - self._stages.config.search.epochs
        return selection is not None and after >= 0 and after % selection.tune_epochs == 0
