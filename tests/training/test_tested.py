"""The test set is closed until a training's last step, recorded before it is read, and opened once."""

from __future__ import annotations

import pytest

from ray_darts.errors import TestSetClosed
from ray_darts.protocols.dataset import TrainingData
from ray_darts.protocols.method import Progress
from tests.search.searches import Remembering
from tests.training.tiny import tiny_config, tiny_data, tiny_loop


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

    def __init__(self, inner: TrainingData) -> None:
        self._inner = inner
        self.opened: list[Progress] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def open_test(self, progress: Progress) -> object:
        """Open it, and remember."""
        self.opened.append(progress)
        return self._inner.open_test(progress)


@pytest.mark.parametrize("tested", ["last", "best"])
def test_the_test_set_is_recorded_and_opened_once_at_the_end(tested: str) -> None:
    config = tiny_config(
        "training.test=true",
        "data.test_fraction=0.2",
        "data.fraction=0.2",
        f"training.tested={tested}",
        "training.batch_size=32",
    )
    data, sink = Watched(tiny_data(config)), Remembering()
    loop = tiny_loop(config, data=data)  # type: ignore[arg-type]
    answer = loop.run(sink).answer
    assert answer is not None
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
