from pathlib import Path

import pytest

from ray_darts.errors import ClusterError, ConfigError
from ray_darts.orchestration.capacity import HEAD_BYTES_PER_RUN, Capacity, Demand, NodeGroup, concurrent_runs
from ray_darts.orchestration.resources import groups_of_file

LAPTOP = Capacity(({"CPU": 2.0},))
HEAD = {"CPU": 0.0}
GPU_NODE = NodeGroup("gpu_spot", {"CPU": 4.0, "GPU": 1.0}, 8)


def gpu_demand(workers: int) -> Demand:
    return Demand(workers, {"CPU": 1.0, "GPU": 1.0})


def test_as_many_runs_as_the_cores_hold() -> None:
    assert concurrent_runs(LAPTOP, Demand(1), num_runs=4, wanted=None) == 2
    assert concurrent_runs(LAPTOP, Demand(2), num_runs=4, wanted=None) == 1


def test_never_more_runs_than_there_are_or_are_wanted() -> None:
    assert concurrent_runs(LAPTOP, Demand(1), num_runs=1, wanted=None) == 1
    assert concurrent_runs(LAPTOP, Demand(1), num_runs=4, wanted=1) == 1
    assert concurrent_runs(LAPTOP, Demand(1), num_runs=4, wanted=9) == 2


def test_a_worker_does_not_span_nodes() -> None:
    two_nodes = Capacity(({"CPU": 3.0}, {"CPU": 3.0}))
    assert two_nodes.places({"CPU": 2.0}) == 2


def test_an_autoscaler_counts_with_what_it_may_add() -> None:
    empty = Capacity((HEAD,), (GPU_NODE,))
    assert concurrent_runs(empty, gpu_demand(2), num_runs=10, wanted=None) == 4


def test_unknown_bounds_refuse_nothing() -> None:
    unknown = Capacity((HEAD,), None)
    assert concurrent_runs(unknown, gpu_demand(64), num_runs=3, wanted=None) == 3


def test_head_memory_bounds_the_runs_at_a_time() -> None:
    small_head = Capacity((HEAD,), (GPU_NODE,), head_memory_bytes=2.5 * HEAD_BYTES_PER_RUN)
    assert concurrent_runs(small_head, gpu_demand(1), num_runs=8, wanted=None) == 2


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
