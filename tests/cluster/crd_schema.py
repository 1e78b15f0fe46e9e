"""A CRD as a strict JSON schema: it refuses what `kubectl apply --validate=strict` refuses, unknown fields first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import yaml

SUBMISSION_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")


def strict_schema(crd: Path, version: str) -> dict[str, object]:
    """The schema of one served version of a CRD; every object with named fields refuses others."""
    loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a megabyte: the one in C, if any
    definition = loader(crd.read_text(encoding="utf-8")).get_single_data()
    for candidate in definition["spec"]["versions"]:
        if candidate["name"] == version and candidate["served"]:
            schema = candidate["schema"]["openAPIV3Schema"]
            # Kubernetes itself defines metadata; the CRD only says that it is an object.
            schema["properties"]["metadata"] = {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9.-]*$"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            }
            closed = _closed(schema)
            assert isinstance(closed, dict)
            return closed
    raise ValueError(f"{crd.name} serves no version {version}")


def manifest_faults(manifest: dict[str, object], schema: dict[str, object]) -> list[str]:
    """What is wrong with a manifest, as `path: message`, `submissionMode` by hand: the schema says only string."""
    validator = jsonschema.Draft202012Validator(schema)
    faults = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(manifest)
    ]
    spec = manifest.get("spec")
    if isinstance(spec, dict) and "submissionMode" in spec and spec["submissionMode"] not in SUBMISSION_MODES:
        faults.append(f"spec.submissionMode: {spec['submissionMode']!r} is none of {', '.join(SUBMISSION_MODES)}")
    return faults


def _closed(node: object) -> object:
    if isinstance(node, list):
        return [_closed(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    closed: dict[str, Any] = {key: _closed(value) for key, value in node.items()}
    if closed.get("x-kubernetes-int-or-string"):
        closed.pop("anyOf", None)
        closed["type"] = ["integer", "string"]
        if "pattern" in closed:
            closed["pattern"] = closed["pattern"].replace("\\.", "[.]")
    open_object = "additionalProperties" in closed or closed.get("x-kubernetes-preserve-unknown-fields")
    if closed.get("type") == "object" and isinstance(closed.get("properties"), dict) and not open_object:
        closed["additionalProperties"] = False
    return closed
