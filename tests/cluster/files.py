"""The files of cluster/, filled with values of the right shape, and the faults that a check of them finds."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"

VALUES = {
    "ACCOUNT": "123456789012",
    "AMI": "ami-0123456789abcdef0",
    "BUCKET": "team-searches",
    "CLUSTER": "ray-darts",
    "HEAD_PROFILE": "ray-darts-head",
    "IMAGE": "registry.example.org/ray-darts:1a2b3c4",
    "PREFIX": "vision",
    "REGION": "eu-west-1",
    "ROLE_ARN": "arn:aws:iam::123456789012:role/ray-darts-trainer",
    "SECURITY_GROUP": "sg-0123456789abcdef0",
    "TEAM": "vision",
    "WORKER_PROFILE": "ray-darts-worker",
    "WORKER_ROLE": "ray-darts-worker",
}


def load_script(path: Path) -> ModuleType:
    """Import a script of cluster/ or jobs/, which are no packages."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill_script = load_script(CLUSTER / "fill.py")


def filled(name: str, values: dict[str, str] | None = None) -> str:
    """The text of cluster/<name> with its parameters filled."""
    text = (CLUSTER / name).read_text(encoding="utf-8")
    given = {**VALUES, **(values or {})}
    text_filled = fill_script.fill(text, {key: given[key] for key in fill_script.parameters(text)})
    assert isinstance(text_filled, str)
    return text_filled


def documents(name: str) -> list[dict[str, object]]:
    """The YAML documents of cluster/<name>, filled."""
    return [document for document in yaml.safe_load_all(filled(name)) if document is not None]


def crds_folder() -> Path | None:
    """Where the CRD schemas of KubeRay lie: RAY_DARTS_CRDS, or crds of a folder `shared` beside the repository."""
    named = os.environ.get("RAY_DARTS_CRDS")
    folder = Path(named) if named else ROOT.parent / "shared" / "crds"
    return folder if folder.is_dir() else None


def deployed_files() -> Iterator[Path]:
    """Every file of cluster/ and jobs/ that ends up on a machine; prose is left out."""
    for folder in (CLUSTER, ROOT / "jobs"):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".md" and "__pycache__" not in path.parts:
                yield path
