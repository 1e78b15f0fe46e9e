"""Opens the store that a command names, with the settings given by `--set store.KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_darts.errors import ConfigError, MissingObject

if TYPE_CHECKING:
    from ray_darts.artifacts.objects import ObjectStore
    from ray_darts.config import StoreSettings


def open_named_store(uri: str, overrides: Sequence[str] | None) -> ObjectStore:
    """Open a store; nothing is asked of it yet. Raises: ConfigError."""
    from ray_darts.artifacts.open import open_store

    return open_store(uri, _store_settings(overrides or ()))


def _store_settings(overrides: Sequence[str]) -> StoreSettings:
    from ray_darts.config import load_config

    others = [override for override in overrides if not override.startswith("store.")]
    if others:
        raise ConfigError(f"--set {others[0]!r}: this command takes store.KEY=VALUE only")
    return load_config("digits", overrides=overrides).store


def check_experiment(store: ObjectStore, experiment: str) -> None:
    """Raise MissingObject, naming the experiments that there are, unless the store holds `experiment`."""
    from ray_darts.artifacts.experiment import list_experiments
    from ray_darts.artifacts.keys import ExperimentKeys

    if store.exists(ExperimentKeys(experiment).description):
        return
    there = list_experiments(store)
    known = f"there are {', '.join(there)}" if there else "it holds none"
    raise MissingObject(f"no experiment {experiment!r} in {store.uri}; {known}", experiment=experiment)
