"""The content of the one file that the tool writes settings to: what is put in, and what is taken out again."""

from collections.abc import Iterable, Mapping

from vdscheck.model import frozen
from vdscheck.probes.sysctl_d import SettingsFile, parse
from vdscheck.target import safe_text

HEADER = (
    b"# Written by vdscheck --fix. To take the latest change back: vdscheck undo\n"
    b"# What stood here before, and each value that was replaced: /var/lib/vdscheck/journal/\n"
)


@frozen
class Restored:
    """The content without what was put in; None where nothing is left of the file."""

    content: bytes | None
    kept: tuple[str, ...]
    """The keys whose lines somebody changed since: they stay."""


def merged(content: bytes | None, settings: Mapping[str, str]) -> bytes:
    """The content with these settings: a line that sets one of the keys is replaced, what has none is added."""
    lines = _lines(content or b"")
    wanted = {_path(key): f"{key} = {value}\n".encode() for key, value in settings.items()}
    kept: list[bytes] = []
    for line in lines:
        ours = [key for key in _keys(line) if key in wanted]
        if not ours:
            kept.append(line)
    text = b"".join(kept)
    if HEADER not in text:
        text = HEADER + text
    return text + b"".join(wanted.values())


def restored(now: bytes | None, before: bytes | None, after: bytes) -> Restored:
    """What the content was before, three-way: what was added or changed since we wrote it stays."""
    if now in (after, before):
        return Restored(before, ())
    ours = {key: line for line in _lines(after) for key in _keys(line)}
    old = {key: line for line in _lines(before or b"") for key in _keys(line)}
    changed = {key for key, line in ours.items() if old.get(key) != line}
    if now is None:
        return Restored(None, tuple(map(_name, sorted(changed & old.keys()))))
    kept: list[bytes] = []
    left: list[bytes] = []
    for line in _lines(now):
        key = next((each for each in _keys(line) if each in changed), None)
        if key is None:
            kept.append(line)
        elif _value(line) == _value(ours[key]):
            kept.append(old.get(key, b""))
        elif _value(line) == _value(old.get(key, b"")):
            kept.append(line)
        else:
            kept.append(line)
            left.append(key)
    text = b"".join(kept)
    if before is None or HEADER not in before:
        text = text.replace(HEADER, b"")
    empty = before is None and not text.strip()
    return Restored(None if empty else text, tuple(map(_name, left)))


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
    """The lines, each with its newline."""
    return [line + b"\n" for line in content.removesuffix(b"\n").split(b"\n")] if content else []


def _keys(line: bytes) -> list[bytes]:
    """The keys that a line sets, or keeps from being set, as paths."""
    return [each.key for each in parse([SettingsFile("", line)], None)[0]]


def _value(line: bytes) -> list[bytes]:
    return [word for each in parse([SettingsFile("", line)], None)[0] for word in (each.value or b"").split()]
