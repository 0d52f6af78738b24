"""Whether the unit that applies settings at boot does so, as its file and its drop-ins say."""

import re
from collections.abc import Sequence

from vdscheck.linux import ownership
from vdscheck.linux.systemd_units import UnitLine, Units
from vdscheck.plugin import Host, UnavailableError, frozen

_HARMLESS = re.compile(
    r"X-.*|Description|Documentation|DefaultDependencies|Conflicts|After|Before|Wants|PartOf|SourcePath|OnFailure|OnSuccess"
    r"|RefuseManualSt(?:art|op)|IgnoreOnIsolate|Type|RemainAfterExit|SuccessExitStatus|Standard(?:Output|Error)|Syslog\w+"
    r"|Log\w+|Nice|OOMScoreAdjust|Slice|StartLimit\w+|CollectMode"
)
"""What changes nothing of whether and how the command is run."""
_PLAIN = {
    "ConditionPathIsReadWrite": r"/proc/sys/net/?",
    "TimeoutSec": r"[1-9][0-9]+(?:s|sec|min)?|infinity",
    "TimeoutStartSec": r"[1-9][0-9]+(?:s|sec|min)?|infinity",
    "TimeoutStopSec": r".*",
    "ImportCredential": r"[\w.*-]+",
    "LoadCredential": r"[\w.-]+",
}
"""Where only these values are; an empty one takes earlier ones back."""
_DOES_NOTHING = r"(?:/usr)?(?:/bin/)?(?:true|false|:)(?:\s.*)?"
_SETS = re.compile("Exec|SetCredential|LoadCredential|ImportCredential|Root|Bind|Mount|TemporaryFileSystem")
"""Beginnings of what may have other things set than those of the files."""


@frozen
class Doubt:
    """Why it is not known whether a unit applies the files as they are."""

    why: str
    anything: bool
    """Whether it may set other settings than those of the files as well."""


@frozen
class Command:
    """A command that applies files: its program by all its names, and the arguments that it needs and may have."""

    programs: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    may_have: frozenset[str] = frozenset()

    def is_run_by(self, text: str) -> bool:
        """Whether a command line runs it."""
        program, *arguments = re.sub(r"^[-:+!]+", "", text).split() or [""]
        given = set(arguments)
        return program in self.programs and self.needs <= given <= self.needs | self.may_have


def doubt(units: Units, unit: str, command: Command) -> Doubt | str | None:
    """What keeps a unit from doing what it was made for: a sentence where it is known to apply nothing."""
    try:
        lines = list(units.assignments(unit))
    except UnavailableError as error:
        return Doubt(f"whether {unit} applies them is not known: {error.absent.detail}", anything=True)
    started = _started(lines)
    where = next((line.path for line in reversed(lines) if line.key == "ExecStart"), units.file(unit) or unit)
    if not any(line.value for line in started) or all(re.fullmatch(_DOES_NOTHING, line.value) for line in started):
        ran = started[-1].value if started else "nothing"
        return f"{where}: {unit} runs {ran}"
    odd = [line for line in lines if line.key != "ExecStart" and line.value and not _is_harmless(line)]
    odd += [line for line in started if not command.is_run_by(line.value)]
    if not odd:
        return None
    anything = [line for line in odd if _SETS.match(line.key)]
    why = f"whether {unit} applies them is not known with {(anything or odd)[0].text}"
    return Doubt(why, anything=bool(anything))


def empty_root(host: Host) -> Doubt | None:
    """Of a system that is kept in memory nobody can tell with which files it comes up again."""
    found = ownership.look(host)
    if found.lost_at_boot is None or found.root is False or found.contained:
        return None  # in a container it is asked of nobody
    return Doubt(f"which files the next boot finds is not known: {found.lost_at_boot}", anything=True)


def _started(lines: Sequence[UnitLine]) -> list[UnitLine]:
    found: list[UnitLine] = []
    for line in lines:
        if line.key == "ExecStart":
            found = [*found, line] if line.value else []
    return found


def _is_harmless(line: UnitLine) -> bool:
    if line.key in _PLAIN:
        return re.fullmatch(_PLAIN[line.key], line.value) is not None
    return _HARMLESS.fullmatch(line.key) is not None
