"""Ways to places as people watch them: a table of hops a place, and round trips by hop as bars."""

from collections.abc import Sequence

from vdscheck.measurements import Echoes, Hop, Paths, PathTrace, RoundTrips
from vdscheck.plugin import Column, Row, Shown, Table, short_figure, spoken, spoken_seconds, view

COLUMNS = (
    Column("best", 1),
    Column("avg", 6),
    Column("med", 2),
    Column("p95", 3),
    Column("max", 4),
    Column("sdev", 7),
    Column("jit", 5),
)


@view
def ways(paths: Paths) -> Shown:
    """The hops of each place with their round trips in ms, and the place itself by its echoes."""
    traces = [paths.traces[place.name] for place in paths.places if place.name in paths.traces]
    return Shown(
        row_head="hop",
        name_head="host",
        share_head="loss",
        count_head="answers",
        columns=COLUMNS,
        tables=tuple(map(_table, traces)),
        bars_head="median in ms",
        note=_how(paths, traces) if traces else "",
        first=("path.nearest", "path.location"),
        speaks_for="path.rtt",
    )


def _how(paths: Paths, traces: Sequence[PathTrace]) -> str:
    """What sent what, and how often."""
    engines = " and ".join(dict.fromkeys(trace.engine for trace in traces))
    rounds = max(trace.rounds for trace in traces)
    echoes = max(trace.echoes.sent for trace in traces)
    methods = " and ".join(dict.fromkeys(trace.echoes.method for trace in traces))
    made = f"{engines}; {rounds} rounds; {echoes} echoes at most ({methods}); {spoken_seconds(paths.duration_s)}"
    steps = sum(trace.clock_steps for trace in traces)
    return f"{made}; {steps} left out, since the clock was set" if steps else made


def _table(trace: PathTrace) -> Table:
    return Table(
        title=_title(trace),
        name=trace.place.name,
        rows={hop.ttl: _row(hop) for hop in trace.hops},
        end=_end(trace),
    )


def _title(trace: PathTrace) -> str:
    least = "no answer" if trace.minimum_ms is None else f"{short_figure(trace.minimum_ms)} ms"
    host = trace.host if trace.host != trace.place.name else trace.address
    return f"{trace.place.name}  {host} ({least})" if host != trace.place.name else f"{host} ({least})"


def _row(hop: Hop) -> Row:
    """The lines of one hop: one for each who answers there."""
    answers = f"{hop.received}/{hop.sent}"
    if hop.times is None:
        return Row((), _loss(hop), answers, (), None)
    return Row(
        names=tuple(each.name or each.address for each in hop.responders),
        share=_loss(hop),
        count=answers,
        figures=_figures(hop.times),
        bar=hop.times.median_ms,
        odd=hop.loss == "path",
    )


def _end(trace: PathTrace) -> Row | str:
    """The line of the target itself, by its echoes."""
    echoes = trace.echoes
    share = echoes.loss_share
    times = _times(echoes)
    if times is None or share is None:
        return trace.refusal or ("in a routing loop" if trace.loop else "no answer")
    return Row(
        names=(trace.host,),
        share=f"{spoken(round(100 * share.value, 1))} %",
        count=f"{echoes.received}/{echoes.sent}",
        figures=_figures(times),
        bar=None,
        odd=echoes.received < echoes.sent,
    )


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


def _figures(times: RoundTrips) -> tuple[float, ...]:
    """In the order of COLUMNS."""
    return (
        times.best_ms,
        times.mean_ms,
        times.median_ms,
        times.p95_ms,
        times.worst_ms,
        times.stddev_ms,
        times.jitter_ms,
    )
