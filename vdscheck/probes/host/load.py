"""The work of others before we put any load on the host."""

import math
import os
import time
from collections.abc import Iterator

from vdscheck.measurements import HostLoad, Pressure
from vdscheck.plugin import Host, Reason, UnavailableError, Window, frozen, probe, unmeasured

_STEP_S = 0.25


@frozen
class Reading:
    """What all CPUs and our own processes had used at a moment, in ticks."""

    at_s: float
    busy: int
    ours: int
    cpus: int


@probe(
    "host.load",
    window=Window(passive_s=None, quick_s=0.3, default_s=1.0, thorough_s=2.0),
    deadline_s=3.0,
    live=True,
)
def load(host: Host) -> Iterator[HostLoad]:
    """Watches /proc/stat without the CPU time of its own processes, and reads /proc/loadavg and /proc/pressure/io."""
    from vdscheck.linux import own_processes

    program = own_processes.elders(host)[-1]
    first = _reading(host, program)
    for _ in host.looks(_STEP_S):
        now = _reading(host, program)
        yield HostLoad(
            window_s=round(now.at_s - first.at_s, 3),
            cpus=now.cpus,
            busy_cpus=round(busy_cpus(first, now, _tick_s()), 3),
            load_1min=load_average(host.read("/proc/loadavg")),
            io_some_avg10_percent=_io_stalls(host),
        )


def busy_cpus(first: Reading, last: Reading, tick_s: float) -> float:
    """What others used between two readings, as so many CPUs."""
    others = (last.busy - first.busy) - (last.ours - first.ours)
    window_s = last.at_s - first.at_s
    return max(0.0, others * tick_s / window_s) if window_s > 0 else 0.0


def load_average(text: str) -> float:
    """The first number of /proc/loadavg. Raises UnavailableError for what is not one."""
    try:
        found = float(text.split(maxsplit=1)[0])
    except (IndexError, ValueError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise UnavailableError(unmeasured(Reason.ERROR, "/proc/loadavg does not start with a load"))
    return found


def _reading(host: Host, program: int) -> Reading:
    from vdscheck.linux import own_processes, proc_stat

    ours = own_processes.tree_ticks(host, program)
    cpus = proc_stat.parsed(host.read("/proc/stat", limit_bytes=proc_stat.LIMIT_BYTES))
    if not cpus:
        raise UnavailableError(unmeasured(Reason.ERROR, "/proc/stat lists no CPU"))
    return Reading(time.monotonic(), sum(each.busy for each in cpus.values()), ours, len(cpus))


def _tick_s() -> float:
    return 1 / os.sysconf("SC_CLK_TCK")


def _io_stalls(host: Host) -> float | None:
    from vdscheck.linux.psi import stalls

    try:
        return stalls(host, "io", Pressure).some_avg10_percent
    except UnavailableError:
        return None
