"""How far users are from here, through what, what is lost on the way, and which place is nearest beyond doubt."""

from collections.abc import Iterator
from dataclasses import replace

from vdscheck.measurements import LONGEST_RTT_MS, Hop, Paths, PathTrace
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    Estimate,
    Evidence,
    Judgement,
    Observed,
    Reason,
    Severity,
    Verdict,
    check,
    evidence,
    not_applicable,
    paired_difference,
    spoken,
    unmeasured,
)

from .distance import (
    FIBRE_KM_PER_MS,
    VACUUM_KM_PER_MS,
    contradiction,
    farthest_km,
    great_circle_km,
    least_rtt_ms,
)

MANY_ECHOES = 400
"""As many as bear "at most 1 %": none lost of 400 is less than that, with 95 % confidence."""
CALLS = 5
AT_THE_PLACE = 0.25
"""House: who is so much nearer to a place than another is to it may be taken to be there."""

_LOSS_WORDS = {
    "control-plane": "limits its answers",
    "path": "lost on the way here",
    "silent": "never answers",
    "undecided": "too few to say why",
}


def hop_words(hop: Hop) -> str:
    """`10.0.0.1 0.42 ms, 7 of 10 (limits its answers)`."""
    who = " or ".join(each.address for each in hop.responders) or "nobody"
    time = f" {spoken(round(hop.times.median_ms, 3))} ms" if hop.times else ""
    why = f" ({_LOSS_WORDS[hop.loss]})" if hop.loss else ""
    return f"{who}{time}, {hop.received} of {hop.sent}{why}"


def facts(trace: PathTrace, *, hops: bool = True) -> tuple[Evidence, ...]:
    """How it was measured, and the hops."""
    source = f"{trace.engine}; {trace.echoes.method}"
    said = [Evidence("target", f"{trace.host} ({trace.address})", None, source)]
    said += [Evidence(f"hop_{hop.ttl}", hop_words(hop), None, source) for hop in trace.hops if hops]
    if trace.minimum_ms is not None:
        said.append(Evidence("minimum_ms", round(trace.minimum_ms, 3), "ms", source))
    if trace.clock_steps:
        said.append(Evidence("left_out_for_a_step_of_the_clock", trace.clock_steps, None, source))
    if trace.unattributed:
        said.append(Evidence("answers_that_quote_too_little", trace.unattributed, None, source))
    return tuple(said)


@check("path.rtt", severity=Severity.MEDIUM)
def rtt(paths: Paths, p95: AtMost) -> dict[str, Judgement | Absent]:
    """Users are near: round trips to each place are within its limit.

    Why: Every packet between a user and this server takes a round trip, and a page takes many. No tuning of
        the server wins back what the distance costs.
    False positives: A target that is slow itself (see its other hosts in the evidence), or a way that is only
        now busy: run it again at another hour. A VPN on this host.
    By hand: mtr -rwzc 100 HOST; vdscheck path oslo frankfurt
    Sources: origin (users in Norway, servers in Frankfurt: 20-30 ms on every packet); the places' limits stand
        with them in profiles/places.toml
    """

    def judged(trace: PathTrace) -> Judgement | Absent:
        times = trace.echoes.times
        if times is None:
            return unmeasured(Reason.ERROR, "the clock was set while it was measured: run it again")
        limit = p95
        if trace.place.limit_ms is not None:
            source = trace.place.limit_source or p95.source
            limit = AtMost(pass_limit=trace.place.limit_ms, unit="ms", source=source, unmet=p95.unmet)
        return limit.judge(times.percentile_ms(0.95), "p95 of the round trips", evidence=facts(trace))

    return paths.by_place(judged)


@check("path.loss", severity=Severity.MEDIUM)
def loss(paths: Paths, lost: AtMost, lost_of_many: AtMost) -> dict[str, Judgement | Absent]:
    """What is sent to a place arrives there.

    Why: A lost packet costs a connection a timeout or its speed: 200 ms at least, a second for a new one.
    False positives: A target that limits its answers to ICMP. Routers that do so on the way are told apart and
        cost nothing: loss at a hop counts only where it goes on to the destination.
    By hand: mtr -rwzc 400 HOST
    Sources: house (0 of 100 lost bears "at most 4 %", 0 of 400 "at most 1 %"); RFC 6298 (timeouts)
    """

    def judged(trace: PathTrace) -> Judgement | Absent:
        share = trace.echoes.loss_share
        if share is None:
            return unmeasured(Reason.UNREACHABLE, "nothing was sent")
        percent = Estimate(100 * share.value, 100 * share.low, 100 * share.high, share.count)
        limit = lost_of_many if trace.echoes.sent >= MANY_ECHOES else lost
        found = limit.judge(percent, f"loss of {trace.echoes.sent} echoes", evidence=facts(trace, hops=False))
        where = [hop for hop in trace.hops if hop.loss == "path"]
        if where and trace.echoes.received < trace.echoes.sent:
            at = where[0]
            who = at.responders[0].address if at.responders else "a silent router"
            found = replace(found, summary=f"{found.summary}; it begins before hop {at.ttl}, {who}")
        return found

    return paths.by_place(judged)


@check("path.nearest", severity=Severity.MEDIUM)
def nearest(paths: Paths, lead: AtLeast) -> Judgement | Absent:
    """The wanted place is the nearest one, by more than chance.

    Why: A server that was bought to be near its users is near them, or was not worth it.
    False positives: The hosts of one place may be better connected than those of the other: compare hosts of
        one operator, and see the minima of all in the evidence. Distance on the wire is not distance on the map.
    By hand: vdscheck path oslo frankfurt; compare the minima of ping -c 100 to both
    Sources: origin; the sign test's interval (Conover, Practical Nonparametric Statistics, 3.4)
    """
    reached = {name: (trace, least) for name, trace, least in paths.answering()}
    if not paths.places:
        return not_applicable("no place is known here: --path NAME=HOST names one")
    wanted = paths.places[0].name
    nothing = _not_comparable(paths, list(reached))
    if nothing is not None:
        return nothing
    _, rival = min((least, name) for name, (_, least) in reached.items() if name != wanted)
    pairs = list(_paired(reached[rival][0], reached[wanted][0]))
    minima = ", ".join(f"{name} {spoken(round(least, 2))} ms" for name, (_, least) in reached.items())
    if not pairs:
        return unmeasured(Reason.TOO_FEW_SAMPLES, f"no round has an answer from both places; minima {minima}")
    found = paired_difference([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    judged = lead.judge(found, f"the lead of {wanted} over {rival}", evidence=_minima(paths))
    return replace(judged, summary=_nearest_words(judged, found, wanted, rival, minima))


def _not_comparable(paths: Paths, reached: list[str]) -> Absent | None:
    """Why places cannot be compared; None where they can."""
    wanted = paths.places[0].name
    if len(paths.places) < 2:  # noqa: PLR2004 - a comparison needs two
        return not_applicable("only one place is known here: --path NAME=HOST names more")
    impossible = contradiction(paths)
    if impossible:
        return unmeasured(Reason.ERROR, impossible)
    if wanted not in reached:
        trace = paths.traces.get(wanted)
        nothing = unmeasured(Reason.NOT_RUN, f"{wanted} was not measured")
        return trace.unreachable if trace else paths.absent.get(wanted, nothing)
    if len(reached) < 2:  # noqa: PLR2004
        return paths.misled or unmeasured(Reason.UNREACHABLE, f"no other place than {wanted} answers")
    return None


def _nearest_words(judged: Judgement, lead: Estimate, wanted: str, rival: str, minima: str) -> str:
    between = f"[{_bound(lead.low)}, {_bound(lead.high)}]"
    if judged.verdict is Verdict.UNKNOWN and abs(lead.low) == abs(lead.high) == float("inf"):
        return f"{lead.count} rounds are too few to tell {wanted} from {rival} by more than chance; minima {minima}"
    if judged.verdict is Verdict.UNKNOWN:
        return f"{wanted} and {rival} are too close to call: {lead.value:+.2f} ms {between}; minima {minima}"
    near, far = (wanted, rival) if lead.value >= 0 else (rival, wanted)
    sign = 1 if lead.value >= 0 else -1
    ends = sorted((sign * lead.low, sign * lead.high))
    between = f"[{_bound(ends[0])}, {_bound(ends[1])}]"
    return f"{near} is nearer than {far} by {abs(lead.value):.2f} ms {between}; minima {minima}"


def _bound(value: float) -> str:
    return "?" if abs(value) == float("inf") else f"{value:.2f}"


def _paired(one: PathTrace, other: PathTrace) -> Iterator[tuple[float, float]]:
    """The least round trips of both in each round in which both answered."""
    for first, second in zip(one.echoes.block_minima_ms, other.echoes.block_minima_ms, strict=False):
        if first is not None and second is not None and max(abs(first), abs(second)) <= LONGEST_RTT_MS:
            yield first, second


def _minima(paths: Paths) -> tuple[Evidence, ...]:
    """The least round trip to each host of each place."""
    return tuple(
        Evidence(
            f"{place}_{target.address}",
            "no answer" if target.best_ms is None else f"{target.best_ms:.2f} ms at least",
            None,
            f"{target.host}, {target.method}",
        )
        for place, trace in paths.traces.items()
        for target in trace.targets
    )


@check("path.location", severity=Severity.INFO)
def location(paths: Paths) -> Judgement | Absent:
    """How far this host can be from a place at most.

    Why: What is sold as a server in Oslo may stand in Frankfurt, and no light is fast enough to hide that.
    False positives: None against the proof, unless a host of the place is not where it is said to be; two
        places that contradict each other are told. The likely figure takes all of the way for straight fibre.
    By hand: half the least round trip times 300 km/ms
    Sources: the speed of light in vacuum (299,792.458 km/s) for the proof; in fibre (group index 1.4682,
        Corning SMF-28) for what is likely
    """
    placed = [(name, trace, least) for name, trace, least in paths.answering() if trace.place.latitude is not None]
    if not placed:
        if any(place.latitude is not None for place in paths.places):
            nothing = unmeasured(Reason.UNREACHABLE, "no place whose coordinates are known answers")
            return paths.misled or nothing
        return not_applicable("none of the places has coordinates")
    impossible = contradiction(paths)
    if impossible:
        return unmeasured(Reason.ERROR, impossible)
    nearest_name, _, least = min(placed, key=lambda each: each[2])
    proof, likely = farthest_km(least, VACUUM_KM_PER_MS), farthest_km(least, FIBRE_KM_PER_MS)
    return Judgement(
        verdict=Verdict.PASS,
        summary=f"this host is within {proof:,.0f} km of {nearest_name} (light in vacuum in {least:.2f} ms), "
        f"and likely within {likely:,.0f} km (light in fibre)",
        observed=Observed(round(proof, 1), 0.0, round(proof, 1), None, "km"),
        evidence=tuple(
            Evidence(
                f"{name}_within",
                f"{farthest_km(ms, VACUUM_KM_PER_MS):,.0f} km, likely {farthest_km(ms, FIBRE_KM_PER_MS):,.0f} km",
                None,
                f"{each.host}, {ms:.2f} ms",
            )
            for name, each, ms in placed
        ),
    )


@check("path.stretch", severity=Severity.LOW)
def stretch(paths: Paths, factor: AtMost) -> Judgement | Absent:
    """The way to a place is not much longer than it must be.

    Why: Bad peering sends packets from Oslo to Frankfurt by way of another country, or another continent.
    False positives: Where this host is, is taken from the nearest place, so the figure has an interval as wide
        as that leaves open.
    By hand: the least round trip divided by 2 x great circle / 204 km/ms
    Sources: house (cables follow roads and coasts, so up to three times the great circle is common);
        Corning SMF-28, group index 1.4682
    """
    impossible = contradiction(paths)
    if impossible:
        return unmeasured(Reason.ERROR, impossible)
    placed = [(trace, least) for _, trace, least in paths.answering() if trace.place.latitude is not None]
    if len(placed) < 2:  # noqa: PLR2004 - one where the host is, one to go to
        nothing = not_applicable("two places with coordinates that answer are needed: one tells where this host is")
        return paths.misled or nothing
    near, near_ms = min(placed, key=lambda each: each[1])
    off_km = farthest_km(near_ms, FIBRE_KM_PER_MS)
    found: list[tuple[float, Judgement]] = []
    for trace, least in placed:
        apart_km = great_circle_km(near.place, trace.place)
        if trace is near or not apart_km or off_km > AT_THE_PLACE * apart_km:
            continue
        straight = least / least_rtt_ms(apart_km, FIBRE_KM_PER_MS)
        low, high = (
            least / least_rtt_ms(apart_km + off_km, FIBRE_KM_PER_MS),
            least / least_rtt_ms(apart_km - off_km, FIBRE_KM_PER_MS),
        )
        what = f"the way to {trace.place.name} over the straight one of {apart_km:,.0f} km"
        judged = factor.judge(Estimate(straight, low, high, None), what, evidence=facts(trace, hops=False))
        found.append((straight, judged))
    if not found:
        return not_applicable(
            f"where this host is, is not known well enough: within {off_km:,.0f} km of {near.place.name} at best"
        )
    return max(found, key=lambda each: each[0])[1]


@check("path.call-budget", severity=Severity.LOW)
def call_budget(paths: Paths, budget: AtMost) -> Judgement | Absent:
    """Five calls one after the other to the wanted place fit into 100 ms.

    Why: Services that call each other add up their round trips, and users wait for the sum.
    False positives: Calls that go out side by side, or to services on this very host.
    By hand: five times the median of ping -c 100 HOST
    Sources: origin (five internal calls at 20-30 ms each are 100 ms and more)
    """
    if not paths.places:
        return not_applicable("no place is known here: --path NAME=HOST names one")
    wanted = paths.places[0].name

    def judged(trace: PathTrace) -> Judgement | Absent:
        times = trace.echoes.times
        if times is None:
            return unmeasured(Reason.ERROR, "the clock was set while it was measured: run it again")
        one = times.percentile_ms(0.5)
        five = Estimate(CALLS * one.value, CALLS * one.low, CALLS * one.high, one.count, one.bounded_from)
        return budget.judge(
            five, f"the time that {CALLS} calls to {wanted} take, one after the other,", evidence=_medians(paths)
        )

    return paths.by_place(judged)[wanted]


def _medians(paths: Paths) -> tuple[Evidence, ...]:
    said: list[Evidence] = []
    for name, trace in paths.traces.items():
        if trace.echoes.times is not None:
            five_ms = round(CALLS * trace.echoes.times.percentile_ms(0.5).value, 2)
            said.append(Evidence(f"{CALLS}_calls_to_{name}", five_ms, "ms", trace.echoes.method))
    return (*said, *evidence(paths, "duration_s", source="clock_gettime(2)"))
