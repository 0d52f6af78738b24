"""What is measured of the ways to places: hops, round trips, what is lost where, the largest packet; of resolvers."""

from typing import Literal

from vdscheck.model import Absent, measurement, named
from vdscheck.stats import Distribution, Estimate, proportion

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


@measurement
class ResolverTimes:
    """A configured resolver asked for the names of the places' targets."""

    address: str
    first_ms: tuple[float, ...]
    """How long the first answer for each name took."""
    cached: Distribution | None
    """Answers for names that were asked before; None where none came."""
    cached_p95_lost: bool
    """Whether more than one in twenty of these was not answered."""
    sent: int
    answered: int
    codes: dict[str, int]
    """NOERROR, NXDOMAIN, SERVFAIL, ...: how many of each."""


@measurement
class Resolvers:
    """The resolvers of /etc/resolv.conf, each asked over UDP."""

    names: tuple[str, ...]
    resolvers: tuple[ResolverTimes, ...]


@measurement
class TcpBuffers:
    """The largest buffers that a TCP connection may grow to (the third number of tcp_rmem and tcp_wmem)."""

    receive_max_bytes: int
    send_max_bytes: int


@measurement
class NetworkWindow:
    """Counters of the network while the run went on (/proc/net/snmp, softnet_stat, /sys/class/net)."""

    window_s: float
    segments_out: int
    retransmitted: int
    softnet_dropped: int
    rx_missed: int
    rx_fifo: int
    rx_dropped: int
    """Counts packets of unknown protocols too."""
    segments_out_since_boot: int
    retransmitted_since_boot: int
