"""The test set is closed until a training's last step, recorded before it is read, and opened once."""

from __future__ import annotations

import pytest
from torch import Tensor

from ray_darts.errors import TestSetClosed
from ray_darts.protocols.dataset import TrainingData
from ray_darts.protocols.method import Progress
from ray_darts.training.loop import TrainingLoop
from tests.search.searches import Remembering
from tests.training.tiny import CPU, tiny_config, tiny_data, tiny_loop


def test_the_test_set_stays_closed_until_the_last_step() -> None:
    config = tiny_config("training.test=true", "data.test_fraction=0.2", "data.fraction=1", "training.batch_size=64")
    data = tiny_data(config)
    total = data.total_steps(3)
    for step in (0, total - 1):
        with pytest.raises(TestSetClosed, match=f"step {step} of {total}"):
            data.open_test(Progress(step, total, 0, 3))
    closed = tiny_data(tiny_config("data.test_fraction=0.2", "data.fraction=1", "training.batch_size=64"))
    with pytest.raises(TestSetClosed, match=r"training\.test is false"):
        closed.open_test(Progress(total, total, 3, 3))


class Watched:
    """Training data that remembers when its test set was opened."""

    def __init__(self, inner: TrainingData, events: list[str]) -> None:
        self._inner, self._events = inner, events
        self.opened: list[Progress] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def open_test(self, progress: Progress) -> object:
        """Open it, and remember."""
        self.opened.append(progress)
        self._events.append("opened")
        return self._inner.open_test(progress)


class Recording(Remembering):
    """A sink that remembers when it recorded an opening."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self._events = events

    def test_opened(self, digest: str) -> int:
        """Record it."""
        self._events.append("recorded")
        return super().test_opened(digest)


@pytest.mark.parametrize("tested", ["last", "best"])
def test_the_test_set_is_recorded_and_opened_once_at_the_end(tested: str) -> None:
    config = tiny_config(
        "training.test=true",
        "data.test_fraction=0.2",
        "data.fraction=0.2",
        f"training.tested={tested}",
        "training.batch_size=32",
        "weights.learning_rate=0.4",
        "weights.schedule=constant",
    )
    events: list[str] = []
    data, sink = Watched(tiny_data(config), events), Recording(events)
    loop = tiny_loop(config, data=data)  # type: ignore[arg-type]
    answer = loop.run(sink).answer
    assert answer is not None
    assert events == ["recorded", "opened"]
    assert [progress.step for progress in data.opened] == [loop.total_steps]
    assert sink.tests == [data.digests["data"]]  # type: ignore[index]
    assert answer["weights"] == tested
    test = answer["test"]
    assert isinstance(test, dict)
    assert test["openings"] == 1
    assert test["samples"] == 359
    assert answer["metric"]["name"] == "test_accuracy"  # type: ignore[index, call-overload]
    assert answer["metric"]["value"] == test["test_accuracy"]  # type: ignore[index, call-overload]
    assert answer["metric"]["ranking"] == "trained"  # type: ignore[index, call-overload]
    scores = {"last": scored(loop, None), "best": scored(loop, loop._best)}
    assert scores["last"] != scores["best"], "else the other weights would do"
    assert test["test_loss"] == pytest.approx(scores[tested], rel=1e-12)


def scored(loop: TrainingLoop, weights: tuple[Tensor, Tensor] | None) -> float:
    """The loss on the test set of these weights and statistics, or of the present ones."""
    opened = loop._data.open_test(Progress(loop.total_steps, loop.total_steps, 3, 3))
    assert opened is not None
    with loop.training.scored_weights(*(weights or ())):
        sums = loop._score(opened.batches(loop._collectives.shard, CPU))
    return loop.network.summarise(sums, "test")["test_loss"]


def test_a_training_without_a_test_set_answers_with_the_validation_of_its_weights() -> None:
    config = tiny_config("training.tested=best", "weights.learning_rate=0.4", "weights.schedule=constant")
    loop, sink = tiny_loop(config), Remembering()
    answer = loop.run(sink).answer
    assert answer is not None
    accuracies = [epoch.quality["validation_accuracy"] for epoch in sink.epochs]
    best_epoch = answer["best_epoch"]
    assert isinstance(best_epoch, int)
    assert accuracies[best_epoch] != accuracies[-1]
    assert answer["metric"]["value"] == accuracies[best_epoch]  # type: ignore[index, call-overload]
