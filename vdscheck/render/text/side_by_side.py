"""What a view shows, drawn: tables side by side, a bar a row as a picture, and the verdicts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vdscheck.model.judgement import Finding, Verdict
from vdscheck.model.report import Report
from vdscheck.model.tables import Column, Row, Shown, Table
from vdscheck.render.safe import harmless
from vdscheck.render.text.canvas import Canvas, Sheet, Span
from vdscheck.render.text.instrument import INDENT, SHOWN_FIRST, finding_lines, head
from vdscheck.units import short_figure

HOP = 4
CELL = 5
LOSS = 7
ANSWERS = 9
LEAST_HOST, MOST_HOST = 15, 40
GAP = 1
BLOCKS_LIMIT = 4
LEAST_BAR = 8


LEAST_COLUMNS = 3


class Block(NamedTuple):
    """How wide a table is, and what stands in it."""

    host: int
    columns: tuple[int, ...]
    """Which of the columns."""
    answers: bool
    """Whether there is room for how many of how many were answered."""

    @property
    def width(self) -> int:
        """All of it."""
        return self.host + LOSS + CELL * len(self.columns) + (ANSWERS if self.answers else 0)


def drawn(report: Report, shown: Shown, sheet: Sheet) -> bytes:
    """The report of a view: at most as high as the sheet; what has no room is the picture first, then verdicts."""
    for picture, verdicts in ((True, True), (False, True), (False, False)):
        canvas = Canvas(width=sheet.width, colour=sheet.colour, utf8=sheet.utf8)
        _draw(canvas, report, shown, sheet, picture=picture and report.run.complete, verdicts=verdicts)
        made = canvas.drawn()
        if sheet.height is None or made.count(b"\n") <= sheet.height:
            return made
    return b"\n".join(made.split(b"\n")[: max(1, sheet.height or 1)]) + b"\n"


def _draw(canvas: Canvas, report: Report, shown: Shown, sheet: Sheet, *, picture: bool, verdicts: bool) -> None:
    head(canvas, report)
    groups = list(_groups(shown.tables, canvas.measure, plain=sheet.plain))
    for group in groups:
        _side_by_side(canvas, shown, group, utf8=sheet.utf8)
        canvas.blank()
    if picture:
        for group in groups:
            _picture(canvas, shown, group, utf8=sheet.utf8)
    if shown.note:
        canvas.prose([(harmless(shown.note), "dim")], indent=1)
        canvas.blank()
    if verdicts:
        for finding in _told(report.findings, shown):
            finding_lines(canvas, finding)
    for warning in report.warnings:
        canvas.prose([(harmless(warning), "")], indent=INDENT, label=("NOTE", "bold"))


def _told(findings: Sequence[Finding], shown: Shown) -> Iterator[Finding]:
    """What is wrong first; several that say the same of one thing are one."""
    kept: dict[tuple[Verdict, str | None, str], Finding] = {}
    for finding in sorted(findings, key=lambda each: each.id != shown.speaks_for):
        kept.setdefault((finding.verdict, finding.subject, finding.summary), finding)
    applicable = [each for each in kept.values() if each.verdict is not Verdict.NOT_APPLICABLE]
    yield from sorted(applicable, key=lambda each: (each.id not in shown.first, SHOWN_FIRST.index(each.verdict)))


def _line(canvas: Canvas, *spans: Span) -> None:
    """One line without blanks at its end."""
    kept = list(spans)
    while kept and not kept[-1][0].rstrip():
        kept.pop()
    if kept:
        kept[-1] = (kept[-1][0].rstrip(), kept[-1][1])
    canvas.spans(*kept)


def _groups(tables: Sequence[Table], width: int, *, plain: bool) -> Iterator[Sequence[Table]]:
    """As many side by side as there is room for."""
    least = LEAST_HOST + LOSS + CELL * LEAST_COLUMNS + GAP
    room = 1 if plain else min(BLOCKS_LIMIT, max(1, (width - HOP) // least))
    for first in range(0, len(tables), room):
        yield tables[first : first + room]


def _block(columns: Sequence[Column], count: int, width: int) -> Block:
    """What fits beside so many others: the more important columns first, then room for names."""
    each = (width - HOP) // count - GAP
    room = each - LEAST_HOST - LOSS
    fitting = max(LEAST_COLUMNS, min(len(columns), room // CELL))
    kept = tuple(index for index, column in enumerate(columns) if column.rank <= fitting)
    left = each - LOSS - CELL * len(kept)
    answers = len(kept) == len(columns) and left - ANSWERS >= LEAST_HOST
    return Block(min(MOST_HOST, max(1, left - (ANSWERS if answers else 0))), kept, answers)


def _side_by_side(canvas: Canvas, shown: Shown, tables: Sequence[Table], *, utf8: bool) -> None:
    block = _block(shown.columns, len(tables), canvas.measure)
    gap = " " * GAP
    title: list[Span] = [(" " * HOP, "")]
    heads: list[Span] = [(f"{_short(shown.row_head, HOP - 1)} ", "dim")]
    figures = "".join(_short(shown.columns[index].head, CELL) for index in block.columns)
    counts = _short(shown.count_head, ANSWERS) if block.answers else ""
    for table in tables:
        title += [(_fitted(table.title, block.width) + gap, "bold")]
        heads += [
            (f"{_fitted(shown.name_head, block.host)}{_short(shown.share_head, LOSS)}{counts}{figures}{gap}", "dim")
        ]
    _line(canvas, *title)
    _line(canvas, *heads)
    last = max((number for table in tables for number in table.rows), default=0)
    for number in range(1, last + 1):
        rows = [_rows(table.rows.get(number), block) for table in tables]
        for line in range(max(map(len, rows))):
            label = f"{number:>{HOP - 1}} " if line == 0 else " " * HOP
            spans: list[Span] = [(label, "dim")]
            for row in rows:
                spans += [*(row[line] if line < len(row) else [(" " * block.width, "")]), (gap, "")]
            _line(canvas, *spans)
    arrow = "→" if utf8 else "=>"
    _line(
        canvas,
        (f"{arrow:>{HOP - 1}} ", "dim"),
        *(span for table in tables for span in (*_end(table.end, block), (gap, ""))),
    )


def _rows(row: Row | None, block: Block) -> list[list[Span]]:
    """The lines of one row of one table: one for each who has a name there."""
    if row is None:
        return [[(" " * block.width, "")]]
    counts = _short(row.count, ANSWERS) if block.answers else ""
    if not row.names:
        figures = " " * (CELL * len(block.columns))
        return [[(_fitted("(silent)", block.host), "dim"), (f"{_short(row.share, LOSS)}{counts}{figures}", "dim")]]
    first, *others = row.names
    lines: list[list[Span]] = [
        [
            (_fitted(first, block.host), ""),
            (_short(row.share, LOSS), "bold magenta" if row.odd else "dim"),
            (counts + _figures(row, block), ""),
        ]
    ]
    lines += [[(_fitted(f" {each}", block.host) + " " * (block.width - block.host), "dim")] for each in others]
    return lines


def _end(end: Row | str, block: Block) -> list[Span]:
    if isinstance(end, str):
        return [(_fitted(end, block.width), "bold red")]
    counts = _short(end.count, ANSWERS) if block.answers else ""
    return [
        (_fitted(end.names[0], block.host), "bold"),
        (_short(end.share, LOSS), "bold magenta" if end.odd else ""),
        (counts + _figures(end, block), "bold"),
    ]


def _figures(row: Row, block: Block) -> str:
    return "".join(f"{short_figure(row.figures[index]):>{CELL}}" for index in block.columns)


def _fitted(text: str, width: int) -> str:
    """Text of exactly so many cells; the end of a name that is too long matters less than its beginning."""
    plain = harmless(text, 300)
    return f"{plain[: width - 3]}.. " if len(plain) > width - 1 and width > LEAST_BAR else f"{plain[:width]:<{width}}"


def _short(text: str, width: int) -> str:
    """A word at the right end of so many cells."""
    return f"{harmless(text, width)[:width]:>{width}}"


def _picture(canvas: Canvas, shown: Shown, tables: Sequence[Table], *, utf8: bool) -> None:
    """The bar of each row, all tables on one scale."""
    most = max((row.bar for table in shown.tables for row in table.rows.values() if row.bar), default=0.0)
    if most <= 0:
        return
    each = (canvas.measure - HOP) // len(tables) - GAP
    room = max(LEAST_BAR, each - CELL - 1)
    full = "█" if utf8 else "#"
    last = max(number for table in tables for number in table.rows)
    _line(
        canvas,
        (" " * HOP, ""),
        *((f"{_fitted(f'{table.name}, {shown.bars_head}', each)}  ", "dim") for table in tables),
    )
    for number in range(1, last + 1):
        spans: list[Span] = [(f"{number:>{HOP - 1}} ", "dim")]
        for table in tables:
            row = table.rows.get(number)
            bar = None if row is None else row.bar
            cells = 0 if bar is None else max(1, round(room * bar / most))
            figure = "" if bar is None else f" {short_figure(bar)}"
            spans += [(full * cells, "cyan"), (f"{figure:<{each - cells}}{' ' * GAP}", "")]
        _line(canvas, *spans)
    canvas.blank()
