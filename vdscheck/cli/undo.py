"""What `vdscheck undo` does: gives back the latest fix and looks at what came of it, or lists the journal."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vdscheck.catalogue.catalogue import load_what_can_be
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.cli import output
from vdscheck.fix.files import FixError, NoRoomError
from vdscheck.fix.flow import LOOKS, desk, foreseeing
from vdscheck.fix.journal import FOLDER, Contents, Entry, Journal, Replaced
from vdscheck.fix.plan import Foresee, Kinds, Name
from vdscheck.fix.transaction import Desk, GivenBack, NotBegunError, in_its_boot, undo
from vdscheck.fix.undo_report import (
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
from vdscheck.fix_kind import AtBoot, FixKind, Surroundings
from vdscheck.linux import ownership
from vdscheck.measure.measure import Effort, Options, Outcome, measure
from vdscheck.model.fixes import LeftAlone
from vdscheck.model.records import frozen
from vdscheck.process.guard import last_to_be_killed
from vdscheck.render.formats import document, say
from vdscheck.target.host import Host

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
        found = _undone(host, desk(host, version, kinds(), _foresee(host)))
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
    journal = Journal.opened(host, work.kinds)
    if journal is None:
        return _Undone(_note("nothing-to-do", f"nothing to undo: there is no journal ({FOLDER})"))
    try:
        contents = journal.usable()
        if contents.latest is None:
            return _nothing(contents)
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
        return _nothing(contents)
    found = {Name(each.kind, each.key): work.now(each.kind, each.key) for each in entry.settings}
    failed = ""
    try:
        with last_to_be_killed():
            done = undo(journal, work)
    except NotBegunError as error:
        return _Undone(_note("refused", str(error), entry), warnings=contents.passed_over + contents.left_to_others)
    except FixError as error:
        done, failed = None, str(error)
    done = done or GivenBack(entry, (), None)
    boots = _next_boots(work.host, {name: work.kinds[name] for name in entry.kinds})
    changes = tuple(_changes(done, found, work, boots))
    outcome = "given-back" if not failed and all(each.given_back for each in changes) else "left"
    warnings = contents.passed_over + contents.left_to_others + (() if done.untold is None else (done.untold,))
    return _Undone(_note(outcome, failed, entry, changes), entry.at, warnings)


def _nothing(contents: Contents) -> _Undone:
    """There is no entry that can be given back; one of a kind that is not installed may be left."""
    if contents.left_to_others:
        return _Undone(_note("refused", "; ".join(contents.left_to_others)), warnings=contents.passed_over)
    return _Undone(_note("nothing-to-do", NOTHING), warnings=contents.passed_over)


def kinds() -> Kinds:
    """The kinds of fix that are installed; a plugin that is broken is named, and in nobody's way."""
    catalogue, said = load_what_can_be(clusters=False)
    for line in said:
        say(f"vdscheck: {line}")
    return catalogue.kinds


def _next_boots(host: Host, of_entry: Kinds) -> dict[str, Any]:
    """What the next boot will bring, as things are now, by kind; None where that could not be seen."""
    catalogue, _ = load_what_can_be(clusters=False)
    found: dict[str, Any] = dict.fromkeys(of_entry)
    for _ in range(LOOKS):
        wanted = [catalogue.by_type[of_entry[name].boot] for name, boot in found.items() if boot is None]
        if wanted:
            seen = Surroundings(_measured(host, wanted).measurements, image=False)
            found = {name: boot or seen.of(of_entry[name].boot) for name, boot in found.items()}
    return found


def _measured(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
    return measure(host, entries, Options(effort=Effort.PASSIVE))


def _foresee(host: Host) -> Foresee:
    """The next boot with another content of a kind's file; what is installed is loaded when it is asked for."""

    def foreseen(kind: FixKind, content: bytes) -> Any:  # noqa: ANN401 - of the type kind.boot
        catalogue, _ = load_what_can_be(clusters=False)
        return foreseeing(host, catalogue, _measured)(kind, content)

    return foreseen


# What is said of each setting


def _changes(
    done: GivenBack, found: Mapping[Name, str | None], work: Desk, boots: Mapping[str, Any]
) -> Iterator[UndoChange]:
    entry = done.entry
    here = _Here(work, in_its_boot(entry, work), boots, {each.key: each for each in done.left}, done.wanted)
    for each in entry.settings:
        was, kind = found[Name(each.kind, each.key)], work.kinds[each.kind]
        if each.moved_by is not None and kind.same(work.now(each.kind, each.key), each.before):
            continue  # it came back with the setting that had moved it
        said = here.now(each, was)
        again = here.again(each)
        later = here.after_boot(each)
        yield UndoChange(
            kind=each.kind,
            key=each.key,
            file=work.kinds[each.kind].file if each.in_file else None,
            before=each.before,
            found=was,
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
    boots: Mapping[str, Any]
    left: Mapping[str, LeftAlone]
    wanted: Mapping[Name, str | None]
    """What each setting was to be without the fix."""

    def at_boot(self, setting: Replaced) -> AtBoot | None:
        """What the next boot makes of a setting; None where that is not known."""
        boot = self.boots[setting.kind]
        return None if boot is None else self.work.kinds[setting.kind].at_boot(setting.key, boot)

    def after_boot(self, setting: Replaced) -> str | None:
        """What a setting will be after the next boot."""
        known = self.at_boot(setting)
        return None if known is None else known.value

    def now(self, setting: Replaced, found: str | None) -> _Said:
        """What a setting is now, and how it came so."""
        key = setting.key
        if key in self.left:
            return _Said(given_back=False, why=self.left[key].why)
        if not self.work.live:
            return _Said(given_back=True, why="as it was before, at the next boot")
        ours = setting.now if self.same_boot else setting.in_file
        try:
            now = self.work.kinds[setting.kind].seen(key)
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
        same = self.work.kinds[setting.kind].same
        if not same(now, self.wanted.get(Name(setting.kind, setting.key), setting.before)):
            return _Said(given_back=False, why=f"it is still {now}")
        if same(now, found):
            how = "as before the fix: nothing had to be done" if self.same_boot else "as the boot left it"
        else:
            how = "as before the fix" if self.same_boot else "as the boot would have left it without the fix"
        return _Said(given_back=True, why=f"{now}, {how}")

    def again(self, setting: Replaced) -> str | None:
        """Who sets at boot what the fix had set there, though its line is gone; None where nobody does."""
        known, same = self.at_boot(setting), self.work.kinds[setting.kind].same
        if not setting.in_file or known is None:
            return None
        if not same(known.value, setting.wanted) or same(setting.at_boot, setting.wanted):
            return None
        return f"; but {known.where} sets it to {known.value} again at each boot: take that line out"

    def then(self, setting: Replaced, later: str | None) -> str:
        """What is to be said of the next boot, where that is not what is now."""
        if later is None:
            return "; what the next boot brings is not known"
        if not self.work.live:
            return f": {later}"
        same = self.work.kinds[setting.kind].same
        return "" if same(later, self.work.now(setting.kind, setting.key)) else f"; {later} after the next boot"


# The journal


def listed(host: Host, version: str, *, as_json: bool) -> int:
    """List the journal, the latest first."""
    try:
        note, code = _listed(host, kinds()), DONE
    except FixError as error:
        say(f"vdscheck: {error}")
        note, code = _journal(Contents((), ()), str(error)), LEFT
    if as_json:
        output.to_stdout(document(journal_report(note, version)))
    elif code == DONE:
        output.to_stdout(journal_text(note))
    return code


def _listed(host: Host, installed: Kinds) -> JournalNote:
    journal = Journal.opened(host, installed)
    if journal is None:
        return _journal(Contents((), ()))
    try:
        return _journal(journal.contents())
    finally:
        journal.close()


def _journal(contents: Contents, detail: str = "") -> JournalNote:
    return JournalNote(
        folder=FOLDER,
        entries=tuple(map(_entry, reversed(_all(contents)))),
        damaged=tuple(DamagedEntry(each.id, each.why) for each in reversed(contents.damaged)),
        detail=detail,
    )


def _all(contents: Contents) -> list[Entry]:
    """Those of kinds that are not installed as well."""
    foreign = (each.entry for each in contents.foreign)
    return sorted([*contents.entries, *foreign], key=lambda entry: entry.number)


def _entry(entry: Entry) -> JournalEntry:
    own = (each for each in entry.settings if each.moved_by is None)
    changes = (JournalChange(each.kind, each.key, each.before, each.at_boot, each.wanted) for each in own)
    return JournalEntry(entry=entry.id, state=entry.state, at=entry.at, version=entry.version, changes=tuple(changes))
