"""One instrument as people watch it: its distributions as a table and as histograms, and what the limits say."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from vdscheck.model.judgement import Confidence, Finding, Verdict
from vdscheck.model.report import Report, Taken
from vdscheck.model.tables import Shown
from vdscheck.render.safe import harmless
from vdscheck.render.text.canvas import Canvas, Sheet
from vdscheck.render.text.groups import NAME_LIMIT, alike, listed
from vdscheck.render.text.histogram import PERCENTILE_HEADS, axis, bars, columns, percentile_cells
from vdscheck.render.text.wording import distribution, kernel, kind_of_machine
from vdscheck.stats import Distribution
from vdscheck.units import spoken_seconds

INDENT = 9
CELL = 9
LABEL = 16
HISTOGRAM_HEIGHT = 3
HISTOGRAMS_SHOWN = 4
_KEPT = {1: (2,), 2: (2, 6), 3: (0, 2, 6), 4: (0, 2, 4, 6), 5: (0, 2, 4, 5, 6), 6: (0, 1, 2, 4, 5, 6)}
"""Where there is no room for all columns: the typical, the worst, how many, the tail, in this order."""
_STYLE = {Verdict.FAIL: "bold red", Verdict.WARN: "bold magenta"}
SHOWN_FIRST = (Verdict.FAIL, Verdict.WARN, Verdict.UNKNOWN, Verdict.PASS, Verdict.WAIVED, Verdict.NOT_APPLICABLE)


def instrument(
    report: Report,
    shown: Shown | None,
    *,
    width: int,
    colour: bool,
    utf8: bool,
    height: int | None = None,
    plain: bool = False,
) -> bytes:
    """The report of one instrument, at most `height` lines: what has no room is the histograms, the first of all.

    `shown` is what a view makes of it; None where all distributions are shown.
    """
    if shown is not None:
        from vdscheck.render.text.side_by_side import drawn as view_drawn

        return view_drawn(report, shown, Sheet(width, colour, utf8, height, plain))
    rows = list(_rows(report.measurements))
    room = HISTOGRAMS_SHOWN
    while True:
        drawn = _drawn(report, rows[:], room, Canvas(width=width, colour=colour, utf8=utf8), utf8=utf8)
        lines = drawn.count(b"\n")
        if height is None or lines <= height:
            return drawn
        if room == 0:
            return b"\n".join(drawn.split(b"\n")[: max(1, height)]) + b"\n"
        room -= 1


def _rows(measurements: Mapping[str, Taken]) -> Iterator[tuple[str, str, Distribution]]:
    """Every distribution that was measured: of which subject, its name in words, and what it is."""
    for key, taken in measurements.items():
        subject = key.partition("[")[2].removesuffix("]")
        if is_dataclass(taken.value):
            for each in fields(taken.value):
                found = getattr(taken.value, each.name)
                if isinstance(found, Distribution):
                    yield subject, each.name.replace("_", " "), found


def _drawn(
    report: Report, rows: list[tuple[str, str, Distribution]], histograms: int, canvas: Canvas, *, utf8: bool
) -> bytes:
    head(canvas, report)
    _table(canvas, rows)
    for subject, name, found in rows[:histograms]:
        _histogram(canvas, subject, name, found, utf8=utf8)
    canvas.blank()
    for verdict in SHOWN_FIRST:
        if verdict in (Verdict.UNKNOWN, Verdict.NOT_APPLICABLE):
            for group in alike(report.findings, verdict, roughly=False):
                verdict_lines(canvas, verdict, listed(group.names), group.reason, group.sentence)
        else:
            for finding in report.findings:
                if finding.verdict is verdict:
                    finding_lines(canvas, finding)
    for warning in report.warnings:
        canvas.prose([(harmless(warning), "")], indent=INDENT, label=("NOTE", "bold"))
    return canvas.drawn()


def head(canvas: Canvas, report: Report) -> None:
    """What was measured where, and how long."""
    target = report.target
    system = ", ".join(filter(None, (distribution(target.os), kernel(target.kernel))))
    parts = [f"{report.tool.name} {report.tool.version}", target.name, system, kind_of_machine(target.virtualization)]
    ended = "" if report.run.complete else ", not yet complete"
    parts.append(f"{spoken_seconds(report.run.duration_s)}{ended}")
    canvas.flow([(harmless(part), "")] for part in parts if part)
    canvas.blank()


def _table(canvas: Canvas, rows: list[tuple[str, str, Distribution]]) -> None:
    cells = min(len(PERCENTILE_HEADS), max(1, (canvas.measure - LABEL) // CELL))
    kept = _KEPT.get(cells, tuple(range(cells)))
    if rows:
        heads = "".join(f"{PERCENTILE_HEADS[each]:>{CELL}}" for each in kept)
        canvas.spans((" " * LABEL, ""), (heads, "dim"))
    before = ""
    for subject, name, found in rows:
        if subject != before:
            canvas.spans((harmless(subject, NAME_LIMIT), "bold"))
        before = subject
        shown = percentile_cells(found)
        values = "".join(f"{shown[each]:>{CELL}}" for each in kept)
        canvas.spans((f"  {name[: LABEL - 3]:<{LABEL - 2}}", ""), (values, ""))


def _histogram(canvas: Canvas, subject: str, name: str, found: Distribution, *, utf8: bool) -> None:
    width = max(16, canvas.measure - 4)
    counts, low_us, high_us = columns(found, width)
    canvas.blank()
    where = f" of {subject}" if subject else ""
    canvas.spans((f"  {harmless(name + where, NAME_LIMIT)}", "dim"))
    for line in bars(counts, HISTOGRAM_HEIGHT, utf8=utf8):
        canvas.spans((f"  {line}", "cyan"))
    canvas.spans((f"  {axis(low_us, high_us, width)}", "dim"))


def finding_lines(canvas: Canvas, finding: Finding) -> None:
    """The verdict of one finding."""
    unsure = "low confidence" if finding.confidence is Confidence.LOW else None
    verdict_lines(
        canvas, finding.verdict, harmless(finding.name, NAME_LIMIT), finding.reason or unsure, finding.summary
    )


def verdict_lines(canvas: Canvas, verdict: Verdict, name: str, beside: str | None, sentence: str) -> None:
    """A verdict on what has a name, and why."""
    label = "N/A" if verdict is Verdict.NOT_APPLICABLE else verdict.value.upper()
    canvas.heading((label, _STYLE.get(verdict, "bold")), [(name, "")], beside or "", indent=INDENT)
    canvas.prose([(harmless(sentence), "")], indent=INDENT + 2)
