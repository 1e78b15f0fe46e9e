from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_darts.config import SearchConfig
from ray_darts.data.batch import generator
from ray_darts.data.open import open_data
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.streams import TextStreams
from ray_darts.data.text.vocabulary import Vocabulary
from ray_darts.data.text.windows import columns, full_or_half_windows
from ray_darts.errors import DataError
from tests.data.settings import ALONE, CPU, assert_shards_unite, assert_union, same, shards, text_config
from tests.data.texts import text_set

# word n of either text is number n: a window's place can be read off its words
TEXT = text_set(np.arange(1003, dtype=np.int32), np.arange(402, dtype=np.int32), Vocabulary(("<unk>", "<eos>")))
CONFIG = text_config(4, bptt=7, evaluation_batch_size=3)


def streams(config: SearchConfig, seed: int) -> TextStreams:
    """TEXT under the settings of `config`."""
    assert isinstance(config.data, Text)
    return replace(TEXT, settings=config.data).streams(config.search, seed)


def write_texts(folder: Path) -> Path:
    words = np.random.default_rng(0).integers(0, 40, 600)
    for name, part in (("train", words[:400]), ("valid", words[400:])):
        (folder / f"{name}.txt").write_text("\n".join(f"w{a} w{b}" for a, b in zip(part[::2], part[1::2], strict=True)))
    return folder


def files_config(folder: Path, **data: object) -> SearchConfig:
    return text_config(4, source="files", path=str(folder), bptt=7, **data)


def test_text_runs_down_the_columns() -> None:
    text_TB = columns(TEXT.tokens.train, 4, "train", "search.batch_size")
    assert text_TB.shape == (250, 4)
    assert text_TB[:, 1].tolist() == list(range(250, 500))


def test_windows_tile_the_train_text_and_targets_are_the_next_words() -> None:
    data = streams(CONFIG, 0)
    for epoch in range(3):
        place = 0
        for index in range(data.num_steps(epoch)):
            train, _ = data.bilevel_batches(epoch, index, ALONE, CPU)
            assert train.inputs[:, 0].tolist() == list(range(place, place + len(train.inputs)))
            assert same(train.targets, train.inputs + 1)
            assert train.inputs.dtype == torch.int64
            assert train.batch_dim == 1
            assert train.starts_epoch is (index == 0)
            assert train.learning_rate_scale == len(train.inputs) / 7
            place += len(train.inputs)
        assert place in (248, 249), "all but a remainder of one word"


def test_one_window_in_twenty_is_half_as_long() -> None:
    lengths = np.diff(full_or_half_windows(generator(0, "lengths"), 350_000, 35))
    values, counts = np.unique(lengths[:-1], return_counts=True)
    assert values.tolist() == [17, 35]
    assert counts[0] / counts.sum() == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize("length", range(2, 30))
def test_the_last_window_is_cut_and_never_shorter_than_two(length: int) -> None:
    for seed in range(5):
        starts = full_or_half_windows(generator(seed), length, 5)
        assert starts[0] == 0
        assert length - 1 <= starts[-1] <= length
        assert set(np.diff(starts).tolist()) <= {2, 3, 4, 5}


def test_the_validation_window_starts_at_the_train_place_modulo_its_length() -> None:
    data = streams(CONFIG, 0)
    seen = set()
    for index in range(data.num_steps(0)):
        train, validation = data.bilevel_batches(0, index, ALONE, CPU)
        place = int(train.inputs[0, 0]) % 99  # the validation text has 100 rows, of which 99 have a next word
        assert validation.inputs[:, 0].tolist() == list(range(place, min(place + 7, 99)))
        assert validation.inputs[0, 1] == 100 + place
        assert same(validation.targets, validation.inputs + 1)
        assert validation.starts_epoch is (index == 0)
        assert validation.learning_rate_scale == len(validation.inputs) / 7
        seen.add(len(validation.inputs))
    assert max(seen) == 7 > min(seen)


def test_any_order_of_calls_gives_the_same_batches() -> None:
    steps = [(epoch, index) for epoch in range(4) for index in (0, 9, 30)]
    first = {step: streams(CONFIG, 0).bilevel_batches(*step, ALONE, CPU) for step in steps}
    data = streams(CONFIG, 0)
    for step in random.Random(0).sample(steps * 2, k=2 * len(steps)):
        for one, other in zip(first[step], data.bilevel_batches(*step, ALONE, CPU), strict=True):
            assert same(one.inputs, other.inputs)
            assert one.draws == other.draws


def test_steps_are_counted_through_the_epochs() -> None:
    data = streams(CONFIG, 0)
    steps = [
        data.bilevel_batches(epoch, index, ALONE, CPU)[0].draws.step
        for epoch in range(4)
        for index in range(data.num_steps(epoch))
    ]
    assert steps == list(range(len(steps)))
    assert len({data.num_steps(epoch) for epoch in range(10)}) > 1, "lengths are drawn anew"
    with pytest.raises(IndexError):
        data.bilevel_batches(0, data.num_steps(0), ALONE, CPU)


def test_seeds_draw_other_lengths_from_one_loaded_text() -> None:
    places = [
        [streams(CONFIG, seed).bilevel_batches(0, i, ALONE, CPU)[0].inputs[0, 0].item() for i in range(30)]
        for seed in (0, 1)
    ]
    assert places[0] != places[1]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shards_are_columns_and_unite_bit_for_bit(world_size: int) -> None:
    data = streams(CONFIG, 0)
    for epoch, index in [(0, 0), (0, data.num_steps(0) - 1), (2, 5)]:
        assert_shards_unite(data, epoch, index, world_size)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_evaluation_is_the_validation_text_once(world_size: int) -> None:
    data = streams(CONFIG, 0)
    wholes = list(data.evaluation_batches(ALONE, CPU))
    per_rank = [list(data.evaluation_batches(shard, CPU)) for shard in shards(world_size)]
    assert {len(batches) for batches in per_rank} == {len(wholes)}
    for index, whole in enumerate(wholes):
        assert_union(whole, [batches[index] for batches in per_rank])
    assert torch.cat([whole.targets for whole in wholes]).T.flatten().tolist() == [
        n for column in range(3) for n in range(column * 134 + 1, column * 134 + 134)
    ]
    assert [whole.starts_epoch for whole in wholes] == [True] + [False] * (len(wholes) - 1)


def test_a_rank_may_have_no_column_in_evaluation() -> None:
    batches = list(streams(CONFIG, 0).evaluation_batches(shards(4)[0], CPU))
    assert batches[0].inputs.shape == (7, 0)
    assert batches[0].share == 0


def test_a_text_too_short_for_its_columns_is_an_error() -> None:
    with pytest.raises(DataError, match=r"the validation text has 402 words, too few for search.batch_size = 200"):
        streams(text_config(200), 0)
    with pytest.raises(DataError, match=r"too few for data.evaluation_batch_size = 201"):
        streams(text_config(4, evaluation_batch_size=201), 0)


def test_files_become_streams_with_a_vocabulary_beside_the_run(tmp_path: Path) -> None:
    data = open_data(files_config(write_texts(tmp_path)), 0)
    vocabulary = Vocabulary.from_json(data.documents["vocabulary.json"])
    assert data.facts.num_classes == len(vocabulary) == 42
    assert data.digests["vocabulary"] == vocabulary.digest()
    train, _ = data.bilevel_batches(0, 0, ALONE, CPU)
    first = [vocabulary.words[number] for number in train.inputs[:3, 0].tolist()]
    assert first == [*(tmp_path / "train.txt").read_text().split()[:2], "<eos>"]


def test_digests_follow_the_text_and_the_vocabulary(tmp_path: Path) -> None:
    config = files_config(write_texts(tmp_path))
    whole = open_data(config, 0).digests
    assert open_data(config, 0).digests == whole
    assert open_data(files_config(tmp_path, vocabulary_size=10), 0).digests["vocabulary"] != whole["vocabulary"]
    with (tmp_path / "valid.txt").open("a") as text:
        text.write(" w0")
    assert open_data(config, 0).digests["data"] != whole["data"]


def test_a_fraction_keeps_the_first_rows_of_all_columns() -> None:
    data = streams(text_config(4, bptt=7, fraction=0.2), 0)
    targets = [data.bilevel_batches(0, index, ALONE, CPU)[0].targets for index in range(data.num_steps(0))]
    assert torch.cat(targets)[-1].tolist() in ([49, 299, 549, 799], [48, 298, 548, 798])
    assert streams(text_config(4, fraction=0.001), 0).num_steps(0) == 1
