"""The flow of `--fix`: recover, plan, show, confirm, apply, measure again, and keep it or give it all back."""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vdscheck import held
from vdscheck.catalogue import Catalogue, ProbeEntry
from vdscheck.files import FixError
from vdscheck.journal import FOLDER as JOURNAL
from vdscheck.journal import Entry, Journal
from vdscheck.judge import Judged
from vdscheck.measure import Outcome
from vdscheck.measurements import BootTruth
from vdscheck.model import DROP_IN, Finding, FixChange, FixRecord, LeftAlone, Measurements, Taken, frozen
from vdscheck.plan import Plan, StatedBy, Surroundings, lasts, plan, same, worse
from vdscheck.supposed import Supposed
from vdscheck.target import Host
from vdscheck.transaction import (
    ChangedMeanwhileError,
    Desk,
    GivenBackError,
    Kernel,
    apply,
    giving_back,
    recover,
    verified,
)
from vdscheck.unseen import probes_of, unread, unseen

BOOT_PROBE = "kernel.boot"
ATTEMPTS = 3
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


@dataclass
class Result:
    """What came of it."""

    measurements: Measurements
    record: FixRecord
    warnings: list[str] = field(default_factory=list)


def desk(host: Host, version: str) -> Desk:
    """What a fix of this host works on."""
    return Desk(host, Kernel() if host.live else None, version)


def recovered(bench: Bench) -> list[str]:
    """Give back what an earlier run has left behind; what was done, for the reader. Raises FixError."""
    journal = Journal.opened(bench.host)
    if journal is None:
        return []
    try:
        contents = journal.usable()
        said = list(contents.passed_over)
        if contents.unfinished is None:
            return said
        journal.lock()
        return said + _recovered(journal, bench)
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
        made, content = _plan(bench, found)
        not_seen = (*blind, *unread(bench.judge, found, made.keys))
        record = _record(made, bench.judge(first), not_seen)
        refusal = _before_applying(record, bench, terms, undecided=bool(not_seen or made.unforeseen))
        if refusal is not None:
            return Result(found, _with_what_stops_it(refusal, made, bench), said)
        try:
            result = _applied(made, record, content, bench, found)
        except ChangedMeanwhileError as error:
            bench.say(f"{error}: nothing was written; measuring and planning again")
            said.append(f"{error}: planned again")
            found, blind = _seen(bench, _again(bench, found).measurements)
            continue
        return replace(result, warnings=[*said, *result.warnings])
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
    return unseen(bench.catalogue, bench.judge, found, live=bench.desk.kernel is not None)


def _plan(bench: Bench, found: Measurements) -> tuple[Plan, bytes | None]:
    try:
        file = bench.desk.drop_in()
    except FixError:
        file = None  # said when it comes to writing it
    content = None if file is None else file.content
    here = Surroundings(found, content, image=bench.desk.kernel is None, stated_by=bench.stated_by)
    return plan(bench.judge, here, lambda text: _foreseen(bench, text)), content


def _foreseen(bench: Bench, content: bytes) -> BootTruth | None:
    """What the next boot would be with that content of our file, as the same probe finds it."""
    host = Supposed(bench.host.root, tree=bench.host.tree, path=DROP_IN, content=content)
    entry = bench.catalogue.probes[BOOT_PROBE]
    tries = (_boot(bench.measure(host, [entry]).measurements) for _ in range(LOOKS))
    return next(filter(None, tries), None)


def _boot(measurements: Mapping[str, Taken]) -> BootTruth | None:
    return next((taken.value for taken in measurements.values() if isinstance(taken.value, BootTruth)), None)


def _record(made: Plan, judged: Judged, blind: tuple[LeftAlone, ...]) -> FixRecord:
    return FixRecord(
        id=None,
        outcome="planned" if made.changes else "nothing-to-do",
        detail="",
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
    """A dry run's plan, with what of all that it would write lies on something read-only."""
    why = _read_only(made, bench) if record.outcome == "planned" and not record.detail else None
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


def _applied(made: Plan, record: FixRecord, content: bytes | None, bench: Bench, found: Measurements) -> Result:
    why = _read_only(made, bench)
    if why is not None:
        return Result(found, replace(record, outcome="refused", detail=why))
    try:
        bench.desk.drop_in()
        journal = Journal.made(bench.host)
    except FixError as error:
        return Result(found, replace(record, outcome="refused", detail=str(error)))
    try:
        journal.lock()
        _recovered(journal, bench)
        entry = apply(made, bench.desk, journal, content, bench.stopped)
        outcome = _kept(entry, journal, bench, found)
    except GivenBackError as error:
        return Result(found, _given_back(record, error, bench))
    except FixError as error:
        return Result(found, replace(record, outcome="refused", detail=str(error)))
    finally:
        journal.close()
    return Result(outcome.measurements, _done(record, entry, outcome.measurements, bench), outcome.warnings)


def _read_only(made: Plan, bench: Bench) -> str | None:
    """What of all that is to be written lies on something read-only: then not even the first of it is written."""
    written = [JOURNAL, *([DROP_IN] if made.content is not None else [])]
    if bench.desk.kernel is not None:
        written += [f"/proc/sys/{key.replace('.', '/')}" for key in made.keys]
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
    boot = _boot(outcome.measurements)
    whys = ((each.key, lasts(each.key, each.wanted, boot)) for each in entry.settings)
    moved = held.moved(found, outcome.measurements, entry.keys)
    before, after = (
        [each for each in bench.judge(taken).findings if _reads(each, entry, bench)] for taken in (found, moved)
    )
    return [*(f"{key}: {why}" for key, why in whys if why), *(f"{name} got worse" for name in worse(before, after))]


def _reads(finding: Finding, entry: Entry, bench: Bench) -> bool:
    """Whether a check takes a measurement that holds a setting of a change: only that can be made worse by it."""
    kinds = bench.catalogue.checks[finding.id].measurement_types
    return any(held.holds(kind, entry.keys) for kind in kinds)


def _holding(entry: Entry, bench: Bench) -> list[ProbeEntry]:
    """The probes of the run whose measurements hold a setting of a change."""
    run = {each.probe.id: each for each in (*bench.entries, bench.catalogue.probes[BOOT_PROBE])}
    return [each for each in _light(run.values()) if held.holds(each.provides, entry.keys)]


def _again(bench: Bench, found: Measurements) -> Outcome:
    """Measure again, all but what puts a load on the host: that keeps its first measurement."""
    outcome = bench.measure(bench.host, _light(bench.entries))
    if outcome.failed and not bench.stopped():
        outcome = bench.measure(bench.host, _light(bench.entries))
    outcome.measurements = {**found, **outcome.measurements}
    return outcome


def _light(entries: Iterable[ProbeEntry]) -> list[ProbeEntry]:
    return [each for each in entries if each.probe.window is None or each.probe.window.passive_s is not None]


# What the report says of it


def _done(record: FixRecord, entry: Entry, measurements: Measurements, bench: Bench) -> FixRecord:
    boot = _boot(measurements)

    def after(key: str) -> str | None:
        return bench.desk.now(key) if bench.desk.kernel or boot is None else boot.keys[key].value

    changes = tuple(replace(each, after=after(each.key), outcome="applied") for each in record.changes)
    return replace(record, id=entry.id, outcome="applied", changes=changes)


def _given_back(record: FixRecord, error: GivenBackError, bench: Bench) -> FixRecord:
    changes = tuple(_as_it_is(each, bench.desk.now(each.key), error.left) for each in record.changes)
    said: tuple[LeftAlone, ...] = (*record.left_alone, *error.left)
    return replace(record, id=error.entry.id, outcome="given-back", detail=str(error), changes=changes, left_alone=said)


def _as_it_is(change: FixChange, now: str | None, left: Iterable[LeftAlone]) -> FixChange:
    back = change.before is None or same(now, change.before)
    named = any(each.key == change.key for each in left)
    return replace(change, after=now, outcome="given-back" if back and not named else "left")
