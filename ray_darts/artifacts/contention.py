"""Repeats reading and conditional writing while other writers come first, a bounded number of times.

A server that refuses a condition which holds would otherwise be asked for ever. Knows no key and no content.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.errors import StoreError

ROUNDS = 12
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_MOST_DOUBLINGS = 16

_Result = TypeVar("_Result")


def random_pause_s(attempt: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait after attempt `attempt`, from 1: random, so that writers do not meet again, and growing."""
    return random.uniform(0, min(longest_s, first_s * 2 ** min(attempt, _MOST_DOUBLINGS)))


def until_settled(store: ObjectStore, key: str, attempt: Callable[[], _Result | None], needed: str) -> _Result:
    """Repeat `attempt`, which reads `key` and writes on that condition, until it returns a result; with random pauses.

    `attempt` returns None when another writer was first. `needed` says what the server must do for one to be first.
    Raises: StoreError naming the server and `needed` after ROUNDS attempts, which take 8 s beside the requests.
    """
    for number in range(ROUNDS):
        if number:
            time.sleep(random_pause_s(number, _FIRST_PAUSE_S, _LONGEST_PAUSE_S))
        result = attempt()
        if result is not None:
            return result
    raise StoreError(
        f"{ROUNDS} conditional writes of {key} failed, although each was made right after a read: "
        f"{store.server} {needed}. Run `ray-darts doctor --store {store.uri}`",
        key=key,
    )
