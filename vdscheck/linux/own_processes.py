"""The processes of this very run, so that what they use is not taken for the work of others.

A probe runs in a child of the small parent that the program forked: the program, that parent, and
all that is below them.
"""

import os
import time
from collections.abc import Callable

from vdscheck.linux import optional_files
from vdscheck.linux.cgroups import whole
from vdscheck.plugin import Host, UnavailableError

_CPUCLOCK_SCHED = 2
"""The clock of the CPU time of a process, as clock_getcpuclockid(3) makes its number from a pid."""
_PR_SET_PDEATHSIG = 1
_QUIET_S = 0.002
_MOST_PROCESSES = 1000


def elders(host: Host) -> tuple[int, ...]:
    """This process, and above it those that run the same program: the parent of probes, and the program."""
    found = [os.getpid()]
    program = _program(host, found[0])
    for _ in range(2):
        parent = _status(host, found[-1]).parent
        if program is None or parent is None or _program(host, parent) != program:
            break
        found.append(parent)
    return tuple(found)


def cpu_times_ns(pids: tuple[int, ...]) -> tuple[int, ...]:
    """The CPU time of each of some processes, exact to the nanosecond; 0 of one that is gone."""
    return tuple(map(_cpu_time_ns, pids))


def cpu_time_ns(pids: tuple[int, ...]) -> int:
    """The CPU time of some processes together; of those that are still there."""
    return sum(cpu_times_ns(pids))


def _cpu_time_ns(pid: int) -> int:
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0


def last_cpu(stat: str) -> int | None:
    """The CPU that a process was last on, by its /proc/PID/stat."""
    return _Status(stat).cpu


def settle(pids: tuple[int, ...], limit_s: float = 0.05) -> None:
    """Wait until these processes have nothing to do, as after a snapshot that somebody draws."""
    give_up = time.monotonic() + limit_s
    before = cpu_time_ns(pids)
    while time.monotonic() < give_up:
        time.sleep(_QUIET_S)
        now = cpu_time_ns(pids)
        if now == before:
            return
        before = now


def fork(run: Callable[[], None], kept: int) -> int:
    """Fork a process that does one thing and ends, and that dies with this one. Returns its pid.

    Of our descriptors it has only `kept`: a pipe of the probe must not stay open because of it.
    Raises OSError where there can be no further process.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
            if os.getppid() == parent:
                os.closerange(0, kept)
                os.closerange(kept + 1, 1 << 20)
                run()
        finally:
            os._exit(0)
    return pid


def tree_ticks(host: Host, top: int) -> int:
    """The CPU time of a process and all below it, those included that ended and were waited for."""
    total, waiting, seen = 0, [top], set[int]()
    while waiting and len(seen) < _MOST_PROCESSES:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            total += _status(host, pid).ticks
            waiting += _children(host, pid)
    return total


class _Status:
    """What /proc/PID/stat says of a process (proc_pid_stat(5)); nothing of one that is gone."""

    def __init__(self, text: str) -> None:
        # the name, in brackets, may hold anything: count from the last bracket on
        numbers = [whole(word) for word in text.rpartition(")")[2].split()]
        self.parent = numbers[1] if len(numbers) > 1 else None
        self.ticks = sum(number or 0 for number in numbers[11:15])
        self.cpu = numbers[36] if len(numbers) > 36 else None  # noqa: PLR2004 - "processor", the 39th field


def _status(host: Host, pid: int) -> _Status:
    return _Status(optional_files.text(host, f"/proc/{pid}/stat") or "")


def _program(host: Host, pid: int) -> str | None:
    try:
        return host.link(f"/proc/{pid}/exe")
    except UnavailableError:
        return None


def _children(host: Host, pid: int) -> list[int]:
    found: list[int] = []
    for thread in optional_files.names(host, f"/proc/{pid}/task"):
        said = optional_files.text(host, f"/proc/{pid}/task/{thread}/children")
        if said is None:
            return _children_by_look(host, pid)
        found += [number for word in said.split() if (number := whole(word)) is not None]
    return found


def _children_by_look(host: Host, pid: int) -> list[int]:
    """For a kernel without CONFIG_PROC_CHILDREN."""
    everyone = [number for name in optional_files.names(host, "/proc") if (number := whole(name)) is not None]
    return [each for each in everyone if _status(host, each).parent == pid]
