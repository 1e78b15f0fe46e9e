"""Small files that people name: whole or not at all, and a pipe is not waited for for ever."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ray_darts import input_files
from ray_darts.input_files import read_start
from tests.cli.running import ray_darts


def test_a_file_is_read_to_its_end_or_one_byte_beyond_the_most(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 100)
    assert [len(read_start(file, most)) for most in (99, 100, 101, 10)] == [100, 100, 100, 11]
    assert len(read_start(Path("/dev/zero"), 1000)) == 1001
    assert read_start(Path("/dev/null"), 10) == b""


def test_a_folder_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_start(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        read_start(tmp_path / "none", 10)


def test_what_is_written_to_a_pipe_is_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb") as file:
            for _ in range(3):
                time.sleep(0.1)
                file.write(b"y" * 70_000)
                file.flush()

    writing = threading.Thread(target=write)
    writing.start()
    assert read_start(pipe, 1 << 20) == b"y" * 210_000
    writing.join()


def test_a_pipe_that_nobody_writes_to_ends_in_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "PATIENCE_S", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for words, phrase in (
        (("search", "--dry-run", "--config", str(pipe)), "nothing was written to it for 0 s"),
        (("show", str(pipe)), "is neither a file nor a published name"),
    ):
        ran = ray_darts(*words)
        assert ran.code == 2
        assert phrase in ran.stderr
    token = (
        "submit",
        "--store",
        "s3://b/x",
        "--address",
        "http://127.0.0.1:9",
        "--installed",
        "--token-file",
        str(pipe),
    )
    ran = ray_darts(*token, "--", "--preset", "digits")
    assert ran.code == 2
    assert f"cannot read the token file {pipe}: nothing was written to it" in ran.stderr
