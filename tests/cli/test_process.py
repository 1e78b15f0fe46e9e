"""What only a fresh interpreter shows: exit codes as a shell sees them, and what a command imports."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from tests.artifacts.runs import EXPERIMENT, RUN, register, whole_run
from tests.cli.running import ROOT, Ran, ray_darts_process

IMPORTED = """
import sys
from ray_darts.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
sys.stderr.write("imported: " + " ".join(sorted(sys.modules)))
"""


def _imported(*words: str, cwd: Path) -> set[str]:
    ran = ray_darts_process(*words, cwd=cwd, python=IMPORTED)
    assert ran.code == 0, ran.stderr
    return set(ran.stderr.rpartition("imported: ")[2].split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run."""
    folder = tmp_path_factory.mktemp("store")
    store = open_store(str(folder))
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    return folder


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = {"torch", "ray", "numpy", "pyarrow", "boto3", "rich", "ray_darts.config"}
    assert not heavy & _imported("--help", cwd=tmp_path)
    assert not heavy & _imported("search", "--help", cwd=tmp_path)


def test_best_imports_neither_torch_nor_ray_nor_pyarrow(folder: Path, tmp_path: Path) -> None:
    words = ("best", EXPERIMENT, "--store", str(folder), "--verify", "--output", str(tmp_path / "best.json"))
    imported = _imported(*words, cwd=tmp_path)
    assert "ray_darts.artifacts.best" in imported
    assert not {"torch", "ray", "pyarrow", "boto3"} & imported


@pytest.mark.parametrize("command", ["status", "trace", "verify", "gc", "card"])
def test_commands_over_the_store_import_neither_torch_nor_ray(command: str, folder: Path, tmp_path: Path) -> None:
    assert not {"torch", "ray"} & _imported(command, EXPERIMENT, "--store", str(folder), cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["search", "--preset", "nope"], ["unknown preset 'nope'; there are cifar10, cifar10-deep"]),
        (["search", "--name", "a/b"], ["experiment 'a/b' is "]),
        (["search", "--name", ".."], ["experiment '..' is "]),
        (["search", "--seeds", "0", "--orders", "frist"], ["seeds = 0", "'frist'"]),
        (["search", "--config", "absent.toml"], ["cannot read the config file absent.toml"]),
        (["search", "--preset", "digits", "--config", "x.toml"], ["name either a preset or a config file"]),
        (["search", "--workers", "0"], ["workers '0': at least 1"]),
        (["search", "--nonsense"], ["No such option: --nonsense"]),
        (["nonsense"], ["No such command 'nonsense'"]),
        (["best"], ["Missing argument 'EXP'"]),
    ],
)
def test_mistakes_exit_2_with_a_clear_message_and_write_nothing(
    words: list[str], messages: list[str], tmp_path: Path
) -> None:
    ran = ray_darts_process(*words, cwd=tmp_path)
    assert (ran.code, ran.stdout) == (2, "")
    assert "Traceback" not in ran.stderr
    for message in messages:
        assert message in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_watch_exits_130(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    register(store)
    # a shell's background jobs ignore Ctrl-C, and so would this child of one
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = [sys.executable, "-c", f"{heeding}; from ray_darts.cli import main; main()"]
    words = ["status", EXPERIMENT, "--store", str(tmp_path), "--watch", "--json"]
    with subprocess.Popen([*program, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["runs"][0]["state"] == "waiting"
        time.sleep(0.2)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=60) == 130


def test_the_version_is_printed() -> None:
    ran: Ran = ray_darts_process("--version", cwd=ROOT)
    assert ran.code == 0
    assert ran.stdout.startswith("ray-darts ")


TAKEN = """
import ray_darts
from torch import nn


class Taken(ray_darts.Operation):
    name = "sep_conv_3x3"
    parameter_free = True

    def build(self, channels, stride):
        return nn.Identity()


ray_darts.register(Taken())
"""


def test_a_plugin_that_spoils_a_default_section_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "taken.py").write_text(TAKEN)
    (tmp_path / "a.toml").write_text('plugins = ["taken"]\nsearch.epochs = 1\n')
    ran = ray_darts_process("search", "--dry-run", "--config", "a.toml", cwd=tmp_path)
    assert ran.code == 2, ran.stderr
    assert "sep_conv_3x3" in ran.stderr
