"""What the processes of one run are told: plain JSON-able data, so that it reaches any node and working directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ray_darts.config import SearchConfig
from ray_darts.orchestration.session import Session
from ray_darts.protocols.settings import Settings

Order = Literal["first", "second"]


class Assignment(Settings):
    """One run of an experiment, as one command wants it.

    `device`: what every worker computes on. `data_digests`: what the command's own look at the data found; a worker
    that sees other data refuses to search.
    """

    config: SearchConfig
    experiment: str
    run: str
    seed: int
    order: Order
    store_uri: str
    session: Session
    device: Literal["cpu", "cuda"] = "cpu"
    data_digests: dict[str, str]
    retry_failed: bool = False
    allow_local_batch_norm: bool = False

    def to_plain(self) -> dict[str, object]:
        """JSON-able."""
        return self.model_dump(mode="json")

    @classmethod
    def from_plain(cls, plain: Mapping[str, object]) -> Assignment:
        """The inverse of `to_plain`."""
        return cls.model_validate(plain)


def run_name(order: Order, seed: int) -> str:
    """The name of a run: `second-order-seed-3`."""
    return f"{order}-order-seed-{seed}"
