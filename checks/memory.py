"""Whether the memory that was bought is here, free enough, and never read back from swap."""

from dataclasses import replace

from vdscheck.measurements import Machine, Memory, MemoryPressure, Swapping
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    Confidence,
    Evidence,
    Judgement,
    Severity,
    check,
    evidence,
    not_applicable,
    spoken,
)

OF_MEMORY = "/proc/meminfo, /sys/devices/system/memory, memory.max"
GIB = 2**30


@check("memory.contract", severity=Severity.HIGH)
def contract(memory: Memory, machine: Machine | Absent, sold: AtLeast | Absent) -> Judgement | Absent:
    """All memory that was bought is here.

    Why: Missing memory is paid for every month.
    False positives: A plan in GB (10^9 bytes) is not one in GiB (2^30): write what the offer says. Where
        the kernel does not say what is installed, MemTotal is taken, plus 1/64 (the kernel's table of
        pages) and 128 MiB (the kernel, firmware): a crash kernel of its own comes on top of that.
    By hand: lsmem; grep MemTotal /proc/meminfo; in a container cat /sys/fs/cgroup/memory.max
    Sources: the [offer] table of the configuration; https://docs.kernel.org/admin-guide/mm/memory-hotplug.html
        (memory blocks in /sys)
    """
    if isinstance(sold, Absent):
        return not_applicable('no [offer] in the configuration says what was bought: add memory = "8 GiB", for example')
    contained = isinstance(machine, Machine) and machine.container is not None
    seen = evidence(memory, "total_bytes", "installed_bytes", "limit_bytes", source=OF_MEMORY)
    estimated = False
    if contained and memory.limit_bytes is not None:
        got, how = memory.limit_bytes, "this container may use"
    elif not contained and memory.installed_bytes is not None:
        got, how = memory.installed_bytes, "installed"
    else:
        got, estimated = memory.with_kernel_share_bytes, True
        how = "MemTotal and what the kernel keeps for itself"
    judged = sold.judge(got / GIB, "memory", evidence=seen)
    text = f"{spoken(got / GIB)} GiB are here ({how}), {spoken(sold.limit)} GiB were bought"
    return replace(judged, summary=text, confidence=Confidence.LOW if estimated else Confidence.HIGH)


@check("memory.available", severity=Severity.MEDIUM)
def available(
    memory: Memory, stalls: MemoryPressure | Absent, machine: Machine | Absent, available: AtLeast
) -> Judgement:
    """Enough memory can be had without swapping.

    Why: Below this the kernel throws file pages out and reclaims while services allocate, and a burst
        ends with the out-of-memory killer.
    False positives: Databases that take most of memory on purpose and stay within it; a ZFS cache is
        counted as used although it shrinks.
    By hand: free -m (the column available); cat /proc/pressure/memory
    Sources: https://docs.kernel.org/filesystems/proc.html (MemAvailable)
    """
    total, left = memory.total_bytes, memory.available_bytes
    contained = isinstance(machine, Machine) and machine.container is not None
    if contained and memory.limit_bytes is not None and memory.limit_used_bytes is not None:
        total = memory.limit_bytes
        left = min(left, max(0, total - memory.limit_used_bytes))
    judged = available.judge(
        100 * left / total if total else 0.0,
        "available memory",
        evidence=(
            *evidence(memory, "available_bytes", "total_bytes", "limit_bytes", source="/proc/meminfo, memory.max"),
            *_waiting(stalls),
        ),
    )
    text = f"{spoken(100 * left / total if total else 0.0)} % of memory is available ({spoken(left / GIB)} GiB)"
    return replace(judged, summary=f"{text}, {available.phrase()}")


def _waiting(stalls: MemoryPressure | Absent) -> tuple[Evidence, ...]:
    return evidence(stalls, "some_avg60_percent", "full_avg60_percent", source="/proc/pressure/memory")


@check("memory.swap", severity=Severity.MEDIUM)
def swap(
    swapping: Swapping, stalls: MemoryPressure | Absent, machine: Machine | Absent, pages_in: AtMost
) -> Judgement | Absent:
    """Nothing is read back from swap.

    Why: A page that comes back from swap is a request that waits for the disk in the middle of its work.
    False positives: The first touch of something that slept since boot; swap in compressed memory (zram)
        costs microseconds, not milliseconds.
    By hand: vmstat 1 (the column si); grep pswpin /proc/vmstat; swapon --show
    Sources: https://docs.kernel.org/admin-guide/sysctl/vm.html (swappiness); vmstat(8)
    """
    if isinstance(machine, Machine) and machine.container is not None:
        return not_applicable(
            f"in {machine.container_in_words} the counters are those of the whole host: ask who runs it"
        )
    seen = evidence(
        swapping,
        *("total_bytes", "used_bytes", "window_s", "pages_out", "pages_in_since_boot"),
        source="/proc/meminfo, /proc/vmstat",
    )
    judged = pages_in.judge(swapping.pages_in, "pages read back from swap", evidence=(*seen, *_waiting(stalls)))
    over = f"in {spoken(round(swapping.window_s, 1))} s"
    if swapping.total_bytes == 0 and swapping.pages_in == 0:
        return replace(judged, summary="there is no swap, so nothing is read back from it")
    text = f"{swapping.pages_in:,} pages were read back from swap {over}, {pages_in.phrase()}"
    return replace(judged, summary=text)
