"""From a report to outputs and an exit code."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from vdscheck import __version__
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.cli import output
from vdscheck.cli.loosened import hidden, loosened, told
from vdscheck.cli.request import Asked, ExitCode, Settings
from vdscheck.judge import gates, judge
from vdscheck.measure.jobs import now
from vdscheck.model.judgement import Loosening
from vdscheck.model.records import frozen
from vdscheck.model.report import Report, Run, Taken, TargetNote
from vdscheck.model.tables import Shown
from vdscheck.process.signals import StoppedError
from vdscheck.render.formats import FORMATS, Terminal, say
from vdscheck.report import build
from vdscheck.ruleset import selection
from vdscheck.target.interface import TargetKind
from vdscheck.target.text import safe_text


def or_early(asked: Asked, received: Sequence[int], kind: TargetKind, work: Callable[[], int]) -> int:
    """Do the work of a command; where a signal ends it before there is anything to report, say that.

    Also then `--json` is one document.
    """
    began, started_at = time.monotonic(), now()
    try:
        return work()
    except StoppedError:
        why = "interrupted before anything was examined"
        if asked.format != "json":
            say(f"vdscheck: {why}")
        else:
            note = Run(build.new_run_id(), started_at, round(time.monotonic() - began, 3), False, command_shown(asked))
            plans = kind == "host" and (asked.fix or asked.dry_run)
            found = build.of_nothing(__version__, note, kind, why, plans=plans)
            output.to_stdout(FORMATS["json"](found, Terminal()))
        return 128 + received[0]


def command_shown(asked: Asked) -> tuple[str, ...]:
    """The command as the report keeps it."""
    return tuple(map(safe_text, asked.command))


def report_of(
    settings: Settings,
    catalogue: Catalogue,
    rules: selection.Ruleset,
    run_note: Run,
    target: TargetNote,
    measurements: Mapping[str, Taken],
    warnings: Sequence[str],
) -> Report:
    """The report of what was measured, with the gates that were asked for."""
    judged = judge.judge(catalogue, rules, measurements, run_note.started_at[:10])
    made = build.build(
        version=__version__,
        run=run_note,
        target=target,
        ruleset=rules.note,
        judged=judged,
        measurements=measurements,
        warnings=warnings,
    )
    found = gates.gates(
        judged.findings,
        judged.score,
        min_score=settings.first("min-score", settings.asked.min_score),
        min_coverage=settings.first("min-coverage", settings.asked.min_coverage),
        fail_on=settings.first("fail-on", settings.asked.fail_on, ()),
    )
    loosening = _loosening(settings, target.kind, run_note.started_at[:10])
    asked = settings.asked_gates
    said = (replace(gate, loosened_by=loosening) if gate.name in asked else gate for gate in found)
    return replace(made, gates=tuple(said))


def _loosening(settings: Settings, target: TargetKind, today: str) -> Loosening | None:
    """What the configuration changes of what the gates of the command line rest on, where nobody named it."""
    if not settings.found or settings.file is None:
        return None
    decided = settings.decided
    if settings.asked.min_score is None or settings.asked.min_coverage is not None:
        decided |= {"min-coverage"}
    hides = [] if settings.instead_of is None else [hidden(settings.instead_of)]
    what = (*hides, *settings.brought, *loosened(settings.values, decided, target, today, measures=settings.measures))
    return Loosening(safe_text(settings.file), what) if what else None


@frozen
class Drawn:
    """A report in every format that was asked for, and what the exit code is where nothing else goes wrong."""

    contents: tuple[bytes, ...]
    code: int
    said: tuple[str, ...] = ()
    """What standard error says of it."""


def draw(
    made: Report, settings: Settings, terminal: Terminal, instrument: Callable[[Report], Shown | None] | None = None
) -> Drawn:
    """Draw every output that was asked for; `terminal` is that of standard output.

    `instrument`: where one is shown alone, what a view makes of its report.
    """
    contents = []
    for name, place in settings.outputs:
        drawn = terminal if place is None else Terminal(verbose=terminal.verbose, kinds=terminal.kinds)
        contents.append(FORMATS[name](made, replace(drawn, instrument=instrument)))
    said = tuple(told(made.gates)) or tuple(f"vdscheck: {each}" for each in settings.hiding)
    return Drawn(tuple(contents), _code(made, settings), said)


def _code(made: Report, settings: Settings) -> int:
    outcome = None if made.fix is None else made.fix.outcome
    if outcome in ("refused", "given-back") or (outcome == "undecided" and settings.fixes):
        return ExitCode.FIX
    return ExitCode.OK if all(gate.holds for gate in made.gates) else ExitCode.GATE


def write(drawn: Drawn, settings: Settings, received: Sequence[int], *, failed: bool = False) -> int:
    """Write every output that was asked for; the exit code by the contract's precedence."""
    for line in drawn.said:
        say(line)
    pairs = zip((place for _, place in settings.outputs), drawn.contents, strict=True)
    # What a reader can hold up comes last: a second signal must not cost a file.
    for place, content in sorted(pairs, key=lambda pair: pair[0] is None or pair[0].is_stream):
        try:
            if place is None:
                output.to_stdout(content)
            else:
                place.write(content)
        except output.OutputError as error:
            say(f"vdscheck: {error}")
            failed = True
    if received:
        return 128 + received[0]
    return ExitCode.INTERNAL if failed else drawn.code
