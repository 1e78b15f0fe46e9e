"""The cells that the paper and its code published, by name, in both spaces."""

from __future__ import annotations

from ray_darts.errors import GenotypeError
from ray_darts.genotype.darts_text import from_darts
from ray_darts.genotype.genotype import Genotype

_TEXTS = {
    "convolutional": {
        "DARTS_V1": """Genotype(
            normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
                    ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
            normal_concat=[2, 3, 4, 5],
            reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
                    ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)],
            reduce_concat=[2, 3, 4, 5])""",
        "DARTS_V2": """Genotype(
            normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
                    ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
            normal_concat=[2, 3, 4, 5],
            reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
                    ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
            reduce_concat=[2, 3, 4, 5])""",
    },
    "recurrent": {
        "DARTS_V1": """Genotype(
            recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3),
                       ('relu', 4), ('identity', 1), ('relu', 5), ('relu', 1)],
            concat=range(1, 9))""",
        "DARTS_V2": """Genotype(
            recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1),
                       ('tanh', 2), ('sigmoid', 5), ('tanh', 3), ('relu', 5)],
            concat=range(1, 9))""",
    },
}


def published_names() -> list[str]:
    """Names that `published` knows, the same in both spaces."""
    return sorted(_TEXTS["convolutional"])


def published(name: str, space: str) -> Genotype:
    """The published cell `name` of `space`. Raises: GenotypeError naming the known ones."""
    if space not in _TEXTS:
        raise GenotypeError(f"space {space!r} is unknown; known are {', '.join(_TEXTS)}")
    if name not in _TEXTS[space]:
        raise GenotypeError(f"no published genotype {name!r}; there are {', '.join(published_names())}")
    return from_darts(_TEXTS[space][name])
