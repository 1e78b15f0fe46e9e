"""The list of pictures that a search left out, as it is kept beside the runs."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.sources import ImageSource

SKIPPED = "skipped.json"


def skipped_document(source: ImageSource, rows: NDArray[np.int64], path: str) -> str:
    """JSON of the rows and names of the pictures; names are below `path`, as machines may have it elsewhere."""
    names = [source.name(row).removeprefix(path).lstrip("/") for row in rows.tolist()]
    return json.dumps(
        {"skipped": [{"row": row, "name": name} for row, name in zip(rows.tolist(), names, strict=True)]}, indent=1
    )
