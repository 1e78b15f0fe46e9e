"""What `ray-darts submit` uploads: the code, the plugins, the config; no secret, no data; and what it says of that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_darts.config.load import preset_text
from ray_darts.errors import ConfigError
from ray_darts.orchestration.job_files import described, files_to_send, sent_folder
from ray_darts.orchestration.plugin_packages import sent_packages
from ray_darts.protocols.registry import load_plugins
from ray_darts.report.amounts import bytes_text
from tests.cli.running import Ran, ray_darts
from tests.cluster.files import ROOT
from tests.jobs.checkout import CANARY, SECRETS, JobServer, copied_checkout, job_server, plant_secrets


@pytest.fixture
def server() -> Iterator[JobServer]:
    with job_server() as started:
        yield started


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a plugin of one file and one that is a package, a config that names both, and private files."""
    folder = tmp_path / "own"
    (folder / "sent_package" / "tables").mkdir(parents=True)
    (folder / "sent_file.py").write_text("ANSWER = 42\n")
    (folder / "sent_package" / "__init__.py").write_text("")
    (folder / "sent_package" / "inner.py").write_text("")
    (folder / "sent_package" / "tables" / "rates.csv").write_text("1,2\n")
    (folder / "sent_package" / ".rayignore").write_text("*.log\n")
    for name in (".env", "sent_package/.env", "sent_package/old.log", "sent_package/.git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(CANARY)
    (folder / "own.toml").write_text(
        'plugins = ["sent_file", "sent_package.inner"]\n' + preset_text("digits"), encoding="utf-8"
    )
    for module in ("sent_file", "sent_package", "sent_package.inner"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(folder)
    return folder


def submit(server: JobServer, *words: str) -> Ran:
    return ray_darts("submit", "--store", "s3://b/p", "--address", server.address, "--no-follow", *words)


def test_a_checkouts_code_is_uploaded_and_no_secret_beside_or_inside_it(server: JobServer, tmp_path: Path) -> None:
    checkout = copied_checkout(tmp_path / "checkout")
    plant_secrets(checkout)
    ran = submit(server, "--working-dir", str(checkout), "jobs/digits.toml")
    assert ran.code == 0, ran.stderr
    sent = server.sent()
    assert {name.partition("/")[0] for name in sent} == {"ray_darts", "jobs"}
    assert not set(SECRETS) & set(sent)
    assert not [name for name, content in sent.items() if CANARY in content]
    assert server.jobs[0]["entrypoint"].startswith("python jobs/search.py --preset digits")  # type: ignore[attr-defined]
    total = sum(map(len, sent.values()))
    assert f"sending {len(sent)} files, {bytes_text(total)}: jobs/ (7 files, " in ran.stderr
    assert ran.stderr.index("sending") < ran.stderr.index("submitted")


def test_every_committed_file_of_the_package_and_the_jobs_is_sent() -> None:
    listed = subprocess.run(["git", "ls-files", "ray_darts", "jobs"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    assert set(listed.stdout.split()) <= set(files_to_send(ROOT, (), None))


@pytest.mark.parametrize("is_installed", [False, True])
def test_config_and_plugins_from_outside_the_checkout_are_sent_and_named_by_the_job(
    server: JobServer, plugins: Path, is_installed: bool
) -> None:
    chosen = ["--installed"] if is_installed else ["--working-dir", str(ROOT)]
    ran = submit(server, *chosen, "--", "--config", str(plugins / "own.toml"), "--seeds", "1")
    assert ran.code == 0, ran.stderr
    sent = server.sent()
    assert sent["own.toml"] == (plugins / "own.toml").read_bytes()
    own = {name for name in sent if not name.startswith(("ray_darts/", "jobs/"))}
    assert own == {
        "own.toml",
        "sent_file/__init__.py",
        "sent_package/__init__.py",
        "sent_package/inner.py",
        "sent_package/tables/rates.csv",
    }
    assert ("jobs/search.py" in sent) is not is_installed
    program = "ray-darts search" if is_installed else "python jobs/search.py"
    assert server.jobs[0]["entrypoint"] == f"{program} --store s3://b/p --config own.toml --seeds 1"
    assert "own.toml (1 file, " in ran.stderr


def test_nothing_is_uploaded_for_a_preset_of_the_installed_package(server: JobServer) -> None:
    ran = submit(server, "--installed", "--preset", "digits")
    assert ran.code == 0, ran.stderr
    assert (server.archives, len(server.jobs)) == ([], 1)
    assert "sending no files" in ran.stderr


def test_too_much_is_refused_before_the_upload_with_the_largest_files(
    server: JobServer, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_darts.orchestration.job_files.MAX_UPLOAD_BYTES", 2_000_000)
    large = plugins / "sent_package" / "tables" / "weights.bin"
    large.write_bytes(bytes(3_000_000))
    load_plugins(["sent_package"])
    with pytest.raises(ConfigError, match=rf"takes at most 2\.0 MB\. The largest: {large} \(3\.0 MB\), "):
        files_to_send(ROOT, ["sent_package"], None)
    ran = submit(server, "--installed", "--", "--config", str(plugins / "own.toml"))
    assert ran.code == 2
    assert (server.archives, server.jobs) == ([], [])


def test_the_limit_is_that_of_the_job_server(tmp_path: Path) -> None:
    config = tmp_path / "large.toml"
    with config.open("wb") as sparse:
        sparse.truncate(100 * 1024**2)
    with pytest.raises(ConfigError, match=r"1 file, 104\.9 MB would be sent"):
        files_to_send(None, (), config)


def test_data_at_a_relative_path_are_warned_of(server: JobServer, tmp_path: Path) -> None:
    ran = submit(server, "--installed", "--", "--set", "data.path=pictures", "--set", "data.source=folder")
    assert "data.path pictures is not sent" in ran.stderr
    ran = submit(server, "--installed", "--", "--set", f"data.path={tmp_path}", "--set", "data.source=folder")
    assert "is not sent" not in ran.stderr


def test_two_files_of_one_path_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "search.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jobs", raising=False)
    load_plugins(["jobs"])
    with pytest.raises(ConfigError, match=r"would both be jobs/search\.py"):
        files_to_send(ROOT, ["jobs"], None)
    monkeypatch.delitem(sys.modules, "jobs")


def test_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--installed"):
        files_to_send(tmp_path, (), None)


def test_packages_for_a_running_cluster_can_be_imported_and_hold_no_secret(plugins: Path) -> None:
    load_plugins(["sent_file", "sent_package.inner"])
    with sent_packages(["sent_file", "sent_package.inner"]) as (single, package):
        assert (single.name, package.name) == ("sent_file", "sent_package")
        files = [path for path in single.parent.rglob("*") if path.is_file()]
        assert len(files) == 4
        assert not [path for path in files if CANARY in path.read_bytes()]
        program = f"import sys; sys.path.insert(0, {str(single.parent)!r}); import sent_file as s; print(s.ANSWER)"
        done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "42\n"
    assert not single.exists()


def test_the_sent_folder_holds_the_files_and_is_removed(plugins: Path) -> None:
    files = files_to_send(None, (), plugins / "own.toml")
    assert described(files).startswith("1 file, ")
    with sent_folder(files) as folder:
        assert folder is not None
        assert [path.name for path in folder.iterdir()] == ["own.toml"]
    assert not folder.exists()
