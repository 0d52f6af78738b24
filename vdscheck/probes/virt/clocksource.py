"""The clock source: where the kernel takes the time from, and what reading it costs."""

import itertools
import re
import time
from collections import deque

from vdscheck.measurements import ClockSource
from vdscheck.plugin import Host, Reason, UnavailableError, probe, unmeasured

FOLDER = "/sys/devices/system/clocksource/clocksource0"
BATCHES = 15
READS = 200
"""A batch is 10 us where the clock is read in user space, and about 1 ms where each read is slow I/O."""

_NAME = re.compile(r"[\w.-]+")


@probe("virt.clocksource", formerly="machine.clocksource", cheap=True, deadline_s=2.0)
def clocksource(host: Host) -> ClockSource:
    """Reads the kernel's clock source, and times 15 batches of 200 clock reads."""
    current = host.read(f"{FOLDER}/current_clocksource").strip()
    if not _NAME.fullmatch(current):
        why = f"{FOLDER}/current_clocksource is not what a kernel writes there"
        raise UnavailableError(unmeasured(Reason.ERROR, why))
    return ClockSource(
        current=current,
        available=tuple(host.read(f"{FOLDER}/available_clocksource").split()),
        read_ns=_read_cost(host),
    )


def _read_cost(host: Host) -> float | None:
    try:
        found = host.fact("clock-read-ns", _timed)
    except UnavailableError:
        return None
    # a read takes some nanoseconds, or microseconds where it leaves the machine; never a second
    return float(found) if isinstance(found, int | float) and 0 < found < 1e9 else None  # noqa: PLR2004


def _timed() -> float:
    """The median over the batches: a batch in which something else ran does not count."""
    costs = []
    for _ in range(BATCHES):
        began = time.perf_counter_ns()
        deque(map(time.clock_gettime_ns, itertools.repeat(time.CLOCK_MONOTONIC, READS)), maxlen=0)
        costs.append((time.perf_counter_ns() - began) / READS)
    return round(sorted(costs)[len(costs) // 2], 1)
