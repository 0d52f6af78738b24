"""Counters of /proc that several probes read: one reader for each kind of file."""

from vdscheck.linux.cgroups import whole
from vdscheck.plugin import Host, Reason, UnavailableError, unmeasured

_COUNTER_DIGITS = 8
"""Of /proc/net/softnet_stat: the kernel writes %08x (net/core/net-procfs.c)."""


def paired(host: Host, path: str, family: str) -> dict[str, int]:
    """The counters of a family in /proc/net/snmp or netstat: a line of names, and then a line of values."""
    lines = [line.split() for line in host.read(path).splitlines() if line.startswith(f"{family}:")]
    found: dict[str, int] = {}
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        for name, number in zip(names[1:], numbers[1:], strict=False):
            value = whole(number)
            if value is not None:
                found[name] = value
    return found


def vmstat(host: Host) -> dict[str, int]:
    """The counters of /proc/vmstat; what is not a name and a number is left out."""
    found: dict[str, int] = {}
    for line in host.read("/proc/vmstat").split("\n"):
        name, _, number = line.partition(" ")
        value = whole(number.strip())
        if name and value is not None:
            found[name] = value
    return found


def meminfo_bytes(host: Host) -> dict[str, int]:
    """The amounts of /proc/meminfo that it gives in kB, which are KiB; what is none is left out."""
    found: dict[str, int] = {}
    for line in host.read("/proc/meminfo").split("\n"):
        name, _, amount = line.partition(":")
        number, _, unit = amount.strip().partition(" ")
        value = whole(number)
        if unit == "kB" and value is not None:
            found[name] = value * 1024
    return found


def softnet(host: Host) -> tuple[int, int]:
    """Packets dropped since the queue of a CPU was full, and rounds that ran out of time: of all CPUs together."""
    path = "/proc/net/softnet_stat"
    rows = [line.split() for line in host.read(path).split("\n") if line.split()]
    if not rows:
        raise UnavailableError(unmeasured(Reason.ERROR, f"{path} has no line for any CPU"))
    try:
        return sum(_hexadecimal(row[1]) for row in rows), sum(_hexadecimal(row[2]) for row in rows)
    except (IndexError, ValueError) as error:
        raise UnavailableError(unmeasured(Reason.ERROR, f"{path} is not what a kernel writes there")) from error


def _hexadecimal(word: str) -> int:
    if len(word) != _COUNTER_DIGITS:
        message = "not a counter of 32 bits"
        raise ValueError(message)
    return int(word, 16)
