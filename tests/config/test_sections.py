"""Each section's rules across fields, and its derived values."""

import pytest
from pydantic import ValidationError

from ray_darts.config import AlphaOptimiser, OperationSettings, SearchSettings, StoreSettings, WeightOptimiser
from ray_darts.data.images.dataset import Images
from ray_darts.data.text.dataset import Text
from ray_darts.protocols.settings import Settings
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.recurrent.space import RecurrentSpace


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        (ConvolutionalSpace, {"operations": ("none", "conv_7x7")}, "unknown conv_7x7; known are none, max_pool_3x3"),
        (ConvolutionalSpace, {"operations": ("skip_connect",) * 2}, "an operation is named twice"),
        (ConvolutionalSpace, {"operations": ("none", "skip_connect")}, "at least two operations besides none"),
        (ConvolutionalSpace, {"layers": 2}, "greater than or equal to 3"),
        (ConvolutionalSpace, {"channels": 0}, "greater than or equal to 2"),
        (ConvolutionalSpace, {"stem": "vgg"}, "'cifar' or 'imagenet'"),
        (
            RecurrentSpace,
            {"operations": ("none", "sep_conv_3x3", "tanh")},
            "unknown sep_conv_3x3; known are none, tanh",
        ),
        (RecurrentSpace, {"dropout_hidden": 1.0}, "less than 1"),
        (Images, {"source": "folder"}, "source 'folder' needs data.path"),
        (Images, {"source": "parquet"}, "source 'parquet' needs data.path"),
        (Images, {"mean": (0.5,)}, "mean and std are given together or not at all"),
        (Images, {"mean": (0.5,), "std": (0.5, 0.5)}, "1 means but 2 standard deviations"),
        (Images, {"mean": (0.5,), "std": (0.0,)}, "a standard deviation is not positive"),
        (Images, {"alpha_fraction": 1.0}, "less than 1"),
        (Images, {"image_size": 7}, "greater than or equal to 8"),
        (
            Images,
            {"source": "folder", "path": "/x", "endpoint_url": "https://s3.example.org"},
            "no effect on path '/x'",
        ),
        (Text, {"endpoint_url": "https://s3.example.org"}, "no effect on path None"),
        (
            Text,
            {"source": "files", "path": "s3://b?endpoint_override=a:9", "endpoint_url": "https://s3.example.org"},
            "the path names endpoint_override and endpoint_url is given",
        ),
        (Text, {"source": "wikitext-2"}, "source 'wikitext-2' needs data.path"),
        (Text, {"source": "files"}, "source 'files' needs data.path"),
        (WeightOptimiser, {"clip": None, "clip_virtual_step": True}, "clip_virtual_step needs clip"),
        (WeightOptimiser, {"learning_rate": 0.1, "learning_rate_min": 0.2}, "learning_rate_min 0.2 exceeds 0.1"),
        (WeightOptimiser, {"momentum": 1.0}, "less than 1"),
        (AlphaOptimiser, {"betas": (0.5, 1.0)}, "must lie in [0, 1)"),
        (SearchSettings, {"epochs": 3, "alpha_warmup_epochs": 3}, "leaves no epoch of 3 to search"),
        (SearchSettings, {"batch_size": 2, "accumulate": 3}, "accumulate 3 exceeds batch_size 2"),
        (SearchSettings, {"stop_on_skips": 0}, "greater than or equal to 1"),
        (OperationSettings, {"workers": "many"}, "workers 'many' is neither N nor MIN:MAX"),
        (OperationSettings, {"workers": "4:2"}, "at least 1, and MIN at most MAX"),
        (OperationSettings, {"workers": "-1"}, "at least 1"),
        (OperationSettings, {"workers": True}, "valid string"),
        (OperationSettings, {"max_hours": 0}, "greater than 0"),
        (StoreSettings, {"kms_key_id": "key"}, "kms_key_id needs encryption 'aws:kms'"),
        (StoreSettings, {"attempts": 0}, "greater than or equal to 1"),
    ],
)
def test_what_does_not_go_together_is_refused(
    section: type[Settings], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        section.model_validate(settings)
    assert message in str(refusal.value)


@pytest.mark.parametrize(("workers", "wanted"), [("3", (3, 3)), (3, (3, 3)), ("2:5", (2, 5))])
def test_workers_are_one_number_or_a_range(workers: object, wanted: tuple[int, int]) -> None:
    assert OperationSettings.model_validate({"workers": workers}).worker_range == wanted


def test_spaces_know_their_layouts() -> None:
    images, text = ConvolutionalSpace().layout(), RecurrentSpace().layout()
    assert [cell.shape for cell in images.cells] == [(14, 8), (14, 8)]
    assert [cell.shape for cell in text.cells] == [(36, 5)]
    small = ConvolutionalSpace(nodes=1, operations=("skip_connect", "sep_conv_3x3")).layout()
    assert small.num_alphas == 2 * 2 * 2


def test_the_store_section_has_no_place_for_a_credential() -> None:
    words = ("secret", "password", "token", "access")
    assert not [name for name in StoreSettings.model_fields if any(word in name for word in words)]


def test_settings_with_prices_can_be_hashed() -> None:
    first, same = (OperationSettings.model_validate({"prices": {"g5.xlarge": 1.0, "*": 2}}) for _ in range(2))
    assert (first, hash(first)) == (same, hash(same))
    assert hash(OperationSettings()) == hash(OperationSettings())
