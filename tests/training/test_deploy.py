"""What is exported of a training: a program whose scores are the trained network's, and which needs no ray_darts."""

from __future__ import annotations

import io
import json
import operator
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ray_darts.data.batch import Batch, Draws, Shard
from ray_darts.errors import ConfigError, CorruptObject
from ray_darts.protocols.dataset import DataDescription, DataFacts
from ray_darts.spaces.classification import ClassifyingNetwork
from ray_darts.spaces.convolutional.network import ConvolutionalNetwork
from ray_darts.spaces.convolutional.space import NetworkOptions
from ray_darts.spaces.genotypes import published
from ray_darts.training.deploy import (
    ABOUT,
    ImageProgram,
    TextProgram,
    multiply_adds,
    onnx_bytes,
    traced,
    trained_network,
)
from tests.search.searches import CPU
from tests.training import deployed

IMAGES = ("convolutional", "nasbench201")
SPACES = (*IMAGES, "recurrent")
NUM_SAMPLES = (1, 2, 5)

WITHOUT_US = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray_darts":
            raise ImportError(f"{name} is refused")

sys.meta_path.insert(0, Refuse())
import torch

torch.set_num_threads(1)  # as in the process that wrote the file: sums over several threads round otherwise
for file in sys.argv[1:]:
    program = torch.export.load(file + ".pt2").module()
    inputs, wanted = torch.load(file + ".pt")
    for sample, scores in zip(inputs, wanted, strict=True):
        found = program(*sample)
        assert torch.equal(found if isinstance(found, torch.Tensor) else found[0], scores), file
assert not [name for name in sys.modules if name.startswith("ray_darts")]
print("equal")
"""

trained = cache(deployed.train)


@pytest.mark.parametrize("kind", IMAGES)
def test_the_scores_of_images_are_those_of_the_trained_network_bit_for_bit(kind: str) -> None:
    run = trained(kind)
    network, program, exported = run.loop.network.eval(), run.program, run.exported
    assert isinstance(network, ClassifyingNetwork)
    assert isinstance(program, ImageProgram)
    for num_samples in NUM_SAMPLES:
        (images,) = program.example(num_samples)
        with torch.no_grad():
            normalised = program.normalise(images)
            labels, draws = torch.zeros(num_samples, dtype=torch.int64), Draws(0, "", 0, 0, num_samples, num_samples)
            wanted = network.score(Batch(normalised, labels, draws), 0.0).final
            scores = exported(images)
            loss = network.evaluate(Batch(normalised, labels, draws), None).loss
        assert torch.equal(scores, wanted)
        assert torch.equal(F.cross_entropy(scores, labels, reduction="sum") / num_samples, loss)


@pytest.mark.parametrize("kind", IMAGES)
def test_pixels_of_the_validation_part_give_the_reported_validation(kind: str) -> None:
    run = trained(kind)
    exported, facts = run.exported, run.data.facts.description
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (facts.mean, facts.std))
    loss, correct, total = 0.0, 0, 0
    for batch in run.data.validation_batches(Shard(), CPU):
        pixels = ((batch.inputs * std + mean) * 255).round() / 255
        with torch.no_grad():
            scores = exported(pixels)
        loss += float(F.cross_entropy(scores, batch.targets, reduction="sum"))
        correct += int((scores.argmax(1) == batch.targets).sum())
        total += batch.num_samples
    reported = run.answer["validation"]["last"]
    assert correct / total == reported["validation_accuracy"]
    # u / 255 is rounded before it is normalised, a training normalises u itself: a few units in the last place
    assert loss / total == pytest.approx(reported["validation_loss"], rel=1e-5)


def test_steps_of_text_give_the_reported_validation() -> None:
    run = trained("recurrent")
    exported = run.exported
    loss, total = 0.0, 0
    state = torch.empty(0)
    for batch in run.data.validation_batches(Shard(), CPU):
        if batch.starts_epoch:
            state = torch.zeros(batch.num_samples, 6)
        for tokens, targets in zip(batch.inputs, batch.targets, strict=True):
            with torch.no_grad():
                scores, state = exported(tokens, state)
            loss += float(F.cross_entropy(scores, targets, reduction="sum"))
            total += len(targets)
    # products over one time step are rounded otherwise than those over a whole window
    assert loss / total == pytest.approx(run.answer["validation"]["last"]["validation_loss"], rel=1e-6)


@pytest.mark.parametrize("num_samples", NUM_SAMPLES)
def test_a_step_of_text_takes_any_number_of_columns(num_samples: int) -> None:
    run = trained("recurrent")
    tokens, start = run.program.example(num_samples)
    with torch.no_grad():
        scores, state = run.exported(tokens, start)
        wanted, wanted_state = run.loop.network.eval().predict(tokens, start)
    assert torch.equal(scores, wanted)
    assert wanted_state is not None
    assert torch.equal(state, wanted_state)
    assert state.shape == start.shape


@pytest.mark.parametrize("kind", SPACES)
def test_the_graph_has_operators_of_pytorch_only_and_no_paths(kind: str) -> None:
    run = trained(kind)
    called = [node.target for node in run.graph.graph.nodes if node.op == "call_function"]
    assert called
    others = [target for target in called if getattr(target, "namespace", "") != "aten"]
    assert set(others) <= {operator.getitem}, "getitem takes one tensor of an operator's list"
    assert str(Path(__file__).parents[2]).encode() not in run.file


@pytest.mark.parametrize("kind", SPACES)
def test_the_weights_in_the_file_are_those_of_the_training(kind: str) -> None:
    run = trained(kind)
    tensors = run.graph.state_dict
    found = {name.removeprefix("network."): tensor for name, tensor in tensors.items() if name.startswith("network.")}
    assert found.keys() == run.weights.keys()
    for name, tensor in found.items():
        assert np.array_equal(tensor.numpy(), run.weights[name]), name


def test_the_file_says_what_goes_in_and_comes_out() -> None:
    about = {}
    for kind in SPACES:
        texts = {ABOUT: ""}
        torch.export.load(io.BytesIO(trained(kind).file), extra_files=texts)
        about[kind] = json.loads(texts[ABOUT])
    images, text = about["convolutional"], about["recurrent"]
    assert images["inputs"]["images"]["shape"] == ["N", 1, 8, 8]
    assert images["outputs"]["scores"]["shape"] == ["N", 10]
    assert images["classes"] == [str(digit) for digit in range(10)]
    assert images["mean"] == list(trained("convolutional").data.facts.description.mean)
    assert text["inputs"]["state"] == {
        "dtype": "float32",
        "shape": ["N", 6],
        "means": "hidden state; zeros before the first word",
    }
    assert text["vocabulary"][:3] == ["<unk>", "<eos>", "w0"]
    assert text["hidden_size"] == 6


def test_the_programs_run_where_ray_darts_cannot_be_imported(tmp_path: Path) -> None:
    files = []
    for kind in SPACES:
        run = trained(kind)
        file = tmp_path / kind
        file.with_suffix(".pt2").write_bytes(run.file)
        inputs = [run.program.example(num_samples) for num_samples in NUM_SAMPLES]
        with torch.no_grad():
            scores = [deployed.first(run.program(*sample)) for sample in inputs]
        torch.save((inputs, scores), file.with_suffix(".pt"))
        files.append(str(file))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, *files], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("equal\n", 0), done.stderr


def test_the_head_of_training_is_left_out() -> None:
    facts = DataFacts(10, 3, 32, DataDescription(mean=(0.5,) * 3, std=(0.25,) * 3))
    options = NetworkOptions(layers=3, channels=2, auxiliary=True)
    genotype = published("DARTS_V2", "convolutional")
    whole = ConvolutionalNetwork(genotype, facts, options)
    weights = {name: tensor.numpy() for name, tensor in whole.state_dict().items()}
    assert any(name.startswith("auxiliary.") for name in weights)
    network = trained_network(genotype, options, facts, weights, whole.main_parameters)
    kept = network.state_dict()
    assert kept.keys() == {name for name in weights if not name.startswith("auxiliary.")}
    assert all(np.array_equal(tensor.numpy(), weights[name]) for name, tensor in kept.items())


def test_weights_that_do_not_fit_are_refused() -> None:
    run = trained("convolutional")
    name = "classifier.weight"
    fewer = {key: array for key, array in run.weights.items() if key != name}
    other = {**run.weights, name: run.weights[name][:, :-1]}
    with pytest.raises(CorruptObject, match=r"lack 1 tensors of the network, such as classifier\.weight"):
        deployed.program_of(run.config, run.genotype, run.data, fewer, run.answer["parameters"])
    with pytest.raises(CorruptObject, match="do not fit the network"):
        deployed.program_of(run.config, run.genotype, run.data, other, run.answer["parameters"])
    with pytest.raises(CorruptObject, match=f"has {run.answer['parameters']} parameters, the trained one 7"):
        deployed.program_of(run.config, run.genotype, run.data, run.weights, 7)


def test_weights_in_float64_stay_float64() -> None:
    run = trained("nasbench201")
    wide = {name: array.astype(np.float64) for name, array in run.weights.items()}
    program = deployed.program_of(run.config, run.genotype, run.data, wide, run.answer["parameters"])
    (images,) = program.example(2)
    with torch.no_grad():
        scores, narrow = program(images), run.program(images)
    assert scores.dtype == torch.float64
    assert program.about()["outputs"] != run.program.about()["outputs"]
    assert torch.allclose(scores.float(), narrow, atol=1e-4)


def test_multiply_adds_are_counted_by_hand_for_a_step_of_text() -> None:
    # one row: embedding + state into 2 x 6, eight nodes of 6 into 12, and the 12 words of the decoder
    assert multiply_adds(trained("recurrent").program) == 12 * 12 + 8 * 6 * 12 + 6 * 12


def test_a_network_that_depends_on_the_number_of_samples_is_refused_in_one_line() -> None:
    class Fixed(TextProgram):
        def forward(self, tokens_N: torch.Tensor, state_NH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return super().forward(tokens_N, state_NH + torch.zeros(2, 1))

    run = trained("recurrent")
    with pytest.raises(ConfigError, match=r"^torch\.export cannot trace this network: [^\n]*$"):
        traced(Fixed(run.program.network, ("a", "b")))


def test_an_onnx_file_gives_the_scores_of_pytorch() -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    for kind in SPACES:
        run = trained(kind)
        session = onnxruntime.InferenceSession(onnx_bytes(run.program, run.program.about()))
        inputs = run.program.example(5)
        arrays = {name: tensor.numpy() for name, tensor in zip(run.program.inputs, inputs, strict=True)}
        scores = session.run(None, arrays)[0]
        assert np.allclose(scores, deployed.first(run.program(*inputs)).numpy(), atol=1e-4)
        assert json.loads(session.get_modelmeta().custom_metadata_map[ABOUT]) == run.program.about()
