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

if TYPE_CHECKING:
    from ray_darts.orchestration.plan import SweepRequest


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
        Path, typer.Option("--working-dir", help="Root of a checkout; ray_darts/ and jobs/ are sent with the job.")
    ] = Path(),
    installed: Annotated[
        bool,
        typer.Option(
            "--installed", help="Send no checkout (plugins are sent): run the package installed in the image."
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
    """Send a search to a cluster and exit with its own exit code. The same command again continues the search."""
    from ray_darts.cli.job_file import search_words
    from ray_darts.orchestration.plugin_packages import sent_packages
    from ray_darts.orchestration.submit import JobRequest, connect, follow_job, submit_job

    checked = search_words([*(words or []), "--store", store, *(["--preset", preset] if preset is not None else [])])
    plugins = check_search(checked).config.plugins
    checkout = None if installed else working_dir
    check_config_travels(checked, checkout)
    with sent_packages(plugins, checkout) as packages:
        request = JobRequest(
            tuple(checked), checkout, requirements() if dependencies else (), stop_wait_s, packages=packages
        )
        client = connect(address, read_token(token_file))
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


def check_search(words: Sequence[str]) -> SweepRequest:
    """Check the arguments of a search as the job will, before anything is sent. Raises: ConfigError, click.UsageError.

    Imports the plugins that the config names.
    """
    from ray_darts.cli.request import read_request

    given = parsed(words)
    return read_request(**{name: value for name, value in given.items() if name not in ("dry_run", "as_json")})


def check_config_travels(words: Sequence[str], checkout: Path | None) -> None:
    """Refuse a relative config file that is not sent: the job runs in the root of the checkout. Raises: ConfigError."""
    config = parsed(words)["config"]
    if checkout is None or not isinstance(config, Path):
        return
    if config.is_absolute():
        report_line(f"warning: {config} is not sent; the job reads that path on its own node")
    elif not (checkout / config).is_file():
        raise ConfigError(
            f"--config {config}: the job runs in the root of the checkout that is sent, {checkout.absolute()}; wanted "
            "is the path of a file below it, relative to it"
        )


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """The parameters of `ray-darts search` in `words`. Raises: click.UsageError."""
    from ray_darts.cli.app import app

    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group.commands["search"].make_context("search", list(words)).params


def read_token(token_file: Path | None) -> str | None:
    """The token of the file, or else of the places where Ray looks for it. Raises: ConfigError."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token_file is None and token:
        return token
    default = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return (token_file or default).read_text(encoding="utf-8").strip()
    except OSError as error:
        if token_file is None:
            return None
        raise ConfigError(f"cannot read the token file {token_file}: {error.strerror}") from error


def requirements() -> tuple[str, ...]:
    """What the package needs, without Ray (the cluster has it) and without extras."""
    import importlib.metadata

    declared = importlib.metadata.requires("ray-darts") or []
    return tuple(line for line in declared if "extra ==" not in line and re.match(r"ray\b", line) is None)
