"""Ways to places as people watch them: tables of hops side by side, verdicts, and round trips by hop as a picture."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from vdscheck.measurements.path import Echoes, Hop, Paths, PathTrace, RoundTrips
from vdscheck.model import Finding, Report, Verdict
from vdscheck.render.canvas import Canvas, Sheet, Span
from vdscheck.render.instrument import INDENT, SHOWN_FIRST, finding_lines, head
from vdscheck.render.safe import harmless
from vdscheck.render.words import seconds
from vdscheck.threshold import spoken

HOP = 4
CELL = 5
LOSS = 7
ANSWERS = 9
LEAST_HOST, MOST_HOST = 15, 40
GAP = 1
BLOCKS_LIMIT = 4
LEAST_BAR = 8


class Column(NamedTuple):
    """A column of figures, and how much it is missed where there is no room for it."""

    head: str
    rank: int
    of: Callable[[RoundTrips], float]


COLUMNS = (
    Column("best", 1, lambda times: times.best_ms),
    Column("avg", 6, lambda times: times.mean_ms),
    Column("med", 2, lambda times: times.median_ms),
    Column("p95", 3, lambda times: times.p95_ms),
    Column("max", 4, lambda times: times.worst_ms),
    Column("sdev", 7, lambda times: times.stddev_ms),
    Column("jit", 5, lambda times: times.jitter_ms),
)
LEAST_COLUMNS = 3
FIRST = ("path.nearest", "path.location")
"""What the ways were measured for stands first."""


class Block(NamedTuple):
    """How wide the table of one place is, and what stands in it."""

    host: int
    columns: tuple[Column, ...]
    answers: bool
    """Whether there is room for how many of how many were answered."""

    @property
    def width(self) -> int:
        """All of it."""
        return self.host + LOSS + CELL * len(self.columns) + (ANSWERS if self.answers else 0)


def drawn(report: Report, paths: Paths, sheet: Sheet) -> bytes:
    """The report of ways: at most as high as the sheet; what has no room is the picture first, then verdicts."""
    for picture, verdicts in ((True, True), (False, True), (False, False)):
        canvas = Canvas(width=sheet.width, colour=sheet.colour, utf8=sheet.utf8)
        _draw(canvas, report, paths, sheet, picture=picture and report.run.complete, verdicts=verdicts)
        made = canvas.drawn()
        if sheet.height is None or made.count(b"\n") <= sheet.height:
            return made
    return b"\n".join(made.split(b"\n")[: max(1, sheet.height or 1)]) + b"\n"


def _draw(canvas: Canvas, report: Report, paths: Paths, sheet: Sheet, *, picture: bool, verdicts: bool) -> None:
    head(canvas, report)
    traces = [paths.traces[place.name] for place in paths.places if place.name in paths.traces]
    for group in _groups(traces, canvas.measure, plain=sheet.plain):
        _table(canvas, group, utf8=sheet.utf8)
        canvas.blank()
    if picture:
        for group in _groups(traces, canvas.measure, plain=sheet.plain):
            _picture(canvas, group, traces, utf8=sheet.utf8)
    if traces:
        canvas.prose([(harmless(_how(paths, traces)), "dim")], indent=1)
        canvas.blank()
    if verdicts:
        for finding in _shown(report.findings):
            finding_lines(canvas, finding)
    for warning in report.warnings:
        canvas.prose([(harmless(warning), "")], indent=INDENT, label=("NOTE", "bold"))


def _shown(findings: Sequence[Finding]) -> Iterator[Finding]:
    """What is wrong first; several that say the same of one thing are one."""
    kept: dict[tuple[Verdict, str | None, str], Finding] = {}
    for finding in sorted(findings, key=lambda each: each.id != "path.rtt"):
        kept.setdefault((finding.verdict, finding.subject, finding.summary), finding)
    applicable = [each for each in kept.values() if each.verdict is not Verdict.NOT_APPLICABLE]
    yield from sorted(applicable, key=lambda each: (each.id not in FIRST, SHOWN_FIRST.index(each.verdict)))


def _line(canvas: Canvas, *spans: Span) -> None:
    """One line without blanks at its end."""
    kept = list(spans)
    while kept and not kept[-1][0].rstrip():
        kept.pop()
    if kept:
        kept[-1] = (kept[-1][0].rstrip(), kept[-1][1])
    canvas.spans(*kept)


def _how(paths: Paths, traces: Sequence[PathTrace]) -> str:
    """What sent what, and how often."""
    engines = " and ".join(dict.fromkeys(trace.engine for trace in traces))
    rounds = max(trace.rounds for trace in traces)
    echoes = max(trace.echoes.sent for trace in traces)
    methods = " and ".join(dict.fromkeys(trace.echoes.method for trace in traces))
    made = f"{engines}; {rounds} rounds; {echoes} echoes at most ({methods}); {seconds(paths.duration_s)}"
    steps = sum(trace.clock_steps for trace in traces)
    return f"{made}; {steps} left out, since the clock was set" if steps else made


def _groups(traces: Sequence[PathTrace], width: int, *, plain: bool) -> Iterator[Sequence[PathTrace]]:
    """As many side by side as there is room for."""
    least = LEAST_HOST + LOSS + CELL * LEAST_COLUMNS + GAP
    room = 1 if plain else min(BLOCKS_LIMIT, max(1, (width - HOP) // least))
    for first in range(0, len(traces), room):
        yield traces[first : first + room]


def _block(count: int, width: int) -> Block:
    """What fits beside so many others: the more important columns first, then room for names."""
    each = (width - HOP) // count - GAP
    room = each - LEAST_HOST - LOSS
    fitting = max(LEAST_COLUMNS, min(len(COLUMNS), room // CELL))
    kept = tuple(column for column in COLUMNS if column.rank <= fitting)
    left = each - LOSS - CELL * len(kept)
    answers = len(kept) == len(COLUMNS) and left - ANSWERS >= LEAST_HOST
    return Block(min(MOST_HOST, max(1, left - (ANSWERS if answers else 0))), kept, answers)


def _table(canvas: Canvas, traces: Sequence[PathTrace], *, utf8: bool) -> None:
    block = _block(len(traces), canvas.measure)
    gap = " " * GAP
    title: list[Span] = [(" " * HOP, "")]
    heads: list[Span] = [(f"{'hop':>{HOP - 1}} ", "dim")]
    for trace in traces:
        title += [(_fitted(_title(trace), block.width) + gap, "bold")]
        figures = "".join(f"{column.head:>{CELL}}" for column in block.columns)
        answers = f"{'answers':>{ANSWERS}}" if block.answers else ""
        heads += [(f"{'host':<{block.host}}{'loss':>{LOSS}}{answers}{figures}{gap}", "dim")]
    _line(canvas, *title)
    _line(canvas, *heads)
    last = max((hop.ttl for trace in traces for hop in trace.hops), default=0)
    by_ttl = [{hop.ttl: hop for hop in trace.hops} for trace in traces]
    for ttl in range(1, last + 1):
        rows = [_rows(hops.get(ttl), block) for hops in by_ttl]
        for line in range(max(map(len, rows))):
            label = f"{ttl:>{HOP - 1}} " if line == 0 else " " * HOP
            spans: list[Span] = [(label, "dim")]
            for row in rows:
                spans += [*(row[line] if line < len(row) else [(" " * block.width, "")]), (gap, "")]
            _line(canvas, *spans)
    arrow = "→" if utf8 else "=>"
    _line(
        canvas,
        (f"{arrow:>{HOP - 1}} ", "dim"),
        *(span for trace in traces for span in (*_end(trace, block), (gap, ""))),
    )


def _title(trace: PathTrace) -> str:
    least = "no answer" if trace.minimum_ms is None else f"{_figure(trace.minimum_ms)} ms"
    host = trace.host if trace.host != trace.place.name else trace.address
    return f"{trace.place.name}  {host} ({least})" if host != trace.place.name else f"{host} ({least})"


def _rows(hop: Hop | None, block: Block) -> list[list[Span]]:
    """The lines of one hop of one place: one for each who answers there."""
    if hop is None:
        return [[(" " * block.width, "")]]
    answers = f"{f'{hop.received}/{hop.sent}':>{ANSWERS}}" if block.answers else ""
    if hop.times is None:
        figures = " " * (CELL * len(block.columns))
        return [[(_fitted("(silent)", block.host), "dim"), (f"{_loss(hop):>{LOSS}}{answers}{figures}", "dim")]]
    first, *others = hop.responders
    style = "bold magenta" if hop.loss == "path" else ""
    lines: list[list[Span]] = [
        [
            (_fitted(first.name or first.address, block.host), ""),
            (f"{_loss(hop):>{LOSS}}", style or "dim"),
            (answers + _figures(hop.times, block), ""),
        ]
    ]
    lines += [
        [(_fitted(f" {each.name or each.address}", block.host) + " " * (block.width - block.host), "dim")]
        for each in others
    ]
    return lines


def _end(trace: PathTrace, block: Block) -> list[Span]:
    """The line of the target itself, by its echoes."""
    echoes = trace.echoes
    share = echoes.loss_share
    times = _times(echoes)
    if times is None or share is None:
        why = trace.refusal or ("in a routing loop" if trace.loop else "no answer")
        return [(_fitted(why, block.width), "bold red")]
    loss = f"{spoken(round(100 * share.value, 1))} %"
    answers = f"{f'{echoes.received}/{echoes.sent}':>{ANSWERS}}" if block.answers else ""
    style = "bold magenta" if echoes.received < echoes.sent else ""
    return [
        (_fitted(trace.host, block.host), "bold"),
        (f"{loss:>{LOSS}}", style),
        (answers + _figures(times, block), "bold"),
    ]


def _times(echoes: Echoes) -> RoundTrips | None:
    found = echoes.times
    if found is None:
        return None
    return RoundTrips(
        count=found.count,
        best_ms=found.min_us / 1000,
        mean_ms=found.mean_us / 1000,
        median_ms=found.percentile_ms(0.5).value,
        p95_ms=found.percentile_ms(0.95).value,
        worst_ms=found.max_us / 1000,
        stddev_ms=found.stddev_us / 1000,
        jitter_ms=echoes.jitter_ms or 0.0,
    )


def _loss(hop: Hop) -> str:
    """`limits` for who only limits its answers; a share only where it goes on to the destination."""
    lost = hop.sent - hop.received
    if hop.loss is None:
        return "0 %" if hop.sent else "-"
    if hop.loss == "path":
        return f"{100 * lost / hop.sent:.0f} %"
    return {"control-plane": "limits", "silent": "silent"}.get(hop.loss, f"{lost}/{hop.sent} ?")


def _figures(times: RoundTrips, block: Block) -> str:
    return "".join(f"{_figure(column.of(times)):>{CELL}}" for column in block.columns)


def _figure(value_ms: float) -> str:
    """At most four characters, up to ten seconds."""
    if value_ms < 10:  # noqa: PLR2004
        return f"{value_ms:.2f}"
    return f"{value_ms:.1f}" if value_ms < 100 else f"{value_ms:.0f}"  # noqa: PLR2004


def _fitted(text: str, width: int) -> str:
    """Text of exactly so many cells; the end of a name that is too long matters less than its beginning."""
    plain = harmless(text, 300)
    return f"{plain[: width - 3]}.. " if len(plain) > width - 1 and width > LEAST_BAR else f"{plain[:width]:<{width}}"


def _picture(canvas: Canvas, traces: Sequence[PathTrace], every: Sequence[PathTrace], *, utf8: bool) -> None:
    """The median round trip to each hop as a bar, all places on one scale."""
    most = max((hop.times.median_ms for trace in every for hop in trace.hops if hop.times), default=0.0)
    if most <= 0:
        return
    each = (canvas.measure - HOP) // len(traces) - GAP
    room = max(LEAST_BAR, each - CELL - 1)
    full = "█" if utf8 else "#"
    last = max(hop.ttl for trace in traces for hop in trace.hops)
    by_ttl = [{hop.ttl: hop for hop in trace.hops} for trace in traces]
    _line(
        canvas,
        (" " * HOP, ""),
        *((f"{_fitted(trace.place.name + ', median in ms', each)}  ", "dim") for trace in traces),
    )
    for ttl in range(1, last + 1):
        spans: list[Span] = [(f"{ttl:>{HOP - 1}} ", "dim")]
        for hops in by_ttl:
            hop = hops.get(ttl)
            times = hop.times if hop else None
            cells = 0 if times is None else max(1, round(room * times.median_ms / most))
            figure = "" if times is None else f" {_figure(times.median_ms)}"
            spans += [(full * cells, "cyan"), (f"{figure:<{each - cells}}{' ' * GAP}", "")]
        _line(canvas, *spans)
    canvas.blank()
