"""What `python -m benchmarks.on_gpu` checks, as tests: on a GPU all of it, on a CPU what a CPU can show."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from benchmarks.gpu import claims, ranks, timings
from benchmarks.gpu.claims import CPU, Case, Claim
from benchmarks.gpu.timings import Setting

CUDA = torch.device("cuda")
NEEDED = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))
CHECKS = (claims.agrees_with_cpu, claims.reads_nothing, claims.repeats_itself)
ON_A_CPU = (
    Case("convolutional", "second", ("operation.formulation=grouped", "search.hessian=finite_difference")),
    Case("nasbench201", "first"),
    Case("recurrent", "second", ("search.hessian=exact",)),
)
SHARED = (Case("convolutional", "second"), Case("recurrent", "first"))


def gpu(test: Callable[..., None]) -> Callable[..., None]:
    for mark in NEEDED:
        test = mark(test)
    return test


def holds(claim: Claim) -> None:
    assert claim.holds, f"{claim.name}: {claim.detail}"


@gpu
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", claims.cases(), ids=str)
def test_a_step_on_a_gpu(check: Callable[[Case, torch.device], Claim], case: Case) -> None:
    holds(check(case, CUDA))


@pytest.mark.parametrize("check", CHECKS[1:], ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", ON_A_CPU, ids=str)
def test_a_step_on_a_cpu(check: Callable[[Case, torch.device], Claim], case: Case) -> None:
    holds(check(case, CPU))


def test_the_grouped_formulation_agrees_with_the_separate_one() -> None:
    """The part of the agreement that a CPU has: other cases would be compared with themselves."""
    assert [case.is_grouped for case in ON_A_CPU] == [True, False, False]
    claim = claims.agrees_with_cpu(ON_A_CPU[0], CPU)
    holds(claim)
    assert not claim.detail.endswith("0.0e+00"), "the two formulations round alike"


def test_a_deterministic_step_is_measured() -> None:
    smaller = ("space.layers=3", "space.channels=4", "space.nodes=1")
    setting = Setting("first", 4, deterministic=True, formulation="separate", smaller=smaller)
    assert setting.columns()[-1] == "plain, deterministic"
    assert timings.measure(setting, CPU, steps=1).launches > 100
    assert not torch.are_deterministic_algorithms_enabled()


@gpu
@pytest.mark.parametrize("case", claims.cases(), ids=str)
def test_cuda_graphs_move_a_search_as_plain_passes_do(case: Case) -> None:
    holds(claims.replays_alike(case, CUDA))


@gpu
@pytest.mark.parametrize("case", SHARED, ids=str)
def test_two_ranks_on_one_gpu_agree(case: Case) -> None:
    holds(ranks.ranks_agree(case, "cuda", "gloo", 120))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < ranks.WORLD_SIZE, reason="needs two CUDA devices")
@pytest.mark.parametrize("case", SHARED, ids=str)
def test_two_ranks_on_two_gpus_agree(case: Case) -> None:
    holds(ranks.ranks_agree(case, "cuda", "nccl", 120))


def test_two_ranks_on_cpus_agree() -> None:
    holds(ranks.ranks_agree(Case("recurrent", "second"), "cpu", "gloo", 120))


def test_a_rank_that_fails_is_told() -> None:
    claim = ranks.ranks_agree(Case("convolutional", "second", ("search.hessian=exact", "data.no=1")), "cpu", "gloo", 60)
    assert not claim.holds
    assert "ConfigError" in claim.detail


@gpu
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("precision", timings.PRECISIONS)
def test_a_step_is_measured(precision: str, graphs: bool) -> None:
    setting = Setting("first", 8, precision, graphs=graphs, smaller=("space.layers=3", "space.channels=4"))
    figures = timings.measure(setting, CUDA, steps=2)
    assert figures.memory_bytes
    assert figures.idle is not None
    assert 0 <= figures.idle < 1
    assert figures.launches < (500 if graphs else 20_000)


@gpu
@pytest.mark.parametrize("name", ["training", "validation"])
def test_a_pass_compiles(name: str) -> None:
    setting = Setting("first", 8, compiled=(name,), smaller=("space.layers=3", "space.channels=4", "space.nodes=1"))
    assert timings.measure(setting, CUDA, steps=1).seconds > 0


def test_a_difference_is_seen() -> None:
    values = {"alphas": torch.tensor([1.0, 2.0])}
    assert claims.difference(values, {"alphas": torch.tensor([1.0, 4.0])}) == 0.5
    assert claims.difference({"alphas": torch.tensor([float("nan")])}, {"alphas": torch.ones(1)}) == float("inf")


def test_a_read_is_seen() -> None:
    with pytest.raises(RuntimeError, match="reads from the device"), claims.refusing_reads(CPU):
        torch.ones(1).item()


def test_the_command_needs_neither_ray_nor_pyarrow() -> None:
    script = (
        "import sys\n"
        "for name in ('ray', 'pyarrow', 'boto3', 'typer', 'fsspec'):\n"
        "    sys.modules[name] = None\n"
        "from benchmarks import on_gpu\n"
        "sys.argv = ['on_gpu', '--minutes', '0']\n"
        "print([str(row) for row in on_gpu.settings_of(on_gpu.claims.CPU)][:1])\n"
        "on_gpu.claims.agrees_with_cpu(on_gpu.claims.cases()[-3], on_gpu.claims.CPU)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120)
