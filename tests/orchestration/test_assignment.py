import socket

import pytest

from ray_darts.errors import (
    ClusterError,
    ConfigError,
    CorruptObject,
    DataError,
    GenotypeError,
    NonFiniteAlphas,
    RankFailed,
    RunFailed,
    RunFinished,
    StoreDenied,
    StoreUnavailable,
    Superseded,
)
from ray_darts.orchestration.assignment import Assignment, RunOutcome, outcome_of


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RunFinished("done", step=3), "finished"),
        (RunFailed("NaN", step=3), "failed"),
        (Superseded("newer"), "superseded"),
        (StoreUnavailable("silent"), "store_given_up"),
        (StoreDenied("403"), "refused"),
        (CorruptObject("hash"), "error"),
        (DataError("missing"), "refused"),
        (ConfigError("no"), "refused"),
        (GenotypeError("no cell"), "refused"),
        (NonFiniteAlphas("NaN"), "error"),
        (RankFailed("rank 1"), "error"),
        (RankFailed("rank 1", rank=1, kind="refused"), "refused"),
        (RankFailed("rank 1", rank=1, kind="great"), "error"),
        (ClusterError("Ray"), "refused"),
        (ValueError("a mistake of ours"), "error"),
    ],
)
def test_every_error_has_one_outcome(error: Exception, kind: str) -> None:
    assert outcome_of(error).kind == kind


def test_an_ended_run_keeps_its_step() -> None:
    assert outcome_of(RunFinished("done", step=3)).step == 3
    assert outcome_of(RunFailed("NaN", step=7)) == RunOutcome("failed", "NaN", 7)


def test_an_outcome_travels_as_plain_data() -> None:
    outcome = RunOutcome("superseded", "by a newer command", 12)
    assert RunOutcome.from_plain(outcome.to_plain()) == outcome


@pytest.mark.parametrize("plain", [{}, {"kind": "great", "detail": "", "step": 0}, {"kind": "finished", "detail": 1}])
def test_what_is_no_outcome_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is no outcome"):
        RunOutcome.from_plain(plain)


def test_an_assignment_that_a_node_cannot_read_is_a_config_error_that_names_the_field() -> None:
    with pytest.raises(ConfigError, match=r"cannot use the assignment(.|\n)*order(.|\n)*on every node"):
        Assignment.from_plain({"order": "third"})


def test_a_plugin_that_a_worker_lacks_is_named_with_the_host() -> None:
    with pytest.raises(ConfigError, match=rf"(?s){socket.gethostname()}.*plugin 'absent_plugin' is not installed"):
        Assignment.from_plain({"config": {"plugins": ["absent_plugin"]}})
