"""What each typed command records of itself: once, without a credential, beside the runs."""

from __future__ import annotations

import platform

import pytest
from pydantic import BaseModel

from ray_darts import __version__
from ray_darts.artifacts.descriptions import DataSummary
from ray_darts.artifacts.experiment import list_experiments, list_runs
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.sessions import SessionFacts, read_sessions, register_session
from ray_darts.config import load_config
from ray_darts.errors import ConfigError
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, RUN, register

DATA = DataSummary(classes=("a", "b"), samples=(3, 4), image_size=8, channels=1, mean=(0.5,), std=(0.25,))


class Settings(BaseModel):
    path: str = "s3://key:secret@bucket/data"
    urls: list[str] = ["http://user:word@host/x"]


def facts(session: str = "a" * 32) -> SessionFacts:
    return SessionFacts.of_this_process(session, ["ray-darts", "search", "--seeds", "2"], load_config("digits"), DATA)


def test_a_session_is_read_as_it_was_written() -> None:
    store = MemoryStore()
    written = facts()
    register_session(store, EXPERIMENT, written)
    register_session(store, EXPERIMENT, written)
    assert read_sessions(store, EXPERIMENT) == [written]
    assert list(store.objects) == [f"{EXPERIMENT}/sessions/{'a' * 32}.json"]


def test_it_has_the_words_the_resolved_config_and_the_packages() -> None:
    found = facts()
    assert found.argv == ("ray-darts", "search", "--seeds", "2")
    assert found.config["search"]["epochs"] == load_config("digits").search.epochs  # type: ignore[index, call-overload]
    assert found.packages["ray_darts"] == __version__
    assert {"torch", "ray", "numpy", "pyarrow", "boto3"} <= set(found.packages)
    assert found.python == platform.python_version()
    assert found.data == DATA


def test_no_credential_of_a_url_is_written() -> None:
    words = ["ray-darts", "--set", "data.path=s3://key:secret@bucket/data", "user@host"]
    found = SessionFacts.of_this_process("a", words, Settings())
    assert found.argv[2:] == ("data.path=s3://…@bucket/data", "user@host")
    assert found.config == {"path": "s3://…@bucket/data", "urls": ["http://…@host/x"]}


def test_another_command_does_not_take_a_sessions_name() -> None:
    store = MemoryStore()
    register_session(store, EXPERIMENT, facts())
    with pytest.raises(ConfigError, match="of another command"):
        register_session(store, EXPERIMENT, facts().model_copy(update={"argv": ("other",)}))


def test_sessions_are_in_the_order_in_which_they_began() -> None:
    store = MemoryStore()
    for session, began in (("a", "2026-02-01"), ("b", "2026-01-01")):
        register_session(store, EXPERIMENT, facts(session).model_copy(update={"started_at": began}))
    assert [each.session for each in read_sessions(store, EXPERIMENT)] == ["b", "a"]


def test_a_session_is_neither_a_run_nor_an_experiment() -> None:
    store = MemoryStore()
    register(store)
    register_session(store, EXPERIMENT, facts())
    assert (list_runs(store, EXPERIMENT), list_experiments(store)) == ([RUN], [EXPERIMENT])
    with pytest.raises(ConfigError, match="session"):
        ExperimentKeys(EXPERIMENT).session("../x")
