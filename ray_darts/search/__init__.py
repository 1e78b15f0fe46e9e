"""The search task: one loop for every space, method, order and world size. Knows no Ray and no store.

This package has the name of the API's function, so the module can be called: `ray_darts.search(...)` is
`ray_darts.api.search(...)`, which documents the parameters.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_darts.api import SearchResult


class _CallableModule(ModuleType):
    """A module that is called as a function; `__wrapped__` gives its signature to `inspect` and to notebooks."""

    @property
    def __wrapped__(self) -> Callable[..., SearchResult]:
        from ray_darts.api import search

        return search

    def __call__(self, *args: object, **kwargs: object) -> SearchResult:
        """Call `ray_darts.api.search`."""
        return self.__wrapped__(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
