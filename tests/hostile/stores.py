"""Stores that somebody has damaged or forged, read by every command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from tests.artifacts.runs import EXPERIMENT, RUN, register, whole_run
from tests.hostile.case import Case

Damage = Callable[[Path], object]
"""Does something to the folder of an experiment."""


def damaged(command: str, damage: Damage, phrase: str, *more: str, code: int = 1) -> Case:
    def make(folder: Path) -> None:
        store = open_store(str(folder / "store"))
        register(store)
        whole_run(store)
        publish_run(store, EXPERIMENT, RUN)
        damage(folder / "store" / EXPERIMENT)

    return Case((command, EXPERIMENT, "--store", "store", *more), phrase, code, make)


def forged(name: str, value: object) -> Damage:
    def damage(experiment: Path) -> None:
        file = experiment / "best.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    return damage


def without(*names: str) -> Damage:
    def damage(experiment: Path) -> None:
        for name in names:
            path = experiment / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def a_pipe(experiment: Path) -> None:
    (experiment / "best.json").unlink()
    os.mkfifo(experiment / "best.json")


def a_device(experiment: Path) -> None:
    (experiment / "best.json").unlink()
    (experiment / "best.json").symlink_to("/dev/zero")


def a_link_to_itself(experiment: Path) -> None:
    (experiment / "best.json").unlink()
    (experiment / "best.json").symlink_to("best.json")


def written(name: str, content: bytes) -> Damage:
    return lambda experiment: (experiment / name).write_bytes(content)


LOG = f"runs/{RUN}/log"
FORGED_RUN = forged("run", "../../x\x1b[31m\n")
STORES = (
    damaged("best", a_pipe, "best.json in "),
    damaged("best", a_device, "is no regular file"),
    damaged("best", a_link_to_itself, "is no regular file: Too many levels of symbolic links"),
    damaged("best", FORGED_RUN, r"'../../x\x1b[31m\n' is no name of a run"),
    damaged("best", forged("step", 10**400), "(401 characters), second-order-seed-3 has 9", "--verify"),
    damaged("best", forged("seed", 7), "best.json has seed 7, ", "--verify"),
    damaged("best", forged("order", "first"), "best.json has order 'first'", "--verify"),
    damaged("best", forged("genotype_step", 3), "best.json has genotype_step 3, ", "--verify"),
    damaged("best", written("best.json", b"[]"), "is no JSON document with a schema_version"),
    damaged("best", written("best.json", b"[" * 100_000), "it is nested too deep"),
    damaged("best", written("best.json", b"\xff"), "best.json is no JSON document"),
    damaged("status", without("experiment.json"), f"{EXPERIMENT}/experiment.json is missing"),
    damaged("status", written("experiment.json", b"{}"), "is no JSON document with a schema_version"),
    damaged("trace", without(LOG), "log/ is missing, although "),
    damaged("trace", written(f"{LOG}/000000000001.json", b"{}"), "000000000001.json"),
    damaged("card", without(LOG), "log/ is missing, although "),
    damaged(
        "card",
        lambda experiment: None,
        "it is a file of an experiment",
        "--output",
        f"store/{EXPERIMENT}/best.json",
        code=2,
    ),
)
