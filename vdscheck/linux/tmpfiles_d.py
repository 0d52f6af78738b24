"""What systemd-tmpfiles writes to one file when the machine boots, from the files of tmpfiles.d.

Seen of systemd 252 and 257 (`systemd-tmpfiles --create --boot --root`), which the tests repeat beside this.
"""

import re
from collections.abc import Iterable, Iterator

from vdscheck.linux import sysctl_glob
from vdscheck.linux.mounts import Emptied
from vdscheck.linux.sysctl_d import SettingsFile, lines_with_ends, settings_files, simplified
from vdscheck.plugin import Host, frozen, safe_text

FOLDERS = ("/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d", "/lib/tmpfiles.d")
"""By precedence: tmpfiles.d(5). What stands below /run is gone when the machine boots."""
_BLANK = b" \t"
_FIELDS = 6
"""Type, path, mode, user, group, age: what follows is the argument, blanks and all."""
_GLOBBED = frozenset(b"wxXrRDmzZtThHaA")
"""Types whose path may be a pattern; they come after all others (tmpfiles.c, needs_glob)."""
_OWNERS = frozenset(b"wxXrRD")
"""Of these the first line of a path counts, and each later one is a duplicate (item_compatible)."""
_CREATES = b"fF"
_UNSURE = rb"[%\\\"']"
"""Specifiers, escapes and quotes: what they come to is not worked out."""


@frozen
class TmpfilesLine:
    """A line that bears on the file."""

    type: int
    modifiers: bytes
    pattern: bytes
    argument: bytes | None
    where: str


@frozen
class WrittenAtBoot:
    """What is written to the file in the end."""

    value: str | None
    """None where nothing is written, or it is not known what."""
    where: str | None
    """The line that decides; None where none does."""
    sure: bool
    why: str | None = None
    """What keeps it from being sure."""
    overridden: tuple[str, ...] = ()


@frozen
class Tmpfiles:
    """All lines of tmpfiles.d, in their order."""

    lines: tuple[TmpfilesLine, ...]
    unread: SettingsFile | None
    """A file whose lines are not known."""

    @classmethod
    def of(cls, host: Host, volatile: Emptied | None, given: Iterable[SettingsFile] = ()) -> "Tmpfiles":
        """Those of a host, and then those that are given."""
        files = [*settings_files(host, FOLDERS, volatile=volatile), *given]
        unread = next((each for each in files if each.unreadable or each.blocks), None)
        return cls(tuple(line for file in files for line in _lines(file)), unread)

    def written(self, path: str) -> WrittenAtBoot:
        """What is written to an existing regular file."""
        target = path.encode()
        unsure = next((line for line in self.lines if _may_bear(line, target)), None)
        steps = [line for line in _in_order(self.lines, target) if line.argument is not None]
        last = steps[-1] if steps else None
        where = None if last is None else last.where
        lost = tuple(f"{each.where} = {safe_text(each.argument or b'')}" for each in steps[:-1])
        if self.unread is not None:
            why = self.unread.trouble or f"{self.unread.path} cannot be read"
            return WrittenAtBoot(None, where, sure=False, why=why, overridden=lost)
        if unsure is not None:
            return WrittenAtBoot(None, unsure.where, sure=False, why=f"{unsure.where} may write it", overridden=lost)
        if last is None:
            return WrittenAtBoot(None, None, sure=True)
        if b"+" in last.modifiers and last.type == ord("w"):
            return WrittenAtBoot(None, last.where, sure=False, why=f"{last.where} appends to it", overridden=lost)
        return WrittenAtBoot(safe_text(last.argument or b""), last.where, sure=True, overridden=lost)


def written(host: Host, path: str, volatile: Emptied | None, given: Iterable[SettingsFile] = ()) -> WrittenAtBoot:
    """What the lines of tmpfiles.d, and then those that are given, write to an existing regular file."""
    return Tmpfiles.of(host, volatile, given).written(path)


def _lines(file: SettingsFile) -> Iterator[TmpfilesLine]:
    number = 1
    for raw, end in lines_with_ends(file.content):
        text = raw.strip(b" \t\r\n")
        where = f"{file.path}:{number}"
        number += end.count(b"\n")
        if not text or text.startswith(b"#"):
            continue
        parts = text.split(None, _FIELDS)
        kind = parts[0]
        pattern = simplified(parts[1], keeps_leading_dots=False) if len(parts) > 1 else b""
        argument = parts[_FIELDS].strip(_BLANK) if len(parts) > _FIELDS else None
        yield TmpfilesLine(kind[0], kind[1:], pattern, None if argument == b"-" else argument, where)


def _may_bear(line: TmpfilesLine, target: bytes) -> bool:
    """Whether a line has what is not worked out here, and may be about the file."""
    if line.type not in _GLOBBED and line.type not in _CREATES:
        return False
    about = _matches(line, target)
    if re.search(_UNSURE, line.pattern):
        # The beginning up to what is not worked out must be that of the file, or it is about something else.
        plain = re.split(rb"[%\\\"'*?\[]", line.pattern)[0]
        return (line.type == ord("w") or _replaces(line)) and target.startswith(plain)
    tilde = b"~" in line.modifiers or b"^" in line.modifiers
    return about and line.argument is not None and (tilde or re.search(_UNSURE, line.argument) is not None)


def _replaces(line: TmpfilesLine) -> bool:
    """`f` leaves what is there; `f+` and `F` replace its content."""
    return line.type == ord("F") or (line.type == ord("f") and b"+" in line.modifiers)


def _matches(line: TmpfilesLine, target: bytes) -> bool:
    if line.type in _GLOBBED and sysctl_glob.is_glob(line.pattern):
        return sysctl_glob.matches(sysctl_glob.compiled(line.pattern, braces=True), target)
    return line.pattern == target


def _in_order(lines: Iterable[TmpfilesLine], target: bytes) -> Iterator[TmpfilesLine]:
    """The lines that are carried out for the file, in their order: first those that create, then the patterns."""
    about = [line for line in lines if _matches(line, target)]
    for line in about:
        if _replaces(line):
            yield line
    owned: dict[bytes, TmpfilesLine] = {}
    for line in about:
        if line.type not in _OWNERS or (line.type == ord("w") and line.argument is None):
            continue
        first = owned.setdefault(line.pattern, line)
        appends = line.type == ord("w") == first.type and b"+" in line.modifiers and b"+" in first.modifiers
        if line.type == ord("w") and (first is line or appends):
            yield line
