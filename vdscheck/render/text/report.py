"""The report as people read it in a terminal: the score, then what is wrong, then what is not known."""

import math
from collections.abc import Iterable, Sequence

from vdscheck.judge.lost import limit_warnings
from vdscheck.model.absence import Reason
from vdscheck.model.fixes import FixNote
from vdscheck.model.judgement import AreaScore, Confidence, Finding, Severity, Verdict
from vdscheck.model.report import Report
from vdscheck.render.safe import harmless
from vdscheck.render.text.canvas import Canvas, Span
from vdscheck.render.text.fix import fix_section
from vdscheck.render.text.groups import (
    NAME_LIMIT,
    NAMES_SHOWN,
    FindingGroup,
    Problem,
    alike,
    listed,
    measured_and_why,
    troubles,
)
from vdscheck.render.text.wording import amount_of_memory, distribution, facts, kernel, kind_of_machine, limit
from vdscheck.threshold import spoken
from vdscheck.units import counted, spoken_seconds

INDENT = 9
"""Labels stand before it, all text behind it."""
BAR_CELLS = 28
AREA_CELLS = 8
AREA_NAME_LIMIT = 14
TOLD_IN_FULL = 20
"""What is wrong beyond these, the worst, is told without the way to mend it."""
SUBJECTS_SHOWN = 8
EVIDENCE_LIMIT = 1000
GROUPS_SHOWN = 12
CAPPING_SHOWN = 3
WARNINGS_SHOWN = 8

_STYLE = {Verdict.FAIL: "bold red", Verdict.WARN: "bold magenta"}
_COUNTED = {
    Verdict.FAIL: "fail",
    Verdict.WARN: "warn",
    Verdict.UNKNOWN: "unknown",
    Verdict.PASS: "pass",
    Verdict.NOT_APPLICABLE: "not applicable",
    Verdict.WAIVED: "waived",
}
_LITTLE = 0.6
"""With less of it measured a score is provisional (the contract)."""


def terminal(report: Report, *, width: int, colour: bool, utf8: bool, verbose: bool, quiet: bool) -> bytes:
    """The report as lines for a terminal of that width; without colour there is no escape in it."""
    canvas = Canvas(width=width, colour=colour, utf8=utf8)
    _limits(canvas, report)
    if not report.run.complete:
        _incomplete(canvas)
    if not quiet:
        _header(canvas, report)
    _score(canvas, report)
    if quiet:
        canvas.blank()
    else:
        _areas(canvas, report)
    found = troubles(report.findings)
    in_full = len(found) if verbose else TOLD_IN_FULL
    for number, trouble in enumerate(found):
        brief = quiet or number >= in_full
        if number <= in_full and not quiet:
            canvas.blank()
        _trouble(canvas, trouble, verbose=verbose, brief=brief)
    if quiet:
        _fix(canvas, report)
        _gates(canvas, report, only_broken=True)
        return canvas.drawn()
    if not found:
        _nothing_wrong(canvas, report)
    _unknown(canvas, report, verbose=verbose)
    _waived(canvas, report)
    if verbose:
        _passes(canvas, report)
        _not_applicable(canvas, report)
    _warnings(canvas, report, verbose=verbose)
    _fix(canvas, report)
    _footer(canvas, report, verbose=verbose)
    return canvas.drawn()


# The head


def _limits(canvas: Canvas, report: Report) -> None:
    for warning in limit_warnings(report.measurements):
        label = ("LIMITED ", "bold magenta")
        canvas.prose([(harmless(_capital(warning)), "")], indent=len(label[0]), label=label)
        canvas.blank()


def _incomplete(canvas: Canvas) -> None:
    label = ("INCOMPLETE ", "bold magenta")
    said = "this run was ended early: what was not measured by then is unknown"
    canvas.prose([(said, "")], indent=len(label[0]), label=label)
    canvas.blank()


def _header(canvas: Canvas, report: Report) -> None:
    target, run = report.target, report.run
    machine = [
        kind_of_machine(target.virtualization),
        "" if target.nodes is None else counted(target.nodes, "node"),
        "" if target.cpus is None else f"{target.cpus} {'vCPU' if _is_guest(report) else 'CPU'}",
        "" if target.memory_bytes is None else amount_of_memory(target.memory_bytes),
    ]
    system = [distribution(target.os), kernel(target.kernel)]
    first = [
        f"{report.tool.name} {report.tool.version}",
        "",
        ", ".join(filter(None, system)),
        ", ".join(filter(None, machine)),
    ]
    parts = [[(harmless(part), "")] for part in first if part]
    parts.insert(1, [(harmless(target.name), "bold")])
    canvas.flow(parts)
    checks = len({finding.id for finding in report.findings})
    kept = len({finding.id for finding in report.findings if finding.reason is Reason.PERMISSION})
    profiles = report.ruleset.profiles
    second = [
        f"profile{'' if len(profiles) == 1 else 's'} {', '.join(profiles)}",
        f"{counted(checks, 'check')} in {spoken_seconds(run.duration_s)}",
        f"{counted(kept, 'check')} could see more with permission" if kept else "",
        f"files under {target.root}" if target.root else "",
    ]
    canvas.flow([(harmless(part), "dim")] for part in second if part)
    canvas.blank()


def _is_guest(report: Report) -> bool:
    return report.target.kind == "host" and report.target.virtualization not in (None, "none")


def _score(canvas: Canvas, report: Report) -> None:
    score = report.score
    share = f"measured {math.floor(round(100 * score.coverage, 2))} % of what applies"
    if score.value is None:
        canvas.prose([("no score", "bold"), (canvas.dot, "dim"), ("nothing could be decided", "")], indent=2)
        return
    head: list[Span] = [
        (f"{score.value:>4}", "bold"),
        (" / 100   ", ""),
        (score.grade or "?", "bold"),
        ("   ", ""),
    ]
    column = sum(len(text) for text, _ in head)
    bar = canvas.bar(score.value, min(BAR_CELLS, canvas.measure - column), "")
    notes = [share, *_score_notes(report)]
    if column + BAR_CELLS + 3 + len(share) <= canvas.measure:
        canvas.spans(*head, *bar, ("   ", ""), (notes.pop(0), ""))
    else:
        canvas.spans(*head, *bar)
    for note in notes:
        canvas.prose([(note, "")], indent=min(column, canvas.measure // 2 - 7))


def _score_notes(report: Report) -> Iterable[str]:
    score = report.score
    if score.provisional:
        few = score.value is None or score.coverage < _LITTLE
        why = "too little was measured to rely on the grade" if few else "a limit stopped measurements"
        yield f"provisional: {why}"
    if score.cap is not None:
        failed = [finding for finding in report.findings if finding.verdict is Verdict.FAIL]
        worst = max(failed, key=lambda finding: finding.weight, default=None)
        if worst is not None:
            names = sorted({finding.id for finding in failed if finding.weight == worst.weight})
            kind = "critical" if worst.severity is Severity.CRITICAL else f"{worst.severity.value}-severity"
            yield f"at most {score.cap} with a {kind} failure: {listed(names, CAPPING_SHOWN)}"


def _areas(canvas: Canvas, report: Report) -> None:
    areas = report.score.areas
    if not areas:
        return
    canvas.blank()
    names = {area: harmless(area, AREA_NAME_LIMIT) for area in areas}
    wide = max(len(name) for name in names.values())
    most = max(1, (canvas.measure + 1) // (wide + AREA_CELLS + 10))
    per_line = math.ceil(len(areas) / math.ceil(len(areas) / most))
    row: list[Span] = []
    for number, (area, score) in enumerate(areas.items(), start=1):
        row.append((f"  {names[area]:<{wide}}  ", ""))
        if score.value is None:
            row.append((f"{_without_score(report, area):<{AREA_CELLS + 6}}", "dim"))
        else:
            row.extend(canvas.bar(score.value, AREA_CELLS, _area_style(report, area)))
            row.append((f" {score.value:>3}{'?' if _little(score) else ' '} ", ""))
        if number % per_line == 0 or number == len(areas):
            canvas.spans(*row[:-1], (row[-1][0].rstrip(), row[-1][1]))
            row = []
    if any(each.value is not None and _little(each) for each in areas.values()):
        canvas.prose([("? less than 60 % of the area was measured", "dim")], indent=2)


def _little(score: AreaScore) -> bool:
    return score.coverage is not None and score.coverage < _LITTLE


def _without_score(report: Report, area: str) -> str:
    verdicts = {finding.verdict for finding in report.findings if finding.area == area}
    if Verdict.UNKNOWN in verdicts:
        return "not known"
    return "waived" if Verdict.WAIVED in verdicts else "not applicable"


def _area_style(report: Report, area: str) -> str:
    failed = any(finding.verdict is Verdict.FAIL for finding in report.findings if finding.area == area)
    return "red" if failed else ""


def _nothing_wrong(canvas: Canvas, report: Report) -> None:
    canvas.blank()
    passed = len({finding.id for finding in report.findings if finding.verdict is Verdict.PASS})
    unknown = any(finding.verdict is Verdict.UNKNOWN for finding in report.findings)
    where = " in what was measured" if unknown else ""
    said = f"Nothing is wrong{where}: {counted(passed, 'check')} passed." if passed else "No check came to a verdict."
    canvas.prose([(said, "")], indent=2)


# What is wrong


def _trouble(canvas: Canvas, trouble: Problem, *, verbose: bool, brief: bool) -> None:
    worst = trouble.worst
    label = (worst.verdict.value.upper(), _STYLE[worst.verdict])
    if len(trouble.findings) == 1:
        canvas.heading(label, [(harmless(worst.name, NAME_LIMIT), "bold")], _price(trouble), indent=INDENT)
        _one(canvas, worst, verbose=verbose, brief=brief)
        return
    share = f"  {len(trouble.findings)} of {counted(trouble.judged, 'subject')}"
    canvas.heading(label, [(harmless(worst.id, NAME_LIMIT), "bold"), (share, "")], _price(trouble), indent=INDENT)
    _several(canvas, trouble, verbose=verbose, brief=brief)


def _one(canvas: Canvas, finding: Finding, *, verbose: bool, brief: bool) -> None:
    """What was measured, what follows from it, how to mend it."""
    found, why = measured_and_why(finding)
    canvas.prose([(harmless(found), "")], indent=INDENT)
    if verbose:
        _evidence(canvas, finding, indent=INDENT + 2)
    if why and not brief:
        canvas.prose([(harmless(why), "")], indent=INDENT)
    if finding.fix and not brief:
        _mending(canvas, finding.fix, indent=INDENT, verbose=verbose)


def _several(canvas: Canvas, trouble: Problem, *, verbose: bool, brief: bool) -> None:
    """What follows from it once, then each subject with what mends it; what mends all of them, once at the end."""
    shown = trouble.findings if verbose else trouble.findings[:SUBJECTS_SHOWN]
    whys = {measured_and_why(finding)[1] for finding in shown}
    shared = whys.pop() if len(whys) == 1 else None
    if shared and not brief:
        canvas.prose([(harmless(shared), "")], indent=INDENT)
    fix = shown[0].fix if all(finding.fix == shown[0].fix for finding in trouble.findings) else None
    differing = len({finding.verdict for finding in trouble.findings}) > 1
    for finding in shown:
        bullet = (f"{finding.verdict.value} ", _STYLE[finding.verdict]) if differing else ("- ", "dim")
        indent = INDENT + len(bullet[0])
        text = finding.summary if shared is None else measured_and_why(finding)[0]
        named = finding.subject is not None and finding.subject not in text
        name = harmless(f"{finding.subject}: ", NAME_LIMIT) if named else ""
        canvas.prose([(name, ""), (harmless(text), "")], indent=indent, label=(" " * INDENT + bullet[0], bullet[1]))
        if verbose:
            _evidence(canvas, finding, indent=indent + 2)
        if finding.fix and not fix and not brief:
            _mending(canvas, finding.fix, indent=indent, verbose=verbose)
    _more(canvas, len(trouble.findings) - len(shown))
    if fix and not brief:
        _mending(canvas, fix, indent=INDENT, verbose=verbose)


def _price(trouble: Problem) -> str:
    unsure = "low confidence, " if trouble.worst.confidence is Confidence.LOW else ""
    price = f"costs {trouble.points:.1f}" if trouble.points else "costs nothing"
    return f"{trouble.worst.severity.value}, {unsure}{price}"


def _mending(canvas: Canvas, fix: FixNote, *, indent: int, verbose: bool) -> None:
    canvas.prose([(_sentence(harmless(fix.summary)) + (":" if fix.commands else "."), "")], indent=indent)
    column = canvas.column_for((*fix.commands, *(fix.undo if verbose else ())), indent=indent + 2)
    for command in fix.commands:
        canvas.command(command, indent=column)
    if verbose and fix.undo:
        canvas.prose([("To take it back:", "")], indent=indent)
        for command in fix.undo:
            canvas.command(command, indent=column, style="")


def _evidence(canvas: Canvas, finding: Finding, *, indent: int) -> None:
    """What bears a verdict: the limit with its source, the samples, and the facts beside them."""
    if finding.expected is not None:
        canvas.prose(
            [(harmless(f"limit: {limit(finding.expected)}; {finding.expected['source']}"), "dim")], indent=indent
        )
    if said := facts(finding):
        canvas.prose([(harmless(said, EVIDENCE_LIMIT), "dim")], indent=indent)


# What is not known, what is accepted, what is well


def _unknown(canvas: Canvas, report: Report, *, verbose: bool) -> None:
    _alike(canvas, "UNKNOWN", alike(report.findings, Verdict.UNKNOWN, roughly=not verbose), verbose=verbose)


def _not_applicable(canvas: Canvas, report: Report) -> None:
    _alike(canvas, "N/A", alike(report.findings, Verdict.NOT_APPLICABLE, roughly=False), verbose=True)


def _alike(canvas: Canvas, label: str, groups: Sequence[FindingGroup], *, verbose: bool) -> None:
    shown = groups if verbose else groups[:GROUPS_SHOWN]
    canvas.blank()
    for number, group in enumerate(shown):
        names = listed(group.names, len(group.names) if verbose else NAMES_SHOWN)
        head = (label if number == 0 else "", "bold")
        canvas.heading(head, [(names, "")], group.reason.value if group.reason else "", indent=INDENT)
        canvas.prose([(harmless(group.sentence), "")], indent=INDENT + 2)
        if verbose:
            for finding in group.findings:
                _evidence(canvas, finding, indent=INDENT + 4)
    _more(canvas, sum(len(group.findings) for group in groups[len(shown) :]))


def _waived(canvas: Canvas, report: Report) -> None:
    canvas.blank()
    waived = [finding for finding in report.findings if finding.verdict is Verdict.WAIVED]
    for number, finding in enumerate(waived):
        label = ("WAIVED" if number == 0 else "", "bold")
        until = f"until {finding.waiver.expires}" if finding.waiver else ""
        name = [(harmless(finding.name, NAME_LIMIT), "")]
        canvas.heading(label, name, harmless(until, NAME_LIMIT), indent=INDENT)
        canvas.prose([(harmless(measured_and_why(finding)[0]), "")], indent=INDENT + 2)
        if finding.waiver:
            canvas.prose([(harmless(f"accepted: {finding.waiver.reason}"), "")], indent=INDENT + 2)


def _passes(canvas: Canvas, report: Report) -> None:
    canvas.blank()
    passed = [finding for finding in report.findings if finding.verdict is Verdict.PASS]
    for number, finding in enumerate(passed):
        label = ("PASS" if number == 0 else "", "bold")
        unsure = "low confidence" if finding.confidence is Confidence.LOW else ""
        canvas.heading(label, [(harmless(finding.name, NAME_LIMIT), "")], unsure, indent=INDENT)
        canvas.prose([(harmless(finding.summary), "")], indent=INDENT + 2)
        _evidence(canvas, finding, indent=INDENT + 4)


# The foot


def _warnings(canvas: Canvas, report: Report, *, verbose: bool) -> None:
    canvas.blank()
    told = limit_warnings(report.measurements)
    warnings = [warning for warning in report.warnings if warning not in told]
    shown = warnings if verbose else warnings[:WARNINGS_SHOWN]
    for number, warning in enumerate(shown):
        canvas.prose([(harmless(warning), "")], indent=INDENT, label=("NOTE" if number == 0 else "", "bold"))
    _more(canvas, len(warnings) - len(shown))


def _gates(canvas: Canvas, report: Report, *, only_broken: bool) -> None:
    shown = [gate for gate in report.gates if not (gate.holds and only_broken) or gate.loosened_by]
    for number, gate in enumerate(shown):
        found = "no score" if gate.value is None else f"found {spoken(gate.value)}"
        name = harmless(f"{gate.name} {gate.threshold}", NAME_LIMIT)
        outcome: Span = ("holds", "") if gate.holds else ("does not hold", "bold red")
        label = ("GATE" if number == 0 else "", "bold")
        canvas.prose([(f"{name} ", ""), outcome, (f" ({found})", "")], indent=INDENT, label=label)
    loosening = next((gate.loosened_by for gate in shown if gate.loosened_by), None)
    if loosening:
        said = f"{loosening.file}, not named with --config, changes what the gates judge:"
        for number, line in enumerate([said, *loosening.what]):
            canvas.prose([(harmless(line), "")], indent=INDENT if number == 0 else INDENT + 2)


def _footer(canvas: Canvas, report: Report, *, verbose: bool) -> None:
    canvas.blank()
    _gates(canvas, report, only_broken=False)
    canvas.blank()
    parts = []
    for verdict, words in _COUNTED.items():
        count = sum(finding.verdict is verdict for finding in report.findings)
        if count:
            parts.append(f"{count} {words}")
    canvas.flow([(part, "")] for part in parts)
    hints = [f"ruleset {report.ruleset.id}", "vdscheck explain CHECK says why"]
    if not verbose:
        hints.insert(1, "-v lists all")
    wrong = (finding for finding in report.findings if finding.verdict in (Verdict.WARN, Verdict.FAIL))
    mendable = sum(finding.fix is not None and finding.fix.safe for finding in wrong)
    if mendable and report.fix is None:
        hints.append(f"vdscheck --fix can mend {mendable} of these")
    canvas.flow([(harmless(hint), "dim")] for hint in hints)


def _fix(canvas: Canvas, report: Report) -> None:
    if report.fix is None:
        return
    fix_section(canvas, report.fix)
    if report.fix.outcome == "applied":
        before, after = ("?" if value is None else value for value in (report.fix.score_before, report.score.value))
        canvas.prose([("measured again: ", ""), (f"{before} → {after}", "bold")], indent=2)


def _more(canvas: Canvas, count: int) -> None:
    if count > 0:
        canvas.prose([(f"and {count:,} more (-v lists them)", "dim")], indent=INDENT)


def _sentence(text: str) -> str:
    return _capital(text).rstrip(".:")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
