"""Asks resolvers over UDP, several at one time, and keeps how long each answer took."""

import secrets
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from vdscheck.linux.dns_wire import ANSWERS, A, question, reply
from vdscheck.measurements.net import Resolvers, ResolverTimes
from vdscheck.plugin import Host, Recorder

PORT = 53
CACHED = 94
"""72 bear a p95 with its interval, and from 94 on one late answer does not widen it."""
GAP_S = 0.0101
PATIENCE_S = 0.5
"""How long an answer is waited for: ten times what is wanted."""
LOST_AT_MOST = 0.05
AT_ONCE = 64
"""Answers that are taken of one resolver before others have their turn."""
RESOLVED, EMPTY = "NOERROR", "NOERROR without an address"
_MESSAGE_BYTES = 4096


@dataclass
class _Question:
    name: str
    packet: bytes
    sent_ns: int
    first: bool


@dataclass
class Asking:
    """One resolver and what it was asked."""

    address: str
    names: Sequence[str]
    open: dict[int, _Question] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    """Names that it has answered for already."""
    sent: int = 0
    answered: int = 0
    cached_sent: int = 0
    first_ms: list[float] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    recorder: Recorder = field(default_factory=Recorder)
    connection: socket.socket | None = None
    gap_s: float = GAP_S
    due: float = 0.0

    def connect(self) -> bool:
        """Whether there is a way to it."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        try:
            self.connection = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            self.connection.connect((self.address, PORT))
        except (OSError, UnicodeError):
            return False
        return True

    def ask(self) -> None:
        """The next question: each name once, then those that were answered for, over and over."""
        first = self.sent < len(self.names)
        pool = self.names if first else sorted(self.known) or self.names
        name = pool[self.sent % len(pool)]
        ident = secrets.randbits(16)
        self.open[ident] = _Question(name, question(ident, name, A), time.monotonic_ns(), first)
        self.sent += 1
        self.due = max(self.due, time.monotonic() - self.gap_s) + self.gap_s
        self.cached_sent += not first
        if self.connection is not None:
            with suppress(OSError):
                self.connection.send(self.open[ident].packet)

    def hear(self) -> None:
        """Take the answers that are there; of one that never stops the rest is left for the next time."""
        for _ in range(AT_ONCE):
            if self.connection is None:
                return
            try:
                message = self.connection.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue
            now_ns = time.monotonic_ns()
            asked = self.open.get(int.from_bytes(message[:2], "big"))
            said = None if asked is None else reply(message, asked.packet)
            if asked is None or said is None:
                continue
            del self.open[said.ident]
            self.answered += 1
            code = EMPTY if said.code == RESOLVED and not said.holds else said.code
            self.codes[code] = self.codes.get(code, 0) + 1
            if said.code not in ANSWERS:
                continue
            self.known.add(asked.name)
            if asked.first:
                self.first_ms.append((now_ns - asked.sent_ns) / 1e6)
            else:
                self.recorder.add([now_ns - asked.sent_ns])

    @property
    def next_at(self) -> float | None:
        """When the next question is due; None after the last, which is the first for one that knows no name."""
        asks_first = self.sent < len(self.names)
        if self.sent >= len(self.names) + CACHED or (not asks_first and not self.known and not self.waits):
            return None
        # A name counts as known when it was answered for, so all first answers are waited for.
        waiting = self.sent == len(self.names) and self.waits
        return time.monotonic() + self.gap_s if waiting else self.due

    @property
    def waits(self) -> bool:
        """Whether an answer may still come."""
        oldest_ns = time.monotonic_ns() - int(PATIENCE_S * 1e9)
        return any(each.sent_ns > oldest_ns for each in self.open.values())

    def times(self) -> ResolverTimes:
        """What was found so far."""
        lost = self.cached_sent - len(self.recorder)
        return ResolverTimes(
            address=self.address,
            first_ms=tuple(self.first_ms),
            cached=self.recorder.distribution(),
            cached_p95_lost=bool(self.cached_sent) and lost > LOST_AT_MOST * self.cached_sent,
            sent=self.sent,
            answered=self.answered,
            codes=dict(sorted(self.codes.items())),
        )


def asked_over_and_over(host: Host, asking: Sequence[Asking], names: tuple[str, ...]) -> Iterator[Resolvers]:
    """Ask all resolvers side by side, each at most a hundred times a second."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for each in asking:
            if each.connect() and each.connection is not None:
                stack.callback(each.connection.close)
                selector.register(each.connection, selectors.EVENT_READ, each)
        live = [each for each in asking if each.connection is not None]
        for each in live:
            # As slowly as there is time: some resolvers limit the questions of one client.
            each.gap_s = max(GAP_S, (host.time_left_s - PATIENCE_S) / (len(names) + CACHED + 1))
        while host.time_left_s > 0 and any(each.waits or each.next_at is not None for each in live):
            wake_at = time.monotonic() + GAP_S
            for each in live:
                due = each.next_at
                if due is not None and due <= time.monotonic():
                    each.ask()
                    due = each.next_at
                wake_at = wake_at if due is None else min(wake_at, due)
            for key, _ in selector.select(max(0.0, min(wake_at - time.monotonic(), host.time_left_s))):
                key.data.hear()
        yield Resolvers(names=names, resolvers=tuple(each.times() for each in asking))
