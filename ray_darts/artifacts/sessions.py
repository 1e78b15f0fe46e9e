"""What each typed command records of itself: its words, its resolved config, its packages, the facts of its data.

One object per session under `<experiment>/sessions/`, written once. Nothing reads it to decide anything: it is for
people who want to repeat an experiment. Credentials inside URLs are left out.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import socket
from collections.abc import Sequence
from typing import Self, cast

from pydantic import BaseModel, JsonValue

from ray_darts import __version__
from ray_darts.artifacts.descriptions import DataSummary
from ray_darts.artifacts.documents import Document
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import ObjectStore, create
from ray_darts.artifacts.run_log import now_text
from ray_darts.errors import ConfigError

_PACKAGES = ("torch", "ray", "numpy", "pyarrow", "boto3")
_CREDENTIAL = re.compile(r"(?<=://)[^/\s@]+@")


class SessionFacts(Document):
    """One typed command. `config`: every setting, defaults included; `data`: null where it has no classes.

    `packages`: versions of those that are installed where the command ran; workers record theirs in each claim.
    """

    session: str
    argv: tuple[str, ...]
    started_at: str
    host: str
    python: str
    platform: str
    packages: dict[str, str]
    config: dict[str, JsonValue]
    data: DataSummary | None = None

    @classmethod
    def of_this_process(
        cls, session: str, argv: Sequence[str], config: BaseModel, data: DataSummary | None = None
    ) -> Self:
        """The facts of a command that starts now in this process; `session` is the uuid of its Owner."""
        return cls(
            session=session,
            argv=tuple(_masked_text(word) for word in argv),
            started_at=now_text(),
            host=socket.gethostname(),
            python=platform.python_version(),
            platform=platform.platform(),
            packages=dict(_versions()),
            config=cast(dict[str, JsonValue], _masked(config.model_dump(mode="json"))),
            data=data,
        )


def register_session(store: ObjectStore, experiment: str, session: SessionFacts) -> None:
    """Write a session's facts once; a repeated call with the same facts does nothing.

    Raises: ConfigError when another command has recorded a session of this name, StoreError.
    """
    key = ExperimentKeys(experiment).session(session.session)
    if create(store, key, session.to_bytes()) is not None:
        raise ConfigError(f"{key} is of another command: give each command a session of its own")


def read_sessions(store: ObjectStore, experiment: str) -> list[SessionFacts]:
    """The commands of an experiment that recorded themselves, oldest first. Raises: CorruptObject, StoreError."""
    keys = [entry.key for entry in store.list_objects(ExperimentKeys(experiment).sessions)]
    found = [SessionFacts.from_bytes(store.get(key).data, key) for key in keys]
    return sorted(found, key=lambda facts: (facts.started_at, facts.session))


def _versions() -> list[tuple[str, str]]:
    found = [("ray_darts", __version__)]
    for name in _PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _masked(value: JsonValue) -> JsonValue:
    """`value` with the user name and password of every URL replaced."""
    if isinstance(value, dict):
        return {name: _masked(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return _masked_text(value) if isinstance(value, str) else value


def _masked_text(text: str) -> str:
    return _CREDENTIAL.sub("…@", text)
