"""What to send to one address, and when: pure, with the time as an argument."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from vdscheck.plugin import frozen
from vdscheck.probes.path.packets_sent import Purpose

PACKETS_LIMIT = 300
"""To one address, unless the user owns more by a flag."""
A_SECOND = 100
"""Packets to one address, whatever was asked for."""
GAP_S = 0.01005
"""Between two packets to one address: a little fewer than A_SECOND."""
HOPS_LIMIT = 30
BEYOND = 3
"""How far beyond the last hop that answered a target is looked for that has not been reached."""
ECHO_TTL = 64
TCP_SHARE = 0.8
"""Of the echoes, since a handshake costs two packets: 80 bear a p95 with its interval (72 do)."""

EchoMode = Literal["icmp", "tcp"]


@frozen
class ProbeBudget:
    """How much is to be sent."""

    rounds: int = 10
    echoes: int = 10
    """In each round."""
    interval_s: float = 0.0
    """From the start of a round to that of the next; 0 is as soon as the limits allow."""
    packets: int | None = PACKETS_LIMIT
    """None where the user owns more."""

    @property
    def lasts_s(self) -> float:
        """How long all rounds take where rounds are an interval apart."""
        return self.rounds * self.interval_s


class NextPacket(NamedTuple):
    """One packet to send."""

    purpose: Purpose
    ttl: int
    length: int = 0
    """Of the whole IP packet; 0 is the least."""


class Limiter:
    """Keeps an address from more than A_SECOND packets in any second."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=A_SECOND)
        self._next = 0.0
        self.packets = 0

    def due(self) -> float:
        """When the next packet may go."""
        oldest = self._times[0] + 1.0 if len(self._times) == A_SECOND else 0.0
        return max(self._next, oldest)

    def spend(self, now: float, packets: int, gap_s: float) -> None:
        """So many packets go now, or soon; the next one goes a gap later, by the schedule and not by the clock.

        Who is late so does not stay late, unless by more than a few packets.
        """
        self._times.extend([now] * packets)
        self.packets += packets
        self._next = max(self._next, now - 3 * gap_s) + packets * gap_s


def echo_mode(
    *, has_icmp: bool, icmp_answered: bool, tcp_answered: bool, asked_rounds: int, tcp_wanted: bool
) -> EchoMode | None:
    """How the target itself is asked in a round: by ICMP echo, else by TCP; None where neither is answered.

    `asked_rounds` is how many rounds it has been asked already.
    """
    if tcp_wanted or not has_icmp:
        return "tcp" if tcp_answered or asked_rounds < 3 else None  # noqa: PLR2004
    if icmp_answered or asked_rounds == 0:
        return "icmp"
    return "tcp" if tcp_answered or asked_rounds < 4 else None  # noqa: PLR2004


@dataclass
class SendSchedule:
    """What is still to be sent to one address in this round."""

    plan: ProbeBudget
    limiter: Limiter
    packets_each: int = 1
    """What an echo costs."""
    explores: bool = False
    """Whether this is the first round of its trace, which goes as far as it must."""
    traces: bool = False
    _next_ttl: int = 1
    _echoes: int = 0
    _echo_packets_later: int = 0
    _gap_s: float = GAP_S
    _sizes: list[NextPacket] = field(default_factory=list)
    _echo_is_next: bool = False

    def begin(
        self, *, echoes: int, rounds_left: int, end_ttl: int | None, last_ttl: int, sizes: list[NextPacket]
    ) -> None:
        """Start a round; `rounds_left` are those after it."""
        self._next_ttl = 1
        self._echoes = echoes
        self._echo_packets_later = echoes * rounds_left * self.packets_each
        self._sizes = list(sizes)
        self._echo_is_next = False
        steps = (self.farthest(end_ttl, last_ttl) if self.traces else 0) + echoes * self.packets_each + len(sizes)
        # A reset follows its SYN by a round trip, which may be shorter or longer than the last one.
        least = GAP_S if self.packets_each == 1 else GAP_S * 1.04
        self._gap_s = max(least, self.plan.interval_s / (steps + 1))

    def farthest(self, end_ttl: int | None, last_ttl: int) -> int:
        """The last hop that is asked."""
        if end_ttl is not None:
            return end_ttl
        return HOPS_LIMIT if self.explores else min(HOPS_LIMIT, last_ttl + BEYOND)

    def next(self, end_ttl: int | None, last_ttl: int) -> NextPacket | None:
        """The next packet of this round; None where it is done. What is known of the way may have grown."""
        trace = NextPacket("trace", self._next_ttl) if self._may_trace(end_ttl, last_ttl) else None
        echo = NextPacket("echo", ECHO_TTL) if self._echoes and self._allowed(self.packets_each, 0) else None
        size = self._sizes[0] if self._sizes and self._allowed(1, self._kept()) else None
        if echo is not None and (self._echo_is_next or (trace is None and size is None)):
            return echo
        return size or trace or echo

    def _may_trace(self, end_ttl: int | None, last_ttl: int) -> bool:
        if not self.traces or self._next_ttl > self.farthest(end_ttl, last_ttl):
            return False
        return self._allowed(1, self._kept())

    def _kept(self) -> int:
        """Packets that are kept for echoes, which the figures of the target are made of."""
        return self._echoes * self.packets_each + self._echo_packets_later

    def _allowed(self, packets: int, kept: int) -> bool:
        return self.plan.packets is None or self.limiter.packets + packets + kept <= self.plan.packets

    def taken(self, step: NextPacket, now: float) -> None:
        """A packet has been sent."""
        packets = 1
        if step.purpose == "echo":
            packets = self.packets_each
            self._echoes -= 1
        elif step.purpose == "trace":
            self._next_ttl += 1
        else:
            self._sizes.pop(0)
        self._echo_is_next = step.purpose != "echo"
        self.limiter.spend(now, packets, self._gap_s)
