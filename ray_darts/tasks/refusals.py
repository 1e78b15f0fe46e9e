"""Turns errors of PyTorch that settings cause, and only a step can find, into ones that name the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray_darts.errors import ConfigError

_REFUSALS = {
    "more than 1 value per channel": (
        "the last cells have one value per channel, too few for batch norm: raise {section}.batch_size or "
        "data.image_size, or set another stem"
    ),
    "without overflow": (
        "a setting is beyond what float32 holds: lower weights.learning_rate (or weights.weight_decay)"
    ),
}
"""{words of PyTorch's error: what it means}"""


@contextmanager
def naming_settings(section: str) -> Iterator[None]:
    """Raise ConfigError for an error inside that settings cause; other errors pass through.

    `section`: of the config that says the size of a batch.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        for words, meaning in _REFUSALS.items():
            if words in str(error):
                raise ConfigError(meaning.format(section=section)) from error
        raise
