"""One survey: names to addresses, addresses to ways, and the measurement of these as it grows."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from vdscheck.linux.dns_wire import nameservers
from vdscheck.measurements.path import Hop, Paths, PathTrace, TargetMinimum
from vdscheck.plugin import Absent, Host, Reason, UnavailableError, unmeasured
from vdscheck.probes.path import mtu, statistics
from vdscheck.probes.path import resolve as names
from vdscheck.probes.path.packets import Family
from vdscheck.probes.path.packets_sent import Complete, Stepped, is_from_target
from vdscheck.probes.path.remote import Named, is_own, why_not_remote
from vdscheck.probes.path.reverse_dns import ReverseDns
from vdscheck.probes.path.schedule import PACKETS_LIMIT, ProbeBudget
from vdscheck.probes.path.subject import Places, TraceOptions, shipped
from vdscheck.probes.path.tracer import AddressCandidate, EngineFactory, TracedPath, Tracer

RESOLVE_LIMIT_S = 1.0
QUICK_S, THOROUGH_S = 1.5, 6.0
"""Windows up to the first have time for 4 rounds, those from the second for 40."""


def survey(host: Host, places: Places) -> Iterator[Paths]:
    """Measure the ways to all places at one time."""
    began = time.monotonic()
    plan = planned(places.how, host.time_left_s)
    has_ipv6 = _has_ipv6(host)
    ways = _ways(places, plan, min(RESOLVE_LIMIT_S, host.time_left_s / 2))
    tracer = Tracer(ways, plan, places.how, time.monotonic() + host.time_left_s, _resolver(host, places.how))
    for _ in tracer.run():
        yield _made(tracer, places, time.monotonic() - began, has_ipv6=has_ipv6)


def planned(how: TraceOptions, window_s: float) -> ProbeBudget:
    """What is sent in a window: the usual 10 rounds, fewer of more echoes in haste, more where there is time.

    A p95 with its interval takes 72 echoes, whatever the haste.
    """
    packets = None if how.unlimited else PACKETS_LIMIT
    if how != TraceOptions() and how.interval_s:
        return ProbeBudget(rounds=how.rounds, interval_s=how.interval_s, packets=packets)
    if window_s <= QUICK_S:
        return ProbeBudget(rounds=2, echoes=38, packets=packets)
    if window_s >= THOROUGH_S:
        return ProbeBudget(rounds=20, echoes=20, packets=None)
    return ProbeBudget(rounds=how.rounds, packets=packets)


def _ways(places: Places, plan: ProbeBudget, limit_s: float) -> list[TracedPath]:
    workshop = EngineFactory(plan, places.how)
    families: tuple[Family, ...] = (4, 6)
    if places.how.family is not None:
        families = (6,) if places.how.family == 6 else (4,)  # noqa: PLR2004
    hosts = [target.host for sought in places.sought for target in sought.targets]
    found = names.addresses(hosts, families, limit_s)
    public = {target.host for sought in shipped().values() for target in sought.targets}
    ways = []
    for sought in places.sought:
        candidates: dict[str, AddressCandidate] = {}
        problems, misled = [], []
        for target in sought.targets:
            if not found[target.host].addresses:
                problems.append(found[target.host].why)
            named = Named(target.host, target.host in public)
            for family, address in found[target.host].addresses:
                elsewhere = why_not_remote(named, address, is_own)
                candidate = None if elsewhere else workshop.candidate(target, family, address)
                if elsewhere:
                    misled.append(elsewhere)
                elif candidate is None:
                    problems.append(f"{address}: this kernel has no IPv{family}")
                elif address not in candidates:
                    candidates[address] = candidate
        ways.append(TracedPath(sought, list(candidates.values()), tuple(dict.fromkeys(problems)), tuple(misled)))
    return ways


def _resolver(host: Host, how: TraceOptions) -> ReverseDns | None:
    if not how.names:
        return None
    try:
        return ReverseDns(nameservers(host.read("/etc/resolv.conf"))[0])
    except (UnavailableError, OSError, UnicodeError):
        return None


def _has_ipv6(host: Host) -> bool:
    try:
        addresses = host.read("/proc/net/if_inet6")
        routes = host.read("/proc/net/ipv6_route")
    except UnavailableError:
        return False
    return names.local_addresses(addresses) and names.default_route(routes)


def _made(tracer: Tracer, places: Places, duration_s: float, *, has_ipv6: bool) -> Paths:
    traces: dict[str, PathTrace] = {}
    absent: dict[str, Absent] = {}
    for way in tracer.ways:
        if way.traced is None or way.traced.problem is not None:
            absent[way.sought.place.name] = _unreachable(way)
        else:
            traces[way.sought.place.name] = _trace(tracer, way, way.traced, samples=places.how.samples and tracer.ended)
    six = [each for each in tracer.candidates if each.family == 6]  # noqa: PLR2004
    return Paths(
        places=tuple(each.place for each in places.sought),
        traces=traces,
        absent=absent,
        duration_s=round(duration_s, 3),
        complete=tracer.complete,
        ipv6=_ipv6(six, has_ipv6=has_ipv6),
        ipv6_targets=len(six),
    )


def _ipv6(
    asked: list[AddressCandidate], *, has_ipv6: bool
) -> Literal["works", "unanswered", "not-asked", "not-present"]:
    if any(each.trail.reached for each in asked):
        return "works"
    if not has_ipv6:
        return "not-present"
    return "unanswered" if asked else "not-asked"


def _unreachable(way: TracedPath) -> Absent:
    if way.misled:
        return unmeasured(Reason.ERROR, "; ".join(dict.fromkeys(way.misled))[:300])
    said = [*way.problems, *(each.problem for each in way.candidates if each.problem is not None)]
    return unmeasured(Reason.UNREACHABLE, "; ".join(dict.fromkeys(said))[:300])


def _trace(tracer: Tracer, way: TracedPath, traced: AddressCandidate, *, samples: bool) -> PathTrace:
    trail = traced.trail
    now_ns = time.monotonic_ns()
    oldest_ns = now_ns if tracer.complete else now_ns - traced.patience_ns()
    echoes = statistics.echoes(trail, _method(traced), oldest_ns)
    hops = statistics.hops(trail, oldest_ns, statistics.echo_count(trail, oldest_ns))
    minima = [statistics.minimum_ms(each.trail) for each in way.candidates]
    states = [probe.state for probe in trail.probes.values()]
    return PathTrace(
        place=way.sought.place,
        host=traced.target.host,
        address=traced.address,
        family=traced.family,
        engine=traced.engine.name,
        rounds=tracer.round + 1,
        packets=traced.itinerary.limiter.packets,
        hops=hops if tracer.names is None else _called(hops, tracer.names),
        end_ttl=trail.end_ttl,
        refusal=statistics.refusal(trail, traced.family),
        loop=statistics.loops(hops),
        unattributed=trail.unattributed,
        duplicates=trail.duplicates,
        clock_steps=sum(isinstance(state, Stepped) for state in states),
        kernel_stamped=sum(isinstance(state, Complete) and state.kernel_stamps for state in states),
        echoes=echoes,
        targets=tuple(_minimum(each) for each in way.candidates),
        minimum_ms=min((each for each in minima if each is not None), default=None),
        mtu=mtu.found(trail, has_icmp=traced.has_icmp),
        samples=statistics.samples(trail) if samples else (),
    )


def _called(hops: tuple[Hop, ...], names: ReverseDns) -> tuple[Hop, ...]:
    return tuple(
        replace(hop, responders=tuple(replace(each, name=names.name(each.address)) for each in hop.responders))
        for hop in hops
    )


def _method(candidate: AddressCandidate) -> str:
    method = candidate.trail.echo_method
    if method == "tcp":
        return f"tcp {candidate.tcp.port}, timed by the kernel's TCP"
    return f"icmp echo, {candidate.engine.name}" if method == "icmp" else "none"


def _minimum(candidate: AddressCandidate) -> TargetMinimum:
    method = candidate.trail.echo_method
    probes = [probe for probe in candidate.trail.of("echo") if probe.method == method]
    return TargetMinimum(
        host=candidate.target.host,
        address=candidate.address,
        family=candidate.family,
        sent=len(probes),
        received=sum(is_from_target(probe.state) for probe in probes),
        best_ms=statistics.minimum_ms(candidate.trail),
        method=_method(candidate),
        problem=candidate.problem,
    )
