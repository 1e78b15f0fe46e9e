"""The presets shipped in the package, against the paper's protocol (arXiv:1806.09055, sections 3 and A)."""

import pytest

from ray_darts.config import load_config, preset_names, preset_text
from ray_darts.data.images.dataset import Images
from ray_darts.data.text.dataset import Text
from ray_darts.protocols.method import Progress
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.recurrent.space import RecurrentSpace


def test_the_shipped_presets() -> None:
    cifar10 = "cifar10 cifar10-deep cifar10-drnas cifar10-p-darts cifar10-single-cell cifar10-wide"
    names = f"{cifar10} digits imagenet nasbench201 nasbench201-digits ptb s1 s2 s3 s4 sotu"
    assert preset_names() == names.split()


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_says_what_it_is(name: str) -> None:
    assert load_config(name).digest()
    assert preset_text(name).startswith("# ")


@pytest.mark.parametrize("name", preset_names())
def test_no_preset_names_a_place(name: str) -> None:
    config = load_config(name)
    assert config.data.path in (None, "set-data.path-to-your-copy-of-imagenet")
    assert config.store.endpoint_url is None


def test_cifar10_is_the_papers_search() -> None:
    config = load_config("cifar10")
    assert isinstance(config.space, ConvolutionalSpace)
    assert isinstance(config.data, Images)
    assert (config.space.layers, config.space.channels, config.space.nodes) == (8, 16, 4)
    assert (config.search.epochs, config.search.batch_size, config.data.alpha_fraction) == (50, 64, 0.5)
    weights = config.weights
    assert (weights.learning_rate, weights.learning_rate_min, weights.schedule) == (0.025, 0.001, "cosine")
    assert (weights.momentum, weights.weight_decay, weights.clip) == (0.9, 3e-4, 5.0)
    assert not weights.clip_virtual_step
    alphas = config.alphas
    assert (alphas.learning_rate, alphas.betas, alphas.weight_decay) == (3e-4, (0.5, 0.999), 1e-3)
    assert (alphas.init, alphas.init_scale) == ("normal", 1e-3)
    assert (config.data.padding, config.data.flip) == (4, True)
    assert config.data.mean == (0.49139968, 0.48215827, 0.44653124)
    assert config.data.std == (0.24703233, 0.24348505, 0.26158768)
    assert (config.search.hessian, config.search.finite_difference_radius) == ("finite_difference", 0.01)


def test_the_staged_presets_are_those_of_their_papers() -> None:
    shrinking = load_config("cifar10-p-darts")
    stages = shrinking.filled_stages
    assert [(s.epochs, s.layers, s.operations_kept, s.skip_dropout, s.restart) for s in stages] == [
        (25, 5, None, 0.1, False),
        (25, 11, 5, 0.4, True),
        (25, 17, 3, 0.7, True),
    ]
    assert (shrinking.search.alpha_warmup_epochs, shrinking.search.batch_size) == (10, 96)
    drnas = load_config("cifar10-drnas")
    assert [(s.epochs, s.parts, s.operations_kept) for s in drnas.filled_stages] == [(25, 6, None), (25, 4, 4)]
    assert drnas.method.moves_alphas(Progress(0, 1, 10, 25))
    assert not drnas.method.moves_alphas(Progress(0, 1, 9, 25))
    assert "none" not in drnas.layout().cells[0].operations


def test_imagenet_is_the_search_of_pc_darts() -> None:
    config = load_config("imagenet")
    assert isinstance(config.data, Images)
    assert config.data.fraction * (1 - config.data.alpha_fraction) == pytest.approx(0.1)
    assert config.data.fraction * config.data.alpha_fraction == pytest.approx(0.025)
    assert [one.kind for one in config.data.augment] == ["random_resized_crop", "flip", "colour_jitter"]
    assert (config.search.epochs, config.search.batch_size, config.weights.learning_rate) == (50, 1024, 0.5)
    assert config.alphas.learning_rate == 6e-3
    assert [config.method.moves_alphas(Progress(0, 1, epoch, 50)) for epoch in (34, 35)] == [False, True]


def test_ptb_is_the_papers_search() -> None:
    config = load_config("ptb")
    space = config.space
    assert isinstance(space, RecurrentSpace)
    assert isinstance(config.data, Text)
    assert (space.nodes, space.embedding, space.hidden) == (8, 300, 300)
    dropouts = space.dropout_output, space.dropout_hidden, space.dropout_cell_input, space.dropout_embedded
    assert dropouts == (0.75, 0.25, 0.75, 0.2)
    assert (space.dropout_words, space.temporal_activation_regularisation, space.weight_range) == (0.0, 1e-3, 0.04)
    assert (config.search.epochs, config.search.batch_size, config.data.bptt) == (50, 256, 35)
    weights = config.weights
    assert (weights.learning_rate, weights.schedule, weights.momentum) == (20.0, "constant", 0.0)
    assert (weights.weight_decay, weights.clip, weights.clip_virtual_step) == (5e-7, 0.25, True)
    alphas = config.alphas
    assert (alphas.learning_rate, alphas.betas, alphas.weight_decay) == (3e-3, (0.9, 0.999), 1e-3)
    assert config.data.vocabulary_size == 10_000


def test_digits_are_never_flipped() -> None:
    config = load_config("digits")
    assert isinstance(config.data, Images)
    assert not config.data.flip
