"""What tests of several rooms share for the whole session: warm ranks, and an S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import torch

from tests.artifacts.buckets import BUCKET, SERVER
from tests.artifacts.radosgw import absent_programs, radosgw
from tests.artifacts.servers import ministack
from tests.search.ranks import RankProcesses

torch.set_num_threads(1)  # threads that share a test's small maps cost more than they compute

TOGETHER = ("orchestration", "cluster")
"""Folders of tests that share a Ray cluster, or the ports and places of one."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Two processes share the tests (`-n 2 --dist loadgroup`): a file stays whole, and so do the tests of Ray."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        item.add_marker(pytest.mark.xdist_group(folder if folder in TOGETHER else item.nodeid.partition("::")[0]))


SERVERS = {"ministack": ministack, "radosgw": radosgw}


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankProcesses]:
    """Three processes that can become one, two or three gloo ranks."""
    processes = RankProcesses(3)
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one S3 server for all tests, with one bucket: ministack's, or the one that is named in SERVER."""
    if SERVER not in SERVERS:
        raise pytest.UsageError(f"RAY_DARTS_TEST_SERVER={SERVER}: wanted one of {', '.join(SERVERS)}")
    if SERVER == "radosgw" and absent_programs():
        pytest.skip(f"not installed: {', '.join(absent_programs())} (Debian: radosgw, ceph-mon, ceph-osd)")
    with SERVERS[SERVER](tmp_path_factory.mktemp(SERVER)) as url:
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield url


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials as a node's own chain would find them, and nothing else of this machine."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
