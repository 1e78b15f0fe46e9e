"""Files that people name: replaced as a whole, links followed, devices and pipes written to and never replaced."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ray_darts.errors import ConfigError
from ray_darts.output_files import whole_file, write_file


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_made_or_replaced_as_a_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    write_file(file, "one")
    file.chmod(0o640)
    write_file(file, b"two")
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"two", 0o640)

    def fail() -> None:
        with whole_file(file) as new:
            new.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (file.read_bytes(), names(tmp_path)) == (b"two", ["a.svg"])


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/file")
    write_file(link, "one")
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "one"


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, "through")
    reader.join(10)
    assert read == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    null, full = tmp_path / "null", tmp_path / "full"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("this container lets nobody make devices")
    write_file(null, "gone")
    assert stat.S_ISCHR(null.stat().st_mode)
    with pytest.raises(ConfigError, match=r"cannot write .*/full: No space left on device"):
        write_file(full, "x")
    assert names(tmp_path) == ["full", "null"]


def test_a_full_disk_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot write /dev/full: No space left on device"):
        write_file(Path("/dev/full"), "x")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", r"cannot write \.: it is a folder, name a file in it"),
        (".", r"cannot write \.: it is a folder"),
        ("folder", r"cannot write .*folder: it is a folder, name a file in it"),
        ("none/a", r"cannot write .*none/a: there is no folder .*/none"),
        ("file/a", r"cannot write .*file/a: there is no folder .*/file"),
        ("a" * 300, r"cannot write .*… ?.*: File name too long"),
        ("loop", r"cannot write .*loop: "),
    ],
)
def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        write_file(Path(output), "x")
    assert names(tmp_path) == ["file", "folder", "loop"]


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
@pytest.mark.parametrize("to_file", [False, True])
def test_standard_output_is_written_to_also_where_it_is_a_file(tmp_path: Path, output: str, to_file: bool) -> None:
    program = "import sys, pathlib, ray_darts.output_files as o; print('before', flush=True); o.write_file({}, 'x')"
    command = [sys.executable, "-c", program.format(f"pathlib.Path({output!r})")]
    if not to_file:
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "before\nx"
        return
    with (tmp_path / "out").open("a") as out:
        subprocess.run(command, stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\nx"


def test_the_command_line_refuses_in_one_line(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "ray_darts", "show", "DARTS_V2", "--output", str(tmp_path / "none" / "a.svg")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("ray-darts: ")
    assert len(ran.stderr.splitlines()) == 1


def test_a_pipe_that_nobody_reads_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_darts.output_files.PATIENCE_S", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="no program has read this pipe"):
        write_file(pipe, "x")


def test_a_file_of_an_experiment_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    (folder / "runs" / "a").mkdir(parents=True)
    for name in ("experiment.json", "runs/a/genotype.json"):
        (folder / name).write_text("{}")
        with pytest.raises(ConfigError, match="it is a file of an experiment in a store, name another"):
            write_file(folder / name, "x")
        assert (folder / name).read_text() == "{}"
    write_file(folder / "my.svg", "new")
    assert (folder / "my.svg").read_text() == "new"
