"""Exports a model to deploy from a finished training in a store: reads the store, builds the network, writes a file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ray_darts.errors import ConfigError
from ray_darts.output_files import write_file

if TYPE_CHECKING:
    from pydantic import JsonValue

    from ray_darts.artifacts.objects import ObjectStore
    from ray_darts.artifacts.trained import TrainedRun, Which
    from ray_darts.config import StoreSettings
    from ray_darts.protocols.dataset import DataFacts
    from ray_darts.training.deploy import Program

SUFFIXES = (".pt2", ".onnx")
_ONNX_PACKAGE = "onnxscript"
_WEIGHTS: tuple[Which, ...] = ("last", "best")


@dataclass(frozen=True)
class ExportedModel:
    """The file that was written, and the JSON in it: what goes in and comes out, and where the weights come from."""

    path: Path
    about: Mapping[str, JsonValue]


def export_model(
    store: str | Path,
    experiment: str,
    output: str | Path,
    *,
    run: str | None = None,
    weights: str | None = None,
    settings: StoreSettings | Mapping[str, object] | None = None,
) -> ExportedModel:
    """Write a finished training as a model that runs without ray_darts.

    `output`: a file that ends in .pt2 (`torch.export.load` reads it), or in .onnx where onnxscript is installed.
    `run`: of the experiment, default the one with the best metric. `weights`: "last" or "best", default those that
    were tested. `settings`: how to reach the store. An image model takes float32 pixels in [0, 1], [N, C, H, W], and
    returns class scores [N, classes]; a text model is one time step.

    Raises: ConfigError; MissingObject when the experiment or run is not there or has not finished; GenotypeError when
    the space is not installed; StoreError.
    """
    from ray_darts.api import open_experiment

    check_output(Path(output), weights)
    opened = open_experiment(store, experiment, settings=settings)
    return export_from(opened.store, experiment, Path(output), run, weights)


def check_output(output: Path, weights: str | None) -> Which | None:
    """Check the arguments that need no store; returns which weights. Raises: ConfigError."""
    which = next((known for known in _WEIGHTS if known == weights), None)
    if weights is not None and which is None:
        raise ConfigError(f"weights {weights!r}: wanted {' or '.join(_WEIGHTS)}")
    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"output {output}: the known formats are {' and '.join(SUFFIXES)}, name a file that ends so")
    if suffix == ".onnx" and importlib.util.find_spec(_ONNX_PACKAGE) is None:
        raise ConfigError(
            f"output {output}: torch.onnx needs the package {_ONNX_PACKAGE}, which is not installed here: install it, "
            "or name a file that ends in .pt2"
        )
    return which


def export_from(
    store: ObjectStore, experiment: str, output: Path, run: str | None = None, weights: str | None = None
) -> ExportedModel:
    """As `export_model`, from an opened store."""
    from ray_darts.artifacts.trained import read_trained

    trained = read_trained(store, experiment, run, check_output(output, weights))
    program = _program(trained)

    from ray_darts.training.deploy import multiply_adds, onnx_bytes, pt2_bytes

    about = {**_origin(trained), **program.about(), "multiply_adds": multiply_adds(program)}
    make = onnx_bytes if output.suffix.lower() == ".onnx" else pt2_bytes
    write_file(output, make(program, about))
    return ExportedModel(output, about)


def _program(trained: TrainedRun) -> Program:
    """The network with its weights. Raises: GenotypeError, ConfigError, CorruptObject."""
    from ray_darts.protocols.dataset import DataFacts
    from ray_darts.protocols.settings import read_settings
    from ray_darts.spaces.genotypes import space_of
    from ray_darts.training.deploy import ImageProgram, TextProgram, trained_network

    genotype = trained.answer.architecture()
    section = trained.experiment.identity["network"]
    settings = read_settings(
        space_of(genotype).network_settings, section if isinstance(section, dict) else {}, "network"
    )
    parameters = trained.answer.parameters
    if trained.vocabulary is not None:
        from ray_darts.data.text.vocabulary import Vocabulary

        words = Vocabulary.from_json(trained.vocabulary).words
        return TextProgram(
            trained_network(genotype, settings, DataFacts(len(words)), trained.weights, parameters), words
        )
    facts = _image_facts(trained)
    return ImageProgram(trained_network(genotype, settings, facts, trained.weights, parameters), facts)


def _image_facts(trained: TrainedRun) -> DataFacts:
    from ray_darts.protocols.dataset import DataDescription, DataFacts

    data = trained.experiment.data
    if data is None:
        raise ConfigError(
            f"{trained.experiment.experiment!r} records neither the classes of its data nor a vocabulary: export knows "
            "images and text"
        )
    description = DataDescription(classes=data.classes, samples=data.samples, mean=data.mean, std=data.std)
    return DataFacts(len(data.classes), data.channels, data.image_size, description)


def _origin(trained: TrainedRun) -> dict[str, JsonValue]:
    """Where the model comes from. The test's scores are those of the tested weights, so they are left out of others."""
    import ray_darts

    answer, described = trained.answer, trained.experiment
    training = described.identity.get("training")
    validation = answer.validation.best if trained.which == "best" else answer.validation.last
    return {
        "schema_version": 1,
        "ray_darts": ray_darts.__version__,
        "experiment": described.experiment,
        "run": trained.run.run,
        "seed": trained.run.seed,
        "weights": trained.which,
        "weights_sha256": trained.weights_sha256,
        "epoch": trained.epoch,
        "averaged": answer.averaged and trained.which == "last",
        "genotype": answer.genotype,
        "network": described.identity["network"],
        "parameters": answer.parameters,
        "precision": training.get("precision") if isinstance(training, dict) else None,
        "data": described.identity.get("data"),
        "data_digests": dict(described.data_digests),
        "validation": None if validation is None else dict(validation),
        "test": answer.test if trained.which == answer.weights else None,
        "record_key": trained.record_key,
        "record_sha256": trained.record_sha256,
    }
