"""Servers that are not as they should be, and what a run makes of them.

A real API server does these things when it is overloaded, restarted or far behind; here a small one does them when
it is asked to.
"""

import gzip
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.program import vdscheck

Answer = tuple[int, dict[str, str], bytes]
Answering = Callable[[str, dict[str, list[str]], int], Answer | None]
"""Path, query and how often that was asked before, to an answer; None is the good server's."""

ESC = "\x1b[31m"


def _list(items: list[Any], token: str = "") -> Answer:
    content = {"kind": "List", "apiVersion": "v1", "metadata": {"continue": token}, "items": items}
    return 200, {}, json.dumps(content).encode()


def node(number: int) -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True"}]
    return {"metadata": {"name": f"n{number}"}, "status": {"conditions": ready, "allocatable": {"pods": "10"}}}


def good(path: str, query: dict[str, list[str]]) -> Answer:
    if path == "/version":
        return 200, {}, b'{"gitVersion": "v1.34.2"}'
    if path == "/api/v1/nodes":
        start = int(query.get("continue", ["0"])[0])
        return _list([node(start + each) for each in range(2)], "" if start >= 4 else str(start + 2))
    if path.startswith("/api/v1/namespaces/default"):
        return 200, {}, b'{"metadata": {"name": "default"}}'
    return _list([])


@contextmanager
def serving(answering: Answering, folder: Path) -> Iterator[Path]:
    """A kubeconfig of a server that answers so."""
    asked: dict[str, int] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet: apart, the second waits 40 ms for the first's acknowledgement

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            count = asked.get(self.path, 0)
            asked[self.path] = count + 1
            query = parse_qs(parts.query)
            status, headers, content = answering(parts.path, query, count) or good(parts.path, query)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            if "Connection" in headers:
                self.close_connection = True

        def log_message(self, *_words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        config = folder / "config"
        address = f"http://127.0.0.1:{server.server_address[1]}"
        content = {
            "clusters": [{"name": "odd", "cluster": {"server": address}}],
            "users": [{"name": "me", "user": {"token": "s3cret"}}],
            "contexts": [{"name": "odd", "context": {"cluster": "odd", "user": "me"}}],
            "current-context": "odd",
        }
        config.write_text(json.dumps(content))
        try:
            yield config
        finally:
            server.shutdown()


def examined(answering: Answering, folder: Path, *words: str) -> dict[str, Any]:
    with serving(answering, folder) as config:
        done = vdscheck("cluster", "--kubeconfig", str(config), "--json", *words)
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def nodes_of(found: dict[str, Any]) -> list[str]:
    return [each["name"] for each in found["measurements"]["cluster.nodes"]["value"]["nodes"]]


def absent(found: dict[str, Any], probe: str = "cluster.nodes") -> tuple[str, str]:
    why = found["measurements"][probe]["absent"]
    return why["reason"], why["detail"]


ALL = [f"n{number}" for number in range(6)]


@pytest.mark.covered
def test_a_list_is_read_page_by_page(tmp_path: Path) -> None:
    seen = []

    def answering(path: str, query: dict[str, list[str]], count: int) -> None:
        del count
        if path == "/api/v1/nodes":
            seen.append(query)

    found = examined(answering, tmp_path)
    assert nodes_of(found) == ALL
    assert [each.get("continue") for each in seen] == [None, ["2"], ["4"]]
    assert all(each["limit"] == ["500"] and "resourceVersion" not in each for each in seen)
    assert found["measurements"]["cluster.nodes"]["value"]["read"]["requests"] == 3


def test_a_list_whose_token_has_expired_begins_anew(tmp_path: Path) -> None:
    def answering(path: str, query: dict[str, list[str]], count: int) -> Answer | None:
        if path == "/api/v1/nodes" and query.get("continue") == ["2"] and count == 0:
            return 410, {}, b'{"kind": "Status", "reason": "Expired"}'
        return None

    assert nodes_of(examined(answering, tmp_path)) == ALL


def test_a_list_whose_tokens_always_expire_is_given_up(tmp_path: Path) -> None:
    def answering(path: str, query: dict[str, list[str]], _count: int) -> Answer | None:
        return (410, {}, b"{}") if path == "/api/v1/nodes" and "continue" in query else None

    assert "(410)" in absent(examined(answering, tmp_path))[1]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(tmp_path: Path, status: int) -> None:
    def answering(path: str, _query: dict[str, list[str]], count: int) -> Answer | None:
        if path == "/api/v1/nodes" and count < 2:
            return status, {"Retry-After": "0"}, b'{"message": "slow down"}'
        return None

    assert nodes_of(examined(answering, tmp_path)) == ALL


def test_a_server_that_names_a_time_is_not_asked_before(tmp_path: Path) -> None:
    at = []

    def answering(path: str, _query: dict[str, list[str]], count: int) -> Answer | None:
        if path != "/api/v1/nodes":
            return None
        at.append(time.monotonic())
        return (429, {"Retry-After": "1"}, b"{}") if count == 0 else None

    assert nodes_of(examined(answering, tmp_path)) == ALL
    assert at[1] - at[0] >= 1


def test_a_server_that_stays_broken_is_quoted_once_and_harmless(tmp_path: Path) -> None:
    def answering(path: str, _query: dict[str, list[str]], _count: int) -> Answer | None:
        said = json.dumps({"message": f"etcd is {ESC} gone"}).encode()
        return (500, {"Retry-After": "0"}, said) if path == "/api/v1/nodes" else None

    with serving(answering, tmp_path) as config:
        done = vdscheck("cluster", "--kubeconfig", str(config))
    assert done.returncode == 0
    assert "with 500: etcd is" in " ".join(done.stdout.split())
    assert "\x1b" not in done.stdout


def test_a_page_that_is_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    def answering(path: str, query: dict[str, list[str]], count: int) -> Answer | None:
        if path == "/api/v1/nodes" and query.get("continue") == ["2"] and count == 0:
            return 200, {"Content-Length": "100000", "Connection": "close"}, b'{"metadata": {}, "items": ['
        return None

    assert nodes_of(examined(answering, tmp_path)) == ALL


def test_a_compressed_page_is_read_and_counted_as_it_was_sent(tmp_path: Path) -> None:
    sizes = []

    def answering(path: str, query: dict[str, list[str]], _count: int) -> Answer | None:
        if path != "/api/v1/nodes":
            return None
        packed = gzip.compress(good(path, query)[2])
        sizes.append(len(packed))
        return 200, {"Content-Encoding": "gzip"}, packed

    found = examined(answering, tmp_path)
    assert nodes_of(found) == ALL
    assert found["measurements"]["cluster.nodes"]["value"]["read"]["size_bytes"] == sum(sizes)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"{}", mtime=0)[:-3]], ids=["other", "short"])
def test_a_compressed_page_that_is_none_is_cut_off(tmp_path: Path, content: bytes) -> None:
    def answering(path: str, _query: dict[str, list[str]], _count: int) -> Answer | None:
        return (200, {"Content-Encoding": "gzip"}, content) if path == "/api/v1/nodes" else None

    reason, detail = absent(examined(answering, tmp_path))
    assert reason == "unreachable"
    assert "cut off" in detail


@pytest.mark.parametrize(
    "content",
    [
        b"<html>hello</html>",
        b"[]",
        b'{"metadata": {}, "items": [5]}',
        b'{"metadata": {}, "items": [{"metadata": 5}]}',
        b"[" * 100_000,
        b'{"metadata": {"continue": 5}, "items": []}',
        b"",
        b'{"kind": "Status", "status": "Failure", "metadata": {}, "code": 403}',
        b'{"kind": "Status", "metadata": {}, "items": []}',
        b'{"kind": "Table", "metadata": {}, "items": []}',
        b'{"kind": "SecretList", "metadata": {}, "items": []}',
        b'{"kind": "Node", "metadata": {"name": "n"}}',
        b'{"kind": "NodeList", "metadata": {}}',
        b'{"kind": "NodeList", "metadata": {"remainingItemCount": 7}, "items": []}',
    ],
)
def test_a_server_that_is_not_kubernetes_is_one_unknown(tmp_path: Path, content: bytes) -> None:
    def answering(path: str, _query: dict[str, list[str]], _count: int) -> Answer | None:
        return (200, {}, content) if path == "/api/v1/nodes" else None

    reason, detail = absent(examined(answering, tmp_path))
    assert reason == "error"
    assert "is not what Kubernetes sends" in detail


def test_a_web_server_is_not_kubernetes(tmp_path: Path) -> None:
    def answering(_path: str, _query: dict[str, list[str]], _count: int) -> Answer:
        return 404, {}, b"<html>no</html>"

    found = examined(answering, tmp_path)
    assert absent(found) == ("unsupported", "the server has no /api/v1/nodes (404)")
    assert found["score"]["value"] is None


@pytest.mark.covered
def test_a_redirect_takes_the_token_nowhere(tmp_path: Path) -> None:
    def answering(path: str, _query: dict[str, list[str]], _count: int) -> Answer | None:
        return (302, {"Location": "http://127.0.0.1:1/"}, b"") if path == "/api/v1/nodes" else None

    assert "302" in absent(examined(answering, tmp_path))[1]


def test_labels_with_escapes_do_not_reach_the_terminal(tmp_path: Path) -> None:
    def answering(path: str, _query: dict[str, list[str]], _count: int) -> Answer | None:
        if path != "/api/v1/nodes":
            return None
        bad = node(0)
        bad["metadata"] = {"name": f"n{ESC}", "labels": {f"topology.kubernetes.io/region{ESC}": "x", "disktype": ESC}}
        bad["status"]["conditions"] = [{"type": "Ready", "status": "False", "message": ESC}]
        bad["status"]["nodeInfo"] = {"kubeletVersion": f"v1.2{ESC}"}
        return _list([bad])

    with serving(answering, tmp_path) as config:
        done = vdscheck("cluster", "--kubeconfig", str(config), "-v", "--region", "x", "--selector", "nvme=disktype")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_a_node_without_capacity_is_no_trouble(tmp_path: Path) -> None:
    def answering(path: str, _query: dict[str, list[str]], _count: int) -> Answer | None:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        return _list([{"metadata": {"name": "virtual"}, "status": ready}]) if path == "/api/v1/nodes" else None

    found = examined(answering, tmp_path)
    assert nodes_of(found) == ["virtual"]
    assert [each["reason"] for each in found["findings"] if each["reason"] == "error"] == []
