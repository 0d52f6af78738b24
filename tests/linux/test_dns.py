"""Questions to resolvers and their answers: what is no answer to a question is none, and no byte does any harm."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.linux.dns_wire import PTR, A, backwards, nameservers, question, reply
from vdscheck.probes.path.reverse_dns import NAME_LIMIT, bounded

ASKED = question(7, "a.example", PTR)


def answer(asked: bytes = ASKED, flags: int = 0x8180, records: bytes = b"", count: int = 0) -> bytes:
    return asked[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + asked[12:] + records


def record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def test_a_question_is_what_rfc_1035_says() -> None:
    assert question(0x0102, "a.example", A).hex() == "01020100000100000000000001610765" + "78616d706c650000010001"


@pytest.mark.parametrize(
    ("message", "code", "names"),
    [
        (answer(), "NOERROR", ()),
        (answer(flags=0x8183), "NXDOMAIN", ()),
        (answer(flags=0x8189), "code 9", ()),
        (answer(records=record(PTR, b"\3one\4host\0"), count=1), "NOERROR", (b"one.host",)),
        (answer(records=record(A, bytes(4)) + record(PTR, b"\3two\xc0\x0e"), count=2), "NOERROR", (b"two.example",)),
        (answer(records=record(PTR, b"\xc0\x27"), count=1), "NOERROR", ()),
        (answer(records=record(PTR, b"\3on"), count=1), "NOERROR", ()),
        (answer(records=record(PTR, b"\3one\4host\0")[:-4], count=1), "NOERROR", ()),
        (answer(count=9), "NOERROR", ()),
    ],
)
def test_what_is_read_of_an_answer(message: bytes, code: str, names: tuple[bytes, ...]) -> None:
    found = reply(message, ASKED)
    assert found is not None
    assert (found.code, found.names) == (code, names)


@pytest.mark.parametrize(
    "message",
    [b"", ASKED, answer(flags=0x0100), answer(question(8, "a.example", PTR)), answer(question(7, "b.example", PTR))],
)
def test_what_is_no_answer_to_the_question(message: bytes) -> None:
    assert reply(message, ASKED) is None


@given(st.binary(max_size=200), st.integers(0, 20))
def test_no_answer_does_any_harm(records: bytes, count: int) -> None:
    reply(records, ASKED)
    found = reply(answer(records=records, count=count), ASKED)
    assert found is not None
    assert all(len(name) <= 255 for name in found.names)
    wrapped = reply(answer(records=record(PTR, records), count=1), ASKED)
    assert wrapped is not None
    assert all(len(bounded(name)) <= NAME_LIMIT + 3 for name in wrapped.names)


def test_names_of_addresses() -> None:
    assert backwards("192.0.2.7") == "7.2.0.192.in-addr.arpa"
    assert backwards("fd77::1%eth0") == ".".join("1" + "0" * 27 + "77df") + ".ip6.arpa"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ("127.0.0.1",)),
        ("nameserver 192.0.2.1\n# nameserver 192.0.2.2\noptions x\n", ("192.0.2.1",)),
        ("nameserver a\nnameserver a\nnameserver b\nnameserver c\n", ("a", "b")),
        ("nameserver\n", ("127.0.0.1",)),
    ],
)
def test_the_resolvers_are_those_of_the_c_library(text: str, found: tuple[str, ...]) -> None:
    assert nameservers(text) == found
