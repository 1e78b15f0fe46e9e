"""Text forms of genotypes, of installed spaces and of spaces that are not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_darts.errors import ConfigError, GenotypeError
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols.registry import names
from ray_darts.protocols.space import CellWords
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.genotypes import (
    checked,
    known_space,
    published,
    published_names,
    read_genotype,
    read_genotype_file,
    space_of,
    words_for,
    write_text,
)
from ray_darts.spaces.recurrent.space import RecurrentSpace

CELL = CellGenotype("melody", 2, ((Connection("echo", 1),), (Connection("none", 0), Connection("echo", 2))), (3,))
AUDIO = Genotype("audio", (CELL,))


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    for text in (AUDIO.to_json(), write_text(published("DARTS_V2"))):
        (tmp_path / "cells").write_text(text, encoding="utf-8-sig")
        assert read_genotype_file(tmp_path / "cells") == read_genotype(text)


def test_a_genotype_of_a_space_that_is_not_installed_is_read_and_checked_for_its_form_alone() -> None:
    assert read_genotype(AUDIO.to_json()) == AUDIO
    assert checked(AUDIO) == AUDIO
    assert known_space(AUDIO) is None
    wrong = AUDIO.to_json().replace('"source":1', '"source":2')
    with pytest.raises(GenotypeError, match=r"melody cell, node 0, input 0: source 2 is out of range 0\.\.1"):
        read_genotype(wrong)


def test_a_genotype_of_a_space_that_is_not_installed_is_shown_in_plain_words() -> None:
    assert words_for(AUDIO) == CellWords(("input 0", "input 1"), "output", "output")
    assert AUDIO.count({"echo"}) == {"melody": 2}


def test_only_what_needs_the_space_refuses_and_says_what_would_bring_it() -> None:
    for asks in (space_of, write_text):
        with pytest.raises(GenotypeError) as refusal:
            asks(AUDIO)
        assert str(refusal.value) == (
            "the genotype is of the space 'audio', which is not installed here (known are "
            f"{', '.join(names('space'))}): install the package that brings it, or name its module in plugins"
        )


def test_an_installed_space_is_found_by_its_genotype_and_gives_its_words() -> None:
    images, text = published("DARTS_V2", "convolutional"), published("DARTS_V2", "recurrent")
    assert (space_of(images), space_of(text)) == (ConvolutionalSpace, RecurrentSpace)
    assert words_for(images) == CellWords(("c[k-2]", "c[k-1]"), "concat", "c[k]")
    assert words_for(text) == CellWords(("x, h[t-1]",), "mean", "h[t]")


def test_a_genotype_of_an_installed_space_is_checked_by_its_layout_whatever_its_number_of_nodes() -> None:
    node = (Connection("tanh", 0),)
    small = Genotype("recurrent", (CellGenotype("recurrent", 1, (node,), (1,)),))
    assert checked(small) == small
    other = Genotype("recurrent", (CellGenotype("recurrent", 1, ((Connection("sine", 0),),), (1,)),))
    with pytest.raises(GenotypeError, match="unknown operation 'sine'; known are tanh, relu, sigmoid, identity"):
        checked(other)
    with pytest.raises(GenotypeError, match="unknown operation 'sine'"):
        read_genotype(other.to_json())


def test_every_form_is_read_as_the_same_genotype() -> None:
    genotype = published("DARTS_V1", "convolutional")
    for text in (genotype.to_json(), write_text(genotype), f"\n DARTS_V1 = {write_text(genotype)}\n"):
        assert read_genotype(text) == genotype


def test_published_cells_are_of_the_first_space_that_has_them() -> None:
    assert published("DARTS_V2") == published("DARTS_V2", "convolutional")
    assert published_names() == published_names("recurrent") == ["DARTS_V1", "DARTS_V2"]
    with pytest.raises(ConfigError, match="unknown space 'audio'"):
        published_names("audio")


@pytest.mark.parametrize("space", [ConvolutionalSpace, RecurrentSpace])
def test_every_published_cell_is_a_genotype_of_its_space(
    space: type[ConvolutionalSpace] | type[RecurrentSpace],
) -> None:
    for name in space.published:
        published(name, space.model_fields["kind"].default).check(space().layout())
