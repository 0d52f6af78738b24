"""Small API servers that remember what they were sent, with TLS and without, and kubeconfigs for them."""

import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.redis_server import certificates

Answer = tuple[int, dict[str, Any]]
LISTS = {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []}


@dataclass
class ApiServer:
    """A server that runs, and what came to it."""

    address: str
    authority: Path | None
    authorizations: list[str | None] = field(default_factory=list)
    """The Authorization header of each request."""
    raw: list[str] = field(default_factory=list)
    """Each request line with all its headers."""

    def kubeconfig(self, folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
        """A kubeconfig of this server for a user."""
        named = {"server": self.address} | ({"certificate-authority": str(self.authority)} if self.authority else {})
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": named | cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file = folder / "kubeconfig"
        file.write_text(json.dumps(content))
        return file


def content(_path: str, _headers: dict[str, str]) -> Answer:
    """An empty cluster."""
    return 200, LISTS


@contextmanager
def api_server(
    folder: Path, *, tls: bool = True, answering: Callable[[str, dict[str, str]], Answer] = content
) -> Iterator[ApiServer]:
    """A server on loopback; `answering` gets a path and the headers."""
    found: ApiServer

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            found.authorizations.append(self.headers.get("Authorization"))
            found.raw.append(f"{self.requestline}\n{self.headers}")
            status, said = answering(self.path.partition("?")[0], dict(self.headers))
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_words: object) -> None:
            """A client that does not trust this server, or goes away, is what is tested."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        authority = None
        if tls:
            authority, certificate, key = certificates(folder / "tls")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            # The handshake is the thread's that serves the connection: one that fails stops nobody.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        address = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.server_address[1]}"
        found = ApiServer(address, authority)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()
