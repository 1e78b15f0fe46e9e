"""status, best, trace, verify and gc over a small real experiment in a folder."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.genotype.genotype import Genotype
from ray_darts.spaces.genotypes import read_genotype
from tests.artifacts.runs import EXPERIMENT, LAYOUT, advance, claimed, genotype_after, register, whole_run
from tests.cli.running import ray_darts

GOOD, POOR, HALF, FAILED = (f"second-order-seed-{seed}" for seed in range(4))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two finished runs, one under way and one that failed."""
    folder = tmp_path_factory.mktemp("written")
    store = open_store(str(folder))
    register(store, *((run, seed) for seed, run in enumerate((GOOD, POOR, HALF, FAILED))))
    for run, value in ((GOOD, 0.9), (POOR, 0.4)):
        whole_run(store, run, value=value)
        publish_run(store, EXPERIMENT, run)
    advance(claimed(store, run=HALF), 4)
    claimed(store, run=FAILED).fail("non_finite", "the loss of rank 0 is not finite in step 1")
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of `written` that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "store"))


def test_status_shows_every_run(folder: Path) -> None:
    ran = ray_darts("status", EXPERIMENT, "--store", str(folder))
    assert ran.code == 0
    lines = {line.split()[0]: line for line in ran.stdout.splitlines() if line.startswith("second-order")}
    assert set(lines) == {GOOD, POOR, HALF, FAILED}
    assert "finished" in lines[GOOD]
    assert "searching" in lines[HALF]
    assert "4/9" in lines[HALF]
    assert f"{FAILED} failed: the loss of rank 0 is not finite in step 1" in ran.stdout


def test_status_shows_the_classes_and_the_form_of_the_pictures(folder: Path) -> None:
    file = folder / EXPERIMENT / "experiment.json"
    plain = json.loads(file.read_text())
    numbers = {"samples": [5] * 20, "image_size": 32, "channels": 3, "mean": [0.5, 0.25, 0.125], "std": [0.1, 0.2, 0.3]}
    file.write_text(json.dumps(plain | {"data": {"classes": [str(n) for n in range(20)], **numbers}}))
    assert ray_darts("status", EXPERIMENT, "--store", str(folder)).stdout.endswith(
        "\ndata: 20 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …), 100 samples, 32x32 pixels, 3 channels; "
        "mean 0.5, 0.25, 0.125; deviation 0.1, 0.2, 0.3\n"
    )


def test_status_as_json_has_owner_and_age(folder: Path) -> None:
    runs = json.loads(ray_darts("status", EXPERIMENT, "--store", str(folder), "--json").stdout)["runs"]
    half = next(run for run in runs if run["run"] == HALF)
    assert (half["state"], half["step"], half["total_steps"], half["epoch"], half["claims"]) == (
        "searching",
        4,
        9,
        0,
        1,
    )
    assert (half["owner"]["host"], half["owner"]["session"]) == ("host", "a")
    assert half["age_s"] >= 0
    assert half["latest"]["normal.entropy"] == 2.0


def test_a_watched_status_ends_when_all_runs_have(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    register(store, (GOOD, 0))
    whole_run(store, GOOD)
    ran = ray_darts("status", EXPERIMENT, "--store", str(tmp_path), "--watch", "--json")
    assert [run["state"] for run in json.loads(ran.stdout)["runs"]] == ["finished"]


def test_best_prints_the_genotype_and_its_run_on_stderr(folder: Path) -> None:
    ran = ray_darts("best", EXPERIMENT, "--store", str(folder))
    assert ran.code == 0
    assert Genotype.from_json(ran.stdout, LAYOUT) == genotype_after(9)
    assert ran.stderr == f"{GOOD}, step 9: supernet_validation_accuracy 0.9 (interim ranking)\n"


def test_best_in_text_form_goes_to_a_file(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "best.txt"
    words = ("best", EXPERIMENT, "--store", str(folder), "--format", "text", "--output", str(file), "--verify")
    ran = ray_darts(*words)
    assert (ran.code, ran.stdout) == (0, "")
    assert "(interim ranking, verified)" in ran.stderr
    assert read_genotype(file.read_text()) == genotype_after(9)


def test_the_old_name_of_the_text_form_works_with_a_warning(folder: Path) -> None:
    ran, new = (ray_darts("best", EXPERIMENT, "--store", str(folder), "--format", form) for form in ("darts", "text"))
    assert ran.stdout == new.stdout
    assert ran.stderr == "warning: --format darts is now --format text; the old name goes in 0.3\n" + new.stderr


def test_an_unknown_format_exits_2(folder: Path) -> None:
    ran = ray_darts("best", EXPERIMENT, "--store", str(folder), "--format", "yaml")
    assert (ran.code, ran.stdout) == (2, "")
    assert "--format 'yaml': wanted json or text" in ran.stderr
    assert "darts" not in ray_darts("best", "--help").stdout.replace("ray-darts", "")


def test_best_as_json_is_the_stored_document(folder: Path) -> None:
    document = json.loads(ray_darts("best", EXPERIMENT, "--store", str(folder), "--json").stdout)
    assert document == json.loads((folder / EXPERIMENT / "best.json").read_text())


def test_best_before_any_run_has_finished_exits_1(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    register(store)
    ran = ray_darts("best", EXPERIMENT, "--store", str(tmp_path))
    assert (ran.code, ran.stdout) == (1, "")
    assert "no run of 'tiny' has finished" in ran.stderr


def test_a_best_that_its_record_denies_is_refused(folder: Path) -> None:
    file = folder / EXPERIMENT / "best.json"
    file.write_text(file.read_text().replace('"value":0.9', '"value":0.95'))
    assert ray_darts("best", EXPERIMENT, "--store", str(folder)).code == 0
    assert ray_darts("best", EXPERIMENT, "--store", str(folder), "--verify").code == 1


@pytest.mark.parametrize("command", ["status", "trace", "verify", "gc"])
def test_an_unknown_experiment_names_the_known_ones(folder: Path, command: str) -> None:
    ran = ray_darts(command, "other", "--store", str(folder))
    assert (ran.code, ran.stdout) == (1, "")
    assert "no experiment 'other'" in ran.stderr
    assert f"there are {EXPERIMENT}" in ran.stderr


@pytest.mark.parametrize("command", ["status", "best", "trace", "verify", "gc"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("../x",), "experiment '../x' is "),
        ((EXPERIMENT, "--store", "ftp://host/x"), "store 'ftp://host/x'"),
        ((EXPERIMENT, "--set", "search.epochs=3"), "this command takes store.KEY=VALUE only"),
        ((EXPERIMENT, "--set", "store.attempts=0"), "store.attempts = 0"),
    ],
)
def test_mistakes_of_usage_exit_2(command: str, words: tuple[str, ...], message: str) -> None:
    ran = ray_darts(command, *words)
    assert (ran.code, ran.stdout) == (2, "")
    assert message in ran.stderr


def test_traces_of_finished_and_unfinished_runs_are_exported_to_parquet(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "traces.parquet"
    ran = ray_darts("trace", EXPERIMENT, "--store", str(folder), "--output", str(file), "--json")
    histories = {history["run"]: history for history in json.loads(ran.stdout)}
    assert {run: history["steps"] for run, history in histories.items()} == {GOOD: 9, POOR: 9, HALF: 4}
    table = pq.read_table(file)
    assert table.num_rows == 22 * LAYOUT.num_alphas == sum(history["rows"] for history in histories.values())
    published = pq.read_table(folder / EXPERIMENT / "runs" / GOOD / "alpha_trace.parquet")
    assert table.slice(0, published.num_rows).to_pylist() == published.to_pylist()


def test_one_runs_trace_is_exported_to_csv(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    assert ray_darts("trace", EXPERIMENT, "--run", HALF, "--store", str(folder), "--output", str(file)).code == 0
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 4 * LAYOUT.num_alphas
    assert {row["run"] for row in rows} == {HALF}
    assert [int(row["step"]) for row in rows[:: LAYOUT.num_alphas]] == [1, 2, 3, 4]
    assert rows[0]["operation"] == "none"


def test_a_trace_with_a_changed_part_is_refused_and_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    part = next((folder / EXPERIMENT / "runs" / HALF / "parts").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    file = tmp_path / "traces.parquet"
    ran = ray_darts("trace", EXPERIMENT, "--store", str(folder), "--output", str(file))
    assert ran.code == 1
    assert part.name in ran.stderr
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "trace.txt"), "trace.txt ends neither in .parquet nor in .csv"),
        (("--output", "/nowhere/at/all.csv"), "cannot write /nowhere/at/all.csv"),
        (("--run", "first-order-seed-9"), f"no run 'first-order-seed-9' in 'tiny'; there are {GOOD}"),
    ],
)
def test_mistakes_of_trace_exit_2(folder: Path, words: tuple[str, ...], message: str) -> None:
    ran = ray_darts("trace", EXPERIMENT, "--store", str(folder), *words)
    assert (ran.code, ran.stdout) == (2, "")
    assert message in ran.stderr


def test_verify_is_clean_then_finds_and_repairs_a_missing_publication(folder: Path) -> None:
    words = ("verify", EXPERIMENT, "--store", str(folder))
    assert ray_darts(*words).code == 0
    genotype = folder / EXPERIMENT / "runs" / GOOD / "genotype.json"
    genotype.unlink()
    found = ray_darts(*words)
    assert found.code == 1
    assert f"WRONG    {EXPERIMENT}/runs/{GOOD}/genotype.json is missing" in found.stdout
    repaired = ray_darts(*words, "--repair", "--json")
    assert repaired.code == 0
    assert json.loads(repaired.stdout)["clean"] is True
    assert genotype.exists()
    assert ray_darts(*words).code == 0


def test_verify_exits_1_on_a_part_that_was_changed(folder: Path) -> None:
    part = next((folder / EXPERIMENT / "runs" / HALF / "parts").glob("*.parquet"))
    part.write_bytes(b"")
    ran = ray_darts("verify", EXPERIMENT, "--store", str(folder), "--repair")
    assert ran.code == 1
    assert "not as written" in ran.stdout


def test_gc_lists_first_and_deletes_on_request(folder: Path) -> None:
    store = open_store(str(folder))
    orphan = folder / EXPERIMENT / "runs" / HALF / "parts" / f"{5:09d}-{6:09d}.e1.{'a' * 32}.parquet"
    orphan.write_bytes(b"never named by a record")
    claimed(store, session="b", run=HALF)
    words = ("gc", EXPERIMENT, "--store", str(folder), "--min-age-hours", "0")
    listed = ray_darts(*words)
    assert listed.code == 0
    assert orphan.name in listed.stdout
    assert "--delete removes them" in listed.stdout
    assert orphan.exists()
    assert "nothing to collect" in ray_darts("gc", EXPERIMENT, "--store", str(folder)).stdout
    deleted = json.loads(ray_darts(*words, "--delete", "--json").stdout)
    assert deleted["deleted"] is True
    assert not orphan.exists()
    assert ray_darts("verify", EXPERIMENT, "--store", str(folder)).code == 0


def test_gc_compacts_finished_runs_and_shows_first_what_is_saved(folder: Path) -> None:
    words = ("gc", EXPERIMENT, "--store", str(folder), "--min-age-hours", "0", "--compact")
    saved = (*words, "--keep-finished-checkpoints", "0")
    before = sorted(folder.rglob("*"))
    shown = ray_darts(*saved)
    assert "10 objects  parts that a published trace repeats" in shown.stdout
    assert "4 objects  last checkpoints of finished runs" in shown.stdout
    assert "the logs of 2 finished runs would say that something is let go" in shown.stdout
    assert sorted(folder.rglob("*")) == before
    planned, done = (json.loads(ray_darts(*saved, *more, "--json").stdout) for more in ((), ("--delete",)))
    assert {**planned, "deleted": True} == {**done, "garbage": planned["garbage"]}
    assert not list((folder / EXPERIMENT / "runs" / GOOD / "parts").glob("*.parquet"))
    assert ray_darts("verify", EXPERIMENT, "--store", str(folder)).code == 0
    assert "9 steps" in ray_darts("trace", EXPERIMENT, "--run", GOOD, "--store", str(folder)).stdout


def test_gc_names_runs_that_it_leaves_as_they_are(folder: Path) -> None:
    (folder / EXPERIMENT / "runs" / POOR / "alpha_trace.parquet").unlink()
    words = ("gc", EXPERIMENT, "--store", str(folder), "--min-age-hours", "0", "--compact", "--delete")
    ran = ray_darts(*words)
    assert ran.code == 1
    assert f"{POOR}: left as it is" in ran.stdout
    assert list((folder / EXPERIMENT / "runs" / POOR / "parts").glob("*.parquet"))
    assert not list((folder / EXPERIMENT / "runs" / GOOD / "parts").glob("*.parquet"))
