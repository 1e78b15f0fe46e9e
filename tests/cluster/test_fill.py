"""Nothing half-filled leaves the folder: fill.py refuses a missing, a strange and a misshapen parameter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cluster.files import CLUSTER, VALUES, fill_script


def test_every_file_is_filled_by_known_parameters() -> None:
    asked = set()
    for path in (*CLUSTER.rglob("*.yaml"), *CLUSTER.rglob("*.json")):
        asked |= fill_script.parameters(path.read_text(encoding="utf-8"))
    assert asked == set(fill_script.SHAPES) == set(VALUES)


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(ValueError, match="AMI is missing") as caught:
        fill_script.fill("@AMI@ @IMAGE@", {"IMAGE": "ray-darts:latest", "BUCKET": "b-b"})
    assert "BUCKET is not asked for" in str(caught.value)
    assert "IMAGE='ray-darts:latest' does not have the shape" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMAGE", "ray-darts"),
        ("IMAGE", "ray-darts:latest"),
        ("AMI", "ubuntu"),
        ("BUCKET", "s3://team"),
        ("PREFIX", "vision/darts"),
        ("ROLE_ARN", "ray-darts"),
        ("REGION", 'eu-west-1"\nx: y'),
    ],
)
def test_misshapen_value_is_refused(name: str, value: str) -> None:
    assert VALUES[name] in fill_script.fill(f"@{name}@", {name: VALUES[name]})
    with pytest.raises(ValueError, match="does not have the shape"):
        fill_script.fill(f"@{name}@", {name: value})


def test_script_prints_the_filled_file_or_exits_2() -> None:
    script = [sys.executable, str(CLUSTER / "fill.py"), "kuberay/serviceaccount.yaml"]
    done = subprocess.run([*script, f"ROLE_ARN={VALUES['ROLE_ARN']}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert VALUES["ROLE_ARN"] in done.stdout
    refused = subprocess.run(script, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "ROLE_ARN is missing" in refused.stderr
    assert refused.stdout == ""
