"""What a socket's error queue holds: ICMP errors, and stamps of what was sent (ip(7), timestamping.rst)."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

Ancillary = tuple[int, int, bytes]

SOL_SOCKET, SOL_IP, SOL_IPV6 = 1, 0, 41
IP_RECVERR, IPV6_RECVERR = 11, 25
TIMESTAMPING = (37, 65)
"""SO_TIMESTAMPING as the C library asks for it, and as it comes with 64-bit time."""
_ORIGIN_ICMP, _ORIGIN_ICMP6, _ORIGIN_STAMP = 2, 3, 4
_ERROR = struct.Struct("=IBBBxII")
_TIME = struct.Struct("=qq")
_NS_PER_S = 1_000_000_000
_INET, _INET6 = 2, 10


class IcmpError(NamedTuple):
    """An ICMP error that the kernel has matched to a socket."""

    type: int
    code: int
    info: int
    """The MTU, where the error is about that."""
    offender: bytes
    """The address of who sent it, 4 or 16 octets."""


class SendStamp(NamedTuple):
    """Says that a stamp is of the packet with this key."""

    key: int


def stamp_ns(ancillary: Iterable[Ancillary]) -> int | None:
    """The kernel's stamp, in real time; None where it made none."""
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind in TIMESTAMPING and len(data) >= _TIME.size:
            seconds, rest = _TIME.unpack_from(data)
            if seconds > 0 and 0 <= rest < _NS_PER_S:
                return int(seconds) * _NS_PER_S + int(rest)
    return None


def cause(ancillary: Iterable[Ancillary]) -> IcmpError | SendStamp | None:
    """Why something is in the error queue; None where it is neither."""
    for level, kind, data in ancillary:
        if (level, kind) not in ((SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)) or len(data) < _ERROR.size:
            continue
        _, origin, icmp_type, code, info, told = _ERROR.unpack_from(data)
        if origin == _ORIGIN_STAMP:
            return SendStamp(told)
        if origin in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
            offender = _address(data[_ERROR.size :])
            if offender is not None:
                return IcmpError(icmp_type, code, info, offender)
    return None


def _address(sockaddr: bytes) -> bytes | None:
    if len(sockaddr) < 8:  # noqa: PLR2004 - family, port and an IPv4 address
        return None
    family = struct.unpack_from("=H", sockaddr)[0]
    if family == _INET:
        return sockaddr[4:8]
    if family == _INET6 and len(sockaddr) >= 24:  # noqa: PLR2004
        return sockaddr[8:24]
    return None
