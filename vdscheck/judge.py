"""Judges measurements by a ruleset: pure, so a saved report is judged as a running host is."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from vdscheck.catalogue import Catalogue, CheckEntry, Need
from vdscheck.guard import StoppedError, guarded, is_ours, trial
from vdscheck.lost import limit_warnings
from vdscheck.model import (
    Absent,
    AreaScore,
    ByHand,
    Finding,
    FixNote,
    Gate,
    Judgement,
    Measurements,
    Reason,
    Score,
    SetSysctl,
    Severity,
    Verdict,
    Waiver,
    frozen,
    not_applicable,
    unmeasured,
)
from vdscheck.plugin import Limits
from vdscheck.ruleset import Ruleset, matches
from vdscheck.threshold import Conflict, absent_judgement

CHECK_LIMIT_S = 5.0
PROVISIONAL_BELOW = 0.6
USUAL_COVERAGE = 60
"""Per cent: the gate that comes with one on the score, where no other is asked for."""
GRADES: tuple[tuple[int, Literal["A", "B", "C", "D"]], ...] = ((90, "A"), (80, "B"), (70, "C"), (50, "D"))
CAPS = {Severity.CRITICAL: 49, Severity.HIGH: 79}


@frozen
class Proposal:
    """What a finding that is warn or fail asks for, as data."""

    finding: str
    """The name of the finding."""
    source: str
    """Where its limit is from, as the profile says; empty where there is none."""
    fix: SetSysctl


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
                finding = _finding(entry, subject, judgement, ruleset, today)
                findings.append(finding)
                proposals.extend(_proposal(finding, judgement))
    scored = _with_points(findings)
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


def _finding(entry: CheckEntry, subject: str | None, judgement: Judgement, ruleset: Ruleset, today: str) -> Finding:
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
        fix=_fix_note(judgement.fix),
        waiver=waiver,
        docs=f"vdscheck explain {check.id}",
    )


def _summary(judgement: Judgement, why: str) -> str:
    """What was found and, where something is wrong, what follows from it: the first sentence of the why."""
    if judgement.verdict not in (Verdict.WARN, Verdict.FAIL):
        return judgement.summary
    sentence = " ".join(why.split()).partition(". ")[0].rstrip(".")
    return f"{judgement.summary.rstrip('.')}. {sentence}."


def _fix_note(fix: SetSysctl | ByHand | None) -> FixNote | None:
    if fix is None:
        return None
    if isinstance(fix, ByHand):
        return FixNote("by-hand", safe=False, summary=fix.summary, commands=fix.commands, undo=fix.undo)
    return FixNote(f"sysctl:{fix.key}", safe=True, summary=fix.summary, commands=fix.commands, undo=fix.undo)


def _proposal(finding: Finding, judgement: Judgement) -> Iterator[Proposal]:
    """What is accepted (waived) is not mended either."""
    if isinstance(judgement.fix, SetSysctl) and finding.verdict in (Verdict.WARN, Verdict.FAIL):
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


# The score


def _by_check(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.id, []).append(finding)
    return grouped


def _worst(group: Iterable[Finding]) -> Finding | None:
    """Of the decided findings of one check the worst; the first of those that are equally bad."""
    decided = [finding for finding in group if finding.verdict.credit is not None]
    return min(decided, key=lambda finding: finding.verdict.credit or 0.0, default=None)


def _total(groups: Iterable[Iterable[Finding]]) -> tuple[float, int]:
    kept, weight = 0.0, 0
    for worst in filter(None, map(_worst, groups)):
        kept += worst.weight * (worst.verdict.credit or 0.0)
        weight += worst.weight
    return kept, weight


def _coverage(groups: Iterable[list[Finding]]) -> float | None:
    """The share that was decided; None where nothing applies."""
    decided, applicable = 0.0, 0
    for group in groups:
        applying = [finding for finding in group if finding.verdict is not Verdict.NOT_APPLICABLE]
        if applying:
            known = sum(finding.verdict is not Verdict.UNKNOWN for finding in applying)
            decided += group[0].weight * known / len(applying)
            applicable += group[0].weight
    return round(decided / applicable, 4) if applicable else None


def _with_points(findings: list[Finding]) -> tuple[Finding, ...]:
    groups = _by_check(findings)
    _, weight = _total(groups.values())
    lost = {}
    for worst in filter(None, map(_worst, groups.values())):
        if weight:
            points = 100 * worst.weight * (1 - (worst.verdict.credit or 0.0)) / weight
            lost[id(worst)] = round(points, 1)
    return tuple(replace(each, points_lost=lost.get(id(each), 0.0)) for each in findings)


def score(findings: Iterable[Finding]) -> Score:
    """The score of some findings: the contract's formula, its caps and its grades."""
    groups = _by_check(findings)
    kept, weight = _total(groups.values())
    coverage = _coverage(groups.values()) or 0.0
    caps = [
        CAPS[worst.severity]
        for worst in filter(None, map(_worst, groups.values()))
        if worst.verdict is Verdict.FAIL and worst.severity in CAPS
    ]
    cap = min(caps, default=None)
    areas: dict[str, list[list[Finding]]] = {}
    for group in groups.values():
        areas.setdefault(group[0].area, []).append(group)
    by_area = {}
    for area, members in sorted(areas.items()):
        area_kept, area_weight = _total(members)
        value = _rounded(area_kept, area_weight)
        by_area[area] = AreaScore(value, _coverage(members))
    value = _rounded(kept, weight)
    if value is not None and cap is not None:
        value = min(value, cap)
    grade = None if value is None else _grade(value)
    return Score(value, grade, value is None or coverage < PROVISIONAL_BELOW, coverage, cap, by_area)


def _rounded(kept: float, weight: int) -> int | None:
    # Credits are halves and weights are whole, so the quotient is exact but for the last division.
    return math.floor(100 * kept / weight + 1e-9) if weight else None


def _grade(value: int) -> Literal["A", "B", "C", "D", "F"]:
    return next((grade for least, grade in GRADES if value >= least), "F")


def gates(
    findings: Iterable[Finding],
    scored: Score,
    *,
    min_score: int | None,
    min_coverage: int | None,
    fail_on: Iterable[str],
) -> tuple[Gate, ...]:
    """The gates that were asked for, and whether each holds."""
    found = []
    if min_score is not None:
        holds = scored.value is not None and scored.value >= min_score
        found.append(Gate("min-score", min_score, scored.value, holds))
        min_coverage = USUAL_COVERAGE if min_coverage is None else min_coverage
    if min_coverage is not None:
        percent = round(100 * scored.coverage, 1)
        found.append(Gate("min-coverage", min_coverage, percent, percent >= min_coverage))
    verdicts = [finding.verdict for finding in findings]
    for level in dict.fromkeys(fail_on):
        bad = {
            "warn": (Verdict.WARN, Verdict.FAIL),
            "fail": (Verdict.FAIL,),
            "unknown": (Verdict.UNKNOWN,),
        }[level]
        count = sum(verdict in bad for verdict in verdicts)
        found.append(Gate("fail-on", level, count, count == 0))
    return tuple(found)
