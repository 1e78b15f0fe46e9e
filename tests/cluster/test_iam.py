"""Each role may do what its business needs, and nothing else: the keys are those of the store's layout."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from tests.cluster.files import VALUES
from tests.cluster.policies import Statement, allows, policy, policy_faults, statements

BUCKET = f"arn:aws:s3:::{VALUES['BUCKET']}"
EXPERIMENT = f"{BUCKET}/{VALUES['PREFIX']}/digits-0a1b2c3d"
RUN = f"{EXPERIMENT}/runs/second-order-seed-3"
LOG = f"{RUN}/log/000000000007.json"
CHECKPOINT = f"{RUN}/checkpoints/000000000120.e2.6f1c/model.safetensors"
PART = f"{RUN}/parts/1-120.e2.6f1c.parquet"
CREATE = {"s3:if-none-match": "*"}
SWAP = {"s3:if-match": '"0123"'}
NAMES = ["trainer", "reader", "collector", "autoscaler"]


@pytest.mark.parametrize("name", NAMES)
def test_policy_is_not_wider_than_its_prefix(name: str) -> None:
    assert policy_faults(policy(name)) == []


def set_in(statement_sid: str, **fields: object) -> Callable[[dict[str, object]], None]:
    def change(document: dict[str, object]) -> None:
        [statement] = [entry for entry in statements(document) if entry["Sid"] == statement_sid]
        statement.update(fields)

    return change


def drop_in(statement_sid: str, field: str) -> Callable[[dict[str, object]], None]:
    def change(document: dict[str, object]) -> None:
        [statement] = [entry for entry in statements(document) if entry["Sid"] == statement_sid]
        del statement[field]

    return change


TOO_WIDE: dict[str, tuple[str, Callable[[dict[str, object]], None], str]] = {
    "every action": ("trainer", set_in("ReadTheTeamPrefix", Action="s3:*"), "wildcard in action"),
    "actions by prefix": ("reader", set_in("ReadTheTeamPrefix", Action=["s3:Get*"]), "wildcard in action"),
    "every resource": ("collector", set_in("DeletePartsAndCheckpoints", Resource="*"), "every resource"),
    "the whole bucket": ("trainer", set_in("ReadTheTeamPrefix", Resource=f"{BUCKET}/*"), "wider than one prefix"),
    "every bucket": ("reader", set_in("ReadTheTeamPrefix", Resource="arn:aws:s3:::*"), "wider than one prefix"),
    "all but": ("reader", set_in("ReadTheTeamPrefix", NotAction="s3:DeleteObject"), "NotAction"),
    "every instance": (
        "autoscaler",
        drop_in("TagAndEndInstancesOfThisCluster", "Condition"),
        "ends instances of others",
    ),
    "every role": (
        "autoscaler",
        set_in("HandWorkersTheirRole", Resource="arn:aws:iam::123456789012:role/*"),
        "any role",
    ),
    "every account": (
        "autoscaler",
        set_in("LaunchThemWith", Resource="arn:aws:ec2:*:*:subnet/*"),
        "no region and account",
    ),
}


@pytest.mark.parametrize("fault", TOO_WIDE)
def test_too_wide_copy_is_refused(fault: str) -> None:
    name, widen, message = TOO_WIDE[fault]
    document = copy.deepcopy(policy(name))
    widen(document)
    faults = policy_faults(document)
    assert len(faults) == 1
    assert message in faults[0]


def test_trainer_creates_log_records_and_never_replaces_or_deletes_one() -> None:
    trainer = policy("trainer")
    for key in (LOG, f"{EXPERIMENT}/experiment.json", f"{RUN}/run.json"):
        assert allows(trainer, "s3:PutObject", key, CREATE)
        assert not allows(trainer, "s3:PutObject", key)
        assert not allows(trainer, "s3:PutObject", key, SWAP)
        assert not allows(trainer, "s3:DeleteObject", key)


def test_trainer_creates_or_swaps_the_best_pointer_and_never_overwrites_it() -> None:
    trainer = policy("trainer")
    best = f"{EXPERIMENT}/best.json"
    assert allows(trainer, "s3:PutObject", best, CREATE)
    assert allows(trainer, "s3:PutObject", best, SWAP)
    assert not allows(trainer, "s3:PutObject", best)
    assert not allows(trainer, "s3:DeleteObject", best)


def test_trainer_writes_what_a_run_publishes_and_deletes_checkpoints_only() -> None:
    trainer = policy("trainer")
    published = [f"{RUN}/{name}" for name in ("head.json", "genotype.json", "alpha_trace.parquet", "metrics.parquet")]
    for key in (PART, CHECKPOINT, *published):
        assert allows(trainer, "s3:PutObject", key)
        assert allows(trainer, "s3:GetObject", key)
        assert allows(trainer, "s3:DeleteObject", key) == (key == CHECKPOINT)
    assert allows(trainer, "s3:DeleteObject", f"{EXPERIMENT}/_ray/sweep/marker")


def test_reader_reads_and_lists_its_prefix_and_changes_nothing() -> None:
    reader = policy("reader")
    assert allows(reader, "s3:GetObject", f"{EXPERIMENT}/best.json")
    assert allows(reader, "s3:ListBucket", BUCKET, {"s3:prefix": f"{VALUES['PREFIX']}/digits"})
    assert allows(reader, "s3:ListBucket", BUCKET)  # asked by S3 itself: is a missing key 404 or 403?
    assert not allows(reader, "s3:ListBucket", BUCKET, {"s3:prefix": "another-team/"})
    assert not allows(reader, "s3:GetObject", f"{BUCKET}/another-team/best.json")
    for key in (LOG, PART, CHECKPOINT, f"{EXPERIMENT}/best.json"):
        assert not allows(reader, "s3:PutObject", key, CREATE)
        assert not allows(reader, "s3:DeleteObject", key)


def test_collector_deletes_parts_and_checkpoints_and_writes_nothing() -> None:
    collector = policy("collector")
    for key in (PART, CHECKPOINT):
        assert allows(collector, "s3:DeleteObject", key)
    for key in (LOG, f"{EXPERIMENT}/best.json", f"{RUN}/alpha_trace.parquet"):
        assert allows(collector, "s3:GetObject", key)
        assert not allows(collector, "s3:DeleteObject", key)
        assert not allows(collector, "s3:PutObject", key, CREATE)


@pytest.mark.parametrize("name", ["trainer", "collector"])
def test_deleting_the_log_stays_denied_beside_a_wider_policy(name: str) -> None:
    document = copy.deepcopy(policy(name))
    wider: Statement = {"Sid": "AddedLater", "Effect": "Allow", "Action": "s3:DeleteObject", "Resource": f"{BUCKET}/*"}
    statements(document).append(wider)
    assert allows(document, "s3:DeleteObject", CHECKPOINT)
    assert not allows(document, "s3:DeleteObject", LOG)


def test_autoscaler_launches_and_ends_instances_of_its_cluster_only() -> None:
    autoscaler = policy("autoscaler")
    instance = f"arn:aws:ec2:{VALUES['REGION']}:{VALUES['ACCOUNT']}:instance/i-0123"
    ours, theirs = VALUES["CLUSTER"], "another"
    assert allows(autoscaler, "ec2:RunInstances", instance, {"aws:RequestTag/ray-cluster-name": ours})
    assert not allows(autoscaler, "ec2:RunInstances", instance, {"aws:RequestTag/ray-cluster-name": theirs})
    assert allows(autoscaler, "ec2:TerminateInstances", instance, {"aws:ResourceTag/ray-cluster-name": ours})
    assert not allows(autoscaler, "ec2:TerminateInstances", instance, {"aws:ResourceTag/ray-cluster-name": theirs})
    role = f"arn:aws:iam::{VALUES['ACCOUNT']}:role/{VALUES['WORKER_ROLE']}"
    assert allows(autoscaler, "iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})
    assert not allows(autoscaler, "iam:PassRole", f"{role}-admin", {"iam:PassedToService": "ec2.amazonaws.com"})
