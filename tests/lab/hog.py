"""Takes one CPU in bursts, as a real-time task, and writes down when: `python hog.py CPU BURST_MS EVERY_MS SECONDS`.

Its output is one JSON list of [beginning, end] on the monotonic clock in nanoseconds, as the hog itself read it.
"""

import json
import os
import sys
import time
from pathlib import Path

HOG = Path(__file__)


def main(cpu: int, burst_ns: int, every_ns: int, seconds: float) -> list[tuple[int, int]]:
    """Take the CPU now and then; raises PermissionError where this may not be a real-time task."""
    anywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    clock = time.monotonic_ns
    began = clock()
    bursts = []
    for number in range(1, int(seconds * 1e9 / every_ns)):
        time.sleep(max(0, began + number * every_ns - clock()) / 1e9)
        first = last = clock()
        while last - first < burst_ns:
            last = clock()
        bursts.append((first, last))
    # Its end is no burst, and must not lengthen the last one.
    os.sched_setaffinity(0, anywhere - {cpu} or anywhere)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return bursts


if __name__ == "__main__":
    cpu, burst_ms, every_ms, seconds = sys.argv[1:]
    print(json.dumps(main(int(cpu), int(float(burst_ms) * 1e6), int(float(every_ms) * 1e6), float(seconds))))
