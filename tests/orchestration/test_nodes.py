"""Nodes that are announced to go, go, come back, or are cut off from the rest: the run goes on with what there is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.records import Record
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.traces import read_rows
from ray_darts.orchestration.run_execution import RankContext
from tests.orchestration.job import RUN, StartJob, job_config, until
from tests.orchestration.metadata_server import MetadataServer
from tests.orchestration.nodes import Node, Nodes
from tests.orchestration.test_run_execution import Stopping
from tests.orchestration.tiny import EXPERIMENT, assigned, is_clean, search_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LONG = ("search.epochs=200", "search.batch_norm=sync")


def records(store: LocalStore) -> list[Record]:
    return [entry.record for entry in read_log(store, RunKeys(EXPERIMENT, RUN))]


def visible_alphas(store: LocalStore) -> NDArray[np.float32]:
    """[steps, alphas] of a run that may still be going on."""
    layout = job_config().space.layout()
    keys = RunKeys(EXPERIMENT, RUN)
    parts = read_rows(store, keys, read_log(store, keys), layout.num_alphas)
    return np.concatenate([part.values for part in parts])


def start_watcher(nodes: Nodes, node: Node, metadata: MetadataServer) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "ray_darts.orchestration.watcher"),
            *("--ray-address", nodes.gcs, "--node-id", node.node_id),
            *("--metadata-address", metadata.address, "--poll-s", "0.5"),
        ],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )


def test_a_noticed_node_goes_another_comes_and_the_run_shrinks_and_grows(tmp_path: Path, start_job: StartJob) -> None:
    """Elastic 2 -> 1 -> 2 under synchronised batch norm; the notice alone makes the ranks commit off schedule."""
    store = LocalStore(tmp_path / "store")
    elastic = (
        *LONG,
        "operation.workers=1:2",
        "operation.agree_every_steps=1",
        "operation.commit_every_s=3600",
        "operation.resize_check_s=5",
        "operation.worker_start_timeout_s=20",
    )
    with Nodes(tmp_path) as nodes, MetadataServer() as metadata:
        nodes.add()
        doomed = nodes.add()
        job = start_job(store, *elastic, RAY_ADDRESS=nodes.gcs)
        until(store, lambda s: s.step > 0 and s.environment is not None and s.environment.world_size == 2, job)
        assert all(record.step % 3 == 0 for record in records(store)), "nothing but epochs' ends is committed so far"

        watcher = start_watcher(nodes, doomed, metadata)
        metadata.take_away(at=time.time() + 12)
        until(store, lambda s: s.step % 3 != 0, job)
        assert watcher.wait(60) == 0
        shrunk = until(store, lambda s: s.environment is not None and s.environment.world_size == 1, job)
        nodes.kill(doomed)
        until(store, lambda s: s.step > shrunk.step, job)

        nodes.add()
        grown = until(store, lambda s: s.environment is not None and s.environment.world_size == 2, job)
        until(store, lambda s: s.step > grown.step, job)
        job.interrupt()
        code, answer = job.end()
        assert code == 130, answer

    worlds = [record.environment.world_size for record in records(store) if record.kind == "claim"]
    assert [world for i, world in enumerate(worlds) if i == 0 or world != worlds[i - 1]] == [2, 1, 2]
    alone = LocalStore(tmp_path / "alone")
    config = job_config(*LONG, "operation.agree_every_steps=1", "operation.commit_every_s=3600")
    last = records(store)[-1].step
    stopped = search_here(assigned(alone, config), alone, RankContext(hooks=Stopping(after=last - 1)))
    assert (stopped.kind, stopped.step) == ("interrupted", last)
    np.testing.assert_allclose(visible_alphas(store), visible_alphas(alone), rtol=0, atol=1e-6)
    assert is_clean(store)


@contextmanager
def namespaces(count: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A bridge's address, and `count` (namespace, address) behind it; all removed afterwards."""
    tag = f"rd{os.getpid() % 10_000}"
    subnet = f"10.99.{os.getpid() % 250}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    made = [f"{tag}n{number}" for number in range(count)]
    try:
        ip("link", "add", tag, "type", "bridge")
        ip("addr", "add", f"{subnet}.1/24", "dev", tag)
        ip("link", "set", tag, "up")
        for number, name in enumerate(made):
            ip("netns", "add", name)
            ip("link", "add", f"{name}h", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}h", "master", tag, "up")
            ip("-n", name, "addr", "add", f"{subnet}.{10 + number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "route", "add", "default", "via", f"{subnet}.1")
        yield f"{subnet}.1", [(name, f"{subnet}.{10 + number}") for number, name in enumerate(made)]
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
            subprocess.run(["ip", "link", "del", f"{name}h"], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", tag], check=False, capture_output=True)


@pytest.fixture
def can_make_namespaces() -> None:
    """Skip where this user or this kernel makes none."""
    try:
        with namespaces(1):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"no network namespaces here (they need root, ip and a bridge): {detail!r}")


def test_a_run_whose_node_is_cut_off_finishes_on_the_rest(
    can_make_namespaces: None, tmp_path: Path, start_job: StartJob
) -> None:
    """Rank 0's node loses its link: it can still write to the store, and is fenced there by the next claim."""
    store = LocalStore(tmp_path / "store")
    settings = (
        "search.epochs=20",
        "operation.placement=SPREAD",
        "operation.collective_timeout_s=20",
        "operation.agree_every_steps=1",
    )
    with namespaces(3) as (bridge, places), Nodes(tmp_path, bridge) as nodes:
        started = {node.node_id: name for node, name in ((nodes.add(at, name), name) for name, at in places)}
        job = start_job(store, *settings, RAY_ADDRESS=nodes.gcs)
        seen = until(store, lambda s: s.step >= 3, job)
        assert seen.owner is not None
        assert seen.owner.node is not None
        cut = started[seen.owner.node]
        subprocess.run(["ip", "link", "set", f"{cut}h", "down"], check=True)
        code, answer = job.end()
        assert code == 0, answer
    claims = [record for record in records(store) if record.kind == "claim"]
    assert len(claims) >= 2
    assert started[str(claims[-1].owner.node)] != cut
    assert is_clean(store)


def test_machines_that_vanish_are_counted_apart_from_lost_processes(tmp_path: Path, start_job: StartJob) -> None:
    """Two machines go without a notice where no lost process is forgiven."""
    store = LocalStore(tmp_path / "store")
    with Nodes(tmp_path) as nodes:
        there = [nodes.add(), nodes.add()]
        job = start_job(store, *LONG, "operation.max_failures=0", RAY_ADDRESS=nodes.gcs)
        for number in (1, 2):
            status = until(store, lambda s, number=number: s.claims == number and s.step > 0, job)  # type: ignore[misc]
            assert status.owner is not None
            doomed = next(node for node in there if node.node_id == status.owner.node)
            nodes.kill(doomed)
            there.remove(doomed)
            there.append(nodes.add())
        last = until(store, lambda s: s.claims == 3, job)
        until(store, lambda s: s.step > last.step, job)
        job.interrupt()
        assert job.end()[0] == 130
    claims = [record for record in records(store) if record.kind == "claim"]
    assert [(claim.previous_end, claim.preemptions, claim.failures) for claim in claims] == [
        (None, 0, 0),
        ("node", 1, 0),
        ("node", 2, 0),
    ]
    assert is_clean(store)


def node_of_the_trial(nodes: list[Node]) -> Node | None:
    """The node on which the driver of the run lies, by the sessions of its processes."""
    for process in Path("/proc").iterdir():
        try:
            if b"ray::ImplicitFunc" in (process / "cmdline").read_bytes():
                session = os.getsid(int(process.name))
                found = [node for node in nodes if node.process.pid == session]
                if found:
                    return found[0]
        except (OSError, ValueError):
            continue
    return None


def test_a_machine_that_vanishes_with_the_driver_of_a_run_is_a_lost_machine(
    tmp_path: Path, start_job: StartJob
) -> None:
    store = LocalStore(tmp_path / "store")
    beside = ("operation.drivers=workers", "operation.workers=1", "operation.max_failures=0")
    with Nodes(tmp_path) as nodes:
        there = [nodes.add(), nodes.add()]
        job = start_job(store, *LONG, *beside, RAY_ADDRESS=nodes.gcs)
        first = until(store, lambda s: s.step > 0, job)
        doomed = node_of_the_trial(there)
        assert doomed is not None, "the driver lies on a node that is not the head"
        nodes.kill(doomed)
        until(store, lambda s: s.claims == 2 and s.step > first.step, job)
        job.interrupt()
        assert job.end()[0] == 130
    claims = [record for record in records(store) if record.kind == "claim"]
    assert [(claim.previous_end, claim.preemptions, claim.failures) for claim in claims] == [
        (None, 0, 0),
        ("node", 1, 0),
    ]
    assert is_clean(store)
