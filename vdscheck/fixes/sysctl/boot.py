"""What a line of ours will come to at the next boot, and what keeps it from deciding."""

import re

from vdscheck.measurements import SETS_NOTHING, BootTruth, KeyAtBoot, LateWriter

FOLDER, NAME = "/etc/sysctl.d", "90-vdscheck.conf"
FILE = f"{FOLDER}/{NAME}"
"""The one file in which kernel settings are persisted."""


def same(first: str | None, second: str | None) -> bool:
    """Whether two values are the same field by field, so that blanks and leading zeros make no difference."""
    return first is not None and second is not None and _fields(first) == _fields(second)


def _fields(text: str) -> list[str]:
    return [re.sub(r"^(-?)0+(?=[0-9])", r"\1", word) for word in text.split()]


def lasts(key: str, wanted: str, boot: BootTruth | None) -> str | None:
    """Why a key will not be what is wanted after the next boot; None where it will."""
    if boot is None or key not in boot.keys:
        return "what it will be after the next boot is not known"
    decided = boot.keys[key]
    writers = _writers(key, boot)
    for writer in writers:
        if not same(writer.values.get(key), wanted):
            said = writer.values.get(key)
            sets = "may set it" if said is None else f"sets it to {said}"
            return f"{writer.name} {sets} after each boot: let that say {wanted} ({writer.file})"
    if writers or same(decided.value, wanted):
        return None
    return _beaten(wanted, decided, boot)


def at_boot(key: str, boot: BootTruth) -> tuple[str | None, str] | None:
    """What a key will be after the next boot, and what decides; None where it is not among those looked at."""
    found = boot.keys.get(key)
    if found is None:
        return None
    writers = _writers(key, boot)
    if not writers:
        return found.value, found.where
    last, told = writers[-1], writers[0].values.get(key)
    if told is None or not all(same(each.values.get(key), told) for each in writers):
        named = dict.fromkeys(f"{each.name} ({each.file})" for each in writers)
        return None, f"{', '.join(named)}: to what it is set there after each boot cannot be told"
    return told, f"{last.name} ({last.file})"


def _beaten(wanted: str, decided: KeyAtBoot, boot: BootTruth) -> str:
    """What keeps a line of ours from deciding, and where to mend that."""
    if decided.needs_module is not None:
        return (
            f"at boot sysctl.d is applied before {decided.needs_module} is loaded, so no line there sets it: name the "
            "module in a file of /etc/modules-load.d"
        )
    if boot.init == "none":
        return next(iter(boot.problems), "nothing applies the files of sysctl.d at boot")
    excluded = [line.partition(" = ")[0] for line in decided.overridden if line.endswith("= (excluded)")]
    if excluded and decided.origin != "file":
        return f"{excluded[-1]} keeps it from being set: take that line out"
    if decided.origin == "unread":
        return f"whether a line in {FILE} would set it at boot is not known: {decided.where}"
    if decided.value is None or decided.origin == "default":
        return _unset(wanted, decided, boot)
    return f"{decided.where} sets it to {decided.value} after {FILE}: let that line say {wanted}"


def _unset(wanted: str, decided: KeyAtBoot, boot: BootTruth) -> str:
    """Why nothing sets a key for which there is a line of ours."""
    stuck = next((each for each in boot.problems if each.endswith(SETS_NOTHING)), None)
    where, _, value = (decided.overridden[-1] if decided.overridden else "").partition(" = ")
    if stuck is None and where and not where.startswith(f"{FILE}:"):
        return f"{where} sets it to {value!r} after {FILE}, which the kernel refuses: let that line say {wanted}"
    return f"a line in {FILE} would not set it at boot: {stuck or decided.where}"


def _writers(key: str, boot: BootTruth) -> list[LateWriter]:
    return [writer for writer in boot.late_writers if writer.enabled and key in writer.keys]
