"""Small searches on text for tests: a made-up language in which each word mostly announces the next."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np

from ray_darts.config import SearchConfig, load_config
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.streams import TextSet, TextStreams
from ray_darts.data.text.vocabulary import END, UNKNOWN, Vocabulary
from ray_darts.protocols.method import Order
from ray_darts.protocols.task import RunCoordinates
from ray_darts.search.loop import SearchLoop
from ray_darts.tasks.collectives import Collectives
from tests.data.texts import text_set
from tests.search.searches import CPU

NUM_WORDS = 12


def text_config(*overrides: str) -> SearchConfig:
    """Seven columns, which no two or three ranks share evenly; every dropout on; two epochs in float64."""
    settings = (
        "space.nodes=2",
        "space.embedding=5",
        "space.hidden=5",
        "space.dropout_output=0.25",
        "space.dropout_hidden=0.25",
        "space.dropout_cell_input=0.25",
        "space.dropout_embedded=0.2",
        "space.dropout_words=0.1",
        "data.bptt=6",
        "data.fraction=1",
        "data.evaluation_batch_size=4",
        "search.batch_size=7",
        "search.epochs=2",
        "search.alpha_warmup_epochs=0",
        "space.temporal_activation_regularisation=0.001",
        "search.precision=float64",
        "operation.agree_every_steps=2",
    )
    return load_config("sotu", overrides=(*settings, *overrides))


@cache
def language(num_train: int = 200, num_validation: int = 80) -> TextSet:
    """Word w is followed by 5w + 1 in three of four cases, else by any word."""
    draws = np.random.default_rng(0)
    words = [0]
    for follows, other in zip(
        draws.random(num_train + num_validation) < 0.75,
        draws.integers(NUM_WORDS, size=num_train + num_validation),
        strict=True,
    ):
        words.append(int((5 * words[-1] + 1) % NUM_WORDS if follows else other))
    tokens = np.asarray(words, np.int32)
    vocabulary = Vocabulary((UNKNOWN, END, *(f"w{number}" for number in range(NUM_WORDS - 2))))
    return text_set(tokens[:num_train], tokens[num_train:], vocabulary, digests={"data": "made up"})


def unigram_perplexity(data: TextSet) -> float:
    """Of the validation text, by the frequencies of the train text (each word counted once more)."""
    counts = np.bincount(data.tokens.train, minlength=len(data.vocabulary)) + 1.0
    return math.exp(-np.log(counts / counts.sum())[data.tokens.validation].mean())


def text_streams(config: SearchConfig, data: TextSet | None = None, seed: int = 0) -> TextStreams:
    """`data`, by default the made-up language, under the settings of `config`."""
    assert isinstance(config.data, Text)
    return replace(language() if data is None else data, settings=config.data).streams(config.search, seed)


def text_loop(
    config: SearchConfig, order: Order, collectives: Collectives, data: TextSet | None = None, seed: int = 0
) -> SearchLoop:
    """A search on the CPU."""
    return SearchLoop(
        config, RunCoordinates(seed=seed, order=order), text_streams(config, data, seed), collectives, CPU
    )
