"""A file of settings, a line each: what is put in, and what is taken out again, whatever else stands in it."""

from collections.abc import Callable, Mapping
from functools import cache

from vdscheck.plugin import Restored, frozen


@frozen
class Syntax:
    """How the lines of a file are written and read."""

    header: bytes
    """What stands above all, where the file is ours alone."""
    lines: Callable[[bytes], list[bytes]]
    """The lines of a content, each with its end."""
    keys: Callable[[bytes], list[bytes]]
    """What a line sets, or keeps from being set, each as `path` writes it."""
    value: Callable[[bytes], list[bytes]]
    """What a line sets it to, in words."""
    line: Callable[[str, str], bytes]
    """The line for a key and a value."""
    path: Callable[[str], bytes]
    """A key as the lines have it."""
    name: Callable[[bytes], str]
    """The other way round."""


def merged(syntax: Syntax, content: bytes | None, settings: Mapping[str, str]) -> bytes:
    """The content with these settings: a line that sets one of the keys is replaced, what has none is added."""
    wanted = {syntax.path(key): syntax.line(key, value) for key, value in settings.items()}
    keys = cache(syntax.keys)
    kept = [line for line in syntax.lines(content or b"") if not any(key in wanted for key in keys(line))]
    text = b"".join(kept)
    if syntax.header not in text:
        text = syntax.header + text
    return text + b"".join(wanted.values())


def restored(syntax: Syntax, now: bytes | None, before: bytes | None, after: bytes) -> Restored:
    """What the content was before, three-way: what was added or changed since it was written (`after`) stays."""
    if now in (after, before):
        return Restored(before, ())
    keys, value = cache(syntax.keys), cache(syntax.value)  # each line is read once, however often it is there
    ours = {key: line for line in syntax.lines(after) for key in keys(line)}
    old = {key: line for line in syntax.lines(before or b"") for key in keys(line)}
    changed = {key for key, line in ours.items() if old.get(key) != line}
    if now is None:
        return Restored(None, tuple(map(syntax.name, sorted(changed & old.keys()))))
    kept: list[bytes] = []
    left: list[bytes] = []
    taken: set[bytes] = set()
    """The keys whose line, which is the only one that we wrote, was met: any other one is somebody else's."""
    for line in syntax.lines(now):
        key = next((each for each in keys(line) if each in changed), None)
        if key is None:
            kept.append(line)
        elif value(line) == value(ours[key]) and key not in taken:
            taken.add(key)
            kept.append(old.get(key, b""))
        elif value(line) == value(old.get(key, b"")):
            kept.append(line)
        else:
            kept.append(line)
            left.append(key)
    text = b"".join(kept)
    if before is None or syntax.header not in before:
        text = text.replace(syntax.header, b"")
    empty = before is None and not text.strip()
    return Restored(None if empty else text, tuple(map(syntax.name, left)))
