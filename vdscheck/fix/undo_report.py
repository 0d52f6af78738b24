"""What `vdscheck undo` did and what the journal holds: one document each, for programs and for people."""

from collections.abc import Iterable, Iterator
from typing import Literal

from vdscheck.model.records import frozen, named
from vdscheck.model.report import SCHEMA_VERSION, Tool
from vdscheck.render.safe import harmless

KEYS_SHOWN = 4
LINE_LIMIT = 1000


@frozen
class UndoChange:
    """One setting that a fix had set, and what an undo made of it."""

    kind: str
    key: str
    file: str | None
    """The file that the fix wrote a line for it to; None where it set the running system alone."""
    before: str | None
    """What it was before the fix; None where no running system was examined."""
    found: str | None
    """What it was when the undo began; None where no running system is examined, or it cannot be read."""
    given_back: bool
    """Whether nothing of the fix is left of it, now and at the next boot as far as that was seen."""
    after_boot: str | None
    """What it will be after the next boot; None where that is not known."""
    why: str


@named
class UndoNote:
    """What came of an undo."""

    entry: str | None
    """The journal entry; None where there was none to give back, or it was refused before one was chosen."""
    outcome: Literal["given-back", "left", "nothing-to-do", "refused"]
    """`left`: something of the fix stays, and `changes` says what and why."""
    detail: str
    """Why it came so, where that is not plain; else empty."""
    changes: tuple[UndoChange, ...]


@named
class UndoReport:
    """What `vdscheck undo --json` prints."""

    schema_version: int
    tool: Tool
    undo: UndoNote
    warnings: tuple[str, ...]


@frozen
class JournalChange:
    """One setting in a journal entry."""

    kind: str
    key: str
    before: str | None
    at_boot: str | None
    """What the next boot gave before the fix; None where that was not known."""
    wanted: str


@named
class JournalEntry:
    """One fix, as the list of the journal tells it."""

    entry: str
    state: Literal["begun", "held", "undoing", "undone", "given-back"]
    at: str
    version: str
    """Of the program that wrote it."""
    changes: tuple[JournalChange, ...]


@frozen
class DamagedEntry:
    """A journal entry that cannot be read, or not be trusted."""

    entry: str
    why: str


@named
class JournalNote:
    """What the journal holds."""

    folder: str
    entries: tuple[JournalEntry, ...]
    """The latest first."""
    damaged: tuple[DamagedEntry, ...]
    detail: str
    """Why it could not be read; else empty."""


@named
class JournalReport:
    """What `vdscheck undo --list --json` prints."""

    schema_version: int
    tool: Tool
    journal: JournalNote
    warnings: tuple[str, ...]


DOCUMENTS = (UndoReport, JournalReport)


def undo_report(note: UndoNote, version: str, warnings: Iterable[str] = ()) -> UndoReport:
    """The document of an undo."""
    return UndoReport(
        schema_version=SCHEMA_VERSION, tool=Tool("vdscheck", version), undo=note, warnings=tuple(warnings)
    )


def journal_report(note: JournalNote, version: str) -> JournalReport:
    """The document of a journal."""
    return JournalReport(schema_version=SCHEMA_VERSION, tool=Tool("vdscheck", version), journal=note, warnings=())


# As people read it


def undo_text(note: UndoNote, at: str | None) -> bytes:
    """An undo as lines; `at` is when the fix was made."""
    return _lines(_undo_lines(note, at))


def _undo_lines(note: UndoNote, at: str | None) -> Iterator[str]:
    if note.entry is None:
        yield note.detail
        return
    much = "all of it is" if note.outcome == "given-back" else "not all of it is"
    yield f"journal entry {note.entry}{f' of {at}' if at else ''}: {much} given back"
    for each in note.changes:
        yield f"  {each.key}: {each.why}"


def journal_text(note: JournalNote) -> bytes:
    """A journal as lines, one an entry."""
    return _lines(_journal_lines(note))


def _journal_lines(note: JournalNote) -> Iterator[str]:
    if not note.entries and not note.damaged:
        yield f"the journal is empty ({note.folder})"
    for entry in note.entries:
        changes = [f"{each.key} {each.before or each.at_boot or '?'} -> {each.wanted}" for each in entry.changes]
        more = len(changes) - KEYS_SHOWN
        said = ", ".join(changes[:KEYS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        yield f"{entry.entry:<12}  {entry.state:<10}  {entry.at}  {said}"
    for damaged in note.damaged:
        yield f"{damaged.entry:<12}  damaged     {damaged.why}"


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{harmless(line, LINE_LIMIT)}\n" for line in lines).encode()
