"""Opens the store that a command names, with the settings given by `--set store.KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_darts.errors import ConfigError

if TYPE_CHECKING:
    from ray_darts.artifacts.objects import ObjectStore
    from ray_darts.config import StoreSettings
    from ray_darts.experiment import Experiment


def open_named_store(uri: str, overrides: Sequence[str] | None) -> ObjectStore:
    """Open a store; no request is made yet. Raises: ConfigError."""
    from ray_darts.api import open_store

    return open_store(uri, _store_settings(overrides or ()))


def open_named_experiment(uri: str, name: str, overrides: Sequence[str] | None) -> Experiment:
    """Open an experiment. Raises: ConfigError; MissingObject naming the experiments that there are; StoreError."""
    from ray_darts.api import open_experiment

    return open_experiment(uri, name, settings=_store_settings(overrides or ()))


def _store_settings(overrides: Sequence[str]) -> StoreSettings:
    from ray_darts.config import load_config

    others = [override for override in overrides if not override.startswith("store.")]
    if others:
        raise ConfigError(f"--set {others[0]!r}: this command takes store.KEY=VALUE only")
    return load_config(settings={}, overrides=overrides).store
