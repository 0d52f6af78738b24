"""The journal: what each fix replaced, written before anything is changed, so that it can be given back."""

import errno
import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal

from vdscheck.codec import CodecError, decode, indented
from vdscheck.fix import lock
from vdscheck.fix.files import (
    EVERYBODY_READS,
    LIMIT_BYTES,
    SETTINGS_LIMIT_BYTES,
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
from vdscheck.fix_kind import FixKind
from vdscheck.model.records import frozen, named
from vdscheck.target.host import Host
from vdscheck.target.text import safe_text

FOLDER = "/var/lib/vdscheck/journal"
FORMAT = 2
FIRST_FORMAT = 1
"""That of the entries which knew kernel settings alone."""
MODE, PRIVATE_MODE = 0o644, 0o600
"""Of an entry; who may not read our file does not read it in the journal."""

State = Literal["begun", "held", "undoing", "undone", "given-back"]
UNFINISHED = ("begun", "undoing")
OPEN = (*UNFINISHED, "held")
"""The states of an entry that can be given back."""

VALUE_LIMIT = 1 << 16
"""Characters of a setting: more than any file of /proc/sys gives at once."""
WORD_LIMIT = 64
NUMBER_LIMIT = 10**9
OF_A_DAY = 10**6 - 1
ALL_LIMIT_BYTES = 16 * LIMIT_BYTES
"""Of all entries together: thousands of ordinary ones."""
_NOBODY = 2**32 - 1
"""The user id that stands for none (chown(2))."""
_CLOSED = rb'^\s*\{\s*"format":\s*[12],[^{}\[\]]*"state":\s*"(undone|given-back)"'

_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_NAME = r"([0-9]{8}-[0-9]{1,6})\.json"
_KEY = r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,255}"
_KIND = r"[a-z][a-z0-9-]{0,31}"
_PACKAGE = r"[A-Za-z0-9_.-]{1,64}"
_PATH = r"(/[A-Za-z0-9_.-]{1,255}){1,16}"
_FIRST_KIND, _FIRST_PACKAGE, _FIRST_FOLDER = "sysctl", "vdscheck", "/etc/sysctl.d"
"""What an entry of the first format is of."""


class JournalError(FixError):
    """The journal cannot be used; one line: which entry, why, what to do."""


@frozen
class Replaced:
    """One setting as it was before a fix, and as the fix left it."""

    kind: str
    key: str
    before: str | None
    """The value of the running system; None where none was examined."""
    at_boot: str | None
    """What the next boot gave; None where that was not known."""
    wanted: str
    now: bool
    """Whether the running system's value was changed."""
    in_file: bool
    """Whether a line for it was written."""
    moved_by: str | None = None
    """The setting whose change moves this one; None where it was set for itself."""

    def __post_init__(self) -> None:
        """Refuse what no fix writes."""
        _refuse_unless(re.fullmatch(_KEY, self.key) is not None, f"{self.key[:WORD_LIMIT]!r} is no key")
        _refuse_unless(re.fullmatch(_KIND, self.kind) is not None, f"{self.kind[:WORD_LIMIT]!r} is no kind")
        for value in (self.before, self.at_boot, self.wanted):
            bad = value is not None and (len(value) > VALUE_LIMIT or re.search("[\0\r\n]", value))
            _refuse_unless(not bad, f"what is said of {self.key} is no value of a setting")


@frozen
class KeptFile:
    """The content of a file of ours, as text whose characters are its bytes (Latin-1), with its mode and owner."""

    content: str
    mode: int
    uid: int
    gid: int

    def __post_init__(self) -> None:
        """Refuse what no file has."""
        _refuse_unless(len(self.content) <= SETTINGS_LIMIT_BYTES, "the content of a file is too large")
        _refuse_unless(
            max(self.content, default="") <= "\xff", "the content of a file has characters that are no bytes"
        )
        _refuse_unless(self.mode & 0o7777 == self.mode, f"{self.mode} is no mode of a file")
        _refuse_unless(0 <= self.uid < _NOBODY and 0 <= self.gid < _NOBODY, "a file has no such owner")

    @classmethod
    def of(cls, file: File) -> "KeptFile":
        """A file as an entry keeps it."""
        return cls(file.content.decode("latin-1"), file.mode & 0o777, file.uid, file.gid)

    def file(self) -> File:
        """The file that was kept, as it may be put back: nobody but root and ourselves is to write it."""
        ours = self.uid in (0, os.geteuid())
        uid, gid = (self.uid, self.gid) if ours else (os.geteuid(), os.getegid())
        return File(self.content.encode("latin-1"), self.mode & 0o755, uid, gid)


@frozen
class Written:
    """The file of a kind, as it was and as a fix wrote it."""

    kind: str
    before: KeptFile | None
    """None where it was not there."""
    after: KeptFile

    def __post_init__(self) -> None:
        """Refuse what no fix writes."""
        _refuse_unless(re.fullmatch(_KIND, self.kind) is not None, f"{self.kind[:WORD_LIMIT]!r} is no kind")


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
    files: tuple[Written, ...]
    """The files that were written, one a kind at most."""
    folders: tuple[str, ...]
    """The folders that were made for it."""
    packages: dict[str, str]
    """The package that brought each kind."""

    def __post_init__(self) -> None:
        """Refuse what no fix writes."""
        _refuse_unless(0 < self.number <= NUMBER_LIMIT, f"{self.number} is no number of an entry")
        for word in (self.id, self.version, self.at, self.boot_id or ""):
            _refuse_unless(len(word) <= WORD_LIMIT and word.isprintable(), "a word in it is too long, or no word")
        _refuse_unless(re.fullmatch(_TIME, self.at) is not None, f"{self.at!r} is no time")
        _refuse_unless(
            len({(each.kind, each.key) for each in self.settings}) == len(self.settings), "it has a key twice"
        )
        _refuse_unless(len({each.kind for each in self.files}) == len(self.files), "it has a file twice")
        for path in self.folders:
            _refuse_unless(re.fullmatch(_PATH, path) is not None, "it names a folder that no fix makes")
        for kind, package in self.packages.items():
            good = re.fullmatch(_KIND, kind) and re.fullmatch(_PACKAGE, package)
            _refuse_unless(good is not None, "it names a package that is none")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its settings and files."""
        of_settings = (each.kind for each in self.settings)
        return tuple(dict.fromkeys((*of_settings, *(each.kind for each in self.files))))

    def keys(self, kind: str) -> tuple[str, ...]:
        """The settings of a kind that it replaced."""
        return tuple(each.key for each in self.settings if each.kind == kind)


def _refuse_unless(holds: bool, why: str) -> None:  # noqa: FBT001 - a condition reads best first
    if not holds:
        raise ValueError(why)


@frozen
class _FirstReplaced:
    """A setting in an entry of the first format."""

    key: str
    before: str | None
    at_boot: str | None
    wanted: str
    now: bool
    in_file: bool


@named
class _FirstEntry:
    """An entry of the first format, which is read and finished as one of today."""

    format: int
    id: str
    number: int
    state: State
    version: str
    at: str
    boot_id: str | None
    settings: tuple[_FirstReplaced, ...]
    file_before: KeptFile | None
    file_after: KeptFile | None
    folders: tuple[str, ...]

    def of_today(self) -> Entry:
        """The same in today's form. Raises ValueError for what no fix writes."""
        _refuse_unless(set(self.folders) <= {_FIRST_FOLDER}, "it names a folder that no fix makes")
        return Entry(
            format=FORMAT,
            id=self.id,
            number=self.number,
            state=self.state,
            version=self.version,
            at=self.at,
            boot_id=self.boot_id,
            settings=tuple(
                Replaced(
                    _FIRST_KIND, each.key, each.before, each.at_boot, each.wanted, now=each.now, in_file=each.in_file
                )
                for each in self.settings
            ),
            files=(Written(_FIRST_KIND, self.file_before, self.file_after),) if self.file_after is not None else (),
            folders=self.folders,
            packages={_FIRST_KIND: _FIRST_PACKAGE},
        )


@frozen
class Foreign:
    """An entry with settings of a kind that nothing which is installed knows: left to whoever brings it."""

    entry: Entry
    why: str


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
    foreign: tuple[Foreign, ...] = ()
    """Those of kinds that are not installed: they block no other."""

    @property
    def left_to_others(self) -> tuple[str, ...]:
        """What is to be said of foreign entries that are still in force, or may be."""
        return tuple(each.why for each in self.foreign if each.entry.state in OPEN)

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
        when the older one was finished, and is undone before it. Which is older is said by the day in its name,
        unless there are more entries than were made by then: then the clock was set back since.
        """
        unsure = [each for each in self.damaged if not each.closed]
        latest = self.latest
        if latest is None or self._made_after(latest) > 0:
            return next(iter(unsure), None)
        return next((each for each in unsure if _order(each.id) > _order(latest.id)), None)

    def _made_after(self, entry: Entry) -> int:
        """How many of the damaged entries are newer than one, at least: an entry's number counts all before it."""
        everyone = (*self.entries, *(each.entry for each in self.foreign))
        newer = sum(each.number > entry.number for each in everyone)
        return len(everyone) + len(self.damaged) - newer - entry.number


def _free(day: str, ids: Iterable[str]) -> int:
    """The number within a day for the next entry: behind the last one, or else the first that nothing has."""
    taken = {_order(each)[1] for each in ids if each.startswith(f"{day}-")}
    following = max(taken, default=0) + 1
    return following if following <= OF_A_DAY else next(each for each in itertools.count(1) if each not in taken)


def _order(entry_id: str) -> tuple[int, int]:
    day, _, number = entry_id.partition("-")
    return int(day), int(number)


@frozen
class _Format:
    format: int


class Journal:
    """The entries on disk, of a host or below its root."""

    def __init__(self, folder: Folder, above: Folder, kinds: Mapping[str, FixKind]) -> None:
        self._folder, self._above, self._kinds = folder, above, kinds
        self._lock: int | None = None

    @classmethod
    def opened(cls, host: Host, kinds: Mapping[str, FixKind]) -> "Journal | None":
        """The journal of a host; None where it has none. Raises JournalError.

        `kinds`: those that are installed; entries of others are foreign.
        """
        return cls._of(host, lambda: opened(host, FOLDER), kinds)

    @classmethod
    def made(cls, host: Host, kinds: Mapping[str, FixKind]) -> "Journal":
        """The journal of a host, begun where it has none. Raises JournalError."""
        journal = cls._of(host, lambda: made(host, FOLDER)[0], kinds)
        assert journal is not None  # noqa: S101 - it was made
        return journal

    @classmethod
    def _of(cls, host: Host, get: Callable[[], Folder | None], kinds: Mapping[str, FixKind]) -> "Journal | None":
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
            return cls(folder, above, kinds)
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

    def held_by(self) -> str | None:
        """Who is changing the host now, as ` (process 4711, python3)`; None where nobody is, or it cannot be seen."""
        return lock.held_by(self._above)

    def contents(self) -> Contents:
        """All that it holds, damaged or not. Raises JournalError where the folder itself cannot be read."""
        entries: list[Entry] = []
        damaged: list[Damaged] = []
        foreign: list[Foreign] = []
        size_bytes = 0
        try:
            for name, match in self._named():
                size_bytes += self._folder.size_bytes(name)
                if size_bytes > ALL_LIMIT_BYTES:
                    message = f"the journal {FOLDER} holds more than {ALL_LIMIT_BYTES:,} bytes: move old entries away"
                    raise JournalError(message)
                found = self._entry(name, match[1])
                if isinstance(found, Damaged):
                    damaged.append(found)
                elif isinstance(found, Foreign):
                    foreign.append(found)
                else:
                    entries.append(found)
        except OSError as error:
            message = f"the journal {FOLDER} cannot be read: {error.strerror}"
            raise JournalError(message) from error
        return Contents(tuple(sorted(entries, key=lambda entry: entry.number)), tuple(damaged), tuple(foreign))

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

    def begin(self, make: Callable[[str, int], Entry], day: str, *, is_open: bool = True) -> Entry:
        """Write a new entry; `make` gets its id and number. Raises JournalError.

        `is_open`: whether everybody may read what our file held.
        """
        found = self.usable()
        entries = [*found.entries, *(each.entry for each in found.foreign)]
        ids = [match[1] for _, match in self._named()]
        number = max([len(ids), *(entry.number for entry in entries)]) + 1
        try:
            entry = make(f"{day}-{_free(day, ids)}", number)
        except ValueError as error:
            message = f"this cannot be kept in the journal: {error}"
            raise JournalError(message) from error
        # What it comes to is written beside it, before it takes its place.
        mode = MODE if is_open and _may_be_open(entry) else PRIVATE_MODE
        self._write(entry, mode, copies=2)
        return entry

    def advance(self, entry: Entry, state: State) -> Entry:
        """Write that an entry has come to another state. Raises JournalError."""
        further = replace(entry, state=state)
        self._write(further, self._mode_of(entry))
        return further

    def _mode_of(self, entry: Entry) -> int:
        """The mode that an entry was begun with: who may not read it then does not read it later."""
        try:
            found = os.stat(f"{entry.id}.json", dir_fd=self._folder.descriptor, follow_symlinks=False)
        except OSError:
            return PRIVATE_MODE
        return MODE if found.st_mode & MODE == MODE and _may_be_open(entry) else PRIVATE_MODE

    def _write(self, entry: Entry, mode: int, copies: int = 1) -> None:
        content = indented(entry)
        if len(content) > LIMIT_BYTES:
            message = f"an entry of the journal may have {LIMIT_BYTES:,} bytes, and this one would have more"
            raise JournalError(message)
        try:
            if copies > 1:
                self._see_room(len(content), copies)
            self._folder.write(f"{entry.id}.json", File(content, mode, os.geteuid(), os.getegid()))
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

    def _entry(self, name: str, entry_id: str) -> Entry | Foreign | Damaged:
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
            found = _decoded(file.content, where, entry_id)
            return found if isinstance(found, Damaged) else self._of_kinds(found, where)
        except (CodecError, ValueError) as error:
            why = f"{where} is damaged ({safe_text(str(error))[:100]}): look at it, and move it away"
            return Damaged(entry_id, why, closed=re.match(_CLOSED, file.content) is not None)

    def _of_kinds(self, entry: Entry, where: str) -> Entry | Foreign:
        """An entry, or what is to be said of one whose kinds are not all here. Raises ValueError for what is no key."""
        for name in entry.kinds:
            kind = self._kinds.get(name)
            if kind is None:
                who = entry.packages.get(name, "another package")
                why = f"{where} holds settings of the kind {name}, which {who} sets: install that, and undo it with it"
                return Foreign(entry, why)
            for key in entry.keys(name):
                _refuse_unless(re.fullmatch(kind.key_pattern, key) is not None, f"{key[:WORD_LIMIT]!r} is no key")
        folders = {self._kinds[each.kind].file.rpartition("/")[0] for each in entry.files}
        _refuse_unless(set(entry.folders) <= folders, "it names a folder that no fix makes")
        return entry


def _may_be_open(entry: Entry) -> bool:
    """Whether everybody may read what an entry keeps, by the modes in it."""
    kept = [each for written in entry.files for each in (written.before, written.after) if each is not None]
    return all(each.mode & EVERYBODY_READS == EVERYBODY_READS for each in kept)


def _decoded(content: bytes, where: str, entry_id: str) -> Entry | Damaged:
    """An entry, with all its values checked. Raises CodecError."""
    version = decode(content, _Format).format
    if version not in (FIRST_FORMAT, FORMAT):
        why = f"{where} has format {version}, and this version reads {FORMAT}: use the vdscheck that wrote it"
        return Damaged(entry_id, why, closed=False)
    entry = decode(content, Entry) if version == FORMAT else decode(content, _FirstEntry).of_today()
    if entry.id != entry_id:
        return Damaged(
            entry_id, f"{where} says that it is {entry.id[:40]!r}: look at it, and move it away", closed=False
        )
    return entry


def unfinished(host: Host, kinds: Mapping[str, FixKind]) -> str | None:
    """What a run of any kind says of a fix, or an undo, that was ended in the middle."""
    try:
        journal = Journal.opened(host, kinds)
        if journal is None:
            return None
        try:
            entry = journal.unfinished()
            holder = None if entry is None else journal.held_by()
        finally:
            journal.close()
    except FixError as error:
        return str(error)
    if entry is None:
        return None
    if holder is not None:
        return f"another vdscheck is changing this host{holder}: what is found here may be neither the old nor the new"
    what = "an undo" if entry.state == "undoing" else "a fix"
    return f"{what} was ended in the middle (journal entry {entry.id}): vdscheck undo or vdscheck --fix gives it back"
