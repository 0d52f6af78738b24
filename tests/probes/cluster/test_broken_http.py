"""Servers that do not even keep to HTTP, or never come to an end with it: one unknown, within the deadline."""

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.probes.cluster.hostile_lists import answers
from tests.support.program import vdscheck
from vdscheck.target import cluster

OK = b"HTTP/1.1 200 OK\r\n"
VOLUMES = "/api/v1/persistentvolumes"
"""The list with the shortest deadline: 30 s."""
Sending = Callable[[socket.socket], object]


def sends(content: bytes) -> Sending:
    """Send this, and no more."""

    def sending(client: socket.socket) -> None:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)

    return sending


def goes_on(content: bytes, every_s: float = 0.0, first: bytes = OK) -> Sending:
    """Send this over and over, until nobody listens."""

    def sending(client: socket.socket) -> None:
        client.sendall(first)
        while True:
            client.sendall(content)
            time.sleep(every_s)

    return sending


def resets(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def packed(content: bytes, named: bytes = b"gzip") -> bytes:
    return OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (named, len(content)) + content


SOON: dict[str, tuple[Sending, str]] = {
    "another protocol": (sends(b"\x1b[2JSSH-2.0-OpenSSH_9.6\r\n"), "ProtocolError"),
    "a status of five digits": (sends(b"HTTP/1.1 99999 \x1b[2J\r\nContent-Length: 0\r\n\r\n"), "ProtocolError"),
    "a line without end": (goes_on(b"x" * 65536, first=b"HTTP/1.1 200 "), "ProtocolError"),
    "headers without end": (goes_on(b"X: y\r\n" * 1000), "ProtocolError"),
    "two lengths": (sends(OK + b"Content-Length: 2\r\nContent-Length: 30\r\n\r\n{}"), "InvalidHeader"),
    "a chunk of no size": (sends(OK + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n\x1b[2J"), "was cut off"),
    "packed twice": (sends(packed(gzip.compress(gzip.compress(b"{}")), b"gzip, gzip")), "is not what Kubernetes"),
    "packed in another way": (sends(packed(b"{}", b"br")), "is not what Kubernetes"),
    "a connection that is reset": (resets, "reset by peer"),
}
LARGE: dict[str, Callable[[], Sending]] = {
    "chunks without end": lambda: goes_on(
        b"10000\r\n" + b" " * 65536 + b"\r\n", first=OK + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
    "a bomb": lambda: sends(packed(gzip.compress(b" " * (300 << 20), 1))),
}
ENDLESS = goes_on(b" " * 65536, first=OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"{}"))
LATE: dict[str, Sending] = {
    "a byte a second": goes_on(b" ", 1.0, OK + b"Content-Length: 100000\r\n\r\n"),
    "a header a second": goes_on(b"X: y\r\n", 1.0),
    "always to be continued": goes_on(b"HTTP/1.1 100 Continue\r\n\r\n", first=b""),
    "a time that never comes": sends(b"HTTP/1.1 429 Busy\r\nRetry-After: 999999\r\nContent-Length: 0\r\n\r\n"),
}


BEHIND = "goes on behind the end of what it packs"
EMPTY_BLOCK = b"\0\0\0\xff\xff"
"""Of deflate: five bytes that stand for none."""
BODIES: dict[str, tuple[list[bytes], str | None]] = {
    "whole": ([gzip.compress(b"{}")], None),
    "byte by byte": ([bytes([each]) for each in gzip.compress(b"{}")], None),
    "bytes behind it": ([gzip.compress(b"{}"), b"x"], BEHIND),
    "bytes behind it in the same piece": ([gzip.compress(b"{}") + b"x"], BEHIND),
    "another member": ([gzip.compress(b"{}"), gzip.compress(b"[]")], BEHIND),
    "nothing that goes on": ([gzip.compress(b"")[:10], *[EMPTY_BLOCK * 100] * 100], "is larger than 1,000 bytes"),
    "a bomb": ([gzip.compress(b" " * 100_000)], "is larger than 1,000 bytes"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_packed_answer_is_bounded_in_what_it_holds_and_in_what_it_takes(name: str) -> None:
    pieces, said = BODIES[name]
    body = cluster._Body(1000, packed=True)
    found = next(filter(None, map(body.taken, pieces)), None)
    body.ended = True
    assert (found, len(body.content) <= 1001) == (said, True)
    assert said is not None or (body.is_whole and body.content == b"{}")


@contextmanager
def server(sending: Sending, folder: Path) -> Iterator[Path]:
    """A kubeconfig of a server that sends this for the volumes, and what is right for all else."""
    sound = answers()

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError), client.makefile("rb") as lines:
            while line := lines.readline():
                path = line.split()[1].decode().partition("?")[0]
                while lines.readline().strip():
                    pass
                if path == VOLUMES:
                    sending(client)
                    return
                content = json.dumps(sound[path]).encode()
                client.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        named = {"server": f"http://127.0.0.1:{listener.getsockname()[1]}"}
        config = {
            "clusters": [{"name": "c", "cluster": named}],
            "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        }
        (folder / "config").write_text(json.dumps(config | {"current-context": "x"}))
        yield folder / "config"
        # A thread that waits for a client is not woken by the end of its socket alone.
        listener.shutdown(socket.SHUT_RDWR)


def why(sending: Sending, folder: Path) -> dict[str, Any]:
    """Why there are no volumes, in a report of which all else is known."""
    with server(sending, folder) as config:
        done = vdscheck("cluster", "--kubeconfig", str(config), "--json", timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u001b" not in done.stdout
    found = json.loads(done.stdout)
    assert [each["name"] for each in found["measurements"]["cluster.nodes"]["value"]["nodes"]] == ["n1", "n2"]
    return dict(found["measurements"]["cluster.volumes"]["absent"])


def test_what_is_no_http_is_one_unknown(tmp_path: Path) -> None:
    sending, said = SOON["headers without end"]
    assert said in why(sending, tmp_path)["detail"]


def test_bytes_without_end_behind_a_packed_answer_are_not_taken(tmp_path: Path) -> None:
    assert BEHIND in why(ENDLESS, tmp_path)["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOON)
def test_what_is_no_http_is_one_unknown_of_every_kind(tmp_path: Path, name: str) -> None:
    assert SOON[name][1] in why(SOON[name][0], tmp_path)["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large_is_not_taken(tmp_path: Path, name: str) -> None:
    assert "is larger than 268,435,456 bytes" in why(LARGE[name](), tmp_path)["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LATE)
def test_what_never_ends_is_given_up_at_its_deadline(tmp_path: Path, name: str) -> None:
    began = time.monotonic()
    assert why(LATE[name], tmp_path)["reason"] == "timeout"
    assert time.monotonic() - began < 45
