"""`ray-darts data check`: its table, its JSON, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from ray_darts.cli.app import app
from tests.data.files import png, random_pixels, write_class_folders


def run(folder: Path, *words: str, **settings: str) -> tuple[int, str]:
    """(exit code, stdout)."""
    given = {"kind": "images", "source": "folder", "path": str(folder), **settings}
    plain = ", ".join(f'{name} = "{value}"' for name, value in given.items())
    result = CliRunner().invoke(
        app,
        ["data", "check", "--preset", "digits", "--set", f"data={{{plain}}}", "--set", "search.batch_size=8", *words],
    )
    return result.exit_code, result.stdout


def test_sound_data_have_a_table_and_code_0(tmp_path: Path) -> None:
    code, text = run(write_class_folders(tmp_path, random_pixels(40)))
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert lines["classes"].startswith("2 classes, 20 + 20 samples")
    assert lines["problems"] == "none"
    assert "a search      6 epochs of 2 steps of 8 samples" in text


def test_bad_pictures_end_with_code_2_unless_they_may_be_skipped(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path, random_pixels(40))
    (folder / "c0" / "bad.png").write_bytes(png(random_pixels(1)[0])[:50])
    code, text = run(folder, "--json")
    found = json.loads(text)
    assert (code, found["problems"], found["steps_per_epoch"]) == (2, 1, 2)
    assert "bad.png cannot be read as an image" in found["first_problems"][0]
    assert run(folder, on_error="skip")[0] == 0


def test_data_that_cannot_be_read_at_all_are_one_message(tmp_path: Path) -> None:
    assert run(tmp_path / "nowhere")[0] == 2
