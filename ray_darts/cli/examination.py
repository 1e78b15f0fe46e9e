"""What `ray-darts doctor` checks: versions, devices, the cluster, a store, and the mathematics.

Each check yields lines with a state: ok, warning (a search runs, with a disadvantage) or failure (a search does not
run, or gives wrong results), and what to do. A check that raises is a failure of what it checked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ray_darts.errors import RayDartsError

if TYPE_CHECKING:
    from ray_darts.artifacts.objects import ObjectStore

State = Literal["ok", "warning", "failure"]

_PACKAGES = ("ray", "torch", "torchvision", "pyarrow", "boto3", "numpy", "pydantic", "safetensors")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class DoctorLine:
    """One line of the doctor; `advice` is empty where nothing is to be done."""

    area: str
    name: str
    state: State
    detail: str
    advice: str = ""


def guarded(area: str, check: Callable[[], Iterator[DoctorLine]]) -> Iterator[DoctorLine]:
    """The lines of a check; an exception that ends it becomes the last line."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001  a broken installation may raise anything, and that is a result
        advice = "the installation is broken: install ray-darts afresh in an environment of its own"
        yield DoctorLine(area, "examination", "failure", f"{type(error).__name__}: {error}", advice)


def check_versions() -> Iterator[DoctorLine]:
    """The interpreter, and the packages that results depend on, against the ranges that this release declares."""
    yield DoctorLine("versions", "python", "ok", sys.version.split()[0])
    ranges = _declared_ranges()
    for package in _PACKAGES:
        wanted = ranges.get(package, "")
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield DoctorLine("versions", package, "failure", "not installed", f"pip install '{package}{wanted}'")
            continue
        if _fits(version, wanted):
            yield DoctorLine("versions", package, "ok", version)
        else:
            advice = f"this release needs {package}{wanted}: pip install '{package}{wanted}'"
            yield DoctorLine("versions", package, "warning", version, advice)


def check_devices() -> Iterator[DoctorLine]:
    """The devices that PyTorch finds."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield DoctorLine("devices", "cpu", "ok", f"{cpus} cores")
    if not torch.cuda.is_available():
        if _NVIDIA_DRIVER.exists():
            advice = "install a build of PyTorch for this driver's CUDA version, or give this process its GPUs"
            yield DoctorLine("devices", "cuda", "warning", "there is a driver, but PyTorch sees no GPU", advice)
        else:
            yield DoctorLine("devices", "cuda", "ok", "no GPU here: searches run on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield DoctorLine("devices", f"cuda:{index}", "ok", f"{facts.name}, {facts.total_memory / 1e9:.0f} GB")
    if torch.distributed.is_nccl_available():
        version = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        yield DoctorLine("devices", "nccl", "ok", ".".join(map(str, version)))
    else:
        advice = "several GPUs of one run need NCCL: install PyTorch's CUDA build"
        yield DoctorLine("devices", "nccl", "failure", "PyTorch was built without it", advice)


def check_cluster(address: str | None) -> Iterator[DoctorLine]:
    """Whether the head answers, what the cluster has and what an autoscaler may add."""
    from ray_darts.orchestration.connection import named_cluster, ray_connection
    from ray_darts.orchestration.resources import cluster_capacity

    if named_cluster(address) is None:
        detail = f"none named: a search starts one on this machine ({os.cpu_count()} CPUs)"
        yield DoctorLine("cluster", "address", "ok", detail)
        return
    try:
        with ray_connection(address):
            capacity = cluster_capacity()
    except RayDartsError as error:
        advice = "name the head with --address or RAY_ADDRESS; with token authentication set RAY_AUTH_MODE=token"
        yield DoctorLine("cluster", "head", "failure", str(error), advice)
        return
    yield DoctorLine("cluster", "head", "ok", "answers")
    yield DoctorLine("cluster", "resources", "ok", capacity.describe())


def check_store(store: ObjectStore) -> Iterator[DoctorLine]:
    """Every guarantee of a store that the run log needs, tried with a probe object."""
    from ray_darts.artifacts.doctor import probe_store

    for check in probe_store(store):
        state: State = "ok" if check.ok else "failure" if check.needed else "warning"
        yield DoctorLine("store", check.name, state, check.detail, "" if check.ok else f"without it {check.cost}")


def check_mathematics() -> Iterator[DoctorLine]:
    """Gradients, optimisers and ranks on this machine, each against an independent reference."""
    from ray_darts.search.proof import all_proofs

    advice = "do not search here: this PyTorch gives wrong results; reinstall it, and report this line"
    for proof in all_proofs():
        yield DoctorLine(
            "mathematics", proof.name, "ok" if proof.holds else "failure", proof.detail, "" if proof.holds else advice
        )


def _declared_ranges() -> dict[str, str]:
    """{package: version range} of this distribution's own requirements, extras aside."""
    found = {}
    for line in metadata.requires("ray-darts") or []:
        match = re.match(r"([A-Za-z0-9_-]+)(?:\[[^\]]*\])?([^;]*)(;.*extra.*)?$", line)
        if match is not None and match[3] is None:
            found[match[1]] = match[2].strip()
    return found


def _fits(version: str, wanted: str) -> bool:
    """Whether a release lies in a range of `>=` and `<` bounds."""
    own = _numbers(version)
    for bound in filter(None, wanted.split(",")):
        limit = _numbers(bound.lstrip("<>="))
        if (bound.startswith(">=") and own < limit) or (bound.startswith("<") and own >= limit):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])
