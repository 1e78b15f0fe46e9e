"""Reading side by side: the order of results, the bound on readers and on what is read ahead, errors, and the end of a
command while a request is never answered."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from ray_darts.artifacts.concurrent_calls import call_concurrently

BOUND_S = 20.0


@pytest.mark.parametrize("number", [0, 1, 2, 50])
def test_results_come_in_the_order_of_the_items(number: int) -> None:
    assert list(call_concurrently(lambda n: n * n, range(number))) == [n * n for n in range(number)]


def test_as_many_are_read_at_a_time_as_are_allowed() -> None:
    meeting = threading.Barrier(5)
    list(call_concurrently(lambda n: meeting.wait(BOUND_S), range(15), 5))
    threads = set(call_concurrently(lambda n: threading.get_ident(), range(500), 5))
    assert len(threads) <= 5


def test_no_more_is_read_ahead_than_twice_the_readers() -> None:
    seen: list[int] = []
    results = call_concurrently(seen.append, range(1000), 3)
    for taken in range(1, 20):
        next(results)
        assert len(seen) <= taken - 1 + 6
    results.close()  # type: ignore[attr-defined]


def test_the_first_error_in_the_order_of_the_items_is_raised() -> None:
    later = threading.Event()

    def read(n: int) -> int:
        if n == 3:
            later.wait(BOUND_S)
            raise KeyError("third")
        if n == 5:
            later.set()
            raise ValueError("fifth")
        return n

    results = call_concurrently(read, range(100), 8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="third"):
        next(results)


def test_a_request_that_is_never_answered_does_not_keep_the_process() -> None:
    program = (
        "import threading\n"
        "from ray_darts.artifacts.concurrent_calls import call_concurrently\n"
        "results = call_concurrently(lambda n: n and threading.Event().wait(), range(9))\n"
        "print(next(results))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=BOUND_S)
    assert (ended.stdout, ended.returncode) == ("0\n", 0)
