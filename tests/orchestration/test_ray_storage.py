"""Ray's own files: an outage, which is waited out, is told from every other error by what pyarrow really says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_darts.config import StoreSettings
from ray_darts.orchestration.ray_storage import RayStorage, is_outage, ray_storage
from tests.artifacts.buckets import settings
from tests.artifacts.faults import fault_proxy
from tests.artifacts.servers import free_port


def refusal(storage: RayStorage) -> OSError:
    """What writing a file there raises."""
    assert storage.filesystem is not None
    with pytest.raises(OSError) as caught, storage.filesystem.open_output_stream(f"{storage.path}/marker") as stream:
        stream.write(b"here")
    return caught.value


def test_a_server_that_does_not_answer_is_an_outage(aws: None) -> None:
    nobody = settings(f"http://127.0.0.1:{free_port()}", attempts=1)
    assert is_outage(refusal(ray_storage("s3://darts/prefix", "tiny", nobody)))


@pytest.mark.parametrize(
    "rule",
    [
        {"reset": True},
        {"error": {"code": "SlowDown", "status": 503}},
    ],
    ids=["reset", "slow down"],
)
def test_what_a_server_says_at_night_is_an_outage(
    aws: None, s3_server: str, tmp_path: Path, rule: dict[str, object]
) -> None:
    with fault_proxy(s3_server, tmp_path) as night:
        night.set_rules([{"service": "s3", **rule}])
        assert is_outage(refusal(ray_storage("s3://darts/prefix", "tiny", settings(night.url, attempts=1))))


def test_a_refusal_is_none(aws: None, s3_server: str) -> None:
    assert not is_outage(refusal(ray_storage("s3://no-such-bucket/prefix", "tiny", settings(s3_server, attempts=1))))


def test_a_folder_needs_no_file_system(tmp_path: Path) -> None:
    storage = ray_storage(str(tmp_path), "tiny", StoreSettings())
    assert (storage.path, storage.filesystem) == (f"{tmp_path}/tiny/_ray", None)
    assert not is_outage(OSError(28, "No space left on device"))
