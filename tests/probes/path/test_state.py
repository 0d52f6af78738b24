"""What becomes of probes: by which clock they are timed, and which loss is whose."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.measurements import Hop, Responder
from vdscheck.probes.path import mtu, statistics
from vdscheck.probes.path.engines import Answer
from vdscheck.probes.path.loss import Count, classified
from vdscheck.probes.path.packets_sent import (
    Awaited,
    Complete,
    Method,
    Moment,
    NotSent,
    ProbeLog,
    ProbePacket,
    Purpose,
    Stepped,
    answered,
)

TARGET, ROUTER = "192.0.2.9", "192.0.2.1"
MS = 1_000_000
T0 = Moment(1000 * MS, 9000 * MS)


def at(ms: float, step_ms: float = 0.0) -> Moment:
    return Moment(T0.monotonic_ns + int(ms * MS), T0.real_ns + int((ms + step_ms) * MS))


def answer(kind: str = "hop", responder: str = ROUTER, ms: float | None = 8.0, **more: object) -> Answer:
    at_ns = None if ms is None else T0.real_ns + int(ms * MS)
    return Answer(1, TARGET, responder, kind, 0, at_ns, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stamp_ms", "said", "now", "rtt_ms"),
    [
        (1.0, answer(), at(20), 7.0),
        (None, answer(), at(20), 8.0),
        (None, answer(ms=None), at(20), 20.0),
        (1.0, answer(ms=None, rtt_ns=5 * MS), at(20), 5.0),
        (1.0, answer(ms=None, rtt_ns=5 * MS), at(20, step_ms=500), 5.0),
        (1.0, answer(), at(20, step_ms=500), None),
        (1.0, answer(), at(20, step_ms=-500), None),
        (1.0, answer(), at(20, step_ms=0.1), 7.0),
        (1.0, answer(ms=0.5), at(20), None),
    ],
)
def test_round_trips_are_by_the_kernel_s_stamps_unless_the_clock_was_set(
    stamp_ms: float | None, said: Answer, now: Moment, rtt_ms: float | None
) -> None:
    stamp_ns = None if stamp_ms is None else T0.real_ns + int(stamp_ms * MS)
    found = answered(Awaited(T0, stamp_ns), said, now)
    if rtt_ms is None:
        assert isinstance(found, Stepped)
    else:
        assert isinstance(found, Complete)
        assert found.rtt_ns == rtt_ms * MS


def trail(*probes: tuple[Purpose, int, int], method: Method = "icmp") -> ProbeLog:
    made = ProbeLog(TARGET)
    for number, (purpose, ttl, round_number) in enumerate(probes, 1):
        made.sent(number, ProbePacket(purpose, method, ttl, round_number, 0, Awaited(T0, None)))
    return made


def test_answers_find_their_probe_and_nothing_else() -> None:
    found = trail(("trace", 1, 0), ("trace", 2, 0), ("echo", 64, 0))
    found.stamped(1, T0.real_ns + 1 * MS)
    found.stamped(2, T0.real_ns - 1 * MS)
    found.stamped(3, T0.real_ns + 500 * MS)
    found.answered(1, answer(), at(9))
    found.answered(2, answer(), at(9))
    found.answered(1, answer(), at(10))
    found.answered(3, answer("target", ROUTER), at(9))
    found.answered(99, answer(), at(9))
    found.answered(None, answer(), at(9))
    first, second, third = (probe.state for probe in found.probes.values())
    assert isinstance(first, Complete)
    assert first.kernel_stamps
    assert isinstance(second, Complete)
    assert not second.kernel_stamps
    assert isinstance(third, Awaited)
    assert (found.duplicates, found.foreign, found.unattributed) == (1, 2, 1)
    assert (found.end_ttl, found.last_ttl, found.reached) == (None, 2, False)


def test_the_end_is_where_the_target_answered_first() -> None:
    found = trail(("trace", 7, 0), ("trace", 6, 0), ("trace", 5, 0))
    found.answered(1, answer("target", TARGET), at(9))
    found.answered(2, answer("target", TARGET), at(9))
    found.answered(3, answer(), at(9))
    assert (found.end_ttl, found.reached) == (6, True)
    assert [hop.ttl for hop in statistics.hops(found, T0.monotonic_ns + 1, None)] == [5, 6]


def test_only_echoes_by_the_method_that_is_answered_count() -> None:
    found = trail(("echo", 64, 0), ("echo", 64, 0))
    for number in (3, 4):
        found.sent(number, ProbePacket("echo", "tcp", 64, 1, 0, Awaited(T0, None)))
    found.answered(3, answer("target", TARGET, ms=None, rtt_ns=8 * MS), at(9))
    made = statistics.echoes(found, "tcp", T0.monotonic_ns + 1)
    assert (made.sent, made.received, made.block_minima_ms) == (2, 1, (None, 8.0))
    assert statistics.minimum_ms(found) == 8.0


def test_who_has_not_had_the_time_to_be_answered_is_not_lost() -> None:
    found = trail(("echo", 64, 0))
    assert statistics.echoes(found, "icmp", T0.monotonic_ns - 1).sent == 0
    assert statistics.echoes(found, "icmp", T0.monotonic_ns).sent == 1
    assert found.awaited_since(T0.monotonic_ns - 1)
    assert not found.awaited_since(T0.monotonic_ns)


@pytest.mark.parametrize(
    ("rtts", "best", "median", "mean", "p95", "worst", "stddev", "jitter"),
    [([8], 8, 8, 8, 8, 8, 0, 0), ([4, 8], 4, 6, 6, 8, 8, 2, 4), ([1, 5, 3], 1, 3, 3, 5, 5, (8 / 3) ** 0.5, 3)],
)
def test_figures_of_few_round_trips(
    rtts: Sequence[int], best: float, median: float, mean: float, p95: float, worst: float, stddev: float, jitter: float
) -> None:
    found = statistics.round_trips([rtt * MS for rtt in rtts])
    assert found is not None
    assert (found.best_ms, found.median_ms, found.mean_ms, found.p95_ms) == (best, median, mean, p95)
    assert (found.worst_ms, found.jitter_ms) == (worst, jitter)
    assert found.stddev_ms == pytest.approx(stddev)
    assert statistics.round_trips([]) is None


C = Count


@pytest.mark.parametrize(
    ("hops", "destination", "kinds"),
    [
        ([C(10, 10), C(10, 10)], C(100, 100), [None, None]),
        # Linux routers by default: 7 of 20 in two seconds
        ([C(20, 7), C(10, 7), C(10, 10)], C(100, 98), ["control-plane", "control-plane", None]),
        ([C(10, 10), C(10, 0), C(10, 10)], C(100, 100), [None, "silent", None]),
        # real loss of 15 % behind the fourth hop; behind the second, 20 answers are too few to clear the hops before
        ([C(10, 10)] * 4 + [C(10, 7), C(10, 8)], C(100, 85), [None] * 4 + ["path", "path"]),
        ([C(10, 10), C(10, 10), C(10, 7), C(10, 8)], C(100, 85), [None, None, "undecided", "undecided"]),
        ([C(10, 10), C(10, 10), C(10, 9), C(10, 10)], C(100, 98), [None, None, "undecided", None]),
        ([C(10, 6), C(10, 7)], C(100, 70), ["path", "path"]),
        # a limit that the end's own loss hides from the comparison is no loss on the way
        ([C(10, 7), C(10, 10)], C(100, 93), ["control-plane", None]),
        ([C(10, 7)], C(100, 90), ["undecided"]),
        ([C(10, 9)], C(100, 98), ["undecided"]),
        # nobody at the end: only later hops can tell
        ([C(10, 4), C(10, 10), C(10, 0)], None, ["control-plane", None, "silent"]),
        ([C(10, 8), C(10, 0)], None, ["undecided", "silent"]),
        ([C(10, 8)], C(100, 0), ["undecided"]),
        ([C(0, 0)], None, [None]),
        ([], None, []),
    ],
)
def test_missing_answers_are_the_router_s_or_the_way_s(
    hops: list[Count], destination: Count | None, kinds: list[str | None]
) -> None:
    assert classified(hops, destination) == kinds


COUNTS = st.integers(0, 40).flatmap(lambda sent: st.builds(Count, st.just(sent), st.integers(0, sent)))


@given(st.lists(COUNTS, max_size=12), st.none() | COUNTS)
def test_a_hop_that_answered_all_is_never_accused(hops: list[Count], destination: Count | None) -> None:
    for hop, kind in zip(hops, classified(hops, destination), strict=True):
        assert (kind is None) == (hop.lost == 0)
        assert (kind == "silent") == (hop.sent > 0 and hop.received == 0)


def hop(ttl: int, *addresses: str) -> Hop:
    responders = tuple(Responder(address=each, name=None, answers=1, best_ms=1.0) for each in addresses)
    return Hop(ttl=ttl, sent=1, received=1, loss=None, times=None, responders=responders, labels=())


@pytest.mark.parametrize(
    ("ways", "loop"),
    [
        ([["a"], ["b"], ["c"]], False),
        ([["a"], ["a"], ["b"]], False),
        ([["a"], ["b"], ["a"], ["b"]], True),
        ([["a"], [], ["a"]], False),
        ([["a", "b"], ["b", "c"]], False),
    ],
)
def test_a_loop_is_two_routers_that_come_by_again(ways: list[list[str]], loop: bool) -> None:  # noqa: FBT001
    assert statistics.loops([hop(ttl, *each) for ttl, each in enumerate(ways, 1)]) is loop


def sized(length: int, kind: str | None, ttl: int = 64, **more: object) -> ProbePacket:
    state: NotSent | Awaited | Complete = Awaited(T0, None)
    if kind == "refused":
        state = NotSent("message too long")
    elif kind is not None:
        complete = {"responder": TARGET if kind == "target" else ROUTER, "code": 0, "labels": (), "mtu_bytes": None}
        state = Complete(T0, MS, True, kind=kind, **(complete | more))  # type: ignore[arg-type]
    return ProbePacket("size", "icmp", ttl, 1, length, state)


@pytest.mark.parametrize(
    ("probes", "size", "reported", "interface", "last"),
    [
        ([sized(1500, "target"), sized(1500, None)], 1500, None, None, None),
        ([sized(1500, "too-big", mtu_bytes=1400)], 1400, 1400, None, None),
        ([sized(1500, "too-big")], None, None, None, None),
        ([sized(1500, "refused"), sized(1492, "refused"), sized(1450, "target")], 1450, None, 1450, None),
        ([sized(1500, None), sized(1400, "target"), sized(1500, "hop", 3)], 1400, None, None, ROUTER),
        ([sized(1500, None)], None, None, None, None),
    ],
)
def test_the_largest_packet_and_how_it_is_known(
    probes: list[ProbePacket], size: int | None, reported: int | None, interface: int | None, last: str | None
) -> None:
    made = ProbeLog(TARGET)
    for number, probe in enumerate(probes):
        made.sent(number, probe)
    found = mtu.found(made, has_icmp=True)
    assert found is not None
    assert (found.bytes, found.reported_bytes, found.interface_bytes) == (size, reported, interface)
    assert found.last_passed == last


def test_sizes_are_tried_only_where_the_full_one_did_not_get_through() -> None:
    made = ProbeLog(TARGET)
    assert mtu.found(made, has_icmp=True) is None
    assert [step.length for step in mtu.steps(1, made, has_icmp=True)] == [1500, 1500]
    made.sent(1, sized(1500, None))
    assert [step.length for step in mtu.steps(3, made, has_icmp=True)] == list(mtu.SMALLER_BYTES)
    assert mtu.steps(3, made, has_icmp=False) == []
    made.sent(2, sized(1400, "target"))
    assert mtu.steps(4, made, has_icmp=True)[-1].length == 1420
    made.sent(3, sized(1500, "target"))
    assert mtu.steps(4, made, has_icmp=True) == []


LOSSES = random.Random(20261128)


def lossy(share: float, sent: int) -> Count:
    """What is left of so many packets that are lost at random."""
    return Count(sent, sum(LOSSES.random() >= share for _ in range(sent)))


@pytest.mark.parametrize("share", [0.05, 0.15, 0.4])
def test_hops_behind_a_lossy_link_are_hardly_ever_said_to_limit_their_answers(share: float) -> None:
    ways = 400
    accused = 0
    for _ in range(ways):
        hops = [*[Count(10, 10)] * 4, *(lossy(share, 10) for _ in range(5))]
        accused += "control-plane" in classified(hops, lossy(share, 100))
    # about one way in twenty: 20 of 400, and 34 with three standard deviations
    assert accused <= 34


def test_a_hop_that_answers_half_is_hardly_ever_missed() -> None:
    ways = 400
    told = 0
    for _ in range(ways):
        hops = [*[Count(10, 10)] * 4, lossy(0.5, 10), *[Count(10, 10)] * 4]
        told += classified(hops, Count(100, 100))[4] == "control-plane"
    assert told > 0.95 * ways
