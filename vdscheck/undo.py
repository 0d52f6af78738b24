"""What `vdscheck undo` does: gives back the latest fix and looks at what came of it, or lists the journal."""

import os
from collections.abc import Iterator, Mapping, Sequence

from vdscheck import output
from vdscheck.catalogue import load
from vdscheck.files import FixError, NoRoomError
from vdscheck.fix import BOOT_PROBE, LOOKS, desk
from vdscheck.journal import FOLDER, Contents, Entry, Journal, Replaced
from vdscheck.measure import Effort, Options, measure
from vdscheck.measurements import BootTruth
from vdscheck.model import DROP_IN, LeftAlone, frozen
from vdscheck.plan import at_boot, same
from vdscheck.probes import ownership
from vdscheck.render.formats import document, say
from vdscheck.target import Host
from vdscheck.transaction import Desk, GivenBack, in_its_boot, undo, value_before
from vdscheck.undo_report import (
    DamagedEntry,
    JournalChange,
    JournalEntry,
    JournalNote,
    UndoChange,
    UndoNote,
    journal_report,
    journal_text,
    undo_report,
    undo_text,
)

DONE, LEFT = 0, 3
NOTHING = "nothing to undo: every fix has been given back"


@frozen
class _Undone:
    """What came of an undo, and what is to be said beside it."""

    note: UndoNote
    at: str | None = None
    warnings: tuple[str, ...] = ()


def undone(host: Host, version: str, received: Sequence[int], *, as_json: bool) -> int:
    """Give back the latest fix; 0 when all is given back or there is nothing, 3 when something is left."""
    try:
        found = _undone(host, desk(host, version))
    except FixError as error:
        found = _Undone(_note("refused", str(error)))
    note = found.note
    for warning in (*found.warnings, *([note.detail] if note.detail and note.outcome in ("refused", "left") else [])):
        say(f"vdscheck: {warning}")
    if as_json:
        output.to_stdout(document(undo_report(note, version, found.warnings)))
    elif note.outcome != "refused":
        output.to_stdout(undo_text(note, found.at))
    if received:
        return 128 + received[0]
    return LEFT if note.outcome in ("refused", "left") else DONE


def _note(outcome: str, detail: str, entry: Entry | None = None, changes: Sequence[UndoChange] = ()) -> UndoNote:
    return UndoNote(
        entry=None if entry is None else entry.id,
        outcome=outcome,  # type: ignore[arg-type]
        detail=detail,
        changes=tuple(changes),
    )


def _undone(host: Host, work: Desk) -> _Undone:
    journal = Journal.opened(host)
    if journal is None:
        return _Undone(_note("nothing-to-do", f"nothing to undo: there is no journal ({FOLDER})"))
    try:
        contents = journal.usable()
        if contents.latest is None:
            return _Undone(_note("nothing-to-do", NOTHING), warnings=contents.passed_over)
        if host.live and os.geteuid() != 0:
            return _Undone(_note("refused", "only root may give it back: sudo vdscheck undo"))
        why = ownership.refusal(ownership.look(host)) if host.live else None
        if why is not None:
            return _Undone(_note("refused", f"nothing was given back: {why}"))
        _lock(journal)
        return _given_back(journal, work)
    finally:
        journal.close()


def _lock(journal: Journal) -> None:
    try:
        journal.lock()
    except NoRoomError:
        # Then no fix can begin either, since it writes its entry first; and to give back twice does no harm.
        return


def _given_back(journal: Journal, work: Desk) -> _Undone:
    contents = journal.usable()
    entry = contents.latest
    if entry is None:
        return _Undone(_note("nothing-to-do", NOTHING), warnings=contents.passed_over)
    found = {each.key: work.now(each.key) for each in entry.settings}
    failed = ""
    try:
        done = undo(journal, work)
    except FixError as error:
        done, failed = None, str(error)
    done = done or GivenBack(entry, (), None)
    changes = tuple(_changes(done, found, work, _next_boot(work.host)))
    outcome = "given-back" if not failed and all(each.given_back for each in changes) else "left"
    warnings = contents.passed_over + (() if done.untold is None else (done.untold,))
    return _Undone(_note(outcome, failed, entry, changes), entry.at, warnings)


def _next_boot(host: Host) -> BootTruth | None:
    """What the next boot will bring, as things are now; None where that could not be seen."""
    entry = load(clusters=False).probes[BOOT_PROBE]
    for _ in range(LOOKS):
        found = measure(host, [entry], Options(effort=Effort.PASSIVE)).measurements[BOOT_PROBE].value
        if isinstance(found, BootTruth):
            return found
    return None


# What is said of each setting


def _changes(
    done: GivenBack, found: Mapping[str, str | None], work: Desk, boot: BootTruth | None
) -> Iterator[UndoChange]:
    entry = done.entry
    here = _Here(work, in_its_boot(entry, work), boot, {each.key: each for each in done.left})
    for each in entry.settings:
        said = here.now(each, found[each.key])
        again = here.again(each)
        later = here.after_boot(each.key)
        yield UndoChange(
            kind="sysctl",
            key=each.key,
            file=DROP_IN if each.in_file else None,
            before=each.before,
            found=found[each.key],
            given_back=said.given_back and again is None,
            after_boot=later,
            why=said.why + (again or here.then(each, later)),
        )


@frozen
class _Said:
    given_back: bool
    why: str


@frozen
class _Here:
    """What is seen after an undo."""

    work: Desk
    same_boot: bool
    boot: BootTruth | None
    left: Mapping[str, LeftAlone]

    def after_boot(self, key: str) -> str | None:
        """What a setting will be after the next boot."""
        known = None if self.boot is None else at_boot(key, self.boot)
        return None if known is None else known[0]

    def now(self, setting: Replaced, found: str | None) -> _Said:
        """What a setting is now, and how it came so."""
        key = setting.key
        if key in self.left:
            return _Said(given_back=False, why=self.left[key].why)
        if self.work.kernel is None:
            return _Said(given_back=True, why="as it was before, at the next boot")
        ours = setting.now if self.same_boot else setting.in_file
        try:
            now = self.work.kernel.seen(key)
        except OSError as error:
            return _Said(given_back=not ours, why=f"it cannot be read: {error.strerror or error}")
        if now is None:
            return _Said(given_back=True, why="it does not exist any more")
        return self._seen(setting, now, found) if ours else _Said(given_back=True, why=f"{now}, {self._by_nobody}")

    @property
    def _by_nobody(self) -> str:
        return "the fix did not change it now" if self.same_boot else "as the boot left it"

    def _seen(self, setting: Replaced, now: str, found: str | None) -> _Said:
        """What is said of a value that the fix had changed."""
        if not same(now, value_before(setting, in_its_boot=self.same_boot)):
            return _Said(given_back=False, why=f"it is still {now}")
        if same(now, found):
            how = "as before the fix: nothing had to be done" if self.same_boot else "as the boot left it"
        else:
            how = "as before the fix" if self.same_boot else "as the boot would have left it without the fix"
        return _Said(given_back=True, why=f"{now}, {how}")

    def again(self, setting: Replaced) -> str | None:
        """Who sets at boot what the fix had set there, though its line is gone; None where nobody does."""
        known = None if self.boot is None else at_boot(setting.key, self.boot)
        if not setting.in_file or known is None:
            return None
        value, where = known
        if not same(value, setting.wanted) or same(setting.at_boot, setting.wanted):
            return None
        return f"; but {where} sets it to {value} again at each boot: take that line out"

    def then(self, setting: Replaced, later: str | None) -> str:
        """What is to be said of the next boot, where that is not what is now."""
        if later is None:
            return "; what the next boot brings is not known"
        if self.work.kernel is None:
            return f": {later}"
        return "" if same(later, self.work.now(setting.key)) else f"; {later} after the next boot"


# The journal


def listed(host: Host, version: str, *, as_json: bool) -> int:
    """List the journal, the latest first."""
    try:
        note, code = _listed(host), DONE
    except FixError as error:
        say(f"vdscheck: {error}")
        note, code = _journal(Contents((), ()), str(error)), LEFT
    if as_json:
        output.to_stdout(document(journal_report(note, version)))
    elif code == DONE:
        output.to_stdout(journal_text(note))
    return code


def _listed(host: Host) -> JournalNote:
    journal = Journal.opened(host)
    if journal is None:
        return _journal(Contents((), ()))
    try:
        return _journal(journal.contents())
    finally:
        journal.close()


def _journal(contents: Contents, detail: str = "") -> JournalNote:
    return JournalNote(
        folder=FOLDER,
        entries=tuple(map(_entry, reversed(contents.entries))),
        damaged=tuple(DamagedEntry(each.id, each.why) for each in reversed(contents.damaged)),
        detail=detail,
    )


def _entry(entry: Entry) -> JournalEntry:
    changes = (JournalChange("sysctl", each.key, each.before, each.at_boot, each.wanted) for each in entry.settings)
    return JournalEntry(entry=entry.id, state=entry.state, at=entry.at, version=entry.version, changes=tuple(changes))
