"""How results reach the user: results to stdout as text or JSON, progress to stderr. Knows no command."""

from __future__ import annotations

import json
import sys


def show_result(text: str, data: object, as_json: bool) -> None:
    """Print a result to stdout: `data` as JSON (sorted keys, no NaN) or `text`."""
    shown = json.dumps(data, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) if as_json else text
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")


def report_line(line: str) -> None:
    """Print a line of progress, or a warning, on stderr."""
    sys.stderr.write(line + "\n")
