"""Lines of styled text within a measure, drawn for one terminal: the only place that knows rich.

Styles are of the 16 ANSI colours, bold and dim, so that the reader's own palette decides; never black or
white, which one of the two backgrounds swallows, and never yellow, which a white one does (compilers warn
in magenta for the same reason). Text is never markup.
"""

import re
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

from vdscheck.render.safe import LONGEST_ESCAPE, harmless, to_ascii, whole

if TYPE_CHECKING:
    from rich.text import Text

LEAST_WIDTH = 20
LEAST_HEADING = 16
OUTDENT = 2
MEASURE = 104
"""The longest line that an eye finds its way back from."""
COMMAND_LIMIT = 1000

_BEFORE_UNIT = r"(?<=\d) (?=%|(?:[mun]?s|[KMGT]?i?B|CPUs?|h)\b)"
_GLUE = "_"
"""Stands for the space between a number and its unit while lines are broken."""

Span = tuple[str, str]
"""Text and its style."""


class Sheet(NamedTuple):
    """What something is drawn on."""

    width: int
    colour: bool
    utf8: bool
    height: int | None
    """None where it may be as long as it is."""
    plain: bool


class Canvas:
    """What is drawn so far; every method adds lines below."""

    def __init__(self, *, width: int, colour: bool, utf8: bool) -> None:
        from rich.console import Console

        self._utf8 = utf8
        self.measure = min(max(width, LEAST_WIDTH), MEASURE)
        self._lines: list[Text] = []
        self._last_is_blank = True
        self._target = StringIO()
        self._console = Console(
            file=self._target,
            width=self.measure,
            color_system="standard" if colour else None,
            force_terminal=colour,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
            no_color=not colour,
            _environ={},
        )

    @property
    def dot(self) -> str:
        """What stands between two parts of a line."""
        return " · " if self._utf8 else " - "

    def mark(self, *, good: bool) -> str:
        """A tick or a cross."""
        if self._utf8:
            return "✓" if good else "✗"
        return "ok" if good else "not"

    def blank(self) -> None:
        """An empty line, unless there is one already."""
        if not self._last_is_blank:
            self._lines.append(self._text(()))
            self._last_is_blank = True

    def spans(self, *spans: Span) -> None:
        """One line as it is."""
        self._add(self._text(spans))

    def prose(self, spans: Iterable[Span], *, indent: int, label: Span = ("", "")) -> None:
        """Text wrapped to the measure; the label stands in the indentation of the first line."""
        text = self._text(spans)
        lead = self._text([label, (" " * (indent - self._length([label])), "")])
        for line in self._wrapped(text, max(8, self.measure - indent)):
            self._add(lead + line)
            lead = self._text([(" " * indent, "")])

    def command(self, text: str, *, indent: int, label: str = "", style: str = "bold") -> None:
        """A command on one line, however long: broken or cut it would be another command."""
        if whole(text, COMMAND_LIMIT):
            self.spans((f"{label:<{indent}}", "bold"), (text, style))
        else:
            said = "a command that cannot be shown as it is: see --json"
            self.prose([(said, "dim")], indent=indent, label=(label, "bold"))

    def column_for(self, commands: Iterable[str], *, indent: int) -> int:
        """Where commands begin: at the left where one would not fit the line otherwise, if it fits at all."""
        longest = max((self._length([(command, "")]) for command in commands), default=0)
        return next((column for column in (indent, OUTDENT) if column + longest <= self.measure), indent)

    def flow(self, parts: Iterable[Sequence[Span]], *, indent: int = 0) -> None:
        """Parts in a row, with a dot between them; a line ends between two parts where one can."""
        line: list[Span] = []
        used = 0
        for part in parts:
            length = self._length(part)
            if line and used + 3 + length > self.measure - indent:
                self.prose(line, indent=indent)
                line, used = [], 0
            if line:
                line.append((self.dot, "dim"))
                used += 3
            line.extend(part)
            used += length
        if line:
            self.prose(line, indent=indent)

    def heading(self, label: Span, left: Sequence[Span], right: str, *, indent: int) -> None:
        """Text with a note at the right end of its first line; the note goes below where it is too narrow."""
        room = self.measure - indent - self._length([(right, "")]) - 2
        if not right or room < LEAST_HEADING:
            self.prose(left, indent=indent, label=label)
            if right:
                self.prose([(right, "dim")], indent=indent)
            return
        lead = self._text([label, (" " * (indent - self._length([label])), "")])
        for line in self._wrapped(self._text(left), room):
            if right:
                line.pad_right(room + 2 - line.cell_len)
                line.append_text(self._text([(right, "dim")]))
                right = ""
            self._add(lead + line)
            lead = self._text([(" " * indent, "")])

    def bar(self, value: int, cells: int, style: str) -> tuple[Span, Span]:
        """A bar of so many cells; full only at 100 and empty only at 0."""
        filled = round(cells * value / 100)
        filled = min(filled, cells - 1) if value < 100 else cells  # noqa: PLR2004 - per cent
        filled = max(filled, 1) if value > 0 else 0
        full, empty = ("█", "░") if self._utf8 else ("#", ".")
        return (full * filled, style), (empty * (cells - filled), "dim")

    def drawn(self) -> bytes:
        """All lines as bytes, each with its newline."""
        for line in self._lines:
            self._console.print(line, soft_wrap=True)
        return self._target.getvalue().encode("utf-8" if self._utf8 else "ascii")

    def _add(self, line: "Text") -> None:
        self._lines.append(line)
        self._last_is_blank = not line.plain

    def _wrapped(self, text: "Text", width: int) -> "list[Text]":
        """The lines of a text; a number keeps its unit, and no line is empty."""
        lines = text.divide(_breaks(re.sub(_BEFORE_UNIT, _GLUE, text.plain), width))
        for line in lines:
            line.rstrip()
        return [line for line in lines if line.plain]

    def _text(self, spans: Iterable[Span]) -> "Text":
        from rich.text import Text

        return Text.assemble(*((self._shown(text), style) for text, style in spans))

    def _shown(self, text: str) -> str:
        """The text as it is drawn; what somebody forgot to make harmless is made so here, however long it is."""
        if not text.isprintable():
            text = harmless(text, len(text) * LONGEST_ESCAPE)
        return text if self._utf8 else to_ascii(text)

    def _length(self, spans: Iterable[Span]) -> int:
        from rich.cells import cell_len

        return sum(cell_len(self._shown(text)) for text, _ in spans)


def _breaks(text: str, width: int) -> list[int]:
    """Where new lines begin. Words longer than a line are folded, addresses are not: they are to be followed."""
    from rich.cells import cell_len

    breaks: list[int] = []
    used = 0
    for found in re.finditer(r"^ +|[^ ]+ *", text):
        word = found[0]
        length = cell_len(word.rstrip(" "))
        if used and used + length > width:
            breaks.append(found.start())
            used = 0
        if length <= width or "://" in word:
            used += cell_len(word)
            continue
        for position, character in enumerate(word, start=found.start()):
            cells = cell_len(character)
            if used + cells > width:
                breaks.append(position)
                used = 0
            used += cells
    return breaks
