"""Who is at work: the session of one typed command, and the owner that one worker group signs its records with."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from uuid import uuid4

from ray_darts.artifacts.records import Owner
from ray_darts.protocols.settings import Settings


class Session(Settings):
    """One typed command; every restart it causes belongs to it. `uuid` is 32 hex digits."""

    uuid: str
    host: str
    pid: int
    ray_job: str | None = None


def new_session(ray_job: str | None = None) -> Session:
    """The session of this process, called once per command."""
    return Session(uuid=uuid4().hex, host=socket.gethostname(), pid=os.getpid(), ray_job=ray_job)


def owner_of(session: Session, node: str | None = None, labels: Mapping[str, str] | None = None) -> Owner:
    """What a worker-group start on this machine writes into its records; `labels` are those of its Ray node.

    Instance type and market come from the labels `ray.io/instance-type` (or `instance-type`) and
    `ray.io/market-type`, which cluster files set; without them they stay unknown.
    """
    known = labels or {}
    market = known.get("ray.io/market-type")
    return Owner(
        session=session.uuid,
        uuid=uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        ray_job=session.ray_job,
        node=node,
        instance_type=known.get("ray.io/instance-type", known.get("instance-type")),
        spot=None if market is None else market == "spot",
    )
