"""What each command does, from its options to its exit code; the command line itself is in cli."""

import os
import re
import resource
import select
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from enum import IntEnum
from typing import Any, TypeVar

from vdscheck import __version__, codec, config, judge, measure, output, report, ruleset
from vdscheck.catalogue import Catalogue, CatalogueError, ProbeEntry, load
from vdscheck.guard import ANSWER_LIMIT_S, LostChildError, NoAnswerError, StoppedError, in_child
from vdscheck.jobs import now
from vdscheck.loosened import loosened, told
from vdscheck.model import Loosening, Reason, Report, Run, Taken, TargetNote, UnavailableError, frozen
from vdscheck.plugin import SubjectError
from vdscheck.render.formats import FORMATS, Terminal, frame, prepare, say
from vdscheck.render.progress import Progress, progress
from vdscheck.root import Root, RootError
from vdscheck.secrets import has_secret, redact, without_secrets
from vdscheck.target import Host, TargetKind, absolute, safe_text

T = TypeVar("T")

HEADER_PROBES = ("machine.identity", "machine.kind")
"""What the head of every report is made of, whatever checks were selected."""
FIX_PROBES = ("kernel.boot", "kernel.listeners", "kernel.node-agents", "kernel.owner", "kernel.sysctls")
"""What a plan is made from, whatever checks were selected."""
JOURNAL = "/var/lib/vdscheck/journal"
RULES = ("limits", "severity", "offer", "waivers")
"""The tables of a configuration that change the ruleset, beside `only` and `skip`."""
SAVED_LIMIT_BYTES = 32 << 20
"""Of a saved report: that of a host has some 100 kB, that of a cluster of 5,000 nodes a few MB."""
JUDGE_LIMIT_S = 8
"""Of processor time, for judging a saved report, which may come from anybody: a busy machine refuses no more."""
JUDGE_PATIENCE_S = 60.0
JUDGE_LIMIT_BYTES = 384 << 20
"""Of address space, for the same."""
OUTPUTS_LIMIT = 50
"""How many files one call may write: each may take its time."""
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
INTERRUPTED_EVERY_S = 0.1
"""How often a wait for standard input looks whether it was interrupted."""


class ExitCode(IntEnum):
    """The contract's exit codes; an interrupted run ends with 128 and the signal's number."""

    OK = 0
    GATE = 1
    USAGE = 2
    FIX = 3
    INTERNAL = 4


class UsageError(Exception):
    """A call that cannot be followed: exit code 2, one line."""


USAGE_ERRORS = (UsageError, CatalogueError, config.ConfigError, ruleset.RulesetError, RootError, SubjectError)


@frozen
class Asked:
    """What the command line asks for; None and empty are "not said", so the configuration counts."""

    profile: Sequence[str] = ()
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    config: str | None = None
    no_config: bool = False
    format: str | None = None
    outputs: Sequence[str] = ()
    min_score: int | None = None
    min_coverage: int | None = None
    fail_on: Sequence[str] = ()
    effort: str | None = None
    offline: bool | None = None
    root: str | None = None
    disk: Sequence[str] = ()
    redis: Sequence[str] = ()
    path: Sequence[str] = ()
    path_how: Mapping[str, Any] = field(default_factory=dict)
    """How `vdscheck path` measures: the fields of probes.path.places.How."""
    plain: bool = False
    duration_s: float | None = None
    fix: bool = False
    dry_run: bool = False
    yes: bool = False
    quiet: bool | None = None
    verbose: bool | None = None
    no_color: bool | None = None
    command: Sequence[str] = ()


@frozen
class Instrument:
    """An instrument that has a command of its own: the checks that it decides, and the probe that measures."""

    checks: tuple[str, ...]
    probe: str
    duration_s: float = 10.0


INSTRUMENTS = {
    "disk": Instrument(("disk.*",), "disk.latency"),
    "jitter": Instrument(("cpu.jitter", "cpu.steal"), "cpu.spin"),
    "path": Instrument(("path.rtt", "path.loss", "path.nearest", "path.location", "net.mtu"), "path.trace"),
    "redis": Instrument(("redis.*",), "redis.latency"),
}


@frozen
class Settings:
    """The command line over the configuration over the defaults."""

    asked: Asked
    file: str | None
    values: Mapping[str, Any]
    outputs: tuple[tuple[str, output.Place | None], ...] = field(default=())
    """Each format that is wanted, and where; None is standard output, which is the first."""
    found: bool = False
    """Whether the file was found by looking, and not named by the caller."""
    measures: bool = True
    """False where a saved report is judged."""
    said_of_cluster: Mapping[str, Any] = field(default_factory=dict)
    """What the command line says of a cluster, by the keys of the configuration."""

    @property
    def plans(self) -> bool:
        """Whether a plan of fixes is wanted."""
        return self.asked.fix or self.asked.dry_run or any(name == "sh" for name, _ in self.outputs)

    @property
    def fixes(self) -> bool:
        """Whether it may be carried out."""
        return self.asked.fix and not self.asked.dry_run

    @property
    def decided(self) -> set[str]:
        """The keys of the configuration that the command line has decided."""
        asked = self.asked
        efforts = dict.fromkeys(("passive", "quick", "thorough"), asked.effort)
        same = ("profile", "only", "skip", "offline", "disk", "path")
        said = {name: getattr(asked, name) for name in same} | efforts | {"redis": _redis(asked)}
        return {name for name, value in {**said, **self.said_of_cluster}.items() if _is_said(value)}

    @property
    def asked_gates(self) -> set[str]:
        """The names of the gates that the command line asks for."""
        score, coverage = (given is not None for given in (self.asked.min_score, self.asked.min_coverage))
        asked = {"min-score": score, "min-coverage": score or coverage, "fail-on": bool(self.asked.fail_on)}
        return {name for name, wanted in asked.items() if wanted}

    def first(self, name: str, said: Any, otherwise: Any = None) -> Any:  # noqa: ANN401
        """What the command line said, or the configuration, or else the default."""
        return said if _is_said(said) else self.values.get(name, otherwise)

    @property
    def effort(self) -> measure.Effort:
        """One effort: the command line's word, or the configuration's flag."""
        words = [word for word in ("passive", "quick", "thorough") if self.values.get(word)]
        if self.asked.effort is None and len(words) > 1:
            message = f"configuration {self.file}: {' and '.join(words)} exclude each other"
            raise UsageError(message)
        return measure.Effort(self.asked.effort or (words[0] if words else "default"))

    @property
    def overrides(self) -> dict[str, Any]:
        """What changes the ruleset, as the report keeps it."""
        found = {key: self.values[key] for key in RULES if key in self.values}
        for name, said in (("only", self.asked.only), ("skip", self.asked.skip)):
            patterns = [safe_text(without_secrets(pattern)) for pattern in self.first(name, said, ())]
            if patterns:
                found[name] = patterns
        return found

    def _either(self, name: str) -> Any:  # noqa: ANN401
        """Of quiet and verbose: as soon as the command line says one of them, the configuration says neither."""
        said = self.asked.quiet or self.asked.verbose
        return getattr(self.asked, name) if said else self.values.get(name)

    @property
    def subjects(self) -> dict[str, Any]:
        """What the probes that measure one by one choose from: the options, and what plugins are told."""
        chosen = dict(self.values.get("plugin", {}))
        for name, said in (("disk", self.asked.disk), ("redis", _redis(self.asked)), ("path", self.asked.path)):
            chosen[name] = list(self.first(name, said, ()))
        chosen["path-how"] = dict(self.asked.path_how)
        return chosen

    @property
    def terminal(self) -> Terminal:
        """How text is drawn on this standard output."""
        if self.asked.plain:
            return Terminal(utf8=False, plain=True)
        return Terminal.of(
            os.environ,
            no_color=bool(self.first("no-color", self.asked.no_color)),
            verbose=bool(self._either("verbose")),
            quiet=bool(self._either("quiet")),
        )


def answered(function: Callable[[], T], *paths: str, seconds: float = ANSWER_LIMIT_S, otherwise: str = "") -> T:
    """What a function finds at paths of the caller's. Raises UsageError where they never answer, and StoppedError."""
    try:
        return in_child(function, seconds, keeps=[each for each in map(_own_descriptor, paths) if each is not None])
    except (NoAnswerError, LostChildError) as error:
        message = f"{safe_text(' '.join(paths))}: {error.strerror}{otherwise}"
        raise UsageError(message) from error


def _own_descriptor(path: str) -> int | None:
    """The descriptor of this process that a path names, as /dev/stdin does."""
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]{1,6})", path)
    return int(found[1]) if found else _STANDARD.get(path)


def _is_said(value: object) -> bool:
    """Whether the command line says it: None and empty are "not said"."""
    return value not in (None, (), [])


def _redis(asked: Asked) -> Sequence[str]:
    return asked.redis or list(filter(None, [os.environ.get("VDSCHECK_REDIS_URL")]))


def settle(asked: Asked) -> Settings:
    """Read the configuration that counts and check what can be checked before anything is measured."""
    if asked.config is not None and asked.no_config:
        message = "--config and --no-config exclude each other"
        raise UsageError(message)
    if asked.quiet and asked.verbose:
        message = "--quiet and --verbose exclude each other"
        raise UsageError(message)
    found = _configuration(asked)
    settings = Settings(asked, found.file, found.values, found=found.found)
    chosen = settings.first("format", asked.format, "json" if found.values.get("json") else "text")
    if len(asked.outputs) > OUTPUTS_LIMIT:
        message = f"-o: at most {OUTPUTS_LIMIT} files, and {len(asked.outputs):,} are named"
        raise UsageError(message)
    written = [_written(each) for each in asked.outputs]
    for name in (chosen, *(name for name, _ in written)):
        if name not in FORMATS:
            message = f"there is no format {name}: {ruleset.nearest(name, list(FORMATS))}"
            raise UsageError(message)
    try:
        places = output.places(file for _, file in written)
    except output.OutputError as error:
        raise UsageError(str(error)) from error
    named = [*zip((name for name, _ in written), places, strict=True)]
    instead = [each for each in named if each[1].descriptor == output.STDOUT]
    if instead and asked.format is not None:
        message = f"-o {instead[0][1].shown}: --format and --json write to standard output already: leave one out"
        raise UsageError(message)
    first = instead[0][0] if instead else chosen
    return replace(settings, outputs=((first, None), *(each for each in named if each not in instead)))


def _written(option: str) -> tuple[str, str]:
    """The format and the file of one -o."""
    name, equals, file = option.partition("=")
    if not equals or not file:
        message = f"-o {option}: write -o FORMAT=FILE, as in -o json=report.json"
        raise UsageError(message)
    return name, file


def _configuration(asked: Asked) -> config.Config:
    """The one that counts; what is secret in it is registered."""
    found = _read(asked)
    config.register(found.values)
    return found


def _read(asked: Asked) -> config.Config:
    """The configuration that counts: none, or the one that is named, or the one that is found."""
    if asked.no_config:
        return config.Config()
    named = asked.config or os.environ.get("VDSCHECK_CONFIG")
    if named:
        return answered(lambda: config.read(named), named, otherwise=": --no-config reads no configuration")
    # Which of the places does not answer is not known here.
    places = f"one of ./{config.HERE}, ~/{config.OF_THE_USER} and {config.OF_THE_SYSTEM}"
    user_id = os.geteuid()
    return answered(lambda: config.find(os.environ, user_id=user_id), places, otherwise=": --no-config looks at none")


def _catalogue_for(settings: Settings) -> Catalogue:
    """Everything that a run on a host needs; what serves clusters is loaded only where it is spoken of."""
    asked = settings.asked
    said = (asked.profile, asked.only, asked.skip, settings.values)
    return load(clusters="cluster" in repr(said))


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
            note = Run(report.new_run_id(), started_at, round(time.monotonic() - began, 3), False, _command(asked))
            output.to_stdout(FORMATS["json"](report.of_nothing(__version__, note, kind, why), Terminal()))
        return 128 + received[0]


def _command(asked: Asked) -> tuple[str, ...]:
    return tuple(map(safe_text, asked.command))


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
    run_id = report.new_run_id()

    def made(measurements: Mapping[str, Taken], warnings: Sequence[str], *, complete: bool) -> Report:
        duration_s = round(time.monotonic() - began, 3)
        note = Run(run_id, started_at, duration_s, complete, _command(asked))
        target = report.target_note(measurements, safe_text(host.root))
        return report_of(settings, catalogue, rules, note, target, measurements, warnings)

    plans = settings.plans and instrument is None
    entries = _probes(catalogue, rules, FIX_PROBES if plans else ())

    def measured(where: Host, wanted: Iterable[ProbeEntry]) -> measure.Outcome:
        observer = progress(sys.stderr) if instrument is None else _watching(settings, made)
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

    warnings = [f"configuration: {safe_text(settings.file)}"] if settings.file else []
    if any(map(has_secret, asked.redis)):
        warnings.append(
            "the password in the address can be read in the process list while this runs: "
            "VDSCHECK_REDIS_URL or the configuration keeps it out of there"
        )
    mend = None
    if plans:
        from vdscheck.fix import Bench, Terms, desk
        from vdscheck.mending import Mender

        bench = Bench(
            host=host,
            catalogue=catalogue,
            entries=entries,
            desk=desk(host, __version__),
            judge=lambda measurements: judge.judge(catalogue, rules, measurements, started_at[:10]),
            measure=measured,
            stopped=lambda: bool(received),
            say=say,
            stated_by=lambda check_id, source: ruleset.stated_by(profiles, catalogue, check_id, source),
        )
        terms = Terms(asked.yes, not settings.fixes, asked.command)
        shows_first = settings.outputs[0][0] == "text" and not asked.yes
        mend = Mender(bench, terms, settings.terminal, shows_first)
        warnings += mend.recovered()
    outcome = measured(host, entries)
    warnings += [*outcome.warnings, *_unfinished(host)]
    found = made(outcome.measurements, warnings, complete=outcome.complete)
    if mend is not None and outcome.complete:
        found = mend.mended(found, lambda measurements, said: made(measurements, said, complete=not received))
    elif mend is not None:
        found = mend.not_begun(found, interrupted=bool(received))
    if received:  # also after all was measured: the exit code says that it was ended early, and so does the report
        found = replace(found, run=replace(found.run, complete=False))
    failed = outcome.failed or outcome.given_up or outcome.is_empty
    return write(draw(found, settings, settings.terminal, instrument), settings, received, failed=failed)


def _unfinished(host: Host) -> list[str]:
    """What is to be said of a fix that was ended in the middle; a host without a journal costs one look."""

    def look() -> str | None:
        if not host.is_folder(JOURNAL):
            return None
        from vdscheck.journal import unfinished

        return unfinished(host)

    try:
        said = in_child(look, keeps=host.descriptors)
    except StoppedError:
        return []
    except OSError as error:
        return [f"the journal {JOURNAL}: {error.strerror}"]
    return [] if said is None else [said]


def undo(root: str | None, received: Sequence[int], *, listing: bool, as_json: bool) -> int:
    """Give back what the latest fix replaced, or list the journal."""
    from vdscheck import undo as undoing

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


def _watching(settings: Settings, made: Callable[..., Report]) -> Progress:
    """What draws one instrument while it measures: by the same report and the same limits as at the end."""

    def draw(measurements: Mapping[str, Taken], width: int, height: int) -> bytes:
        so_far = made(measurements, (), complete=False)
        measured = tuple(finding for finding in so_far.findings if finding.reason is not Reason.NOT_RUN)
        return frame(replace(so_far, findings=measured), settings.terminal, width, height)

    return progress(sys.stderr, draw=draw)


def judge_saved(asked: Asked, file: str, received: Sequence[int]) -> int:
    """Judge the measurements of a saved report again."""
    return or_early(asked, received, "host", lambda: _judge_saved(asked, file, received))


def _judge_saved(asked: Asked, file: str, received: Sequence[int]) -> int:
    settings = replace(settle(asked), measures=False)
    catalogue = load()
    content = _saved(file, received)
    terminal, ours = settings.terminal, os.getpid()

    def judged() -> "Drawn":
        # A report may come from anybody, and be made so that it is never judged.
        if os.getpid() != ours:
            resource.setrlimit(resource.RLIMIT_AS, (JUDGE_LIMIT_BYTES, JUDGE_LIMIT_BYTES))
            resource.setrlimit(resource.RLIMIT_CPU, (JUDGE_LIMIT_S, JUDGE_LIMIT_S))
        return draw(_judged_again(settings, catalogue, file, content), settings, terminal)

    try:
        drawn = in_child(judged, JUDGE_PATIENCE_S)
    except (NoAnswerError, LostChildError, MemoryError) as error:
        message = (
            f"{file}: not a report that can be judged: it takes more than {JUDGE_LIMIT_S} s "
            f"or {JUDGE_LIMIT_BYTES >> 20} MiB of memory"
        )
        raise UsageError(message) from error
    return write(drawn, settings, received)


def _judged_again(settings: Settings, catalogue: Catalogue, file: str, content: bytes) -> Report:
    """The report of what a saved one measured."""
    types = {probe_id: entry.provides for probe_id, entry in catalogue.probes.items()}
    try:
        saved = codec.decode_report(content, types)
    except codec.CodecError as error:
        message = f"{file}: not a report that can be judged: {error}"
        raise UsageError(message) from error
    old = settings.file is None
    overrides = dict(saved.ruleset.overrides) if old else {}
    overrides |= settings.overrides
    profiles = list(settings.first("profile", settings.asked.profile, saved.ruleset.profiles))
    rules = ruleset.build(catalogue, profiles, _plausible(overrides, file), __version__, saved.target.kind, saved=old)
    said = [redact(warning) for warning in _said_of_the_run(saved, catalogue, file)]
    run = replace(saved.run, command=tuple(map(without_secrets, saved.run.command)))
    return report_of(settings, catalogue, rules, run, saved.target, saved.measurements, said)


def _said_of_the_run(saved: codec.SavedReport, catalogue: Catalogue, file: str) -> list[str]:
    """The warnings of a saved report, less those that its own judging made: the new judging makes its own."""
    if not saved.warnings:
        return []
    note = saved.ruleset
    try:
        overrides = _plausible(note.overrides, file)
        rules = ruleset.build(catalogue, note.profiles, overrides, __version__, saved.target.kind, saved=True)
    except (UsageError, ruleset.RulesetError):
        return list(saved.warnings)
    judged = judge.judge(catalogue, rules, saved.measurements, saved.run.started_at[:10])
    return [warning for warning in saved.warnings if warning not in judged.warnings]


def _plausible(overrides: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    """The overrides of a saved report, checked as a configuration's are: a report may come from anybody.

    What changes no ruleset is left out: no report of ours has it there, and it may be an address with a password.
    """
    try:
        checked = config.checked_values(overrides)
        return {key: value for key, value in checked.items() if key in (*RULES, "only", "skip")}
    except ValueError as error:
        message = f"{file}: ruleset.overrides: {error}"
        raise UsageError(message) from error


def from_standard_input(received: Sequence[int]) -> bytes:
    """All of it. Raises StoppedError where a signal comes before its end: a read alone would be taken up again."""
    content = bytearray()
    while len(content) <= SAVED_LIMIT_BYTES:
        if received:
            raise StoppedError
        if select.select([0], [], [], INTERRUPTED_EVERY_S)[0]:
            piece = os.read(0, 1 << 20)
            if not piece:
                break
            content += piece
    return bytes(content)


def _saved(file: str, received: Sequence[int]) -> bytes:
    if file == "-":
        content = from_standard_input(received)
        if len(content) > SAVED_LIMIT_BYTES:
            message = f"standard input is larger than {SAVED_LIMIT_BYTES:,} bytes: not a report"
            raise UsageError(message)
        return content
    try:
        return answered(lambda: Host().read_bytes(absolute(file), limit_bytes=SAVED_LIMIT_BYTES), file)
    except UnavailableError as error:
        raise UsageError(error.absent.detail) from error


def _host(root: str | None) -> Host:
    if root is None:
        return Host()
    tree = Root.named(root)
    return Host(tree.path or root, tree=tree)


def _probes(catalogue: Catalogue, rules: ruleset.Ruleset, more: Sequence[str]) -> list[ProbeEntry]:
    """The probes that the selected checks need, those of the header, and some more."""
    wanted = {name: catalogue.probes[name] for name in (*HEADER_PROBES, *more) if name in catalogue.probes}
    for entry in rules.selected:
        wanted.update({each.probe.id: each for each in catalogue.probes_of(entry)})
    return [wanted[name] for name in sorted(wanted)]


def report_of(
    settings: Settings,
    catalogue: Catalogue,
    rules: ruleset.Ruleset,
    run_note: Run,
    target: TargetNote,
    measurements: Mapping[str, Taken],
    warnings: Sequence[str],
) -> Report:
    """The report of what was measured, with the gates that were asked for."""
    judged = judge.judge(catalogue, rules, measurements, run_note.started_at[:10])
    made = report.build(
        version=__version__,
        run=run_note,
        target=target,
        ruleset=rules.note,
        judged=judged,
        measurements=measurements,
        warnings=warnings,
    )
    gates = judge.gates(
        judged.findings,
        judged.score,
        min_score=settings.first("min-score", settings.asked.min_score),
        min_coverage=settings.first("min-coverage", settings.asked.min_coverage),
        fail_on=settings.first("fail-on", settings.asked.fail_on, ()),
    )
    loosening = _loosening(settings, target.kind, run_note.started_at[:10])
    asked = settings.asked_gates
    gates = tuple(replace(gate, loosened_by=loosening) if gate.name in asked else gate for gate in gates)
    return replace(made, gates=gates)


def _loosening(settings: Settings, target: TargetKind, today: str) -> Loosening | None:
    """What the configuration changes of what the gates of the command line rest on, where nobody named it."""
    if not settings.found or settings.file is None:
        return None
    decided = settings.decided
    if settings.asked.min_score is None or settings.asked.min_coverage is not None:
        decided |= {"min-coverage"}
    what = tuple(loosened(settings.values, decided, target, today, measures=settings.measures))
    return Loosening(safe_text(settings.file), what) if what else None


@frozen
class Drawn:
    """A report in every format that was asked for, and what the exit code is where nothing else goes wrong."""

    contents: tuple[bytes, ...]
    code: int
    said: tuple[str, ...] = ()
    """What standard error says of it."""


def draw(made: Report, settings: Settings, terminal: Terminal, instrument: Instrument | None = None) -> Drawn:
    """Draw every output that was asked for; `terminal` is that of standard output."""
    contents = []
    for name, place in settings.outputs:
        drawn = terminal if place is None else Terminal(verbose=terminal.verbose)
        contents.append(FORMATS[name](made, replace(drawn, instrument=instrument is not None)))
    return Drawn(tuple(contents), _code(made, settings), tuple(told(made.gates)))


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
