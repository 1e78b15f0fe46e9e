"""Checkpoints: named arrays as safetensors beside a JSON state; nothing in them can be executed.

Knows how one is written and read back, not when it is made or which is the newest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ray_darts.artifacts.documents import canonical_json
from ray_darts.artifacts.keys import CheckpointKeys, RunKeys
from ray_darts.artifacts.objects import ObjectStore, get_checked, sha256
from ray_darts.artifacts.records import CheckpointRef, ObjectRef, Record
from ray_darts.errors import CorruptObject


@dataclass(frozen=True)
class Checkpoint:
    """The loop's whole state: arrays by name, and plain JSON-able data."""

    tensors: Mapping[str, NDArray[np.generic]]
    state: Mapping[str, object]


class EncodedCheckpoint(NamedTuple):
    """A checkpoint as bytes, and the reference that a record will hold."""

    ref: CheckpointRef
    tensors: bytes
    state: bytes


def encode_checkpoint(keys: CheckpointKeys, step: int, checkpoint: Checkpoint) -> EncodedCheckpoint:
    """Serialise under the given keys. Raises: ValueError when the state holds NaN or what JSON lacks."""
    tensors = save({name: np.asarray(array, order="C") for name, array in checkpoint.tensors.items()})
    state = canonical_json(dict(checkpoint.state))
    ref = CheckpointRef(
        step=step,
        tensors=ObjectRef(key=keys.tensors, sha256=sha256(tensors), num_bytes=len(tensors)),
        state=ObjectRef(key=keys.state, sha256=sha256(state), num_bytes=len(state)),
    )
    return EncodedCheckpoint(ref, tensors, state)


def checkpoints_of(records: Sequence[Record]) -> list[CheckpointRef]:
    """Each checkpoint that the records of a log name, the newest first."""
    found = {record.checkpoint.state.key: record.checkpoint for record in reversed(records) if record.checkpoint}
    return list(found.values())


def load_checkpoint(store: ObjectStore, keys: RunKeys, ref: CheckpointRef) -> Checkpoint:
    """Read what a record refers to. Raises: MissingObject, CorruptObject."""
    names = [keys.check_checkpoint(file.key) for file in (ref.tensors, ref.state)]
    if {name.step for name in names} != {ref.step}:
        raise CorruptObject(f"{ref.tensors.key} is no checkpoint of step {ref.step}", key=ref.tensors.key)
    try:
        tensors = load(get_checked(store, ref.tensors.key, ref.tensors.sha256))
        state = json.loads(get_checked(store, ref.state.key, ref.state.sha256))
    except (SafetensorError, ValueError) as error:
        key = ref.tensors.key
        raise CorruptObject(f"the checkpoint at {key} cannot be read: {error}", key=key) from error
    return Checkpoint(tensors, state)
