"""What has become of each probe to one target: pure, told of sends, stamps and answers by whoever holds the sockets."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from vdscheck.probes.path.engines import Answer
from vdscheck.probes.path.packets import Kind

Purpose = Literal["trace", "echo", "size"]
Method = Literal["icmp", "udp", "tcp"]

STEP_TOLERANCE_NS = 150_000
"""How far apart the two clocks may be read, when we are interrupted between them."""
SLEW = 600e-6
"""The kernel slews its clock by at most 500 ppm (adjtimex(2)); what changes faster has been set."""
LATEST_STAMP_NS = 100_000_000
"""A packet that is longer on its way to the device than that was not the one we think of."""


class Moment(NamedTuple):
    """One instant by both clocks."""

    monotonic_ns: int
    real_ns: int

    @property
    def offset_ns(self) -> int:
        """What a step of the real clock changes."""
        return self.real_ns - self.monotonic_ns


class NotSent(NamedTuple):
    """The kernel refused to send it."""

    why: str


class Awaited(NamedTuple):
    """Sent, and not answered yet."""

    sent: Moment
    stamp_ns: int | None


class Complete(NamedTuple):
    """Answered."""

    sent: Moment
    rtt_ns: int
    kernel_stamps: bool
    responder: str
    kind: Kind
    code: int
    labels: tuple[int, ...]
    mtu_bytes: int | None


class Stepped(NamedTuple):
    """Answered, but the clock was set in between, so that its time is not known."""

    sent: Moment
    responder: str
    kind: Kind


ProbeState = NotSent | Awaited | Complete | Stepped


def answered(state: Awaited, answer: Answer, now: Moment) -> Complete | Stepped:
    """What an answer makes of a probe."""
    elapsed_ns = max(0, now.monotonic_ns - state.sent.monotonic_ns)
    moved_ns = abs(now.offset_ns - state.sent.offset_ns)
    stamped = state.stamp_ns is not None and answer.at_ns is not None
    rtt_ns = answer.rtt_ns
    if rtt_ns is None:
        if moved_ns > STEP_TOLERANCE_NS + SLEW * elapsed_ns:
            return Stepped(state.sent, answer.responder, answer.kind)
        if stamped and state.stamp_ns is not None and answer.at_ns is not None:
            rtt_ns = answer.at_ns - state.stamp_ns
        elif answer.at_ns is not None:
            rtt_ns = answer.at_ns - state.sent.real_ns
        else:
            rtt_ns = elapsed_ns
        if rtt_ns < 0:
            return Stepped(state.sent, answer.responder, answer.kind)
    timed = stamped or answer.rtt_ns is not None
    return Complete(
        state.sent, rtt_ns, timed, answer.responder, answer.kind, answer.code, answer.labels, answer.mtu_bytes
    )


@dataclass(slots=True)
class ProbePacket:
    """One probe: what for, and what has become of it."""

    purpose: Purpose
    method: Method
    ttl: int
    round: int
    length: int
    state: ProbeState


@dataclass
class ProbeLog:
    """All probes to one address."""

    address: str
    probes: dict[int, ProbePacket] = field(default_factory=dict)
    """By number, in the order of sending."""
    duplicates: int = 0
    foreign: int = 0
    """Answers for what was never sent, and echoes from somebody else than the target."""
    unattributed: int = 0
    end_ttl: int | None = None
    """The least number of hops at which the target, or what refuses to go on to it, has answered."""
    last_ttl: int = 0
    """The farthest hop that has answered; 0 where none has."""
    reached: bool = False
    """Whether the target itself has answered anything."""
    worst_ns: int = 0
    """The longest round trip so far."""

    def sent(self, number: int, probe: ProbePacket) -> None:
        """A probe is on its way, or was refused by the kernel."""
        self.probes[number] = probe

    def stamped(self, number: int, at_ns: int) -> None:
        """The kernel has said when it gave a probe to the device."""
        probe = self.probes.get(number)
        if probe is not None and isinstance(probe.state, Awaited):
            late_ns = at_ns - probe.state.sent.real_ns
            if 0 <= late_ns <= LATEST_STAMP_NS:
                probe.state = probe.state._replace(stamp_ns=at_ns)

    def answered(self, number: int | None, answer: Answer, now: Moment) -> None:
        """Something has come back for a probe; None is for one of ours, and too short to tell which.

        Whatever is not for a probe that is awaited changes no figure.
        """
        probe = None if number is None else self.probes.get(number)
        if number is None:
            self.unattributed += 1
        elif probe is None or isinstance(probe.state, NotSent) or self._is_forged(answer):
            self.foreign += 1
        elif isinstance(probe.state, Awaited):
            probe.state = answered(probe.state, answer, now)
            self._learn(probe, probe.state)
        else:
            self.duplicates += 1

    def _learn(self, probe: ProbePacket, state: Complete | Stepped) -> None:
        """Keep what is asked for at each packet."""
        self.reached = self.reached or is_from_target(state)
        if isinstance(state, Complete):
            self.worst_ns = max(self.worst_ns, state.rtt_ns)
        if probe.purpose == "trace":
            self.last_ttl = max(self.last_ttl, probe.ttl)
            if state.kind in ("target", "unreachable"):
                self.end_ttl = probe.ttl if self.end_ttl is None else min(self.end_ttl, probe.ttl)

    def _is_forged(self, answer: Answer) -> bool:
        return answer.kind == "target" and answer.responder != self.address

    def of(self, purpose: Purpose) -> Iterator[ProbePacket]:
        """The probes sent for one purpose, in the order of sending."""
        return (probe for probe in self.probes.values() if probe.purpose == purpose)

    @property
    def echo_method(self) -> Method | None:
        """How the target itself answers: ICMP where it does; else what was tried last, None where nothing was."""
        tried = [(probe.method, is_from_target(probe.state)) for probe in self.of("echo")]
        if ("icmp", True) in tried or not tried:
            return "icmp" if tried else None
        return "tcp" if ("tcp", True) in tried else tried[-1][0]

    def awaited_since(self, oldest_ns: int) -> bool:
        """Whether a probe that was sent later than that, by the monotonic clock, is not answered yet."""
        return any(
            isinstance(probe.state, Awaited) and probe.state.sent.monotonic_ns > oldest_ns
            for probe in self.probes.values()
        )


def is_from_target(state: ProbeState) -> bool:
    """Whether the target itself answered."""
    return isinstance(state, Complete | Stepped) and state.kind == "target"


def is_settled(state: ProbeState, oldest_ns: int) -> bool:
    """Whether a probe counts: it was answered, or was sent before then, so that it had the time to be."""
    if isinstance(state, Awaited):
        return state.sent.monotonic_ns <= oldest_ns
    return not isinstance(state, NotSent)
