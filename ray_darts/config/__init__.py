"""What can be asked for: frozen, validated settings, presets and overrides. Never reads the environment."""

from ray_darts.config.load import load_config, preset_names, preset_text, validate_config
from ray_darts.config.operation import OperationSettings, StoreSettings
from ray_darts.config.root import SearchConfig
from ray_darts.config.search import AlphaOptimiser, SearchSettings, WeightOptimiser

__all__ = [
    "AlphaOptimiser",
    "OperationSettings",
    "SearchConfig",
    "SearchSettings",
    "StoreSettings",
    "WeightOptimiser",
    "load_config",
    "preset_names",
    "preset_text",
    "validate_config",
]
