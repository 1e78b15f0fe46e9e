"""The command line `ray-darts`: parse, call one function, print. The only place that ends a process with one of
`ray_darts.exit_codes`.

Results go to stdout (text, or JSON with `--json`), progress and warnings to stderr. Each command imports what it needs
when it runs, so `--help` is fast and `best` needs neither torch nor ray.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of `ray-darts`."""
    from ray_darts.cli.app import app
    from ray_darts.cli.output import escape_what_has_no_encoding

    escape_what_has_no_encoding()
    app()
