"""The journal: what each fix replaced, written before anything is changed, so that it can be given back."""

import fcntl
import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from vdscheck.codec import CodecError, decode, indented
from vdscheck.files import File, FixError, Folder, NotAFileError, made, opened
from vdscheck.model import frozen, named
from vdscheck.target import Host, safe_text

FOLDER = "/var/lib/vdscheck/journal"
FORMAT = 1
MODE = 0o644

State = Literal["begun", "held", "undoing", "undone", "given-back"]
UNFINISHED = ("begun", "undoing")

_NAME = r"([0-9]{8}-[0-9]{1,6})\.json"


class JournalError(FixError):
    """The journal cannot be used; one line: which entry, why, what to do."""


@frozen
class Replaced:
    """One setting as it was before a fix, and as the fix left it."""

    key: str
    before: str | None
    """The value of the running kernel; None where none was examined."""
    at_boot: str | None
    """What the next boot gave; None where that was not known."""
    wanted: str
    now: bool
    """Whether the running kernel's value was changed."""
    in_file: bool
    """Whether a line for it was written."""


@frozen
class DropIn:
    """The content of our file, as text whose characters are its bytes (Latin-1), with its mode and owner."""

    content: str
    mode: int
    uid: int
    gid: int

    @classmethod
    def of(cls, file: File) -> "DropIn":
        """A file as an entry keeps it."""
        return cls(file.content.decode("latin-1"), file.mode, file.uid, file.gid)

    def file(self) -> File:
        """The file that was kept."""
        return File(self.content.encode("latin-1"), self.mode, self.uid, self.gid)


@named
class Entry:
    """One fix, from its beginning to where it stands."""

    format: int
    id: str
    number: int
    """The entries in the order in which they were made, whatever the clock said."""
    state: State
    version: str
    """Of the program that wrote it."""
    at: str
    boot_id: str | None
    """The boot in which it was made; None of one under --root."""
    settings: tuple[Replaced, ...]
    file_before: DropIn | None
    """Our file as it was; None where it was not there."""
    file_after: DropIn | None
    """Our file as it was written; None where it was not touched."""
    folders: tuple[str, ...]
    """The folders that were made for it."""


@frozen
class _Format:
    format: int


class Journal:
    """The entries on disk, of a host or below its root."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    @classmethod
    def opened(cls, host: Host) -> "Journal | None":
        """The journal of a host; None where it has none. Raises JournalError."""
        return cls._of(host, lambda: opened(host, FOLDER))

    @classmethod
    def made(cls, host: Host) -> "Journal":
        """The journal of a host, begun where it has none. Raises JournalError."""
        journal = cls._of(host, lambda: made(host, FOLDER)[0])
        assert journal is not None  # noqa: S101 - it was made
        return journal

    @classmethod
    def _of(cls, host: Host, get: Callable[[], Folder | None]) -> "Journal | None":
        try:
            folder = get()
            above = opened(host, FOLDER.rpartition("/")[0])
        except OSError as error:
            message = f"the journal {FOLDER} cannot be opened: {error.strerror}"
            raise JournalError(message) from error
        statuses = [each.status() for each in (folder, above) if each is not None]
        if above is not None:
            above.close()
        if folder is None:
            return None
        why = next(filter(None, map(_others, statuses)), None)
        if why is not None:
            folder.close()
            message = f"the journal {FOLDER} {why}: it is not trusted; make it root's alone, or move it away"
            raise JournalError(message)
        return cls(folder)

    def close(self) -> None:
        """Let go of it, and of the lock."""
        self._folder.close()

    def lock(self) -> None:
        """Keep others out until it is closed. Raises JournalError where another holds it."""
        try:
            fcntl.flock(self._folder.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = "another vdscheck is changing this host: wait until it has ended"
            raise JournalError(message) from error
        except OSError as error:
            message = f"the journal {FOLDER} cannot be locked: {error.strerror}"
            raise JournalError(message) from error

    def entries(self) -> list[Entry]:
        """All entries, the first one first. Raises JournalError for one that cannot be trusted."""
        try:
            found = [self._entry(name, match[1]) for name, match in self._named()]
        except OSError as error:
            message = f"the journal {FOLDER} cannot be read: {error.strerror}"
            raise JournalError(message) from error
        return sorted(found, key=lambda entry: entry.number)

    def unfinished(self) -> Entry | None:
        """The entry of a fix, or of an undo, that was ended in the middle. Raises JournalError."""
        return next((entry for entry in reversed(self.entries()) if entry.state in UNFINISHED), None)

    def latest(self) -> Entry | None:
        """The entry that an undo would give back. Raises JournalError."""
        open_states = (*UNFINISHED, "held")
        return next((entry for entry in reversed(self.entries()) if entry.state in open_states), None)

    def begin(self, make: Callable[[str, int], Entry], day: str) -> Entry:
        """Write a new entry; `make` gets its id and number. Raises JournalError."""
        entries = self.entries()
        today = [int(entry.id.partition("-")[2]) for entry in entries if entry.id.startswith(f"{day}-")]
        number = max((entry.number for entry in entries), default=0) + 1
        entry = make(f"{day}-{max(today, default=0) + 1}", number)
        self._write(entry)
        return entry

    def advance(self, entry: Entry, state: State) -> Entry:
        """Write that an entry has come to another state. Raises JournalError."""
        further = replace(entry, state=state)
        self._write(further)
        return further

    def _write(self, entry: Entry) -> None:
        try:
            self._folder.write(f"{entry.id}.json", File(indented(entry), MODE, os.geteuid(), os.getegid()))
        except OSError as error:
            message = f"the journal {FOLDER} cannot be written: {error.strerror}"
            raise JournalError(message) from error

    def _named(self) -> list[tuple[str, re.Match[str]]]:
        matched = ((name, re.fullmatch(_NAME, name)) for name in self._folder.names())
        return [(name, match) for name, match in matched if match is not None]

    def _entry(self, name: str, entry_id: str) -> Entry:
        where = f"{FOLDER}/{name}"
        try:
            file = self._folder.file(name)
        except NotAFileError as error:
            raise JournalError(str(error)) from error
        if file is None:
            message = f"{where} has gone meanwhile"
            raise JournalError(message)
        if file.uid not in (0, os.geteuid()) or file.mode & 0o022:
            message = f"{where} is not root's alone: it is not trusted; look at it, and move it away"
            raise JournalError(message)
        try:
            version = decode(file.content, _Format).format
            if version != FORMAT:
                message = (
                    f"{where} has format {version}, and this version reads {FORMAT}: use the vdscheck that wrote it"
                )
                raise JournalError(message)
            entry = decode(file.content, Entry)
        except CodecError as error:
            message = f"{where} is damaged ({safe_text(str(error))[:100]}): look at it, and move it away"
            raise JournalError(message) from error
        if entry.id != entry_id:
            message = f"{where} says that it is {entry.id[:40]!r}: look at it, and move it away"
            raise JournalError(message)
        return entry


def _others(status: os.stat_result) -> str | None:
    """Why a folder could have been filled by somebody else."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}"
    if stat.S_IMODE(status.st_mode) & 0o022:
        return "can be written by others"
    return None


def unfinished(host: Host) -> str | None:
    """What a run of any kind says of a fix, or an undo, that was ended in the middle."""
    try:
        journal = Journal.opened(host)
        if journal is None:
            return None
        try:
            entry = journal.unfinished()
        finally:
            journal.close()
    except FixError as error:
        return str(error)
    if entry is None:
        return None
    what = "an undo" if entry.state == "undoing" else "a fix"
    return f"{what} was ended in the middle (journal entry {entry.id}): vdscheck undo or vdscheck --fix gives it back"
