"""The flow of `--fix`: recover, plan, show, confirm, apply, measure again, and keep it or give it all back."""

import os
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.fix.files import FixError
from vdscheck.fix.journal import FOLDER as JOURNAL
from vdscheck.fix.journal import Entry, Journal
from vdscheck.fix.plan import Foresee, Ground, Kinds, Name, Plan, StatedBy, plan, worse
from vdscheck.fix.transaction import (
    GIVES_BACK,
    ChangedMeanwhileError,
    Desk,
    GivenBackError,
    apply,
    giving_back,
    hides,
    recover,
    still_ours,
    verified,
)
from vdscheck.fix.unseen import probes_of, unread, unseen
from vdscheck.fix_kind import FixKind, Surroundings
from vdscheck.judge.judge import Judged
from vdscheck.measure.measure import Outcome
from vdscheck.model.absence import Reason
from vdscheck.model.fixes import FixChange, FixRecord, LeftAlone
from vdscheck.model.judgement import Finding
from vdscheck.model.records import frozen
from vdscheck.model.report import Measurements
from vdscheck.process import standing
from vdscheck.process.guard import last_to_be_killed
from vdscheck.target.host import Host
from vdscheck.target.what_if import WhatIfHost

ATTEMPTS = 3
KEYS_NAMED = 3
LOOKS = 2
"""How often something is measured before it is taken to be unknown."""
UNDECIDED = "what could not be seen may need a change: run it again, or leave it out with --skip"


@frozen
class Terms:
    """How a fix was asked for."""

    yes: bool
    dry_run: bool
    command: Sequence[str]
    """The command line, for the hint to whoever is not root."""


@dataclass
class Bench:
    """What the flow works with: it neither prints nor reads keys itself."""

    host: Host
    catalogue: Catalogue
    entries: Sequence[ProbeEntry]
    """The probes of the run."""
    desk: Desk
    judge: Callable[[Measurements], Judged]
    measure: Callable[[Host, Iterable[ProbeEntry]], Outcome]
    stopped: Callable[[], bool]
    say: Callable[[str], None]
    stated_by: StatedBy = lambda _check_id, _source: ()
    ask: Callable[[FixRecord], bool | None] = lambda _record: None
    """Shows a plan and asks; None where there is nobody to ask."""
    rehearse: Callable[[FixRecord], object] = lambda _record: None
    """Draws what is to be reported: what that needs is there, or fails, before anything is written."""


@dataclass
class Result:
    """What came of it."""

    measurements: Measurements
    record: FixRecord
    warnings: list[str] = field(default_factory=list)
    complete: bool = True
    """Whether what was measured after the fix is all there."""
    failed: bool = False
    """Whether the measuring after the fix failed by itself."""


def desk(host: Host, version: str, kinds: Kinds, foresee: Foresee) -> Desk:
    """What a fix of this host works on."""
    return Desk(host, host.live, version, kinds, foresee)


def probes(catalogue: Catalogue) -> set[str]:
    """What a plan is made from, whatever checks were selected."""
    return {
        catalogue.by_type[each].probe.id for kind in catalogue.kinds.values() for each in (*kind.deciding, *kind.beside)
    }


def recovered(bench: Bench) -> tuple[list[str], bool]:
    """Give back what an earlier run has left behind: what is to be said of it, and if there was something.

    Raises FixError.
    """
    journal = Journal.opened(bench.host, bench.desk.kinds)
    if journal is None:
        return [], False
    try:
        contents = journal.usable()
        said = [*contents.passed_over, *contents.left_to_others]
        if contents.unfinished is None:
            return said, False
        with last_to_be_killed():
            journal.lock()
            done = _recovered(journal, bench)
            return said + done, bool(done)
    finally:
        journal.close()


def _recovered(journal: Journal, bench: Bench) -> list[str]:
    said = []
    for done in recover(journal, bench.desk):
        said.append(f"journal entry {done.entry.id} had been ended in the middle: it was given back")
        said.extend(f"{each.key}: {each.why}" for each in done.left)
    return said


# The flow


def carried_out(bench: Bench, first: Measurements, terms: Terms) -> Result:
    """Plan, confirm, apply and verify; whatever happens, nothing is left half done."""
    found, blind = _seen(bench, first)
    said: list[str] = []
    for _ in range(ATTEMPTS):
        made, contents = _plan(bench, found)
        not_seen = (*blind, *unread(bench.catalogue, bench.judge, found, made.names))
        record = _record(made, bench.judge(first), not_seen, _elsewhere(made, bench) or "")
        refusal = _before_applying(record, bench, terms, undecided=bool(not_seen or made.unforeseen))
        if refusal is not None:
            return Result(found, _with_what_stops_it(refusal, made, bench), said)
        try:
            result = _applied(made, record, contents, bench, found)
        except ChangedMeanwhileError as error:
            bench.say(f"{error}: nothing was written; measuring and planning again")
            said.append(f"{error}: planned again")
            found, blind = _seen(bench, _again(bench, found).measurements)
            continue
        result.warnings = [*said, *result.warnings]
        return result
    return Result(
        found, replace(record, outcome="refused", detail=f"the settings changed {ATTEMPTS} times meanwhile"), said
    )


def _seen(bench: Bench, found: Measurements) -> tuple[Measurements, tuple[LeftAlone, ...]]:
    """The measurements, and what of the settings is not in them after a second look; that names each, with why."""
    for _ in range(LOOKS - 1):
        blind = _blind(bench, found)
        again = [bench.catalogue.probes[name] for name in sorted(probes_of(bench.catalogue, blind))]
        if not again or bench.stopped():
            return found, blind
        found = {**found, **bench.measure(bench.host, again).measurements}
    return found, _blind(bench, found)


def _blind(bench: Bench, found: Measurements) -> tuple[LeftAlone, ...]:
    return unseen(bench.catalogue, bench.judge, found, live=bench.desk.live)


def _plan(bench: Bench, found: Measurements) -> tuple[Plan, Mapping[str, bytes | None]]:
    contents = {name: _content(bench.desk, kind) for name, kind in bench.desk.kinds.items()}
    here = Surroundings(found, image=not bench.desk.live)
    ground = Ground(here, bench.desk.kinds, contents, bench.stated_by)
    return plan(bench.judge, ground, foreseeing(bench.host, bench.catalogue, bench.measure)), contents


def _content(work: Desk, kind: FixKind) -> bytes | None:
    try:
        file = work.file(kind)
    except FixError:
        return None  # said when it comes to writing it
    return None if file is None else file.content


def foreseeing(host: Host, catalogue: Catalogue, measured: Callable[[Host, Iterable[ProbeEntry]], Outcome]) -> Foresee:
    """What the next boot would be with that content of a kind's file, as the same probe finds it."""

    def foreseen(kind: FixKind, content: bytes) -> Any:  # noqa: ANN401 - of the type kind.boot
        supposed = WhatIfHost(host.root, tree=host.tree, path=kind.file, content=content)
        entry = catalogue.by_type[kind.boot]
        tries = (_boot(kind, measured(supposed, [entry]).measurements) for _ in range(LOOKS))
        return next(filter(None, tries), None)

    return foreseen


def _boot(kind: FixKind, measurements: Measurements) -> Any:  # noqa: ANN401 - of the type kind.boot
    return Surroundings(measurements, image=False).of(kind.boot)


def _elsewhere(made: Plan, bench: Bench) -> str | None:
    """What a plan leaves as it is though it sets it: the values of the host, from within another network namespace."""
    kinds = bench.desk.kinds
    own = [
        each
        for each in made.changes
        if bench.desk.namespace
        if kinds[each.kind].is_of_a_namespace(each.key) and not kinds[each.kind].same(each.before, each.wanted)
    ]
    if not own:
        return None
    is_pid_1s = bench.desk.is_in_the_hosts_network
    if is_pid_1s or (is_pid_1s is None and os.geteuid() != 0):
        return None
    names = ", ".join(each.key for each in own[:KEYS_NAMED]) + (", ..." if len(own) > KEYS_NAMED else "")
    file = next((each.file for each in own if each.file is not None), None)
    until = "" if file is None else f" until the next boot reads {file}"
    which = "is not that of PID 1" if is_pid_1s is False else "may not be that of PID 1 (/proc/1/ns/net is closed)"
    return f"this network namespace {which}: {names} change in here alone, and the host's own values stay{until}"


def _record(made: Plan, judged: Judged, blind: tuple[LeftAlone, ...], detail: str) -> FixRecord:
    return FixRecord(
        id=None,
        outcome="planned" if made.changes else "nothing-to-do",
        detail=detail,
        score_before=judged.score.value,
        score_promised=made.promised.score.value,
        changes=made.changes,
        left_alone=(*blind, *made.left_alone),
    )


def _before_applying(record: FixRecord, bench: Bench, terms: Terms, *, undecided: bool) -> FixRecord | None:
    """What ends it before anything is changed; None where it goes on."""
    if bench.stopped():
        return replace(record, outcome="declined", detail="interrupted: nothing was changed")
    shown_only = terms.dry_run or (bench.host.live and os.geteuid() != 0)
    if undecided and not (record.changes and shown_only):
        return replace(record, outcome="undecided", detail=UNDECIDED)
    if not record.changes or terms.dry_run:
        return record
    if shown_only:
        words = [word for word in terms.command[1:] if word != "--dry-run"]
        return replace(record, detail=f"only root may set them: {shlex.join(['sudo', 'vdscheck', *words])}")
    return None if terms.yes else _asked(record, bench)


def would_not(why: str) -> str:
    """What is said of a plan that is only shown where a fix would be refused."""
    return f"--fix would change nothing here: {why}"


def _with_what_stops_it(record: FixRecord, made: Plan, bench: Bench) -> FixRecord:
    """A dry run's plan, with what would keep it from being written."""
    if record.outcome != "planned":
        return record
    why = _read_only(made, bench) or hides(made, bench.desk)
    return record if why is None else replace(record, detail=would_not(why))


def _asked(record: FixRecord, bench: Bench) -> FixRecord | None:
    answer = bench.ask(record)
    if answer and not bench.stopped():
        return None
    why = "nothing was changed"
    if bench.stopped():
        why = "interrupted: nothing was changed"
    elif answer is None:
        why = "nobody to ask: there is no terminal; --yes applies it without a question"
    return replace(record, outcome="declined", detail=why)


def _applied(
    made: Plan, record: FixRecord, contents: Mapping[str, bytes | None], bench: Bench, found: Measurements
) -> Result:
    why = _read_only(made, bench)
    if why is not None:
        return Result(found, replace(record, outcome="refused", detail=why))
    bench.rehearse(record)
    try:
        for kind in bench.desk.kinds.values():
            bench.desk.file(kind)
        journal = Journal.made(bench.host, bench.desk.kinds)
    except FixError as error:
        return Result(found, replace(record, outcome="refused", detail=str(error)))
    try:
        with last_to_be_killed():
            journal.lock()
            _recovered(journal, bench)
            entry = apply(made, bench.desk, journal, contents, bench.stopped)
            outcome = _kept(entry, journal, bench, found)
    except GivenBackError as error:
        return Result(found, _given_back(record, error, bench))
    except FixError as error:
        return Result(found, replace(record, outcome="refused", detail=str(error)))
    finally:
        journal.close()
    measurements = outcome.measurements
    failed = outcome.failed or outcome.given_up
    done = _done(record, entry, measurements, bench)
    return Result(measurements, done, outcome.warnings, outcome.complete, failed)


def _read_only(made: Plan, bench: Bench) -> str | None:
    """What of all that is to be written lies on something read-only: then not even the first of it is written."""
    kinds = bench.desk.kinds
    written = [JOURNAL, *(kinds[name].file for name in made.contents)]
    if bench.desk.live:
        written += [kinds[name.kind].path(name.key) for name in made.names]
    path = next(filter(bench.host.is_read_only, written), None)
    return None if path is None else f"{path} cannot be written here: Read-only file system; run vdscheck where it can"


def _kept(entry: Entry, journal: Journal, bench: Bench, found: Measurements) -> Outcome:
    """Measure and judge again; keep the change where it holds. Raises GivenBackError where it does not."""
    with giving_back(entry, bench.desk, journal):
        outcome = _again(bench, found)
        wrong = _wrong(entry, bench, found, outcome)
        if wrong:
            raise FixError("; ".join(wrong))
        journal.advance(entry, "held")
        standing.note(f"fix {entry.id} is applied and holds: {GIVES_BACK}")
    return outcome


def _wrong(entry: Entry, bench: Bench, found: Measurements, outcome: Outcome) -> list[str]:
    """Why a change does not hold; what is said of more than the values must be so twice."""
    wrong = [] if bench.stopped() else list(verified(entry, bench.desk))
    if not wrong and not bench.stopped():
        wrong = _doubts(entry, bench, found, outcome)
        if wrong:
            # A busy machine may not answer in time.
            outcome.measurements |= bench.measure(bench.host, _holding(entry, bench)).measurements
            wrong = _doubts(entry, bench, found, outcome)
    return ["interrupted"] if bench.stopped() else wrong


def _doubts(entry: Entry, bench: Bench, found: Measurements, outcome: Outcome) -> list[str]:
    """What speaks against a change: the next boot, and each finding that it made worse."""
    kinds = {name: bench.desk.kinds[name] for name in entry.kinds}
    boots = {name: _boot(kind, outcome.measurements) for name, kind in kinds.items()}
    own = [each for each in entry.settings if each.moved_by is None]
    whys = ((each.key, kinds[each.kind].lasts(each.key, each.wanted, boots[each.kind])) for each in own)
    moved: Measurements = {name: found.get(name, taken) for name, taken in outcome.measurements.items()}
    for name, kind in kinds.items():
        moved = kind.moved(moved, outcome.measurements, entry.keys(name))
    before, after = (
        [each for each in bench.judge(taken).findings if _reads(each, entry, bench)] for taken in (found, moved)
    )
    return [*(f"{key}: {why}" for key, why in whys if why), *(f"{name} got worse" for name in worse(before, after))]


def _reads(finding: Finding, entry: Entry, bench: Bench) -> bool:
    """Whether a check takes a measurement that holds a setting of a change: only that can be made worse by it."""
    return any(_holds(each, entry, bench) for each in bench.catalogue.checks[finding.id].measurement_types)


def _holds(measurement: type, entry: Entry, bench: Bench) -> bool:
    return any(bench.desk.kinds[name].holds(measurement, entry.keys(name)) for name in entry.kinds)


def _holding(entry: Entry, bench: Bench) -> list[ProbeEntry]:
    """The probes of the run whose measurements hold a setting of a change."""
    boots = (bench.catalogue.by_type[bench.desk.kinds[name].boot] for name in entry.kinds)
    run = {each.probe.id: each for each in (*bench.entries, *boots)}
    return [each for each in _light(run.values()) if _holds(each.provides, entry, bench)]


def _again(bench: Bench, found: Measurements) -> Outcome:
    """Measure again, all but what puts a load on the host: that keeps its first measurement."""
    outcome = bench.measure(bench.host, _light(bench.entries))
    lost = _lost(bench, found, outcome)
    if lost and not bench.stopped():
        # The machine may have been paused, or the measuring ended.
        again = bench.measure(bench.host, lost)
        measurements, warnings = {**outcome.measurements, **again.measurements}, [*outcome.warnings, *again.warnings]
        outcome = replace(again, measurements=measurements, warnings=warnings)
        outcome.failed = outcome.failed or bool(_lost(bench, found, outcome))
    outcome.measurements = {**found, **outcome.measurements}
    return outcome


def _lost(bench: Bench, found: Measurements, outcome: Outcome) -> list[ProbeEntry]:
    """The probes that were in time before and are not now: all of them where the measuring failed."""
    gone = {
        name.partition("[")[0]
        for name, taken in outcome.measurements.items()
        if taken.absent is not None and taken.absent.reason is Reason.TIMEOUT and name in found
        if found[name].absent is None
    }
    return [each for each in _light(bench.entries) if outcome.failed or each.probe.id in gone]


def _light(entries: Iterable[ProbeEntry]) -> list[ProbeEntry]:
    return [each for each in entries if each.probe.window is None or each.probe.window.passive_s is not None]


# What the report says of it


def _done(record: FixRecord, entry: Entry, measurements: Measurements, bench: Bench) -> FixRecord:
    changes = tuple(
        replace(each, after=_after(each, measurements, bench), outcome="applied") for each in record.changes
    )
    return replace(record, id=entry.id, outcome="applied", changes=changes)


def _after(change: FixChange, measurements: Measurements, bench: Bench) -> str | None:
    """What a setting is now, or below a root after the next boot."""
    kind = bench.desk.kinds[change.kind]
    boot = None if bench.desk.live else _boot(kind, measurements)
    decided = None if boot is None else kind.at_boot(change.key, boot)
    return bench.desk.now(change.kind, change.key) if decided is None else decided.value


def _given_back(record: FixRecord, error: GivenBackError, bench: Bench) -> FixRecord:
    stays = still_ours(error.entry, bench.desk)
    changes = tuple(_as_it_is(each, bench.desk, error.left, stays) for each in record.changes)
    said: tuple[LeftAlone, ...] = (*record.left_alone, *error.left)
    return replace(record, id=error.entry.id, outcome="given-back", detail=str(error), changes=changes, left_alone=said)


def _as_it_is(change: FixChange, work: Desk, left: Iterable[LeftAlone], stays: Collection[Name]) -> FixChange:
    now, kind = work.now(change.kind, change.key), work.kinds[change.kind]
    is_back = change.before is None or kind.same(now, change.before)
    back = is_back and Name(change.kind, change.key) not in stays
    named = any(each.key == change.key for each in left)
    return replace(change, after=now, outcome="given-back" if back and not named else "left")
