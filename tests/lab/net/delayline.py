"""Holds the namespaces of a network and carries packets between them, late: what netem does, where a kernel has none.

usage: delayline.py, told on standard input, in one line of JSON, {"namespaces": [NAME...], "lines": [[NAME,
INTERFACE, NAME, INTERFACE, DELAY_US, DELAY_BACK_US]...]}. It answers with one line: its process, and for each
namespace the descriptor that leads to it (/proc/PROCESS/fd/DESCRIPTOR). It ends when its standard input does, so
that nothing is left of a network whose owner has died, and its last line says how long packets really stayed.
"""

import ctypes
import fcntl
import gc
import heapq
import io
import itertools
import json
import os
import select
import struct
import time
from contextlib import suppress

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
PR_SET_TIMERSLACK = 29
SPIN_NS = 60_000
"""So long before a packet is due the processor is kept, since a sleep may end late."""
SAMPLES = 200_000
PACKET_BYTES = 1 << 16

LIBC = ctypes.CDLL(None, use_errno=True)


def called(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def namespaces(names: list[str]) -> dict[str, int]:
    """New network namespaces, each as a descriptor."""
    found = {}
    for name in names:
        called(LIBC.unshare(CLONE_NEWNET))
        found[name] = os.open("/proc/self/ns/net", os.O_RDONLY)
    return found


def tun(space: int, name: str) -> int:
    """A point-to-point interface inside a namespace; its packets are read from and written to the descriptor."""
    called(LIBC.setns(space, CLONE_NEWNET))
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class Direction:
    """One way of a line: where packets go, how late, and how late they were."""

    def __init__(self, name: str, to: int, delay_us: int) -> None:
        self.name, self.to, self.delay_us = name, to, delay_us
        self.stayed_us: list[int] = []

    def summary(self) -> dict[str, object]:
        stayed, count = sorted(self.stayed_us), len(self.stayed_us)
        at = {"p50_us": count // 2, "p99_us": int(count * 0.99), "max_us": count - 1}
        figures = {key: stayed[rank] if count else None for key, rank in at.items()}
        return {"line": self.name, "delay_us": self.delay_us, "packets": count, **figures}


def carry(directions: dict[int, Direction]) -> None:
    """Move packets until standard input ends."""
    waiting: list[tuple[int, int, int, int, bytes]] = []
    number, now = itertools.count(), time.monotonic_ns
    watched = [0, *directions]
    while True:
        left_ns = waiting[0][0] - now() if waiting else 1_000_000_000
        ready, _, _ = select.select(watched, (), (), max(0, left_ns - SPIN_NS) / 1e9)
        for source in ready:
            if source == 0:
                if not os.read(0, 1):
                    return
                continue
            with suppress(BlockingIOError):
                while True:
                    packet = os.read(source, PACKET_BYTES)
                    came = now()
                    due = came + 1000 * directions[source].delay_us
                    heapq.heappush(waiting, (due, next(number), came, source, packet))
        while waiting and waiting[0][0] <= now():
            _, _, came, source, packet = heapq.heappop(waiting)
            direction = directions[source]
            with suppress(OSError):  # an interface that is down
                os.write(direction.to, packet)
                if len(direction.stayed_us) < SAMPLES:
                    direction.stayed_us.append((now() - came) // 1000)


def main() -> None:
    # Nothing behind the line is to be buffered: that standard input ends is told by the descriptor.
    asked = json.loads(io.FileIO(0, closefd=False).readline())
    LIBC.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    spaces = namespaces(asked["namespaces"])
    directions = {}
    for near, near_interface, far, far_interface, delay_us, delay_back_us in asked["lines"]:
        one, other = tun(spaces[near], near_interface), tun(spaces[far], far_interface)
        directions[one] = Direction(f"{near_interface}->{far_interface}", other, delay_us)
        directions[other] = Direction(f"{far_interface}->{near_interface}", one, delay_back_us)
    gc.disable()
    print(json.dumps({"process": os.getpid(), "namespaces": spaces}), flush=True)
    carry(directions)
    print(json.dumps([each.summary() for each in directions.values()]), flush=True)


if __name__ == "__main__":
    main()
