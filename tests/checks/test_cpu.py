"""Every verdict of the checks of steal, jitter and loopback, and what their findings say."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck import testing
from vdscheck.measurements import Gap, HostLoad, LoopbackRtt, Machine, Spin, StealTicks, Throttling, TimeLost
from vdscheck.model.absence import Reason, unmeasured
from vdscheck.model.judgement import Confidence, Judgement, Verdict
from vdscheck.plugin import Recorder

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
UNKNOWN, NOT_HERE = Verdict.UNKNOWN, Verdict.NOT_APPLICABLE

KVM = Machine(hypervisor="kvm", emulated=False, container=None, sure=True, clues=())
METAL = replace(KVM, hypervisor="none")
NOT_KNOWN = unmeasured(Reason.PERMISSION, "cannot be seen")
NO_LOAD = unmeasured(Reason.ERROR, "no load")
IDLE = HostLoad(window_s=1.0, cpus=2, busy_cpus=0.1, load_1min=0.2, io_some_avg10_percent=None)
BUSY = replace(IDLE, busy_cpus=1.8, load_1min=3.2)

NOTHING = TimeLost(
    other_tasks_s=0.0,
    throttling_s=0.0,
    steal_s=0.0,
    interrupts_s=0.0,
    hidden_s=0.0,
    stopped_s=0.0,
    vdscheck_s=0.0,
)
TICKS = StealTicks(steal_before=100, total_before=100_000, steal_after=100, total_after=101_000, tick_s=0.01)
QUIET = Spin(
    window_s=5.0,
    cpus=2,
    usable_cpus=2,
    ended_early=0,
    spun_s=10.0,
    gap_lengths=None,
    gaps=0,
    lost=NOTHING,
    longest=(),
    waiting_known=True,
    steal=TICKS,
    steal_missing=None,
    throttling=None,
)


def lossy(gaps: int = 10, **parts: float) -> Spin:
    cause: Any = "other tasks"
    gap = Gap(at_s=1.0, cpu=0, length_us=5000.0, cause=cause)
    return replace(QUIET, gaps=gaps, lost=replace(NOTHING, **parts), longest=(gap,))


def stolen(ticks: int) -> Spin:
    return replace(QUIET, steal=replace(TICKS, steal_after=100 + ticks))


def loopback(*samples_ns: int, count: int = 1000) -> LoopbackRtt:
    recorder = Recorder()
    recorder.add([*samples_ns * (count // len(samples_ns))])
    found = recorder.distribution()
    assert found is not None
    return LoopbackRtt(window_s=0.5, request_bytes=14, reply_bytes=7, rtt=found)


def asked(check_id: str, **given: Any) -> Judgement:
    """What a check says on an idle KVM guest."""
    usual = {"load": IDLE} if "found" in given else {"load": IDLE, "machine": KVM}
    return testing.judged(check_id, **{**usual, **given})


CASES: list[tuple[str, dict[str, Any], Verdict]] = [
    ("cpu.steal", {"spin": stolen(0)}, PASS),
    ("cpu.steal", {"spin": stolen(10)}, PASS),
    ("cpu.steal", {"spin": stolen(11)}, WARN),
    ("cpu.steal", {"spin": stolen(50)}, WARN),
    ("cpu.steal", {"spin": stolen(51)}, FAIL),
    ("cpu.steal", {"spin": stolen(51), "machine": NOT_KNOWN}, FAIL),
    ("cpu.steal", {"spin": stolen(51), "machine": replace(KVM, hypervisor=None)}, FAIL),
    ("cpu.steal", {"spin": stolen(51), "machine": replace(KVM, container="docker")}, FAIL),
    ("cpu.steal", {"spin": stolen(51), "machine": METAL}, NOT_HERE),
    ("cpu.steal", {"spin": stolen(51), "machine": replace(METAL, container="docker")}, NOT_HERE),
    ("cpu.steal", {"spin": replace(QUIET, steal=None, steal_missing=NOT_KNOWN)}, UNKNOWN),
    ("cpu.jitter", {"spin": QUIET}, PASS),
    ("cpu.jitter", {"spin": lossy(other_tasks_s=0.01)}, PASS),
    ("cpu.jitter", {"spin": lossy(other_tasks_s=0.0101)}, WARN),
    ("cpu.jitter", {"spin": lossy(hidden_s=0.1)}, WARN),
    ("cpu.jitter", {"spin": lossy(hidden_s=0.101)}, FAIL),
    ("cpu.jitter", {"spin": lossy(throttling_s=4.0)}, FAIL),
    ("cpu.jitter", {"spin": lossy(vdscheck_s=4.0)}, PASS),
    ("cpu.jitter", {"spin": lossy(hidden_s=0.101), "machine": NOT_KNOWN, "load": NO_LOAD}, FAIL),
    ("cpu.loopback-rtt", {"found": loopback(20_000)}, PASS),
    ("cpu.loopback-rtt", {"found": loopback(2_000_000)}, FAIL),
    ("cpu.loopback-rtt", {"found": loopback(20_000, count=367)}, UNKNOWN),
    ("cpu.loopback-rtt", {"found": loopback(20_000, count=368), "load": NO_LOAD}, PASS),
]


@pytest.mark.parametrize(("check_id", "measured", "verdict"), CASES, ids=lambda value: str(value)[:60])
def test_each_check_gives_each_of_its_verdicts(check_id: str, measured: dict[str, Any], verdict: Verdict) -> None:
    judged = asked(check_id, **measured)
    assert judged.verdict is verdict, judged.summary
    assert (judged.reason is not None) == (verdict is UNKNOWN)
    assert judged.summary


def test_less_than_a_tick_is_said_to_be_less_than_a_tick() -> None:
    judged = asked("cpu.steal", spin=QUIET)
    assert "less than a tick of 10 ms on each CPU; 0.1 % since boot" in judged.summary
    assert "with a load of our own on 2 CPUs" in judged.summary


def test_a_counter_that_never_moved_may_not_be_one() -> None:
    never = replace(QUIET, steal=replace(TICKS, steal_before=0, steal_after=0))
    judged = asked("cpu.steal", spin=never)
    assert "none since boot: not every hypervisor reports it" in judged.summary
    assert judged.confidence is Confidence.HIGH
    hidden = asked("cpu.steal", spin=replace(never, lost=replace(NOTHING, hidden_s=0.5)))
    assert "another 5 % vanished" in hidden.summary
    assert hidden.verdict is PASS
    assert hidden.confidence is Confidence.LOW


def test_hidden_time_within_the_limit_is_evidence_only() -> None:
    judged = asked("cpu.steal", spin=replace(QUIET, lost=replace(NOTHING, hidden_s=0.05)))
    assert "vanished" not in judged.summary
    assert judged.confidence is Confidence.HIGH
    assert ("hidden", 0.05) in {(each.name, each.value) for each in judged.evidence}


def test_in_a_container_it_is_said_whose_counter_it_is() -> None:
    judged = asked("cpu.steal", spin=stolen(5), machine=replace(KVM, container="lxc"))
    assert "counted by the kernel that runs this lxc container" in judged.summary


def test_throttling_is_named_with_the_quota_and_its_counters() -> None:
    counted = Throttling(quota_cpus=0.5, periods=50, throttled_periods=49, throttled_s=4.9)
    spin = replace(lossy(throttling_s=4.9, other_tasks_s=0.01), throttling=counted)
    judged = asked("cpu.jitter", spin=spin)
    assert "CPU quota of 0.5 CPUs throttles (49 of 50 periods, 4.9 s)" in judged.summary
    assert "to throttling (4.9 s)" in judged.summary
    assert judged.fix is not None
    names = {each.name: each.value for each in judged.evidence}
    assert names["throttled_periods"] == 49
    unknown_group = asked("cpu.jitter", spin=replace(spin, throttling=None))
    assert "the CPU quota of the control group throttles" in unknown_group.summary


def test_throttling_that_alone_is_too_much_is_named_beside_a_larger_cause() -> None:
    judged = asked("cpu.jitter", spin=lossy(throttling_s=0.4, other_tasks_s=0.6))
    assert "the CPU quota of the control group throttles" in judged.summary
    assert "to other tasks (600 ms), throttling (400 ms)" in judged.summary
    assert judged.fix is not None


def test_throttling_that_alone_would_pass_is_not_blamed() -> None:
    judged = asked("cpu.jitter", spin=lossy(throttling_s=0.009, other_tasks_s=0.6))
    assert "quota" not in judged.summary
    assert judged.fix is None


@pytest.mark.parametrize(
    ("spin", "machine", "words"),
    [
        (lossy(hidden_s=0.2), KVM, "the hypervisor, not shown as steal (200 ms)"),
        (lossy(hidden_s=0.2), METAL, "firmware or interrupts that nobody counts (200 ms)"),
        (lossy(steal_s=0.2), KVM, "steal that is shown (200 ms)"),
        (lossy(stopped_s=2.0), KVM, "a stop of our own task (2 s)"),
        (lossy(interrupts_s=0.2), KVM, "interrupts (200 ms)"),
        (lossy(gaps=1, other_tasks_s=0.2, hidden_s=0.001), KVM, "to other tasks (200 ms) in 1 gap over 1 ms"),
        (lossy(other_tasks_s=0.2), KVM, "the longest 5 ms"),
        (QUIET, KVM, "no gap over 1 ms in 5 s with a load of our own on 2 CPUs"),
        (replace(QUIET, cpus=1, usable_cpus=64), KVM, "with a load of our own on 1 CPU of 64"),
    ],
)
def test_jitter_says_where_the_time_went(spin: Spin, machine: Machine, words: str) -> None:
    assert words in asked("cpu.jitter", spin=spin, machine=machine).summary


def test_processes_that_were_cut_short_are_evidence() -> None:
    judged = asked("cpu.jitter", spin=replace(QUIET, ended_early=1))
    assert ("ended_early", 1) in {(each.name, each.value) for each in judged.evidence}


@pytest.mark.parametrize(
    ("check_id", "measured"),
    [
        ("cpu.steal", {"spin": QUIET}),
        ("cpu.jitter", {"spin": lossy(other_tasks_s=1.0)}),
        ("cpu.loopback-rtt", {"found": loopback(20_000)}),
    ],
)
def test_a_host_that_was_busy_is_named(check_id: str, measured: dict[str, Any]) -> None:
    assert BUSY.in_words in asked(check_id, **measured, load=BUSY).summary
    assert "busy" not in asked(check_id, **measured).summary


FIGURES = st.builds(
    lambda parts, spun_s, ticks: replace(lossy(**parts), spun_s=spun_s, steal=replace(TICKS, steal_after=100 + ticks)),
    st.fixed_dictionaries({name: st.floats(0, 100) for name in TimeLost.__dataclass_fields__}),
    st.floats(1e-3, 1000),
    st.integers(0, 10**6),
)


def test_no_figures_make_a_check_fail_to_judge() -> None:
    @given(FIGURES)
    def judged(spin: Spin) -> None:
        for check_id in ("cpu.steal", "cpu.jitter"):
            assert asked(check_id, spin=spin).verdict in (PASS, WARN, FAIL)

    judged()
