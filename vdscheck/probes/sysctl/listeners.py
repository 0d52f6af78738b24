"""Asks the kernel for its TCP sockets over netlink: what listens, how long its queue may grow, who owns it."""

import errno
import struct
import sys
import time
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, NamedTuple

from vdscheck.linux import optional_files
from vdscheck.linux.processes import socket_owners
from vdscheck.measurements import Listener, Listeners
from vdscheck.plugin import Host, Reason, UnavailableError, probe, unmeasured

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR = 2
NLMSG_DONE = 3
STATE_LISTEN = 10
ANY_STATE = 0x1FFE
"""TCP_ESTABLISHED to TCP_NEW_SYN_RECV, a bit each (include/net/tcp_states.h)."""

HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBxI48x")
"""struct inet_diag_req_v2 with an empty socket id (include/uapi/linux/inet_diag.h)."""
_MESSAGE = "BBxxH2x16s28x4xIIxxxxI"
MESSAGE = struct.Struct(f"={_MESSAGE}")
"""struct inet_diag_msg; the ports, in network order, are swapped after reading."""
_AF_INET, _AF_INET6 = 2, 10
"""As Linux numbers them: to import socket for the names takes 2 ms of every run."""
ERRNO = struct.Struct("=i")
MAX_ERRNO = 4095
DATAGRAM_BYTES = 1 << 18
ANSWER_LIMIT_S = 3.0
"""How long the kernel may take to list what listens: it may have to load a module from a slow disk first."""
PORTS_LIMIT_S = 1.0
"""How long the ports of all sockets are counted: a busy gateway has hundreds of thousands of them."""


NAMED_LIMIT = 5000
"""How many sockets are given their owners."""


class DiagError(Exception):
    """What the kernel answered is not what inet_diag answers."""


class DiagSocket(NamedTuple):
    """A TCP socket as inet_diag describes it."""

    family: int
    state: int
    source: bytes
    """The local address in network order, with room for IPv6."""
    port: int
    read_queue: int
    """Of a listening socket: connections that wait for accept()."""
    write_queue: int
    """Of a listening socket: how many may wait."""
    inode: int

    @property
    def address(self) -> str:
        """The local address as text."""
        return _address(self.family, self.source)


def parse(datagram: bytes) -> tuple[list[DiagSocket], bool]:
    """The sockets of one datagram, and whether the dump ends with it. Raises DiagError, and OSError for an errno."""
    alike = _alike(datagram)
    if alike is not None:
        return alike, False
    found: list[DiagSocket] = []
    for kind, payload in _messages(datagram):
        if kind in (NLMSG_DONE, NLMSG_ERROR):
            _raise_error(payload)
            return found, True
        if kind == SOCK_DIAG_BY_FAMILY:
            found.append(_socket(payload))
    return found, False


def _alike(datagram: bytes) -> list[DiagSocket] | None:
    """The sockets of a datagram of nothing but sockets of one length, as most of a long dump are; else None.

    A gateway, or a hostile neighbour, has a hundred thousand of them: one by one they take a second.
    """
    if len(datagram) < HEADER.size:
        return None
    length, *_ = HEADER.unpack_from(datagram)
    beyond = length - HEADER.size - MESSAGE.size
    if beyond < 0 or length & 3 or len(datagram) % length:
        return None
    rows = list(struct.iter_unpack(f"=IH10x{_MESSAGE}{beyond}x", datagram))
    if {(row[0], row[1]) for row in rows} != {(length, SOCK_DIAG_BY_FAMILY)}:
        return None
    return [_socket_of(*found) for _, _, *found in rows]


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + HEADER.size <= len(datagram):
        length, kind, _, _, _ = HEADER.unpack_from(datagram, at)
        if length < HEADER.size or at + length > len(datagram):
            message = f"a netlink message of {length} bytes at {at} of {len(datagram)}"
            raise DiagError(message)
        yield kind, datagram[at + HEADER.size : at + length]
        at += (length + 3) & ~3
    if at < len(datagram):
        message = f"{len(datagram) - at} bytes behind the last netlink message"
        raise DiagError(message)


def _raise_error(payload: bytes) -> None:
    """Both ends of a dump, the good and the bad, carry a negative errno or 0."""
    if len(payload) < ERRNO.size:
        message = "a netlink dump ends without saying how"
        raise DiagError(message)
    (number,) = ERRNO.unpack_from(payload)
    if number:
        raise OSError(-number if -MAX_ERRNO <= number < 0 else errno.EIO, "sock_diag")


def _socket(payload: bytes) -> DiagSocket:
    if len(payload) < MESSAGE.size:
        message = f"a socket of {len(payload)} bytes"
        raise DiagError(message)
    return _socket_of(*MESSAGE.unpack_from(payload))


def _socket_of(
    family: int, state: int, port: int, source: bytes, read_queue: int, write_queue: int, inode: int
) -> DiagSocket:
    if family not in (_AF_INET, _AF_INET6):
        message = f"a socket of address family {family}"
        raise DiagError(message)
    if sys.byteorder == "little":
        port = (port >> 8) | ((port & 0xFF) << 8)
    return DiagSocket(family, state, source, port, read_queue, write_queue, inode)


def dump(states: int, ends_at: float) -> Iterator[DiagSocket]:
    """All TCP sockets in some states, IPv4 and then IPv6. Raises OSError, TimeoutError among them, and DiagError."""
    import socket

    yield from _dump(socket.AF_INET, states, ends_at)
    try:
        yield from _dump(socket.AF_INET6, states, ends_at)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EAFNOSUPPORT):  # a kernel without IPv6
            raise


def _dump(family: int, states: int, ends_at: float) -> Iterator[DiagSocket]:
    import socket

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as link:
        request = REQUEST.pack(family, socket.IPPROTO_TCP, 0, states)
        length = HEADER.size + len(request)
        link.settimeout(max(0.01, ends_at - time.monotonic()))
        link.send(HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0) + request)
        done = False
        while not done:
            if time.monotonic() >= ends_at:
                raise TimeoutError
            sockets, done = parse(link.recv(DATAGRAM_BYTES))
            yield from sockets


def _ask() -> dict[str, Any]:
    """What a captured host keeps as its fact `listeners`."""
    try:
        found = dump(1 << STATE_LISTEN, time.monotonic() + ANSWER_LIMIT_S)
        listening = [each for each in found if each.state == STATE_LISTEN]
    except TimeoutError as error:
        why = f"the kernel took longer than {ANSWER_LIMIT_S:g} s to list what listens"
        raise UnavailableError(unmeasured(Reason.TIMEOUT, why)) from error
    except DiagError as error:
        raise UnavailableError(unmeasured(Reason.ERROR, f"sock_diag: {error}")) from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EINVAL):
            why = "this kernel does not list TCP sockets (sock_diag): its module tcp_diag is missing"
            raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why)) from error
        raise
    return {
        "listening": [[each.address, each.port, each.write_queue, each.read_queue, each.inode] for each in listening],
        "local_ports_in_use": _ports_in_use({each.port for each in listening}),
    }


@cache
def _address(family: int, source: bytes) -> str:
    """A local address as text."""
    import socket

    return socket.inet_ntop(family, source[:4] if family == _AF_INET else source)


def _ports_in_use(listening: Collection[int]) -> int | None:
    """How many local ports sockets of any state have; None where there are too many to count in time."""
    others = dump(ANY_STATE & ~(1 << STATE_LISTEN), time.monotonic() + PORTS_LIMIT_S)
    try:
        ports = {*listening, *(each.port for each in others)}
    except (OSError, DiagError):
        return None
    return len(ports - {0})


@probe("sysctl.listeners", formerly="kernel.listeners", deadline_s=6.0)
def listeners(host: Host) -> Listeners:
    """Asks netlink (sock_diag) for TCP sockets, and /proc/PID/fd for who owns those that a finding may name."""
    fact = host.fact("listeners", _ask)
    try:
        rows = fact["listening"] if host.live else [_row(row) for row in fact["listening"]]
        in_use = fact["local_ports_in_use"]
        if in_use is not None:
            in_use = _whole(in_use)
    except (TypeError, KeyError, ValueError) as error:
        why = "the captured fact listeners is not what the kernel answers"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error
    owners = socket_owners(host, _named(host, rows))
    return Listeners(
        sockets=tuple(
            Listener(address=address, port=port, backlog=backlog, waiting=waiting, owner=owners.get(inode))
            for address, port, backlog, waiting, inode in rows
        ),
        local_ports_in_use=in_use,
    )


def _named(host: Host, rows: list[Any]) -> set[int]:
    """The inodes of the sockets whose owners a finding may name: all, or of thousands some.

    Those come first whose queue is as long as the kernel lets it be, and then the shortest ones; and of
    equal ones the oldest, as the first descriptors of a process: to find them not all of it is looked at.
    """
    if len(rows) > NAMED_LIMIT:
        longest = (optional_files.text(host, "/proc/sys/net/core/somaxconn") or "").strip()
        rows = sorted(rows, key=lambda row: (str(row[2]) != longest, row[2], row[4]))[:NAMED_LIMIT]
    return {inode for *_, inode in rows}


def _row(row: Any) -> tuple[str, int, int, int, int]:  # noqa: ANN401 - JSON of any shape
    address, *numbers = row
    if not isinstance(address, str):
        raise TypeError
    port, backlog, waiting, inode = (_whole(number) for number in numbers)
    return address, port, backlog, waiting, inode


def _whole(number: Any) -> int:  # noqa: ANN401 - JSON of any shape
    if type(number) is not int or not 0 <= number < 1 << 63:
        raise ValueError
    return number
