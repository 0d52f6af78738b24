"""The journal: what each fix replaced, written before anything is changed, so that it can be given back."""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from vdscheck import lock
from vdscheck.codec import CodecError, decode, indented
from vdscheck.files import (
    LIMIT_BYTES,
    File,
    FixError,
    Folder,
    NoRoomError,
    NotAFileError,
    OthersError,
    made,
    opened,
    refused,
)
from vdscheck.model import DROP_IN_FOLDER, SETTING_KEY, frozen, named
from vdscheck.target import Host, safe_text

FOLDER = "/var/lib/vdscheck/journal"
FORMAT = 1
MODE = 0o644

State = Literal["begun", "held", "undoing", "undone", "given-back"]
UNFINISHED = ("begun", "undoing")
OPEN = (*UNFINISHED, "held")
"""The states of an entry that can be given back."""

VALUE_LIMIT = 1 << 16
"""Characters of a setting: more than any file of /proc/sys gives at once."""
WORD_LIMIT = 64
NUMBER_LIMIT = 10**9
_NOBODY = 2**32 - 1
"""The user id that stands for none (chown(2))."""
_CLOSED = rb'^\s*\{\s*"format":\s*1,[^{}\[\]]*"state":\s*"(undone|given-back)"'

_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
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

    def __post_init__(self) -> None:
        """Refuse what no fix writes."""
        _refuse_unless(re.fullmatch(SETTING_KEY, self.key) is not None, f"{self.key[:WORD_LIMIT]!r} is no key")
        for value in (self.before, self.at_boot, self.wanted):
            bad = value is not None and (len(value) > VALUE_LIMIT or re.search("[\0\r\n]", value))
            _refuse_unless(not bad, f"what is said of {self.key} is no value of a setting")


@frozen
class DropIn:
    """The content of our file, as text whose characters are its bytes (Latin-1), with its mode and owner."""

    content: str
    mode: int
    uid: int
    gid: int

    def __post_init__(self) -> None:
        """Refuse what no file has."""
        _refuse_unless(len(self.content) <= LIMIT_BYTES, "the content of a file is too large")
        _refuse_unless(
            max(self.content, default="") <= "\xff", "the content of a file has characters that are no bytes"
        )
        _refuse_unless(self.mode & 0o7777 == self.mode, f"{self.mode} is no mode of a file")
        _refuse_unless(0 <= self.uid < _NOBODY and 0 <= self.gid < _NOBODY, "a file has no such owner")

    @classmethod
    def of(cls, file: File) -> "DropIn":
        """A file as an entry keeps it."""
        return cls(file.content.decode("latin-1"), file.mode & 0o777, file.uid, file.gid)

    def file(self) -> File:
        """The file that was kept, as it may be put back: nobody but root and ourselves is to write it."""
        ours = self.uid in (0, os.geteuid())
        uid, gid = (self.uid, self.gid) if ours else (os.geteuid(), os.getegid())
        return File(self.content.encode("latin-1"), self.mode & 0o755, uid, gid)


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
    """The boot in which it was made, and behind a blank the network namespace; None of one under --root."""
    settings: tuple[Replaced, ...]
    file_before: DropIn | None
    """Our file as it was; None where it was not there."""
    file_after: DropIn | None
    """Our file as it was written; None where it was not touched."""
    folders: tuple[str, ...]
    """The folders that were made for it."""

    def __post_init__(self) -> None:
        """Refuse what no fix writes."""
        _refuse_unless(0 < self.number <= NUMBER_LIMIT, f"{self.number} is no number of an entry")
        for word in (self.id, self.version, self.at, self.boot_id or ""):
            _refuse_unless(len(word) <= WORD_LIMIT and word.isprintable(), "a word in it is too long, or no word")
        _refuse_unless(re.fullmatch(_TIME, self.at) is not None, f"{self.at!r} is no time")
        _refuse_unless(len(set(self.keys)) == len(self.settings), "it has a key twice")
        _refuse_unless(set(self.folders) <= {DROP_IN_FOLDER}, "it names a folder that no fix makes")

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that it replaced."""
        return tuple(each.key for each in self.settings)


def _refuse_unless(holds: bool, why: str) -> None:  # noqa: FBT001 - a condition reads best first
    if not holds:
        raise ValueError(why)


@frozen
class Damaged:
    """An entry that cannot be read, or not be trusted."""

    id: str
    why: str
    """One line: which file, what is wrong, what to do."""
    closed: bool
    """Whether it still says that it was given back: then nothing of it is left to do."""


@frozen
class Contents:
    """All that a journal holds."""

    entries: tuple[Entry, ...]
    """Those that can be read, the first one first."""
    damaged: tuple[Damaged, ...]

    @property
    def latest(self) -> Entry | None:
        """The entry that an undo would give back."""
        return next((entry for entry in reversed(self.entries) if entry.state in OPEN), None)

    @property
    def unfinished(self) -> Entry | None:
        """The entry of a fix, or of an undo, that was ended in the middle."""
        return next((entry for entry in reversed(self.entries) if entry.state in UNFINISHED), None)

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What is to be said of the damaged entries, where none is in the way."""
        return tuple(f"passed over: {each.why}" for each in self.damaged)

    @property
    def in_the_way(self) -> Damaged | None:
        """A damaged entry that may be half done, or the next to be undone.

        One that was given back is not, nor one that is older than an entry which holds: that fix was begun
        when the older one was finished, and is undone before it.
        """
        latest = self.latest
        return next(
            (
                each
                for each in self.damaged
                if not each.closed and (latest is None or _order(each.id) > _order(latest.id))
            ),
            None,
        )


def _order(entry_id: str) -> tuple[int, int]:
    day, _, number = entry_id.partition("-")
    return int(day), int(number)


@frozen
class _Format:
    format: int


class Journal:
    """The entries on disk, of a host or below its root."""

    def __init__(self, folder: Folder, above: Folder) -> None:
        self._folder, self._above = folder, above
        self._lock: int | None = None

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
            message = f"the journal {FOLDER} cannot be opened: {refused(error)}"
            raise JournalError(message) from error
        except OthersError as error:
            message = f"the journal {FOLDER} is not trusted: {error}"
            raise JournalError(message) from error
        if folder is not None and above is not None:
            return cls(folder, above)
        for each in filter(None, (folder, above)):
            each.close()
        return None

    def close(self) -> None:
        """Let go of it, and of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._folder.close()
        self._above.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What it holds open."""
        return (self._folder.descriptor, self._above.descriptor, *([] if self._lock is None else [self._lock]))

    def lock(self) -> None:
        """Keep others out until it is closed. Raises FixError: where another holds it, that names it."""
        self._lock = lock.taken(self._above)

    def contents(self) -> Contents:
        """All that it holds, damaged or not. Raises JournalError where the folder itself cannot be read."""
        entries: list[Entry] = []
        damaged: list[Damaged] = []
        try:
            for name, match in self._named():
                found = self._entry(name, match[1])
                (entries if isinstance(found, Entry) else damaged).append(found)  # type: ignore[arg-type]
        except OSError as error:
            message = f"the journal {FOLDER} cannot be read: {error.strerror}"
            raise JournalError(message) from error
        return Contents(tuple(sorted(entries, key=lambda entry: entry.number)), tuple(damaged))

    def usable(self) -> Contents:
        """All that it holds. Raises JournalError for a damaged entry that is in the way."""
        found = self.contents()
        if found.in_the_way is not None:
            raise JournalError(found.in_the_way.why)
        return found

    def entries(self) -> list[Entry]:
        """All entries that can be read, the first one first. Raises JournalError as `usable` does."""
        return list(self.usable().entries)

    def unfinished(self) -> Entry | None:
        """The entry of a fix, or of an undo, that was ended in the middle. Raises JournalError."""
        return self.usable().unfinished

    def latest(self) -> Entry | None:
        """The entry that an undo would give back. Raises JournalError."""
        return self.usable().latest

    def begin(self, make: Callable[[str, int], Entry], day: str) -> Entry:
        """Write a new entry; `make` gets its id and number. Raises JournalError."""
        entries = self.entries()
        ids = [match[1] for _, match in self._named()]
        today = [_order(each)[1] for each in ids if each.startswith(f"{day}-")]
        number = max([len(ids), *(entry.number for entry in entries)]) + 1
        try:
            entry = make(f"{day}-{max(today, default=0) + 1}", number)
        except ValueError as error:
            message = f"this cannot be kept in the journal: {error}"
            raise JournalError(message) from error
        # What it comes to is written beside it, before it takes its place.
        self._write(entry, copies=2)
        return entry

    def advance(self, entry: Entry, state: State) -> Entry:
        """Write that an entry has come to another state. Raises JournalError."""
        further = replace(entry, state=state)
        self._write(further)
        return further

    def _write(self, entry: Entry, copies: int = 1) -> None:
        content = indented(entry)
        if len(content) > LIMIT_BYTES:
            message = f"an entry of the journal may have {LIMIT_BYTES:,} bytes, and this one would have more"
            raise JournalError(message)
        try:
            if copies > 1:
                self._see_room(len(content), copies)
            self._folder.write(f"{entry.id}.json", File(content, _mode(entry), os.geteuid(), os.getegid()))
        except OSError as error:
            message = f"the journal {FOLDER} cannot be written: {refused(error)}"
            kind = NoRoomError if error.errno in NoRoomError.NUMBERS else JournalError
            raise kind(message) from error

    def _see_room(self, size_bytes: int, copies: int) -> None:
        """Raises OSError where there is none."""
        if self._folder.is_full(size_bytes, copies):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _named(self) -> list[tuple[str, re.Match[str]]]:
        matched = ((name, re.fullmatch(_NAME, name)) for name in self._folder.names())
        return [(name, match) for name, match in matched if match is not None]

    def _entry(self, name: str, entry_id: str) -> Entry | Damaged:
        where = f"{FOLDER}/{name}"
        try:
            file = self._folder.file(name)
        except NotAFileError as error:
            return Damaged(entry_id, f"{error}: look at it, and move it away", closed=False)
        if file is None:
            return Damaged(entry_id, f"{where} has gone meanwhile", closed=False)
        if file.uid not in (0, os.geteuid()) or file.mode & 0o022:
            why = f"{where} is not root's alone: it is not trusted; look at it, and move it away"
            return Damaged(entry_id, why, closed=False)
        try:
            return _decoded(file.content, where, entry_id)
        except CodecError as error:
            why = f"{where} is damaged ({safe_text(str(error))[:100]}): look at it, and move it away"
            return Damaged(entry_id, why, closed=re.match(_CLOSED, file.content) is not None)


def _mode(entry: Entry) -> int:
    """Of an entry: who may not read our file does not read it in the journal."""
    kept = [each for each in (entry.file_before, entry.file_after) if each is not None]
    return MODE if all(each.mode & 0o004 for each in kept) else MODE & 0o600


def _decoded(content: bytes, where: str, entry_id: str) -> Entry | Damaged:
    """An entry, with all its values checked. Raises CodecError."""
    version = decode(content, _Format).format
    if version != FORMAT:
        why = f"{where} has format {version}, and this version reads {FORMAT}: use the vdscheck that wrote it"
        return Damaged(entry_id, why, closed=False)
    entry = decode(content, Entry)
    if entry.id != entry_id:
        return Damaged(
            entry_id, f"{where} says that it is {entry.id[:40]!r}: look at it, and move it away", closed=False
        )
    return entry


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
