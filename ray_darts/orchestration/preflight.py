"""Checks before anything is written: the store behaves as the protocol needs, every node sees a store that is a
folder, and the data can be opened.

Runs where the search will run: in this process on a cluster of its own, as a Ray task on another cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_darts.artifacts.doctor import check_store
from ray_darts.artifacts.keys import probe_key
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.config import RunConfig, validate_run_config
from ray_darts.config.operation import OperationSettings
from ray_darts.errors import ClusterError, ClusterLost, ConfigError, RayDartsError
from ray_darts.orchestration.data_access import open_data
from ray_darts.orchestration.losses import describe_loss
from ray_darts.orchestration.resources import living_nodes
from ray_darts.protocols.dataset import DataFacts

_LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.RaySystemError,
)


class OpenedData(NamedTuple):
    """What a check found when it opened the data: the digests to compare, the facts to show and to record."""

    digests: dict[str, str]
    facts: DataFacts


def check_here(config: RunConfig, seed: int, store: ObjectStore) -> OpenedData:
    """Try the space's operations, probe the store and open the data in this process.

    Raises: ConfigError naming an operation, StoreError naming each check that the store fails, DataError.
    """
    config.check_operations()
    check_backend(config.operation)
    check_store(store)
    data = open_data(config, seed)
    return OpenedData(data.digests, data.facts)


def check_backend(operation: OperationSettings) -> None:
    """Raise ConfigError where passes are compiled by a backend that PyTorch does not have here."""
    if not operation.compile:
        return
    from torch._dynamo import list_backends  # read in PyTorch 2.9 to 2.14: it has no other name

    known = list_backends(exclude_tags=())
    if operation.compile_backend not in known:
        raise ConfigError(
            f"operation.compile_backend = {operation.compile_backend!r}: this PyTorch has {', '.join(known)}"
        )


def check_from_worker(config: RunConfig, seed: int, store_uri: str) -> OpenedData:
    """The same in a Ray task on a node that can be a worker, with its rights.

    Raises: also ClusterError; ClusterLost where the worker was lost.
    """
    task = ray.remote(num_cpus=config.operation.cpus_per_worker, max_retries=2)(_check)
    try:
        answer: OpenedData | RayDartsError = ray.get(task.remote(config.model_dump(mode="json"), seed, store_uri))
    except ray.exceptions.RayTaskError:  # a bug of ours or of a plugin: its text says which
        raise
    except _LOST as error:
        raise ClusterLost(f"a worker was lost while it checked data and store: {describe_loss(error)}") from error
    except ray.exceptions.RayError as error:
        raise ClusterError(f"no worker could check data and store: {error}") from error
    if isinstance(answer, RayDartsError):
        raise answer
    return answer


def check_store_is_shared(store: ObjectStore) -> None:
    """Refuse a folder that a living node does not see. Raises: ConfigError naming the nodes."""
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


def _check(config: Mapping[str, object], seed: int, store_uri: str) -> OpenedData | RayDartsError:
    try:
        checked = validate_run_config(config)
        return check_here(checked, seed, open_store(store_uri, checked.store))
    except RayDartsError as error:
        return error
