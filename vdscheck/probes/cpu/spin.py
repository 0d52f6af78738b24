"""The spinning processes of all CPUs, from their start to what they found together."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from vdscheck.linux import cgroups, optional_files, own_processes, proc_stat
from vdscheck.linux.mounts import mounts
from vdscheck.linux.proc_stat import Ticks
from vdscheck.measurements import Spin
from vdscheck.plugin import Absent, Host, Reason, Recorder, UnavailableError, unmeasured
from vdscheck.probes.cpu import gaps, spinner
from vdscheck.probes.cpu.gaps import CpuTotals, KernelCounters
from vdscheck.probes.cpu.spinner import Attribution

MOST_CPUS = 64
"""House: on more, 64 spread over all tell the same, and each costs a process."""

_STEP_S = 0.25
_LAST_WORD_S = 1.0
"""How long after the window a spinning process may take to say its last word."""


def watched(host: Host) -> Iterator[Spin]:
    """Spin until the window of the probe is over, with what was met so far four times a second."""
    began_ns = time.monotonic_ns()
    until_ns = began_ns + int(host.time_left_s * 1e9)
    plan = SpinPlan.of(host)
    with SpinTasks(until_ns) as spinners:
        for cpu in plan.cpus:
            spinners.start(cpu, plan)
        first = _account(host, plan)
        over = False
        while not over:
            host.pause(_STEP_S)
            over = time.monotonic_ns() >= until_ns
            if over:
                spinners.wait(_LAST_WORD_S)
            spinners.listen()
            found = summary(spinners, plan, first, _account(host, plan), began_ns)
            if found is not None:
                yield found
        if found is None:
            why = "the spinning processes were ended before they could say anything: run it again"
            raise UnavailableError(unmeasured(Reason.ERROR, why))


@dataclass(frozen=True)
class SpinPlan:
    """On which CPUs to spin, and what to read."""

    cpus: tuple[int, ...]
    usable: int
    quota: float | None
    throttle_files: tuple[str, ...]
    elders: tuple[int, ...]
    tick_s: float

    @classmethod
    def of(cls, host: Host) -> "SpinPlan":
        """The plan for this host."""
        usable = sorted(os.sched_getaffinity(0))
        quota = cgroups.cpu_quota(host)
        return cls(
            spread(usable, quota),
            len(usable),
            quota,
            cgroups.throttle_files(host),
            own_processes.elders(host),
            1 / os.sysconf("SC_CLK_TCK"),
        )


def spread(usable: Sequence[int], quota: float | None) -> tuple[int, ...]:
    """The CPUs to spin on: all, or as many as a quota pays for, or 64, at even distances.

    To spin on more than the quota pays for would throttle every service of this control group.
    """
    most = MOST_CPUS if quota is None else max(1, min(MOST_CPUS, int(quota)))
    count = min(most, len(usable))
    return tuple(usable[number * len(usable) // count] for number in range(count))


@dataclass
class SpinTask:
    """A spinning process."""

    pid: int
    pipe: int | None
    met: CpuTotals
    unread: bytes = b""


class SpinTasks:
    """The spinning processes, none of which outlives the `with`."""

    def __init__(self, until_ns: int) -> None:
        self.until_ns = until_ns
        self.tasks: list[SpinTask] = []
        self.noted = Recorder()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self.tasks:
            with suppress(ProcessLookupError):
                os.kill(task.pid, signal.SIGKILL)
            self._close(task)
        for task in self.tasks:
            with suppress(ChildProcessError):
                os.waitpid(task.pid, 0)

    def start(self, cpu: int, plan: SpinPlan) -> None:
        """Start one more."""
        try:
            pid, pipe = spinner.start(cpu, self.until_ns, plan.throttle_files, plan.elders)
        except OSError as error:
            why = f"cannot start a process to spin on CPU {cpu}: {os.strerror(error.errno or 0)} (see ulimit -u)"
            raise UnavailableError(unmeasured(Reason.ERROR, why)) from error
        self.tasks.append(SpinTask(pid, pipe, CpuTotals(cpu)))

    def listen(self) -> None:
        """Take in all that they have said."""
        for task in self.tasks:
            while task.pipe is not None:
                try:
                    piece = os.read(task.pipe, 1 << 16)
                except BlockingIOError:
                    break
                if not piece:
                    self._close(task)
                task.unread += piece
            *lines, task.unread = task.unread.split(b"\n")
            for line in lines:
                self._take(task.met, line)

    def _take(self, met: CpuTotals, line: bytes) -> None:
        import json

        began, until, known, noted, judged = json.loads(line)
        met.began_ns, met.until_ns, met.waiting_known = began, until, known
        self.noted.add(noted)
        for at_ns, length_ns, where in judged:
            met.add(at_ns, length_ns, Attribution(*where))

    def wait(self, limit_s: float) -> None:
        """Wait until all have ended by themselves."""
        import select

        give_up = time.monotonic() + limit_s
        while time.monotonic() < give_up:
            self.listen()
            open_pipes = [task.pipe for task in self.tasks if task.pipe is not None]
            if not open_pipes:
                return
            select.select(open_pipes, [], [], max(0.0, give_up - time.monotonic()))

    def cut_short(self, now_ns: int) -> int:
        """How many ended, or were stopped, before the window did."""
        short = [task for task in self.tasks if task.met.until_ns < self.until_ns]
        return len(short) if now_ns >= self.until_ns else sum(task.pipe is None for task in short)

    @staticmethod
    def _close(task: SpinTask) -> None:
        if task.pipe is not None:
            os.close(task.pipe)
            task.pipe = None


def summary(
    spinners: SpinTasks, plan: SpinPlan, first: KernelCounters, last: KernelCounters, began_ns: int
) -> Spin | None:
    """All that was met so far; None where no process has said anything yet."""
    met = [task.met for task in spinners.tasks if task.met.until_ns > task.met.began_ns]
    if not met:
        return None
    by_cpu = {
        each.cpu: gaps.lost(each.total, *gaps.ticks_lost(first, last, each.cpu, plan.tick_s), plan.tick_s)
        for each in met
    }
    ours_s = (last.ours_ns - first.ours_ns) / 1e9
    stolen = gaps.steal(first, last, plan.cpus, plan.tick_s)
    return Spin(
        window_s=round((last.at_ns - first.at_ns) / 1e9, 6),
        cpus=len(plan.cpus),
        usable_cpus=plan.usable,
        ended_early=spinners.cut_short(last.at_ns),
        spun_s=sum(each.until_ns - each.began_ns for each in met) / 1e9,
        gap_lengths=spinners.noted.distribution(),
        gaps=sum(each.gaps for each in met),
        lost=gaps.without_ours(gaps.added(list(by_cpu.values())), ours_s, len(plan.cpus), plan.quota),
        longest=gaps.longest(met, by_cpu, began_ns),
        waiting_known=all(each.waiting_known for each in met),
        steal=None if isinstance(stolen, Absent) else stolen,
        steal_missing=stolen if isinstance(stolen, Absent) else None,
        throttling=gaps.throttling(first, last, plan.quota),
    )


def _account(host: Host, plan: SpinPlan) -> KernelCounters:
    throttles = {file: cgroups.throttles(optional_files.text(host, file) or "") for file in plan.throttle_files}
    return KernelCounters(
        time.monotonic_ns(),
        _ticks(host),
        {file: counted for file, counted in throttles.items() if counted is not None},
        own_processes.cpu_time_ns(plan.elders),
    )


def _ticks(host: Host) -> dict[int, Ticks] | Absent:
    """The ticks of all CPUs, unless something else than the kernel makes /proc/stat (lxcfs shows no steal)."""
    try:
        made_by = [each.type for each in mounts(host) if each.point == "/proc/stat"]
        if made_by:
            why = f"/proc/stat is made by {made_by[-1]} here, which does not show steal: ask who runs the host"
            return unmeasured(Reason.UNSUPPORTED, why)
        return proc_stat.parsed(host.read("/proc/stat", limit_bytes=proc_stat.LIMIT_BYTES))
    except UnavailableError as error:
        return error.absent
