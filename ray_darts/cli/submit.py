"""`ray-darts submit`: sends a search to a Ray cluster as a job, follows its log and exits with its exit code."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_darts.cli.options import Preset
from ray_darts.cli.output import report_line
from ray_darts.errors import ConfigError
from ray_darts.exit_codes import INTERRUPTED
from ray_darts.input_files import read_start
from ray_darts.messages import shown_name

if TYPE_CHECKING:
    from ray_darts.config import SearchConfig
    from ray_darts.orchestration.requests import SearchRequest

USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""Of click, which newer releases of typer bring along: an option that there is not, or words too many."""

_MOST_TOKEN_BYTES = 65_536


def submit(
    store: Annotated[
        str, typer.Option("--store", metavar="URI", help="s3://bucket/prefix, or a folder on every node.")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB.toml] [-- OPTIONS]", help="A job file, then options of `ray-darts search`."),
    ] = None,
    preset: Preset = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="URL", help="The job server, such as http://127.0.0.1:8265 through a tunnel."
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="The cluster's token; absent: where Ray itself looks for it.")
    ] = None,
    working_dir: Annotated[
        Path, typer.Option("--working-dir", help="Root of a checkout; of it only ray_darts/ and jobs/ are sent.")
    ] = Path(),
    installed: Annotated[
        bool,
        typer.Option(
            "--installed", help="Send no checkout (config and plugins are sent): run the image's own package."
        ),
    ] = False,
    dependencies: Annotated[
        bool, typer.Option("--dependencies", help="Install what the package needs first: for an image that lacks it.")
    ] = False,
    stop_wait_s: Annotated[
        int, typer.Option("--stop-wait-s", min=0, help="Seconds that `ray job stop` leaves for the last commits.")
    ] = 60,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Follow the log until the job ends.")] = True,
) -> None:
    """Send a search to a cluster and exit with its own exit code. The same command again continues the search.

    Sent are the code of a checkout, the plugins that the config names (each a module or a whole package, no other
    file beside it) and the config file; nothing else.
    """
    from ray_darts.cli.job_file import search_words
    from ray_darts.orchestration.job_files import described, files_to_send, sent_folder
    from ray_darts.orchestration.submit import JobRequest, connect, follow_job, submit_job

    given = list(words or [])
    if any(word == "--store" or word.startswith("--store=") for word in given):
        raise ConfigError("--store stands among the words of the search too: give it once, to submit")
    job = given[:1] if given and given[0].endswith(".toml") else []
    checked = search_words(
        [*job, "--store", store, *(["--preset", preset] if preset is not None else []), *given[len(job) :]]
    )
    config = check_search(checked).config
    warn_of_local_data(config)
    file = parsed(checked)["config"]
    files = files_to_send(None if installed else working_dir, config.plugins, file)
    arguments = tuple(checked) if file is None else with_config(checked, file.name)
    client = connect(address, read_token(token_file))
    report_line(f"sending {described(files)}" if files else "sending no files")
    with sent_folder(files) as folder:
        request = JobRequest(arguments, folder, not installed, requirements() if dependencies else (), stop_wait_s)
        submission_id = submit_job(client, request)
    report_line(f"job {submission_id} submitted to {client.get_address()}: {request.entrypoint()}")
    if not follow:
        sys.stdout.write(f"{submission_id}\n")
        return
    try:
        code = follow_job(client, submission_id, sys.stdout.write)
    except KeyboardInterrupt as interrupt:
        report_line(f"the job is still running; to stop it after its last commit: ray job stop {submission_id}")
        raise typer.Exit(INTERRUPTED) from interrupt
    raise typer.Exit(code)


_OF_THE_COMMAND = ("dry_run", "as_json", "on_end", "quiet")
"""Options of a search that are no part of its request."""


def check_search(words: Sequence[str]) -> SearchRequest:
    """Check the arguments of a search as the job will, before anything is sent. Raises: ConfigError.

    Imports the plugins that the config names.
    """
    from ray_darts.cli.request import read_request

    given = parsed(words)
    return read_request(**{name: value for name, value in given.items() if name not in _OF_THE_COMMAND})


def warn_of_local_data(config: SearchConfig) -> None:
    """Say that data at a relative path are not sent; the job looks for them in a folder of its own."""
    path = config.data.path
    if path is not None and "://" not in path and not Path(path).expanduser().is_absolute():
        report_line(
            f"warning: data.path {path} is not sent, and the job's own folder holds no data: give a URI, or an "
            "absolute path that every node sees"
        )


def with_config(words: Sequence[str], name: str) -> tuple[str, ...]:
    """The arguments of a search with the config file's path in the job's folder instead of its path here."""
    changed = list(words)
    for position, word in enumerate(words):
        if word == "--config" and position + 1 < len(words):
            changed[position + 1] = name
        elif word.startswith("--config="):
            changed[position] = f"--config={name}"
    return tuple(changed)


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """The parameters of `ray-darts search` in `words`. Raises: ConfigError."""
    from ray_darts.cli.app import app

    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    try:
        return group.commands["search"].make_context("search", list(words)).params
    except USAGE_ERROR as error:
        raise ConfigError(f"the words of the search: {error.format_message()}") from error


def read_token(token_file: Path | None) -> str | None:
    """The token of the file, or else of the places where Ray looks for it. Raises: ConfigError."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token_file is None and token:
        return token
    default = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return read_start(token_file or default, _MOST_TOKEN_BYTES).decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        if token_file is None:
            return None
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read the token file {shown_name(token_file)}: {reason}") from error


def requirements() -> tuple[str, ...]:
    """What the package needs, without Ray (the cluster has it) and without extras."""
    import importlib.metadata

    declared = importlib.metadata.requires("ray-darts") or []
    return tuple(line for line in declared if "extra ==" not in line and re.match(r"ray\b", line) is None)
