"""Makes the page of an experiment from its store, once or again and again; also the object that a sweep publishes."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import UTC, datetime
from typing import NamedTuple

from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.errors import ConfigError, MissingObject
from ray_darts.report.page.alphas import ProbabilityReader
from ray_darts.report.page.contents import Contents, Data
from ray_darts.report.page.document import page_html
from ray_darts.report.page.facts import FactsReader, PageFacts
from ray_darts.report.page.verdict import Figures, rows_of, verdict_of

logger = logging.getLogger("ray_darts.report")


class Page(NamedTuple):
    """A page: its HTML, the JSON behind its drawings, and what it was made of. `tag` changes when its content does."""

    html: str
    data: Data
    facts: PageFacts
    tag: str


class PageMaker:
    """Makes the page of one experiment; a repeated call reads only what is new. `training`: the experiment of
    trainings of what it found. Raises: as `FactsReader`."""

    def __init__(
        self, store: ObjectStore, experiment: str, training: str | None = None, figures: Figures | None = None
    ) -> None:
        self._reader = FactsReader(store, experiment, training)
        self._contents = Contents(ProbabilityReader(store))
        self._figures = figures

    def make(self, refresh_s: float | None = None) -> Page:
        """The page of now; with `refresh_s` it loads itself again until all runs have ended.

        Raises: StoreError of a store that cannot be reached; ConfigError without the packages of the extra `report`.
        """
        facts = self._reader.read()
        data = self._contents.of(facts)
        made_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        again = None if facts.is_over else refresh_s
        verdict, rows = verdict_of(facts), rows_of(facts, self._figures or {})
        shown = repr([verdict, rows, facts.sessions, facts.card])
        known = json.dumps([data, facts.problems, again, shown], sort_keys=True, allow_nan=False)
        tag = hashlib.sha256(known.encode()).hexdigest()[:32]
        html = page_html(facts, verdict, rows, {**data, "tag": tag}, made_at, refresh_s=again)
        return Page(html, data, facts, tag)


def publish_report(store: ObjectStore, experiment: str) -> str | None:
    """Put `<experiment>/report.html` and return its key; never raises, as a search has ended well without it."""
    key = ExperimentKeys(experiment).report
    try:
        page = PageMaker(store, experiment).make()
        store.put(key, page.html.encode())
    except (ConfigError, MissingObject) as error:
        logger.info("no report: %s", error)
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, the search has ended and its exit code stands
        logger.warning("no report: %s: %s", type(error).__name__, error)
        return None
    return key
