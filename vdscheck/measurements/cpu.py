"""What is measured of the processors: what they are, and who else had them."""

from typing import Literal

from vdscheck.measurements.host import Pressure
from vdscheck.model.absence import Absent
from vdscheck.model.records import measurement
from vdscheck.stats import Distribution


@measurement
class Cpu:
    """The processors as the machine shows them."""

    model: str
    architecture: str
    online: int
    flags: tuple[str, ...]
    """Only those that are judged or shown."""
    level: str | None
    """The highest x86-64 level, `x86-64-v1` to `x86-64-v4`; None on another architecture."""
    quota: float | None
    """CPUs that the cgroup allows at most; None without a limit."""


@measurement
class CpuPressure(Pressure):
    """/proc/pressure/cpu."""


Cause = Literal["other tasks", "throttling", "steal", "interrupts", "hidden", "stopped"]
"""Who had the CPU in a gap. `hidden`: by the guest's own account our task was running all the time, so
that a hypervisor that does not say so, firmware, or an interrupt that nobody counts had it."""


@measurement
class Gap:
    """A time in which a spinning task of ours did not run."""

    at_s: float
    """When it began, since the beginning of the window."""
    cpu: int
    length_us: float
    """Without what other processes of this very run had of it."""
    cause: Cause
    """What most of it is due to."""


@measurement
class TimeLost:
    """The time of all gaps over the limit that is noted, by who had the CPU."""

    other_tasks_s: float
    """Other tasks of this kernel ran while ours was ready (run_delay of schedstat)."""
    throttling_s: float
    """The quota of our control group was used up (cpu.stat)."""
    steal_s: float
    """As far as the steal ticks of these CPUs go."""
    interrupts_s: float
    """As far as the ticks of interrupts go."""
    hidden_s: float
    """At least this much: by the guest's account our task ran."""
    stopped_s: float
    """Our task was not ready: stopped by a signal, frozen, or waiting for memory."""
    vdscheck_s: float
    """Our own other processes: not the host's doing, and not part of what was lost."""

    @property
    def lost_s(self) -> float:
        """All of it that is not our own doing."""
        parts = (self.other_tasks_s, self.throttling_s, self.steal_s)
        return sum(parts) + self.interrupts_s + self.hidden_s + self.stopped_s


@measurement
class StealTicks:
    """The 8th value of the lines of these CPUs in /proc/stat, beside the sum of the first eight (proc_stat(5))."""

    steal_before: int
    total_before: int
    """Since boot, when the window began; in ticks like the rest."""
    steal_after: int
    total_after: int
    tick_s: float
    """1 / CLK_TCK: less than one tick of a CPU cannot be seen."""

    @property
    def share_percent(self) -> float:
        """Of the time of these CPUs in the window."""
        return _percent(self.steal_after - self.steal_before, self.total_after - self.total_before)

    @property
    def since_boot_percent(self) -> float:
        """Of the time of these CPUs since boot."""
        return _percent(self.steal_after, self.total_after)


@measurement
class Throttling:
    """Counters of CFS bandwidth control in the window, of the control group that was throttled most (cpu.stat)."""

    quota_cpus: float | None
    """None without a quota."""
    periods: int
    throttled_periods: int
    throttled_s: float
    """Added up over CPUs."""


@measurement
class Spin:
    """A task of ours that spins on each CPU that we may use, and notes when it did not run.

    A gap is noted from 100 us on, and counts as lost time from 1 ms on: shorter ones are what a timer
    interrupt and the kernel's own threads take on every machine.
    """

    window_s: float
    cpus: int
    """On how many CPUs one spun."""
    usable_cpus: int
    """How many this process may use (sched_getaffinity)."""
    ended_early: int
    """Spinning tasks that somebody ended, or stopped, before the window was over."""
    spun_s: float
    """The time watched, added up over CPUs."""
    gap_lengths: Distribution | None
    """Gaps of 100 us and more; None without any."""
    gaps: int
    """Gaps of 1 ms and more, all causes but our own processes."""
    lost: TimeLost
    """The time in these."""
    longest: tuple[Gap, ...]
    """The longest of them, the longest first; no more than 100."""
    waiting_known: bool
    """Whether the kernel counts how long a task waits for a CPU (CONFIG_SCHED_INFO); without, all time
    off the CPU that is neither throttling nor steal is ascribed to other tasks."""
    steal: StealTicks | None
    steal_missing: Absent | None
    """Why there are no steal ticks, where there are none."""
    throttling: Throttling | None
    """None where no control group of ours is under CFS bandwidth control."""

    @property
    def lost_percent(self) -> float:
        """The share of the watched time that was lost in gaps of 1 ms and more."""
        return _percent(self.lost.lost_s, self.spun_s)

    @property
    def throttled_percent(self) -> float:
        """The share of the watched time in which the quota of the control group held our task back."""
        return _percent(self.lost.throttling_s, self.spun_s)

    @property
    def hidden_percent(self) -> float:
        """The share of the watched time that vanished while our task ran by the guest's account."""
        return _percent(self.lost.hidden_s, self.spun_s)


@measurement
class LoopbackRtt:
    """A Redis PING and its answer between two processes over TCP on 127.0.0.1 (TCP_NODELAY, blocking)."""

    window_s: float
    request_bytes: int
    reply_bytes: int
    rtt: Distribution


def _percent(part: float, whole: float) -> float:
    return min(100.0, max(0.0, 100 * part / whole)) if whole > 0 else 0.0
