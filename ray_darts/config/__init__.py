"""What can be asked for: frozen, validated settings, presets and overrides. Never reads the environment."""

from ray_darts.config.load import (
    load_config,
    load_training_config,
    preset_names,
    preset_text,
    training_preset_names,
    training_preset_text,
    validate_config,
    validate_run_config,
)
from ray_darts.config.operation import OperationSettings, StoreSettings
from ray_darts.config.root import SearchConfig
from ray_darts.config.run import RunConfig
from ray_darts.config.search import AlphaOptimiser, SearchSettings, WeightOptimiser
from ray_darts.config.sgd import SgdSettings
from ray_darts.config.training import TrainingConfig, TrainingOptimiser, TrainingSettings

__all__ = [
    "AlphaOptimiser",
    "OperationSettings",
    "RunConfig",
    "SearchConfig",
    "SearchSettings",
    "SgdSettings",
    "StoreSettings",
    "TrainingConfig",
    "TrainingOptimiser",
    "TrainingSettings",
    "WeightOptimiser",
    "load_config",
    "load_training_config",
    "preset_names",
    "preset_text",
    "training_preset_names",
    "training_preset_text",
    "validate_config",
    "validate_run_config",
]
