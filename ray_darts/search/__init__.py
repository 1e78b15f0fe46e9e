"""The search task: one loop for every space, method, order and world size. Knows no Ray and no store.

The package has the name of the API's function, and importing it hides that function in `ray_darts`. So the module can
be called, and `ray_darts.search(...)` means `ray_darts.api.search(...)` whether or not the package is imported.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_darts.api import SearchResult


class _CallableModule(ModuleType):
    def __call__(self, *args: object, **kwargs: object) -> SearchResult:
        """Call `ray_darts.api.search`, which documents the parameters."""
        from ray_darts.api import search

        return search(*args, **kwargs)  # type: ignore[arg-type]


sys.modules[__name__].__class__ = _CallableModule
