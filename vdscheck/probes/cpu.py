"""The processors as the machine shows them, what the cgroup allows of them, and how long tasks wait."""

import re
from collections.abc import Iterable

from vdscheck.measurements import Cpu, CpuPressure
from vdscheck.model import frozen
from vdscheck.plugin import Host, Reason, UnavailableError, probe, unmeasured
from vdscheck.probes import cgroups
from vdscheck.probes.pressure import stalls

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
_ARM_PARTS = {
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd84"): "Neoverse-V3",
    ("0x41", "0xd8e"): "Neoverse-N3",
    ("0xc0", "0xac3"): "AmpereOne",
    ("0xc0", "0xac4"): "AmpereOne A",
}
"""By implementer and part, from arch/arm64/include/asm/cputype.h."""


@frozen
class Processors:
    """What /proc/cpuinfo says, whatever the architecture calls it."""

    model: str
    architecture: str
    count: int
    flags: frozenset[str]


def processors(text: str) -> Processors:
    """The processors of a /proc/cpuinfo text. Raises UnavailableError for what holds none."""
    fields: dict[str, str] = {}
    count = 0
    for line in text.split("\n"):
        key, found, value = line.partition(":")
        name = key.strip()
        if not found:
            continue
        # in capitals it is the model of a 32-bit ARM board, in small letters one processor each
        count += name == "processor" and value.strip().isdecimal()
        fields.setdefault(name, value.strip())
    if count == 0:
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, "/proc/cpuinfo lists no processor"))
    flags = frozenset((fields.get("flags") or fields.get("Features") or "").split())
    return Processors(_model(fields), _architecture(fields, flags), count, flags)


def _model(fields: dict[str, str]) -> str:
    named = fields.get("model name") or fields.get("cpu model") or fields.get("cpu")
    if named:
        return named
    maker, part = fields.get("CPU implementer"), fields.get("CPU part")
    if maker and part:
        return _ARM_PARTS.get((maker, part), f"ARM implementer {maker} part {part}")
    return fields.get("uarch") or fields.get("vendor_id") or "not named"


def _architecture(fields: dict[str, str], flags: frozenset[str]) -> str:
    if "vendor_id" in fields and "flags" in fields:
        return "x86_64" if "lm" in flags else "i686"
    if "CPU implementer" in fields:
        return "aarch64" if fields.get("CPU architecture") == "8" and "asimd" in flags else "arm"
    return "riscv64" if "isa" in fields else "other"


def level(flags: Iterable[str]) -> str | None:
    """The highest level whose features, and all below it, are there."""
    have, best = frozenset(flags), None
    for name, wanted in LEVELS:
        if not have.issuperset(wanted):
            break
        best = name
    return best


@probe("machine.cpu", cheap=True, deadline_s=2.0)
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
