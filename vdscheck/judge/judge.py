"""Judges measurements by a ruleset: pure, so a saved report is judged as a running host is."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.catalogue.declarations import CheckEntry, Need
from vdscheck.fix_kind import FixKind
from vdscheck.judge.lost import limit_warnings
from vdscheck.judge.score import score, with_points
from vdscheck.model.absence import Absent, Reason, not_applicable, unmeasured
from vdscheck.model.fixes import ByHand, FixNote, SettingFix
from vdscheck.model.judgement import Finding, Judgement, Score, Verdict, Waiver
from vdscheck.model.records import frozen
from vdscheck.model.report import Measurements
from vdscheck.plugin import Limits
from vdscheck.process.plugins import guarded, is_ours, trial
from vdscheck.process.signals import StoppedError
from vdscheck.ruleset.selection import Ruleset, matches
from vdscheck.threshold import Conflict, absent_judgement

CHECK_LIMIT_S = 5.0


@frozen
class Proposal:
    """What a finding that is warn or fail asks for, as data."""

    finding: str
    """The name of the finding."""
    source: str
    """Where its limit is from, as the profile says; empty where there is none."""
    fix: SettingFix


@frozen
class Judged:
    """The findings, their score, and what the reader should be told beside them."""

    findings: tuple[Finding, ...]
    score: Score
    warnings: tuple[str, ...]
    proposals: tuple[Proposal, ...]


def judge(catalogue: Catalogue, ruleset: Ruleset, measurements: Measurements, today: str) -> Judged:
    """Findings and score. `today` (YYYY-MM-DD) decides which waivers still count."""
    findings: list[Finding] = []
    proposals: list[Proposal] = []
    held = _Held(measurements)
    for entry in ruleset.selected:
        for subject, judgement in _judgements(entry, catalogue, ruleset, held):
            if ruleset.includes(entry.check.id, subject):
                finding = _finding(entry, subject, judgement, ruleset, today, catalogue.kinds)
                findings.append(finding)
                proposals.extend(_proposal(finding, judgement))
    scored = with_points(findings)
    limited = limit_warnings(measurements)
    warnings = (*limited, *_selection_warnings(ruleset, scored), *_waiver_warnings(ruleset, scored, today))
    found = score(scored)
    return Judged(scored, replace(found, provisional=found.provisional or bool(limited)), warnings, tuple(proposals))


def _selection_warnings(ruleset: Ruleset, findings: Iterable[Finding]) -> tuple[str, ...]:
    found = list(findings)
    return tuple(
        f"--only {pattern} left nothing: no finding has that name"
        for pattern in ruleset.note.overrides.get("only", ())
        if not any(matches(pattern, each.id, each.subject) for each in found)
    )


# One check


class _Held:
    """Measurements, and those of each probe by subject: looked for once, however many subjects there are."""

    def __init__(self, measurements: Measurements) -> None:
        self.measurements = measurements
        self._by_probe: dict[str, dict[str, Any]] = {}
        for key, taken in measurements.items():
            probe_id, bracket, subject = key.partition("[")
            if bracket and key.endswith("]"):
                self._by_probe.setdefault(probe_id, {})[subject.removesuffix("]")] = taken.outcome

    def by_subject(self, probe_id: str) -> Mapping[str, Any]:
        """What a probe measured, or why not, by subject."""
        return self._by_probe.get(probe_id, {})


def _judgements(
    entry: CheckEntry, catalogue: Catalogue, ruleset: Ruleset, held: _Held
) -> list[tuple[str | None, Judgement]]:
    conflict = _conflict(entry, ruleset)
    if conflict:
        return [(None, conflict)]
    found: list[tuple[str | None, Judgement]] = []
    for subject in _subjects(entry, catalogue, held):
        arguments: dict[str, Any] = {}
        absent: Absent | None = None
        for need in entry.needs:
            value = _argument(need, entry, subject, catalogue, ruleset, held)
            if isinstance(value, Absent) and not need.bears_absence:
                absent = _weightier(absent, value)
            arguments[need.name] = value
        if absent is not None:
            found.append((subject, absent_judgement(absent)))
        else:
            found.extend(_called(entry, subject, arguments))
    return found


def _weightier(first: Absent | None, second: Absent) -> Absent:
    """Of two absences the one to report: what makes no sense here stands before what could not be had."""
    if first is None or (first.kind == "unmeasured" and second.kind == "not-applicable"):
        return second
    return first


def _conflict(entry: CheckEntry, ruleset: Ruleset) -> Judgement | None:
    for limit in ruleset.limits.get(entry.check.id, {}).values():
        if isinstance(limit, Conflict):
            return Judgement(verdict=Verdict.UNKNOWN, reason=Reason.CONFLICT, summary=limit.detail)
    return None


def _subjects(entry: CheckEntry, catalogue: Catalogue, held: _Held) -> list[str | None]:
    """The subjects that a check is asked about: those of the measurements that it takes one by one."""
    names: dict[str, None] = {}
    one_by_one = False
    for need in entry.needs:
        if need.kind == "measurement" and catalogue.by_type[need.type].subject is not None:
            one_by_one = True
            names.update(dict.fromkeys(held.by_subject(catalogue.by_type[need.type].probe.id)))
    return list(names) if one_by_one and names else [None]


def _argument(
    need: Need,
    entry: CheckEntry,
    subject: str | None,
    catalogue: Catalogue,
    ruleset: Ruleset,
    held: _Held,
) -> Any:  # noqa: ANN401
    if need.kind == "limits":
        return Limits({check: dict(named) for check, named in ruleset.limits.items()})
    if need.kind == "threshold":
        limit = ruleset.limits.get(entry.check.id, {}).get(need.name)
        return not_applicable("no chosen profile sets this limit") if limit is None else limit
    probe = catalogue.by_type[need.type]
    if need.kind == "every-subject":
        found = dict(held.by_subject(probe.probe.id))
        return found if need.bears_absence else {k: v for k, v in found.items() if not isinstance(v, Absent)}
    key = probe.probe.id if probe.subject is None or subject is None else f"{probe.probe.id}[{subject}]"
    taken = held.measurements.get(key)
    if taken is None:
        return unmeasured(Reason.NOT_RUN, f"{key} was not measured in this run")
    value = taken.outcome
    if not isinstance(value, Absent | need.type):
        return unmeasured(Reason.ERROR, f"the report holds no {need.type.__name__} under {key}")
    return value


def _called(entry: CheckEntry, subject: str | None, arguments: Mapping[str, Any]) -> list[tuple[str | None, Judgement]]:
    check = entry.check
    result: Any

    def called() -> tuple[Any, str]:
        try:
            with guarded(CHECK_LIMIT_S):
                return check.function(**arguments), ""
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's check may raise anything
            return None, f"{type(error).__name__}: {error}"

    # A check of others may end the process that it runs in, and the report with it.
    try:
        why = "" if is_ours(check.function.__module__) else trial(lambda: called()[1], CHECK_LIMIT_S)
    except StoppedError:
        late = unmeasured(Reason.NOT_RUN, "the run was interrupted before this was judged")
        return [(subject, _judgement(late))]
    if not why:
        result, why = called()
    if why:
        result = unmeasured(Reason.ERROR, f"{check.id} failed ({check.where}): {why}"[:500])
    if isinstance(result, Judgement | Absent):
        return [(subject, _judgement(result))]
    if isinstance(result, dict) and all(
        isinstance(key, str) and isinstance(value, Judgement | Absent) for key, value in result.items()
    ):
        return [(key, _judgement(value)) for key, value in result.items()]
    why = f"{check.id} ({check.where}) returned {type(result).__name__}, not a Judgement"
    return [(subject, _judgement(unmeasured(Reason.ERROR, why)))]


def _judgement(result: Judgement | Absent) -> Judgement:
    return absent_judgement(result) if isinstance(result, Absent) else result


def _finding(
    entry: CheckEntry,
    subject: str | None,
    judgement: Judgement,
    ruleset: Ruleset,
    today: str,
    kinds: Mapping[str, FixKind],
) -> Finding:
    check = entry.check
    severity = ruleset.severities.get(check.id, check.severity)
    verdict, waiver = judgement.verdict, None
    if verdict in (Verdict.WARN, Verdict.FAIL):
        waiver = _waiver(ruleset, check.id, subject, today)
        verdict = verdict if waiver is None else Verdict.WAIVED
    return Finding(
        id=check.id,
        subject=subject,
        area=check.area,
        title=entry.title,
        severity=severity,
        weight=severity.weight,
        verdict=verdict,
        reason=judgement.reason,
        summary=_summary(judgement, ruleset.whys.get(check.id) or entry.sections["Why"]),
        observed=judgement.observed,
        expected=judgement.expected,
        evidence=judgement.evidence,
        points_lost=0.0,
        confidence=judgement.confidence,
        fix=_fix_note(judgement.fix, kinds),
        waiver=waiver,
        docs=f"vdscheck explain {check.id}",
    )


def _summary(judgement: Judgement, why: str) -> str:
    """What was found and, where something is wrong, what follows from it: the first sentence of the why."""
    if judgement.verdict not in (Verdict.WARN, Verdict.FAIL):
        return judgement.summary
    sentence = " ".join(why.split()).partition(". ")[0].rstrip(".")
    return f"{judgement.summary.rstrip('.')}. {sentence}."


def _fix_note(fix: SettingFix | ByHand | None, kinds: Mapping[str, FixKind]) -> FixNote | None:
    if fix is None:
        return None
    if isinstance(fix, ByHand):
        kind = None if fix.setting is None else kinds.get(fix.setting.kind)
        if kind is None or fix.setting is None:
            return FixNote("by-hand", safe=False, summary=fix.summary, commands=fix.commands, undo=fix.undo)
        commands, undo = (*fix.commands, *kind.commands(fix.setting)), (*fix.undo, *kind.undo(fix.setting))
        return FixNote("by-hand", safe=False, summary=fix.summary, commands=commands, undo=undo)
    kind = kinds.get(fix.kind)
    if kind is None:
        why = f"set {fix.key} to {fix.value}: nothing that is installed sets a {fix.kind}"
        return FixNote("by-hand", safe=False, summary=why, commands=(), undo=())
    return FixNote(
        f"{fix.kind}:{fix.key}",
        safe=True,
        summary=kind.summary(fix),
        commands=kind.commands(fix),
        undo=kind.undo(fix),
    )


def _proposal(finding: Finding, judgement: Judgement) -> Iterator[Proposal]:
    """What is accepted (waived) is not mended either."""
    if isinstance(judgement.fix, SettingFix) and finding.verdict in (Verdict.WARN, Verdict.FAIL):
        source = "" if finding.expected is None else finding.expected["source"]
        yield Proposal(finding.name, source, judgement.fix)


# Waivers


def _waiver(ruleset: Ruleset, check_id: str, subject: str | None, today: str) -> Waiver | None:
    for waiver in ruleset.waivers:
        if waiver.expires >= today and matches(waiver.check, check_id, subject):
            return waiver
    return None


def _waiver_warnings(ruleset: Ruleset, findings: Iterable[Finding], today: str) -> tuple[str, ...]:
    found = list(findings)
    said = []
    for waiver in ruleset.waivers:
        if waiver.expires < today:
            said.append(f"the waiver of {waiver.check} expired on {waiver.expires} and no longer counts")
        elif not any(each.waiver == waiver for each in found):
            said.append(f"the waiver of {waiver.check} accepts nothing: no such finding is warn or fail")
    return tuple(said)
