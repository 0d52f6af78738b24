"""A resolver that answers as no honest one would: told how by its arguments.

usage: hostile_nameserver.py KIND ADDRESS
"""

import heapq
import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

A, CNAME, AAAA = 1, 5, 28
LATEST_S = 2**32 - 1
LATE_S = 1.5
FLOOD = 2000
SEED = 20261129
_ALIAS = b"\5alias\7example\0"
Later = tuple[float, bytes]


@dataclass(frozen=True)
class Query:
    """What was asked, and with what an honest resolver would answer."""

    message: bytes
    address: str

    @property
    def end(self) -> int:
        """Where the question ends."""
        return self.message.index(b"\0", 12) + 5

    @property
    def kind(self) -> int:
        return int(struct.unpack_from("!H", self.message, self.end - 4)[0])

    def answer(self, *records: bytes, flags: int = 0x8180, count: int | None = None) -> bytes:
        numbers = struct.pack("!HHHHH", flags, 1, len(records) if count is None else count, 0, 0)
        return self.message[:2] + numbers + self.message[12 : self.end] + b"".join(records)

    def record(self, data: bytes, kind: int = A, ttl_s: int = 60, name: bytes = b"\xc0\x0c") -> bytes:
        return name + struct.pack("!HHIH", kind, 1, ttl_s, len(data)) + data

    def honest(self, address: str | None = None, ttl_s: int = 60) -> bytes:
        family = {A: socket.AF_INET, AAAA: socket.AF_INET6}.get(self.kind)
        wanted = address or self.address
        if family is None or (":" in wanted) != (family == socket.AF_INET6):
            return self.answer()
        return self.answer(self.record(socket.inet_pton(family, wanted), self.kind, ttl_s))


def _with_id(message: bytes) -> bytes:
    return bytes((message[0] ^ 0x5A,)) + message[1:]


def _chain(query: Query, links: int) -> bytes:
    """Each name is another name of the next; the last has the address."""
    names = [b"\xc0\x0c", *(bytes((4,)) + b"n%03d" % number + b"\0" for number in range(links))]
    aliases = [query.record(after, CNAME, name=before) for before, after in pairwise(names)]
    return query.answer(*aliases, query.record(socket.inet_aton(query.address), name=names[-1]))


def _circle(query: Query) -> bytes:
    there = query.record(_ALIAS, CNAME)
    return query.answer(there, query.record(b"\xc0\x0c", CNAME, name=_ALIAS))


def _compressed(query: Query) -> bytes:
    itself = 0xC000 | query.end
    return query.answer(query.record(bytes(4), name=struct.pack("!H", itself)), count=9)[: query.end + 2] * 2


KINDS: dict[str, Callable[[Query, random.Random], list[bytes]]] = {
    "honest": lambda query, _: [query.honest()],
    "twice": lambda query, _: [query.honest()] * 2,
    "truncated": lambda query, _: [query.answer(flags=0x8380)],
    "half": lambda query, _: [query.honest()[: query.end // 2]],
    "wrong-id": lambda query, _: [_with_id(query.honest())],
    "wrong-question": lambda query, _: [query.honest().replace(query.message[13:15], b"zz", 1)],
    "the-question": lambda query, _: [query.message],
    "elsewhere": lambda query, _: [query.honest()],
    "circle-of-pointers": lambda query, _: [_compressed(query)],
    "pointer-beyond": lambda query, _: [query.answer(query.record(bytes(4), name=b"\xff\xff")[:5])],
    "huge": lambda query, _: [query.honest().ljust(65507, b"\xc0")],
    "ttl-of-136-years": lambda query, _: [query.honest(ttl_s=LATEST_S)],
    "ttl-of-nothing": lambda query, _: [query.honest(ttl_s=0)],
    "circle-of-names": lambda query, _: [_circle(query)],
    "chain-of-names": lambda query, _: [_chain(query, 8)],
    "long-chain-of-names": lambda query, _: [_chain(query, 200)],
    "nxdomain": lambda query, _: [query.answer(flags=0x8183)],
    "servfail": lambda query, _: [query.answer(flags=0x8182)],
    "refused": lambda query, _: [query.answer(flags=0x8185)],
    "code-15": lambda query, _: [query.answer(flags=0x818F)],
    "three-hundred": lambda query, _: [
        query.answer(*(query.record(bytes((203, 0, 113, number % 256))) for number in range(300)))
    ],
    "only-aaaa": lambda query, _: [query.honest("2001:db8::53")],
    "mapped": lambda query, _: [query.honest(f"::ffff:{query.address}" if query.kind == AAAA else None)],
    "loopback": lambda query, _: [query.honest("127.0.0.53")],
    "multicast": lambda query, _: [query.honest("224.0.0.5")],
    "private": lambda query, _: [query.honest("10.99.0.1")],
    "silence": lambda _query, _: [],
    "late": lambda query, _: [query.honest()],
    "random": lambda query, source: [_noise(query, source) for _ in range(3)],
    "flood": lambda query, source: [_noise(query, source) for _ in range(FLOOD)],
}


def _noise(query: Query, source: random.Random) -> bytes:
    """Any bytes: half of them begin as an answer to the question does."""
    head = query.answer(flags=0x8180, count=source.randrange(1 << 16)) if source.random() < 0.5 else b""
    return head + source.randbytes(source.randrange(200))


def said(kind: str, query: Query, source: random.Random) -> list[Later]:
    """What is sent back, and how much later."""
    later_s = LATE_S if kind == "late" else 0.0
    return [(later_s, each) for each in KINDS[kind](query, source)]


def serve(kind: str, address: str, server: socket.socket, other: socket.socket) -> None:
    """Answer until the socket is closed; `other` is where answers from elsewhere come from."""
    source, count = random.Random(SEED), 0
    waiting: list[tuple[float, int, bytes, Any]] = []
    out = other if kind == "elsewhere" else server
    while True:
        server.settimeout(max(0.001, waiting[0][0] - time.monotonic()) if waiting else None)
        try:
            message, client = server.recvfrom(4096)
            for later_s, each in said(kind, Query(message, address), source):
                count += 1
                heapq.heappush(waiting, (time.monotonic() + later_s, count, each, client))
        except TimeoutError:
            pass
        except (OSError, ValueError):
            if server.fileno() < 0:
                return
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, each, client = heapq.heappop(waiting)
            try:
                out.sendto(each, client)
            except OSError:
                if out.fileno() < 0:
                    return


def main() -> None:
    kind, address = sys.argv[1:3]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as other:
        server.bind(("0.0.0.0", 53))
        print("ready", flush=True)
        serve(kind, address, server, other=other)


if __name__ == "__main__":
    main()
