"""Whether the network of this host does what connections need: names, packet sizes, no drops, IPv6."""

from dataclasses import replace

from vdscheck.measurements import NetworkWindow, Paths, PathTrace, Resolvers, ResolverTimes
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    Estimate,
    Evidence,
    Judgement,
    Reason,
    Severity,
    Verdict,
    check,
    evidence,
    exact,
    not_applicable,
    proportion,
    spoken,
    unmeasured,
)

COUNTERS = "counters of this run"
RESOLVED = ("NOERROR", "NXDOMAIN")
"""Of answers with an address, and of those that a name is none: in a network without a way out all are so."""


@check("net.dns", severity=Severity.MEDIUM)
def dns(found: Resolvers, p95: AtMost) -> dict[str, Judgement | Absent]:
    """Every configured resolver answers soon.

    Why: A service that looks up a name for each connection waits for the resolver each time, and for five
        seconds where the first resolver is dead (resolv.conf(5), timeout).
    False positives: A resolver that limits the questions of one client. Names that it has to ask others for
        are told apart: only answers for names that were asked before are judged, and only where some name has an
        IPv4 address, or is said to be none.
    By hand: dig @RESOLVER NAME | grep 'Query time'
    Sources: house (an answer from a cache in the same country is there in 50 ms, or is not a cache)
    """
    others_answer = any(each.answered for each in found.resolvers)
    return {each.address: _resolver(each, p95, others_answer=others_answer) for each in found.resolvers}


def _resolver(found: ResolverTimes, p95: AtMost, *, others_answer: bool) -> Judgement | Absent:
    codes = ", ".join(f"{count} {name}" for name, count in found.codes.items())
    if found.cached is None:
        why = f"{found.address} answered {found.answered} of {found.sent} questions{codes and f' ({codes})'}"
        if found.answered or not others_answer:
            return unmeasured(Reason.UNREACHABLE, why)
        return Judgement(verdict=Verdict.FAIL, summary=f"{why}, and another resolver answers", expected=p95.expected())
    if not any(code in found.codes for code in RESOLVED):
        why = f"{found.address} answered {found.answered} of {found.sent} questions, none with an address ({codes})"
        return unmeasured(Reason.ERROR, why)
    said = [Evidence("answered", f"{found.answered} of {found.sent} ({codes})", None, "UDP port 53")]
    if found.first_ms:
        said.append(Evidence("slowest_first_answer_ms", round(max(found.first_ms), 2), "ms", "UDP port 53"))
    judged = p95.judge(found.cached.percentile_ms(0.95), "p95 of answers for known names", evidence=tuple(said))
    if found.cached_p95_lost:
        lost = found.sent - found.answered
        why = f"{lost} of {found.sent} questions were not answered: it is slow, or limits the questions of one client"
        return replace(judged, verdict=Verdict.UNKNOWN, reason=Reason.TIMEOUT, summary=why)
    return judged


@check("net.mtu", severity=Severity.MEDIUM)
def mtu(paths: Paths, size: AtLeast) -> dict[str, Judgement | Absent]:
    """Packets of full size get through to each place.

    Why: Where they vanish without a word (a black hole: ICMP is filtered, or never sent), connections are
        made and then hang at the first full packet.
    False positives: A tunnel or a VPN on purpose: the sender is told, and adapts. The finding says whether
        that works.
    By hand: ping -M do -s 1472 HOST; tracepath HOST; sysctl -w net.ipv4.tcp_mtu_probing=1 lives with a black hole
    Sources: RFC 8900 and RFC 2923 (path MTU discovery and its black holes); RFC 894 (1500 bytes of Ethernet)
    """

    def judged(trace: PathTrace) -> Judgement | Absent:
        found = trace.mtu
        if found is None:
            return unmeasured(Reason.NOT_RUN, "there was no time to send packets of full size")
        if found.bytes is None:
            return unmeasured(Reason.UNSUPPORTED, found.why)
        names = ("tried_bytes", "interface_bytes", "reported_bytes", "reported_by", "last_passed")
        judgement = size.judge(found.bytes, "the largest packet", evidence=evidence(found, *names, source=trace.engine))
        if judgement.verdict is Verdict.PASS:
            return judgement
        black_hole = found.reported_by is None and found.interface_bytes is None
        behind = f" behind {found.last_passed}" if found.last_passed else ""
        kind = f"a black hole{behind}" if black_hole else "the sender is told"
        return replace(judgement, summary=f"{judgement.summary}: {found.why} ({kind})")

    return paths.by_place(judged)


@check("net.retransmits", severity=Severity.MEDIUM)
def retransmits(found: NetworkWindow, share: AtMost) -> Judgement | Absent:
    """TCP has to send hardly anything twice.

    Why: What is sent twice was lost, or came too late; either way somebody waited for it.
    False positives: Clients on bad mobile networks are not this host's fault. Scans of hosts that are not there
        count as well.
    By hand: nstat -az TcpRetransSegs TcpOutSegs
    Sources: house (above 1 % throughput over longer ways falls off; Mathis et al., ACM CCR 27 (1997))
    """
    said = evidence(found, "segments_out", "retransmitted", "window_s", source=COUNTERS)
    boot = ("segments_out_since_boot", "retransmitted_since_boot")
    said += evidence(found, *boot, source="/proc/net/snmp since boot")
    if found.segments_out <= 0:
        return not_applicable(f"no TCP segment was sent in {spoken(round(found.window_s, 1))} s")
    percent = exact(0.0)
    if found.retransmitted > 0:
        # A burst of retransmissions may exceed what is new in a short window.
        lost = proportion(min(found.retransmitted, found.segments_out), found.segments_out)
        percent = Estimate(100 * lost.value, 100 * lost.low, 100 * lost.high, lost.count)
    return share.judge(percent, "the share of TCP segments sent again", evidence=said)


@check("net.drops", severity=Severity.MEDIUM)
def drops(found: NetworkWindow, packets: AtMost) -> Judgement:
    """No packet is dropped because this host was too slow to take it.

    Why: A packet that came all the way and is dropped here is the most expensive one there is.
    False positives: None of these counters counts packets of unknown protocols; rx_dropped does, so it is only
        evidence.
    By hand: cat /proc/net/softnet_stat; ip -s -s link
    Sources: https://docs.kernel.org/networking/statistics.html (rx_missed_errors, rx_fifo_errors);
        https://docs.kernel.org/networking/scaling.html
    """
    lost = found.softnet_dropped + found.rx_missed + found.rx_fifo
    names = ("softnet_dropped", "rx_missed", "rx_fifo", "rx_dropped", "window_s")
    return packets.judge(lost, "packets dropped for want of room", evidence=evidence(found, *names, source=COUNTERS))


@check("net.ipv6", severity=Severity.LOW)
def ipv6(paths: Paths) -> Judgement | Absent:
    """IPv6 works, where it is there.

    Why: Programs try IPv6 first. Where this host has an address and a route and nothing answers, every first
        connection waits for a timeout.
    False positives: Targets whose own IPv6 is broken: see path.nearest for each.
    By hand: ip -6 route get 2001:db8::1; ping -6 HOST
    Sources: RFC 8305 (Happy Eyeballs), RFC 6724 (IPv6 comes first)
    """
    if paths.ipv6 == "not-present":
        return not_applicable("this host has no IPv6 address with a way out")
    if paths.ipv6 == "not-asked":
        return paths.misled or not_applicable("none of the places has an IPv6 address")
    said = (Evidence("targets_asked", paths.ipv6_targets, None, "ICMPv6 and UDP"),)
    if paths.ipv6 == "works":
        return Judgement(verdict=Verdict.PASS, summary="a target answers over IPv6", evidence=said)
    if not any(trace.minimum_ms is not None for trace in paths.traces.values()):
        return paths.misled or unmeasured(Reason.UNREACHABLE, "no target answers at all, by IPv4 or IPv6")
    return Judgement(
        verdict=Verdict.FAIL,
        summary=f"this host has an IPv6 address and a route, and none of {paths.ipv6_targets} IPv6 targets answers",
        evidence=said,
    )
