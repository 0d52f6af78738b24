"""Every verdict of the checks of ways and of the network."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.ways import (
    FRANKFURT,
    FULL,
    NOWHERE,
    OSLO,
    SILENT,
    USUAL,
    echoes,
    hop,
    paths,
    trace,
    with_echoes,
)
from vdscheck import testing
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.measurements import KernelOwner, NetworkWindow, Paths, Resolvers, ResolverTimes, TcpBuffers
from vdscheck.model.absence import Reason, unmeasured
from vdscheck.model.judgement import Confidence, Judgement, Verdict
from vdscheck.plugin import AtLeast, ByHand
from vdscheck.ruleset.ruleset import build
from vdscheck.stats import Distribution, Recorder

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
UNKNOWN, NOT_HERE = Verdict.UNKNOWN, Verdict.NOT_APPLICABLE


def asked(check_id: str, subject: str | None, **given: Any) -> Judgement:
    return testing.judged(check_id, **given) if subject is None else testing.judged_each(check_id, **given)[subject]


NEAR = paths(trace(OSLO, 0.5), trace(FRANKFURT, 28.0))
MANY = trace(OSLO, 8.0, echoes=echoes(8.0, 400, 400))
UNREACHED = paths(SILENT, trace(FRANKFURT, 28.0))
NO_NAME = unmeasured(Reason.UNREACHABLE, "the name a.example is not known")
ABSENT = paths(trace(FRANKFURT, 28.0), places=(OSLO, FRANKFURT), absent={"oslo": NO_NAME})
ANYCAST = paths(trace(OSLO, 2.0), trace(FRANKFURT, 2.0))
TIED = paths(
    with_echoes(trace(OSLO, 8.0), block_minima_ms=(8.0, 8.2) * 5),
    with_echoes(trace(replace(FRANKFURT, latitude=None), 8.1), block_minima_ms=(8.1, 8.1) * 5),
)
SHORT = paths(
    with_echoes(trace(OSLO, 8.0), block_minima_ms=(8.0,)), with_echoes(trace(FRANKFURT, 28.0), block_minima_ms=(28.0,))
)
LOSSY = trace(
    OSLO,
    8.0,
    60,
    hops=(hop(1), hop(2, 6, loss="path"), hop(3, 6, loss="path")),
)


def lost(received: int) -> Paths:
    return paths(trace(OSLO, 8.0, echoes=echoes(8.0, received)), trace(FRANKFURT, 28.0))


CASES: list[tuple[str, str | None, Paths, Verdict, str]] = [
    ("path.rtt", "oslo", USUAL, PASS, "at most 20 ms wanted (origin)"),
    ("path.rtt", "frankfurt", USUAL, PASS, "at most 40 ms wanted (house)"),
    ("path.rtt", "oslo", paths(trace(OSLO, 30.0)), FAIL, "30.1 ms"),
    ("path.rtt", "x", paths(trace(NOWHERE, 30.0)), PASS, "at most 100 ms wanted (house)"),
    ("path.rtt", "oslo", UNREACHED, UNKNOWN, "no answer from oslo.example; the last hop that answers is 2, 10.0.0.2"),
    ("path.rtt", "oslo", paths(replace(SILENT, loop=True)), UNKNOWN, "in a routing loop"),
    ("path.rtt", "oslo", paths(replace(SILENT, refusal="prohibited")), UNKNOWN, "oslo.example: prohibited"),
    ("path.rtt", "oslo", ABSENT, UNKNOWN, "the name a.example is not known"),
    ("path.rtt", "oslo", paths(with_echoes(trace(OSLO, 8.0), times=None)), UNKNOWN, "the clock was set"),
    ("path.rtt", "oslo", paths(trace(OSLO, 8.0, echoes=echoes(8.0, 40, 40))), UNKNOWN, "too few samples"),
    ("path.loss", "oslo", lost(100), PASS, "0 % [0, 3.7], at most 4 %"),
    ("path.loss", "oslo", lost(97), PASS, "3 %"),
    ("path.loss", "oslo", lost(96), PASS, "4 %"),
    ("path.loss", "oslo", lost(95), UNKNOWN, "too few samples"),
    ("path.loss", "oslo", paths(LOSSY), FAIL, "it begins before hop 2, 10.0.0.2"),
    ("path.loss", "oslo", paths(MANY), PASS, "at most 1 %"),
    ("path.loss", "oslo", paths(replace(MANY, echoes=echoes(8.0, 360, 400))), FAIL, "at most 1 %"),
    ("path.loss", "oslo", paths(replace(MANY, echoes=echoes(8.0, 985, 1000))), WARN, "1.5 %"),
    ("path.loss", "oslo", UNREACHED, UNKNOWN, "no answer"),
    ("path.nearest", None, USUAL, PASS, "oslo is nearer than frankfurt by 20.00 ms [20.00, 20.00]; minima oslo 8 ms"),
    ("path.nearest", None, paths(trace(OSLO, 28.0), trace(FRANKFURT, 8.0)), FAIL, "frankfurt is nearer than oslo by"),
    ("path.nearest", None, TIED, UNKNOWN, "oslo and frankfurt are too close to call: +0.00 ms [-0.10, 0.10]"),
    ("path.nearest", None, SHORT, UNKNOWN, "1 rounds are too few"),
    ("path.nearest", None, ANYCAST, UNKNOWN, "light needs 7.33 ms for the 1,099 km between them"),
    ("path.nearest", None, paths(trace(OSLO, 8.0)), NOT_HERE, "only one place"),
    ("path.nearest", None, paths(), NOT_HERE, "no place"),
    ("path.nearest", None, UNREACHED, UNKNOWN, "no answer from oslo.example"),
    ("path.nearest", None, ABSENT, UNKNOWN, "the name a.example is not known"),
    ("path.nearest", None, paths(trace(OSLO, 8.0), trace(FRANKFURT, 8.0, 0)), UNKNOWN, "no other place than oslo"),
    (
        "path.nearest",
        None,
        paths(with_echoes(trace(OSLO, 8.0), block_minima_ms=()), trace(FRANKFURT, 28.0)),
        UNKNOWN,
        "no round has an answer from both",
    ),
    ("path.location", None, USUAL, PASS, "within 1,199 km of oslo (light in vacuum in 8.00 ms), and likely within 817"),
    ("path.location", None, ANYCAST, UNKNOWN, "not where it is said to be"),
    ("path.location", None, paths(trace(NOWHERE, 8.0)), NOT_HERE, "none of the places has coordinates"),
    ("path.location", None, paths(SILENT), UNKNOWN, "no place whose coordinates"),
    ("path.stretch", None, NEAR, PASS, "the straight one of 1,099 km is 2.6 times"),
    ("path.stretch", None, paths(trace(OSLO, 0.5), trace(FRANKFURT, 48.0)), WARN, "4.46 times"),
    ("path.stretch", None, USUAL, NOT_HERE, "is not known well enough: within 817 km of oslo"),
    ("path.stretch", None, paths(trace(OSLO, 8.0)), NOT_HERE, "two places"),
    ("path.stretch", None, ANYCAST, UNKNOWN, "not where it is said to be"),
    ("path.call-budget", None, USUAL, PASS, "5 calls to oslo take, one after the other, is 40."),
    ("path.call-budget", None, paths(trace(FRANKFURT, 28.0)), FAIL, "140 ms"),
    ("path.call-budget", None, paths(), NOT_HERE, "no place"),
    ("path.call-budget", None, UNREACHED, UNKNOWN, "no answer"),
    ("net.mtu", "oslo", USUAL, PASS, "1,500 bytes"),
    (
        "net.mtu",
        "oslo",
        paths(trace(OSLO, 8.0, mtu=replace(FULL, bytes=1400, last_passed="10.0.0.2", why="1500 bytes vanish"))),
        FAIL,
        "1500 bytes vanish (a black hole behind 10.0.0.2)",
    ),
    (
        "net.mtu",
        "oslo",
        paths(trace(OSLO, 8.0, mtu=replace(FULL, bytes=1400, reported_by="10.0.0.2", reported_bytes=1400))),
        FAIL,
        "(the sender is told)",
    ),
    ("net.mtu", "oslo", paths(trace(OSLO, 8.0, mtu=replace(FULL, bytes=None, why="not told"))), UNKNOWN, "not told"),
    ("net.mtu", "oslo", paths(trace(OSLO, 8.0, mtu=None)), UNKNOWN, "no time"),
    ("net.mtu", "oslo", UNREACHED, UNKNOWN, "no answer"),
    ("net.ipv6", None, USUAL, NOT_HERE, "none of the places has an IPv6 address"),
    ("net.ipv6", None, replace(USUAL, ipv6="not-present"), NOT_HERE, "no IPv6 address with a way out"),
    ("net.ipv6", None, replace(USUAL, ipv6="works", ipv6_targets=2), PASS, "answers over IPv6"),
    ("net.ipv6", None, replace(USUAL, ipv6="unanswered", ipv6_targets=2), FAIL, "none of 2 IPv6 targets answers"),
    ("net.ipv6", None, paths(SILENT, ipv6="unanswered", ipv6_targets=2), UNKNOWN, "no target answers at all"),
]


@pytest.mark.parametrize(("check_id", "subject", "found", "verdict", "said"), CASES)
def test_every_verdict_of_the_checks_of_ways(
    check_id: str,
    subject: str | None,
    found: Paths,
    verdict: Verdict,
    said: str,
) -> None:
    judged = asked(check_id, subject, paths=found)
    assert isinstance(judged, Judgement)
    assert (judged.verdict, said) == (verdict, said if said in judged.summary else judged.summary)


def test_the_distance_is_that_of_the_catalogue() -> None:
    from importlib import import_module

    distance = import_module("vdscheck_checks.path.distance")
    apart_km = distance.great_circle_km(OSLO, FRANKFURT)
    assert round(apart_km) == 1099
    assert round(distance.least_rtt_ms(apart_km, distance.VACUUM_KM_PER_MS), 2) == 7.33
    assert round(distance.least_rtt_ms(apart_km, distance.FIBRE_KM_PER_MS), 1) == 10.8
    assert distance.great_circle_km(OSLO, NOWHERE) is None
    assert distance.great_circle_km(OSLO, OSLO) == 0
    # WGS 84: a quarter of the equator, and of a meridian
    here, east, pole = (
        replace(OSLO, latitude=lat, longitude=lon) for lat, lon in ((0.0, 0.0), (0.0, 90.0), (90.0, 0.0))
    )
    assert round(distance.great_circle_km(here, east), 1) == 10018.8
    assert round(distance.great_circle_km(here, pole), 0) == 10002


def test_the_hop_table_is_the_evidence() -> None:
    judged = asked("path.rtt", "oslo", paths=USUAL)
    said = {each.name: each.value for each in judged.evidence}
    assert said["hop_1"] == "10.0.0.1 1 ms, 10 of 10"
    assert said["hop_2"] == "nobody, 0 of 10 (never answers)"
    assert said["target"] == "oslo.example (192.0.2.1)"


def test_an_interval_across_the_pass_limit_alone_is_of_low_confidence() -> None:
    assert asked("path.loss", "oslo", paths=lost(97)).confidence is Confidence.LOW


# Resolvers, counters, buffers


def times(ms: float) -> Distribution:
    recorder = Recorder()
    recorder.add([int(ms * 1e6)] * 110)
    made = recorder.distribution()
    assert made is not None
    return made


ANSWERING = ResolverTimes(
    address="192.0.2.53",
    first_ms=(12.0,),
    cached=times(2),
    cached_p95_lost=False,
    sent=111,
    answered=111,
    codes={"NOERROR": 111},
)
DEAD = replace(ANSWERING, address="192.0.2.54", first_ms=(), cached=None, sent=1, answered=0, codes={})


@pytest.mark.parametrize(
    ("resolvers", "subject", "verdict", "said"),
    [
        ([ANSWERING], "192.0.2.53", PASS, "2 ms"),
        ([replace(ANSWERING, cached=times(60))], "192.0.2.53", FAIL, "60 ms"),
        ([replace(ANSWERING, cached_p95_lost=True, answered=90)], "192.0.2.53", UNKNOWN, "21 of 111 questions"),
        ([DEAD], "192.0.2.54", UNKNOWN, "answered 0 of 1"),
        ([DEAD, ANSWERING], "192.0.2.54", FAIL, "and another resolver answers"),
        ([replace(DEAD, answered=1)], "192.0.2.54", UNKNOWN, "answered 1 of 1"),
        ([replace(ANSWERING, codes={"NOERROR": 1, "SERVFAIL": 110})], "192.0.2.53", PASS, "2 ms"),
        ([replace(ANSWERING, codes={"NXDOMAIN": 111})], "192.0.2.53", PASS, "2 ms"),
        ([replace(ANSWERING, codes={"SERVFAIL": 111})], "192.0.2.53", UNKNOWN, "none with an address (111 SERVFAIL)"),
    ],
)
def test_every_verdict_on_resolvers(
    resolvers: list[ResolverTimes],
    subject: str,
    verdict: Verdict,
    said: str,
) -> None:
    found = Resolvers(names=("a.example",), resolvers=tuple(resolvers))
    judged = asked("net.dns", subject, found=found)
    assert judged.verdict is verdict
    assert said in judged.summary


QUIET = NetworkWindow(
    window_s=2.0,
    segments_out=1000,
    retransmitted=0,
    softnet_dropped=0,
    rx_missed=0,
    rx_fifo=0,
    rx_dropped=9,
    segments_out_since_boot=10**6,
    retransmitted_since_boot=10,
)


@pytest.mark.parametrize(
    ("check_id", "found", "verdict"),
    [
        ("net.retransmits", QUIET, PASS),
        ("net.retransmits", replace(QUIET, segments_out=3), PASS),
        ("net.retransmits", replace(QUIET, retransmitted=50), FAIL),
        ("net.retransmits", replace(QUIET, segments_out=20, retransmitted=1), UNKNOWN),
        ("net.retransmits", replace(QUIET, segments_out=0), NOT_HERE),
        ("net.retransmits", replace(QUIET, segments_out=5, retransmitted=9), FAIL),
        ("net.drops", QUIET, PASS),
        ("net.drops", replace(QUIET, softnet_dropped=1), FAIL),
        ("net.drops", replace(QUIET, rx_missed=1), FAIL),
        ("net.drops", replace(QUIET, rx_fifo=1), FAIL),
    ],
)
def test_every_verdict_on_counters(check_id: str, found: NetworkWindow, verdict: Verdict) -> None:
    assert asked(check_id, None, found=found).verdict is verdict


OURS = KernelOwner(ours=True, writable=True, clues=())
SOLD = AtLeast(pass_limit=1000, unit="Mbit/s", source="offer: what was bought, from [offer]")
BUFFERS = TcpBuffers(receive_max_bytes=6 << 20, send_max_bytes=4 << 20)


@pytest.mark.parametrize(
    ("given", "verdict", "said"),
    [
        ({}, PASS, "1,000 Mbit/s over 28 ms to frankfurt hold 3,500,000 bytes"),
        ({"buffers": replace(BUFFERS, send_max_bytes=1 << 20)}, FAIL, "the largest send buffer is 1,048,576 bytes"),
        ({"paths": paths(SILENT)}, UNKNOWN, "no place answers"),
        ({"paths": NO_NAME}, UNKNOWN, "a.example"),
        ({"owner": replace(OURS, ours=False, writable=False)}, NOT_HERE, "cannot be set from in here"),
        ({"sold": replace(SOLD, pass_limit=0)}, NOT_HERE, "no bandwidth"),
    ],
)
def test_every_verdict_on_socket_buffers(given: dict[str, Any], verdict: Verdict, said: str) -> None:
    usual: dict[str, Any] = {"owner": OURS, "buffers": BUFFERS, "paths": USUAL, "sold": SOLD}
    judged = asked("sysctl.socket-buffers", None, **(usual | given))
    assert judged.verdict is verdict
    assert said in judged.summary
    if verdict is FAIL:
        assert isinstance(judged.fix, ByHand)
        assert judged.fix.commands == ("sysctl -w net.ipv4.tcp_wmem='4096 16384 3500000'",)


def test_the_line_that_was_bought_makes_the_limit_of_the_buffers(catalogue: Catalogue) -> None:
    limits = build(catalogue, ["web"], {"offer": {"bandwidth": "1 Gbit/s"}}, "test").limits
    sold = limits["sysctl.socket-buffers"]["sold"]
    assert isinstance(sold, AtLeast)
    assert sold.limit == 1000
    assert "sysctl.socket-buffers" not in build(catalogue, ["web"], {}, "test").limits
