"""What procps' `sysctl --system` makes of the same files: it ends with /etc/sysctl.conf, and errs in its own ways."""

import re
from collections.abc import Iterable, Sequence

from vdscheck.linux import sysctl_glob
from vdscheck.linux.mounts import Emptied
from vdscheck.linux.sysctl_d import Applied, Line, SettingsFile, Write, losers, read_settings_file, settings_files
from vdscheck.plugin import Host

FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
"""By precedence: PreloadSystem in procps' src/sysctl.c (4.0.2)."""
LAST_FILE = "/etc/sysctl.conf"

_WHITESPACE = b" \t\n\v\f\r"
_SHORTEST = 2
"""A line of fewer bytes, its end included, is passed over."""


def procps_files(host: Host, *, volatile: Emptied | None = None) -> list[SettingsFile]:
    """The files that `sysctl --system` reads, in its order."""
    files = settings_files(host, FOLDERS, volatile=volatile, hidden=True)
    if _is_file(host, LAST_FILE):
        files.append(read_settings_file(host, LAST_FILE, volatile))
    return files


def _is_file(host: Host, path: str) -> bool:
    return host.exists(path) and host.status(path).kind == "file"


def applied_by_procps(files: Sequence[SettingsFile], keys: Iterable[bytes]) -> Applied:
    """What `sysctl --system` writes to these keys, which are paths below /proc/sys that exist."""
    lines = _parse(files)
    named = {line.key for line in lines}
    patterns = {
        line.key: sysctl_glob.compiled(_real(line.key) or b"", braces=False)
        for line in lines
        if sysctl_glob.is_glob(line.key)
    }
    found = Applied(problems=[file.trouble for file in files if file.trouble])
    blocked = any(file.blocks for file in files)
    for key in keys:
        rival = [(place, line) for place, line in enumerate(lines) if _sets(line, key, named, patterns)]
        if rival and not blocked:
            place, winner = rival[-1]
            found.writes[key] = Write(place, key, winner.value or b"", winner.where, winner.file)
        unsure = next((file.path for file in files if file.unreadable), None)
        if unsure is not None and not blocked:
            found.unknown[key] = unsure
        last = rival[-1][1] if rival and not blocked else None
        found.losers[key] = losers((line for _, line in rival), last)
    return found


def _sets(
    line: Line, key: bytes, named: set[bytes], patterns: dict[bytes, tuple[tuple[sysctl_glob.Component, ...], ...]]
) -> bool:
    """A glob spares each key that any line names, in these very letters."""
    if line.value is None:
        return False
    if line.key in patterns:
        return key not in named and sysctl_glob.matches(patterns[line.key], key)
    return _real(line.key) == key


def _parse(files: Sequence[SettingsFile]) -> list[Line]:
    return [
        line
        for place, file in enumerate(files)
        for number, raw in enumerate(file.content.split(b"\n"), 1)
        if (line := _line(raw, place, file.path, number)) is not None
    ]


def _line(raw: bytes, place: int, path: str, number: int) -> Line | None:
    text = raw.partition(b"\0")[0] + (b"" if b"\0" in raw else b"\n")
    text = text.lstrip(_WHITESPACE)
    if len(text) < _SHORTEST or text[:1] in b"#;":
        return None
    key, equals, value = text.partition(b"=")
    if not equals and not key.startswith(b"-"):
        return None
    key = key.removeprefix(b"-").rstrip(_WHITESPACE).removeprefix(b"-")
    return Line(_swapped(key), value.strip(_WHITESPACE) if equals else None, place, path, number)


def _swapped(key: bytes) -> bytes:
    """Dots and slashes change places where the first of them is a dot: slashdot in procps' src/sysctl.c."""
    separator = re.search(rb"[/.]", key)
    if separator and separator[0] == b".":
        return key.translate(bytes.maketrans(b"/.", b"./"))
    return key


def _real(key: bytes) -> bytes | None:
    """The path below /proc/sys that the kernel makes of it: it takes `..`, and repeated slashes for one.

    None where it leads out, or ends as only a folder may.
    """
    kept: list[bytes] = []
    for name in key.split(b"/"):
        if name == b"..":
            if not kept:
                return None
            kept.pop()
        elif name not in {b"", b"."}:
            kept.append(name)
    return None if key.rpartition(b"/")[2] in {b"", b".", b".."} else b"/".join(kept)
