"""Fills pages of the documentation: sections of the READMEs, the reference of the commands, links to the repository.

`<!-- include README.md: Methods -->` becomes the text below that heading, so that a text stands in one place only.
`<!-- commands -->` becomes what `--help` says, from the command line itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/ray-darts/ray-darts/blob/main/"
_INCLUDE = re.compile(r"<!-- include (?P<file>[\w/.]+): (?P<heading>[^>]+) -->")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)(?P<target>[^)]+)\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page with its inclusions filled in."""
    filled = _INCLUDE.sub(lambda found: section(found["file"], found["heading"].strip()), markdown)
    return filled.replace("<!-- commands -->", commands()) if "<!-- commands -->" in filled else filled


def section(file: str, heading: str) -> str:
    """What stands below a heading of a file, with links that lead into the repository. Raises: KeyError."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    marks = [line for line in lines if re.match(r"#+ ", line) and line.lstrip("#").strip() == heading]
    if len(marks) != 1:
        raise KeyError(f"{file} has {len(marks)} headings {heading!r}")
    level = len(marks[0]) - len(marks[0].lstrip("#"))
    kept: list[str] = []
    in_code = False
    for line in lines[lines.index(marks[0]) + 1 :]:
        in_code ^= line.startswith("```")
        if not in_code and (found := re.match(r"(#+) ", line)) and len(found[1]) <= level:
            break
        kept.append(line)
    folder = Path(file).parent
    return _LINK.sub(lambda found: f"]({REPOSITORY}{(folder / found['target']).as_posix()})", "\n".join(kept))


def commands() -> str:
    """Each command: its help, its usage and its options."""
    from ray_darts.cli.app import app

    group: Any = typer.main.get_command(app)
    parts = [part for name, command in group.commands.items() for part in _command(f"ray-darts {name}", command)]
    return "\n\n".join(parts)


def _command(name: str, command: Any) -> list[str]:
    inner = getattr(command, "commands", None)
    if inner:
        return [part for each, child in inner.items() for part in _command(f"{name} {each}", child)]
    context = command.context_class(command, info_name=name)
    rows = [
        f"| `{', '.join(parameter.opts)}` | {_cell(getattr(parameter, 'help', None) or '')} |"
        for parameter in command.params
        if not getattr(parameter, "hidden", False)
    ]
    usage = command.get_usage(context).removeprefix("Usage: ")
    options = ["| option | |\n|---|---|\n" + "\n".join(rows)] if rows else []
    return [f"## {name}", str(command.help or ""), f"```text\n{usage}\n```", *options]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
