from pathlib import Path
from typing import Literal

import pytest

from ray_darts.errors import ClusterError, ConfigError
from ray_darts.orchestration.capacity import DRIVER_BYTES, MEMORY, Capacity, Demand, NodeGroup, concurrent_runs
from ray_darts.orchestration.resources import groups_of_file

LAPTOP = Capacity(({"CPU": 2.0},))
HEAD = {"CPU": 0.0}
GPU_NODE = NodeGroup("gpu_spot", {"CPU": 4.0, "GPU": 1.0}, 8)


def gpu_demand(workers: int) -> Demand:
    return Demand(workers, {"CPU": 1.0, "GPU": 1.0})


def test_as_many_runs_as_the_cores_hold() -> None:
    assert concurrent_runs(LAPTOP, Demand(1), num_runs=4, wanted=None).runs == 2
    assert concurrent_runs(LAPTOP, Demand(2), num_runs=4, wanted=None).runs == 1


def test_never_more_runs_than_there_are_or_are_wanted() -> None:
    assert concurrent_runs(LAPTOP, Demand(1), num_runs=1, wanted=None).runs == 1
    assert concurrent_runs(LAPTOP, Demand(1), num_runs=4, wanted=1).runs == 1
    assert concurrent_runs(LAPTOP, Demand(1), num_runs=4, wanted=9).runs == 2


def test_a_worker_does_not_span_nodes() -> None:
    two_nodes = Capacity(({"CPU": 3.0}, {"CPU": 3.0}))
    assert two_nodes.places({"CPU": 2.0}) == 2


def test_an_autoscaler_counts_with_what_it_may_add() -> None:
    empty = Capacity((HEAD,), (GPU_NODE,))
    assert concurrent_runs(empty, gpu_demand(2), num_runs=10, wanted=None).runs == 4


def test_unknown_bounds_refuse_nothing() -> None:
    unknown = Capacity((HEAD,), None)
    assert concurrent_runs(unknown, gpu_demand(64), num_runs=3, wanted=None).runs == 3


def test_head_memory_bounds_the_runs_at_a_time() -> None:
    small_head = Capacity((HEAD,), (GPU_NODE,), head_memory_bytes=2.5 * DRIVER_BYTES)
    assert concurrent_runs(small_head, gpu_demand(1), num_runs=8, wanted=None, drivers="head").runs == 2


def node(memory: float) -> dict[str, float]:
    return {"CPU": 4.0, MEMORY: memory}


def test_drivers_lie_beside_the_workers_where_the_head_cannot_hold_them_all() -> None:
    head = {"CPU": 0.0, MEMORY: 3 * DRIVER_BYTES}
    cluster = Capacity((head, node(2.9 * DRIVER_BYTES), node(1 * DRIVER_BYTES)), head_memory_bytes=3 * DRIVER_BYTES)

    def placed(num_runs: int, drivers: Literal["auto", "head", "workers"]) -> tuple[int, str]:
        found = concurrent_runs(cluster, Demand(1), num_runs, None, drivers)
        return found.runs, found.drivers

    assert placed(3, "auto") == (3, "head")
    assert placed(4, "auto") == (4, "anywhere")
    assert placed(20, "auto") == (6, "anywhere"), "by memory"
    assert placed(20, "head") == (3, "head")
    assert placed(20, "workers") == (3, "workers")
    assert placed(2, "workers") == (2, "workers")


def test_nodes_that_may_come_hold_drivers_too() -> None:
    head = {"CPU": 0.0, MEMORY: 1.0 * DRIVER_BYTES}
    group = NodeGroup("spot", {"CPU": 4.0, MEMORY: 2.0 * DRIVER_BYTES}, 5)
    may_grow = Capacity((head,), (group,), head_memory_bytes=1.0 * DRIVER_BYTES)
    assert concurrent_runs(may_grow, Demand(1), 100, None).runs == 11
    silent = Capacity((head,), (NodeGroup("spot", {"CPU": 4.0}, 5),), head_memory_bytes=1.0 * DRIVER_BYTES)
    assert concurrent_runs(silent, Demand(1), 100, None).runs == 20, "a group that states no memory bounds nothing"


def test_a_demand_that_can_never_be_met_says_what_was_asked_and_what_there_is() -> None:
    with pytest.raises(ClusterError, match=r"3 workers of 1 CPU each.*never hold more than 2.*1 node with 2 CPUs") as e:
        concurrent_runs(LAPTOP, Demand(3), num_runs=1, wanted=None)
    assert (e.value.wanted, e.value.places) == (3, 2)


def test_a_grown_cluster_can_be_too_small_too() -> None:
    with pytest.raises(ClusterError, match=r"9 workers.*it can grow to 8 gpu_spot \(4 CPU, 1 GPU\)"):
        concurrent_runs(Capacity((HEAD,), (GPU_NODE,)), gpu_demand(9), num_runs=1, wanted=None)


def test_gpus_that_may_come_count_as_gpus() -> None:
    assert Capacity((HEAD,), (GPU_NODE,)).can_have("GPU")
    assert not LAPTOP.can_have("GPU")


def test_bounds_are_read_from_the_cluster_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        """
max_workers: 5
head_node_type: head
available_node_types:
    head: {resources: {CPU: 0}, node_config: {}}
    spot: {resources: {CPU: 4, GPU: 1}, max_workers: 8, node_config: {}}
    on_demand: {resources: {CPU: 4, GPU: 1}, max_workers: 2, node_config: {}}
"""
    )
    assert groups_of_file(file) == (
        NodeGroup("spot", {"CPU": 4.0, "GPU": 1.0}, 5),
        NodeGroup("on_demand", {"CPU": 4.0, "GPU": 1.0}, 2),
    )


@pytest.mark.parametrize("text", ["[", "a: 1", "- 1", "available_node_types: {x: 3}"])
def test_a_file_that_is_no_cluster_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"cluster\.yaml is no cluster file"):
        groups_of_file(file)
