"""The content of the one file that the tool writes settings to: what is put in, and what is taken out again."""

from collections.abc import Iterable, Mapping

from vdscheck.fixes import settings_file
from vdscheck.fixes.settings_file import Syntax
from vdscheck.linux.sysctl_d import SettingsFile, lines_with_ends, parse
from vdscheck.plugin import Restored, safe_text

HEADER = (
    b"# Written by vdscheck --fix. To take the latest change back: vdscheck undo\n"
    b"# What stood here before, and each value that was replaced: /var/lib/vdscheck/journal/\n"
)


def says(content: bytes | None, keys: Iterable[str]) -> dict[str, str]:
    """What the content sets these keys to."""
    by_path = {_path(key): key for key in keys}
    found = {}
    for line in parse([SettingsFile("", content or b"")], None)[0]:
        if line.key in by_path and line.value is not None:
            found[by_path[line.key]] = safe_text(line.value)
    return found


def _name(path: bytes) -> str:
    return safe_text(path).replace("/", ".")


def _path(key: str) -> bytes:
    return key.replace(".", "/").encode()


def _lines(content: bytes) -> list[bytes]:
    """The lines as systemd-sysctl reads them, each with its end; the last one gets a newline where it has none."""
    return [line + (end or b"\n") for line, end in lines_with_ends(content)]


def _keys(line: bytes) -> list[bytes]:
    """The keys that a line sets, or keeps from being set, as paths."""
    return [each.key for each in parse([SettingsFile("", line)], None)[0]]


def _value(line: bytes) -> list[bytes]:
    return [word for each in parse([SettingsFile("", line)], None)[0] for word in (each.value or b"").split()]


def _line(key: str, value: str) -> bytes:
    return f"{key} = {value}\n".encode()


SYNTAX = Syntax(HEADER, _lines, _keys, _value, _line, _path, _name)


def merged(content: bytes | None, settings: Mapping[str, str]) -> bytes:
    """The content with these settings."""
    return settings_file.merged(SYNTAX, content, settings)


def restored(now: bytes | None, before: bytes | None, after: bytes) -> Restored:
    """What the content was before, three-way."""
    return settings_file.restored(SYNTAX, now, before, after)
