"""What a kind of fix tells a person who would rather do it by hand: now, and in a file that is read at every boot."""

import shlex

from vdscheck.plugin import SettingFix


def when(setting: SettingFix) -> str:
    """When a proposed change takes effect."""
    return "now and at every boot" if setting.at_boot else "now, as the next boot will"


def commands(setting: SettingFix, now: str, line: str, file: str) -> tuple[str, ...]:
    """The command that sets it now, and the one that adds its line to the file."""
    return (now, f"echo {shlex.quote(line)} >> {file}") if setting.at_boot else (now,)


def undo(setting: SettingFix, now: str | None, line: str, file: str) -> tuple[str, ...]:
    """The command that sets the old value, None where that is not known, and the one that takes the line out."""
    back = () if now is None else (now,)
    pattern = shlex.quote(f"\\#^{line}$#d")
    return (*back, f"sed -i {pattern} {file}") if setting.at_boot else back
