"""The presets of trainings shipped in the package, against the papers' protocols (arXiv:1806.09055, appendix A.2;
arXiv:2001.00326)."""

import pytest

from ray_darts.config import TrainingConfig, load_training_config, training_preset_names, training_preset_text
from ray_darts.data.images.dataset import Images
from ray_darts.data.text.dataset import Text
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.convolutional.space import NetworkOptions as ImageNetwork
from ray_darts.spaces.nasbench201.space import NetworkOptions as BenchmarkNetwork
from ray_darts.spaces.recurrent.space import NetworkOptions as TextNetwork

NAMES = ["cifar10", "cifar100", "digits", "imagenet", "nasbench201", "ptb", "sotu", "wikitext-2"]
ON_A_GPU = ["cifar10", "cifar100", "imagenet", "nasbench201", "ptb", "wikitext-2"]
TO_SET = ["cifar100", "imagenet", "wikitext-2"]
DROPOUTS = ("words", "embedded", "cell_input", "hidden", "output")


def test_the_shipped_presets() -> None:
    assert training_preset_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_valid_and_says_what_it_is(name: str) -> None:
    assert load_training_config(name).digest()
    about = " ".join(line.removeprefix("# ") for line in training_preset_text(name).split("\n\n")[0].splitlines())
    assert training_preset_text(name).startswith("# ")
    assert ("was not run as a whole here: it needs" in about) == (name in ON_A_GPU)
    assert "arXiv:" in about or name in ("digits", "sotu")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_names_no_place_but_one_that_says_what_to_set(name: str) -> None:
    config = load_training_config(name)
    assert config.data.path == (f"set-data.path-to-your-copy-of-{name}" if name in TO_SET else None)
    assert ("Set data.path to" in training_preset_text(name)) == (name in TO_SET)
    assert config.store.endpoint_url is None


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("cifar10", (10, 3, 32)),
        ("cifar100", (100, 3, 32)),
        ("imagenet", (1000, 3, 224)),
        ("nasbench201", (10, 3, 32)),
        ("ptb", (10_000, 0, 0)),
        ("wikitext-2", (33_278, 0, 0)),
    ],
)
def test_the_sizes_of_published_data_are_known_without_reading_them(name: str, facts: tuple[int, int, int]) -> None:
    known = load_training_config(name).data.facts_unread()
    assert known is not None
    assert DataFacts(*facts) == DataFacts(known.num_classes, known.channels, known.image_size)


def test_sizes_that_only_reading_shows_are_not_invented() -> None:
    for name in ("digits", "sotu"):
        assert load_training_config(name).data.facts_unread() is None
    assert Images(source="folder", path="x", image_size=32, channels=3).facts_unread() is None
    assert Images(source="folder", path="x", image_size=32, channels=3, classes=("a", "b")).facts_unread() is not None
    assert Text(source="files", path="x").facts_unread() is None
    small = Text(source="wikitext-2", path="x", vocabulary_size=500).facts_unread()
    assert small is not None
    assert small.num_classes == 500


def image_settings(config: TrainingConfig) -> tuple[ImageNetwork, Images]:
    assert isinstance(config.network, ImageNetwork)
    assert isinstance(config.data, Images)
    return config.network, config.data


def optimiser(config: TrainingConfig) -> tuple[object, ...]:
    weights = config.weights
    decay = weights.decay if weights.schedule == "exponential" else weights.learning_rate_min
    return weights.learning_rate, weights.schedule, decay, weights.momentum, weights.weight_decay, weights.clip


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_the_papers_evaluation(name: str) -> None:
    config = load_training_config(name)
    network, data = image_settings(config)
    training = config.training
    assert (network.layers, network.channels, network.stem) == (20, 36, "cifar")
    assert (training.epochs, training.batch_size) == (600, 96)
    assert optimiser(config) == (0.025, "cosine", 0.0, 0.9, 3e-4, 5.0)
    assert (training.auxiliary_weight, training.cutout, training.drop_path) == (0.4, 16, 0.2)
    assert (training.label_smoothing, training.tested, training.test) == (0.0, "last", True)
    assert (data.padding, data.flip) == (4, True)
    assert (training.hold_out, data.alpha_fraction) == (True, 0.1), "the departure that the preset names"


def test_cifar10_has_the_papers_normalisation() -> None:
    _, data = image_settings(load_training_config("cifar10"))
    assert data.mean == (0.49139968, 0.48215827, 0.44653124)
    assert data.std == (0.24703233, 0.24348505, 0.26158768)


def test_imagenet_is_the_papers_mobile_setting() -> None:
    config = load_training_config("imagenet")
    network, data = image_settings(config)
    training = config.training
    assert (network.layers, network.channels, network.stem) == (14, 48, "imagenet")
    assert (data.image_size, data.num_classes) == (224, 1000)
    crop, flip, jitter = (one.model_dump() for one in data.augment)
    assert crop == {"kind": "random_resized_crop", "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}
    assert flip == {"kind": "flip", "probability": 0.5}
    assert jitter == {"kind": "colour_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}
    assert (training.epochs, training.batch_size) == (250, 128)
    assert optimiser(config) == (0.1, "exponential", 0.97, 0.9, 3e-5, 5.0)
    assert (training.label_smoothing, training.auxiliary_weight, training.drop_path) == (0.1, 0.4, 0.0)
    assert "random resized crops are taken of those" in training_preset_text("imagenet")


def test_nasbench201_is_the_benchmarks_training() -> None:
    config = load_training_config("nasbench201")
    assert isinstance(config.network, BenchmarkNetwork)
    assert isinstance(config.data, Images)
    assert (config.network.channels, config.network.cells_per_stage) == (16, 5)
    assert (config.training.epochs, config.training.batch_size) == (200, 256)
    assert optimiser(config)[:5] == (0.1, "cosine", 0.0, 0.9, 5e-4)
    assert config.weights.nesterov
    assert config.weights.clip is not None
    assert config.weights.clip >= 1e9, "the benchmark does not clip"
    assert [round(255 * value, 4) for value in config.data.mean or ()] == [125.3, 123.0, 113.9]
    assert [round(255 * value, 4) for value in config.data.std or ()] == [63.0, 62.1, 66.7]


@pytest.mark.parametrize(
    ("name", "size", "hidden", "decay", "epochs"),
    [("ptb", 850, 0.25, 8e-7, 8000), ("wikitext-2", 700, 0.15, 5e-7, 3000)],
)
def test_texts_are_the_papers_evaluations(name: str, size: int, hidden: float, decay: float, epochs: int) -> None:
    config = load_training_config(name)
    network, data, training = config.network, config.data, config.training
    assert isinstance(network, TextNetwork)
    assert isinstance(data, Text)
    assert network.size == size
    assert [getattr(network, f"dropout_{place}") for place in DROPOUTS] == [0.1, 0.2, 0.75, hidden, 0.75]
    assert (network.temporal_activation_regularisation, network.weight_range) == (1e-3, 0.04)
    assert (data.bptt, data.evaluation_batch_size) == (35, 10)
    assert (training.epochs, training.batch_size) == (epochs, 64)
    assert optimiser(config) == (20.0, "constant", 0.0, 0.0, decay, 0.25)
    assert (training.average_after, training.tested, training.restores) == (5, "best", 3)


def test_the_small_text_has_no_dropout() -> None:
    network = load_training_config("sotu").network
    assert isinstance(network, TextNetwork)
    assert network.size == 64
    assert {getattr(network, f"dropout_{place}") for place in DROPOUTS} == {0.0}
