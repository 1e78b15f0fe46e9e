import pytest

from ray_darts.errors import (
    ClusterError,
    ConfigError,
    CorruptObject,
    DataError,
    RankFailed,
    RunFailed,
    RunFinished,
    StoreDenied,
    StoreUnavailable,
    Superseded,
)
from ray_darts.orchestration.outcome import Outcome, exit_code, outcome_of


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], 0),
        (["finished", "finished"], 0),
        (["finished", "failed"], 1),
        (["finished", "error"], 1),
        (["lost"], 1),
        (["failed", "store_given_up"], 75),
        (["store_given_up", "superseded", "failed"], 76),
        (["superseded", "interrupted"], 130),
        (["time_limit", "failed"], 130),
    ],
)
def test_exit_code_tells_what_to_do_about_the_worst(kinds: list[str], code: int) -> None:
    outcomes = [Outcome.from_plain({"kind": kind, "detail": "", "step": 0}) for kind in kinds]
    assert exit_code(outcomes) == code


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RunFinished("done", step=3), "finished"),
        (RunFailed("NaN", step=3), "failed"),
        (Superseded("newer"), "superseded"),
        (StoreUnavailable("silent"), "store_given_up"),
        (StoreDenied("403"), "error"),
        (CorruptObject("hash"), "error"),
        (DataError("missing"), "error"),
        (ConfigError("no"), "error"),
        (RankFailed("rank 1"), "error"),
        (ClusterError("Ray"), "error"),
        (ValueError("a mistake of ours"), "error"),
    ],
)
def test_every_error_has_one_outcome(error: Exception, kind: str) -> None:
    assert outcome_of(error).kind == kind


def test_an_ended_run_keeps_its_step() -> None:
    assert outcome_of(RunFinished("done", step=3)).step == 3
    assert outcome_of(RunFailed("NaN", step=7)) == Outcome("failed", "NaN", 7)


def test_an_outcome_travels_as_plain_data() -> None:
    outcome = Outcome("superseded", "by a newer command", 12)
    assert Outcome.from_plain(outcome.to_plain()) == outcome


@pytest.mark.parametrize("plain", [{}, {"kind": "great", "detail": "", "step": 0}, {"kind": "finished", "detail": 1}])
def test_what_is_no_outcome_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is no outcome"):
        Outcome.from_plain(plain)
