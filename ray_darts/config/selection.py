"""The selection of a search: how each found cell is trained briefly from scratch, to rank the cells."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator

from ray_darts.config.kinds import read_network
from ray_darts.config.training import TrainingOptimiser, TrainingSettings
from ray_darts.protocols.settings import Settings
from ray_darts.protocols.space import NetworkSettings


class SelectionSettings(Settings):
    """Sections as of a training. It trains on the weight half of the search's data and ranks by the alpha half; the
    test set stays closed. No part of the search's identity."""

    network: Annotated[SerializeAsAny[NetworkSettings], BeforeValidator(read_network)]
    weights: TrainingOptimiser = Field(default_factory=TrainingOptimiser)
    training: TrainingSettings = Field(default_factory=lambda: TrainingSettings(test=False))

    @field_validator("training")
    @classmethod
    def _test_stays_closed(cls, training: TrainingSettings) -> TrainingSettings:
        if training.test and "test" in training.model_fields_set:
            raise ValueError("test: a selection never opens the test set")
        if not training.hold_out:
            raise ValueError("hold_out: a selection ranks by the alpha half")
        return training.model_copy(update={"test": False})
