"""The KubeRay files against KubeRay's own schemas; each check refuses a copy broken for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest

from tests.cluster.crd_schema import manifest_faults, strict_schema
from tests.cluster.files import crds_folder, documents

Manifest = dict[str, object]

needs_crds = pytest.mark.skipif(
    crds_folder() is None, reason="no CRD schemas: set RAY_DARTS_CRDS or put them in ../shared/crds"
)


@cache
def schema_of(kind: str) -> dict[str, object]:
    folder = crds_folder()
    assert folder is not None
    return strict_schema(folder / f"ray.io_{kind.lower()}s.yaml", "v1")


def manifest(name: str) -> Manifest:
    [only] = documents(f"kuberay/{name}.yaml")
    return only


def at(node: object, *path: str | int) -> object:
    """The value under a path of keys and indices."""
    for step in path:
        assert isinstance(node, dict | list)
        node = node[step]  # type: ignore[index]
    return node


def put(node: object, value: object, *path: str | int) -> None:
    """Set the value under a path; the last key may be new."""
    parent = at(node, *path[:-1])
    assert isinstance(parent, dict | list)
    parent[path[-1]] = value  # type: ignore[index]


@needs_crds
@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_manifest_passes_the_schema_with_unknown_fields_refused(name: str) -> None:
    document = manifest(name)
    assert document["apiVersion"] == "ray.io/v1"
    assert manifest_faults(document, schema_of(str(document["kind"]))) == []


BROKEN: dict[str, tuple[str, Callable[[Manifest], None], str]] = {
    "a misspelt field": ("raycluster", lambda m: put(m, True, "spec", "enableInTreeAutoscalling"), "unexpected"),
    "a misspelt field deep inside": (
        "rayjob",
        lambda m: put(
            m, {}, "spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "resource"
        ),
        "unexpected",
    ),
    "an autoscaler that is none": ("raycluster", lambda m: put(m, "v3", "spec", "autoscalerOptions", "version"), "v3"),
    "an authentication that is none": (
        "raycluster",
        lambda m: put(m, "password", "spec", "authOptions", "mode"),
        "password",
    ),
    "a number as text": ("rayjob", lambda m: put(m, "3", "spec", "backoffLimit"), "not of type 'integer'"),
    "a group without its minimum": (
        "raycluster",
        lambda m: at(m, "spec", "workerGroupSpecs", 0).pop("minReplicas"),  # type: ignore[attr-defined]
        "required",
    ),
    "a submission mode that is none": (
        "rayjob",
        lambda m: put(m, "K8sMode", "spec", "submissionMode"),
        "submissionMode",
    ),
}


@needs_crds
@pytest.mark.parametrize("fault", BROKEN)
def test_broken_manifest_is_refused(fault: str) -> None:
    name, break_, message = BROKEN[fault]
    document = copy.deepcopy(manifest(name))
    break_(document)
    faults = manifest_faults(document, schema_of(str(document["kind"])))
    assert len(faults) == 1
    assert message in faults[0]


def test_job_brings_the_cluster_of_the_other_file() -> None:
    assert at(manifest("rayjob"), "spec", "rayClusterSpec") == manifest("raycluster")["spec"]


def test_job_retries_continue_and_everything_is_taken_down() -> None:
    spec = manifest("rayjob")["spec"]
    assert isinstance(spec, dict)
    assert spec["backoffLimit"] >= 1
    assert spec["shutdownAfterJobFinishes"] is True
    assert "clusterSelector" not in spec  # with one, retries and shutdown are both ignored
    assert "--codes 2,76,77,130" in spec["entrypoint"]


def test_cluster_starts_without_gpus_behind_a_token_and_an_identity() -> None:
    spec = manifest("raycluster")["spec"]
    assert isinstance(spec, dict)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert at(spec, "headGroupSpec", "serviceType") == "ClusterIP"
    [account] = documents("kuberay/serviceaccount.yaml")
    name = at(account, "metadata", "name")
    groups = spec["workerGroupSpecs"]
    assert [group["minReplicas"] for group in groups] == [0]
    for template in (spec["headGroupSpec"]["template"], *(group["template"] for group in groups)):
        assert template["spec"]["serviceAccountName"] == name
        assert template["spec"]["restartPolicy"] == "Never"
    assert at(groups, 0, "template", "spec", "containers", 0, "resources", "limits", "nvidia.com/gpu") == "1"
