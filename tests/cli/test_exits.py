import inspect
from pathlib import Path

import pytest
import typer

import ray_darts.errors as errors
from ray_darts.cli.app import app
from ray_darts.cli.exits import with_exit_codes
from ray_darts.exit_codes import exit_code_of_error


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.DataError, 2),
        (errors.GenotypeError, 2),
        (errors.NonFiniteAlphas, 1),
        (errors.StoreDenied, 2),
        (errors.ClusterError, 2),
        (errors.ClusterLost, 1),
        (errors.SweepCrashed, 1),
        (errors.StoreUnavailable, 75),
        (errors.Superseded, 76),
        (errors.MissingObject, 1),
        (errors.CorruptObject, 1),
        (errors.SearchError, 1),
        (errors.RayDartsError, 1),
    ],
)
def test_each_error_has_its_exit_code_and_one_message_on_stderr(
    kind: type[errors.RayDartsError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @with_exit_codes
    def failing() -> None:
        raise kind("what failed and what to do")

    with pytest.raises(typer.Exit) as ended:
        failing()
    assert ended.value.exit_code == code
    assert capsys.readouterr() == ("", "ray-darts: what failed and what to do\n")


def test_a_subclass_has_its_parents_code() -> None:
    class Special(errors.StoreUnavailable):
        pass

    assert exit_code_of_error(Special("gone")) == 75


def test_an_interrupt_is_130() -> None:
    @with_exit_codes
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        interrupted()
    assert ended.value.exit_code == 130


def test_a_bug_of_ours_is_one_line_with_its_traceback_in_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    @with_exit_codes
    def broken() -> None:
        raise ZeroDivisionError("by\x1b[31m nothing\nat all")

    with pytest.raises(typer.Exit) as ended:
        broken()
    (file,) = tmp_path.iterdir()
    shown = f"this is a bug in ray_darts: ZeroDivisionError: by\\x1b[31m nothing; details in {file}"
    assert (ended.value.exit_code, capsys.readouterr().err) == (70, f"ray-darts: {shown}\n")
    assert "in broken" in file.read_text()


@pytest.mark.parametrize("passed", [typer.Exit(3), typer.Abort(), typer.BadParameter("x"), BrokenPipeError()])
def test_what_typer_raises_passes(passed: Exception) -> None:
    @with_exit_codes
    def ends() -> None:
        raise passed

    with pytest.raises(type(passed)):
        ends()


def test_a_long_message_is_cut_and_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    @with_exit_codes
    def failing() -> None:
        raise errors.ConfigError("\x1b[2J" + "x " * 25_000 + "\nline")

    with pytest.raises(typer.Exit):
        failing()
    shown = capsys.readouterr().err
    assert shown.startswith("ray-darts: \\x1b[2Jx x x")
    assert shown.endswith("x … and 48,012 characters more\n")


def test_every_command_maps_its_errors_and_speaks_json() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert hasattr(command.callback, "__wrapped__"), command.callback
        if command.callback.__name__ != "submit":  # it prints a job's log, which is not ours to shape
            assert "as_json" in inspect.signature(command.callback).parameters, command.callback
