from __future__ import annotations

import pytest

from ray_darts.data.text.vocabulary import Vocabulary, read_training_text
from ray_darts.errors import DataError

LINES = [["b", "a", "b", "<eos>"], ["c", "a", "<eos>", "<eos>"], ["<unk>", "b", "d", "<eos>"]]


def test_words_are_ranked_by_frequency_and_ties_by_the_alphabet() -> None:
    tokens, vocabulary = read_training_text(LINES, 100)
    assert vocabulary.words == ("<unk>", "<eos>", "b", "a", "c", "d")
    assert tokens.tolist() == [2, 3, 2, 1, 4, 3, 1, 1, 0, 2, 5, 1]


def test_the_rarest_words_become_unknown() -> None:
    tokens, vocabulary = read_training_text(LINES, 4)
    assert vocabulary.words == ("<unk>", "<eos>", "b", "a")
    assert tokens.tolist() == [2, 3, 2, 1, 0, 3, 1, 1, 0, 2, 0, 1]


def test_the_order_of_the_words_does_not_depend_on_where_they_first_stand() -> None:
    assert read_training_text(reversed(LINES), 100)[1] == read_training_text(LINES, 100)[1]


def test_other_text_is_numbered_with_end_marks_and_unknown_words() -> None:
    _, vocabulary = read_training_text(LINES, 100)
    assert vocabulary.encode([["a", "zebra", "<eos>"], ["<eos>"]]).tolist() == [3, 0, 1, 1]
    assert len(vocabulary) == 6


def test_the_document_comes_back_the_same() -> None:
    vocabulary = Vocabulary(("<unk>", "<eos>", "é", '"'))
    assert vocabulary.to_json() == '{"schema_version": 1, "words": ["<unk>", "<eos>", "é", "\\""]}'
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert vocabulary.digest() == "bf5a49bfc3feb934294a6c212cfaf0ce46e6e332bb134e1d4f8d12432a366985"
    assert Vocabulary(("<unk>", "<eos>", '"', "é")).digest() != vocabulary.digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema_version 1"),
        ('{"schema_version": 2, "words": ["<unk>", "<eos>"]}', "schema_version 1"),
        ('{"schema_version": 1, "words": "abc"}', "a list of strings"),
        ('{"schema_version": 1, "words": ["<unk>", "<eos>", 3]}', "a list of strings"),
        ('{"schema_version": 1, "words": ["<eos>", "<unk>"]}', "starts with <unk>, <eos>"),
        ('{"schema_version": 1, "words": ["<unk>", "<eos>", "a", "a"]}', "names a word twice"),
    ],
)
def test_documents_that_are_no_vocabulary_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Vocabulary.from_json(text)
