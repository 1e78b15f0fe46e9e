"""What is printed holds no control characters, and no encoding of a terminal makes a command fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ray_darts.artifacts.records import Owner
from ray_darts.artifacts.status import RunStatus
from ray_darts.cli.output import report_line, show_result
from ray_darts.report.table import status_text

FORGED = "a\x1b]0;title\x07\x9b31m\x7fb"


def test_results_and_progress_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(f"{FORGED}\nnext", {"name": FORGED}, as_json=False)
    show_result("", {"name": FORGED}, as_json=True)
    report_line(FORGED)
    printed = capsys.readouterr()
    text, _, shown_json = printed.out.partition("next\n")
    assert text == "a\\x1b]0;title\\x07\\x9b31m\\x7fb\n"
    assert json.loads(shown_json) == {"name": FORGED}
    assert all(c == "\n" or c.isprintable() for c in printed.out + printed.err)


def test_a_host_of_a_foreign_store_is_text_in_the_table() -> None:
    run = RunStatus("run", "claimed", owner=Owner(session="s" * 32, uuid="u", host=f"[red]{FORGED}", pid=1))
    assert "[red]a\\x1b]0;title\\x07" in status_text([run])


def test_an_encoding_without_a_letter_gets_it_escaped(tmp_path: Path) -> None:
    program = "from ray_darts.cli import main; import sys; sys.argv = ['ray-darts', 'show', 'é']; main()"
    ran = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program],
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert rb"'\xe9' is neither a file nor a published name" in ran.stderr
