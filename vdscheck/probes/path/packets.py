"""Bytes of probes and of what comes back: ICMP and ICMPv6 messages, quoted packets, extensions. Pure.

Nothing here raises for what arrives: a message that is not one of ours, or not whole, is None.
"""

import struct
from typing import Literal, NamedTuple

Family = Literal[4, 6]
Kind = Literal["target", "hop", "unreachable", "too-big"]
"""Who answered: the target itself, a router whose turn it was, or one that refuses to go on."""

COOKIE_BYTES = 4
PAYLOAD_BYTES = 8
"""Sequence and cookie: what a probe carries at least."""
IP_BYTES: dict[Family, int] = {4: 20, 6: 40}
TRANSPORT_BYTES = 8
"""The header of an ICMP echo, and that of UDP."""
UDP = 17
ICMP: dict[Family, int] = {4: 1, 6: 58}

_ECHO_REQUEST: dict[Family, int] = {4: 8, 6: 128}
_ECHO_REPLY: dict[Family, int] = {4: 0, 6: 129}
_V4_UNREACHABLE, _V4_EXCEEDED = 3, 11
_V6_UNREACHABLE, _V6_TOO_BIG, _V6_EXCEEDED = 1, 2, 3
_V4_TOO_BIG_CODE = 4
_EXTENSION_VERSION = 2
_LEAST_ORIGINAL_BYTES = 128
"""Where extensions begin in messages of routers that do not say (RFC 4884, section 5.5)."""
_MPLS_CLASS, _MPLS_INCOMING = 1, 1
_LABELS_LIMIT = 16
_ALL_ONES = 0xFFFF
_V6_EXTENSION_HEADERS = frozenset((0, 43, 44, 60))


class Quote(NamedTuple):
    """The packet of ours that a router quotes, as much as it quotes of it."""

    destination: bytes
    protocol: int
    rest: bytes
    """From its transport header on: 8 octets at least (RFC 792), or what is there."""


class Echo(NamedTuple):
    """An echo reply, or the echo that is quoted; the cookie is empty where it is not quoted."""

    ident: int
    sequence: int
    cookie: bytes


class IcmpProblem(NamedTuple):
    """An ICMP error."""

    kind: Literal["hop", "unreachable", "too-big"]
    code: int
    mtu_bytes: int | None
    quote: Quote
    labels: tuple[int, ...]
    """MPLS labels that the packet came in with."""


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def payload(sequence: int, cookie: bytes, length: int = PAYLOAD_BYTES) -> bytes:
    """The payload of a UDP probe: each carries its own number, and all have one sum.

    A load balancer that hashes the first octets of the transport header, checksum included, so sees one
    flow (Paris traceroute, Augustin et al., IMC 2006). Zeros at the end change no checksum.
    """
    return struct.pack("!HH", sequence, ~sequence & 0xFFFF) + cookie + bytes(max(0, length - PAYLOAD_BYTES))


def payload_sequence(data: bytes, cookie: bytes) -> int | None:
    """The number of a UDP probe from what is quoted of its payload; None where that is not ours, or too short."""
    if len(data) < 4:  # noqa: PLR2004 - the number and its complement
        return None
    sequence, complement = struct.unpack_from("!HH", data)
    told = data[4:PAYLOAD_BYTES]
    if sequence ^ complement != _ALL_ONES or told != cookie[: len(told)]:
        return None
    return int(sequence)


def echo_request(family: Family, ident: int, sequence: int, cookie: bytes, length: int = PAYLOAD_BYTES) -> bytes:
    """An ICMP echo request; the checksum, which is the same for all numbers, is the kernel's business in IPv6.

    The complement of the number stands in the payload, so that the sum stays.
    """
    data = cookie + struct.pack("!HH", ~sequence & 0xFFFF, 0) + bytes(max(0, length - PAYLOAD_BYTES))
    kind = _ECHO_REQUEST[family]
    bare = struct.pack("!BBHHH", kind, 0, 0, ident, sequence) + data
    return struct.pack("!BBHHH", kind, 0, checksum(bare), ident, sequence) + data


def echo_reply(family: Family, message: bytes) -> Echo | None:
    """What an ICMP message answers, where it is an echo reply."""
    if len(message) < TRANSPORT_BYTES + COOKIE_BYTES or message[:2] != bytes((_ECHO_REPLY[family], 0)):
        return None
    return _echo(message)


def quoted_echo(family: Family, rest: bytes) -> Echo | None:
    """The echo request of which a quote, from its ICMP header on, speaks."""
    if len(rest) < TRANSPORT_BYTES or rest[:2] != bytes((_ECHO_REQUEST[family], 0)):
        return None
    return _echo(rest)


def _echo(message: bytes) -> Echo:
    ident, sequence = struct.unpack_from("!HH", message, 4)
    return Echo(ident, sequence, message[TRANSPORT_BYTES : TRANSPORT_BYTES + COOKIE_BYTES])


def without_ip_header(packet: bytes) -> bytes | None:
    """The ICMP message of an IPv4 packet, as a raw socket gives it."""
    if len(packet) < IP_BYTES[4] or packet[0] >> 4 != 4 or packet[9] != ICMP[4]:  # noqa: PLR2004 - the version
        return None
    header = (packet[0] & 15) * 4
    return packet[header:] if IP_BYTES[4] <= header <= len(packet) else None


def kind_of(family: Family, icmp_type: int, code: int) -> Literal["hop", "unreachable", "too-big"] | None:
    """What the type and the code of an ICMP error mean for a probe."""
    if family == 4:  # noqa: PLR2004
        if icmp_type == _V4_UNREACHABLE:
            return "too-big" if code == _V4_TOO_BIG_CODE else "unreachable"
        return "hop" if (icmp_type, code) == (_V4_EXCEEDED, 0) else None
    known: dict[int, Literal["hop", "unreachable", "too-big"]] = {
        _V6_UNREACHABLE: "unreachable",
        _V6_TOO_BIG: "too-big",
        _V6_EXCEEDED: "hop",
    }
    return None if icmp_type == _V6_EXCEEDED and code else known.get(icmp_type)


def problem(family: Family, message: bytes) -> IcmpProblem | None:
    """An ICMP error with the packet that it quotes."""
    if len(message) < TRANSPORT_BYTES:
        return None
    kind = kind_of(family, message[0], message[1])
    if kind is None:
        return None
    stated = (message[5] * 4) if family == 4 else (message[4] * 8)  # noqa: PLR2004
    body = message[TRANSPORT_BYTES:]
    quote = _quote(family, body[:stated] if 0 < stated <= len(body) else body)
    if quote is None:
        return None
    mtu = None
    if kind == "too-big":
        told = struct.unpack_from("!H", message, 6) if family == 4 else struct.unpack_from("!I", message, 4)  # noqa: PLR2004
        mtu = told[0] or None
        return IcmpProblem(kind, message[1], mtu, quote, ())
    return IcmpProblem(kind, message[1], None, quote, _labels(body, stated))


def _quote(family: Family, packet: bytes) -> Quote | None:
    if len(packet) < IP_BYTES[family] or packet[0] >> 4 != family:
        return None
    if family == 4:  # noqa: PLR2004
        header = (packet[0] & 15) * 4
        if not IP_BYTES[4] <= header <= len(packet):
            return None
        return Quote(packet[16:20], packet[9], packet[header:])
    protocol, start = packet[6], IP_BYTES[6]
    for _ in range(8):
        if protocol not in _V6_EXTENSION_HEADERS or len(packet) < start + 8:
            break
        length = 8 if protocol == 44 else 8 * (packet[start + 1] + 1)  # noqa: PLR2004 - a fragment header has no length
        protocol, start = packet[start], start + length
    return Quote(packet[24:40], protocol, packet[start:])


def _labels(body: bytes, stated: int) -> tuple[int, ...]:
    """The MPLS labels in the extensions behind a quote (RFC 4884, RFC 4950)."""
    structure = body[stated or _LEAST_ORIGINAL_BYTES :]
    if len(structure) < 8 or structure[0] >> 4 != _EXTENSION_VERSION:  # noqa: PLR2004 - two headers
        return ()
    if structure[2:4] != b"\0\0" and checksum(structure) != 0:
        return ()
    found: list[int] = []
    at = 4
    while at + 4 <= len(structure):
        length, group, kind = struct.unpack_from("!HBB", structure, at)
        if length < 4 or at + length > len(structure):  # noqa: PLR2004 - its own header
            break
        if (group, kind) == (_MPLS_CLASS, _MPLS_INCOMING):
            entries = range(at + 4, at + length - 3, 4)
            found.extend(struct.unpack_from("!I", structure, entry)[0] >> 12 for entry in entries)
        at += length
    return tuple(found[:_LABELS_LIMIT])
