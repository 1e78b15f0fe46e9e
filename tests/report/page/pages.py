"""Pages as tests read them: their tags and text, and the data that their script reads."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ray_darts.artifacts.open import open_store
from ray_darts.report.page.making import Page, PageMaker
from tests.report.page.experiments import EXPERIMENT


class Elements(HTMLParser):
    """The tags of a page, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside):
            self.text.append(data)


def payload(page: Page) -> Any:
    """What the page's script reads."""
    found = re.search(r'id="payload">([^<]*)<', page.html)
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def made(folder: Path) -> Page:
    return PageMaker(open_store(str(folder)), EXPERIMENT).make()
