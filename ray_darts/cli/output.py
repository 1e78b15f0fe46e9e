"""How results reach the user: results to stdout as text or JSON, progress to stderr. Knows no command."""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path

from ray_darts.errors import ConfigError


def show_result(text: str, data: object, as_json: bool) -> None:
    """Print a result to stdout: `data` as JSON (sorted keys, no NaN) or `text`."""
    shown = json.dumps(data, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) if as_json else text
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")


def report_line(line: str) -> None:
    """Print a line of progress, or a warning, on stderr."""
    sys.stderr.write(line + "\n")


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing. Raises: ConfigError naming the path."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror or error}", path=str(path)) from error
