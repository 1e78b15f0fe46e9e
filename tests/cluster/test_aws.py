"""aws.yaml through Ray's own checks, botocore's model of RunInstances, and Ray's provider against an EC2 emulator."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import jsonschema
import pytest
import yaml
from botocore.exceptions import ParamValidationError
from botocore.session import Session
from botocore.validate import ParamValidator
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from tests.cluster.files import VALUES, filled

Config = dict[str, object]
NODE_TYPES = ["head", "gpu_spot", "gpu_on_demand"]


def cluster_config(values: dict[str, str] | None = None) -> Config:
    config = yaml.safe_load(filled("aws.yaml", values))
    assert isinstance(config, dict)
    return config


def checked(config: Config) -> Config:
    """The config with Ray's defaults filled in, checked by Ray. Raises: what Ray raises."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert isinstance(prepared, dict)
    return prepared


def node_types(config: Config) -> dict[str, dict[str, object]]:
    types = config["available_node_types"]
    assert isinstance(types, dict)
    return types


def check_run_instances(node_config: dict[str, object]) -> None:
    """Raises: ParamValidationError where EC2's RunInstances knows no such parameter or type."""
    request = {**node_config, "MinCount": 1, "MaxCount": 1}
    shape = Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())


def test_config_passes_rays_own_checks_and_states_its_bounds() -> None:
    config = checked(cluster_config())
    types = node_types(config)
    assert list(types) == NODE_TYPES
    assert [types[name]["min_workers"] for name in NODE_TYPES] == [0, 0, 0]
    assert [types[name]["max_workers"] for name in NODE_TYPES] == [0, 8, 2]
    assert config["max_workers"] == 8
    assert config["idle_timeout_minutes"] == 10


BROKEN: dict[str, Callable[[Config], object]] = {
    "a misspelt key": lambda config: config.update(idle_timeout_minute=10),
    "a node type without resources": lambda config: node_types(config)["gpu_spot"].pop("resources"),
    "a head type that is none": lambda config: config.update(head_node_type="main"),
    "an unknown key of a node type": lambda config: node_types(config)["gpu_spot"].update(spot=True),
    "more at least than at most": lambda config: node_types(config)["gpu_spot"].update(min_workers=9),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_rays_checks_refuse_a_broken_copy(fault: str) -> None:
    config = cluster_config()
    BROKEN[fault](config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        checked(config)


@pytest.mark.parametrize("name", NODE_TYPES)
def test_node_config_is_a_request_that_ec2_knows(name: str) -> None:
    check_run_instances(node_types(cluster_config())[name]["node_config"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"InstanceMarketOption": {"MarketType": "spot"}},
        {"IamInstanceProfile": {"ProfileName": "worker"}},
        {"SecurityGroupIds": "sg-0123456789abcdef0"},
        {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": "100"}}]},
    ],
)
def test_node_config_that_ec2_does_not_know_is_refused(change: dict[str, object]) -> None:
    node_config = node_types(cluster_config())["gpu_spot"]["node_config"]
    with pytest.raises(ParamValidationError):
        check_run_instances({**node_config, **change})  # type: ignore[dict-item]


def test_commands_start_nodes_behind_a_token_and_never_end_others() -> None:
    config = checked(cluster_config())
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]  # type: ignore[misc]
    for command in starts:
        assert "RAY_AUTH_MODE=token" in command
    assert not [line for line in json.dumps(config).split('"') if "ray stop" in line or "0.0.0.0" in line]
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]  # type: ignore[operator]
    # What Ray would fill in for a file that says nothing is just what we refuse.
    silent = {key: value for key, value in cluster_config().items() if key != "head_start_ray_commands"}
    assert "--dashboard-host=0.0.0.0" in json.dumps(checked(silent))


def chosen_types(num_gpus: int, availability: dict[str, float]) -> dict[str, int]:
    """What Ray's autoscaler (version 2, which `ray up` runs) launches for so many one-GPU demands."""
    config = AutoscalingConfig(cluster_config(), skip_content_hash=True)
    demand = ResourceRequestUtil.make({"CPU": 1, "GPU": 1})
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([demand] * num_gpus),
        recoverable_resource_availabilities=availability,
    )
    return {launch.instance_type: launch.count for launch in ResourceDemandScheduler().schedule(request).to_launch}


def test_spot_comes_first_and_on_demand_where_spot_has_just_failed() -> None:
    assert chosen_types(3, {}) == {"gpu_spot": 3}
    assert chosen_types(3, {"gpu_spot": 0.0}) == {"gpu_on_demand": 2, "gpu_spot": 1}
    assert chosen_types(20, {})["gpu_spot"] == 8


@pytest.fixture
def ec2_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An emulated account with what the parameters of aws.yaml name; yields those it chose itself."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", VALUES["REGION"])
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes the key pair that it makes to ~/.ssh
    with mock_aws():
        ec2 = boto3.client("ec2", region_name=VALUES["REGION"])
        iam = boto3.client("iam")
        for profile in (VALUES["HEAD_PROFILE"], VALUES["WORKER_PROFILE"]):
            iam.create_instance_profile(InstanceProfileName=profile)
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="ray-darts", Description="the cluster among itself", VpcId=vpc)
        image = ec2.describe_images()["Images"][0]["ImageId"]
        yield {"SECURITY_GROUP": group["GroupId"], "AMI": image}


@pytest.mark.parametrize(
    ("name", "market", "profile"),
    [
        ("head", None, "HEAD_PROFILE"),
        ("gpu_spot", "spot", "WORKER_PROFILE"),
        ("gpu_on_demand", None, "WORKER_PROFILE"),
    ],
)
def test_rays_provider_launches_what_the_file_says(
    ec2_account: dict[str, str], name: str, market: str | None, profile: str
) -> None:
    config = bootstrap_aws(checked(cluster_config(ec2_account)))  # type: ignore[no-untyped-call]
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])  # type: ignore[no-untyped-call]
    provider.create_node(config["available_node_types"][name]["node_config"], {"ray-node-type": name}, 1)
    ec2 = boto3.client("ec2", region_name=VALUES["REGION"])
    [instance] = [entry for page in ec2.describe_instances()["Reservations"] for entry in page["Instances"]]
    assert instance.get("InstanceLifecycle") == market
    assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{VALUES[profile]}")
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [ec2_account["SECURITY_GROUP"]]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags["team"] == VALUES["TEAM"]
    assert tags["ray-cluster-name"] == VALUES["CLUSTER"]  # what iam/autoscaler.json goes by
