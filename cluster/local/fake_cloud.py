"""The autoscaler's config for a cloud that is this machine: Ray's own fake provider, whose nodes are processes.

Written by hand: Ray's helper for it (`AutoscalingCluster`) misses a file in the wheel, and would first end every Ray
process of the machine.
"""

from __future__ import annotations

HEAD_NODE_ID = "f" * 51 + "00000"
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


def autoscaling_config(gcs: str, max_workers: int, cpus: int, idle_s: float, head_cpus: int) -> dict[str, object]:
    """A cluster config with one worker type of `cpus` CPUs, from none to `max_workers` nodes."""
    return {
        "cluster_name": "local",
        "max_workers": max_workers,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "gcs_address": gcs,
            "head_node_id": HEAD_NODE_ID,
            "launch_multiple": True,
            # All nodes have one address, and nobody reaches them by ssh.
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": head_cpus}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": cpus}, "node_config": {}, "max_workers": max_workers},
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
