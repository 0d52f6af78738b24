"""The measurement of a way, from what has become of its probes so far: pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from vdscheck.measurements.path import Echoes, Hop, Responder, RoundTrips, Sample
from vdscheck.plugin import Recorder, median, percentile
from vdscheck.probes.path.loss import Count, classified
from vdscheck.probes.path.packets_sent import (
    Complete,
    NotSent,
    ProbeLog,
    ProbePacket,
    Stepped,
    is_from_target,
    is_settled,
)

NS_PER_MS = 1e6
RESPONDERS_LIMIT = 8
"""Of one hop: a load balancer has a few, and who forges answers may have thousands."""
_LOOP_AT_LEAST = 2
_REFUSALS = {
    0: "network unreachable",
    1: "host unreachable",
    3: "port unreachable",
    9: "network prohibited",
    10: "host prohibited",
    13: "prohibited by a filter",
}
_REFUSALS_V6 = {0: "no route", 1: "prohibited", 3: "address unreachable", 4: "port unreachable"}


def round_trips(rtts_ns: Sequence[int]) -> RoundTrips | None:
    """What round trips say, in the order of sending; None of none."""
    if not rtts_ns:
        return None
    in_ms = [each / NS_PER_MS for each in rtts_ns]
    mean = math.fsum(in_ms) / len(in_ms)
    return RoundTrips(
        count=len(in_ms),
        best_ms=min(in_ms),
        mean_ms=mean,
        median_ms=median(in_ms).value,
        p95_ms=percentile(in_ms, 0.95).value,
        worst_ms=max(in_ms),
        stddev_ms=math.sqrt(math.fsum((each - mean) ** 2 for each in in_ms) / len(in_ms)),
        jitter_ms=jitter_ms(rtts_ns),
    )


def jitter_ms(rtts_ns: Sequence[int]) -> float:
    """The mean difference of one round trip to the next; 0 of a single one."""
    if len(rtts_ns) < 2:  # noqa: PLR2004
        return 0.0
    pairs = pairwise(rtts_ns)
    return math.fsum(abs(after - before) for before, after in pairs) / (len(rtts_ns) - 1) / NS_PER_MS


def hops(trail: ProbeLog, oldest_ns: int, echoes: Count | None) -> tuple[Hop, ...]:
    """The hops up to the end, or the last that answered; `oldest_ns`: who was sent later still has time."""
    last = trail.end_ttl or trail.last_ttl
    by_ttl: dict[int, list[ProbePacket]] = {}
    for probe in trail.of("trace"):
        if probe.ttl <= last:
            by_ttl.setdefault(probe.ttl, []).append(probe)
    found = [_hop(ttl, by_ttl[ttl], oldest_ns) for ttl in sorted(by_ttl)]
    reached = trail.reached and trail.end_ttl is not None
    destination = echoes if echoes is not None and echoes.received else None
    if destination is None and reached and found:
        destination = Count(found[-1].sent, found[-1].received)
    kinds = classified([Count(each.sent, each.received) for each in found], destination)
    return tuple(replace(hop, loss=kind) for hop, kind in zip(found, kinds, strict=True))


def _hop(ttl: int, probes: Sequence[ProbePacket], oldest_ns: int) -> Hop:
    settled = [probe.state for probe in probes if is_settled(probe.state, oldest_ns)]
    answered = [state for state in settled if isinstance(state, Complete)]
    by_responder: dict[str, list[int]] = {}
    labels: dict[int, None] = {}
    for state in answered:
        by_responder.setdefault(state.responder, []).append(state.rtt_ns)
        labels.update(dict.fromkeys(state.labels))
    most = sorted(by_responder.items(), key=lambda item: -len(item[1]))[:RESPONDERS_LIMIT]
    return Hop(
        ttl=ttl,
        sent=len(settled),
        received=len(answered) + sum(isinstance(state, Stepped) for state in settled),
        loss=None,
        times=round_trips([state.rtt_ns for state in answered]),
        responders=tuple(
            Responder(address=address, name=None, answers=len(rtts), best_ms=min(rtts) / NS_PER_MS)
            for address, rtts in most
        ),
        labels=tuple(labels),
    )


def echo_count(trail: ProbeLog, oldest_ns: int) -> Count | None:
    """How many echoes were answered; None where none had the time to be."""
    settled = [probe.state for probe in _echoes(trail, oldest_ns)]
    return Count(len(settled), sum(map(is_from_target, settled))) if settled else None


def _echoes(trail: ProbeLog, oldest_ns: int) -> list[ProbePacket]:
    """Those by the one method that the target answers."""
    method = trail.echo_method
    return [probe for probe in trail.of("echo") if probe.method == method and is_settled(probe.state, oldest_ns)]


def echoes(trail: ProbeLog, method: str, oldest_ns: int) -> Echoes:
    """The round trips to the target itself."""
    settled = _echoes(trail, oldest_ns)
    recorder = Recorder()
    rtts = [
        probe.state.rtt_ns for probe in settled if isinstance(probe.state, Complete) and is_from_target(probe.state)
    ]
    recorder.add(rtts)
    by_round: dict[int, list[int]] = {}
    for probe in settled:
        block = by_round.setdefault(probe.round, [])
        if isinstance(probe.state, Complete) and is_from_target(probe.state):
            block.append(probe.state.rtt_ns)
    last = max(by_round, default=-1)
    blocks = (by_round.get(number, []) for number in range(last + 1))
    return Echoes(
        method=method,
        sent=len(settled),
        received=sum(is_from_target(probe.state) for probe in settled),
        times=recorder.distribution(),
        jitter_ms=jitter_ms(rtts) if rtts else None,
        block_minima_ms=tuple(min(block) / NS_PER_MS if block else None for block in blocks),
    )


def minimum_ms(trail: ProbeLog) -> float | None:
    """The least round trip to the target, by whatever it answered but packets of full size, which take longer."""
    rtts = (
        probe.state.rtt_ns
        for probe in trail.probes.values()
        if isinstance(probe.state, Complete) and is_from_target(probe.state) and probe.purpose != "size"
    )
    least = min(rtts, default=None)
    return None if least is None else least / NS_PER_MS


def loops(found: Iterable[Hop]) -> bool:
    """Whether a router answers at hops that are not next to each other: its packets come by again.

    Next to each other is how a router shows that forwards what it should not, or a change of the way.
    """
    seen: dict[str, list[int]] = {}
    for hop in found:
        for responder in hop.responders:
            seen.setdefault(responder.address, []).append(hop.ttl)
    again = [address for address, ttls in seen.items() if any(after - before > 1 for before, after in pairwise(ttls))]
    return len(again) >= _LOOP_AT_LEAST


def refusal(trail: ProbeLog, family: int) -> str | None:
    """What refuses to go on to the target, in words; None where nothing does, or the target answers."""
    if trail.reached:
        return None
    for probe in trail.probes.values():
        state = probe.state
        if isinstance(state, Complete) and state.kind == "unreachable":
            words = (_REFUSALS if family == 4 else _REFUSALS_V6).get(state.code, "unreachable")  # noqa: PLR2004
            return f"{words} (code {state.code}), says {state.responder}"
    return None


def samples(trail: ProbeLog) -> tuple[Sample, ...]:
    """Every probe as it was."""
    found = []
    for probe in trail.probes.values():
        state = probe.state
        if isinstance(state, NotSent):
            continue
        complete = state if isinstance(state, Complete) else None
        found.append(
            Sample(
                purpose=probe.purpose,
                ttl=None if probe.purpose == "echo" else probe.ttl,
                round=probe.round,
                sent_at_ns=state.sent.real_ns,
                kernel_stamp=complete is not None and complete.kernel_stamps,
                rtt_us=None if complete is None else complete.rtt_ns / 1000,
                responder=state.responder if isinstance(state, Complete | Stepped) else None,
            )
        )
    return tuple(found)
