"""Looks before anything is written: can the data be opened, does the store keep its promises, and do all nodes see a
store that is a folder.

Runs where the search will: in this process on a cluster of its own, as a Ray task elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_darts.artifacts.doctor import check_store
from ray_darts.artifacts.keys import probe_key
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.open import open_store
from ray_darts.config import SearchConfig, validate_config
from ray_darts.data.open import open_data
from ray_darts.errors import ConfigError, RayDartsError
from ray_darts.orchestration.resources import living_nodes


def data_digests(config: SearchConfig, seed: int) -> dict[str, str]:
    """Open the data in this process; {"data": sha256, "split": sha256}. Raises: DataError."""
    return open_data(config, seed).digests


def look_at(config: SearchConfig, seed: int, store_uri: str) -> dict[str, str]:
    """Probe the store and open the data in this process; the data's digests.

    Raises: StoreError naming each promise that the store does not keep, DataError.
    """
    check_store(open_store(store_uri, config.store))
    return data_digests(config, seed)


def look_from_worker(config: SearchConfig, seed: int, store_uri: str) -> dict[str, str]:
    """The same, on a node that can be a worker, with that node's rights. Raises: StoreError, DataError."""
    task = ray.remote(num_cpus=config.operation.cpus_per_worker, max_retries=2)(_look)
    answer: dict[str, str] | RayDartsError = ray.get(task.remote(config.model_dump(mode="json"), seed, store_uri))
    if isinstance(answer, RayDartsError):
        raise answer
    return answer


def check_store_is_shared(store_uri: str, config: SearchConfig) -> None:
    """Refuse a folder that a living node does not see. Raises: ConfigError naming the nodes."""
    store = open_store(store_uri, config.store)
    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in living_nodes()}
    if not isinstance(store, LocalStore) or len(nodes) < 2:
        return
    probe = probe_key(uuid4().hex)
    store.put(probe, b"seen")
    try:
        blind = [name for node, name in sorted(nodes.items()) if not ray.get(_probe_on(node, store.uri, probe))]
    finally:
        store.delete(probe)
    if blind:
        raise ConfigError(
            f"the store {store.uri} is a folder that {', '.join(blind)} does not see: mount it on every node at the "
            "same path, or use s3://bucket/prefix",
            nodes=blind,
        )


def _probe_on(node: str, store_uri: str, probe: str) -> ray.ObjectRef[bool]:
    placed = ray.remote(num_cpus=0)(_sees).options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
    answer: ray.ObjectRef[bool] = placed.remote(store_uri, probe)
    return answer


def _sees(store_uri: str, probe: str) -> bool:
    return open_store(store_uri).exists(probe)


def _look(config: Mapping[str, object], seed: int, store_uri: str) -> dict[str, str] | RayDartsError:
    try:
        return look_at(validate_config(config), seed, store_uri)
    except RayDartsError as error:
        return error
