"""A raw connection to a Redis server: redis-py's connection and parser over a socket that bounds them both.

Nothing that a server sends, or does not send, costs more than the limits here, and what goes wrong is
told in one sentence that holds no secret.
"""

import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from vdscheck.plugin import Reason, UnavailableError, frozen, safe_text, unmeasured
from vdscheck.probes.redis.messages import meaning, shown
from vdscheck.probes.redis.sockets import (
    ANSWER_LIMIT_BYTES,
    ANSWER_LIMIT_S,
    CONNECT_LIMIT_S,
    BoundedSocket,
    TooLongError,
    UnaskedError,
    connected,
    encrypted,
)
from vdscheck.probes.redis.url import RedisServer

_TCP_INFO = struct.Struct("=68xI28xI44xI")
"""tcpi_rtt, tcpi_total_retrans and tcpi_min_rtt of struct tcp_info (include/uapi/linux/tcp.h)."""

_KINDS = {
    int: "a number",
    float: "a number",
    bool: "a truth value",
    list: "a list",
    dict: "a map",
    type(None): "nothing",
}
Reply = Any
"""Bytes, a number, None, or a list of them: what RESP2 has."""


class RefusedError(UnavailableError):
    """The server answered with an error."""

    def __init__(self, said: str, reason: Reason, why: str) -> None:
        super().__init__(unmeasured(reason, why))
        self.code = said.partition(" ")[0]
        """Its first word."""
        self.full = "max number of clients" in said


class OverdueError(UnavailableError):
    """The server did not answer in time."""


@frozen
class TcpState:
    """What the kernel knows of a TCP connection (TCP_INFO)."""

    rtt_us: int
    """Smoothed; of requests and replies it includes what the server took to answer."""
    min_rtt_us: int
    retransmits: int


class Wire:
    """A connection to a server, logged in unless told not to. Raises UnavailableError from every method."""

    def __init__(self, server: RedisServer, *, log_in: bool = True) -> None:
        self.server = server
        plain = connected(server)
        try:
            self._peer: Any = plain.getpeername()
            self.socket = encrypted(plain, server) if server.tls else plain
            self._bounded = BoundedSocket(self.socket)
            self._connection = _raw_connection(self._bounded)
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
        self._expect(within_s, words)
        return self._answer(self._connection.pack_command(*words), words)

    def ping_ns(self, within_s: float = ANSWER_LIMIT_S) -> int:
        """From the request on its way to the first bytes of its answer."""
        self._expect(within_s, ("PING",))
        answer = self._answer((self._ping,), ("PING",))
        if answer != b"PONG":
            self._not_a_pong(answer)
        return self._bounded.heard_ns - self._bounded.sent_ns

    def pings_ns(self, found: list[int], until: float) -> None:
        """Add the round trips of one PING after the other until some time on the monotonic clock.

        The bare loop: nothing but redis-py's reading and parsing lies between two of them.
        """
        sock, send, read = self._bounded, self._bounded.sendall, self._connection.read_response
        packed, clock, answer = self._ping, time.monotonic, b"PONG"
        self._expect(ANSWER_LIMIT_S, ("PING",))
        try:
            while clock() < until:
                send(packed)
                answer = read()
                if answer != b"PONG" or sock.is_ahead:
                    break
                found.append(sock.heard_ns - sock.sent_ns)
        except Exception as error:  # noqa: BLE001 - redis-py's own, and what a hostile answer makes of its parser
            self._explain(error, ("PING",))
        if answer != b"PONG":
            self._not_a_pong(answer)
        if sock.is_ahead:
            self._unasked(("PING",))

    def _expect(self, within_s: float, words: Sequence[str]) -> None:
        try:
            self._bounded.expect(within_s)
        except UnaskedError:
            self._unasked(words)

    def _unasked(self, words: Sequence[str]) -> NoReturn:
        self._fail(f"sends something before it is asked for {words[0]}: not what Redis does")

    def _not_a_pong(self, answer: Reply) -> NoReturn:
        if isinstance(answer, Exception):
            self._explain(answer, ("PING",))
        said = shown(answer) if isinstance(answer, bytes) else _KINDS.get(type(answer), "something else")
        self._fail(f"answers PING with {said}: not what Redis does")

    def since_sent_ns(self) -> int:
        """How long ago the latest request went out."""
        return time.monotonic_ns() - self._bounded.sent_ns

    def peer_address(self) -> str | None:
        """The address that was connected to; None of a unix socket."""
        return None if self.socket.family == socket.AF_UNIX else self._peer[0]

    def tcp_state(self) -> TcpState | None:
        """What the kernel knows of the connection; None of a unix socket, and of a kernel that says less."""
        if self.socket.family == socket.AF_UNIX:
            return None
        found = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        if len(found) < _TCP_INFO.size:
            return None
        rtt_us, retransmits, min_rtt_us = _TCP_INFO.unpack_from(found)
        return TcpState(rtt_us, min_rtt_us, retransmits)

    def peer_pid(self) -> int | None:
        """The process behind a unix socket, where it can be seen from here."""
        if self.socket.family != socket.AF_UNIX:
            return None
        found = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII"))
        return int(struct.unpack("=iII", found)[0]) or None

    def handshake_ns(self) -> int | None:
        """A TCP handshake of its own, which the kernels make without the server's process; None of a unix socket."""
        if self.socket.family == socket.AF_UNIX:
            return None
        with socket.socket(self.socket.family, socket.SOCK_STREAM) as another:
            another.settimeout(CONNECT_LIMIT_S)
            began = time.monotonic_ns()
            try:
                another.connect(self._peer)
            except OSError:
                return None
            return time.monotonic_ns() - began

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def _answer(self, packed: Sequence[bytes], words: Sequence[str]) -> Reply:
        with suppress(OSError):
            # A server that refuses closes at once: the reason is there to be read though nothing can be sent.
            for piece in packed:
                self._bounded.sendall(piece)
        try:
            answer = self._connection.read_response()
        except Exception as error:  # noqa: BLE001 - redis-py's own, and what a hostile answer makes of its parser
            self._explain(error, words)
        if isinstance(answer, Exception):
            self._explain(answer, words)
        if self._bounded.is_ahead:
            self._unasked(words)
        return answer

    def _explain(self, error: Exception, words: Sequence[str]) -> NoReturn:
        """Raise what the failure of a command means."""
        causes = list(_causes(error))
        head = self._bounded.head
        if any(isinstance(cause, TooLongError) for cause in causes):
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
            why = f"{self.server.name} closed the connection without an answer to {words[0]}{self._perhaps_tls()}"
            raise UnavailableError(unmeasured(Reason.UNREACHABLE, why)) from None
        if any(isinstance(cause, OSError) for cause in causes) or "Connection closed" in str(error):
            self._fail(f"closed the connection in the middle of its answer to {words[0]}")
        self._fail(f"answers {words[0]} with {shown(head)}: not what Redis does")

    def _perhaps_tls(self) -> str:
        return "" if self.server.tls else ": does it speak TLS? Then its address starts with rediss://"

    def _silent(self, words: Sequence[str]) -> str:
        return (
            f"{self.server.name} takes connections and did not answer {words[0]} within {self._bounded.limit_s:g} s: "
            "not Redis, or blocked (a long command, CLIENT PAUSE), or stopped"
        )

    def _fail(self, what: str) -> NoReturn:
        raise UnavailableError(unmeasured(Reason.ERROR, f"{self.server.name} {what}")) from None

    def _refused(self, said: bytes, words: Sequence[str]) -> NoReturn:
        text = safe_text(said)
        reason, why = meaning(text, words, self.server)
        raise RefusedError(text, reason, f"{self.server.name} {why}") from None


def _causes(error: BaseException | None) -> Sequence[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < 10:  # noqa: PLR2004 - no chain is as long as that
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _raw_connection(sock: BoundedSocket) -> Any:  # noqa: ANN401 - redis-py's class, which is imported only here
    from redis.connection import AbstractConnection

    class Raw(AbstractConnection):
        """No pool, no retry, no greeting of its own: a command goes out, its answer is parsed."""

        host = ""

        def repr_pieces(self) -> list[tuple[str, str]]:
            return []

        def _host_error(self) -> str:
            return ""

        def _connect(self) -> BoundedSocket:
            return sock

    def greet(connection: Any) -> None:  # noqa: ANN401
        connection._parser.on_connect(connection)  # noqa: SLF001 - what its own on_connect does first

    # Its own hint says that the function takes nothing, and its documentation that it takes the connection.
    connection: Any = Raw(redis_connect_func=greet, protocol=2)  # type: ignore[arg-type]
    connection.connect()
    return connection
