"""What can be asked for: frozen, validated settings, presets and overrides. Never reads the environment."""

from ray_darts.config.data import ImageData, TextData
from ray_darts.config.load import load_config, preset_names, preset_text, validate_config
from ray_darts.config.operation import Operation, StoreSettings
from ray_darts.config.root import SearchConfig
from ray_darts.config.search import AlphaOptimiser, SearchSettings, WeightOptimiser
from ray_darts.config.space import ConvolutionalSpace, RecurrentSpace

__all__ = [
    "AlphaOptimiser",
    "ConvolutionalSpace",
    "ImageData",
    "Operation",
    "RecurrentSpace",
    "SearchConfig",
    "SearchSettings",
    "StoreSettings",
    "TextData",
    "WeightOptimiser",
    "load_config",
    "preset_names",
    "preset_text",
    "validate_config",
]
