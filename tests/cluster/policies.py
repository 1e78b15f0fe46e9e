"""Two readers of an IAM policy: what a reviewer would strike out, and whether a request passes.

The evaluator knows what the policies of cluster/iam/ use: Allow and Deny, wildcards in resources, and the condition
operators Null, StringEquals and StringLikeIfExists; it refuses any other, so that no condition is silently true.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from tests.cluster.files import filled

# AWS knows no resource for these; they only read.
WITHOUT_RESOURCE = {"ec2:DescribeInstances"}

Statement = dict[str, object]


def policy(name: str) -> dict[str, object]:
    """cluster/iam/<name>.json, filled."""
    document = json.loads(filled(f"iam/{name}.json"))
    assert isinstance(document, dict)
    return document


def statements(document: Mapping[str, object]) -> list[Statement]:
    """The statements of a policy."""
    listed = document["Statement"]
    assert isinstance(listed, list)
    return listed


def policy_faults(document: Mapping[str, object]) -> list[str]:
    """What is too wide in a policy."""
    faults = [] if document.get("Version") == "2012-10-17" else ["Version is not 2012-10-17"]
    for statement in statements(document):
        name = statement.get("Sid", "a statement without Sid")
        faults += [
            f"{name}: {key} is not used here" for key in ("NotAction", "NotResource", "Principal") if key in statement
        ]
        if statement.get("Effect") == "Deny":
            continue
        actions = _listed(statement.get("Action"))
        faults += [f"{name}: wildcard in action {action}" for action in actions if "*" in action or "?" in action]
        for resource in _listed(statement.get("Resource")):
            if resource == "*":
                faults += [
                    f"{name}: every resource for {action}" for action in actions if action not in WITHOUT_RESOURCE
                ]
            elif re.match(r"arn:aws[a-z-]*:s3:::[^*?/]+(/[^*?/]+.*)?$", resource) is None and ":s3:" in resource:
                faults.append(f"{name}: {resource} is wider than one prefix of one bucket")
            elif (
                re.match(r"arn:aws[a-z-]*:ec2:[a-z0-9-]+:(\d{12})?:[a-z-]+/", resource) is None and ":ec2:" in resource
            ):
                faults.append(f"{name}: {resource} names no region and account")
            elif ":iam:" in resource and "*" in resource:
                faults.append(f"{name}: any role")
        if "ec2:TerminateInstances" in actions and "Condition" not in statement:
            faults.append(f"{name}: ends instances of others")
    return faults


def allows(
    document: Mapping[str, object], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Whether a policy alone lets a request pass; `context` holds the condition keys of the request."""
    effects = {
        statement["Effect"]
        for statement in statements(document)
        if action in _listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in _listed(statement["Resource"]))
        and _holds(statement.get("Condition", {}), context or {})
    }
    return "Allow" in effects and "Deny" not in effects


def _holds(condition: object, context: Mapping[str, str]) -> bool:
    assert isinstance(condition, dict)
    for operator, tests in condition.items():
        for key, wanted in tests.items():
            seen = context.get(key)
            if operator == "Null":
                holds = (seen is None) == (wanted == "true")
            elif operator == "StringEquals":
                holds = seen in _listed(wanted)
            elif operator == "StringLikeIfExists":
                holds = seen is None or any(fnmatchcase(seen, pattern) for pattern in _listed(wanted))
            else:
                raise ValueError(f"condition operator {operator} is not evaluated here")
            if not holds:
                return False
    return True


def _listed(value: object) -> list[str]:
    return [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
