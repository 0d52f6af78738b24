"""What the gaps of spinning processes add up to, with the ticks of their CPUs and the counters of their cgroups."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vdscheck.linux import proc_stat
from vdscheck.linux.proc_stat import Ticks
from vdscheck.measurements import Cause, Gap, StealTicks, Throttling, TimeLost
from vdscheck.plugin import Absent, Reason, frozen, unmeasured
from vdscheck.probes.cpu.spinner import JUDGED_NS, Attribution

LONGEST = 100

_NOTHING = Attribution(0, 0, 0, 0, 0)


@frozen
class KernelCounters:
    """The kernel's counters at a moment."""

    at_ns: int
    ticks: dict[int, Ticks] | Absent
    """By CPU."""
    throttles: dict[str, tuple[int, int, int]]
    """By cpu.stat file: periods, throttled periods, throttled time in ns."""
    ours_ns: int
    """CPU time of our own processes but the spinning ones."""


@dataclass
class CpuTotals:
    """What the spinning process of one CPU has reported so far."""

    cpu: int
    began_ns: int = 0
    until_ns: int = 0
    waiting_known: bool = True
    gaps: int = 0
    total: Attribution = _NOTHING
    longest: list[tuple[int, int, Attribution]] = field(default_factory=list)
    """Length and beginning in ns, and where the time went; the length is what was not our own doing."""

    def add(self, at_ns: int, length_ns: int, where: Attribution) -> None:
        """Count a gap that is judged."""
        self.total = Attribution(*(sum(each) for each in zip(self.total.all, where.all, strict=True)))
        row = (length_ns - where.ours, at_ns, where)
        if row[0] < JUDGED_NS:
            return
        self.gaps += 1
        if len(self.longest) < LONGEST:
            heapq.heappush(self.longest, row)
        elif row > self.longest[0]:
            heapq.heapreplace(self.longest, row)


def lost(total: Attribution, steal_s: float, interrupts_s: float, tick_s: float) -> TimeLost:
    """Name what the clocks of a process leave open, with the ticks that its CPU counted in the same window.

    A kernel with CONFIG_PARAVIRT_TIME_ACCOUNTING takes stolen time off the CPU time of a task, others
    do not: so the ticks explain first what was off the CPU, and then what seemed to be on it. Ticks are
    rounded down, hence up to one tick that is off the CPU and in no counter belongs to the larger of the two.
    """
    mostly_interrupts = interrupts_s > steal_s
    off, on = total.off / 1e9, total.on / 1e9
    stolen, steal_s, off = _taken(off, steal_s)
    interrupted, interrupts_s, off = _taken(off, interrupts_s)
    more_stolen, steal_s, on = _taken(on, steal_s)
    more_interrupted, interrupts_s, on = _taken(on, interrupts_s)
    if off <= tick_s + 1e-9:
        interrupted, stolen = (interrupted + off, stolen) if mostly_interrupts else (interrupted, stolen + off)
        off = 0.0
    return TimeLost(
        other_tasks_s=total.others / 1e9,
        throttling_s=total.throttled / 1e9,
        steal_s=stolen + more_stolen,
        interrupts_s=interrupted + more_interrupted,
        hidden_s=on,
        stopped_s=off,
        vdscheck_s=total.ours / 1e9,
    )


def _taken(need_s: float, have_s: float) -> tuple[float, float, float]:
    """What of a need a stock covers, what is left of the stock, and what is left of the need."""
    covered = min(need_s, have_s)
    return covered, have_s - covered, need_s - covered


def added(parts: Sequence[TimeLost]) -> TimeLost:
    """The losses of all CPUs."""
    names = tuple(TimeLost.__dataclass_fields__)
    return TimeLost(**{name: round(sum(getattr(part, name) for part in parts), 9) for name in names})


def without_ours(found: TimeLost, ours_s: float, cpus: int, quota: float | None) -> TimeLost:
    """Where the quota is as much as the spinning takes, our other processes are what goes beyond it."""
    if quota is None or cpus > quota:
        return found
    mine = min(found.throttling_s, ours_s)
    names = tuple(TimeLost.__dataclass_fields__)
    values = {name: getattr(found, name) for name in names}
    values["throttling_s"] -= mine
    values["vdscheck_s"] += mine
    return TimeLost(**values)


def cause(where: Attribution, of_cpu: TimeLost) -> Cause:
    """What most of a gap is due to, but for us; what its clocks leave open is what most of it was on this CPU."""
    steal: tuple[float, Cause] = (of_cpu.steal_s, "steal")
    interrupts: tuple[float, Cause] = (of_cpu.interrupts_s, "interrupts")
    parts: tuple[tuple[int, Cause], ...] = (
        (where.throttled, "throttling"),
        (where.others, "other tasks"),
        (where.off, max(steal, interrupts, (of_cpu.stopped_s, "stopped"))[1]),
        (where.on, max((of_cpu.hidden_s, "hidden"), steal, interrupts)[1]),
    )
    return max(parts)[1]


def longest(met: Sequence[CpuTotals], by_cpu: Mapping[int, TimeLost], began_ns: int) -> tuple[Gap, ...]:
    """The longest gaps of all CPUs, without what of them is our own doing."""
    rows = [
        Gap(
            at_s=round((at_ns - began_ns) / 1e9, 6),
            cpu=each.cpu,
            length_us=length_ns / 1000,
            cause=cause(where, by_cpu[each.cpu]),
        )
        for each in met
        for length_ns, at_ns, where in each.longest
    ]
    return tuple(sorted(rows, key=lambda gap: (-gap.length_us, gap.at_s))[:LONGEST])


def ticks_lost(first: KernelCounters, last: KernelCounters, cpu: int, tick_s: float) -> tuple[float, float]:
    """Stolen and interrupted time of a CPU between two readings, in seconds; nothing where it is not known."""
    if isinstance(first.ticks, Absent) or isinstance(last.ticks, Absent):
        return 0.0, 0.0
    before, after = first.ticks.get(cpu), last.ticks.get(cpu)
    if before is None or after is None:
        return 0.0, 0.0
    stolen, interrupted = after.steal - before.steal, after.interrupts - before.interrupts
    return max(0, stolen) * tick_s, max(0, interrupted) * tick_s


def steal(first: KernelCounters, last: KernelCounters, cpus: Sequence[int], tick_s: float) -> StealTicks | Absent:
    """The steal ticks of some CPUs, or why there are none that can be judged."""
    if isinstance(first.ticks, Absent):
        return first.ticks
    if isinstance(last.ticks, Absent):
        return last.ticks
    missing = [cpu for cpu in cpus if cpu not in first.ticks or cpu not in last.ticks]
    if missing:
        return unmeasured(Reason.ERROR, f"/proc/stat has no line of CPU {missing[0]}, or lost it in the window")
    before = proc_stat.together([first.ticks[cpu] for cpu in cpus])
    after = proc_stat.together([last.ticks[cpu] for cpu in cpus])
    if any(last.ticks[cpu].steal < first.ticks[cpu].steal for cpu in cpus):
        return unmeasured(Reason.ERROR, "the steal counter ran backwards, as after a live migration: run it again")
    if after.total <= before.total:
        return unmeasured(Reason.TOO_FEW_SAMPLES, "no tick of these CPUs was counted in the window")
    return StealTicks(
        steal_before=before.steal,
        total_before=before.total,
        steal_after=after.steal,
        total_after=after.total,
        tick_s=tick_s,
    )


def throttling(first: KernelCounters, last: KernelCounters, quota: float | None) -> Throttling | None:
    """What the control group that was throttled most was throttled."""
    rows = [
        tuple(after - before for before, after in zip(first.throttles[file], last.throttles[file], strict=True))
        for file in first.throttles
        if file in last.throttles
    ]
    if not rows:
        return None
    periods, throttled, time_ns = max(rows, key=lambda row: row[2])
    return Throttling(quota_cpus=quota, periods=periods, throttled_periods=throttled, throttled_s=time_ns / 1e9)
