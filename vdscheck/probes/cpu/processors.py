"""The processors as the machine shows them, what the cgroup allows of them, and how long tasks wait."""

import re
from collections.abc import Iterable

from vdscheck.linux import cgroups
from vdscheck.linux.cpuinfo import processors
from vdscheck.linux.psi import stalls
from vdscheck.measurements import Cpu, CpuPressure
from vdscheck.plugin import Host, UnavailableError, probe

LEVELS = (
    ("x86-64-v1", ("cmov", "cx8", "fpu", "fxsr", "lm", "mmx", "syscall", "sse", "sse2")),
    ("x86-64-v2", ("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3")),
    ("x86-64-v3", ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")),
    ("x86-64-v4", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
)
"""What each level adds, in the kernel's names (pni is SSE3, abm holds LZCNT).

Source: x86-64 psABI, section "Micro-Architecture Levels".
"""

_SHOWN = frozenset(flag for _, flags in LEVELS for flag in flags) | {
    *("aes", "hypervisor", "pclmulqdq", "sha_ni", "vaes", "rdrand", "vmx", "svm"),
    *("constant_tsc", "nonstop_tsc", "tsc_known_freq", "pcid", "invpcid"),
    *("asimd", "atomics", "crc32", "pmull", "sha1", "sha2", "sve"),
}


def level(flags: Iterable[str]) -> str | None:
    """The highest level whose features, and all below it, are there."""
    have, best = frozenset(flags), None
    for name, wanted in LEVELS:
        if not have.issuperset(wanted):
            break
        best = name
    return best


@probe("cpu.processors", formerly="machine.cpu", cheap=True, deadline_s=2.0)
def cpu(host: Host) -> Cpu:
    """Reads /proc/cpuinfo, /sys/devices/system/cpu/online and the CPU limits of its own cgroups."""
    found = processors(host.read("/proc/cpuinfo"))
    return Cpu(
        model=found.model,
        architecture=found.architecture,
        online=_online(host) or found.count,
        flags=tuple(sorted(found.flags & _SHOWN)),
        level=level(found.flags) if found.architecture == "x86_64" else None,
        quota=cgroups.cpu_quota(host),
    )


def _online(host: Host) -> int | None:
    try:
        return counted(host.read("/sys/devices/system/cpu/online"))
    except UnavailableError:
        return None


def counted(text: str) -> int | None:
    """How many numbers a list such as `0-3,8` names; None of what is not such a list."""
    total = 0
    for part in text.strip().split(","):
        found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if not found:
            return None
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            return None
        total += last - first + 1
    return total


@probe("cpu.stall", cheap=True, deadline_s=2.0)
def stall(host: Host) -> CpuPressure:
    """Reads /proc/pressure/cpu."""
    return stalls(host, "cpu", CpuPressure)
