from __future__ import annotations

import numpy as np
import pytest

from ray_darts.data.images.split import Split, stratified_split
from ray_darts.errors import DataError

LABELS = np.array(([0] * 40 + [1] * 20 + [2] * 10) * 2, np.int64)


def split_of(fraction: float = 1.0, alpha_fraction: float = 0.5, split_seed: int = 0, num_classes: int = 3) -> Split:
    return stratified_split(
        LABELS, num_classes, fraction=fraction, alpha_fraction=alpha_fraction, split_seed=split_seed
    )


def test_the_halves_are_disjoint_ascending_and_cover_all() -> None:
    split = split_of()
    assert sorted([*split.weight.tolist(), *split.alpha.tolist()]) == list(range(len(LABELS)))
    for half in (split.weight, split.alpha):
        assert np.all(np.diff(half) > 0)


@pytest.mark.parametrize(
    ("fraction", "alpha_fraction", "weight", "alpha"),
    [(1.0, 0.5, [40, 20, 10], [40, 20, 10]), (0.5, 0.25, [30, 15, 8], [10, 5, 2]), (1.0, 0.1, [72, 36, 18], [8, 4, 2])],
)
def test_each_class_is_split_by_the_fractions(
    fraction: float, alpha_fraction: float, weight: list[int], alpha: list[int]
) -> None:
    split = split_of(fraction, alpha_fraction)
    assert np.bincount(LABELS[split.weight]).tolist() == weight
    assert np.bincount(LABELS[split.alpha]).tolist() == alpha


def test_the_split_depends_on_its_seed_alone_and_its_digest_is_stable() -> None:
    assert split_of().digest() == split_of().digest()
    assert split_of(split_seed=1).digest() != split_of().digest()
    assert split_of().digest() == "61cac2f999ead731be7473cb6b5b446c017e103ddee03dc2abd9e4ad658c836f"


def test_the_digest_distinguishes_the_halves() -> None:
    one, two = np.array([0, 1], np.int64), np.array([2], np.int64)
    assert (
        len({Split(one, two).digest(), Split(two, one).digest(), Split(np.array([0]), np.array([1, 2])).digest()}) == 3
    )


@pytest.mark.parametrize(
    ("fraction", "alpha_fraction", "num_classes", "label", "half"),
    [(1.0, 0.02, 3, 2, "alpha"), (1.0, 0.99, 3, 1, "weight"), (0.01, 0.5, 3, 0, "alpha"), (1.0, 0.5, 4, 3, "alpha")],
)
def test_a_class_missing_in_a_half_is_an_error(
    fraction: float, alpha_fraction: float, num_classes: int, label: int, half: str
) -> None:
    with pytest.raises(DataError, match=f"class {label} has no sample in the {half} half") as caught:
        split_of(fraction, alpha_fraction, num_classes=num_classes)
    assert caught.value.facts == {"label": label, "half": half}
