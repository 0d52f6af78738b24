"""Bytes of probes and of what comes back: one flow for all numbers, and no byte that arrives does any harm."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.probes.path import error_queue
from vdscheck.probes.path.packets import (
    Echo,
    Family,
    checksum,
    echo_reply,
    echo_request,
    kind_of,
    payload,
    payload_sequence,
    problem,
    quoted_echo,
    without_ip_header,
)

COOKIE = b"\xaa\xbb\xcc\xdd"
FAMILIES = st.sampled_from([4, 6])
NUMBERS = st.integers(0, 0xFFFF)


def ip(family: Family, protocol: int, body: bytes) -> bytes:
    if family == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 1, protocol, 0)
        return head + bytes((10, 0, 0, 1)) + bytes((192, 0, 2, 9)) + body
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 1) + bytes(16) + bytes(15) + b"\x09" + body


def error(family: Family, icmp_type: int, code: int, quote: bytes, rest: bytes = b"\0\0\0\0") -> bytes:
    return bytes((icmp_type, code, 0, 0)) + rest + quote


@given(NUMBERS, NUMBERS, NUMBERS, FAMILIES, st.integers(0, 1500))
def test_all_numbers_are_one_flow(ident: int, one: int, other: int, family: Family, length: int) -> None:
    first, second = (echo_request(family, ident, number, COOKIE, length) for number in (one, other))
    assert first[2:4] == second[2:4]
    assert checksum(first) == 0
    assert checksum(payload(one, COOKIE, length)) == checksum(payload(other, COOKIE, length))
    assert len(first) == max(16, length + 8)


@given(NUMBERS, st.integers(0, 8))
def test_a_number_is_read_from_as_much_of_the_payload_as_tells_it(number: int, kept: int) -> None:
    assert payload_sequence(payload(number, COOKIE)[:kept], COOKIE) == (number if kept >= 4 else None)


def test_another_program_s_payload_is_not_ours() -> None:
    assert payload_sequence(payload(7, b"else"), COOKIE) is None
    assert payload_sequence(b"\0\1\0\1" + COOKIE, COOKIE) is None


@given(FAMILIES, NUMBERS, NUMBERS)
def test_an_echo_comes_back_with_what_it_was_sent_with(family: Family, ident: int, number: int) -> None:
    request = echo_request(family, ident, number, COOKIE)
    reply = bytes((0 if family == 4 else 129,)) + request[1:]
    assert echo_reply(family, reply) == Echo(ident, number, COOKIE)
    assert echo_reply(family, request) is None
    assert echo_reply(family, reply[:11]) is None
    assert quoted_echo(family, request) == Echo(ident, number, COOKIE)
    assert quoted_echo(family, request[:8]) == Echo(ident, number, b"")
    assert quoted_echo(family, request[:7]) is None


@pytest.mark.parametrize(
    ("family", "icmp_type", "code", "kind"),
    [
        (4, 11, 0, "hop"),
        (4, 11, 1, None),
        (4, 3, 3, "unreachable"),
        (4, 3, 13, "unreachable"),
        (4, 3, 4, "too-big"),
        (4, 5, 1, None),
        (6, 3, 0, "hop"),
        (6, 3, 1, None),
        (6, 1, 4, "unreachable"),
        (6, 2, 0, "too-big"),
        (6, 129, 0, None),
    ],
)
def test_what_an_error_means(family: Family, icmp_type: int, code: int, kind: str | None) -> None:
    assert kind_of(family, icmp_type, code) == kind
    found = problem(family, error(family, icmp_type, code, ip(family, 1, echo_request(family, 1, 2, COOKIE))))
    assert (found.kind if found else None) == kind


@pytest.mark.parametrize("family", [4, 6])
def test_a_quote_gives_target_and_transport(family: Family) -> None:
    inner = echo_request(family, 1, 2, COOKIE)
    protocol = 1 if family == 4 else 58
    found = problem(family, error(family, 11 if family == 4 else 3, 0, ip(family, protocol, inner)))
    assert found is not None
    assert found.quote.destination[-1] == 9
    assert (found.quote.protocol, found.quote.rest) == (protocol, inner)


def test_the_mtu_that_a_router_tells() -> None:
    quote = ip(4, 1, echo_request(4, 1, 2, COOKIE))
    told = problem(4, error(4, 3, 4, quote, struct.pack("!HH", 0, 1400)))
    silent = problem(4, error(4, 3, 4, quote))
    six = problem(6, error(6, 2, 0, ip(6, 58, b"x" * 8), struct.pack("!I", 1280)))
    assert told is not None
    assert silent is not None
    assert six is not None
    assert (told.mtu_bytes, silent.mtu_bytes, six.mtu_bytes) == (1400, None, 1280)


def extended(quote: bytes, structure: bytes) -> bytes:
    padded = quote.ljust(128, b"\0")
    return error(4, 11, 0, padded + structure, bytes((0, 32, 0, 0)))


def structure(*labels: int, length: int | None = None, checked: bool = True) -> bytes:
    entries = b"".join(struct.pack("!I", label << 12 | 0x1FF) for label in labels)
    body = struct.pack("!HBB", 4 + len(entries) if length is None else length, 1, 1) + entries
    bare = b"\x20\0\0\0" + body
    return bare[:2] + struct.pack("!H", checksum(bare) if checked else 0xBAD) + body


def test_labels_are_read_from_extensions() -> None:
    quote = ip(4, 1, echo_request(4, 1, 2, COOKIE))
    for made, labels in (
        (structure(16001, 3), (16001, 3)),
        (structure(16001, checked=False), ()),
        (structure(16001, length=3), ()),
        (structure(16001, length=400), ()),
        (b"\x10" + structure(1)[1:], ()),
        (b"\x20\0", ()),
    ):
        found = problem(4, extended(quote, made))
        assert found is not None
        assert found.labels == labels
        assert found.quote.rest[:16] == quote[20:]


def test_extension_headers_of_ipv6_are_passed_over() -> None:
    inner = echo_request(6, 1, 2, COOKIE)
    hop_by_hop = bytes((58, 0, 0, 0, 0, 0, 0, 0))
    found = problem(6, error(6, 3, 0, ip(6, 0, hop_by_hop + inner)))
    assert found is not None
    assert (found.quote.protocol, found.quote.rest) == (58, inner)


@pytest.mark.parametrize("packet", [b"", b"\x45" * 19, b"\x65" + bytes(30), b"\x4f" + bytes(8) + b"\x01" + bytes(20)])
def test_what_is_no_ip_packet_holds_no_message(packet: bytes) -> None:
    assert without_ip_header(packet) is None


@given(FAMILIES, st.binary(max_size=300))
def test_no_message_does_any_harm(family: Family, message: bytes) -> None:
    problem(family, message)
    echo_reply(family, message)
    quoted_echo(family, message)
    without_ip_header(message)


@given(FAMILIES, st.sampled_from([1, 2, 3, 11]), st.integers(0, 5), st.integers(0, 255), st.binary(max_size=300))
def test_no_quote_and_no_extension_does_any_harm(
    family: Family, icmp_type: int, code: int, stated: int, body: bytes
) -> None:
    for quote in (body, ip(family, 1, body), ip(family, 44, body)):
        problem(family, error(family, icmp_type, code, quote, bytes((stated, stated, 0, 0))))
        problem(family, error(family, icmp_type, code, quote.ljust(128, b"\0") + b"\x20" + body, bytes((0, 32, 0, 0))))


def sock_error(origin: int, icmp_type: int, address: bytes, told: int = 0) -> bytes:
    return struct.pack("=IBBBxII", 113, origin, icmp_type, 0, 1400, told) + address


def test_what_stands_in_the_error_queue() -> None:
    four = struct.pack("=H", 2) + bytes(2) + bytes((10, 0, 0, 1)) + bytes(8)
    six = struct.pack("=H", 10) + bytes(6) + bytes(range(16)) + bytes(4)
    stamp = (1, 37, struct.pack("=qq", 5, 7) + bytes(32))
    assert error_queue.stamp_ns([stamp]) == 5_000_000_007
    assert error_queue.stamp_ns([(1, 37, bytes(48))]) is None
    assert error_queue.cause([stamp, (0, 11, sock_error(4, 0, b"", 42))]) == error_queue.SendStamp(42)
    assert error_queue.cause([(0, 11, sock_error(2, 11, four))]) == error_queue.IcmpError(11, 0, 1400, four[4:8])
    assert error_queue.cause([(41, 25, sock_error(3, 3, six))]) == error_queue.IcmpError(3, 0, 1400, bytes(range(16)))
    assert error_queue.cause([(0, 11, sock_error(1, 0, four))]) is None


ANCILLARY = st.lists(
    st.tuples(st.sampled_from([0, 1, 41]), st.sampled_from([11, 25, 37, 65]), st.binary(max_size=64)), max_size=4
)


@given(ANCILLARY)
def test_no_control_message_does_any_harm(ancillary: list[tuple[int, int, bytes]]) -> None:
    error_queue.cause(ancillary)
    error_queue.stamp_ns(ancillary)
