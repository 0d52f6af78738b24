"""Whether a glob of a sysctl.d line matches a key, as glob(3) of the GNU C library decides it."""

from collections.abc import Iterator

MAGIC = b"*?["
"""What makes systemd-sysctl and procps take a key for a glob; braces alone do not."""

ALTERNATIVES_LIMIT = 1024
"""A key with more alternatives in braces than this is taken to match nothing."""

_CLASSES = {
    b"alpha": frozenset(range(65, 91)) | frozenset(range(97, 123)),
    b"digit": frozenset(range(48, 58)),
    b"alnum": frozenset(range(48, 58)) | frozenset(range(65, 91)) | frozenset(range(97, 123)),
    b"lower": frozenset(range(97, 123)),
    b"upper": frozenset(range(65, 91)),
    b"xdigit": frozenset(b"0123456789abcdefABCDEF"),
    b"punct": frozenset(b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    b"space": frozenset(b" \t\n\v\f\r"),
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset(range(32)) | {127},
    b"graph": frozenset(range(33, 127)),
    b"print": frozenset(range(32, 127)),
}
"""The character classes of the C locale, which is what programs run in at boot."""

_EVERY = frozenset(range(256))

Token = frozenset[int] | None
"""The bytes that may stand at one place; None is `*`."""


def is_glob(key: bytes) -> bool:
    """Whether a key is matched against what exists, not taken as it stands."""
    return any(mark in key for mark in MAGIC)


def compiled(pattern: bytes, *, braces: bool) -> tuple[tuple["Component", ...], ...]:
    """The alternatives of a pattern below /proc/sys, each as its components."""
    alternatives = list(_expanded(pattern)) if braces else [pattern]
    return tuple(tuple(Component(part) for part in each.split(b"/")) for each in alternatives)


def matches(alternatives: tuple[tuple["Component", ...], ...], key: bytes) -> bool:
    """Whether a key, as a path below /proc/sys, is among those that a pattern gives."""
    names = key.split(b"/")
    return any(
        len(parts) == len(names) and all(part.matches(name) for part, name in zip(parts, names, strict=True))
        for parts in alternatives
    )


class Component:
    """One name of a pattern."""

    def __init__(self, pattern: bytes) -> None:
        self._tokens = list(_tokens(pattern))
        self._takes_hidden = pattern.startswith((b".", b"\\."))

    def matches(self, name: bytes) -> bool:
        """Whether a name matches; a leading dot must stand in the pattern."""
        if name.startswith(b".") and not self._takes_hidden:
            return False
        return _match(self._tokens, name)


def _match(tokens: list[Token], name: bytes) -> bool:
    """Match with one step back per `*`: no pattern makes it take longer than tokens times bytes."""
    at, place = 0, 0
    star: tuple[int, int] | None = None
    while at < len(name):
        if place < len(tokens):
            token = tokens[place]
            if token is None:
                star = (place, at)
                place += 1
                continue
            if name[at] in token:
                at, place = at + 1, place + 1
                continue
        if star is None:
            return False
        star = (star[0], star[1] + 1)
        place, at = star[0] + 1, star[1]
    return all(token is None for token in tokens[place:])


def _tokens(pattern: bytes) -> Iterator[Token]:
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            yield None
        elif byte == b"?":
            yield _EVERY
        elif byte == b"[" and (found := _bracket(pattern, at)) is not None:
            allowed, at = found
            yield allowed
        elif byte == b"\\" and at < len(pattern):
            yield frozenset(pattern[at : at + 1])
            at += 1
        else:
            yield frozenset(byte)


def _bracket(pattern: bytes, at: int) -> tuple[frozenset[int], int] | None:
    """The bytes of a bracket expression and where it ends; None where it does not end."""
    negated = pattern[at : at + 1] in {b"!", b"^"}
    at += negated
    allowed: set[int] = set()
    first = True
    while at < len(pattern):
        if pattern[at : at + 1] == b"]" and not first:
            return (_EVERY - allowed if negated else frozenset(allowed)), at + 1
        first = False
        if pattern[at : at + 2] == b"[:" and (end := pattern.find(b":]", at + 2)) >= 0:
            allowed |= _CLASSES.get(pattern[at + 2 : end], frozenset())
            at = end + 2
            continue
        low, at = _bracket_byte(pattern, at)
        if low is None:
            return None
        high = low
        if pattern[at : at + 1] == b"-" and pattern[at + 1 : at + 2] not in {b"]", b""}:
            last, at = _bracket_byte(pattern, at + 1)
            if last is None:
                return None
            high = last
        allowed |= set(range(low, high + 1))
    return None


def _bracket_byte(pattern: bytes, at: int) -> tuple[int | None, int]:
    """One byte inside brackets, with its backslash."""
    if pattern[at : at + 1] == b"\\":
        at += 1
    return (pattern[at], at + 1) if at < len(pattern) else (None, at)


def _expanded(pattern: bytes) -> Iterator[bytes]:
    """The alternatives of `{a,b}`, from the left; nothing where there are absurdly many."""
    waiting = [pattern]
    found: list[bytes] = []
    while waiting:
        if len(waiting) + len(found) > ALTERNATIVES_LIMIT:
            return
        each = waiting.pop()
        alternatives = _first_brace(each)
        if alternatives is None:
            found.append(each)
        else:
            waiting += alternatives
    yield from found


def _first_brace(pattern: bytes) -> list[bytes] | None:
    """The pattern with its first brace expression replaced by each alternative; None where it has none."""
    begin = _find_brace(pattern)
    if begin is None:
        return None
    parts: list[bytes] = []
    at = begin + 1
    while True:
        end = _end_of_alternative(pattern, at)
        if end is None:
            return None
        parts.append(pattern[at:end])
        at = end + 1
        if pattern[end : end + 1] == b"}":
            return [pattern[:begin] + part + pattern[at:] for part in parts]


def _find_brace(pattern: bytes) -> int | None:
    at = 0
    while at < len(pattern):
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
        elif pattern[at : at + 1] == b"{":
            return at
        at += 1
    return None


def _end_of_alternative(pattern: bytes, at: int) -> int | None:
    depth = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        if byte == b"\\":
            at += 2
            continue
        if depth == 0 and byte in {b",", b"}"}:
            return at
        depth += (byte == b"{") - (byte == b"}")
        at += 1
    return None
