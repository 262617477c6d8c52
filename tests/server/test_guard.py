"""Who may ask, and what browsers are told."""

from collections.abc import Iterator

import pytest
import typer
from tiny_server import TinyServer, picture, running

from showtell.cli.serve import _names
from showtell.server.connections import LOOPBACK, Access
from showtell.server.run import own_names, place_of

PNG = picture(0)
TOKEN = "correct-horse-battery"
ORIGIN = "https://example.org"
PATHS = {
    "/": 200,
    "/page/index.html": 200,
    "/openapi.json": 200,
    "/healthz": 200,
    "/v1/models": 200,
    "/metrics": 200,
    "/nothing": 404,
}


@pytest.fixture(scope="module")
def closed() -> Iterator[TinyServer]:
    with running(access=Access(token=TOKEN, hosts=LOOPBACK, origins=(ORIGIN,))) as server:
        yield server


def test_every_answer_has_the_security_headers(server: TinyServer, closed: TinyServer) -> None:
    assert {path: server.ask(path).status for path in PATHS} == PATHS
    for headers in ({}, {"Host": "evil.example"}):
        for one in (server, closed):
            for path in PATHS:
                got = one.ask(path, headers=headers).headers
                assert "default-src 'none'" in got["content-security-policy"]
                assert "unsafe" not in got["content-security-policy"]
                assert got["x-content-type-options"] == "nosniff"
                assert got["referrer-policy"] == "no-referrer"
                assert got["cache-control"]
                assert "server" not in got
                assert "access-control-allow-origin" not in got


@pytest.mark.parametrize(
    "given", [None, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xe9", TOKEN]
)
def test_without_the_token_nothing_is_answered(closed: TinyServer, given: str | None) -> None:
    headers = {"Authorization": given} if given else {}
    for path in ("/v1/models", "/metrics", "/nothing", "/v1", "/pagex"):
        answer = closed.ask(path, headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
    assert closed.caption(PNG).status == 401
    for path in ("/", "/page/index.html", "/healthz", "/readyz", "/openapi.json"):
        assert closed.ask(path, headers=headers).status == 200


def test_with_the_token_all_is(closed: TinyServer) -> None:
    for given in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
        assert closed.ask("/v1/models", headers={"Authorization": given}).status == 200
    closed.headers["Authorization"] = f"Bearer {TOKEN}"
    assert closed.caption(PNG).status == 200
    closed.headers.clear()
    described = closed.ask("/openapi.json").json
    assert described["paths"]["/v1/captions"]["post"]["security"] == [{"bearer": []}]
    assert "security" not in described["paths"]["/healthz"]["get"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost.:1"]
)
def test_a_local_server_goes_by_its_own_names(server: TinyServer, host: str) -> None:
    assert server.ask("/healthz", headers={"Host": host}).status == 421


@pytest.mark.parametrize(
    ("host", "address", "allowed", "names"),
    [
        ("127.0.0.1", "127.0.0.1", (), {*LOOPBACK}),
        ("localhost", "::1", (), {*LOOPBACK}),
        ("127.0.0.2", "127.0.0.2", (), {*LOOPBACK, "127.0.0.2"}),
        ("Here", "127.0.0.1", ("mine.example",), {*LOOPBACK, "here", "mine.example"}),
        ("0.0.0.0", "0.0.0.0", ("mine.example",), {*LOOPBACK, "0.0.0.0", "mine.example"}),
        ("0.0.0.0", "0.0.0.0", (), None),
        ("fe80::1%eth0", "fe80::1%eth0", (), None),
    ],
)
def test_the_names_of_a_server(
    host: str, address: str, allowed: tuple[str, ...], names: set[str] | None
) -> None:
    assert own_names(host, address, allowed) == names


@pytest.mark.parametrize(
    ("host", "address", "any_name", "place"),
    [
        ("localhost", "127.0.0.1", False, "http://localhost:80"),
        ("::1", "::1", False, "http://[::1]:80"),
        ("0.0.0.0", "0.0.0.0", False, "http://127.0.0.1:80"),
        ("::", "::", True, "http://[::1]:80, and at this machine's other addresses"),
        ("fe80::1%eth0", "fe80::1%eth0", True, "http://[fe80::1%eth0]:80"),
    ],
)
def test_the_place_that_is_told_is_one_to_go_to(
    host: str, address: str, any_name: bool, place: str
) -> None:
    assert place_of(host, address, 80, any_name=any_name) == place


def test_allowed_hosts_are_names_without_ports() -> None:
    assert _names(["Photos.Example.org:8080", "[::1]:80", "a.b"]) == [
        "photos.example.org",
        "::1",
        "a.b",
    ]
    assert _names(None) is None
    for given in ("a.b:80x/", "http://a.b", "a.b/", "", "a b@c"):
        with pytest.raises(typer.BadParameter, match="expected a host"):
            _names([given])


def test_those_are_its_names(server: TinyServer) -> None:
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"):
        assert server.ask("/healthz", headers={"Host": host}).status == 200


def test_pages_of_other_origins_may_not_ask_unless_named(
    server: TinyServer, closed: TinyServer
) -> None:
    for origin in (ORIGIN, "null", "http://127.0.0.1:1", "http://["):
        server.headers["Origin"] = origin
        assert server.caption(PNG).status == 403
        assert "access-control-allow-origin" not in server.ask("/v1/models").headers
    server.headers["Origin"] = f"http://127.0.0.1:{server.port}"
    assert server.caption(PNG).status == 200
    server.headers.clear()

    closed.headers |= {"Authorization": f"Bearer {TOKEN}", "Origin": ORIGIN}
    answer = closed.caption(PNG)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    closed.headers |= {"Origin": "https://example.com"}
    assert closed.caption(PNG).status == 403
    closed.headers.clear()
    ask = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = closed.ask("/v1/captions", method="OPTIONS", headers=ask | {"Origin": ORIGIN})
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert (
        server.ask("/v1/captions", method="OPTIONS", headers=ask | {"Origin": ORIGIN}).status == 405
    )
