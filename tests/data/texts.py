"""Word numbers as a data set, made by a test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.locations import S3Service
from ray_darts.data.text.dataset import Text
from ray_darts.data.text.streams import TextSet
from ray_darts.data.text.tokens import Tokens, text_digest
from ray_darts.data.text.vocabulary import Vocabulary


def text_set(
    train: NDArray[np.int32],
    validation: NDArray[np.int32],
    vocabulary: Vocabulary,
    settings: Text | None = None,
    digests: dict[str, str] | None = None,
    s3: S3Service | None = None,
) -> TextSet:
    held = train.nbytes + validation.nbytes
    tokens = Tokens(train, validation, vocabulary, text_digest(train, validation), held, held)
    return TextSet(tokens, digests or {}, settings or Text(), s3)
