"""Job files become options of `ray-darts search`, and a job never writes to a folder that is thrown away."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_darts.cli.job_file import check_store, checked_words, read_job, search_words
from ray_darts.cli.submit import check_search
from ray_darts.errors import ConfigError
from tests.cluster.files import ROOT

JOB_FILES = sorted((ROOT / "jobs").glob("*.toml"))


@pytest.mark.parametrize("file", JOB_FILES, ids=lambda file: file.name)
def test_shipped_job_file_is_a_search_that_can_be_run(file: Path) -> None:
    check_search([*read_job(file), "--store", "s3://bucket/prefix"])


def test_standard_work_has_job_files() -> None:
    assert [file.name for file in JOB_FILES] == ["cifar10.toml", "digits.toml"]
    words = read_job(ROOT / "jobs" / "cifar10.toml")
    assert words[:6] == ["--preset", "cifar10", "--seeds", "4", "--orders", "first,second"]


def test_options_typed_come_after_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('preset = "digits"\nseeds = [7]\n[set]\noperation.device = "cpu"\nsearch.epochs = 3\n')
    words = search_words([str(file), "--store", "s3://bucket/prefix", "--seeds", "2"])
    assert words[:4] == ["--preset", "digits", "--seeds", "7,"]  # seed 7, not seven seeds
    assert words[4:8] == ["--set", 'operation.device="cpu"', "--set", "search.epochs=3"]
    assert words[8:] == ["--store", "s3://bucket/prefix", "--seeds", "2"]


def test_job_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("seeds = 3\n", encoding="utf-8-sig")
    assert read_job(tmp_path / "job.toml") == ["--seeds", "3"]


def test_job_file_may_name_methods(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('seeds = [7]\nmethods = ["random"]\n')
    words = read_job(tmp_path / "job.toml")
    assert words == ["--seeds", "7,", "--methods", "random"]
    assert [run.run for run in check_search([*words, "--store", "s3://bucket/prefix"]).runs] == ["random-seed-7"]


@pytest.mark.parametrize("text", ["seed = 3", "preset = ", "store = 's3://b/p'"])
def test_job_file_with_a_mistake_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "job.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"job\.toml"):
        read_job(file)


def test_missing_job_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the job file"):
        read_job(tmp_path / "none.toml")


@pytest.mark.parametrize("words", [[], ["--store", "./results"], ["--store=results"]])
def test_store_inside_the_jobs_own_folder_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="deleted after it"):
        search_words(words)
    with pytest.raises(ConfigError, match="deleted after it"):
        checked_words(["DARTS_V2", *words])
    assert checked_words(["DARTS_V2", "--store=/mnt/results"]) == ["DARTS_V2", "--store=/mnt/results"]
    assert search_words(["--store=/mnt/results"]) == ["--store=/mnt/results"]
    assert check_store("s3://bucket/prefix") == "s3://bucket/prefix"


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["jobs/absent.toml", "--help"]])
def test_help_needs_neither_a_store_nor_a_job_file(words: list[str]) -> None:
    assert search_words(words) == ["--help"]


def test_search_that_cannot_be_run_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ConfigError, match="epochs"):
        check_search(["--preset", "digits", "--set", "search.epochs=0"])
