"""What was asked: the command line over the configuration over the defaults."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from enum import IntEnum
from typing import Any, TypeVar

from vdscheck.catalogue.entry_points import CatalogueError
from vdscheck.cli import config, output
from vdscheck.cli.loosened import hidden
from vdscheck.measure import measure
from vdscheck.model.records import frozen
from vdscheck.plugin import SubjectError
from vdscheck.process.guard import ANSWER_LIMIT_S, LostChildError, NoAnswerError, in_child
from vdscheck.render.formats import FORMATS, Terminal
from vdscheck.ruleset import profile
from vdscheck.target.rooted import RootError
from vdscheck.target.secrets import without_secrets
from vdscheck.target.text import safe_text

T = TypeVar("T")
RULES = ("limits", "severity", "offer", "waivers")
"""The tables of a configuration that change the ruleset, beside `only` and `skip`."""
OUTPUTS_LIMIT = 50
"""How many files one call may write: each may take its time."""
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


class ExitCode(IntEnum):
    """The contract's exit codes; an interrupted run ends with 128 and the signal's number."""

    OK = 0
    GATE = 1
    USAGE = 2
    FIX = 3
    INTERNAL = 4


class UsageError(Exception):
    """A call that cannot be followed: exit code 2, one line."""


USAGE_ERRORS = (UsageError, CatalogueError, config.ConfigError, profile.RulesetError, RootError, SubjectError)


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
    instead_of: str | None = None
    """What a file that was found takes the place of: the configuration of the user, of the system, of a report."""
    measures: bool = True
    """False where a saved report is judged."""
    brought: tuple[str, ...] = ()
    """What a saved report changes of that itself, in words, beside its overrides."""
    said_of_cluster: Mapping[str, Any] = field(default_factory=dict)
    """What the command line says of a cluster, by the keys of the configuration."""

    @property
    def of_the_configuration(self) -> list[str]:
        """What a report says of the file that counts."""
        if self.file is None:
            return []
        return [f"configuration: {safe_text(self.file)}", *self.hiding]

    @property
    def hiding(self) -> list[str]:
        """What is said where that file hides another configuration."""
        if self.file is None or self.instead_of is None:
            return []
        return [f"{safe_text(self.file)} {hidden(self.instead_of)}"]

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
    settings = Settings(asked, found.file, found.values, found=found.found, instead_of=found.instead_of)
    chosen = settings.first("format", asked.format, "json" if found.values.get("json") else "text")
    if len(asked.outputs) > OUTPUTS_LIMIT:
        message = f"-o: at most {OUTPUTS_LIMIT} files, and {len(asked.outputs):,} are named"
        raise UsageError(message)
    written = [_written(each) for each in asked.outputs]
    for name in (chosen, *(name for name, _ in written)):
        if name not in FORMATS:
            message = f"there is no format {name}: {profile.nearest(name, list(FORMATS))}"
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
    by_variable = os.environ.get("VDSCHECK_CONFIG")
    named = asked.config or by_variable
    if named:
        variable = None if asked.config else "VDSCHECK_CONFIG"
        return answered(lambda: config.read(named, variable), named, otherwise=": --no-config reads no configuration")
    # Which of the places does not answer is not known here.
    places = f"one of ./{config.HERE}, ~/{config.OF_THE_USER} and {config.OF_THE_SYSTEM}"
    user_id = os.geteuid()
    return answered(lambda: config.find(os.environ, user_id=user_id), places, otherwise=": --no-config looks at none")
