"""One request, whatever is examined: resolve it, load, open the target, measure, judge, deliver."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vdscheck import __version__
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.cli.deliver import Drawn, command_shown, draw, or_early, report_of, write
from vdscheck.cli.request import USUAL_PROFILE, Asked, Settings, UsageError, settle
from vdscheck.judge import judge
from vdscheck.measure import measure
from vdscheck.measure.jobs import now
from vdscheck.model.absence import Reason
from vdscheck.model.records import frozen
from vdscheck.model.report import Report, Run, Taken
from vdscheck.model.tables import Shown
from vdscheck.process.guard import in_child
from vdscheck.process.signals import StoppedError
from vdscheck.render.formats import frame, prepare, say
from vdscheck.render.text.progress import Progress, progress
from vdscheck.report import build
from vdscheck.ruleset import profile, ruleset, selection
from vdscheck.target.host import Host
from vdscheck.target.interface import Target, TargetKind
from vdscheck.target.rooted import Root
from vdscheck.target.text import safe_text

if TYPE_CHECKING:
    from vdscheck.cli.fix import Mender
    from vdscheck.target.cluster import Cluster

WATCHED_S = 10.0
"""How long an instrument measures where nobody says it."""
JOURNAL = "/var/lib/vdscheck/journal"


def examined(asked: Asked, received: Sequence[int], kind: TargetKind) -> int:
    """Examine a host or a cluster, or with an instrument one thing of a host, and report."""
    return or_early(asked, received, kind, lambda: _examined(asked, received, kind))


def _examined(asked: Asked, received: Sequence[int], kind: TargetKind) -> int:
    began_s, started_at = time.monotonic(), now()
    settings = settle(asked, kind)
    _refuse_what_makes_no_sense(settings, kind)
    catalogue, rules = _loaded(settings, kind)
    target = _host(asked.said.get("root")) if kind == "host" else _cluster(settings, received)
    here = _Examination(settings, catalogue, rules, target, received, began_s, started_at, build.new_run_id())
    found, failed = here.found()
    if received:  # also after all was measured: the exit code says that it was ended early, and so does the report
        found = replace(found, run=replace(found.run, complete=False))
    return write(here.drawn(found), settings, received, failed=failed)


@frozen
class _Examination:
    """What one request examines, and all that its report hangs on."""

    settings: Settings
    catalogue: Catalogue
    rules: selection.Ruleset
    target: "Host | Cluster"
    received: Sequence[int]
    began_s: float
    started_at: str
    run_id: str

    @property
    def kind(self) -> TargetKind:
        """What is examined."""
        return self.target.target_kind

    @property
    def plans(self) -> bool:
        """Whether a plan of fixes is made."""
        return self.settings.plans and self.settings.asked.instrument is None

    @property
    def offline(self) -> bool:
        """Whether no packet leaves the machine."""
        return bool(self.settings.first("offline"))

    @property
    def shown(self) -> Callable[[Report], Shown | None] | None:
        """What a view makes of the report of an instrument."""
        return None if self.settings.asked.instrument is None else partial(_shown, self.catalogue)

    def drawn(self, report: Report) -> Drawn:
        """A report in every format that was asked for."""
        return draw(report, self.settings, replace(self.settings.terminal, kinds=self.catalogue.kinds), self.shown)

    def found(self) -> tuple[Report, bool]:
        """The report, and whether the measuring failed; with `--fix` that of what came of it."""
        warnings = [*self.settings.of_the_configuration, *self.settings.seen_by_others]
        mend = None
        entries = self._probes()
        if self.plans and isinstance(self.target, Host):
            mend = self._mender(self.target, entries)
            warnings += mend.recovered()
        outcome = self._measured(self.target, entries)
        warnings += outcome.warnings
        failed = outcome.failed or outcome.given_up
        if isinstance(self.target, Host):
            failed = failed or outcome.is_empty
            warnings += _unfinished(self.target, self.catalogue, aloud=self.settings.terminal.quiet)
        made = self._made(outcome.measurements, warnings, complete=outcome.complete)
        if mend is None:
            return made, failed
        if not outcome.complete:
            return mend.not_begun(made, interrupted=bool(self.received)), failed
        made, lost = mend.mended(made, self._made)
        return made, failed or lost

    def _probes(self) -> list[ProbeEntry]:
        """The probes that the selected checks need, those of the header, and those of a plan."""
        header = self.catalogue.header_probes(self.kind)
        wanted = {each.probe.id: each for each in header if not (self.offline and each.probe.sends)}
        if self.plans:
            from vdscheck.fix.flow import probes

            wanted |= {name: self.catalogue.probes[name] for name in probes(self.catalogue)}
        for entry in self.rules.selected:
            wanted.update({each.probe.id: each for each in self.catalogue.probes_of(entry)})
        return [wanted[name] for name in sorted(wanted)]

    def _measured(self, where: Target, wanted: Iterable[ProbeEntry]) -> measure.Outcome:
        entries = list(wanted)
        observer = progress(sys.stderr) if self.shown is None else self._watching(self.shown)
        try:
            return measure.measure(
                where,
                entries,
                self._options(entries),
                observer=observer,
                stopped=lambda: bool(self.received),
                meanwhile=lambda: prepare(name for name, _ in self.settings.outputs),
            )
        finally:
            observer.close()

    def _options(self, entries: Iterable[ProbeEntry]) -> measure.Options:
        settings, instrument = self.settings, self.settings.asked.instrument
        if self.kind == "cluster":
            budget_s = sum(each.probe.deadline_s for each in entries)
            return measure.Options(offline=self.offline, budget_s=budget_s, settings=settings.subjects)
        durations = {}
        if instrument is not None:
            said, of_its_own = settings.asked.said, instrument.duration_s
            durations[instrument.probe] = said.get("duration", WATCHED_S) if of_its_own is None else of_its_own(said)
        return measure.Options(
            effort=settings.effort, offline=self.offline, settings=settings.subjects, durations_s=durations
        )

    def _watching(self, shown: Callable[[Report], Shown | None]) -> Progress:
        """What draws one instrument while it measures: by the same report and the same limits as at the end."""
        terminal = replace(self.settings.terminal, instrument=shown)

        def draw(measurements: Mapping[str, Taken], width: int, height: int) -> bytes:
            so_far = self._made(measurements, (), complete=False)
            measured = tuple(finding for finding in so_far.findings if finding.reason is not Reason.NOT_RUN)
            return frame(replace(so_far, findings=measured), terminal, width, height)

        return progress(sys.stderr, draw=draw)

    def _made(self, measurements: Mapping[str, Taken], warnings: Sequence[str], *, complete: bool) -> Report:
        duration_s = round(time.monotonic() - self.began_s, 3)
        note = Run(self.run_id, self.started_at, duration_s, complete, command_shown(self.settings.asked))
        name = "unnamed" if isinstance(self.target, Host) else self.target.login.name
        header, root = self.catalogue.headers.get(self.kind), safe_text(self.target.root)
        of_target = build.target_note(self.kind, header, measurements, name=name, root=root)
        return report_of(self.settings, self.catalogue, self.rules, note, of_target, measurements, warnings)

    def _mender(self, host: Host, entries: list[ProbeEntry]) -> "Mender":
        from vdscheck.cli.fix import Mender
        from vdscheck.fix.flow import Bench, Terms, desk, foreseeing

        settings, catalogue, rules = self.settings, self.catalogue, self.rules
        bench = Bench(
            host=host,
            catalogue=catalogue,
            entries=entries,
            desk=desk(host, __version__, catalogue.kinds, foreseeing(host, catalogue, self._measured)),
            judge=lambda measurements: judge.judge(catalogue, rules, measurements, self.started_at[:10]),
            measure=self._measured,
            stopped=lambda: bool(self.received),
            say=say,
            stated_by=lambda check_id, source: ruleset.stated_by(rules.note.profiles, catalogue, check_id, source),
        )
        asked = settings.asked
        terms = Terms(asked.flag("yes"), not settings.fixes, asked.command)
        shows_first = settings.outputs[0][0] == "text" and not asked.flag("yes")
        return Mender(bench, terms, settings.terminal, shows_first, self.drawn)


def _refuse_what_makes_no_sense(settings: Settings, kind: TargetKind) -> None:
    """Raise UsageError for what cannot be done for such a target."""
    asked, message = settings.asked, ""
    if asked.flag("yes") and not asked.flag("fix"):
        message = "--yes goes with --fix"
    elif kind == "cluster" and settings.first("offline") and not settings.files:
        message = "--offline leaves nothing to examine but manifests: name one with -f"
    elif kind == "cluster" and settings.plans:
        message = "sh is the plan of a fix, and nothing in a cluster is ever changed"
    if message:
        raise UsageError(message)


def _loaded(settings: Settings, kind: TargetKind) -> tuple[Catalogue, selection.Ruleset]:
    """What is installed, and what measurements are judged by. Raises CatalogueError and RulesetError."""
    profiles = list(settings.first("profile", (USUAL_PROFILE[kind],)))
    overrides = settings.overrides
    if kind == "host":
        # What serves clusters is not loaded for a host, unless something is said that without it means nothing.
        with suppress(profile.RulesetError):
            catalogue = load(clusters=False)
            return catalogue, ruleset.build(catalogue, profiles, overrides, __version__, kind)
    catalogue = load()
    return catalogue, ruleset.build(catalogue, profiles, overrides, __version__, kind)


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


def _shown(catalogue: Catalogue, report: Report) -> Shown | None:
    """What a view makes of the first measurement that has one."""
    for taken in report.measurements.values():
        view = catalogue.views.get(type(taken.value))
        if view is not None:
            return view.function(taken.value)
    return None


def _host(root: str | None) -> Host:
    if root is None:
        return Host()
    tree = Root.named(root)
    return Host(tree.path or root, tree=tree)


def _cluster(settings: Settings, received: Sequence[int]) -> "Cluster":
    from vdscheck.cli.cluster import opened

    return opened(settings, received)
