"""The list of pictures that a search left out, as it is kept beside the runs."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.sources import ImageSource

SKIPPED = "skipped.json"


def skipped_document(source: ImageSource, rows: NDArray[np.int64]) -> str:
    """JSON of the rows and names of the pictures, the same wherever a machine has the data."""
    return json.dumps({"skipped": [{"row": row, "name": source.short_name(row)} for row in rows.tolist()]}, indent=1)
