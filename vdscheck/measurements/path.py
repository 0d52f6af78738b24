"""What is measured of the ways to places: hops, round trips, what is lost where, the largest packet; of resolvers."""

from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from vdscheck.model.absence import Absent, Reason, unmeasured
from vdscheck.model.records import measurement, named
from vdscheck.stats import Distribution, Estimate, proportion

T = TypeVar("T")

LONGEST_RTT_MS = 1e7
"""No round trip takes hours: what a report says beyond that is not one."""
LossKind = Literal["control-plane", "path", "silent", "undecided"]
"""Why answers of a hop are missing: it limits them, it goes on to the destination, it never answers, or not known."""


@named
class Place:
    """Somewhere that users or servers are, as its name and coordinates say; None is not known."""

    name: str
    latitude: float | None
    longitude: float | None
    limit_ms: float | None
    """The p95 of round trips up to which the place is near enough, where it has a limit of its own."""
    limit_source: str | None
    source: str
    """Who says that its targets are there and may be asked."""


def _lost(sent: int, received: int) -> Estimate | None:
    return proportion(sent - received, sent) if 0 <= received <= sent and sent > 0 else None


@measurement
class RoundTrips:
    """Round trips of few samples."""

    count: int
    best_ms: float
    mean_ms: float
    median_ms: float
    p95_ms: float
    worst_ms: float
    stddev_ms: float
    jitter_ms: float
    """Mean difference of one to the next; 0 of a single one."""


@measurement
class Responder:
    """One of those that answer for a hop."""

    address: str
    name: str | None
    """What its address is called, where that was asked for and known."""
    answers: int
    best_ms: float


@measurement
class Hop:
    """One hop of the way: how many probes ended there, and who answered."""

    ttl: int
    sent: int
    """Those that have been answered, or have had the time to be."""
    received: int
    loss: LossKind | None
    """None where nothing is missing."""
    times: RoundTrips | None
    """None where nothing was answered."""
    responders: tuple[Responder, ...]
    labels: tuple[int, ...]
    """MPLS labels, where routers tell them."""

    @property
    def loss_share(self) -> Estimate | None:
        """The share that was not answered, with its interval; None where nothing was sent."""
        return _lost(self.sent, self.received)


@measurement
class Echoes:
    """Round trips to the target itself."""

    method: str
    """`icmp echo`, `tcp 443`, ...; who has timed them."""
    sent: int
    received: int
    times: Distribution | None
    jitter_ms: float | None
    block_minima_ms: tuple[float | None, ...]
    """The least of each round's echoes; None where all of a round are lost."""

    @property
    def loss_share(self) -> Estimate | None:
        """The share that was lost, with its interval; None where nothing was sent."""
        return _lost(self.sent, self.received)


@measurement
class TargetMinimum:
    """One address of a host of a place: those that are not traced are asked for their minimum only."""

    host: str
    address: str
    family: int
    """4 or 6."""
    sent: int
    received: int
    best_ms: float | None
    method: str
    problem: str | None
    """Why nothing could be sent."""


@measurement
class PathMtu:
    """The largest packet that gets through to the target, found by sending some that must not be fragmented."""

    bytes: int | None
    """None where none of those sent was answered, so that it is not decided."""
    tried_bytes: int
    """The largest that was tried; what may not even leave counts as not getting through."""
    interface_bytes: int | None
    """What the own interface takes at most, where that is why."""
    reported_by: str | None
    """The router that said that a packet was too big, as it should."""
    reported_bytes: int | None
    last_passed: str | None
    """Of a black hole, where nobody says so: the last hop that the too large packets were seen to reach."""
    why: str
    """How it was decided, or why not."""


@measurement
class Sample:
    """One probe as it was: only kept on demand."""

    purpose: Literal["trace", "echo", "size"]
    ttl: int | None
    """None of an echo."""
    round: int
    sent_at_ns: int
    """Real time."""
    kernel_stamp: bool
    rtt_us: float | None
    """None where it was lost, or where a step of the clock fell between its two stamps."""
    responder: str | None


@measurement
class PathTrace:
    """The way to a place, by its first target in listed order that answers."""

    place: Place
    host: str
    address: str
    family: int
    engine: str
    """raw ICMP, datagram ICMP, UDP, TCP."""
    rounds: int
    packets: int
    """Sent to this address in all."""
    hops: tuple[Hop, ...]
    end_ttl: int | None
    """The hop where the target, or what refuses to go on to it, answered; None where nothing did."""
    refusal: str | None
    """What refuses to go on: `host unreachable (code 1) by ADDRESS`."""
    loop: bool
    """Whether the same router answers at several hops that are not next to each other."""
    unattributed: int
    """Answers whose quote is too short to tell which probe they are for."""
    duplicates: int
    clock_steps: int
    """Pairs of stamps that a step of the clock lies between: left out."""
    kernel_stamped: int
    """Round trips with the kernel's stamps on both ends."""
    echoes: Echoes
    targets: tuple[TargetMinimum, ...]
    minimum_ms: float | None
    """The least round trip to any of its targets; None where none answers."""
    mtu: PathMtu | None
    samples: tuple[Sample, ...]

    @property
    def unreachable(self) -> Absent:
        """Why the place is not reached, as far as the way to it can be seen."""
        hosts = ", ".join(dict.fromkeys(each.host for each in self.targets))
        why = f"no answer from {hosts}"
        answering = [hop for hop in self.hops if hop.responders]
        if self.refusal:
            why = f"{hosts}: {self.refusal}"
        elif answering:
            last = answering[-1]
            why += f"; the last hop that answers is {last.ttl}, {last.responders[0].address}"
            why += ", in a routing loop" if self.loop else ""
        return unmeasured(Reason.UNREACHABLE, why)


@measurement
class Paths:
    """The ways to all places, measured at one time."""

    places: tuple[Place, ...]
    """As they were asked for; the first is the one that is to be near."""
    traces: dict[str, PathTrace]
    absent: dict[str, Absent]
    """The places to which nothing could be sent at all."""
    duration_s: float
    complete: bool
    """Whether all rounds were made."""
    ipv6: Literal["works", "unanswered", "not-asked", "not-present"]
    """Whether IPv6, where the host has an address and a route for it, reaches a target that has an address."""
    ipv6_targets: int
    """Targets that were asked by an IPv6 address."""

    def answering(self) -> Iterator[tuple[str, PathTrace, float]]:
        """The places that answer, in their order: name, way, and the least round trip in ms."""
        for place in self.places:
            trace = self.traces.get(place.name)
            if trace is not None and trace.minimum_ms is not None and 0 <= trace.minimum_ms <= LONGEST_RTT_MS:
                yield place.name, trace, trace.minimum_ms

    @property
    def misled(self) -> Absent | None:
        """The first place whose name leads to an address that cannot be its own; None where there is none.

        No other place is absent with an error: one that is not known or not reached is unreachable.
        """
        found = (self.absent[place.name] for place in self.places if place.name in self.absent)
        return next((each for each in found if each.reason is Reason.ERROR), None)

    def by_place(self, judged: Callable[[PathTrace], T | Absent]) -> dict[str, T | Absent]:
        """What a function makes of the way to each place; what could not be reached is unknown."""
        found: dict[str, T | Absent] = {}
        for place in self.places:
            trace = self.traces.get(place.name)
            if trace is None:
                nothing = unmeasured(Reason.NOT_RUN, f"{place.name} was not measured")
                found[place.name] = self.absent.get(place.name, nothing)
            else:
                found[place.name] = judged(trace) if trace.echoes.received else trace.unreachable
        return found
