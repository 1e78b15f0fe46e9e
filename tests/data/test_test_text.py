"""The test text: read after a training's last step only, and scored alike on any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_darts.config import TrainingConfig, load_training_config
from ray_darts.data.batch import Batch, Shard
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.sources import StateOfTheUnion
from ray_darts.data.text.streams import TextSet, load_text
from ray_darts.data.text.test_set import TextToTest, load_test_text
from ray_darts.data.text.tokens import text_digest
from ray_darts.errors import DataError, TestSetClosed
from ray_darts.protocols.dataset import TrainingData
from ray_darts.protocols.method import Progress
from ray_darts.spaces.genotypes import published
from ray_darts.spaces.recurrent.network import RecurrentNetwork
from ray_darts.spaces.recurrent.space import NetworkOptions
from tests.data.settings import ALONE, CPU, assert_union, shards

GENOTYPE = published("DARTS_V2", "recurrent")


def write_texts(folder: Path, test: str | bytes | None = "w1 w2\nw3 new w4\nw5\n" * 5) -> Path:
    words = np.random.default_rng(0).integers(0, 40, 600)
    for name, part in (("train", words[:400]), ("valid", words[400:])):
        (folder / f"{name}.txt").write_text("\n".join(f"w{a} w{b}" for a, b in zip(part[::2], part[1::2], strict=True)))
    if test is not None:
        (folder / "test.txt").write_bytes(test.encode() if isinstance(test, str) else test)
    return folder


def load(folder: Path, **settings: object) -> TextSet:
    return load_text(Text.model_validate({"source": "files", "path": str(folder), "bptt": 7, **settings}), 10**9)


def text_of(data: TextSet) -> TextToTest:
    test = load_test_text(data)
    assert test is not None
    return test


def test_the_test_text_is_numbered_by_the_training_vocabulary(tmp_path: Path) -> None:
    data = load(write_texts(tmp_path))
    test = text_of(data)
    words = [data.vocabulary.words[number] for number in test.text_TB[:9, 0].tolist()]
    assert words == ["w1", "w2", "<eos>", "w3", "<unk>", "w4", "<eos>", "w5", "<eos>"]
    assert test.num_samples == len(test.text_TB) == 45
    assert test.digest == text_digest(test.text_TB[:, 0].numpy())


def test_windows_hold_all_words_once_in_one_column(tmp_path: Path) -> None:
    test = text_of(load(write_texts(tmp_path)))
    batches = list(test.batches(ALONE, CPU))
    assert [len(batch.inputs) for batch in batches] == [7] * 6 + [2]
    assert [batch.starts_epoch for batch in batches] == [True] + [False] * 6
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), test.text_TB[:-1].long())
    assert torch.equal(torch.cat([batch.targets for batch in batches]), test.text_TB[1:].long())
    for index, whole in enumerate(batches):
        assert_union(whole, [list(test.batches(shard, CPU))[index] for shard in shards(3)])


def test_the_columns_are_a_setting(tmp_path: Path) -> None:
    test = text_of(load(write_texts(tmp_path), test_batch_size=4))
    assert test.text_TB.shape == (11, 4)
    assert test.num_samples == 45
    with pytest.raises(DataError, match=r"test text has 45 words, too few for data\.test_batch_size = 20"):
        text_of(load(tmp_path, test_batch_size=20))


def test_a_folder_may_have_no_test_text(tmp_path: Path) -> None:
    assert load_test_text(load(write_texts(tmp_path, test=None))) is None


def test_an_empty_test_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test text has 0 words, too few"):
        load_test_text(load(write_texts(tmp_path, test="")))


def test_the_packages_have_a_test_text() -> None:
    assert StateOfTheUnion().has("test")


@pytest.mark.parametrize("training", [True, False])
def test_a_shard_without_columns_adds_nothing(tmp_path: Path, training: bool) -> None:
    data = load(write_texts(tmp_path))
    test = text_of(data)
    network = RecurrentNetwork(GENOTYPE, data.facts, NetworkOptions(size=5)).train(training)
    empty = next(test.batches(shards(2)[0], CPU))
    assert empty.num_samples == 0
    outcome = network.loss(empty, network.initial_carry(0, CPU))
    outcome.loss.backward()  # type: ignore[no-untyped-call]
    assert outcome.loss.item() == 0
    assert outcome.sums.tolist() == [0, 0]
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is None or not gradient.any() for gradient in gradients)


def tiny_training(folder: Path, *overrides: str) -> TrainingConfig:
    settings = {
        "network": {"kind": "recurrent", "size": 5},
        "data": {"kind": "text", "source": "files", "path": str(folder), "bptt": 20, "evaluation_batch_size": 2},
        "weights": {"learning_rate": 1.0, "momentum": 0.0},
        "training": {"epochs": 1, "batch_size": 6, "precision": "float64"},
    }
    return load_training_config(None, settings=settings, overrides=overrides)


def streams(config: TrainingConfig) -> TrainingData:
    return config.streams(config.data.load(10**9), 0)


@pytest.mark.parametrize(
    ("finished", "overrides", "message"),
    [(False, (), "until the training has ended"), (True, ("training.test=false",), r"training\.test is false")],
)
def test_the_test_text_stays_closed(tmp_path: Path, finished: bool, overrides: tuple[str, ...], message: str) -> None:
    data = streams(tiny_training(write_texts(tmp_path, test=b"caf\xe9\n"), *overrides))
    total = data.total_steps(1)
    with pytest.raises(TestSetClosed, match=message):
        data.open_test(Progress(total if finished else total - 1, total, 0, 1))


def test_the_test_text_is_read_after_the_last_step(tmp_path: Path) -> None:
    data = streams(tiny_training(write_texts(tmp_path, test=b"caf\xe9\n")))
    end = Progress(data.total_steps(1), data.total_steps(1), 1, 1)
    with pytest.raises(DataError, match=r"test\.txt is no text in UTF-8"):
        data.open_test(end)
    write_texts(tmp_path)
    test = data.open_test(end)
    assert test is not None
    assert test.num_samples == 45


def sums_over(world_size: int, network: RecurrentNetwork, batches: Callable[[Shard], Iterator[Batch]]) -> Tensor:
    """What the ranks add up: the sums of all windows, each shard with its own carry."""
    totals = torch.zeros(2, dtype=torch.float64)
    for shard in shards(world_size):
        carry = None
        for batch in batches(shard):
            if batch.starts_epoch:
                carry = network.initial_carry(batch.num_samples, CPU)
            with torch.no_grad():
                outcome = network.evaluate(batch, carry)
            carry = outcome.carry
            totals += outcome.sums
    return totals


def test_more_ranks_than_columns_score_a_text_as_one_rank_does(tmp_path: Path) -> None:
    data = streams(tiny_training(write_texts(tmp_path)))
    test = data.open_test(Progress(data.total_steps(1), data.total_steps(1), 1, 1))
    assert test is not None
    network = RecurrentNetwork(GENOTYPE, data.facts, NetworkOptions(size=5)).double().eval()
    for tokens, part in ((44, test.batches), (2 * 149, data.validation_batches)):
        batches = partial(part, device=CPU)
        alone = sums_over(1, network, batches)
        assert alone[1] == tokens
        torch.testing.assert_close(sums_over(3, network, batches), alone, rtol=1e-12, atol=0)
