"""Turns a trained network into a program that runs without ray_darts: PyTorch's export format, or ONNX.

A program takes what a user has (pixels, or tokens and a hidden state) and returns class scores; a JSON text travels in
the file and says what goes in and comes out. Knows no store.
"""

from __future__ import annotations

import abc
import importlib.util
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor, nn

from ray_darts.errors import ConfigError, CorruptObject
from ray_darts.genotype.genotype import Genotype
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.space import NetworkSettings
from ray_darts.spaces.derived import DerivedNetwork
from ray_darts.tasks.counting import OperatorCounter
from ray_darts.tasks.meta_calls import plain_call
from ray_darts.training.build import network_of

ABOUT = "ray_darts.json"
"""Name of the JSON text in a .pt2 file (`extra_files`), and of the metadata of an .onnx file."""

_TRACED_SAMPLES = 2
_CHECKED_SAMPLES = (1, 3)
_ONNX_TOLERANCE = 1e-4
"""Largest difference to PyTorch that is accepted, relative to the largest score: ONNX Runtime uses other kernels."""


class Program(nn.Module, abc.ABC):
    """What is exported. `inputs`, `outputs`: names of the tensors, whose first dimension is any number N of samples."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init__(self, network: DerivedNetwork) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.dtype = next(network.parameters()).dtype

    @abc.abstractmethod
    def example(self, num_samples: int) -> tuple[Tensor, ...]:
        """Inputs of `num_samples` samples."""

    @abc.abstractmethod
    def about(self) -> dict[str, JsonValue]:
        """What the inputs and outputs are."""


class ImageProgram(Program):
    """float32 pixels in [0, 1], [N, C, H, W], to class scores [N, classes]; normalises the pixels itself."""

    inputs, outputs = ("images",), ("scores",)
    scale: Tensor
    offset: Tensor

    def __init__(self, network: DerivedNetwork, facts: DataFacts) -> None:
        super().__init__(network)
        self._facts = facts
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in _normalisation(facts))
        shape = (1, facts.channels, 1, 1)
        self.register_buffer("scale", (1 / std).to(self.dtype).view(shape))
        self.register_buffer("offset", (-mean / std).to(self.dtype).view(shape))

    def normalise(self, images_NCHW: Tensor) -> Tensor:
        """(pixels - mean) / std in the dtype of the weights, rounded twice, as the training's data."""
        return images_NCHW.to(self.dtype) * self.scale + self.offset

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Class scores [N, classes]."""
        return self.network.predict(self.normalise(images_NCHW), None)[0]

    def example(self, num_samples: int) -> tuple[Tensor, ...]:
        """Random pixels, the same at each call."""
        size = self._facts.image_size
        draws = torch.Generator().manual_seed(0)
        return (torch.rand(num_samples, self._facts.channels, size, size, generator=draws),)

    def about(self) -> dict[str, JsonValue]:
        """With the normalisation that the program does."""
        facts = self._facts
        mean, std = _normalisation(facts)
        size = facts.image_size
        return {
            "inputs": {"images": _tensor("float32", "N", facts.channels, size, size, means="pixels in [0, 1]")},
            "outputs": {"scores": _tensor(_name(self.dtype), "N", facts.num_classes, means="softmax: probabilities")},
            "classes": list(facts.description.classes),
            "channels": facts.channels,
            "image_size": size,
            "mean": list(mean),
            "std": list(std),
        }


class TextProgram(Program):
    """One time step: tokens int64 [N] and the hidden state [N, H] to scores [N, words] and the next hidden state."""

    inputs, outputs = ("tokens", "state"), ("scores", "next_state")

    def __init__(self, network: DerivedNetwork, words: tuple[str, ...]) -> None:
        super().__init__(network)
        self._words = words

    def forward(self, tokens_N: Tensor, state_NH: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the next words, and the hidden state after these."""
        scores, state = self.network.predict(tokens_N, state_NH)
        assert state is not None
        return scores, state

    def example(self, num_samples: int) -> tuple[Tensor, ...]:
        """The first words of the vocabulary, and the state at the start."""
        return torch.arange(num_samples) % len(self._words), self._start(num_samples)

    def about(self) -> dict[str, JsonValue]:
        """With the vocabulary, in the order of its numbers."""
        words, size, dtype = len(self._words), self._start(1).shape[1], _name(self.dtype)
        return {
            "inputs": {
                "tokens": _tensor("int64", "N", means="numbers of words in `vocabulary`"),
                "state": _tensor(dtype, "N", size, means="hidden state; zeros before the first word"),
            },
            "outputs": {
                "scores": _tensor(dtype, "N", words, means="of the next word; softmax: probabilities"),
                "next_state": _tensor(dtype, "N", size, means="`state` of the next step"),
            },
            "hidden_size": size,
            "vocabulary": list(self._words),
        }

    def _start(self, num_samples: int) -> Tensor:
        state = self.network.initial_carry(num_samples, torch.device("cpu"))
        if state is None:
            raise ConfigError(f"{type(self.network).__name__} cannot be exported as text: it has no hidden state")
        return state


def trained_network(
    genotype: Genotype,
    settings: NetworkSettings,
    facts: DataFacts,
    weights: Mapping[str, NDArray[np.generic]],
    num_parameters: int,
) -> DerivedNetwork:
    """The network of `genotype` on the CPU with `weights` ({name in its state_dict: array}), without parts that only
    training uses, in the weights' dtype.

    Raises: GenotypeError when its space is not installed; ConfigError; CorruptObject when the weights do not fit, or
    the network has not `num_parameters` parameters.
    """
    network = network_of(genotype, settings, facts, seed=0)
    if network.main_parameters != num_parameters:
        raise CorruptObject(f"the network has {network.main_parameters} parameters, the trained one {num_parameters}")
    names = {name for name, _ in network.named_parameters()}
    names |= {name for name, _ in network.named_buffers() if name.endswith(("running_mean", "running_var"))}
    missing = sorted(names - weights.keys())
    if missing:
        raise CorruptObject(f"the weights lack {len(missing)} tensors of the network, such as {missing[0]}")
    found = {name: torch.from_numpy(np.array(weights[name])) for name in sorted(names)}
    network.to(next(iter(found.values())).dtype)
    try:
        network.load_state_dict(found, strict=False)
    except RuntimeError as error:
        raise CorruptObject(f"the weights do not fit the network: {error}") from error
    return network


def multiply_adds(program: Program) -> int:
    """Of one sample: those of convolutions and matrix products."""
    counter = OperatorCounter(plain_call)
    with torch.no_grad(), counter:
        program(*program.example(1))
    return round(counter.flops / 2)


def traced(program: Program) -> torch.export.ExportedProgram:
    """The program as a graph of PyTorch's own operations, for any number of samples. Raises: ConfigError."""
    batch = torch.export.Dim("N", min=1)
    inputs = program.example(_TRACED_SAMPLES)
    try:
        with torch.no_grad():
            graph = torch.export.export(program, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)
    except RuntimeError as error:  # what torch.export raises are RuntimeErrors, of a plugin's operation as a rule
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(f"torch.export cannot trace this network: {type(error).__name__}: {first}") from error
    for node in graph.graph.nodes:  # these name files of this machine
        node.meta.pop("stack_trace", None)
    return graph


def pt2_bytes(program: Program, about: Mapping[str, JsonValue]) -> bytes:
    """A .pt2 file, to be read by `torch.export.load`; `about` as JSON is its extra file `ray_darts.json`."""
    buffer = io.BytesIO()
    torch.export.save(traced(program), buffer, extra_files={ABOUT: about_text(about)})
    return buffer.getvalue()


def onnx_bytes(program: Program, about: Mapping[str, JsonValue]) -> bytes:
    """An .onnx file; `about` as JSON is its metadata `ray_darts.json`. Needs onnxscript.

    Compared with PyTorch where onnxruntime is installed. Raises: ConfigError where the scores differ.
    """
    graph = traced(program)
    exported: Any = torch.onnx.export(
        graph, input_names=program.inputs, output_names=program.outputs, dynamo=True, verbose=False
    )
    model = exported.model_proto
    model.metadata_props.add(key=ABOUT, value=about_text(about))
    data: bytes = model.SerializeToString()
    if importlib.util.find_spec("onnxruntime") is not None:
        _check_onnx(program, data)
    return data


def _check_onnx(program: Program, data: bytes) -> None:
    import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for num_samples in _CHECKED_SAMPLES:
        inputs = program.example(num_samples)
        with torch.no_grad():
            wanted = program(*inputs)
        arrays = {name: tensor.numpy() for name, tensor in zip(program.inputs, inputs, strict=True)}
        scores = torch.from_numpy(session.run(list(program.outputs), arrays)[0])
        reference: Tensor = wanted if isinstance(wanted, Tensor) else wanted[0]
        difference = float((scores - reference).abs().max()) / max(float(reference.abs().max()), 1.0)
        if not difference <= _ONNX_TOLERANCE:
            raise ConfigError(
                f"the scores of ONNX Runtime differ from PyTorch's by {difference:.1e} of the largest, at most "
                f"{_ONNX_TOLERANCE:g} is accepted: name a file that ends in .pt2"
            )


def about_text(about: Mapping[str, JsonValue]) -> str:
    """The JSON text that travels in the file."""
    return json.dumps(about, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)


def _normalisation(facts: DataFacts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return facts.description.mean, facts.description.std


def _tensor(dtype: str, *shape: str | int, means: str) -> dict[str, JsonValue]:
    return {"dtype": dtype, "shape": list(shape), "means": means}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
