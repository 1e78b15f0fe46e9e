"""Fill the @PARAMETERS@ of a file in this folder and print it: `python cluster/fill.py aws.yaml AMI=ami-… > mine.yaml`.

The files name what only you can know (image, AMI, bucket, roles) as @NAMES@. This refuses a missing one, one too many,
and a value of the wrong shape, so that nothing half-filled reaches a cloud. It talks to nobody.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

PARAMETER = re.compile(r"@([A-Z][A-Z_]*)@")

SHAPES = {
    "ACCOUNT": r"\d{12}",
    "AMI": r"ami-[0-9a-f]{8,17}",
    "BUCKET": r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "CLUSTER": r"[a-z][a-z0-9-]{0,40}",
    "HEAD_PROFILE": r"[\w+=,.@-]{1,128}",
    "IMAGE": r"[a-z0-9][\w./:-]*(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})",
    # One folder, not a path.
    "PREFIX": r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "REGION": r"[a-z]{2}(-[a-z]+)+-\d",
    "ROLE_ARN": r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+",
    "SECURITY_GROUP": r"sg-[0-9a-f]{8,17}",
    "TEAM": r"[A-Za-z0-9][\w.-]{0,62}",
    "WORKER_PROFILE": r"[\w+=,.@-]{1,128}",
    "WORKER_ROLE": r"[\w+=,.@-]{1,64}",
}


def parameters(text: str) -> set[str]:
    """Names of the parameters that a text asks for."""
    return set(PARAMETER.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put `values` into `text`. Raises: ValueError listing every missing, unknown or misshapen one."""
    wanted = parameters(text)
    faults = [f"{name} is missing" for name in sorted(wanted - values.keys())]
    faults += [
        f"{name} is not asked for; wanted: {', '.join(sorted(wanted))}" for name in sorted(values.keys() - wanted)
    ]
    for name in sorted(wanted & values.keys()):
        if re.fullmatch(SHAPES[name], values[name]) is None:
            faults.append(f"{name}={values[name]!r} does not have the shape {SHAPES[name]}")
    if faults:
        raise ValueError("\n".join(faults))
    return PARAMETER.sub(lambda match: values[match.group(1)], text)


def main(arguments: list[str]) -> int:
    """Fill the named file with NAME=VALUE arguments; 0 done, 2 not."""
    if not arguments:
        print("usage: fill.py FILE NAME=VALUE…", file=sys.stderr)
        return 2
    file = Path(arguments[0])
    values = dict(argument.partition("=")[::2] for argument in arguments[1:])
    try:
        print(
            fill((file if file.exists() else Path(__file__).parent / file).read_text(encoding="utf-8"), values), end=""
        )
    except (OSError, ValueError) as error:
        print(f"cannot fill {file}:\n{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
