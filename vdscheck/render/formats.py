"""The formats of a report that are the program's own, and lines on standard error."""

from collections.abc import Iterable, Mapping

from vdscheck.codec import encode
from vdscheck.model.fixes import FixRecord
from vdscheck.model.report import Report
from vdscheck.plugin import Format, Terminal
from vdscheck.process.streams import to_stderr
from vdscheck.render.safe import harmless, json_document
from vdscheck.target.secrets import hide_addresses
from vdscheck.target.text import safe_text

LINE_LIMIT = 2000


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


OURS = (Format("text", _text), Format("json", _json), Format("sh", _sh, plans=True))
FORMATS: Mapping[str, Format] = {each.name: each for each in OURS}


def say(line: str) -> None:
    """One line on standard error; text from outside in it is made harmless."""
    to_stderr(harmless(safe_text(hide_addresses(line)), LINE_LIMIT) + "\n")


def show(drawn: bytes) -> None:
    """What is drawn already, on standard error."""
    to_stderr(drawn.decode())
