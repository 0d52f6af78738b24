"""A process that spins on one CPU, notes when it did not run, and asks the kernel where the time went.

What a gap is due to follows from three clocks of the kernel that are exact to the nanosecond: the
CPU time of the process, the time that it waited while ready (run_delay, /proc/PID/schedstat), and the
time that its control group was throttled (cpu.stat). What is in none of them is not known here.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from itertools import repeat

from vdscheck.linux.cgroups import throttles, whole
from vdscheck.linux.own_processes import cpu_times_ns, fork, last_cpu
from vdscheck.plugin import frozen

NOTED_NS = 100_000
JUDGED_NS = 1_000_000
RESUMING_NS = 200_000
"""A task that gets its CPU back is slow at first, with cold caches: it belongs to its having been away."""
REPORT_NS = 200_000_000
LINE_LIMIT = 3000
"""Gaps in one report: more than can be noted between two."""

_BLOCK = 1 << 16
"""Turns between two looks at the kernel's clocks: some 5 ms."""
_STEADY_TRIES = 5
_BEYOND_S = 2
"""How long after its time a process that went astray is ended by the kernel."""


@frozen
class Clocks:
    """The kernel's account of a spinning process at a moment, all in ns."""

    at: int
    cpu: int
    waited: int | None
    """None where the kernel does not count it."""
    throttled: int
    ours: tuple[int, ...]
    """CPU time of each of our own other processes."""


@frozen
class Attribution:
    """Where the time of a gap went, in ns; the sum is its length."""

    throttled: int
    others: int
    """Other tasks had the CPU."""
    ours: int
    """Other processes of our own had it."""
    off: int
    """Our task was not on the CPU and not waiting for it: stolen, interrupted or stopped."""
    on: int
    """By the kernel's account our task had it."""

    @property
    def all(self) -> tuple[int, ...]:
        """In the order of a report."""
        return (self.throttled, self.others, self.ours, self.off, self.on)


def split(length: int, before: Clocks, after: Clocks, ours: int) -> Attribution:
    """Divide a gap that lies between two readings among what the kernel says of the time between them.

    `ours` is what our own other processes had of this CPU.
    """
    away = min(length, max(0, after.at - before.at - (after.cpu - before.cpu)))
    throttled = min(away, max(0, after.throttled - before.throttled))
    if before.waited is None or after.waited is None:
        waited = away - throttled
    else:
        # a throttled task counts as ready
        waited = min(away, max(0, after.waited - before.waited)) - throttled
    waited = max(0, waited)
    off, on = away - throttled - waited, length - away
    if on <= RESUMING_NS and waited > on:
        waited, on = waited + on, 0
    ours = min(waited, max(0, ours))
    return Attribution(throttled, waited - ours, ours, off, on)


class Sources:
    """Where a spinning process reads its account; files are opened once, and read again from the start."""

    def __init__(self, cpu: int, throttle_files: tuple[str, ...], elders: tuple[int, ...]) -> None:
        self._cpu = cpu
        self._stats = [_opened(f"/proc/{pid}/stat") for pid in elders]
        self._schedstat = _opened("/proc/thread-self/schedstat")
        self._throttles = [each for file in throttle_files if (each := _opened(file)) is not None]
        self._elders = elders

    def read(self) -> Clocks:
        """All at one moment: again when something came in between."""
        for _ in range(_STEADY_TRIES):
            began = time.monotonic_ns()
            cpu = time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)
            waited = None if self._schedstat is None else run_delay(_again(self._schedstat))
            throttled = sum((throttles(_again(each)) or (0, 0, 0))[2] for each in self._throttles)
            ours = cpu_times_ns(self._elders)
            at = time.monotonic_ns()
            if at - began < NOTED_NS:
                break
        return Clocks(at, cpu, waited, throttled, ours)

    def here(self) -> tuple[bool, ...]:
        """Which of our own other processes were last on this CPU."""
        return tuple(each is not None and last_cpu(_again(each)) == self._cpu for each in self._stats)


def _opened(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _again(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 4096, 0).decode("ascii", "replace")
    except OSError:
        return ""


def run_delay(text: str) -> int | None:
    """The second number of a schedstat: ns that the task was ready and did not run (sched-stats.rst)."""
    words = text.split()
    return whole(words[1]) if len(words) == 3 else None  # noqa: PLR2004 - on the CPU, waiting, turns


class StallDetector:
    """Keeps the gaps that a spinning process meets, and reports them now and then."""

    def __init__(
        self, read: Callable[[], Clocks], here: Callable[[], Sequence[bool]], say: Callable[[str], None]
    ) -> None:
        self._read, self._here, self._say = read, here, say
        self._noted: list[int] = []
        self._below = 0
        """The time in gaps that are not judged, since the last look at the kernel's clocks."""
        self._judged: list[tuple[int, int, tuple[int, ...]]] = []
        self._base = read()
        self._began = self._reported = self._base.at

    @property
    def began(self) -> int:
        """When it began to watch."""
        return self._began

    def gap(self, last: int, now: int) -> int:
        """The clock was read at `last`, and not again before `now`. Returns when to watch on from."""
        if now - last < JUDGED_NS:
            self._noted.append(now - last)
            self._below += now - last
            return now
        return self._attribute(last, now)

    def look(self, last: int) -> int:
        """Look at the kernel's clocks, and report when it is time. Returns when to watch on from."""
        found = self._read()
        if found.at - last >= JUDGED_NS:
            return self._attribute(last, found.at, found)
        if found.at - last >= NOTED_NS:
            self._noted.append(found.at - last)
        self._base, self._below = found, 0
        if found.at - self._reported < REPORT_NS:
            return found.at
        self.report(found.at)
        self._base = self._read()
        self._reported = self._base.at
        return self._base.at

    def _attribute(self, last: int, now: int, found: Clocks | None = None) -> int:
        if found is None:
            found = self._read()
            if found.at - now >= NOTED_NS:  # the gap went on while we looked
                now = found.at
        length = now - last
        self._noted.append(length)
        self._judged.append((last, length, split(length, self._base, found, self._ours(found)).all))
        # To ask where the others are can take longer than a gap, as in emulation: that is no gap.
        self._base, self._below = self._read(), 0
        return self._base.at

    def _ours(self, found: Clocks) -> int:
        """What our own other processes had of this CPU in a gap: not what they had of another one meanwhile."""
        used = zip(self._here(), self._base.ours, found.ours, strict=True)
        return sum(max(0, after - before) for here, before, after in used if here) - self._below

    def report(self, until: int) -> None:
        """Say what was met since the last report."""
        noted, self._noted = self._noted[:LINE_LIMIT], []
        judged, self._judged = self._judged, []
        known = self._base.waited is not None
        self._say(json.dumps([self._began, until, known, noted, judged]) + "\n")


def spin(watch: StallDetector, until_ns: int) -> None:
    """Read the clock again and again until a moment on it."""
    clock = time.monotonic_ns
    last = watch.began
    while last < until_ns:
        for _ in repeat(None, _BLOCK):
            now = clock()
            if now - last >= NOTED_NS:
                now = watch.gap(last, now)
            last = now
        last = watch.look(last)
    watch.report(last)


def start(cpu: int, until_ns: int, throttle_files: tuple[str, ...], elders: tuple[int, ...]) -> tuple[int, int]:
    """Fork a process that spins on a CPU. Returns its pid and the descriptor that its reports come from.

    It ends with the process that started it. Raises OSError where there can be no further process.
    """
    import gc
    import resource  # noqa: F401 - once here, and not in every process

    receive, send = os.pipe()

    def run() -> None:
        gc.disable()
        _end_by(until_ns)
        os.sched_setaffinity(0, {cpu})
        sources = Sources(cpu, throttle_files, elders)
        spin(StallDetector(sources.read, sources.here, lambda line: _write(send, line)), until_ns)

    try:
        pid = fork(run, send)
    except OSError:
        os.close(receive)
        raise
    finally:
        os.close(send)
    os.set_blocking(receive, False)
    return pid, receive


def _write(pipe: int, line: str) -> None:
    view = memoryview(line.encode("ascii"))
    while view:
        view = view[os.write(pipe, view) :]


def _end_by(until_ns: int) -> None:
    import resource
    import signal

    left_s = max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(left_s) + 1 + _BEYOND_S
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard < 0 else min(wanted, hard), hard))
    for number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, left_s + _BEYOND_S)
