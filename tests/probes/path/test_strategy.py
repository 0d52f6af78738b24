"""What is sent when: never more than is allowed, in whatever order time and answers come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.plugin import SubjectError
from vdscheck.probes.path.schedule import A_SECOND, HOPS_LIMIT, Limiter, ProbeBudget, SendSchedule, echo_mode
from vdscheck.probes.path.subject import Places, TargetHost, TraceOptions, shipped, target
from vdscheck.probes.path.survey import planned


def walked(
    plan: ProbeBudget, end_ttl: int | None, *, packets_each: int = 1, answers: int = 0
) -> list[tuple[float, str, int]]:
    """All that is sent to one address, with a clock that is always on time."""
    itinerary = SendSchedule(plan, Limiter(), packets_each=packets_each, traces=True)
    now = 0.0
    sent: list[tuple[float, str, int]] = []
    for number in range(plan.rounds):
        itinerary.explores = number == 0
        known = end_ttl if number else None
        left = plan.rounds - number - 1
        itinerary.begin(echoes=plan.echoes, rounds_left=left, end_ttl=known, last_ttl=answers, sizes=[])
        while (step := itinerary.next(known, answers)) is not None:
            now = max(now, itinerary.limiter.due())
            sent.append((now, step.purpose, step.ttl))
            itinerary.taken(step, now)
    return sent


@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.none() | st.integers(1, HOPS_LIMIT),
    st.sampled_from([1, 2]),
    st.integers(0, HOPS_LIMIT),
)
def test_an_address_never_gets_more_than_is_allowed(
    rounds: int, echoes: int, end_ttl: int | None, packets_each: int, answers: int
) -> None:
    sent = walked(ProbeBudget(rounds=rounds, echoes=echoes), end_ttl, packets_each=packets_each, answers=answers)
    times = [at for at, purpose, _ in sent for _ in range(packets_each if purpose == "echo" else 1)]
    assert len(times) <= 300
    for first, last in zip(times, times[A_SECOND:], strict=False):
        assert last - first >= 1.0
    assert sum(purpose == "echo" for _, purpose, _ in sent) == rounds * echoes


def test_the_usual_run_takes_two_seconds() -> None:
    sent = walked(ProbeBudget(), 11)
    assert len(sent) == 30 + 9 * 11 + 100
    assert sent[-1][0] < 2.4


def test_after_the_first_round_nothing_goes_beyond_the_end() -> None:
    sent = walked(ProbeBudget(rounds=3), 7)
    assert max(ttl for at, purpose, ttl in sent if purpose == "trace" and at > 0.5) == 7


def test_a_target_that_was_not_reached_is_looked_for_three_hops_on() -> None:
    later = [ttl for at, purpose, ttl in walked(ProbeBudget(rounds=3), None, answers=5) if purpose == "trace"][
        HOPS_LIMIT:
    ]
    assert later == [*range(1, 9)] * 2


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=400))
def test_whoever_is_late_never_hurries_beyond_the_limit(lateness_s: list[float]) -> None:
    limiter = Limiter()
    now, times = 0.0, []
    for late_s in lateness_s:
        now = max(now, limiter.due()) + late_s
        limiter.spend(now, 1, 0.0101)
        times.append(now)
    assert all(last - first >= 1.0 for first, last in zip(times, times[A_SECOND:], strict=False))


@pytest.mark.parametrize(
    ("known", "mode"),
    [
        ({"asked_rounds": 0}, "icmp"),
        ({"asked_rounds": 1}, "tcp"),
        ({"asked_rounds": 4}, None),
        ({"asked_rounds": 9, "icmp_answered": True}, "icmp"),
        ({"asked_rounds": 9, "tcp_answered": True}, "tcp"),
        ({"asked_rounds": 0, "has_icmp": False}, "tcp"),
        ({"asked_rounds": 3, "has_icmp": False}, None),
        ({"asked_rounds": 0, "tcp_wanted": True}, "tcp"),
    ],
)
def test_how_a_target_is_asked(known: dict[str, object], mode: str | None) -> None:
    usual = {"has_icmp": True, "icmp_answered": False, "tcp_answered": False, "tcp_wanted": False}
    assert echo_mode(**(usual | known)) == mode  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "window_s", "rounds", "echoes", "packets"),
    [
        (TraceOptions(), 3.2, 10, 10, 300),
        (TraceOptions(), 1.3, 2, 38, 300),
        (TraceOptions(), 8.0, 20, 20, None),
        (TraceOptions(rounds=4, interval_s=1.0), 6.0, 4, 10, 300),
        (TraceOptions(rounds=40, interval_s=1.0, unlimited=True), 50.0, 40, 10, None),
    ],
)
def test_how_much_is_sent_in_a_window(
    how: TraceOptions, window_s: float, rounds: int, echoes: int, packets: int | None
) -> None:
    plan = planned(how, window_s)
    assert (plan.rounds, plan.echoes, plan.packets) == (rounds, echoes, packets)
    assert rounds < 10 or plan.rounds * plan.echoes >= 72


# Places


def chosen(*written: str) -> Places:
    return Places.chosen({"path": list(written)})[""]


def test_without_a_word_the_places_that_ship_are_measured() -> None:
    assert [each.place.name for each in chosen().sought] == ["oslo", "frankfurt"]
    for each in shipped().values():
        assert each.place.limit_ms
        assert each.place.limit_source
        assert each.place.source
        assert len(each.targets) == 3


def test_places_are_named_by_the_user() -> None:
    found = chosen("home=a.example", "home=b.example:8443", "oslo=192.0.2.1", "frankfurt", "c.example")
    assert [(each.place.name, each.targets) for each in found.sought] == [
        ("home", (TargetHost("a.example", None), TargetHost("b.example", 8443))),
        ("oslo", (TargetHost("192.0.2.1", None),)),
        ("frankfurt", shipped()["frankfurt"].targets),
        ("c.example", (TargetHost("c.example", None),)),
    ]
    assert found.sought[1].place == shipped()["oslo"].place
    assert found.sought[0].place.latitude is None


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("EXAMPLE.org.", "example.org", None),
        ("bücher.example", "xn--bcher-kva.example", None),
        ("192.0.2.1:443", "192.0.2.1", 443),
        ("fd77:0:0::1", "fd77::1", None),
        ("[fd77::1]:443", "fd77::1", 443),
        ("_srv.example", "_srv.example", None),
    ],
)
def test_hosts_as_people_write_them(written: str, host: str, port: int | None) -> None:
    assert target(written) == TargetHost(host, port)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("https://example.org/x", "write the host alone, example.org"),
        ("a" * 65 + ".example", "65 characters, and 63 are allowed"),
        ("a.b" * 90, "not a host name"),
        ("a..b", "not a host name"),
        ("-x", "not a host name"),
        ("a b", "not a host name"),
        ("a\x1b[31m", "not a host name"),
        ("10.0.0.256", "neither a name nor an IPv4 address"),
        ("fe80::zz", "not an IPv6 address"),
        ("host:99999", "a port from 1 to 65535"),
        ("me:S3cr3tPw@host", r"\*\*\*@host: a port from 1"),
        ("oslo=me:S3cr3tPw@host:22", "not an IPv6 address"),
        ("oslo=redis://me:S3cr3tPw@host", "write the host alone, host$"),
        ("oslo=", "a host is wanted after the ="),
        ("", "a host is wanted"),
        ("x" * 70 + "=a.example", "a name of letters"),
        ("\u00ad" * 64 + ".example", "not"),
    ],
)
def test_what_is_no_host_is_refused_in_one_line(written: str, said: str) -> None:
    with pytest.raises(SubjectError, match=said) as refused:
        chosen(written)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200
    assert "S3cr3tPw" not in str(refused.value)


def test_more_places_than_fit_are_refused() -> None:
    with pytest.raises(SubjectError, match="200 places with 200 hosts: at most 16"):
        chosen(*(f"h{number}.example" for number in range(200)))


def test_what_stays_on_the_host_is_measured_offline_as_well() -> None:
    assert chosen("127.0.0.1", "localhost", "::1").local
    assert not chosen("127.0.0.1", "192.0.2.1").local
