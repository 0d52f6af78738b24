"""What was asked: the command line over the configuration over the defaults."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from enum import IntEnum
from typing import Any, TypeVar

from vdscheck.catalogue.entry_points import CatalogueError
from vdscheck.cli import config, known, output
from vdscheck.cli.known import is_said
from vdscheck.cli.loosened import hidden
from vdscheck.cli.options import EFFORTS
from vdscheck.measure import measure
from vdscheck.model.records import frozen
from vdscheck.plugin import Files, Instrument, Option, SubjectError, TargetKind, Terminal
from vdscheck.process.guard import ANSWER_LIMIT_S, LostChildError, NoAnswerError, in_child
from vdscheck.ruleset import profile
from vdscheck.target.rooted import RootError
from vdscheck.target.secrets import has_secret, without_secrets
from vdscheck.target.text import safe_text

T = TypeVar("T")
RULES = ("limits", "severity", "offer", "waivers")
"""The tables of a configuration that change the ruleset, beside `only` and `skip`."""
USUAL_PROFILE: Mapping[TargetKind, str] = {"host": "web", "cluster": "cluster"}
"""By what a target is judged where nobody says it."""
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
    """What a call says; what it does not say is not there, so the configuration counts."""

    said: Mapping[str, Any] = field(default_factory=dict)
    """By the names of options and of the argument."""
    by_variable: Mapping[str, Any] = field(default_factory=dict)
    """What environment variables say where the command line does not."""
    command: Sequence[str] = ()
    """The words of the call, as the report keeps them."""
    instrument: Instrument | None = None

    def flag(self, name: str) -> bool:
        """Whether a flag is said."""
        return bool(self.said.get(name))


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
    target: TargetKind | None = None
    """What is measured; None where a saved report is judged."""
    brought: tuple[str, ...] = ()
    """What a saved report changes of that itself, in words, beside its overrides."""

    @property
    def of_the_configuration(self) -> list[str]:
        """What a report says of the file that counts."""
        if self.file is None:
            return []
        return [f"configuration: {safe_text(self.file)}", *self.hiding]

    @property
    def seen_by_others(self) -> list[str]:
        """What a report says of a password on the command line, where there is a variable for it."""
        options = (option for option in known.so_far().options.values() if option.variable)
        return [
            "the password in the address can be read in the process list while this runs: "
            f"{option.variable} or the configuration keeps it out of there"
            for option in options
            if any(map(has_secret, self.asked.said.get(option.name, ())))
        ]

    @property
    def hiding(self) -> list[str]:
        """What is said where that file hides another configuration."""
        if self.file is None or self.instead_of is None:
            return []
        return [f"{safe_text(self.file)} {hidden(self.instead_of)}"]

    @property
    def plans(self) -> bool:
        """Whether a plan of fixes is wanted."""
        return self.fixes or self.asked.flag("dry-run") or any(known.plans(name) for name, _ in self.outputs)

    @property
    def fixes(self) -> bool:
        """Whether it may be carried out."""
        return self.asked.flag("fix") and not self.asked.flag("dry-run")

    @property
    def decided(self) -> set[str]:
        """The keys of the configuration that the command line has decided."""
        found = {*self.asked.said, *self.asked.by_variable}
        return found | set(EFFORTS) if found.intersection(EFFORTS) else found

    @property
    def asked_gates(self) -> set[str]:
        """The names of the gates that the command line asks for."""
        score, coverage, findings = (name in self.asked.said for name in ("min-score", "min-coverage", "fail-on"))
        asked = {"min-score": score, "min-coverage": score or coverage, "fail-on": findings}
        return {name for name, wanted in asked.items() if wanted}

    def first(self, name: str, otherwise: Any = None) -> Any:  # noqa: ANN401
        """What the command line said, or a variable, or the configuration, or else the default."""
        of_configuration = self.values.get(name, otherwise)
        return self.asked.said.get(name, self.asked.by_variable.get(name, of_configuration))

    @property
    def effort(self) -> measure.Effort:
        """One effort: the command line's word, or the configuration's flag."""
        said = [word for word in EFFORTS if self.asked.flag(word)]
        words = said or [word for word in EFFORTS if self.values.get(word)]
        if len(words) > 1:
            message = f"configuration {self.file}: {' and '.join(words)} exclude each other"
            raise UsageError(message)
        return measure.Effort(words[0] if words else "default")

    @property
    def overrides(self) -> dict[str, Any]:
        """What changes the ruleset, as the report keeps it."""
        found = {key: self.values[key] for key in RULES if key in self.values}
        for name in ("only", "skip"):
            patterns = [safe_text(without_secrets(pattern)) for pattern in self.first(name, ())]
            if patterns:
                found[name] = patterns
        limits = {check_id: dict(named) for check_id, named in found.get("limits", {}).items()}
        for option, value in self._of_areas:
            for check_id, named in option.limits(value).items() if option.limits is not None else ():
                limits.setdefault(check_id, {}).update(named)
        return found | ({"limits": limits} if limits else {})

    @property
    def _of_areas(self) -> Iterator[tuple[Option, Any]]:
        """What was said to the options of areas and plugins that are about the target."""
        for option in known.so_far().options.values():
            value = self.first(option.name)
            if option.commands and is_said(value) and self.target is not None and option.target in (None, self.target):
                yield option, value

    @property
    def files(self) -> Mapping[str, tuple[Files, Sequence[str]]]:
        """What is to be read before anything is measured, by the option, and the names that were said."""
        return {option.name: (option.files, value) for option, value in self._of_areas if option.files is not None}

    def _either(self, name: str) -> Any:  # noqa: ANN401
        """Of quiet and verbose: as soon as the command line says one of them, the configuration says neither."""
        said = self.asked.flag("quiet") or self.asked.flag("verbose")
        return self.asked.flag(name) if said else self.values.get(name)

    @property
    def subjects(self) -> dict[str, Any]:
        """What the probes that measure one by one choose from: the options, and what plugins are told."""
        chosen = dict(self.values.get("plugin", {}))
        chosen |= {option.name: value for option, value in self._of_areas}
        instrument = self.asked.instrument
        if instrument is not None and instrument.settings is not None:
            chosen |= instrument.settings(self.asked.said)
        return chosen

    @property
    def terminal(self) -> Terminal:
        """How text is drawn on this standard output."""
        if self.asked.flag("report"):
            return Terminal(utf8=False, plain=True)
        return Terminal.of(
            os.environ,
            no_color=bool(self.first("no-color")),
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


def settle(asked: Asked, target: TargetKind | None) -> Settings:
    """Read the configuration that counts and check what can be checked before anything is measured."""
    found = _configuration(asked)
    settings = Settings(asked, found.file, found.values, found=found.found, instead_of=found.instead_of, target=target)
    if settings.files and "only" not in asked.said:
        only = [check_id for how, _ in settings.files.values() for check_id in how.checks]
        asked = replace(asked, said={**asked.said, "only": only})
        settings = replace(settings, asked=asked)
    return replace(settings, outputs=tuple(_outputs(settings)))


def _outputs(settings: Settings) -> Iterator[tuple[str, output.Place | None]]:
    """Each format that is wanted, and where: standard output first. Raises UsageError."""
    said = settings.asked.said
    of_configuration = settings.values.get("format", "json" if settings.values.get("json") else "text")
    on_command_line = "json" if said.get("json") else said.get("format")
    chosen = on_command_line or of_configuration
    named = said.get("output", ())
    if len(named) > OUTPUTS_LIMIT:
        message = f"-o: at most {OUTPUTS_LIMIT} files, and {len(named):,} are named"
        raise UsageError(message)
    written = [_written(each) for each in named]
    for name in (chosen, *(name for name, _ in written)):
        if known.output_format(name) is None:
            message = f"there is no format {name}: {profile.nearest(name, known.formats())}"
            raise UsageError(message)
    try:
        places = output.places(file for _, file in written)
    except output.OutputError as error:
        raise UsageError(str(error)) from error
    pairs = [*zip((name for name, _ in written), places, strict=True)]
    instead = [each for each in pairs if each[1].descriptor == output.STDOUT]
    if instead and on_command_line is not None:
        message = f"-o {instead[0][1].shown}: --format and --json write to standard output already: leave one out"
        raise UsageError(message)
    yield (instead[0][0] if instead else chosen), None
    yield from (each for each in pairs if each not in instead)


def _written(option: str) -> tuple[str, str]:
    """The format and the file of one -o."""
    name, equals, file = option.partition("=")
    if not equals or not file:
        message = f"-o {option}: write -o FORMAT=FILE, as in -o json=report.json"
        raise UsageError(message)
    return name, file


def _configuration(asked: Asked) -> config.Config:
    """The one that counts, checked; what is secret in it is registered. Raises ConfigError."""
    return config.checked(_read(asked))


def _read(asked: Asked) -> config.Written:
    """The file that counts: none, or the one that is named, or the one that is found."""
    if asked.flag("no-config"):
        return config.Written()
    by_variable = os.environ.get("VDSCHECK_CONFIG")
    named = asked.said.get("config") or by_variable
    if named:
        variable = None if "config" in asked.said else "VDSCHECK_CONFIG"
        return answered(lambda: config.named(named, variable), named, otherwise=": --no-config reads no configuration")
    # Which of the places does not answer is not known here.
    places = f"one of ./{config.HERE}, ~/{config.OF_THE_USER} and {config.OF_THE_SYSTEM}"
    user_id = os.geteuid()
    return answered(lambda: config.found(os.environ, user_id=user_id), places, otherwise=": --no-config looks at none")
