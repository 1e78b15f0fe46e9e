"""How and where runs are done. Not part of an experiment's identity; recorded with each claim of a run."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ray_darts.messages import shown_value
from ray_darts.protocols.settings import Settings


class Prices(dict[str, float]):
    """Prices that can be hashed, as every setting can; nobody changes them."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


class OperationSettings(Settings):
    """Workers, devices, commits and limits. Times are seconds."""

    CONVERTED: ClassVar[frozenset[str]] = frozenset({"workers"})

    workers: str = Field("1", description="N, or MIN:MAX for elastic workers")
    max_concurrent: int | None = Field(
        None, ge=1, le=1_000_000, description="runs at a time; absent: as many as fit the cluster"
    )
    drivers: Literal["auto", "head", "workers"] = Field(
        "auto",
        description="where the two processes lie that drive a run (500 MB): on the head, on other nodes, or (auto) on "
        "the head while those of all runs at a time fit there, else wherever there is memory",
    )
    runs_per_start: int = Field(
        1, ge=1, description="runs that one worker group does one after the other: fewer starts of Ray for short runs"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus_per_worker: int = Field(1, ge=1, le=4096)
    threads: int = Field(1, ge=1, le=4096, description="PyTorch threads per worker; changes results in the last bits")
    placement: Literal["PACK", "SPREAD"] = "PACK"
    agree_every_steps: int = Field(20, ge=1, description="ranks compare their state and decide together this often")
    commit_every_s: float = Field(60.0, ge=0)
    trace_every_steps: int = Field(
        1, ge=1, description="the trace keeps each k-th step, the last of each epoch and the last of the run"
    )
    max_pending_commits: int = Field(2, ge=1, description="commits in flight before the ranks pause")
    report_every_s: float = Field(60.0, gt=0, description="metrics to Ray Tune at most this often")
    give_up_s: float = Field(1800.0, gt=0, description="a store outage longer than this ends the run")
    stop_patience_s: float = Field(
        60.0, gt=0, description="after a stop, a run waits at most so long for its last commit"
    )
    max_failures: int = Field(2, ge=0, description="lost processes after which a run fails; lost machines do not count")
    max_preemptions: int | None = Field(
        None, ge=0, description="lost machines (reclaimed, broken) after which a run fails; absent: no limit"
    )
    max_idle_preemptions: int = Field(
        20, ge=1, description="lost machines in a row without a commit in between after which a run fails"
    )
    max_hours: float | None = Field(
        None, gt=0, description="budget of the experiment: hours in which commands work on it"
    )
    max_worker_hours: float | None = Field(None, gt=0, description="budget of the experiment: hours times workers")
    max_cost: float | None = Field(None, gt=0, description="budget of the experiment, in the currency of prices")
    prices: dict[str, float] = Field(
        default_factory=lambda: Prices(),
        description="{instance type: price of an hour}; '<type>:spot' of a spot instance, '*' of every other one",
    )
    collective_timeout_s: float = Field(120.0, gt=0)
    worker_start_timeout_s: float = Field(300.0, gt=0)
    start_attempts: int = Field(4, ge=1, description="worker starts that may time out before a run fails")
    health_check_interval_s: float = Field(2.0, gt=0)
    resize_check_s: float = Field(60.0, gt=0, description="elastic runs look for more workers this often")
    checkpoint_cells: bool = Field(
        False, description="recompute cells, or time steps, in the backward pass; saves memory"
    )
    formulation: Literal["auto", "separate", "grouped"] = Field(
        "auto", description="grouped: few kernel launches, for GPUs; separate: fastest on CPUs"
    )
    kernel: Literal["torch", "compiled", "auto"] = Field(
        "torch",
        description="compiled: C++ for CPUs, built with the compiler on PATH, changes results in the last bits; auto: "
        "that where every node of a run can build it, else torch, recorded and kept for the whole run",
    )
    compile: tuple[Literal["training", "validation", "alpha_training"], ...] = Field(
        (), description="passes of a step to compile, each as one graph; changes results in the last bits"
    )
    compile_backend: str = Field("inductor", description="backend of torch.compile")
    cuda_graph: Literal["auto", "on", "off"] = Field(
        "auto",
        description="capture each pass of a step once as a CUDA graph and replay it: one launch in place of thousands; "
        "auto is off until it has been proven on a GPU",
    )
    publish_report: bool = Field(True, description="write EXP/report.html when a search ends (extra report)")

    @field_validator("workers", mode="before")
    @classmethod
    def _workers_text(cls, workers: object) -> object:
        return str(workers) if isinstance(workers, int) and not isinstance(workers, bool) else workers

    @field_validator("prices")
    @classmethod
    def _prices_are_possible(cls, prices: dict[str, float]) -> dict[str, float]:
        for name, price in prices.items():
            if not 0 <= price < float("inf"):
                raise ValueError(f"the price of {shown_value(name)} is {price}: a number from 0 is wanted")
        return Prices(prices)

    @model_validator(mode="after")
    def _cost_needs_prices(self) -> OperationSettings:
        if self.max_cost is not None and not self.prices:
            raise ValueError("max_cost needs prices: {instance type: price of an hour}, '*' for all others")
        return self

    @model_validator(mode="after")
    def _workers_range(self) -> OperationSettings:
        if not re.fullmatch(r"-?[0-9]{1,6}(:-?[0-9]{1,6})?", self.workers):
            raise ValueError(f"workers {shown_value(self.workers)} is neither N nor MIN:MAX, of six digits at most")
        lowest, highest = self.worker_range
        if not 1 <= lowest <= highest:
            raise ValueError(f"workers {self.workers!r}: at least 1, and MIN at most MAX")
        return self

    @model_validator(mode="after")
    def _compiled_or_captured(self) -> OperationSettings:
        if self.cuda_graph == "on" and self.compile:
            raise ValueError("cuda_graph 'on' and compile exclude one another")
        return self

    @property
    def worker_range(self) -> tuple[int, int]:
        """(min, max) workers of one run; equal unless elastic."""
        lowest, _, highest = self.workers.partition(":")
        return int(lowest), int(highest or lowest)


class StoreSettings(Settings):
    """How to reach an object store; absent settings come from the standard AWS settings. Holds no credentials."""

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    encryption: Literal["none", "AES256", "aws:kms"] = "none"
    kms_key_id: str | None = None
    expected_bucket_owner: str | None = None
    checksums: Literal["when_supported", "when_required"] = "when_supported"
    allow_http: bool = Field(False, description="allow plain http to other hosts than loopback")
    connect_timeout_s: float = Field(5.0, gt=0, description="a connection that takes longer has failed")
    read_timeout_s: float = Field(8.0, gt=0, description="a request without a byte of an answer for so long has failed")
    retry_s: float = Field(
        20.0,
        ge=0,
        description="a request that fails is sent again for so long, or once; one call takes at most retry_s + "
        "connect_timeout_s + read_timeout_s while no byte flows (two time-outs where retry_s is shorter than one)",
    )
    attempts: int | None = Field(None, ge=1, description="tries per request; absent: retry_s alone limits them")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that a run keeps while it goes on")
    keep_finished_checkpoints: int = Field(
        1, ge=0, description="newest checkpoints that a finished run keeps, of those that it kept while it went on"
    )

    @model_validator(mode="after")
    def _key_needs_kms(self) -> StoreSettings:
        if self.kms_key_id is not None and self.encryption != "aws:kms":
            raise ValueError("kms_key_id needs encryption 'aws:kms'")
        return self
