"""A kind of settings that is nobody's: toys, in files of a folder, one a file."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from vdscheck.plugin import (
    Absent,
    AtBoot,
    FixChange,
    FixKind,
    Host,
    Judgement,
    Measurements,
    Restored,
    SettingFix,
    Severity,
    Surroundings,
    UnavailableError,
    Verdict,
    check,
    measurement,
    probe,
)

TOY_FILE = "/etc/toy.d/90-vdscheck"
SIZE, SPEED = "toy.size", "toy.speed"
WANTED = {SIZE: "7", SPEED: "9"}


@measurement
class Toys:
    """The settings as they are."""

    values: dict[str, str]


@measurement
class ToysAtBoot:
    """The settings after the next boot."""

    values: dict[str, str]


@probe("toy.now")
def toys(host: Host) -> Toys:
    """Reads /toy."""
    return Toys(values={key: host.read(f"/toy/{key}").strip() for key in WANTED})


@probe("toy.boot")
def toys_at_boot(host: Host) -> ToysAtBoot:
    """Reads /etc/toy.d."""
    try:
        text = host.read(TOY_FILE)
    except UnavailableError:
        text = ""
    return ToysAtBoot(values=dict.fromkeys(WANTED, "1") | _lines(text.encode()))


@check("toy.right", severity=Severity.HIGH)
def right(found: Toys, boot: ToysAtBoot) -> dict[str, Judgement | Absent]:
    """Toys are set.

    Why: So that they play.
    False positives: None.
    By hand: cat /toy
    Sources: house
    """
    said: dict[str, Judgement | Absent] = {}
    for key, wanted in WANTED.items():
        good = found.values[key] == boot.values[key] == wanted
        verdict = Verdict.PASS if good else Verdict.FAIL
        fix = None if good else SettingFix("toy", key, wanted, found.values[key])
        said[key] = Judgement(verdict=verdict, summary=f"{key} is {found.values[key]}", fix=fix)
    return said


def _lines(content: bytes | None) -> dict[str, str]:
    pairs = (line.partition("=") for line in (content or b"").decode().splitlines())
    return {key: value for key, _, value in pairs}


class ToySettings(FixKind):
    """Settings in files of a folder, one a file."""

    name = "toy"
    key_pattern = r"toy\.[a-z]+"
    file = TOY_FILE
    boot = ToysAtBoot
    deciding: ClassVar[Mapping[type, str]] = {Toys: "the toys", ToysAtBoot: "the toys after the next boot"}
    whole = (Toys, ToysAtBoot)
    page_fix = ("play",)
    page_undo = ("stop",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def summary(self, setting: SettingFix) -> str:
        return f"toy {setting.key}"

    def commands(self, setting: SettingFix) -> tuple[str, ...]:
        return (f"echo {setting.value} > /toy/{setting.key}",)

    def undo(self, setting: SettingFix) -> tuple[str, ...]:
        return (f"echo {setting.before} > /toy/{setting.key}",)

    def same(self, first: str | None, second: str | None) -> bool:
        return first is not None and first == second

    def now(self, key: str, here: Surroundings) -> str | None:
        found = here.of(Toys)
        return None if found is None else found.values.get(key)

    def why_not(self, key: str, here: Surroundings) -> str | None:
        return None if here.of(ToysAtBoot) is not None else f"{key} is not known"

    def lasts(self, key: str, wanted: str, boot: ToysAtBoot | None) -> str | None:
        return None if boot is not None and boot.values.get(key) == wanted else "it does not last"

    def at_boot(self, key: str, boot: ToysAtBoot) -> AtBoot | None:
        return AtBoot(boot.values[key], self.file)

    def foreseen(self, before: ToysAtBoot, after: ToysAtBoot, keys: Collection[str]) -> ToysAtBoot:
        return ToysAtBoot(
            values={key: after.values[key] if key in keys else value for key, value in before.values.items()}
        )

    def supposed(self, here: Measurements, values: Mapping[str, str], boot: ToysAtBoot | None) -> Measurements:
        found = {}
        for name, each in here.items():
            value = Toys(values=each.value.values | dict(values)) if isinstance(each.value, Toys) else each.value
            if isinstance(each.value, ToysAtBoot):
                value = boot or each.value
            found[name] = replace(each, value=value)
        return found

    def moved(self, before: Measurements, after: Measurements, keys: Collection[str]) -> Measurements:
        del keys
        return {name: after[name] if isinstance(each.value, self.whole) else each for name, each in before.items()}

    def holds(self, measurement: type, keys: Collection[str]) -> bool:
        del keys
        return measurement in self.whole

    def merged(self, content: bytes | None, settings: Mapping[str, str]) -> bytes:
        lines = _lines(content) | dict(settings)
        return "".join(f"{key}={value}\n" for key, value in lines.items()).encode()

    def restored(self, now: bytes | None, before: bytes | None, after: bytes) -> Restored:
        return Restored(before, ()) if now == after else Restored(now, ())

    def says(self, content: bytes | None, keys: Iterable[str]) -> dict[str, str]:
        lines = _lines(content)
        return {key: lines[key] for key in keys if key in lines}

    def script_checks(self, changes: Sequence[FixChange]) -> list[str]:
        return [f"test -e /toy/{each.key}" for each in changes]

    def script_sets(self, changes: Sequence[FixChange], comment: Callable[[str], list[str]]) -> list[str]:
        return [*comment("toys"), *(f"echo {each.wanted} > /toy/{each.key}" for each in changes)]

    def script_undoes(self, changes: Sequence[FixChange]) -> list[str]:
        return [f"echo {each.before} > /toy/{each.key}" for each in changes]

    def path(self, key: str) -> str:
        return f"/toy/{key}"

    def seen(self, key: str) -> str | None:
        return (self.folder / key).read_text().strip()

    def write(self, key: str, value: str) -> None:
        (self.folder / key).write_text(f"{value}\n")
