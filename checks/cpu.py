"""Whether the CPUs that were bought are here, whether they are ours alone, and whether tasks wait for them."""

from dataclasses import replace

from vdscheck.measurements import Cpu, CpuPressure, HostLoad, LoopbackRtt, Machine, Spin, StealTicks
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    ByHand,
    Confidence,
    Evidence,
    Judgement,
    Severity,
    Verdict,
    check,
    evidence,
    not_applicable,
    spoken,
    with_unit,
)

_IN_WORDS = {
    "other_tasks_s": "other tasks",
    "throttling_s": "throttling",
    "steal_s": "steal",
    "interrupts_s": "interrupts",
    "hidden_s": "hidden",
    "stopped_s": "stopped",
}
_MATTERS = 0.05
"""House: a cause of less than a twentieth of what was lost is left to the evidence."""


@check("cpu.pressure", severity=Severity.MEDIUM)
def pressure(found: CpuPressure, machine: Machine | Absent, some_avg60: AtMost) -> Judgement | Absent:
    """Tasks do not wait for a CPU.

    Why: A task that is ready and waits for a CPU is a request that waits, whatever the load average says.
    False positives: A batch job or a package upgrade in the last minute, the boot itself where it is only just
        over, and other work beside vdscheck.
    By hand: cat /proc/pressure/cpu
    Sources: https://docs.kernel.org/accounting/psi.html
    """
    if isinstance(machine, Machine) and machine.container is not None:
        return not_applicable(
            f"in {machine.container_in_words} /proc/pressure speaks of the whole host: ask who runs it"
        )
    return some_avg60.judge(
        found.some_avg60_percent,
        "the share of the last minute in which a task waited for a CPU",
        evidence=evidence(
            found, "some_avg10_percent", "some_avg300_percent", "full_avg60_percent", source="/proc/pressure/cpu"
        ),
    )


@check("cpu.contract", severity=Severity.HIGH)
def contract(cpu: Cpu, machine: Machine | Absent, sold: AtLeast | Absent) -> Judgement | Absent:
    """All CPUs that were bought are here.

    Why: A missing CPU is paid for every month.
    False positives: CPUs that you took offline yourself.
    By hand: nproc --all; cat /sys/devices/system/cpu/online; in a container cat /sys/fs/cgroup/cpu.max
    Sources: the [offer] table of the configuration
    """
    if isinstance(sold, Absent):
        return not_applicable("no [offer] in the configuration says what was bought: add cpus = 4, for example")
    contained = isinstance(machine, Machine) and machine.container is not None
    # a quota on our own kernel was set by its owner; in a container it is what was really sold
    limited = contained and cpu.quota is not None and cpu.quota < cpu.online
    count = cpu.quota if limited and cpu.quota is not None else cpu.online
    judged = sold.judge(
        count,
        "the number of CPUs",
        evidence=evidence(
            cpu, "online", "quota", "model", source="/proc/cpuinfo, /sys/devices/system/cpu/online, cpu.max"
        ),
    )
    by = " (the container's quota)" if limited else ""
    here = "1 CPU is" if count == 1 else f"{spoken(count)} CPUs are"
    return replace(judged, summary=f"{here} here{by}, {spoken(sold.limit)} were bought")


@check("cpu.steal", severity=Severity.HIGH)
def steal(spin: Spin, machine: Machine | Absent, load: HostLoad | Absent, stolen: AtMost) -> Judgement | Absent:
    """The hypervisor gives its CPUs to nobody else while we want them.

    Why: Stolen time is time in which your task was ready and a neighbour had the CPU: every answer of
        that moment is late, and nothing inside the server can help it. An idle CPU has nothing to steal,
        so it is measured with a load of our own on every CPU.
    False positives: A plan with a CPU quota (burstable, "up to") is throttled by the same counter; then it
        is what was sold. A neighbour that is loud only for these seconds: compare with the share since boot.
    By hand: vmstat 1 (the column st) beside one `taskset -c N sh -c 'while :; do :; done'` for each CPU;
        grep '^cpu' /proc/stat (the 8th value)
    Sources: https://man7.org/linux/man-pages/man5/proc_stat.5.html (steal);
        https://docs.kernel.org/virt/kvm/x86/msr.html (MSR_KVM_STEAL_TIME)
    """
    if isinstance(machine, Machine) and machine.hypervisor == "none":
        return not_applicable("this is bare metal: there is no hypervisor that could take its CPUs")
    ticks = spin.steal
    if ticks is None:
        if spin.steal_missing is not None:
            return spin.steal_missing
        return not_applicable("nothing counts steal here")
    judged = stolen.judge(ticks.share_percent, "stolen time", evidence=(*_steal_seen(ticks), *_gaps_seen(spin)))
    hidden = _hidden(spin, stolen)
    text = f"{spoken(ticks.share_percent)} % of the CPU time was stolen in {_under_load(spin)}, {stolen.phrase()}"
    said = (text, _resolution(ticks, machine), hidden, _busy(load))
    confidence = Confidence.LOW if hidden else judged.confidence
    return replace(judged, summary="; ".join(filter(None, said)), confidence=confidence)


def _steal_seen(ticks: StealTicks) -> tuple[Evidence, ...]:
    source = "/proc/stat"
    return (
        Evidence("steal", ticks.steal_after - ticks.steal_before, "ticks", source),
        Evidence("all time", ticks.total_after - ticks.total_before, "ticks", source),
        Evidence("a tick", ticks.tick_s * 1000, "ms", "sysconf CLK_TCK"),
        Evidence("steal since boot", round(ticks.since_boot_percent, 3), "%", source),
    )


def _gaps_seen(spin: Spin) -> tuple[Evidence, ...]:
    return (Evidence("hidden", round(spin.lost.hidden_s, 6), "s", "gaps of spinning tasks"), *_watched(spin))


def _watched(spin: Spin) -> tuple[Evidence, ...]:
    names = ("spun_s", "cpus", *(("ended_early",) if spin.ended_early else ()))
    return evidence(spin, *names, source="spinning tasks")


def _resolution(ticks: StealTicks, machine: Machine | Absent) -> str:
    if ticks.steal_after > ticks.steal_before:
        return f"{spoken(round(ticks.since_boot_percent, 2))} % since boot{_counted_by(machine)}"
    tick = f"less than a tick of {spoken(ticks.tick_s * 1000)} ms on each CPU"
    if ticks.steal_after == 0:
        return f"{tick}, and none since boot: not every hypervisor reports it{_counted_by(machine)}"
    return f"{tick}; {spoken(round(ticks.since_boot_percent, 2))} % since boot{_counted_by(machine)}"


def _counted_by(machine: Machine | Absent) -> str:
    if isinstance(machine, Machine) and machine.container is not None:
        return f" (counted by the kernel that runs {machine.container_in_words})"
    return ""


def _hidden(spin: Spin, stolen: AtMost) -> str:
    """Time that vanished without a counter, where it is more than may be stolen."""
    if stolen.verdict(spin.hidden_percent) is Verdict.PASS:
        return ""
    lost = spoken(round(spin.hidden_percent, 2))
    return f"another {lost} % vanished in gaps that no counter of this guest explains: steal that is not reported"


def _under_load(spin: Spin) -> str:
    count = "1 CPU" if spin.cpus == 1 else f"{spin.cpus} CPUs"
    of = "" if spin.cpus == spin.usable_cpus else f" of {spin.usable_cpus}"
    return f"{spoken(round(spin.window_s, 1))} s with a load of our own on {count}{of}"


def _busy(load: HostLoad | Absent) -> str:
    return "" if isinstance(load, Absent) else load.in_words


@check("cpu.jitter", severity=Severity.MEDIUM)
def jitter(spin: Spin, machine: Machine | Absent, load: HostLoad | Absent, lost: AtMost) -> Judgement:
    """A task that wants to run does run.

    Why: In a gap nothing answers: a request that comes in it waits for its end. What counts is the share
        of time that lies in gaps, since that is the share of requests that meet one.
    False positives: A batch job or an upgrade beside vdscheck (other tasks); a quota that you set yourself.
    By hand: redis-cli --intrinsic-latency 5; cat /proc/PID/schedstat (the 2nd number: ready, and not
        running); cat /sys/fs/cgroup/.../cpu.stat (nr_throttled)
    Fix: only a throttling quota can be mended here: CPUQuota= of the systemd unit, --cpus of Docker,
        limits.cpu of Kubernetes
    Undo: set the quota that was there before
    Sources: https://docs.kernel.org/scheduler/sched-stats.html (schedstat);
        https://docs.kernel.org/scheduler/sched-bwc.html (throttling);
        https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.stat, cpu.max)
    """
    throttled = lost.verdict(spin.throttled_percent) is not Verdict.PASS
    judged = lost.judge(
        spin.lost_percent,
        "time lost in gaps over 1 ms",
        evidence=(*_longest_seen(spin), *_lost_seen(spin), *_watched(spin)),
        fix=_MORE_QUOTA if throttled else None,
    )
    said = (
        f"{_quota_in_words(spin) if throttled else ''}{_gaps_in_words(spin, machine)}, {lost.phrase()}",
        _busy(load) if spin.lost.other_tasks_s else "",
    )
    return replace(judged, summary="; ".join(filter(None, said)))


_MORE_QUOTA = ByHand(
    "give the control group more CPU time: CPUQuota= of the systemd unit, --cpus of Docker, limits.cpu of Kubernetes",
    ("cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.stat",),
)


def _longest_seen(spin: Spin) -> tuple[Evidence, ...]:
    if not spin.longest:
        return ()
    longest = spin.longest[0]
    return (
        Evidence("longest gap", longest.length_us / 1000, "ms", f"CPU {longest.cpu}"),
        Evidence("gaps over 1 ms", spin.gaps, None, "spinning tasks"),
    )


def _lost_seen(spin: Spin) -> tuple[Evidence, ...]:
    parts = evidence(spin.lost, *_IN_WORDS, "vdscheck_s", source="schedstat, cpu.stat, /proc/stat")
    found = spin.throttling
    if found is None or found.throttled_periods == 0:
        return parts
    return (*parts, *evidence(found, "quota_cpus", "periods", "throttled_periods", "throttled_s", source="cpu.stat"))


def _gaps_in_words(spin: Spin, machine: Machine | Absent) -> str:
    where = _under_load(spin)
    if spin.gaps == 0:
        return f"no gap over 1 ms in {where}"
    causes = _causes(spin, machine)
    gaps = "1 gap" if spin.gaps == 1 else f"{spin.gaps:,} gaps"
    longest = f", the longest {with_unit(spin.longest[0].length_us / 1000, 'ms')}" if spin.longest else ""
    return f"{spoken(spin.lost_percent)} % of the time was lost to {causes} in {gaps} over 1 ms{longest}, in {where}"


def _causes(spin: Spin, machine: Machine | Absent) -> str:
    """`other tasks (50 ms), throttling (20 ms)`: the largest first, and none that hardly matters."""
    parts = sorted(((getattr(spin.lost, name), words) for name, words in _IN_WORDS.items()), reverse=True)
    named = {"hidden": _who_hides(machine), "stopped": "a stop of our own task", "steal": "steal that is shown"}
    matter = [(seconds, words) for seconds, words in parts if seconds > _MATTERS * spin.lost.lost_s]
    return ", ".join(f"{named.get(words, words)} ({_duration(seconds)})" for seconds, words in matter)


def _who_hides(machine: Machine | Absent) -> str:
    if isinstance(machine, Machine) and machine.hypervisor == "none":
        return "firmware or interrupts that nobody counts"
    return "the hypervisor, not shown as steal"


def _duration(seconds: float) -> str:
    return with_unit(seconds, "s") if seconds >= 1 else with_unit(seconds * 1000, "ms")


def _quota_in_words(spin: Spin) -> str:
    found = spin.throttling
    if found is None:
        return "the CPU quota of the control group throttles: "
    quota = "" if found.quota_cpus is None else f" of {spoken(found.quota_cpus)} CPUs"
    counted = f"{found.throttled_periods:,} of {found.periods:,} periods"
    return f"the control group's CPU quota{quota} throttles ({counted}, {_duration(found.throttled_s)}): "


@check("cpu.loopback-rtt", severity=Severity.MEDIUM)
def loopback_rtt(found: LoopbackRtt, load: HostLoad | Absent, p99: AtMost) -> Judgement:
    """A request and its reply between two processes here take no time that matters.

    Why: It is what a Redis on this machine would answer in at best: no network, no work, only two wake-ups.
        Where this is slow, no tuning of Redis helps.
    False positives: Other work beside vdscheck; deep sleep states of the CPUs on an idle bare-metal host.
    By hand: redis-server --port 7777 --save '' & redis-benchmark -p 7777 -c 1 -n 20000 ping
    Sources: https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency/
    """
    rtt = found.rtt
    seen = tuple(Evidence(f"p{spoken(each.percent)}", each.value_us, "us", "round trips") for each in rtt.percentiles)
    judged = p99.judge(
        rtt.percentile_ms(0.99),
        "the p99 of a request and its reply over loopback TCP",
        evidence=(
            *seen,
            Evidence("max", rtt.max_us, "us", "round trips"),
            *evidence(rtt, "count", source="round trips"),
        ),
    )
    return replace(judged, summary="; ".join(filter(None, (judged.summary, _busy(load)))))
