"""A raw connection to a Redis server: redis-py's connection and parser over a socket that bounds them both.

Nothing that a server sends, or does not send, costs more than the limits here, and what goes wrong is
told in one sentence that holds no secret.
"""

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from vdscheck.model import frozen
from vdscheck.plugin import Reason, UnavailableError, not_applicable, unmeasured
from vdscheck.probes.redis_url import RedisServer
from vdscheck.target import safe_text

CONNECT_LIMIT_S = 2.0
ANSWER_LIMIT_S = 2.0
ANSWER_LIMIT_BYTES = 1 << 20
"""INFO of a busy server has some 20 kB, with statistics of all commands 60 kB."""
SHOWN_LIMIT = 120
READ_BYTES = 1 << 16

_TCP_INFO = struct.Struct("=68xI28xI44xI")
"""tcpi_rtt, tcpi_total_retrans and tcpi_min_rtt of struct tcp_info (include/uapi/linux/tcp.h)."""
_SHORT_SECRET = 4

Reply = Any
"""Bytes, a number, None, or a list of them: what RESP2 has."""


class RefusedError(UnavailableError):
    """The server answered with an error; `code` is its first word."""

    def __init__(self, code: str, reason: Reason, why: str) -> None:
        super().__init__(unmeasured(reason, why))
        self.code = code


class OverdueError(UnavailableError):
    """The server did not answer in time."""


@frozen
class TcpState:
    """What the kernel knows of a TCP connection (TCP_INFO)."""

    rtt_us: int
    """Smoothed; of requests and replies it includes what the server took to answer."""
    min_rtt_us: int
    retransmits: int


class BoundedSocket:
    """What redis-py takes for a socket: each answer has a limit of time and of bytes, counted from its request.

    It also notes when a request went out and when the first bytes of its answer were there.
    """

    def __init__(self, plain: socket.socket) -> None:
        self._socket = plain
        self.sent_ns = self.heard_ns = 0
        self.head = b""
        """The beginning of the answer, as it came."""
        self._left_bytes = 0
        self._limit_s = ANSWER_LIMIT_S

    def expect(self, within_s: float) -> None:
        """Say how long the next answer may take."""
        self._limit_s = within_s
        self._socket.settimeout(within_s)

    def sendall(self, data: bytes) -> None:
        self.head = b""
        self._left_bytes = ANSWER_LIMIT_BYTES
        self.sent_ns = time.monotonic_ns()
        self._socket.sendall(data)

    def recv(self, size: int) -> bytes:
        if self.head:
            # Only the first piece is timed, so only for the others does the clock cost nothing.
            left_s = self._limit_s - (time.monotonic_ns() - self.sent_ns) / 1e9
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            piece = self._socket.recv(size)
            self._socket.settimeout(self._limit_s)
        else:
            piece = self._socket.recv(size)
            self.heard_ns = time.monotonic_ns()
            self.head = piece[:SHOWN_LIMIT]
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            raise _TooLongError
        return piece

    def recv_into(self, buffer: bytearray) -> int:
        """For the parser of hiredis, which redis-py takes where that is installed."""
        piece = self.recv(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def settimeout(self, seconds: float | None) -> None:
        """The limits here are ours, not redis-py's."""

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()


class _TooLongError(OSError):
    """The answer is longer than any that Redis gives to what was asked."""


class Wire:
    """A connection to a server, logged in unless told not to. Raises UnavailableError from every method."""

    def __init__(self, server: RedisServer, *, log_in: bool = True) -> None:
        self.server = server
        began = time.monotonic_ns()
        plain = _connected(server)
        self.connect_us = (time.monotonic_ns() - began) / 1000
        self.plain = plain
        try:
            self._socket = BoundedSocket(_encrypted(plain, server) if server.tls else plain)
            self._connection = _raw_connection(self._socket)
            self._ping = b"".join(self._connection.pack_command("PING"))
            if log_in:
                self._log_in()
        except BaseException:
            plain.close()
            raise

    def _log_in(self) -> None:
        server = self.server
        if server.password is not None:
            user = (server.username,) if server.username is not None else ()
            self.ask("AUTH", *user, server.password)
        if server.database:
            self.ask("SELECT", str(server.database))

    def ask(self, *words: str, within_s: float = ANSWER_LIMIT_S) -> Reply:
        """The answer to a command. An error that the server answers with is raised."""
        self._socket.expect(within_s)
        return self._answer(self._connection.pack_command(*words), words)

    def ping_ns(self, within_s: float = ANSWER_LIMIT_S) -> int:
        """From the request on its way to the first bytes of its answer."""
        self._socket.expect(within_s)
        answer = self._answer((self._ping,), ("PING",))
        if answer != b"PONG":
            self._fail(f"answers PING with {self._shown(repr(answer))}: not what Redis does")
        return self._socket.heard_ns - self._socket.sent_ns

    def pings_ns(self, until: float) -> list[int]:
        """Round trips of one PING after the other until some time on the monotonic clock.

        The bare loop: nothing but redis-py lies between two of them. Raises OverdueError, with the trips
        so far lost.
        """
        sock, send, read = self._socket, self._connection.send_packed_command, self._connection.read_response
        packed, found, clock = (self._ping,), [], time.monotonic
        sock.expect(ANSWER_LIMIT_S)
        answer: Reply = b"PONG"
        try:
            while clock() < until:
                send(packed, check_health=False)
                answer = read()
                if answer != b"PONG":
                    break
                found.append(sock.heard_ns - sock.sent_ns)
        except Exception as error:  # noqa: BLE001 - redis-py's own errors, and what a hostile answer makes of its parser
            self._explain(error, ("PING",))
        if answer != b"PONG":
            self._fail(f"answers PING with {self._shown(repr(answer))}: not what Redis does")
        return found

    def tcp_state(self) -> TcpState | None:
        """What the kernel knows of the connection; None of a unix socket, and of a kernel that says less."""
        if self.plain.family == socket.AF_UNIX:
            return None
        found = self.plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        if len(found) < _TCP_INFO.size:
            return None
        rtt_us, retransmits, min_rtt_us = _TCP_INFO.unpack_from(found)
        return TcpState(rtt_us, min_rtt_us, retransmits)

    def peer_pid(self) -> int | None:
        """The process behind a unix socket, where it can be seen from here."""
        if self.plain.family != socket.AF_UNIX:
            return None
        found = self.plain.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII"))
        return int(struct.unpack("=iII", found)[0]) or None

    def connect_again_ns(self) -> int | None:
        """A TCP handshake of its own, which the two kernels make without the server's process; None of a unix socket."""
        if self.plain.family == socket.AF_UNIX:
            return None
        with socket.socket(self.plain.family, socket.SOCK_STREAM) as another:
            another.settimeout(CONNECT_LIMIT_S)
            began = time.monotonic_ns()
            try:
                another.connect(self.plain.getpeername())
            except OSError:
                return None
            return time.monotonic_ns() - began

    def close(self) -> None:
        """Close it."""
        self.plain.close()

    def _answer(self, packed: Sequence[bytes], words: Sequence[str]) -> Reply:
        with suppress(OSError):
            # A server that refuses closes at once: the reason is there to be read though nothing can be sent.
            for piece in packed:
                self._socket.sendall(piece)
        try:
            return self._connection.read_response()
        except Exception as error:  # noqa: BLE001 - redis-py's own errors, and what a hostile answer makes of its parser
            self._explain(error, words)

    def _explain(self, error: Exception, words: Sequence[str]) -> NoReturn:
        """Raise what the failure of a command means."""
        causes = list(_causes(error))
        head = self._socket.head
        if any(isinstance(cause, _TooLongError) for cause in causes):
            self._fail(f"answers {words[0]} with more than {ANSWER_LIMIT_BYTES:,} bytes: not what Redis does")
        if any(isinstance(cause, TimeoutError) for cause in causes):
            why = f"{self.server.name} did not finish its answer to {words[0]} in time" if head else self._silent(words)
            raise OverdueError(unmeasured(Reason.TIMEOUT, why)) from None
        if head.startswith(b"-"):
            self._refused(head.partition(b"\r\n")[0][1:], words)
        if head.startswith(b"HTTP/"):
            self._fail("answers in HTTP: not a Redis server")
        if head[:2] == b"\x15\x03":
            self._fail("answers in TLS: its address starts with rediss://")
        if not head:
            why = f"{self.server.name} closed the connection without an answer to {words[0]}"
            raise UnavailableError(unmeasured(Reason.UNREACHABLE, why)) from None
        if any(isinstance(cause, OSError) for cause in causes) or "Connection closed" in str(error):
            self._fail(f"closed the connection in the middle of its answer to {words[0]}")
        self._fail(f"answers {words[0]} with {self._shown(head)}: not what Redis does")

    def _silent(self, words: Sequence[str]) -> str:
        return (
            f"{self.server.name} takes connections and did not answer {words[0]} within {self._socket._limit_s:g} s: "  # noqa: SLF001
            "not Redis, or blocked (a long command, CLIENT PAUSE), or stopped"
        )

    def _fail(self, what: str) -> NoReturn:
        raise UnavailableError(unmeasured(Reason.ERROR, f"{self.server.name} {what}")) from None

    def _refused(self, said: bytes, words: Sequence[str]) -> NoReturn:
        text = self._shown(said)
        code = text.partition(" ")[0]
        reason, why = _meaning(code, text, words, self.server)
        raise RefusedError(code, reason, f"{self.server.name} {why}") from None

    def _shown(self, said: bytes | str) -> str:
        return hidden(shown(said), self.server)


def shown(said: bytes | str) -> str:
    """Words of a server as one short line in which nothing acts on a terminal."""
    text = safe_text(said)[: 2 * SHOWN_LIMIT]
    plain = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return plain if len(plain) <= SHOWN_LIMIT else f"{plain[:SHOWN_LIMIT]}..."


def hidden(text: str, server: RedisServer) -> str:
    """Words of a server without our password, which it may well repeat."""
    secret = server.password
    if not secret:
        return text
    pattern = re.escape(secret)
    return re.sub(pattern if len(secret) >= _SHORT_SECRET else rf"(?<!\w){pattern}(?!\w)", "***", text)


def _meaning(code: str, text: str, words: Sequence[str], server: RedisServer) -> tuple[Reason, str]:
    """Why a server refuses, and what to do."""
    how = "in VDSCHECK_REDIS_URL or the configuration, as redis://USER:PASSWORD@HOST"
    known = {
        "NOAUTH": (Reason.PERMISSION, f"asks for a password: give it {how}"),
        "WRONGPASS": (Reason.PERMISSION, f"refuses this password of user {server.user}: give the right one {how}"),
        "NOPERM": (
            Reason.PERMISSION,
            f"does not let user {server.user} do {permission(words)[1:].replace('|', ' ').upper()}: "
            f"ACL SETUSER {server.user} {permission(words)}",
        ),
        "DENIED": (
            Reason.PERMISSION,
            "is in protected mode: without a password it serves its own machine only; run vdscheck there",
        ),
        "LOADING": (Reason.UNREACHABLE, "is loading its data and answers when that is done: run vdscheck again then"),
        "MASTERDOWN": (
            Reason.UNREACHABLE,
            "is a replica that has lost its master and gives no stale answers (replica-serve-stale-data no)",
        ),
        "BUSY": (Reason.UNREACHABLE, "is blocked by a script: SCRIPT KILL ends one that has not written"),
    }
    if code in known:
        return known[code]
    if "max number of clients" in text:
        return Reason.UNREACHABLE, "refuses connections: its maximum number of clients (maxclients) is reached"
    if words[0] == "AUTH" and ("without any password" in text or "no password is set" in text):
        return Reason.PERMISSION, "has no password for this user, though one was given: leave it out"
    if words[0] == "AUTH" and "invalid password" in text:
        return known["WRONGPASS"]
    if words[0] == "SELECT":
        return Reason.ERROR, f"has no database {server.database}"
    if "unknown command" in text:
        return Reason.UNSUPPORTED, f"does not know {' '.join(words[:2]) if words[0] != 'AUTH' else 'AUTH'}"
    return Reason.ERROR, f"refuses {words[0]}: {text}"


def permission(words: Sequence[str]) -> str:
    """The rule of an ACL that allows a command: `+info`, `+config|get`."""
    with_subcommand = words[0] in ("CONFIG", "LATENCY", "SLOWLOG", "CLIENT") and len(words) > 1
    return f"+{words[0]}|{words[1]}".lower() if with_subcommand else f"+{words[0]}".lower()


def _causes(error: BaseException | None) -> Sequence[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < 10:  # noqa: PLR2004 - no chain is as long as that
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _raw_connection(sock: BoundedSocket) -> Any:  # noqa: ANN401 - redis-py's class, which is imported only here
    from redis.connection import AbstractConnection

    class Raw(AbstractConnection):  # type: ignore[misc]
        """No pool, no retry, no greeting of its own: a command goes out, its answer is parsed."""

        def repr_pieces(self) -> list[tuple[str, str]]:
            return []

        def _host_error(self) -> str:
            return ""

        def _connect(self) -> BoundedSocket:
            return sock

    def greet(connection: Any) -> None:  # noqa: ANN401
        connection._parser.on_connect(connection)  # noqa: SLF001 - what its own on_connect does first

    connection = Raw(redis_connect_func=greet, protocol=2, socket_timeout=ANSWER_LIMIT_S)
    connection.connect()
    return connection


def _connected(server: RedisServer) -> socket.socket:
    if server.socket_path is not None:
        return _to(socket.AF_UNIX, server.socket_path, server)
    ends_at = time.monotonic() + CONNECT_LIMIT_S
    addresses = _addresses(server)
    for number, (family, address) in enumerate(addresses, 1):
        try:
            return _to(family, address, server, max(0.1, ends_at - time.monotonic()))
        except UnavailableError:
            if number == len(addresses):
                raise
    raise UnavailableError(unmeasured(Reason.UNREACHABLE, f"there is no host {server.host}"))


def _to(family: int, address: Any, server: RedisServer, limit_s: float = CONNECT_LIMIT_S) -> socket.socket:  # noqa: ANN401
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(limit_s)
        made.connect(address)
        if family != socket.AF_UNIX:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        made.close()
        raise UnavailableError(_unreachable(error, server)) from error
    return made


def _unreachable(error: OSError, server: RedisServer) -> Any:  # noqa: ANN401 - an Absent
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
    """What the name of a host leads to. The resolver has no deadline of its own, so a thread waits for it."""
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


def _encrypted(plain: socket.socket, server: RedisServer) -> ssl.SSLSocket:
    try:
        context = ssl.create_default_context(cafile=server.ca_file)
        if not server.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if server.certificate_file is not None:
            context.load_cert_chain(server.certificate_file, server.key_file)
    except (OSError, ValueError) as error:
        why = f"the TLS files of {server.name} cannot be used: {shown(str(error))}"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error
    plain.settimeout(CONNECT_LIMIT_S)
    try:
        return context.wrap_socket(plain, server_hostname=server.host)
    except (OSError, ValueError) as error:
        raise UnavailableError(_not_encrypted(error, server)) from error


def _not_encrypted(error: Exception, server: RedisServer) -> Any:  # noqa: ANN401 - an Absent
    if isinstance(error, ssl.SSLCertVerificationError):
        said = shown(error.verify_message).rstrip(".")
        return unmeasured(Reason.UNREACHABLE, f"the certificate of {server.name} is not accepted: {said}")
    if isinstance(error, TimeoutError):
        why = f"{server.name} takes connections and did not answer a TLS greeting within {CONNECT_LIMIT_S:g} s"
        return unmeasured(Reason.TIMEOUT, why)
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return unmeasured(Reason.UNREACHABLE, f"{server.name} does not speak TLS: its address starts with redis://")
    said = shown(getattr(error, "reason", None) or str(error) or "closed")
    return unmeasured(Reason.UNREACHABLE, f"no TLS connection to {server.name}: {said}")
