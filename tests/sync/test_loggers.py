"""The real packages of TensorBoard, MLflow and Weights & Biases, offline: what a run was given is read back from each.

A run is given in two parts, and then again: nothing is there twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ray_darts.artifacts.open import open_store
from tests.cli.running import ray_darts
from tests.report.page.experiments import EXPERIMENT, advance, alphas_of, claimed, register, run_names, whole_run

pytestmark = [pytest.mark.loggers, pytest.mark.filterwarnings("default")]
"""What these packages warn of themselves is theirs."""

RUN = run_names(1)[0]
STEPS = [6, 12, 18, 24, 30]


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    """A store with a run that has done two of five epochs."""
    folder = tmp_path / "store"
    store = open_store(str(folder))
    register(store, [RUN])
    advance(claimed(store, RUN), alphas_of(0, 30), 12, 6, 30)
    return folder


def finish(folder: Path) -> None:
    whole_run(open_store(str(folder)), RUN, 0, session="7" * 32)


def synced(folder: Path, *to: str) -> int:
    ran = ray_darts("sync", EXPERIMENT, "--store", str(folder), "--to", *to, "--json")
    assert ran.code == 0, ran.stderr
    epochs: int = json.loads(ran.stdout)["epochs"]
    return epochs


def in_three_calls(folder: Path, *to: str) -> list[int]:
    """The epochs added by a call in the middle, one at the end, and one more."""
    first = synced(folder, *to)
    finish(folder)
    return [first, synced(folder, *to), synced(folder, *to)]


def test_tensorboard_reads_every_epoch_once(growing: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = tmp_path / "logs"
    assert in_three_calls(growing, "tensorboard", str(logs)) == [2, 3, 0]
    read = EventAccumulator(str(logs / EXPERIMENT / RUN), {"scalars": 0, "images": 0, "tensors": 0})
    read.Reload()
    losses = read.Scalars("train_loss")
    assert [(each.step, round(each.value, 4)) for each in losses] == [
        (step, round(2.0 / (number + 1), 4)) for number, step in enumerate(STEPS)
    ]
    assert [each.step for each in read.Scalars("normal.entropy")] == STEPS
    (final,) = read.Scalars("final/supernet_validation_accuracy")
    assert (final.step, round(final.value, 3)) == (30, 0.5)
    (image,) = read.Images("cell")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    (text,) = read.Tensors("genotype")
    assert json.loads(text.tensor_proto.string_val[0])["space"] == "convolutional"
    assert len(list((logs / EXPERIMENT / RUN).iterdir())) == 2
    hyper = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"search.epochs" in hyper


def test_a_torn_event_file_is_gone_on_from(growing: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    logs = tmp_path / "logs"
    assert synced(growing, "tensorboard", str(logs)) == 2
    (file,) = (logs / EXPERIMENT / RUN).iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    finish(growing)
    assert synced(growing, "tensorboard", str(logs)) == 4
    assert synced(growing, "tensorboard", str(logs)) == 0


def test_mlflow_reads_every_epoch_once(growing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # artifacts of a database lie in the working directory
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert in_three_calls(growing, "mlflow", uri) == [2, 3, 0]
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(each.step, round(each.value, 4)) for each in history] == [
        (step, round(2.0 / (number + 1), 4)) for number, step in enumerate(STEPS)
    ]
    assert (run.info.run_name, run.info.status) == (RUN, "FINISHED")
    assert run.data.metrics["final.supernet_validation_accuracy"] == 0.5
    assert (run.data.params["search.epochs"], run.data.params["run.order"]) == ("50", "first")
    assert {each.path for each in client.list_artifacts(run.info.run_id)} == {"genotype.json", "cell.svg"}


def test_wandb_offline_is_given_every_epoch_once(
    growing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "logs"))
    assert in_three_calls(growing, "wandb", "mine") == [2, 3, 0]
    folders = sorted((tmp_path / "logs" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    given = [record for folder in folders for record in records(next(folder.glob("*.wandb")))]
    steps = [each.history.step.num for each in given if each.WhichOneof("record_type") == "history"]
    assert steps == STEPS
    losses = [
        float(item.value_json)
        for each in given
        if each.WhichOneof("record_type") == "history"
        for item in each.history.item
        if item.key == "train_loss" or list(item.nested_key) == ["train_loss"]
    ]
    assert [round(loss, 4) for loss in losses] == [round(2.0 / (number + 1), 4) for number in range(5)]
    runs = [each.run for each in given if each.WhichOneof("record_type") == "run"]
    assert {(run.run_id[:-9], run.project) for run in runs} == {(f"{EXPERIMENT}-{RUN}", "mine")}
    assert len({run.run_id for run in runs}) == 1
    artifacts = [each.artifact for each in given if each.WhichOneof("record_type") == "artifact"]
    logged = [each.request.log_artifact.artifact for each in given if each.request.HasField("log_artifact")]
    assert [artifact.name[:-9] for artifact in (*artifacts, *logged)] == [f"cell-{EXPERIMENT}-{RUN}"]


def records(file: Path) -> list[Any]:
    """What an offline file of W&B holds: a log of LevelDB's form (blocks of 32 KiB) after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    internal: Any = wandb_internal_pb2
    data, place, found, begun = file.read_bytes(), 7, [], b""
    assert data.startswith(b":W&B")
    while place + 7 <= len(data):
        if 32_768 - place % 32_768 < 7:
            place += 32_768 - place % 32_768
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        begun += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = internal.Record()
            record.ParseFromString(begun)
            found.append(record)
            begun = b""
    return found
