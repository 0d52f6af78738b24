"""Text from outside made harmless: nothing in it acts on a terminal or hides from a reader."""

import re
import unicodedata
from collections.abc import Iterator

LIMIT = 600
LONGEST_ESCAPE = len(r"\U0010ffff")
_ACTING = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Unicode categories that are not shown as they are: controls, direction marks, surrogates, unassigned, separators."""

_MARKS = frozenset(("Mn", "Me"))
_MARKS_IN_A_ROW = 2
"""Marks that a letter may carry; more of them would be drawn over the lines above and below."""

_INVISIBLE = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0100, 0xE01EF),
)
"""Letters and marks that are drawn as nothing: Default_Ignorable_Code_Point in Unicode's DerivedCoreProperties.txt."""

_BEYOND_ASCII = re.compile("[\x7f-\U0010ffff]+")

_ASCII = {
    0x00A0: " ",
    0x00B5: "u",
    0x00B7: "-",
    0x00D7: "x",
    0x2013: "-",
    0x2014: "-",
    0x2018: "'",
    0x2019: "'",
    0x201C: '"',
    0x201D: '"',
    0x2026: "...",
    0x202F: " ",
    0x2192: "->",
    0x2264: "<=",
    0x2265: ">=",
    0x2588: "#",
    0x2591: ".",
    0x03BC: "u",
}
"""How our own signs are written where the terminal knows only ASCII."""


def harmless(text: str, limit: int = LIMIT) -> str:
    r"""The text with every character that acts shown as its escape, and no longer than the limit.

    Newlines, terminal escapes, direction marks and zero-width characters are written as `\n`, `\x1b`,
    `\u202e`; what is cut off ends in an ellipsis. Sources: Unicode Standard Annex #9 (direction marks);
    Unicode Technical Report #36 (what is not seen).
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    shown = [_escape(character) if acts else character for character, acts in _sorted_out(text[: limit + 1])]
    if sum(map(len, shown)) <= limit:
        return "".join(shown)
    return _cut(shown, max(0, limit - 1)) + "…"


def json_document(encoded: bytes) -> bytes:
    r"""A JSON document (UTF-8) in which every character that acts is written as `\uXXXX`.

    It decodes to the same text, so it is the same on a terminal and in a file.
    """
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return _BEYOND_ASCII.sub(_escaped_in_json, encoded.decode()).encode()


def ascii_line(text: str, limit: int) -> str:
    """The text made harmless in ASCII and no longer than the limit; what is cut off ends in three dots."""
    pieces = [to_ascii(_escape(character) if acts else character) for character, acts in _sorted_out(text[: limit + 1])]
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    return _cut(pieces, max(0, limit - 3)) + "..."[:limit]


def _escaped_in_json(found: re.Match[str]) -> str:
    # What stands before it in its string bears its first mark; a quotation mark does not.
    alone = found.string[found.start() - 1 : found.start()] == '"'
    sorted_out = _sorted_out(found[0], alone=alone)
    return "".join(_code_units(character) if acts else character for character, acts in sorted_out)


def _code_units(character: str) -> str:
    r"""A character as JSON escapes it (RFC 8259, section 7): beyond U+FFFF as a pair."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def whole(text: str, limit: int) -> bool:
    """Whether `harmless` leaves the text as it is: only then is a command what it seems to be."""
    return harmless(text, limit) == text


def to_ascii(text: str) -> str:
    """The text in ASCII: our own signs by their nearest, all else by its escape."""
    if text.isascii():
        return text
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def _sorted_out(text: str, *, alone: bool = True) -> Iterator[tuple[str, bool]]:
    """Each character, and whether it acts, hides or is drawn over others; `alone`: nothing stands before the first."""
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in _MARKS else 0
        over = marks > _MARKS_IN_A_ROW or (marks and alone)
        yield character, bool(category in _ACTING or over or _invisible(character))
        alone = False


def _invisible(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _INVISIBLE)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(pieces: list[str], length: int) -> str:
    """As many whole pieces as the length holds: half an escape would look like text."""
    kept: list[str] = []
    for piece in pieces:
        length -= len(piece)
        if length < 0:
            break
        kept.append(piece)
    return "".join(kept)
