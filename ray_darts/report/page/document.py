"""Puts a page together: one HTML file with its data, its script and the charting library inside it. Knows no store.

Names from a store never become markup: the template escapes them, and the data are base64 of compressed JSON, which
the script shows as text.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from ray_darts import __version__
from ray_darts.extras import needed
from ray_darts.report.amounts import duration_text
from ray_darts.report.costs import phase_text
from ray_darts.report.page.contents import Data
from ray_darts.report.page.facts import PageFacts
from ray_darts.report.page.verdict import Row, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

_WHAT = "a report"


def page_html(
    facts: PageFacts,
    verdict: Verdict,
    rows: Sequence[Row],
    data: Data,
    made_at: str,
    *,
    refresh_s: float | None = None,
) -> str:
    """The whole page. `made_at`: when the store was read; `refresh_s`: the page loads itself again after so long.

    Raises: ConfigError where the packages of the extra `report` are missing.
    """
    environment, charts = _environment(), _charts()
    shown = {**data, "experiment": facts.experiment, "refresh_s": refresh_s}
    described = facts.description
    page: str = environment.get_template("page.html.j2").render(
        experiment=facts.experiment,
        store=facts.store,
        made_at=made_at,
        version=__version__,
        verdict=verdict,
        rows=rows,
        facts=facts,
        best_drawing=None if data["best"] is None else data["drawings"][data["best"]],
        runs=data["runs"],
        costs=[phase_text(phase) for phase in facts.costs],
        identity=None if described is None else json.dumps(described.identity, indent=2, sort_keys=True),
        style=_asset("page.css"),
        script=_asset("charts.js") + _asset("page.js"),
        charts=charts,
        payload=base64.b64encode(gzip.compress(json.dumps(shown, allow_nan=False).encode(), 6, mtime=0)).decode(),
        refresh_s=refresh_s,
        points=data["points"],
    )
    return page


@cache
def _environment() -> Environment:
    jinja2 = needed("jinja2", "report", _WHAT)
    environment: Environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_asset),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": _number, "duration": duration_text}
    return environment


@cache
def _charts() -> str:
    """The script of Vega, Vega-Lite and Vega-Embed as one bundle, which defines `vegaEmbed`."""
    bundle: str = needed("vl_convert", "report", _WHAT).javascript_bundle()
    return bundle.replace("</script", "<\\/script")


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _number(value: float | None, digits: int = 4) -> str:
    """`12345678` is `12,345,678`; other numbers have some digits; nothing for None and NaN."""
    if value is None or value != value:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"
