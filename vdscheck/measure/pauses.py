"""Tells a process that was stopped, or a machine that was, from one that only waited for a CPU or a page."""

import os
import resource
import time
from contextlib import suppress
from typing import NamedTuple

PAUSE_S = 1.5
"""A wait that takes so much longer than it was to is a pause, where the kernel does not say what else it was."""
SHORTEST_S = 0.5
"""How often whoever keeps the deadlines looks at those that measure."""
SUSPENDED_S = 0.5
"""So long a sleep of the whole machine is one, whatever else went on."""
PAGE_LIMIT_S = 0.1
"""How long a page may take to come from a disk: some come late after every pause, and that is not what it was."""
ACCOUNT_EVERY_S = 0.25
"""How old the account may be that a wait begins with: to take one costs some 0.2 ms."""
_SCHEDSTAT = "/proc/self/schedstat"
_STAT = "/proc/stat"
_STAT_LIMIT_BYTES = 1 << 20
_STEAL = 8
"""The field of a line of /proc/stat that is the steal time (proc(5))."""


class _Account(NamedTuple):
    """What the kernel says of this process and its CPUs at a moment."""

    at_s: float
    asleep_s: float
    """How long the machine has slept since it was booted."""
    page_waits: int
    """How often this process waited for a page to come from a disk (getrusage(2), ru_majflt)."""
    queued_s: float | None
    """How long it was ready and had no CPU; None where the kernel does not count it."""
    stolen_s: dict[bytes, float]
    """By CPU, what the hypervisor gave to others."""


class Waits:
    """The waits of a process, one after the other: each is meant to take a while, and what comes between hardly any."""

    def __init__(self) -> None:
        self._before = _account()
        self._since_s = self._before.at_s

    def begin(self) -> None:
        """Something ends now that may have taken long: what comes next counts."""
        self._since_s = time.monotonic()
        if self._since_s - self._before.at_s > ACCOUNT_EVERY_S:
            self._before = _account()

    def paused_s(self, meant_s: float) -> float:
        """How long this process, or the machine, was paused by the end of a wait; 0 where it was not."""
        before, late_s = self._before, time.monotonic() - self._since_s - meant_s
        asleep_s = _asleep_s() - before.asleep_s
        if asleep_s < SUSPENDED_S and late_s < PAUSE_S:
            self.begin()
            return 0.0
        self._before = _account()
        self._since_s = self._before.at_s
        if asleep_s >= SUSPENDED_S:
            return asleep_s + max(0.0, late_s)
        return 0.0 if _is_explained(late_s, before, self._before) else late_s


def lasting(seconds: float) -> str:
    """A pause in words; how long a shorter one was is not known."""
    return f"for {seconds:.1f} s" if seconds >= SHORTEST_S else f"for less than {SHORTEST_S:g} s"


def _is_explained(late_s: float, before: _Account, after: _Account) -> bool:
    """Whether a process that was not stopped can have been as late: then it is not said that it was."""
    if before.queued_s is None or after.queued_s is None:
        return True
    stolen_s = max((after.stolen_s.get(cpu, 0.0) - had_s for cpu, had_s in before.stolen_s.items()), default=0.0)
    paging_s = PAGE_LIMIT_S * (after.page_waits - before.page_waits)
    return max(after.queued_s - before.queued_s, stolen_s, paging_s) >= late_s / 2


def _account() -> _Account:
    return _Account(
        time.monotonic(), _asleep_s(), resource.getrusage(resource.RUSAGE_SELF).ru_majflt, _queued_s(), _stolen_s()
    )


def _asleep_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _queued_s() -> float | None:
    """The second number of schedstat (Linux Documentation/scheduler/sched-stats.rst)."""
    words = _read(_SCHEDSTAT, 256).split()
    return int(words[1]) / 1e9 if len(words) == 3 and words[1].isdigit() else None  # noqa: PLR2004 - as it is written


def _stolen_s() -> dict[bytes, float]:
    ticks = os.sysconf("SC_CLK_TCK")
    rows = (line.split() for line in _read(_STAT, _STAT_LIMIT_BYTES).splitlines() if line.startswith(b"cpu"))
    return {row[0]: int(row[_STEAL]) / ticks for row in rows if row[0] != b"cpu" and len(row) > _STEAL}


def _read(path: str, limit_bytes: int) -> bytes:
    """The content of a file of the kernel; nothing where it cannot be had."""
    with suppress(OSError, MemoryError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, limit_bytes)
        finally:
            os.close(descriptor)
    return b""


class Halts:
    """The processes that a signal stopped, and those that were continued, from what waitpid(2) says of them."""

    def __init__(self) -> None:
        self._since_s: dict[int, float] = {}
        self._lasted_s: dict[int, float] = {}

    def note(self, pid: int, status: int) -> bool:
        """Whether a status says nothing but that a process was stopped, or continued."""
        now_s = time.monotonic()
        if os.WIFSTOPPED(status):
            self._since_s[pid] = now_s
        elif os.WIFCONTINUED(status):
            self._lasted_s[pid] = now_s - self._since_s.pop(pid, now_s)
        else:
            self.forget(pid)
            return False
        return True

    def is_halted(self, pid: int) -> bool:
        """Whether a process is stopped now."""
        return pid in self._since_s

    def ended_s(self, pid: int) -> float | None:
        """How long a process was stopped that goes on, told once; None of one that was not."""
        return self._lasted_s.pop(pid, None)

    def forget(self, pid: int) -> None:
        """A process is no more."""
        self._since_s.pop(pid, None)
        self._lasted_s.pop(pid, None)
