"""Each role may do what its business needs, and nothing else: the keys are those of the store's layout."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from ray_darts.artifacts.answer import SEARCH_DOCUMENTS
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys, probe_key
from tests.cluster.files import VALUES
from tests.cluster.policies import Statement, allows, policy, policy_faults, statements

BUCKET = f"arn:aws:s3:::{VALUES['BUCKET']}"
STORE = f"{BUCKET}/{VALUES['PREFIX']}"
EXPERIMENT = ExperimentKeys("digits-0a1b2c3d")
RUN = RunKeys(EXPERIMENT.experiment, "second-order-seed-3")
UUID = "6f" * 16
LOG = f"{STORE}/{RUN.record(7)}"
CHECKPOINT = f"{STORE}/{RUN.checkpoint(120, 2, UUID).tensors}"
PART = f"{STORE}/{RUN.part(1, 120, 2, UUID)}"
BEST = f"{STORE}/{EXPERIMENT.best}"
PUBLISHED = [f"{STORE}/{key}" for key in (RUN.head, *map(RUN.document, SEARCH_DOCUMENTS))]
CREATE = {"s3:if-none-match": "*"}
HEAD = f"{STORE}/{RUN.head}"
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


def test_trainer_creates_what_is_written_once_and_never_replaces_it() -> None:
    trainer = policy("trainer")
    vocabulary = RUN.document("vocabulary.json")  # of a run on text
    described = [f"{STORE}/{key}" for key in (EXPERIMENT.description, RUN.description, vocabulary)]
    for key in (LOG, PART, CHECKPOINT, *described):
        assert allows(trainer, "s3:PutObject", key, CREATE)
        assert not allows(trainer, "s3:PutObject", key)
        assert not allows(trainer, "s3:PutObject", key, SWAP)


def test_trainer_creates_or_swaps_the_best_pointer_and_the_status_and_never_overwrites_them() -> None:
    trainer = policy("trainer")
    for key in (BEST, f"{STORE}/{EXPERIMENT.status}"):
        assert allows(trainer, "s3:PutObject", key, CREATE)
        assert allows(trainer, "s3:PutObject", key, SWAP)
        assert not allows(trainer, "s3:PutObject", key)


def test_trainer_publishes_and_deletes_nothing_but_checkpoints_and_probes() -> None:
    trainer = policy("trainer")
    for key in (LOG, PART, CHECKPOINT, BEST, *PUBLISHED):
        assert allows(trainer, "s3:GetObject", key)
        assert allows(trainer, "s3:DeleteObject", key) == (key == CHECKPOINT)
    assert all(allows(trainer, "s3:PutObject", key) for key in PUBLISHED)
    probe = f"{STORE}/{probe_key(UUID)}"
    assert allows(trainer, "s3:PutObject", probe)
    assert allows(trainer, "s3:DeleteObject", probe)
    assert not allows(trainer, "s3:PutObject", f"{STORE}/{EXPERIMENT.experiment}/notes")


def test_reader_reads_and_lists_its_prefix_and_changes_nothing() -> None:
    reader = policy("reader")
    assert allows(reader, "s3:GetObject", BEST)
    assert allows(reader, "s3:ListBucket", BUCKET, {"s3:prefix": f"{VALUES['PREFIX']}/digits"})
    assert allows(reader, "s3:ListBucket", BUCKET)  # asked by S3 itself: is a missing key 404 or 403?
    assert not allows(reader, "s3:ListBucket", BUCKET, {"s3:prefix": "another-team/"})
    assert not allows(reader, "s3:GetObject", f"{BUCKET}/another-team/{EXPERIMENT.best}")
    for key in (LOG, PART, CHECKPOINT, BEST, *PUBLISHED):
        assert not allows(reader, "s3:PutObject", key, CREATE)
        assert not allows(reader, "s3:DeleteObject", key)


def test_collector_deletes_parts_and_checkpoints_and_creates_records_alone() -> None:
    collector = policy("collector")
    for key in (PART, CHECKPOINT):
        assert allows(collector, "s3:DeleteObject", key)
    for key in (LOG, BEST, *PUBLISHED):
        assert allows(collector, "s3:GetObject", key)
        assert not allows(collector, "s3:DeleteObject", key)
        assert allows(collector, "s3:PutObject", key) == (key == HEAD)
        assert allows(collector, "s3:PutObject", key, CREATE) == (key in (LOG, HEAD))
    for key in (PART, CHECKPOINT):
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
