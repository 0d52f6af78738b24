"""What each command does, from its options to its exit code; the command line itself is in cli."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from vdscheck import __version__
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.cli.deliver import command_shown, draw, or_early, report_of, write
from vdscheck.cli.request import Asked, Instrument, Settings, UsageError, settle
from vdscheck.judge import judge
from vdscheck.measure import measure
from vdscheck.measure.jobs import now
from vdscheck.model.absence import Reason
from vdscheck.model.report import Report, Run, Taken
from vdscheck.model.tables import Shown
from vdscheck.process.guard import in_child
from vdscheck.process.signals import StoppedError
from vdscheck.render.formats import Terminal, frame, prepare, say
from vdscheck.render.text.progress import Progress, progress
from vdscheck.report import build
from vdscheck.ruleset import ruleset, selection
from vdscheck.target.host import Host
from vdscheck.target.rooted import Root
from vdscheck.target.secrets import has_secret
from vdscheck.target.text import safe_text

JOURNAL = "/var/lib/vdscheck/journal"


def _catalogue_for(settings: Settings) -> Catalogue:
    """Everything that a run on a host needs; what serves clusters is loaded only where it is spoken of."""
    asked = settings.asked
    said = (asked.profile, asked.only, asked.skip, settings.values)
    return load(clusters="cluster" in repr(said))


def run(asked: Asked, received: Sequence[int], instrument: Instrument | None = None) -> int:
    """Examine a host and report; or, with one instrument alone, watch what it measures and report that."""
    return or_early(asked, received, "host", lambda: _run(asked, received, instrument))


def _run(asked: Asked, received: Sequence[int], instrument: Instrument | None) -> int:
    began, started_at = time.monotonic(), now()
    if instrument is not None:
        asked = replace(asked, only=instrument.checks, effort="quick")
    settings = settle(asked)
    if asked.yes and not asked.fix:
        message = "--yes goes with --fix"
        raise UsageError(message)
    host = _host(asked.root)
    catalogue = _catalogue_for(settings)
    profiles = list(settings.first("profile", asked.profile, ("web",)))
    rules = ruleset.build(catalogue, profiles, settings.overrides, __version__)
    run_id = build.new_run_id()

    def made(measurements: Mapping[str, Taken], warnings: Sequence[str], *, complete: bool) -> Report:
        duration_s = round(time.monotonic() - began, 3)
        note = Run(run_id, started_at, duration_s, complete, command_shown(asked))
        target = build.target_note("host", catalogue.headers.get("host"), measurements, root=safe_text(host.root))
        return report_of(settings, catalogue, rules, note, target, measurements, warnings)

    shown = None if instrument is None else partial(_shown, catalogue)
    terminal = replace(settings.terminal, kinds=catalogue.kinds)
    drawn = partial(draw, settings=settings, terminal=terminal, instrument=shown)
    plans = settings.plans and instrument is None
    entries = _probes(catalogue, rules, plans=plans)

    def measured(where: Host, wanted: Iterable[ProbeEntry]) -> measure.Outcome:
        observer = (
            progress(sys.stderr) if shown is None else _watching(replace(settings.terminal, instrument=shown), made)
        )
        try:
            return measure.measure(
                where,
                wanted,
                _options(settings, instrument),
                observer=observer,
                stopped=lambda: bool(received),
                meanwhile=lambda: prepare(name for name, _ in settings.outputs),
            )
        finally:
            observer.close()

    warnings = settings.of_the_configuration
    if any(map(has_secret, asked.redis)):
        warnings.append(
            "the password in the address can be read in the process list while this runs: "
            "VDSCHECK_REDIS_URL or the configuration keeps it out of there"
        )
    mend = None
    if plans:
        from vdscheck.cli.fix import Mender
        from vdscheck.fix.flow import Bench, Terms, desk, foreseeing

        bench = Bench(
            host=host,
            catalogue=catalogue,
            entries=entries,
            desk=desk(host, __version__, catalogue.kinds, foreseeing(host, catalogue, measured)),
            judge=lambda measurements: judge.judge(catalogue, rules, measurements, started_at[:10]),
            measure=measured,
            stopped=lambda: bool(received),
            say=say,
            stated_by=lambda check_id, source: ruleset.stated_by(profiles, catalogue, check_id, source),
        )
        terms = Terms(asked.yes, not settings.fixes, asked.command)
        shows_first = settings.outputs[0][0] == "text" and not asked.yes
        mend = Mender(bench, terms, settings.terminal, shows_first, drawn)
        warnings += mend.recovered()
    outcome = measured(host, entries)
    warnings += [*outcome.warnings, *_unfinished(host, catalogue, aloud=settings.terminal.quiet)]
    found = made(outcome.measurements, warnings, complete=outcome.complete)
    failed = outcome.failed or outcome.given_up or outcome.is_empty
    if mend is not None and outcome.complete:
        found, lost = mend.mended(found, made)
        failed = failed or lost
    elif mend is not None:
        found = mend.not_begun(found, interrupted=bool(received))
    if received:  # also after all was measured: the exit code says that it was ended early, and so does the report
        found = replace(found, run=replace(found.run, complete=False))
    return write(
        drawn(found),
        settings,
        received,
        failed=failed,
    )


def _unfinished(host: Host, catalogue: Catalogue, *, aloud: bool) -> list[str]:
    """What is to be said of a fix that was ended in the middle; a host without a journal costs one look.

    `aloud`: on standard error as well, where the report leaves its notes out.
    """

    def look() -> str | None:
        if not host.is_folder(JOURNAL):
            return None
        from vdscheck.fix.journal import unfinished

        return unfinished(host, catalogue.kinds)

    try:
        said = in_child(look, keeps=host.descriptors)
    except StoppedError:
        return []
    except OSError as error:
        return [f"the journal {JOURNAL}: {error.strerror}"]
    if said is not None and aloud:
        say(f"vdscheck: {said}")
    return [] if said is None else [said]


def undo(root: str | None, received: Sequence[int], *, listing: bool, as_json: bool) -> int:
    """Give back what the latest fix replaced, or list the journal."""
    from vdscheck.cli import undo as undoing

    host = _host(root)
    if listing:
        return undoing.listed(host, __version__, as_json=as_json)
    return undoing.undone(host, __version__, received, as_json=as_json)


def _options(settings: Settings, instrument: Instrument | None) -> measure.Options:
    durations = {}
    if instrument is not None:
        asked_s = settings.asked.duration_s
        durations[instrument.probe] = instrument.duration_s if asked_s is None else asked_s
    return measure.Options(
        effort=settings.effort,
        offline=bool(settings.first("offline", settings.asked.offline)),
        settings=settings.subjects,
        durations_s=durations,
    )


def _shown(catalogue: Catalogue, report: Report) -> Shown | None:
    """What a view makes of the first measurement that has one."""
    for taken in report.measurements.values():
        view = catalogue.views.get(type(taken.value))
        if view is not None:
            return view.function(taken.value)
    return None


def _watching(terminal: Terminal, made: Callable[..., Report]) -> Progress:
    """What draws one instrument while it measures: by the same report and the same limits as at the end."""

    def draw(measurements: Mapping[str, Taken], width: int, height: int) -> bytes:
        so_far = made(measurements, (), complete=False)
        measured = tuple(finding for finding in so_far.findings if finding.reason is not Reason.NOT_RUN)
        return frame(replace(so_far, findings=measured), terminal, width, height)

    return progress(sys.stderr, draw=draw)


def _host(root: str | None) -> Host:
    if root is None:
        return Host()
    tree = Root.named(root)
    return Host(tree.path or root, tree=tree)


def _probes(catalogue: Catalogue, rules: selection.Ruleset, *, plans: bool) -> list[ProbeEntry]:
    """The probes that the selected checks need, those of the header, and those of a plan."""
    wanted = {each.probe.id: each for each in catalogue.header_probes("host")}
    if plans:
        from vdscheck.fix.flow import probes

        wanted |= {name: catalogue.probes[name] for name in probes(catalogue)}
    for entry in rules.selected:
        wanted.update({each.probe.id: each for each in catalogue.probes_of(entry)})
    return [wanted[name] for name in sorted(wanted)]
