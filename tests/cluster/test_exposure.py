"""No file of cluster/ or jobs/ opens an address to everybody unguarded, or ends what it did not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.exposure import exposure_faults
from tests.cluster.files import CLUSTER, ROOT, deployed_files


@pytest.mark.parametrize("path", list(deployed_files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_deployed_file_opens_nothing_and_ends_nothing_by_name(path: Path) -> None:
    assert exposure_faults(path) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "open because"),
        ("--dashboard-host=127.0.0.1", "--dashboard-host=$(hostname -i)", "open because"),
        ("keep node ray start --block --address", "ray stop; keep node ray start --block --address", "by name"),
        ("keep node ray start --block --address", "pkill raylet; keep node ray start --block --address", "by name"),
    ],
)
def test_opened_copy_is_refused(tmp_path: Path, old: str, new: str, fault: str) -> None:
    text = (CLUSTER / "aws.yaml").read_text(encoding="utf-8")
    assert old in text
    copy = tmp_path / "aws.yaml"
    copy.write_text(text.replace(old, new), encoding="utf-8")
    [reported] = exposure_faults(copy)
    assert fault in reported


def test_open_address_needs_both_token_and_reason(tmp_path: Path) -> None:
    copy = tmp_path / "node.sh"
    command = "keep node ray start --head --dashboard-host=0.0.0.0"
    copy.write_text(f"{command}\n", encoding="utf-8")
    assert len(exposure_faults(copy)) == 2
    copy.write_text(f"# open because the balancer asks from outside\nRAY_AUTH_MODE=token {command}\n", encoding="utf-8")
    assert exposure_faults(copy) == []
