"""The processors as /proc/cpuinfo names them, whatever the architecture calls it."""

from vdscheck.plugin import Reason, UnavailableError, frozen, unmeasured

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
