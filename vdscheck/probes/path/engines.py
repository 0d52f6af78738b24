"""Sockets that send probes and hear what answers, with the kernel's own stamps: raw ICMP, datagram ICMP, UDP.

One socket for all targets of a family. icmplib (whose traceroute these take the place of) sends one probe at
a time and waits for it, needs root for it, takes any late reply for that of the hop it is at, and reads the
clock in Python, where a busy CPU adds milliseconds.
"""

import errno
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol

from vdscheck.probes.path import error_queue
from vdscheck.probes.path.error_queue import Ancillary, IcmpError, SendStamp
from vdscheck.probes.path.packets import (
    COOKIE_BYTES,
    IP_BYTES,
    PAYLOAD_BYTES,
    TRANSPORT_BYTES,
    UDP,
    Family,
    Kind,
    echo_reply,
    echo_request,
    kind_of,
    payload,
    payload_sequence,
    problem,
    quoted_echo,
    without_ip_header,
)

TRACEROUTE_PORT = 33434
"""Where nothing listens, by custom (traceroute's first port)."""

_INET: dict[Family, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_ICMP_PROTOCOL: dict[Family, int] = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_LEVEL: dict[Family, int] = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_HOP_LIMIT: dict[Family, int] = {4: socket.IP_TTL, 6: socket.IPV6_HOPLIMIT}
_RECEIVE_ERRORS: dict[Family, int] = {4: error_queue.IP_RECVERR, 6: error_queue.IPV6_RECVERR}
_MTU_DISCOVER: dict[Family, int] = {4: 10, 6: 23}
_NEVER_FRAGMENT = 3
"""IP_PMTUDISC_PROBE: DF on every packet, and no regard to what the kernel believes of the path's MTU."""
_SO_TIMESTAMPING = 37
_STAMPS = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 11
"""Software stamps on send and receive, with a key for each packet and without its data (timestamping.rst)."""
_BUFFER_BYTES = 1 << 18
_READ_BYTES = 2048
_ANCILLARY_BYTES = 512
_PORT_UNREACHABLE: dict[Family, int] = {4: 3, 6: 4}
_V4_FILTER = struct.pack("=I", ~(1 << 0 | 1 << 3 | 1 << 11) & 0xFFFFFFFF)
_ICMP_FILTER, _SOL_RAW = 1, 255
_V6_PASSED = (1, 2, 3, 129)
_PENDING = (
    errno.EHOSTUNREACH,
    errno.ECONNREFUSED,
    errno.ENETUNREACH,
    errno.EMSGSIZE,
    errno.EPROTO,
    errno.EACCES,
    errno.EOPNOTSUPP,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
)
"""What an ICMP error leaves on a socket for its next call, whatever that call is about."""
_ATTEMPTS = 8
_READS_LIMIT = 4096


class Stamp(NamedTuple):
    """When the kernel gave a packet to the device, in real time."""

    key: int
    at_ns: int


class Answer(NamedTuple):
    """What came back for a probe; the sequence is None where the quote is too short to tell which."""

    sequence: int | None
    target: str | None
    """The target that the probe was for, where the kernel says so."""
    responder: str
    kind: Kind
    code: int
    at_ns: int | None
    """The kernel's stamp in real time; None where there is none."""
    mtu_bytes: int | None = None
    labels: tuple[int, ...] = ()
    rtt_ns: int | None = None
    """The round trip, where the kernel has measured it itself."""


class Engine(Protocol):
    """What sends probes and hears what answers."""

    name: str
    family: Family
    attributes_short_quotes: bool
    """Whether a quote of 8 octets tells which probe it is of."""

    def fileno(self) -> int:
        """What to wait on."""

    def send(self, address: str, sequence: int, ttl: int, length: int) -> int:
        """Send a probe as an IP packet of `length` octets, or the least; the key of its stamp. Raises OSError."""

    def receive(self) -> Iterator[Stamp | Answer]:
        """What has come since."""

    def close(self) -> None:
        """Close the socket."""


class _Sockets:
    """What the three have in common: one socket, stamps by a counter, errors from its queue."""

    name = ""
    attributes_short_quotes = True

    def __init__(self, family: Family, kind: int, protocol: int) -> None:
        self.family: Family = family
        self.cookie = secrets.token_bytes(COOKIE_BYTES)
        self._sent = 0
        self._socket = socket.socket(_INET[family], kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMPS)
            self._socket.setsockopt(_LEVEL[family], _MTU_DISCOVER[family], _NEVER_FRAGMENT)
            self._socket.setsockopt(_LEVEL[family], _RECEIVE_ERRORS[family], 1)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _send(self, packet: bytes, address: str, port: int, ttl: int) -> int:
        ancillary = [(_LEVEL[self.family], _HOP_LIMIT[self.family], struct.pack("=i", ttl))]
        for attempt in range(_ATTEMPTS):
            try:
                self._socket.sendmsg([packet], ancillary, 0, (address, port))
            except OSError as error:
                # It may be of a packet before this one: reading it clears it.
                if error.errno not in _PENDING or attempt == _ATTEMPTS - 1:
                    raise
            else:
                break
        self._sent += 1
        return self._sent - 1

    def _payload_length(self, length: int) -> int:
        return max(PAYLOAD_BYTES, length - IP_BYTES[self.family] - TRANSPORT_BYTES)

    def receive(self) -> Iterator[Stamp | Answer]:
        for data, ancillary, address in self._queued(socket.MSG_ERRQUEUE):
            cause, at_ns = error_queue.cause(ancillary), error_queue.stamp_ns(ancillary)
            if isinstance(cause, SendStamp):
                if at_ns is not None:
                    yield Stamp(cause.key, at_ns)
            elif cause is not None:
                answer = self._error(cause, data, address, at_ns)
                if answer is not None:
                    yield answer
        for data, ancillary, address in self._queued(0):
            answer = self._reply(data, address, error_queue.stamp_ns(ancillary))
            if answer is not None:
                yield answer

    def _queued(self, flags: int) -> Iterator[tuple[bytes, list[Ancillary], str | None]]:
        for _ in range(_READS_LIMIT):
            try:
                data, ancillary, _, address = self._socket.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, flags)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PENDING:
                    continue
                raise
            yield data, ancillary, address[0].partition("%")[0] if address else None

    def _error(self, cause: IcmpError, data: bytes, target: str | None, at_ns: int | None) -> Answer | None:
        kind = kind_of(self.family, cause.type, cause.code)
        if kind is None:
            return None
        responder = socket.inet_ntop(_INET[self.family], cause.offender)
        mtu = cause.info or None if kind == "too-big" else None
        return Answer(self._quoted(data), target, responder, kind, cause.code, at_ns, mtu)

    def _quoted(self, data: bytes) -> int | None:
        raise NotImplementedError

    def _reply(self, data: bytes, address: str | None, at_ns: int | None) -> Answer | None:
        raise NotImplementedError


class DatagramIcmp(_Sockets):
    """ICMP echo over a datagram socket, which net.ipv4.ping_group_range allows to some users or to all."""

    name = "datagram ICMP"

    def __init__(self, family: Family) -> None:
        super().__init__(family, socket.SOCK_DGRAM, _ICMP_PROTOCOL[family])

    def send(self, address: str, sequence: int, ttl: int, length: int) -> int:
        """Send an echo; the kernel puts in its own identifier. Raises OSError."""
        packet = echo_request(self.family, 0, sequence, self.cookie, self._payload_length(length))
        return self._send(packet, address, 0, ttl)

    def _quoted(self, data: bytes) -> int | None:
        echo = quoted_echo(self.family, data)
        return echo.sequence if echo and self.cookie.startswith(echo.cookie) else None

    def _reply(self, data: bytes, address: str | None, at_ns: int | None) -> Answer | None:
        echo = echo_reply(self.family, data)
        if echo is None or echo.cookie != self.cookie or address is None:
            return None
        return Answer(echo.sequence, address, address, "target", 0, at_ns)


class RawIcmp(_Sockets):
    """ICMP echo over a raw socket, which needs root or CAP_NET_RAW; shows the extensions of routers as well."""

    name = "raw ICMP"

    def __init__(self, family: Family) -> None:
        super().__init__(family, socket.SOCK_RAW, _ICMP_PROTOCOL[family])
        self.ident = secrets.randbits(16)
        # Errors come as messages here, and those of other programs must not be left on this socket.
        self._socket.setsockopt(_LEVEL[family], _RECEIVE_ERRORS[family], 0)
        if family == 4:  # noqa: PLR2004
            self._socket.setsockopt(_SOL_RAW, _ICMP_FILTER, _V4_FILTER)
        else:
            blocked = bytearray(b"\xff" * 32)
            for passed in _V6_PASSED:
                word = passed // 32 * 4
                bits = struct.unpack_from("=I", blocked, word)[0] & ~(1 << passed % 32)
                struct.pack_into("=I", blocked, word, bits)
            self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP_FILTER, bytes(blocked))

    def send(self, address: str, sequence: int, ttl: int, length: int) -> int:
        """Send an echo. Raises OSError."""
        packet = echo_request(self.family, self.ident, sequence, self.cookie, self._payload_length(length))
        return self._send(packet, address, 0, ttl)

    def _quoted(self, data: bytes) -> int | None:
        echo = quoted_echo(self.family, data)
        if echo is None or echo.ident != self.ident or not self.cookie.startswith(echo.cookie):
            return None
        return echo.sequence

    def _reply(self, data: bytes, address: str | None, at_ns: int | None) -> Answer | None:
        message = without_ip_header(data) if self.family == 4 else data  # noqa: PLR2004
        if message is None or address is None:
            return None
        echo = echo_reply(self.family, message)
        if echo is not None:
            if echo.ident != self.ident or echo.cookie != self.cookie:
                return None
            return Answer(echo.sequence, address, address, "target", 0, at_ns)
        found = problem(self.family, message)
        if found is None or found.quote.protocol != _ICMP_PROTOCOL[self.family]:
            return None
        sequence = self._quoted(found.quote.rest)
        if sequence is None:
            return None
        target = socket.inet_ntop(_INET[self.family], found.quote.destination)
        return Answer(sequence, target, address, found.kind, found.code, at_ns, found.mtu_bytes, found.labels)


class Udp(_Sockets):
    """UDP to a port where nobody listens; the kernel hands over the ICMP errors. Needs no privilege at all."""

    name = "UDP"
    attributes_short_quotes = False

    def __init__(self, family: Family) -> None:
        super().__init__(family, socket.SOCK_DGRAM, UDP)

    def send(self, address: str, sequence: int, ttl: int, length: int) -> int:
        """Send a datagram. Raises OSError."""
        packet = payload(sequence, self.cookie, self._payload_length(length))
        return self._send(packet, address, TRACEROUTE_PORT, ttl)

    def _error(self, cause: IcmpError, data: bytes, target: str | None, at_ns: int | None) -> Answer | None:
        answer = super()._error(cause, data, target, at_ns)
        if answer is None:
            return None
        closed = answer.kind == "unreachable" and answer.code == _PORT_UNREACHABLE[self.family]
        return answer._replace(kind="target") if closed and answer.responder == target else answer

    def _quoted(self, data: bytes) -> int | None:
        return payload_sequence(data, self.cookie)

    def _reply(self, _data: bytes, _address: str | None, _at_ns: int | None) -> Answer | None:
        return None


ENGINES: dict[str, type[RawIcmp] | type[DatagramIcmp] | type[Udp]] = {
    "raw": RawIcmp,
    "datagram": DatagramIcmp,
    "udp": Udp,
}
"""In the order of preference: what shows most first."""


def open_engine(family: Family, names: tuple[str, ...] = ("raw", "datagram", "udp")) -> Engine | None:
    """The first engine that may be had; None where the host has no such family at all."""
    for name in names:
        with suppress(OSError):
            return ENGINES[name](family)
    return None
