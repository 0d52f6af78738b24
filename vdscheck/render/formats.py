"""The formats of a report by name, and how standard output and standard error can be drawn on."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field

from vdscheck.codec import encode
from vdscheck.fix_kind import FixKind
from vdscheck.model.fixes import FixRecord
from vdscheck.model.records import frozen
from vdscheck.model.report import Report
from vdscheck.model.tables import Shown
from vdscheck.process.streams import to_stderr
from vdscheck.render.safe import harmless, json_document
from vdscheck.target.secrets import hide_addresses
from vdscheck.target.text import safe_text

LINE_LIMIT = 2000


@frozen
class Terminal:
    """What the text of a report is drawn on."""

    width: int = 80
    colour: bool = False
    utf8: bool = True
    verbose: bool = False
    quiet: bool = False
    instrument: Callable[[Report], Shown | None] | None = None
    """Where one instrument is shown alone: what a view makes of its report, if it has one."""
    kinds: Mapping[str, FixKind] = field(default_factory=dict)
    """The kinds of fix that a plan may hold."""
    plain: bool = False
    """Whether it is text to be pasted elsewhere: nothing side by side."""

    @classmethod
    def of(cls, environment: Mapping[str, str], *, no_color: bool, verbose: bool, quiet: bool) -> "Terminal":
        """Standard output as it is: a terminal with its width and colours, or a pipe without."""
        is_terminal = os.isatty(1)
        dumb = environment.get("TERM", "dumb") == "dumb"
        plain = no_color or bool(environment.get("NO_COLOR")) or dumb or not is_terminal
        width = _columns(environment) if is_terminal else 80
        return cls(width, not plain, _utf8(environment), verbose, quiet)


def _columns(environment: Mapping[str, str]) -> int:
    """The width of the terminal: COLUMNS, where it is set to a number, or what the kernel says."""
    said = environment.get("COLUMNS", "")
    if said.isascii() and said.isdecimal() and int(said[:6]) > 0:
        return int(said[:6])
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _utf8(environment: Mapping[str, str]) -> bool:
    """Whether the locale says UTF-8, by the variable that counts (POSIX: LC_ALL, LC_CTYPE, LANG)."""
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    return "utf-8" in locale.lower() or "utf8" in locale.lower()


def prepare(names: Iterable[str]) -> None:
    """Import what some formats need, at a time that costs nothing."""
    if "text" in names:
        from vdscheck.render.text import report  # noqa: F401


def document(value: object) -> bytes:
    """Any of our values as one JSON document in one line, harmless on a terminal as well."""
    return json_document(encode(value)) + b"\n"


def frame(report: Report, terminal: Terminal, width: int, height: int) -> bytes:
    """One instrument as it stands, for a terminal of that size."""
    from vdscheck.render.text.instrument import instrument

    shown = None if terminal.instrument is None else terminal.instrument(report)
    return instrument(report, shown, width=width, colour=terminal.colour, utf8=terminal.utf8, height=height)


def _text(report: Report, terminal: Terminal) -> bytes:
    if terminal.instrument is not None:
        from vdscheck.render.text.instrument import instrument

        return instrument(
            report,
            terminal.instrument(report),
            width=terminal.width,
            colour=terminal.colour,
            utf8=terminal.utf8,
            plain=terminal.plain,
        )
    from vdscheck.render.text.report import terminal as drawn

    return drawn(
        report,
        width=terminal.width,
        colour=terminal.colour,
        utf8=terminal.utf8,
        verbose=terminal.verbose,
        quiet=terminal.quiet,
    )


def _json(report: Report, _terminal: Terminal) -> bytes:
    return document(report)


def _sh(report: Report, terminal: Terminal) -> bytes:
    from vdscheck.render.shell import script

    return script(report, terminal.kinds)


def plan(record: FixRecord, terminal: Terminal) -> bytes:
    """A plan as it is shown before the question."""
    from vdscheck.render.text.fix import fix_text

    return fix_text(record, width=terminal.width, colour=terminal.colour, utf8=terminal.utf8)


FORMATS: Mapping[str, Callable[[Report, Terminal], bytes]] = {"text": _text, "json": _json, "sh": _sh}


def say(line: str) -> None:
    """One line on standard error; text from outside in it is made harmless."""
    to_stderr(harmless(safe_text(hide_addresses(line)), LINE_LIMIT) + "\n")


def show(drawn: bytes) -> None:
    """What is drawn already, on standard error."""
    to_stderr(drawn.decode())
