import json
import tomllib

from ray_darts.config import load_config, preset_names, preset_text
from tests.cli.running import ray_darts


def test_every_preset_is_listed_with_a_line() -> None:
    lines = ray_darts("presets").stdout.splitlines()
    assert [line.split()[0] for line in lines] == preset_names()
    assert all(len(line.split()) > 3 and len(line) < 120 for line in lines)
    assert set(json.loads(ray_darts("presets", "--json").stdout)) == set(preset_names())


def test_a_named_preset_is_printed_as_it_is_shipped() -> None:
    ran = ray_darts("presets", "digits")
    assert ran.stdout == preset_text("digits")
    assert tomllib.loads(ran.stdout)


def test_as_json_it_is_spelled_out() -> None:
    assert json.loads(ray_darts("presets", "digits", "--json").stdout) == load_config("digits").model_dump(mode="json")


def test_an_unknown_preset_exits_2() -> None:
    ran = ray_darts("presets", "nope")
    assert (ran.code, ran.stdout) == (2, "")
    assert "there are cifar10, digits" in ran.stderr
