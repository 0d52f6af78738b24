"""From a report to outputs and an exit code."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from vdscheck import __version__
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.cli import known, output
from vdscheck.cli.loosened import hidden, loosened, told
from vdscheck.cli.request import Asked, ExitCode, Settings
from vdscheck.judge import gates, judge
from vdscheck.measure.jobs import now
from vdscheck.model.judgement import Loosening
from vdscheck.model.records import frozen
from vdscheck.model.report import Report, Run, Taken, TargetNote
from vdscheck.model.tables import Shown
from vdscheck.plugin import Format, Terminal
from vdscheck.process import plugins
from vdscheck.process.guard import LostChildError, NoAnswerError, in_child
from vdscheck.process.signals import StoppedError
from vdscheck.render.formats import FORMATS, say
from vdscheck.report import build
from vdscheck.ruleset import selection
from vdscheck.target import secrets
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
        if not asked.flag("json") and asked.said.get("format") != "json":
            say(f"vdscheck: {why}")
        else:
            note = Run(build.new_run_id(), started_at, round(time.monotonic() - began, 3), False, command_shown(asked))
            plans = kind == "host" and (asked.flag("fix") or asked.flag("dry-run"))
            found = build.of_nothing(__version__, note, kind, why, plans=plans)
            output.to_stdout(FORMATS["json"].function(found, Terminal()))
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
        min_score=settings.first("min-score"),
        min_coverage=settings.first("min-coverage"),
        fail_on=settings.first("fail-on", ()),
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
    if "min-score" not in settings.asked.said:
        decided |= {"min-coverage"}
    hides = [] if settings.instead_of is None else [hidden(settings.instead_of)]
    told_of_file = loosened(settings.values, decided, target, today, measures=settings.target is not None)
    what = (*hides, *settings.brought, *told_of_file)
    return Loosening(safe_text(settings.file), what) if what else None


FORMAT_LIMIT_S = 10.0
"""How long a format of a plugin may take."""
LAST_CODE = 255
"""The greatest exit code that a shell sees."""


@frozen
class Drawn:
    """A report in every format that was asked for, and what the exit code is where nothing else goes wrong."""

    contents: tuple[bytes | None, ...]
    """None where a format of a plugin failed."""
    code: int
    said: tuple[str, ...] = ()
    """What standard error says of it."""


def draw(
    made: Report, settings: Settings, terminal: Terminal, instrument: Callable[[Report], Shown | None] | None = None
) -> Drawn:
    """Draw every output that was asked for; `terminal` is that of standard output.

    `instrument`: where one is shown alone, what a view makes of its report.
    """
    contents: list[bytes | None] = []
    said = [*told(made.gates)] or [f"vdscheck: {each}" for each in settings.hiding]
    code = _code(made, settings)
    for name, place in settings.outputs:
        drawn = terminal if place is None else Terminal(verbose=terminal.verbose, kinds=terminal.kinds)
        content, its_code, why = _drawn(name, made, replace(drawn, instrument=instrument))
        contents.append(content)
        if why:
            said.append(f"vdscheck: {why}")
        if place is None and its_code is not None and code in (ExitCode.OK, ExitCode.GATE):
            code = its_code
    return Drawn(tuple(contents), code, tuple(said))


def _drawn(name: str, made: Report, terminal: Terminal) -> tuple[bytes | None, int | None, str]:
    """A report in a format, the exit code that the format gives it, and why there is neither."""
    found = known.output_format(name)
    if found is None:
        return None, None, f"there is no format {name}"
    if plugins.is_ours(found.function.__module__):
        return found.function(made, terminal), None, ""
    try:
        return (*in_child(lambda: _by_a_plugin(found, made, terminal), FORMAT_LIMIT_S), "")
    except StoppedError:
        raise
    except NoAnswerError:
        why = f"did not end within {FORMAT_LIMIT_S:g} s"
    except LostChildError as error:
        why = f"the process that drew it {error.how}"
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
        why = secrets.what_failed(error)
    return None, None, f"format {name} ({found.where}) failed: {why}"


def _by_a_plugin(found: Format, made: Report, terminal: Terminal) -> tuple[bytes, int | None]:
    content: object = found.function(made, terminal)
    code: object = None if found.exit_code is None else found.exit_code(made)
    if isinstance(content, bytes) and code is None:
        return content, None
    if isinstance(content, bytes) and isinstance(code, int) and 0 <= code <= LAST_CODE:
        return content, int(code)
    message = f"a format makes bytes, and an exit code from 0 to {LAST_CODE}"
    raise TypeError(message)


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
        if content is None:
            failed = True
            continue
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
