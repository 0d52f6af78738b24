"""How a Redis server is found: what is on this host is asked of no resolver, and each address is tried in turn."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from vdscheck.plugin import UnavailableError
from vdscheck.probes.redis import sockets
from vdscheck.probes.redis.url import parse


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is asked of a resolver, which lies."""
    found: list[object] = []

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        found.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    return found


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        server = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip("this host has no IPv6")
    with server:
        yield server


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("name", ["localhost", "LOCALHOST"])
def test_localhost_is_asked_of_no_resolver(
    listening: socket.socket, asked: list[object], scheme: str, name: str
) -> None:
    address, port = listening.getsockname()[:2]
    with sockets.connected(parse(f"{scheme}://{name}:{port}")) as found:
        assert found.getpeername()[:2] == (address, port)
    assert asked == []


@pytest.mark.parametrize("missing", ["nobody listens", "no address", "no IPv6"])
def test_of_localhost_it_is_told_why_127_0_0_1_takes_nobody(
    asked: list[object], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    class Without(socket.socket):
        def __init__(self, family: int, kind: int) -> None:
            if family == socket.AF_INET6 and missing == "no IPv6":
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, kind)

        def connect(self, address: Any) -> None:
            if self.family == socket.AF_INET6 and missing == "no address":
                raise OSError(99, "Cannot assign requested address")
            super().connect(address)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr("socket.socket", Without)
    with pytest.raises(UnavailableError, match=f"nobody listens on localhost:{port}: connection refused"):
        sockets.connected(parse(f"redis://localhost:{port}"))
    assert asked == []


@pytest.mark.parametrize("host", ["db", "127.300.0.1", "localhost.example"])
def test_any_other_name_is_asked_of_the_resolver(
    asked: list[object], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(sockets, "CONNECT_LIMIT_S", 0.1)
    with pytest.raises(UnavailableError):
        sockets.connected(parse(f"redis://{host}"))
    assert asked == [host]
