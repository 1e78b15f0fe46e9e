import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.spaces.genotypes import published, write_text
from tests.cli.running import ray_darts


def test_a_published_name_is_the_first_spaces_unless_a_space_is_given() -> None:
    assert "normal cell" in ray_darts("show", "DARTS_V2").stdout
    assert "recurrent cell" in ray_darts("show", "DARTS_V2", "--space", "recurrent").stdout
    assert "recurrent cell" in ray_darts("show", "DARTS_V2", "--preset", "ptb").stdout
    assert "reduction cell" in ray_darts("show", "DARTS_V2", "--preset", "cifar10").stdout


@pytest.mark.parametrize("space", ["convolutional", "recurrent"])
def test_files_of_both_forms_are_read(tmp_path: Path, space: str) -> None:
    genotype = published("DARTS_V1", space)
    for text in (genotype.to_json(), write_text(genotype)):
        file = tmp_path / "genotype"
        file.write_text(text + "\n")
        ran = ray_darts("show", str(file), "--json")
        assert json.loads(ran.stdout) == genotype.to_data()


def test_a_drawing_is_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "cells.svg"
    ran = ray_darts("show", "DARTS_V2", "--output", str(file))
    assert ran.code == 0
    assert ran.stderr == f"drawing in {file}\n"
    assert ElementTree.parse(file).getroot().tag.endswith("svg")
    assert [entry.name for entry in tmp_path.iterdir()] == ["cells.svg"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["DARTS_V9"], "is neither a file nor a published name (DARTS_V1, DARTS_V2)"),
        (["DARTS_V2", "--space", "audio"], "--space 'audio': wanted convolutional or recurrent"),
        (["DARTS_V2", "--preset", "nope"], "unknown preset 'nope'"),
        (["DARTS_V2", "--preset", "ptb", "--space", "recurrent"], "give --space or --preset, not both"),
        (["DARTS_V2", "--output", "x.gif"], "--output x.gif: drawings are .svg, .png, .pdf, name a file"),
        (["DARTS_V2", "--output", "/nowhere/at/all.svg"], "cannot write /nowhere/at/all.svg"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words: list[str], message: str) -> None:
    ran = ray_darts("show", *words)
    assert ran.code == 2
    assert ran.stdout == ""
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_file_of_another_space_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "genotype.json"
    file.write_text(published("DARTS_V2", "recurrent").to_json())
    ran = ray_darts("show", str(file), "--space", "convolutional")
    assert ran.code == 2
    assert "holds a genotype of space 'recurrent', not 'convolutional'" in ran.stderr


def test_files_that_are_no_genotype_are_refused(tmp_path: Path) -> None:
    for name, content in (("long", b"#" * 100_000), ("binary", b"\xff\xfe"), ("empty", b""), ("nan", b'{"a": NaN}')):
        file = tmp_path / name
        file.write_bytes(content)
        ran = ray_darts("show", str(file))
        assert (ran.code, ran.stdout) == (2, "")


def test_a_genotype_of_a_space_that_is_not_installed_is_shown_and_drawn(tmp_path: Path) -> None:
    file = tmp_path / "genotype.json"
    file.write_text(Genotype("nowhere", (CellGenotype("cell", 1, ((Connection("conv", 0),),), (1,)),)).to_json())
    ran = ray_darts("show", str(file), "--output", str(tmp_path / "cells.svg"))
    assert (ran.code, ran.stdout.splitlines()[2]) == (0, "   1 = conv(0)")
    assert "conv" in (tmp_path / "cells.svg").read_text()


def test_a_text_of_no_space_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "genotype"
    file.write_text("Genotype(sideways=[('conv', 0)])")
    ran = ray_darts("show", str(file))
    assert (ran.code, ran.stdout) == (2, "")
    assert "fields sideways of Genotype(...): no space here has these" in ran.stderr


@pytest.mark.parametrize(("name", "start"), [("a.svg", b"<svg"), ("a.PNG", b"\x89PNG\r\n"), ("a.pdf", b"%PDF-1.")])
def test_a_drawing_has_the_form_that_its_name_says(name: str, start: bytes, tmp_path: Path) -> None:
    ran = ray_darts("show", "DARTS_V2", "--output", str(tmp_path / name))
    assert ran.code == 0, ran.stderr
    content = (tmp_path / name).read_bytes()
    assert content.startswith(start)
    assert len(content) > 5000
