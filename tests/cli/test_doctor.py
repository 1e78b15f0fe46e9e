import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.open import open_store
from ray_darts.cli.examination import (
    DoctorLine,
    _fits,
    check_cluster,
    check_devices,
    check_store,
    check_versions,
    guarded,
)
from tests.cli.running import ray_darts_process


class OverwritingStore(LocalStore):
    """A store that ignores the condition of a put."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        self.put(key, data)


def test_this_environment_has_the_releases_it_declares() -> None:
    lines = {line.name: line for line in check_versions()}
    assert {line.state for line in lines.values()} == {"ok"}
    assert lines["torch"].detail == metadata.version("torch")


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("2.60.0", ">=2.60,<2.61", True),
        ("2.61.0", ">=2.60,<2.61", False),
        ("2.59.1", ">=2.60,<2.61", False),
        ("2.14.1+cu130", ">=2.14.1,<2.15", True),
        ("2.14.0", ">=2.14.1,<2.15", False),
        ("10.0", ">=9", True),
        ("1.0", "", True),
    ],
)
def test_a_release_lies_in_a_range(version: str, wanted: str, fits: bool) -> None:
    assert _fits(version, wanted) is fits


def test_devices_are_listed_and_no_gpu_is_no_fault() -> None:
    lines = list(check_devices())
    assert lines[0].name == "cpu"
    assert {line.state for line in lines} <= {"ok", "warning"}


def test_without_an_address_no_cluster_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (line,) = check_cluster(None)
    assert line.state == "ok"
    assert "a search starts one on this machine" in line.detail


def test_a_good_folder_is_ok_in_every_line_and_left_empty(tmp_path: Path) -> None:
    lines = list(check_store(open_store(str(tmp_path))))
    assert len(lines) >= 8
    assert {line.state for line in lines} == {"ok"}
    assert [path for path in tmp_path.rglob("*.json") if path.is_file()] == []


def test_a_store_without_conditional_puts_is_a_failure_that_says_what_it_costs(tmp_path: Path) -> None:
    lines = {line.name: line for line in check_store(OverwritingStore(tmp_path))}
    broken = lines["conditional create"]
    assert broken.state == "failure"
    assert broken.advice == "without it two writers would overwrite each other's records"


def test_a_check_that_raises_is_a_line_and_not_a_crash() -> None:
    def breaking() -> Iterator[DoctorLine]:
        yield DoctorLine("devices", "cpu", "ok", "2 cores")
        raise OSError("libcudart.so is not there")

    first, last = guarded("devices", breaking)
    assert first.state == "ok"
    assert (last.state, last.detail) == ("failure", "OSError: libcudart.so is not there")


@pytest.mark.slow
def test_the_doctor_finds_this_machine_fit(tmp_path: Path) -> None:
    ran = ray_darts_process("doctor", "--store", str(tmp_path / "store"), "--json", cwd=tmp_path)
    assert ran.code == 0, ran.stderr
    lines = json.loads(ran.stdout)
    names = {line["name"] for line in lines if line["area"] == "mathematics"}
    assert {
        "second order (exact)",
        "the paper's figure 2",
        "alphas outside the weight optimiser",
        "ranks agree",
    } <= names
    assert "failure" not in {line["state"] for line in lines}
