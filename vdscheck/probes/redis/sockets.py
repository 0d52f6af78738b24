"""Sockets to Redis servers: found, connected, encrypted, and bounded in time and bytes."""

import select
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from typing import Any

from vdscheck.linux.own_addresses import LOCALHOST
from vdscheck.plugin import Absent, Reason, UnavailableError, not_applicable, secrets, unmeasured
from vdscheck.probes.redis.messages import SHOWN_LIMIT, shown
from vdscheck.probes.redis.url import RedisServer

CONNECT_LIMIT_S = 2.0
ANSWER_LIMIT_S = 2.0
ANSWER_LIMIT_BYTES = 1 << 20
"""INFO of a busy server has some 20 kB, with statistics of all commands 60 kB."""


class BoundedSocket:
    """What redis-py takes for a socket: each answer has a limit of time and of bytes, counted from its request.

    It also notes when a request went out and when the first bytes of its answer were there.
    """

    def __init__(self, plain: socket.socket) -> None:
        self._socket = plain
        self.sent_ns = 0
        """When the latest request went out."""
        self.heard_ns = 0
        """When the first bytes of its answer were there."""
        self.head = b""
        """The beginning of the answer, as it came."""
        self._left_bytes = 0
        self.limit_s = ANSWER_LIMIT_S
        """How long the answer may take."""

    def expect(self, within_s: float) -> None:
        """Say how long the next answer may take. Raises UnaskedError where one is there before its request."""
        if self._holds_an_answer():
            raise UnaskedError
        self.limit_s = within_s
        self._socket.settimeout(within_s)

    @property
    def is_ahead(self) -> bool:
        """Whether the latest answer was here before its request went out."""
        return self.heard_ns < self.sent_ns

    def _holds_an_answer(self) -> bool:
        """Whether something was sent that nobody asked for. An error may be: whoever is refused is told so at once.

        Before the first request it is that one's answer, whatever it is. Under TLS this cannot be seen: what is
        there to be read may be TLS's own.
        """
        if not self.sent_ns or isinstance(self._socket, ssl.SSLSocket):
            return False
        if not select.select([self._socket], [], [], 0)[0]:
            return False
        try:
            return self._socket.recv(1, socket.MSG_PEEK) not in (b"", b"-")
        except OSError:
            return False

    def sendall(self, data: bytes) -> None:
        """Send a request, or the next piece of one."""
        self.head = b""
        self._left_bytes = ANSWER_LIMIT_BYTES
        self.sent_ns = time.monotonic_ns()
        self._socket.sendall(data)

    def recv(self, size: int) -> bytes:
        """Receive some of the answer."""
        if self.head:
            # Only the first piece is timed, so only for the others does the clock cost nothing.
            left_s = self.limit_s - (time.monotonic_ns() - self.sent_ns) / 1e9
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            piece = self._socket.recv(size)
            self._socket.settimeout(self.limit_s)
        else:
            piece = self._socket.recv(size)
            self.heard_ns = time.monotonic_ns()
            self.head = piece[:SHOWN_LIMIT]
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            raise TooLongError
        return piece

    def recv_into(self, buffer: bytearray) -> int:
        """For the parser of hiredis, which redis-py takes where that is installed."""
        piece = self.recv(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def settimeout(self, seconds: float | None) -> None:
        """The limits here are ours, not redis-py's."""

    def shutdown(self, how: int) -> None:
        """Say that no more comes."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class UnaskedError(OSError):
    """The server sent something before it was asked."""


class TooLongError(OSError):
    """The answer is longer than any that Redis gives to what was asked."""


def connected(server: RedisServer) -> socket.socket:
    """A socket to the server, by the first of its addresses that takes one."""
    if server.socket_path is not None:
        return _to(socket.AF_UNIX, server.socket_path, server)
    ends_at = time.monotonic() + CONNECT_LIMIT_S
    failed: list[UnavailableError] = []
    for family, address in _addresses(server):
        try:
            return _to(family, address, server, max(0.1, ends_at - time.monotonic()))
        except UnavailableError as error:
            failed.append(error)
    if failed:
        # Of localhost the first is 127.0.0.1; the other is one that many hosts do not have.
        raise failed[0 if server.is_localhost else -1]
    raise UnavailableError(unmeasured(Reason.UNREACHABLE, f"there is no host {server.host}"))


def _to(family: int, address: Any, server: RedisServer, limit_s: float = CONNECT_LIMIT_S) -> socket.socket:  # noqa: ANN401
    with ExitStack() as closing:
        try:
            made = closing.enter_context(socket.socket(family, socket.SOCK_STREAM))
            made.settimeout(limit_s)
            made.connect(address)
            if family != socket.AF_UNIX:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise UnavailableError(_unreachable(error, server)) from error
        closing.pop_all()
    return made


def _unreachable(error: OSError, server: RedisServer) -> Absent:
    if isinstance(error, TimeoutError):
        return unmeasured(Reason.TIMEOUT, f"{server.name} did not take a connection within {CONNECT_LIMIT_S:g} s")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError) and not server.named:
        return not_applicable(f"no Redis listens on {server.name}: name one with --redis URL, if there is one")
    if isinstance(error, PermissionError):
        return unmeasured(Reason.PERMISSION, f"{server.name}: permission denied: sudo vdscheck, or join its group")
    if isinstance(error, ConnectionRefusedError):
        return unmeasured(Reason.UNREACHABLE, f"nobody listens on {server.name}: connection refused")
    return unmeasured(Reason.UNREACHABLE, f"{server.name} cannot be reached: {(error.strerror or 'no').lower()}")


def _addresses(server: RedisServer) -> list[tuple[int, Any]]:
    """What the name of a host leads to. The resolver has no deadline of its own, so a thread waits for it.

    But localhost is asked of none: `--offline` sends the password there.
    """
    if server.is_localhost:
        return [(socket.AF_INET, (LOCALHOST[4], server.port)), (socket.AF_INET6, (LOCALHOST[6], server.port))]
    found: list[tuple[int, Any]] = []
    failed: list[Exception] = []

    def look_up() -> None:
        try:
            answers = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
            found.extend((family, address) for family, _, _, _, address in answers)
        except (OSError, UnicodeError) as error:
            failed.append(error)

    looking = threading.Thread(target=look_up, daemon=True)
    looking.start()
    looking.join(CONNECT_LIMIT_S)
    if looking.is_alive():
        why = f"the name {server.host} was not resolved within {CONNECT_LIMIT_S:g} s"
        raise UnavailableError(unmeasured(Reason.TIMEOUT, why))
    if failed:
        why = f"there is no host {server.host}: its name cannot be resolved"
        raise UnavailableError(unmeasured(Reason.UNREACHABLE, why))
    return found


def encrypted(plain: socket.socket, server: RedisServer) -> ssl.SSLSocket:
    """The socket with TLS, after the greeting; the plain one is used up."""
    try:
        context = ssl.create_default_context(cafile=server.ca_file)
        context.hostname_checks_common_name = False  # RFC 9525: the names of a server are those of subjectAltName
        if not server.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if server.certificate_file is not None:
            context.load_cert_chain(server.certificate_file, server.key_file)
    except (OSError, ValueError) as error:
        why = f"the TLS files of {server.name} cannot be used: {secrets.what_failed(error)}"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error
    plain.settimeout(CONNECT_LIMIT_S)
    try:
        return context.wrap_socket(plain, server_hostname=server.host)
    except (OSError, ValueError) as error:
        raise UnavailableError(_not_encrypted(error, server)) from error


def _not_encrypted(error: Exception, server: RedisServer) -> Absent:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = shown(error.verify_message).rstrip(".")
        return unmeasured(Reason.UNREACHABLE, f"the certificate of {server.name} is not accepted: {said}")
    if isinstance(error, TimeoutError):
        why = f"{server.name} takes connections and did not answer a TLS greeting within {CONNECT_LIMIT_S:g} s"
        return unmeasured(Reason.TIMEOUT, why)
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return unmeasured(Reason.UNREACHABLE, f"{server.name} does not speak TLS: its address starts with redis://")
    return unmeasured(Reason.UNREACHABLE, f"no TLS connection to {server.name}: {secrets.what_failed(error)}")
