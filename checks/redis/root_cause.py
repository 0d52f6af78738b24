"""Which of three breaks a latency limit of Redis: this box, the network, or the server; or that it cannot be told."""

from typing import Literal, NamedTuple

from vdscheck.measurements import HostLoad, LoopbackRtt, RedisLatency, RedisServing, Spin
from vdscheck.plugin import Absent, Evidence, evidence, spoken

MOST = 0.5
"""A cause is named when it explains at least this share of what is too much."""
RESENT_US = 200_000
"""TCP waits at least this long before it sends a segment again (TCP_RTO_MIN, include/net/tcp.h)."""


class Slow(NamedTuple):
    """The PINGs over a limit: how many, and the time in them; and what they took beyond an ordinary one."""

    number: int
    total_us: float
    excess_us: float

    @property
    def share(self) -> str:
        """The time in them, for people."""
        return f"{spoken(self.number)} PINGs took {_ms(self.total_us)}"


class Box(NamedTuple):
    """What was measured of this machine without Redis: other work, round trips over loopback, gaps of its CPUs."""

    load: HostLoad | Absent
    loopback: LoopbackRtt | Absent
    spin: Spin | Absent

    @property
    def busy(self) -> str:
        """`the host was busy before this: ...`; empty where it was not, or nobody looked."""
        return "" if isinstance(self.load, Absent) else self.load.in_words

    @property
    def facts(self) -> tuple[Evidence, ...]:
        """Its figures beside those of Redis."""
        shown = []
        if not isinstance(self.loopback, Absent):
            p99 = self.loopback.rtt.percentile_us(0.99)
            shown.append(Evidence("loopback_p99_us", _rounded(p99.value), "us", "two processes without Redis"))
        if not isinstance(self.spin, Absent):
            lost = round(self.spin.lost_percent, 3)
            shown.append(Evidence("cpu_time_lost_percent", lost, "%", "gaps of 1 ms and more"))
        return tuple(shown)


class Cause(NamedTuple):
    """What breaks the limit, and what shows it; no part where it cannot be told."""

    part: Literal["box", "network", "server"] | None
    why: str

    @property
    def sentence(self) -> str:
        """`the network breaks it: a TCP handshake alone takes 2.1 ms`."""
        if self.part is None:
            return f"whether box, network or server breaks it cannot be told: {self.why}"
        return f"the {self.part} breaks it: {self.why}"


def slow(found: RedisLatency, limit_us: float) -> Slow:
    """The PINGs that took longer than a limit, from the histogram."""
    over = [(bucket_ns / 1000, count) for bucket_ns, count in found.ping.histogram_ns if bucket_ns / 1000 > limit_us]
    count = sum(number for _, number in over)
    total_us = sum(us * number for us, number in over)
    ordinary_us = found.ping.percentile_us(0.5).value
    return Slow(count, total_us, max(0.0, total_us - count * ordinary_us))


def cause(found: RedisLatency, limit_us: float, box: Box) -> Cause:
    """What breaks a limit that the p99 is over."""
    away = found.here is False
    network = _far(found, limit_us, away=away)
    if network is not None:
        return network
    over = slow(found, limit_us)
    explained = [(_busy_us(found), _server), (_waited_us(found), _box)]
    if away:
        explained.append((_lost_us(found), _lossy))
    most_us, said = max(((us or 0.0, said) for us, said in explained), key=lambda each: each[0])
    if over.number and most_us >= MOST * over.excess_us > 0:
        return said(found, over)
    long_calls = _long_calls(found, limit_us)
    if over.number and long_calls >= MOST * over.number:
        ran = f"{spoken(long_calls)} calls of others ran longer than that, the slowest {_slowest(found.serving)}"
        return Cause("server", f"{ran}; {over.share}")
    return _without_redis(found, limit_us, over, box) or Cause(None, _undecided(found, over))


def _without_redis(found: RedisLatency, limit_us: float, over: Slow, box: Box) -> Cause | None:
    """The box where it is as slow without Redis."""
    if not isinstance(box.loopback, Absent):
        p99 = box.loopback.rtt.percentile_us(0.99)
        if p99.value > limit_us:
            return Cause("box", f"two processes here answer each other over loopback with a p99 of {_ms(p99.value)}")
    if not isinstance(box.spin, Absent):
        lost_us = box.spin.lost_percent / 100 * found.window_s * 1e6
        if over.number and lost_us >= MOST * over.excess_us > 0:
            share = f"{spoken(round(box.spin.lost_percent, 1))} % of CPU time"
            return Cause("box", f"its CPUs lost {share} in gaps of 1 ms and more; {over.share}")
    return None


def _far(found: RedisLatency, limit_us: float, *, away: bool) -> Cause | None:
    """The network, where its round trip alone is over the limit, or, to another machine, most of the p99."""
    if found.connect is None:
        return None
    ordinary_us = found.connect.percentile_us(0.5).value
    least_us = min(found.connect.min_us, found.tcp_min_rtt_us or found.connect.min_us)
    mostly = away and ordinary_us >= MOST * found.ping.percentile_us(0.99).value
    if least_us <= limit_us and not mostly:
        return None
    return Cause(
        "network",
        f"a TCP handshake, in which the server's process has no part, takes {_ms(ordinary_us)}, "
        f"and a packet there and back {_ms(least_us)} at least",
    )


def _busy_us(found: RedisLatency) -> float | None:
    """The time that the server spent on others."""
    if found.serving is None:
        return None
    forks_us = (found.serving.forks or 0) * (found.serving.fork_us or 0)
    return found.serving.others_us + forks_us


def _server(found: RedisLatency, over: Slow) -> Cause:
    serving = found.serving
    if serving is None:
        return Cause("server", over.share)
    if serving.forks and serving.fork_us and serving.fork_us > serving.others_us:
        return Cause("server", f"it forked, which took {_ms(serving.fork_us)}; {over.share}")
    loudest = ", ".join(
        f"{each.name} {spoken(each.calls)} x {_ms(each.total_us / max(1, each.calls))}" for each in serving.commands[:2]
    )
    return Cause("server", f"it spent {_ms(serving.others_us)} on commands of others ({loudest}); {over.share}")


def _waited_us(found: RedisLatency) -> float | None:
    """How long the two ends waited for a CPU beyond what is usual."""
    if found.waited_us is None:
        return None
    usual_us = (found.usual_wait_us or 0.0) * found.ping.count
    return max(0.0, found.waited_us + (found.server_waited_us or 0.0) - usual_us)


def _box(found: RedisLatency, over: Slow) -> Cause:
    ours, theirs = found.waited_us or 0.0, found.server_waited_us
    both = f"vdscheck {_ms(ours)}" + ("" if theirs is None else f", the server {_ms(theirs)}")
    return Cause("box", f"its processes were ready and waited for a CPU ({both}) while {over.share}")


def _lost_us(found: RedisLatency) -> float | None:
    return None if found.retransmits is None else found.retransmits * float(RESENT_US)


def _lossy(found: RedisLatency, over: Slow) -> Cause:
    return Cause("network", f"{spoken(found.retransmits or 0)} segments were lost and sent again; {over.share}")


def _long_calls(found: RedisLatency, limit_us: float) -> int:
    """Calls that took longer than the limit for sure."""
    calls = () if found.serving is None else found.serving.calls or ()
    return sum(each.calls for each in calls if each.at_most_us / 2 >= limit_us)


def _slowest(serving: RedisServing | None) -> str:
    if serving is None or not serving.calls:
        return "none named"
    return f"{serving.slowest}, up to {_ms(serving.calls[-1].at_most_us)}"


def _undecided(found: RedisLatency, over: Slow) -> str:
    waited = _waited_us(found)
    parts = [over.share]
    if waited is not None:
        parts.append(f"{_ms(waited)} of waiting for a CPU")
    if found.serving is not None:
        parts.append(f"{_ms(found.serving.others_us)} in commands of others")
    elif found.serving_absent is not None:
        parts.append(found.serving_absent.detail)
    return "; ".join(parts)


def _ms(us: float | None) -> str:
    return f"{spoken(round((us or 0.0) / 1000, 3))} ms"


def facts(found: RedisLatency) -> tuple[Evidence, ...]:
    """The figures that tell the three apart."""
    shown = [
        Evidence("ping_p50_us", _rounded(found.ping.percentile_us(0.5).value), "us", "redis.latency"),
        Evidence("ping_max_us", _rounded(found.ping.max_us), "us", "redis.latency"),
    ]
    if found.connect is not None:
        median = found.connect.percentile_us(0.5)
        shown.append(
            Evidence("tcp_handshake_p50_us", _rounded(median.value), "us", f"{found.connect.count} connections")
        )
    shown += evidence(found, "tcp_min_rtt_us", "tcp_rtt_us", "retransmits", source="TCP_INFO of the connection")
    for name in ("waited_us", "server_waited_us"):
        value = getattr(found, name)
        if value is not None:
            shown.append(Evidence(name, _rounded(value), "us", "schedstat: ready, and no CPU"))
    return (*shown, *_of_the_server(found))


def _of_the_server(found: RedisLatency) -> tuple[Evidence, ...]:
    serving = found.serving
    if serving is None:
        if found.serving_absent is None:
            return ()
        return (Evidence("server", found.serving_absent.detail, None, "INFO commandstats"),)
    shown = [Evidence("others_us", serving.others_us, "us", "INFO commandstats")]
    shown += [
        Evidence(f"commandstats {each.name}", each.total_us, "us", f"{each.calls} calls")
        for each in serving.commands[:3]
    ]
    if serving.calls:
        shown.append(Evidence("slowest_call", _slowest(serving), None, "LATENCY HISTOGRAM"))
    shown += evidence(serving, "forks", "fork_us", "slow_commands", "slow_limit_us", source="INFO, SLOWLOG")
    shown += [Evidence(f"latency {name}", took, "ms", "LATENCY LATEST") for name, took in serving.events_ms.items()]
    shown += [Evidence(name, absent.detail, None, "not allowed") for name, absent in serving.missing.items()]
    return tuple(shown)


def _rounded(us: float) -> float:
    return round(us, 1)
