"""Questions to resolvers and their answers as bytes (RFC 1035): pure, and never raising for what arrives."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

A, PTR = 1, 12
_IN = 1
_HEADER, _KIND = struct.Struct("!HHHHHH"), struct.Struct("!H")
_RECURSION_DESIRED = 0x0100
_RESPONSE, _TRUNCATED = 0x8000, 0x0200
_CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
ANSWERS = ("NOERROR", "NXDOMAIN")
"""The codes that say what a name is, or that it is none; the others are no answer about it."""
_POINTER = 0xC0
_POINTERS_LIMIT = 16
_RECORDS_LIMIT = 64
NAME_LIMIT = 255
NAMESERVERS_LIMIT = 3
"""As the C library: MAXNS in resolv.h."""


class Reply(NamedTuple):
    """What a resolver said."""

    ident: int
    code: str
    names: tuple[bytes, ...]
    """Of the PTR records in it: labels as they came, with dots between."""
    holds: bool = False
    """Whether a record of the kind that was asked for is in it."""


def question(ident: int, name: str, kind: int) -> bytes:
    """A question that asks for recursion."""
    labels = b"".join(bytes((len(label),)) + label for label in name.encode("ascii").split(b".") if label)
    return _HEADER.pack(ident, _RECURSION_DESIRED, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, _IN)


def reply(message: bytes, asked: bytes) -> Reply | None:
    """What a message answers to a question; None where it is no answer to it."""
    if len(message) < len(asked) or len(message) < _HEADER.size:
        return None
    ident, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    told = message[_HEADER.size : len(asked)].lower() == asked[_HEADER.size :].lower()
    if not flags & _RESPONSE or message[:2] != asked[:2] or questions != 1 or not told:
        return None
    code = "truncated" if flags & _TRUNCATED else _CODES.get(flags & 15, f"code {flags & 15}")
    records = list(_records(message, len(asked), min(answers, _RECORDS_LIMIT)))
    names = (_name(message, at) for kind, at in records if kind == PTR)
    (wanted,) = _KIND.unpack_from(asked, len(asked) - 2 * _KIND.size)
    return Reply(ident, code, tuple(filter(None, names)), any(kind == wanted for kind, _ in records))


def _records(message: bytes, at: int, count: int) -> Iterator[tuple[int, int]]:
    """The kind of each record, and where its data begins; those after one that is not whole are left out."""
    for _ in range(count):
        end = _skipped(message, at)
        if end is None or end + 10 > len(message):
            return
        kind, _, _, length = struct.unpack_from("!HHIH", message, end)
        at = end + 10 + length
        if at > len(message):
            return
        yield kind, end + 10


def _skipped(message: bytes, at: int) -> int | None:
    """Where a name ends."""
    while at < len(message):
        length = message[at]
        if length & _POINTER == _POINTER:
            return at + 2
        if length == 0:
            return at + 1
        at += length + 1
    return None


def _name(message: bytes, at: int) -> bytes | None:
    """A name with its pointers followed; None of one that is not whole, or goes round in circles."""
    labels: list[bytes] = []
    size = pointers = 0
    while at < len(message):
        length = message[at]
        if length & _POINTER == _POINTER:
            pointers += 1
            if pointers > _POINTERS_LIMIT or at + 1 >= len(message):
                return None
            at = (length & ~_POINTER) << 8 | message[at + 1]
            continue
        if length == 0:
            return b".".join(labels)
        size += length + 1
        if length & _POINTER or size > NAME_LIMIT or at + 1 + length > len(message):
            return None
        labels.append(message[at + 1 : at + 1 + length])
        at += length + 1
    return None


def backwards(address: str) -> str:
    """The name under which DNS keeps what an address is called."""
    if ":" not in address:
        return ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    import socket

    digits = socket.inet_pton(socket.AF_INET6, address.partition("%")[0]).hex()
    return ".".join(reversed(digits)) + ".ip6.arpa"


def nameservers(text: str) -> tuple[str, ...]:
    """The resolvers of a resolv.conf, as the C library takes them: the first three, or else this very host."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            found.append(words[1])
    return tuple(dict.fromkeys(found[:NAMESERVERS_LIMIT])) or ("127.0.0.1",)
