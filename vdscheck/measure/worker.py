"""What a forked process cuts off and bounds, and the jobs that a child then does."""

import gc
import os
import resource
import signal
from contextlib import suppress
from functools import cache
from typing import Any

from vdscheck.measure.jobs import Frame, Job, speaker, told, work
from vdscheck.model.absence import Reason, limited, unmeasured
from vdscheck.process.guard import silence
from vdscheck.process.limits import hold_to, limit_of
from vdscheck.process.signals import hand_over
from vdscheck.target.interface import Target
from vdscheck.target.secrets import what_failed

MEMORY_LIMIT_BYTES = 1 << 30
"""How much address space a child may take beyond what it starts with."""

_PR_SET_PDEATHSIG = 1


def be_child(host: Target, jobs: list[Job], pipe: int, parent: int) -> None:
    """Do the jobs; where even that cannot begin, say of each why."""
    say = speaker(pipe)
    try:
        _become_child(parent, pipe, *host.descriptors)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        limit = limit_of(error)
        why = f"the process that was to measure it could not begin: {what_failed(error)}"
        for job in jobs:
            say(told(job.key, unmeasured(Reason.ERROR, why) if limit is None else limited(limit)))
            say(Frame("ended", job.key))
    else:
        work(host, jobs, say)


def _become_child(parent: int, *kept: int) -> None:
    """Cut what ties a child to the program, and bound it. Only the descriptors must be: the rest is worth having."""
    with suppress(OSError):
        os.setsid()
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    silence(*kept)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    hand_over(signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    gc.enable()
    _be_ended_first()
    _bound_memory()


def _be_ended_first() -> None:
    """Where memory runs out, the kernel ends a child before the program that reports (proc(5), oom_score_adj)."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _bound_memory() -> None:
    """Take no more than some address space. The hard limit stays: it tells the session's limit from ours."""
    in_use = 0
    with suppress(OSError), open("/proc/self/statm", "rb") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hold_to(resource.RLIMIT_AS, in_use + MEMORY_LIMIT_BYTES)


@cache
def _libc() -> Any:  # noqa: ANN401 - ctypes.CDLL
    import ctypes  # 3 ms, which the parent has while the program is at something else

    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Set something of this process (prctl(2)), where that can be done."""
    with suppress(OSError, ImportError, MemoryError, AttributeError):
        _libc().prctl(option, value, 0, 0, 0)
