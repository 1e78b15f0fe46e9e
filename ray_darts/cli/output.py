"""How results reach the user: results to stdout as text or JSON, progress to stderr. Knows no command.

Nothing that is printed holds control characters, wherever it came from: a name in a store cannot steer a terminal.
"""

from __future__ import annotations

import io
import json
import sys

from ray_darts.messages import escaped


def show_result(text: str, data: object, as_json: bool) -> None:
    """Print a result to stdout: `data` as JSON in ASCII (sorted keys, no NaN) or `text`."""
    if as_json:
        shown = json.dumps(data, sort_keys=True, indent=2, allow_nan=False).replace("\x7f", r"\u007f")
    else:
        shown = escaped(text)
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")


def report_line(line: str) -> None:
    """Print a line of progress, or a warning, on stderr."""
    sys.stderr.write(escaped(line) + "\n")


def escape_what_has_no_encoding() -> None:
    """Let standard output and error escape characters that their encoding lacks, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
