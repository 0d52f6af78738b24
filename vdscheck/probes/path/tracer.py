"""Sends what the strategy says to all addresses at one time, and tells the state what comes back: one loop."""

import errno
import os
import selectors
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from vdscheck.linux.own_addresses import address_of
from vdscheck.probes.path import mtu
from vdscheck.probes.path.engines import Answer, Engine, Stamp, open_engine
from vdscheck.probes.path.packets import Family
from vdscheck.probes.path.packets_sent import Awaited, Method, Moment, NotSent, ProbeLog, ProbePacket, is_from_target
from vdscheck.probes.path.reverse_dns import ReverseDns
from vdscheck.probes.path.schedule import TCP_SHARE, EchoMode, Limiter, NextPacket, ProbeBudget, SendSchedule, echo_mode
from vdscheck.probes.path.subject import TargetHost, TargetSet, TraceOptions
from vdscheck.probes.path.tcp import PACKETS, Tcp

EVERY_S = 0.25
"""How often what was found so far is told."""
_PATIENCE_S = (0.05, 1.0)
"""How long an answer is waited for: twice the longest round trip and 20 ms, between these."""
_REFUSALS_LIMIT = 3
_SWITCH_ROUND = 2
_WORDS = {
    errno.ENETUNREACH: "no route",
    errno.EHOSTUNREACH: "no route",
    errno.EADDRNOTAVAIL: "no address of this family",
    errno.EPERM: "a local firewall refuses it",
    errno.EACCES: "a local firewall or a prohibiting route refuses it",
}


@dataclass
class AddressCandidate:
    """One address of one host of a place."""

    target: TargetHost
    family: Family
    address: str
    engine: Engine
    tcp: Tcp
    trail: ProbeLog
    itinerary: SendSchedule
    explored_in: int | None = None
    """The round in which its trace began; None where it is not traced."""
    asked_rounds: int = 0
    mode: EchoMode | None = "icmp"
    refusals: int = 0
    problem: str | None = None

    @property
    def has_icmp(self) -> bool:
        """Whether its engine sends ICMP echoes."""
        return self.engine.name.endswith("ICMP")

    @property
    def method(self) -> Method:
        """The kind of packet that its trace consists of."""
        return "icmp" if self.has_icmp else "tcp" if self.engine.name == "TCP" else "udp"

    def next(self) -> NextPacket | None:
        """What is to be sent next in this round."""
        if self.problem is not None:
            return None
        return self.itinerary.next(self.trail.end_ttl, self.trail.last_ttl)

    def patience_ns(self) -> int:
        """How long an answer may still be on its way."""
        least, most = _PATIENCE_S
        worst_s = self.trail.worst_ns / 1e9
        return int(1e9 * (min(most, max(least, 2 * worst_s + 0.02)) if worst_s else most))


@dataclass
class TracedPath:
    """A place with all addresses of its hosts, and the one that is traced."""

    sought: TargetSet
    candidates: list[AddressCandidate]
    problems: tuple[str, ...]
    misled: tuple[str, ...] = ()
    """Names that lead to an address which cannot be that of the place, as sentences."""
    traced: AddressCandidate | None = None

    def choose(self, round_number: int) -> None:
        """Trace the first candidate in listed order; later, if it is silent, the first that has answered."""
        usable = [each for each in self.candidates if each.problem is None]
        if not usable:
            return
        if self.traced is None or self.traced.problem is not None:
            self.traced = usable[0]
        elif round_number >= _SWITCH_ROUND and not self.traced.trail.reached:
            self.traced = next((each for each in usable if each.trail.reached), self.traced)
        if self.traced.explored_in is None:
            self.traced.explored_in = round_number


@dataclass
class Tracer:
    """Ways to several places, traced side by side."""

    ways: list[TracedPath]
    plan: ProbeBudget
    how: TraceOptions
    ends_at: float
    """When to end at the latest, by the monotonic clock."""
    names: ReverseDns | None = None
    """Whom to ask what addresses are called."""
    round: int = -1
    complete: bool = False
    """Whether all rounds were made."""
    ended: bool = False
    """Whether nothing more will be told."""
    _round_began: float = 0.0
    _count: int = 0
    _by_wire: dict[int, tuple[AddressCandidate, int]] = field(default_factory=dict)
    _by_stamp: dict[tuple[int, int], tuple[AddressCandidate, int]] = field(default_factory=dict)

    @property
    def candidates(self) -> list[AddressCandidate]:
        """All addresses of all places."""
        return [each for way in self.ways for each in way.candidates]

    def run(self) -> Iterator[None]:
        """Send and listen until all is done or the time is over; yields when there is something new to tell."""
        engines = _engines(self.candidates)
        told_at = time.monotonic()
        with ExitStack() as stack, selectors.DefaultSelector() as selector:
            for engine in engines:
                stack.callback(engine.close)
                selector.register(engine, selectors.EVENT_READ, engine)
            if self.names is not None:
                stack.callback(self.names.close)
                selector.register(self.names, selectors.EVENT_READ)
            self._begin(time.monotonic())
            while time.monotonic() < self.ends_at:
                wake_at = self._step()
                if wake_at is None:
                    self.complete = True
                    break
                self._listen(selector, min(wake_at, time.monotonic() + EVERY_S, self.ends_at))
                if time.monotonic() - told_at >= EVERY_S:
                    told_at = time.monotonic()
                    yield
            for engine in engines:
                self._hear(engine)
        self.ended = True
        yield

    def _listen(self, selector: selectors.BaseSelector, until: float) -> None:
        for key, _ in selector.select(max(0.0, until - time.monotonic())):
            if key.data is not None:
                self._hear(key.data)
            elif self.names is not None:
                self.names.hear()
        for engine in {id(each.tcp): each.tcp for each in self.candidates}.values():
            # Handshakes that were not answered are given up, which nothing else tells of.
            self._hear(engine)

    def _step(self) -> float | None:
        """Send what is due; when there is something to do again, None when all is done."""
        wake_at, busy = float("inf"), False
        for candidate in self.candidates:
            step = candidate.next()
            while step is not None and candidate.itinerary.limiter.due() <= time.monotonic():
                self._send(candidate, step)
                step = candidate.next()
            if step is not None:
                busy = True
                wake_at = min(wake_at, candidate.itinerary.limiter.due())
        if busy:
            return wake_at
        now = time.monotonic()
        if all(each.problem is not None for each in self.candidates):
            return None
        if self.round + 1 < self.plan.rounds:
            next_at = self._round_began + self.plan.interval_s
            if now < next_at:
                return next_at
            self._begin(now)
            return now
        now_ns = time.monotonic_ns()
        if any(each.trail.awaited_since(now_ns - each.patience_ns()) for each in self.candidates):
            return now + _PATIENCE_S[0] / 5
        return None

    def _begin(self, now: float) -> None:
        self.round += 1
        self._round_began = now
        for way in self.ways:
            way.choose(self.round)
            for candidate in way.candidates:
                self._prepare(candidate, traced=candidate is way.traced)

    def _prepare(self, candidate: AddressCandidate, *, traced: bool) -> None:
        trail, itinerary = candidate.trail, candidate.itinerary
        echoes = [(probe.method, is_from_target(probe.state)) for probe in trail.of("echo")]
        candidate.mode = echo_mode(
            has_icmp=candidate.has_icmp,
            icmp_answered=("icmp", True) in echoes,
            tcp_answered=("tcp", True) in echoes,
            asked_rounds=candidate.asked_rounds,
            tcp_wanted=candidate.target.port is not None or self.how.trace == "tcp",
        )
        candidate.asked_rounds += candidate.mode is not None
        by_tcp = candidate.mode == "tcp"
        count = 0 if candidate.mode is None else self.plan.echoes
        count = int(TCP_SHARE * count) if by_tcp else count
        itinerary.packets_each = PACKETS if by_tcp else 1
        itinerary.traces = traced
        itinerary.explores = candidate.explored_in == self.round
        sizes: list[NextPacket] = []
        if traced and candidate.explored_in is not None and candidate.method != "tcp":
            sizes = mtu.steps(self.round - candidate.explored_in, trail, has_icmp=candidate.has_icmp)
        itinerary.begin(
            echoes=count if traced else min(count, 1),
            rounds_left=self.plan.rounds - self.round - 1,
            end_ttl=trail.end_ttl,
            last_ttl=trail.last_ttl,
            sizes=sizes,
        )

    def _send(self, candidate: AddressCandidate, step: NextPacket) -> None:
        by_tcp = step.purpose == "echo" and candidate.mode == "tcp"
        engine: Engine = candidate.tcp if by_tcp else candidate.engine
        method: Method = "tcp" if by_tcp else candidate.method
        self._count += 1
        number, wire = self._count, self._count & 0xFFFF
        moment = moment_now()
        self._by_wire[wire] = (candidate, number)
        probe = ProbePacket(step.purpose, method, step.ttl, self.round, step.length, Awaited(moment, None))
        try:
            key = engine.send(candidate.address, wire, step.ttl, step.length)
        except OSError as error:
            probe.state = NotSent(_WORDS.get(error.errno or 0, os.strerror(error.errno or 0)))
            if step.purpose != "size":
                self._refused(candidate, probe.state.why)
        else:
            self._by_stamp[id(engine), key] = (candidate, number)
            candidate.refusals = 0
        candidate.trail.sent(number, probe)
        candidate.itinerary.taken(step, time.monotonic())

    def _refused(self, candidate: AddressCandidate, why: str) -> None:
        candidate.refusals += 1
        sent = any(not isinstance(probe.state, NotSent) for probe in candidate.trail.probes.values())
        if candidate.refusals >= _REFUSALS_LIMIT and not sent:
            candidate.problem = f"{candidate.address}: {why}"

    def _hear(self, engine: Engine) -> None:
        heard = list(engine.receive())
        if not heard:
            return
        now = moment_now()
        for event in heard:
            if isinstance(event, Stamp):
                known = self._by_stamp.pop((id(engine), event.key), None)
                if known is not None:
                    known[0].trail.stamped(known[1], event.at_ns)
            else:
                self._answered(event, now)

    def _answered(self, answer: Answer, now: Moment) -> None:
        if answer.sequence is not None:
            candidate, number = self._by_wire.get(answer.sequence, (None, 0))
            if candidate is not None and answer.target in (None, candidate.address):
                candidate.trail.answered(number, answer, now)
            return
        for candidate in self.candidates:
            if candidate.address == answer.target:
                candidate.trail.answered(None, answer, now)
                return


def moment_now() -> Moment:
    """Now by both clocks, read so close together that only a step can put them apart."""
    for _ in range(4):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        if after - before < 20_000:  # noqa: PLR2004 - not interrupted in between
            break
    return Moment((before + after) // 2, real)


def _engines(candidates: Sequence[AddressCandidate]) -> list[Engine]:
    found: dict[int, Engine] = {}
    for candidate in candidates:
        for engine in (candidate.engine, candidate.tcp):
            found[id(engine)] = engine
    return list(found.values())


class EngineFactory:
    """Opens the engines, one of each kind, and makes candidates of addresses."""

    def __init__(self, plan: ProbeBudget, how: TraceOptions) -> None:
        self._plan, self._how = plan, how
        self._engines: dict[Family, Engine | None] = {}
        self._tcp: dict[tuple[Family, int], Tcp] = {}
        self._limiters: dict[str, Limiter] = {}

    def candidate(self, target: TargetHost, family: Family, address: str) -> AddressCandidate | None:
        """None where no engine of this family may be had."""
        engine = self._engine(family)
        if engine is None:
            return None
        # An IPv4 address that is written as one of IPv6 leads to the same machine.
        limiter = self._limiters.setdefault(str(address_of(address) or address), Limiter())
        return AddressCandidate(
            target=target,
            family=family,
            address=address,
            engine=engine,
            tcp=self._by_tcp(family, target.port or self._how.port),
            trail=ProbeLog(address),
            itinerary=SendSchedule(self._plan, limiter),
        )

    def _engine(self, family: Family) -> Engine | None:
        if self._how.trace == "tcp":
            return self._by_tcp(family, self._how.port)
        if family not in self._engines:
            names = ("udp",) if self._how.trace == "udp" else ("raw", "datagram", "udp")
            self._engines[family] = None
            with suppress(OSError):
                self._engines[family] = open_engine(family, names)
        return self._engines[family]

    def _by_tcp(self, family: Family, port: int) -> Tcp:
        if (family, port) not in self._tcp:
            self._tcp[family, port] = Tcp(family, port)
        return self._tcp[family, port]
