"""`ray-darts card`: fourteen answers, each made from the store, and each saying plainly what is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ray_darts.artifacts.keys import RunKeys, selection_of
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.openings import record_opening
from ray_darts.artifacts.sessions import SessionFacts, register_session
from ray_darts.config import load_config, load_training_config
from ray_darts.report.card import Practice, card_markdown, make_card
from ray_darts.report.card_facts import read_card_facts
from ray_darts.tasks.metrics import EpochMetrics
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import ENVIRONMENT
from tests.artifacts.trainings import DIGESTS, register_search, register_trainings, search, train
from tests.cli.running import ray_darts

SELECTED: dict[str, Any] = {"metric": "validation_accuracy", "ranking": "selected", "test_digest": None}


def epoch(accuracy: float) -> EpochMetrics:
    quality = {"validation_accuracy": accuracy}
    return EpochMetrics(epoch=0, step=1, train_loss=1.0, validation_loss=1.0, quality=quality)


def write_everything(store: ObjectStore) -> None:
    """A search of two methods with draws, its selection, its trainings, a session, and another search."""
    register_search(store, "s")
    for seed in range(2):
        search(store, "s", f"first-order-seed-{seed}", seed, seed + 1, epochs=[epoch(0.5 + seed / 10)])
    search(store, "s", "random-seed-0", 0, 3, order=None, method={"kind": "sampler"})
    search(store, "s", "random-seed-1", 1, 4, order=None, method={"kind": "sampler"})
    register_trainings(store, selection_of("s"))
    for number, value in enumerate([0.8, 0.9, 0.6, 0.7], start=1):
        train(store, selection_of("s"), f"c{number}", number, [value], **SELECTED)
    register_trainings(store, "t")
    train(store, "t", "c2", 2, [0.95, 0.96, 0.97])
    record_opening(store, RunKeys("t", "c2-seed-0"), DIGESTS["data"])
    register_search(store, "other")
    words = ["ray-darts", "search", "--preset", "digits"]
    register_session(store, "s", SessionFacts.of_this_process("a" * 32, words, load_config("digits")))


def practices(store: ObjectStore, training: str | None = None) -> dict[int, Practice]:
    return {each.number: each for each in make_card(read_card_facts(store, "s", training)).practices}


@pytest.fixture
def whole() -> MemoryStore:
    store = MemoryStore()
    write_everything(store)
    return store


def test_a_store_with_nothing_but_a_description_says_so() -> None:
    store = MemoryStore()
    register_search(store, "s")
    found = practices(store)
    assert sorted(found) == list(range(1, 15))
    not_there = {1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13}
    assert {n for n, each in found.items() if each.state in ("not recorded", "not done")} == not_there
    assert "`--training EXP`" in found[1].lines[0]


def test_a_whole_store_answers_every_practice_but_the_tables(whole: MemoryStore) -> None:
    states = {number: each.state for number, each in practices(whole, "t").items()}
    without = {3: "partly", 5: "partly", 10: "not recorded", 12: "partly"}
    assert states == {number: without.get(number, "recorded") for number in range(1, 15)}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "Trained by `ray_darts test`"),
        (2, "first order, random"),
        (4, f"Digest of the split: `{DIGESTS['split']}`"),
        (4, "`t` trains on the same data"),
        (6, "`s/selection`: all 4 cells trained by one protocol"),
        (6, '`t` training: `{"batch_size": 64, "epochs": 20}`'),
        (7, "Mean validation_accuracy after 25, 50, 75 and 100 % of the epochs: 0.55, 0.55, 0.55, 0.55"),
        (8, "random sampling, mean of 2 trained draws: 0.65; random search, the best of them: 0.7"),
        (8, f"best cell of the search 0.9, {100 * 0.25 / 0.65:+.2f} % relative to random sampling"),
        (9, "Search, first order: 2 runs found 2 different cells"),
        (9, "`t`, cell c2: 0.960 ± 0.010 (n=3)"),
        (11, "the same in all runs of a phase"),
        (12, "Other searches of this store on the same data: other"),
        (12, "1 run of this store opened the test set"),
        (13, "training (t):"),
        (13, "selection (s/selection):"),
        (14, "Python 3."),
    ],
)
def test_an_answer_is_made_from_the_store(whole: MemoryStore, number: int, words: str) -> None:
    assert words in "\n".join(practices(whole, "t")[number].lines)


def test_commands_and_own_code_are_those_of_the_search_and_of_its_trainings(whole: MemoryStore) -> None:
    config = load_training_config("digits").model_copy(update={"plugins": ("my_blocks",)})
    register_session(whole, "t", SessionFacts.of_this_process("b" * 32, ["ray-darts", "train", "s"], config))
    card = make_card(read_card_facts(whole, "s", "t"))
    assert [command.partition(": ")[2] for command in card.commands] == [
        "ray-darts search --preset digits",
        "ray-darts train s",
    ]
    found = {each.number: " ".join(each.lines) for each in card.practices}
    assert "my_blocks" in found[1]
    assert "my_blocks" not in found[2]
    assert len(make_card(read_card_facts(whole, "s")).commands) == 1


def test_the_best_cell_of_the_search_is_a_searched_one_and_lower_may_be_better() -> None:
    store = MemoryStore()
    register_search(store, "s")
    search(store, "s", "first-order-seed-0", 0, 1)
    search(store, "s", "random-seed-0", 0, 2, order=None, method={"kind": "sampler"})
    register_trainings(store, "t")
    options: dict[str, Any] = {"metric": "test_perplexity", "direction": "min"}
    train(store, "t", "c1", 1, [80.0], **options)
    train(store, "t", "c2", 2, [60.0], **options)
    lines = "\n".join(practices(store, "t")[8].lines)
    assert f"best cell of the search 80, {-100 * 20 / 60:+.2f} % relative to random sampling" in lines


def test_searches_on_other_data_are_no_siblings(whole: MemoryStore) -> None:
    register_search(whole, "elsewhere", digests={**DIGESTS, "data": "0" * 64})
    assert "elsewhere" not in "\n".join(practices(whole, "t")[12].lines)


def test_trainings_of_one_seed_are_repeated_partly(whole: MemoryStore) -> None:
    register_trainings(whole, "once")
    train(whole, "once", "c2", 2, [0.95])
    assert practices(whole, "once")[9].state == "partly"


def test_the_course_is_shown_at_quarters_of_the_epochs() -> None:
    store = MemoryStore()
    register_search(store, "s")
    courses = [epoch(accuracy).model_copy(update={"epoch": n}) for n, accuracy in enumerate((0.1, 0.2, 0.3, 0.4))]
    search(store, "s", "first-order-seed-0", 0, 1, epochs=courses)
    assert "epochs: 0.1, 0.2, 0.3, 0.4." in "\n".join(practices(store)[7].lines)


def test_mixed_hardware_is_flagged(whole: MemoryStore) -> None:
    other = ENVIRONMENT.model_copy(update={"threads": 8})
    search(whole, "s", "first-order-seed-2", 2, 1, environment=other)
    assert "search: MIXED threads: 1, 8." in practices(whole)[11].lines


def test_one_seed_of_everything_is_no_repetition() -> None:
    store = MemoryStore()
    register_search(store, "s")
    search(store, "s", "first-order-seed-0", 0, 1)
    assert practices(store)[9].state == "not done"
    search(store, "s", "first-order-seed-1", 1, 1)
    assert practices(store)[9].state == "partly", "nothing was trained"


def test_trainings_on_other_data_are_seen(whole: MemoryStore) -> None:
    register_trainings(whole, "t2", digests={"data": "0" * 64})
    train(whole, "t2", "c2", 2, [0.9])
    assert "`t2` trains on OTHER data." in practices(whole, "t2")[4].lines


def test_the_document_has_a_table_a_section_per_practice_and_the_config(whole: MemoryStore) -> None:
    lines = card_markdown(make_card(read_card_facts(whole, "s", "t"))).splitlines()
    assert sum(line.startswith("| ") and line[2].isdigit() for line in lines) == 14
    assert [line for line in lines if line.startswith("## ")][-2:] == ["## Config of the search", "## Commands"]
    assert '    "epochs": 3' in lines
    assert any(line.endswith(": ray-darts search --preset digits") for line in lines)


def test_the_command_writes_a_file_or_prints(tmp_path: Path) -> None:
    folder, file = tmp_path / "store", tmp_path / "card.md"
    write_everything(open_store(str(folder)))
    words = ("card", "s", "--store", str(folder), "--training", "t")
    ran = ray_darts(*words, "--output", str(file))
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", f"card in {file}\n")
    assert file.read_text() == ray_darts(*words).stdout
    plain = json.loads(ray_darts(*words, "--json").stdout)
    assert [each["number"] for each in plain["practices"]] == list(range(1, 15))


def test_what_is_no_search_or_no_training_is_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    register_search(store, "s")
    register_trainings(store, "t")
    for words, message in (
        (("card", "t"), "t is an experiment of trainings"),
        (("card", "s", "--training", "none"), "there is no such experiment"),
        (("card", "s", "--training", "s"), "s is a search"),
    ):
        ran = ray_darts(*words, "--store", str(tmp_path))
        assert ran.code == 2
        assert message in ran.stderr
