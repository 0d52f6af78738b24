"""Round trips by TCP: handshakes that the kernel times, with a limit of hops where a way is to be traced.

The kernel's own figure (TCP_INFO) is of the SYN and what answers it. The last packet of the handshake is put
off (tcp(7), TCP_QUICKACK) and the connection reset at once, so that one costs two packets of ours, and the
other side never sees a connection to accept.
"""

import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from vdscheck.probes.path import error_queue
from vdscheck.probes.path.engines import Answer, Stamp
from vdscheck.probes.path.error_queue import IcmpError
from vdscheck.probes.path.packets import Family, kind_of

PACKETS = 2
"""Of ours, for one that is answered: SYN and RST."""
LIMIT_S = 0.9
"""Before the kernel would send a SYN again (TCP_TIMEOUT_INIT: 1 s)."""
NO_STAMP = -1
REFUSED = 1
"""The code of an answer that was a reset."""

_RTT_AT = 68
"""tcpi_rtt in struct tcp_info (include/uapi/linux/tcp.h), in microseconds."""
_INFO_BYTES = 104
_INET: dict[Family, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_LEVEL: dict[Family, int] = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_TTL: dict[Family, int] = {4: socket.IP_TTL, 6: socket.IPV6_UNICAST_HOPS}
_RECEIVE_ERRORS: dict[Family, int] = {4: error_queue.IP_RECVERR, 6: error_queue.IPV6_RECVERR}
_SO_TIMESTAMPING = 37
_STAMPS = 1 << 3 | 1 << 4
_RESET = struct.pack("=ii", 1, 0)


class _Attempt(NamedTuple):
    socket: socket.socket
    sequence: int
    address: str
    until: float


class Tcp:
    """Connections to one port, many at a time. Each is a flow of its own: a load balancer may split them."""

    name = "TCP"
    attributes_short_quotes = True

    def __init__(self, family: Family, port: int) -> None:
        self.family: Family = family
        self.port = port
        self._epoll = select.epoll()
        self._open: dict[int, _Attempt] = {}
        self._at_once: list[Answer] = []

    def fileno(self) -> int:
        """What to wait on: all connections behind one descriptor."""
        return self._epoll.fileno()

    def send(self, address: str, sequence: int, ttl: int, _length: int) -> int:
        """Begin a handshake. Raises OSError."""
        attempt = socket.socket(_INET[self.family], socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            attempt.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMPS)
            attempt.setsockopt(_LEVEL[self.family], _TTL[self.family], ttl)
            attempt.setsockopt(_LEVEL[self.family], _RECEIVE_ERRORS[self.family], 1)
            code = attempt.connect_ex((address, self.port))
        except OSError:
            attempt.close()
            raise
        if code == errno.ECONNREFUSED:
            # On this very host the answer is there before the call returns.
            attempt.close()
            self._at_once.append(Answer(sequence, address, address, "target", REFUSED, None))
        elif code not in (0, errno.EINPROGRESS):
            attempt.close()
            raise OSError(code, "connect")
        else:
            self._open[attempt.fileno()] = _Attempt(attempt, sequence, address, time.monotonic() + LIMIT_S)
            self._epoll.register(attempt.fileno(), select.EPOLLOUT | select.EPOLLERR)
        return NO_STAMP

    def receive(self) -> Iterator[Stamp | Answer]:
        """The handshakes that have come to an end."""
        yield from self._at_once
        self._at_once.clear()
        for descriptor, _ in self._epoll.poll(0):
            attempt = self._open[descriptor]
            answer = self._outcome(attempt)
            self._end(attempt)
            if answer is not None:
                yield answer
        now = time.monotonic()
        for attempt in [each for each in self._open.values() if each.until <= now]:
            self._end(attempt)

    def close(self) -> None:
        """Give up what is under way."""
        for attempt in list(self._open.values()):
            self._end(attempt)
        self._epoll.close()

    def _end(self, attempt: _Attempt) -> None:
        del self._open[attempt.socket.fileno()]
        self._epoll.unregister(attempt.socket.fileno())
        attempt.socket.close()

    def _outcome(self, attempt: _Attempt) -> Answer | None:
        refused = self._refused_on_the_way(attempt)
        if refused is not None:
            return refused
        code = attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ECONNREFUSED:
            return Answer(attempt.sequence, attempt.address, attempt.address, "target", REFUSED, None)
        if code:
            return None
        information = attempt.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        rtt_us = struct.unpack_from("=I", information, _RTT_AT)[0] if len(information) >= _RTT_AT + 4 else 0
        rtt_ns = rtt_us * 1000 or None
        return Answer(attempt.sequence, attempt.address, attempt.address, "target", 0, None, rtt_ns=rtt_ns)

    def _refused_on_the_way(self, attempt: _Attempt) -> Answer | None:
        try:
            _, ancillary, _, _ = attempt.socket.recvmsg(1, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return None
        cause = error_queue.cause(ancillary)
        kind = kind_of(self.family, cause.type, cause.code) if isinstance(cause, IcmpError) else None
        if kind is None or not isinstance(cause, IcmpError):
            return None
        responder = socket.inet_ntop(_INET[self.family], cause.offender)
        at_ns = error_queue.stamp_ns(ancillary)
        return Answer(attempt.sequence, attempt.address, responder, kind, cause.code, at_ns, cause.info or None)
