"""Lost machines and lost processes are counted apart, and what comes to nothing again and again ends."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError
from ray.train.v2.api.preemption import PreemptionInfo

from ray_darts.artifacts.records import EndKind
from ray_darts.errors import RankLost
from ray_darts.orchestration import restarts
from ray_darts.orchestration.ray_internals import FailureDecision
from ray_darts.orchestration.resources import answers, living_nodes
from ray_darts.orchestration.restarts import Members, RestartLimits, RestartPolicy, kind_of_loss
from ray_darts.orchestration.starts import RunStarts
from tests.orchestration.key_values import key_values

LIMITS = RestartLimits(failures=2, preemptions=None, idle_preemptions=3, failed_starts=1)
RETRY, RAISE = FailureDecision.RETRY, FailureDecision.RAISE


class Machines:
    """What Ray says of two workers on two machines, and a clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.living, self.dead_actors, self.silent = {"n0", "n1"}, set[str](), set[str]()
        self.now, self.then = 0.0, dict[float, Callable[[], object]]()

    def nodes(self) -> list[dict[str, object]]:
        return [{"NodeID": node} for node in self.living]

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [moment for moment in self.then if moment <= self.now]:
            self.then.pop(moment)()


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterable[Machines]:
    there = Machines()
    key_values(monkeypatch)
    monkeypatch.setattr(restarts, "living_nodes", there.nodes)
    monkeypatch.setattr(restarts, "answers", lambda node: node["NodeID"] not in there.silent)
    monkeypatch.setattr(restarts, "has_died", lambda actor: actor in there.dead_actors)
    monkeypatch.setattr(restarts, "read_stop_request", lambda session: None)
    monkeypatch.setattr(restarts, "time", SimpleNamespace(monotonic=lambda: there.now, sleep=there.sleep))
    Members().after_worker_group_start(workers("a0", "a1"))  # type: ignore[arg-type]
    yield there
    restarts._members.clear()


def workers(*actors: str) -> object:
    """A worker group with an actor on each of the machines n0, n1, …"""
    members = [
        SimpleNamespace(
            actor=SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda actor=actor: actor)),
            metadata=SimpleNamespace(node_id=f"n{number}"),
        )
        for number, actor in enumerate(actors)
    ]
    return SimpleNamespace(get_workers=lambda: members)


def died(failure: Exception | None = None) -> Exception:
    return WorkerHealthCheckFailedError("a worker died", failure or ActorDiedError())


def raised(error: Exception) -> Exception:
    return UserExceptionWithTraceback(error, "a traceback")


def group(*errors: Exception) -> WorkerGroupError:
    return WorkerGroupError("some ranks", dict(enumerate(errors or (raised(RankLost("a collective broke")),))))


def announced() -> PreemptionError:
    return PreemptionError(PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"n0": [0]}))


@pytest.mark.parametrize(
    "errors",
    [
        [died(OutOfMemoryError("the node ran low on memory"))],  # type: ignore[no-untyped-call]
        [raised(torch.AcceleratorError("an illegal memory access"))],
        [raised(RankLost("a collective broke")), died(OutOfMemoryError("low"))],  # type: ignore[no-untyped-call]
    ],
    ids=["out of memory", "broken device", "a peer out of memory"],
)
def test_memory_and_devices_are_ends_of_a_starts_own(errors: list[Exception], machines: Machines) -> None:
    machines.living.clear()
    assert kind_of_loss(group(*errors)) == "itself"


def test_a_worker_that_died_on_a_living_machine_is_a_lost_process(machines: Machines) -> None:
    machines.dead_actors.add("a0")
    assert kind_of_loss(group(died())) == "process"
    assert machines.now < 5, "a restart does not wait for health checks whose answer is known"


@pytest.mark.parametrize("silent", ["n1", "n0"], ids=["its own", "another's, of which it ended"])
def test_a_machine_that_does_not_answer_when_a_worker_has_died_is_lost(silent: str, machines: Machines) -> None:
    """Ray counts it among the living for some time yet."""
    machines.dead_actors.add("a1")
    machines.silent.add(silent)
    assert kind_of_loss(group(died())) == "node"
    assert machines.now < 5


@pytest.mark.usefixtures("ray_cluster")
def test_a_machine_answers_while_rays_process_on_it_lives() -> None:
    nodes = living_nodes()
    assert nodes
    assert all(map(answers, nodes))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        assert not answers({"NodeManagerAddress": "127.0.0.1", "NodeManagerPort": taken.getsockname()[1]})


@pytest.mark.parametrize("error", [died(), died(NodeDiedError("it died")), raised(RankLost("broke"))])  # type: ignore[no-untyped-call]
def test_a_machine_that_is_gone_is_a_lost_machine(error: Exception, machines: Machines) -> None:
    machines.living.remove("n1")
    machines.dead_actors.add("a1")
    assert kind_of_loss(group(error)) == "node"


def test_a_machine_whose_loss_ray_sees_late_is_waited_for(machines: Machines) -> None:
    machines.then[20.0] = lambda: machines.living.remove("n0")
    assert kind_of_loss(group()) == "node"


def test_a_loss_that_nothing_explains_is_one_of_a_process(machines: Machines) -> None:
    assert kind_of_loss(group()) == "process"
    assert machines.now >= 30


def test_an_announced_machine_is_a_lost_one_before_it_is_gone(machines: Machines) -> None:
    assert kind_of_loss(announced()) == "node"


def policy(limits: RestartLimits = LIMITS) -> RestartPolicy:
    return RestartPolicy(limits, "session", [RunStarts("session", run) for run in ("one", "two")])


def lose(kind: EndKind, machines: Machines, decide: RestartPolicy) -> FailureDecision:
    if kind == "process":
        machines.dead_actors.add("a0")
        return decide.make_decision(group(died()))
    return decide.make_decision(announced())


def test_lost_machines_do_not_use_up_what_lost_processes_may(machines: Machines) -> None:
    decide, starts = policy(), RunStarts("session", "one")
    for number in range(1, 20):
        starts.report_step(number)
        assert lose("node", machines, decide) is RETRY
    assert starts.take_end() == "node"
    assert [lose("process", machines, decide) for _ in range(3)] == [RETRY, RETRY, RAISE]
    assert "died more than 2 times (operation.max_failures)" in (starts.reason() or "")
    assert RunStarts("session", "two").take_end() == "process", "every run of the group is told"


def test_machines_lost_before_anything_is_durable_pause_longer_and_longer_and_end_the_run(machines: Machines) -> None:
    decide, starts = policy(), RunStarts("session", "two")
    starts.report_step(5)
    paused = []
    for _ in range(4):
        before = machines.now
        assert lose("node", machines, decide) is RETRY
        paused.append(machines.now - before)
    assert paused == [0, 2, 4, 8]
    assert lose("node", machines, decide) is RAISE
    assert "4 times in a row before anything was committed" in (starts.reason() or "")


def test_a_commit_between_lost_machines_ends_the_pauses(machines: Machines) -> None:
    decide, starts = policy(), RunStarts("session", "one")
    for step in range(10):
        starts.report_step(step // 3)
        assert lose("node", machines, decide) is RETRY


def test_a_stop_request_ends_a_pause(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "read_stop_request", lambda session: "interrupted")
    decide = policy()
    lose("node", machines, decide)
    before = machines.now
    lose("node", machines, decide)
    assert machines.now == before


def test_lost_machines_can_be_limited(machines: Machines) -> None:
    decide, starts = policy(RestartLimits(2, 1, 20, 1)), RunStarts("session", "one")
    starts.report_step(1)
    assert lose("node", machines, decide) is RETRY
    starts.report_step(2)
    assert lose("node", machines, decide) is RAISE
    assert "operation.max_preemptions" in (starts.reason() or "")


def test_starts_that_do_not_come_up_are_counted_until_one_does(machines: Machines) -> None:
    decide = policy()
    late = ControllerError(WorkerGroupStartupTimeoutError(2))
    assert decide.make_decision(late) is RETRY
    assert lose("process", machines, decide) is RETRY
    assert [decide.make_decision(late) for _ in range(2)] == [RETRY, RAISE]


def test_a_bug_of_the_controller_is_not_repeated() -> None:
    assert policy().make_decision(ControllerError(ValueError("a bug"))) is RAISE
