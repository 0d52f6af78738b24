"""The processes below another one, as far as /proc shows them."""

import os
from contextlib import suppress


def descendants(top: int, besides: set[int]) -> set[int]:
    """The processes below `top` that have not ended, but not those in `besides` nor what is below them."""
    found: set[int] = set()
    below = [top]
    while below:
        for pid in _children_of(below.pop()):
            if pid not in besides and pid not in found:
                found.add(pid)
                below.append(pid)
    return {pid for pid in found if _stat(pid)[:1] not in ((b"Z",), (b"X",), ())}


def _children_of(parent: int) -> list[int]:
    """The children of a process, from proc(5) `children`, or by a look at every process without it."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", "rb") as children:
                found.extend(int(pid) for pid in children.read().split())
    except OSError:
        if os.path.exists("/proc/self/task") and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            everyone = (int(name) for name in os.listdir("/proc") if name.isdecimal())
            return [pid for pid in everyone if _stat(pid)[1:2] == (b"%d" % parent,)]
    return found


def _stat(pid: int) -> tuple[bytes, ...]:
    """The state and the parent of a process, as proc(5) `stat` has them; empty when it is gone."""
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:
        return tuple(stat.read().rpartition(b")")[2].split()[:2])
    return ()
