"""Runs the disk instruments once, as a process that can be killed, traced, or put on other mounts.

usage: python -m tests.probes.disk.worker PATH SECONDS [--usual] [--as-user]

Says `ready` when the first measurement is there, and then the last one, or why there is none, as a line of JSON.
"""

import ctypes  # noqa: F401 - an ordinary user may not read this machine's Python
import fcntl  # noqa: F401
import json
import os
import sys
import time

from vdscheck.codec import encode
from vdscheck.model.absence import UnavailableError
from vdscheck.plugin import Host
from vdscheck.probes.disk import bench  # noqa: F401 - the same
from vdscheck.probes.disk.latency import latency
from vdscheck.probes.disk.subject import DiskPath

NOBODY = 65534


def main(path: str, seconds: str, *options: str) -> int:
    """Measure, and say what was found."""
    disk = DiskPath(path, asked_for="--usual" not in options)
    if "--as-user" in options:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    found, absent = None, None
    try:
        for measured in latency.function(Host(ends_at=time.monotonic() + float(seconds)), disk):
            if found is None:
                say("ready")
            found = json.loads(encode(measured))
    except UnavailableError as error:
        absent = json.loads(encode(error.absent))
    say(json.dumps({"value": found, "absent": absent}))
    return 0


def say(line: str) -> None:
    """Write by another system call than the instruments do, which a test lets fail."""
    os.writev(1, [line.encode() + b"\n"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
