"""The CPU lines of /proc/stat as ticks (proc_stat(5)), and what was used between two readings."""

from vdscheck.linux.cgroups import whole
from vdscheck.plugin import frozen

LIMIT_BYTES = 8 << 20
"""The line of interrupt counters is long on machines with many of them."""
_COUNTED = 8
"""user, nice, system, idle, iowait, irq, softirq, steal; guest time, which follows, is part of user and nice."""


@frozen
class Ticks:
    """What one CPU, or some together, did since boot, in ticks."""

    user: int
    nice: int
    system: int
    idle: int
    iowait: int
    irq: int
    softirq: int
    steal: int

    @property
    def all(self) -> tuple[int, ...]:
        """The eight in the order of the kernel."""
        return (self.user, self.nice, self.system, self.idle, self.iowait, self.irq, self.softirq, self.steal)

    @property
    def total(self) -> int:
        """All time."""
        return sum(self.all)

    @property
    def busy(self) -> int:
        """The time in which a task or an interrupt had the CPU."""
        return self.user + self.nice + self.system + self.irq + self.softirq

    @property
    def interrupts(self) -> int:
        """The time in which an interrupt had it."""
        return self.irq + self.softirq


def together(found: list[Ticks]) -> Ticks:
    """Several CPUs as one."""
    return Ticks(*(sum(each) for each in zip(*(ticks.all for ticks in found), strict=True)))


def parsed(text: str) -> dict[int, Ticks]:
    """The ticks of each CPU; a line that is not a CPU's, or lacks a value, is left out.

    Kernels before 2.6.11 count no steal, and a line of theirs is left out too.
    """
    found = {}
    for line in text.split("\n"):
        if not line.startswith("cpu"):
            continue
        name, *words = line.split()
        number = whole(name.removeprefix("cpu"))
        values = [whole(word) for word in words[:_COUNTED]]
        counted = [value for value in values if value is not None]
        if number is not None and len(counted) == _COUNTED:
            found[number] = Ticks(*counted)
    return found
