"""The server of a page, over real sockets: what it answers, to whom, and when the page is made again."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from ray_darts.errors import ConfigError, StoreUnavailable
from ray_darts.hosts import is_loopback
from ray_darts.report.page.making import Page, PageMaker
from ray_darts.report.page.serving import PageServer
from tests.artifacts.memory_store import MemoryStore
from tests.report.page.experiments import EXPERIMENT, whole_experiment


@contextmanager
def served(token: str | None = None) -> Iterator[PageServer]:
    """The page of an experiment with one run."""
    store = MemoryStore()
    whole_experiment(store, 1)
    with serving(PageServer(PageMaker(store, EXPERIMENT).make, "127.0.0.1", 0, token, every_s=3600)) as server:
        yield server


@contextmanager
def serving(server: PageServer) -> Iterator[PageServer]:
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def ask(
    server: PageServer, target: str = "/", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port or 0, timeout=30)
    try:
        connection.request(method, target, headers=headers)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


def test_the_page_and_its_json_are_served_with_a_tag() -> None:
    with served() as server:
        status, headers, page = ask(server)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert page.startswith(b"<!DOCTYPE html>")
        assert headers["Cache-Control"] == "no-store"
        status, about, body = ask(server, "/report.json")
        assert json.loads(body)["runs"][0]["run"] == "first-order-seed-0"
        assert about["ETag"] == headers["ETag"]
        status, about, body = ask(server, method="HEAD")
        assert (status, body, about["ETag"]) == (200, b"", headers["ETag"])


@pytest.mark.parametrize("target", ["/other", "/../experiment.json", "/%2e%2e/x", "/report.json/x"])
def test_nothing_else_is_served(target: str) -> None:
    with served() as server:
        assert ask(server, target)[0] == 404


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8300",
        "localhost.evil.example",
        "",
        "[",
        "127.0.0.1%.evil.example",
        "127.0.0.1 .evil.example",
    ],
)
def test_a_page_of_another_site_cannot_read_it_through_the_browser(host: str) -> None:
    with served() as server:
        assert ask(server, Host=host)[0] in (400, 403)
        assert ask(server, Host="localhost:8300")[0] == 200
        assert ask(server, Host="[::1]:8300")[0] == 200


def test_with_a_token_every_request_needs_it() -> None:
    with served(token="secret") as server:
        assert server.url.endswith("/?token=secret")
        assert [ask(server, target)[0] for target in ("/", "/report.json", "/?token=", "/?token=secre")] == [403] * 4
        assert ask(server, "/?token=secret")[0] == 200
        assert ask(server, "/report.json", Authorization="Bearer secret")[0] == 200
        assert ask(server, "/report.json", Authorization="Bearer é".encode().decode("latin-1"))[0] == 403


def never() -> Page:
    raise AssertionError("no page is asked for")


def test_an_address_that_others_reach_needs_a_token() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.org", "::"):
        assert not is_loopback(host)
        with pytest.raises(ConfigError, match="needs a token"):
            PageServer(never, host, 0, None, 1)


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="--token is empty"):
        PageServer(never, "127.0.0.1", 0, "", 1)


@pytest.mark.parametrize("token", ["a+b", "a&b", "a#b", "100%25", "é"])
def test_the_address_that_is_printed_has_the_token_as_it_is_asked_for(token: str) -> None:
    with served(token=token) as server:
        assert ask(server, f"/?{urlsplit(server.url).query}")[0] == 200


def test_an_address_of_ipv6_is_served() -> None:
    try:
        server = PageServer(never, "::1", 0, None, 1)
    except ConfigError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with serving(server):
        assert server.url.startswith("http://[::1]:")
        assert ask(server, "/other")[0] == 404


def test_a_page_is_made_again_when_it_is_old_and_not_before() -> None:
    store = MemoryStore()
    whole_experiment(store, 1)
    page, made = PageMaker(store, EXPERIMENT).make(), []

    def make() -> Page:
        made.append(1)
        return page

    for every_s, wanted in ((3600.0, 1), (0.0, 3)):
        made.clear()
        with serving(PageServer(make, "127.0.0.1", 0, None, every_s=every_s)) as server:
            for _ in range(3):
                ask(server)
        assert len(made) == wanted


def test_a_missing_package_is_an_answer() -> None:
    def make() -> Page:
        raise ConfigError("a report needs a package")

    with serving(PageServer(make, "127.0.0.1", 0, None, every_s=0)) as server:
        status, _, body = ask(server)
        assert (status, body) == (503, b"a report needs a package\n")


def test_a_port_in_use_is_a_message() -> None:
    with served() as server:
        port = urlsplit(server.url).port
        assert port is not None
        with pytest.raises(ConfigError, match="name another --port"):
            PageServer(never, "127.0.0.1", port, None, 1)


def test_a_store_that_is_gone_leaves_the_page_that_was_made() -> None:
    store = MemoryStore()
    whole_experiment(store, 1)
    maker = PageMaker(store, EXPERIMENT)
    pages = iter([maker.make()])

    def make() -> Page:
        for page in pages:
            return page
        raise StoreUnavailable("the store does not answer")

    with serving(PageServer(make, "127.0.0.1", 0, None, every_s=0)) as server:
        assert ask(server)[0] == 200
        assert ask(server)[0] == 200
    with serving(PageServer(make, "127.0.0.1", 0, None, every_s=0)) as server:
        status, _, body = ask(server)
        assert (status, body) == (503, b"the store does not answer\n")
