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

_Result = TypeVar("_Result")


def until_settled(store: ObjectStore, key: str, attempt: Callable[[], _Result | None], missing: str) -> _Result:
    """Repeat `attempt`, which reads `key` and writes on that condition, until it returns a result; with random pauses.

    `attempt` returns None when another writer was first. `missing` names what a server lacks that lets nobody be first.
    Raises: StoreError naming the server and `missing` after ROUNDS attempts, which take 8 s beside the requests.
    """
    for number in range(ROUNDS):
        if number:
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**number)))
        result = attempt()
        if result is not None:
            return result
    raise StoreError(
        f"{store.server} refused {ROUNDS} writes of {key} in a row, each on the condition of what it had just "
        f"answered: {missing}. Run `ray-darts doctor --store {store.uri}`",
        key=key,
    )
