"""A second kind of settings beside those of the kernel: planned, applied and given back together, or not at all."""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.fix_hosts import TODAY, VERSION, Machine, taken
from vdscheck.catalogue import catalogue as catalogues
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.catalogue.entry_points import GROUP, declared_in, entry_points, import_plugins
from vdscheck.fix.files import FixError
from vdscheck.fix.journal import FOLDER, Journal
from vdscheck.fix.transaction import Desk
from vdscheck.fixes.sysctl import KernelSettings, kernel_settings
from vdscheck.judge.judge import Judged, judge
from vdscheck.measure.measure import Outcome
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
from vdscheck.ruleset import ruleset

TOY_FILE = "/etc/toy.d/90-vdscheck"
SIZE, SPEED = "toy.size", "toy.speed"
REUSE = "net.ipv4.tcp_tw_reuse"
WANTED = {SIZE: "7", SPEED: "9"}
ENTRIES = FOLDER.lstrip("/")


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


@cache
def both() -> Catalogue:
    """What is installed, and toys."""
    found: list[tuple[str, Any]] = [
        each for name, value in entry_points(GROUP, sys.path) for each in declared_in(import_plugins(name, value))
    ]
    mine = (toys, toys_at_boot, right, ToySettings(Path("/toy")))
    return catalogues.assemble([*found, *(("tests", each) for each in mine)])


class Mixed(Machine):
    """A machine with toys."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "web")
        for key in WANTED:
            self.file(f"toy/{key}", "1\n")

    @property
    def toys(self) -> dict[str, str]:
        return {key: (self.root / "toy" / key).read_text().strip() for key in WANTED}

    @property
    def kinds(self) -> dict[str, FixKind]:
        return {"sysctl": KernelSettings(str(self.settings)), "toy": ToySettings(self.root / "toy")}

    @property
    def desk(self) -> Desk:
        return Desk(self.host, True, VERSION, self.kinds)

    def bench(self, **more: Any) -> Any:
        return super().bench(**({"catalogue": both()} | more))

    def measure(self, host: Host | None = None, entries: Iterable[ProbeEntry] = ()) -> Outcome:
        found = super().measure(host, entries).measurements
        where = host or self.host
        return Outcome(
            {**found, "toy.now": taken(toys.function(where)), "toy.boot": taken(toys_at_boot.function(where))}
        )

    def judge(self, measurements: Measurements) -> Judged:
        overrides = {"only": ["sysctl.*", "toy.*"], "skip": ["sysctl.thp"]}
        return judge(both(), ruleset.build(both(), ["web"], overrides, VERSION), measurements, TODAY)


@pytest.fixture
def machine(tmp_path: Path) -> Mixed:
    return Mixed(tmp_path / "root")


def state(machine: Mixed) -> Any:
    return machine.values, machine.files


def test_one_entry_holds_settings_of_both_kinds_and_gives_them_back(machine: Mixed) -> None:
    before = state(machine)
    record = machine.fix()
    assert record.outcome == "applied", record
    assert {(each.kind, each.key) for each in record.changes} >= {("sysctl", REUSE), ("toy", SIZE), ("toy", SPEED)}
    assert machine.toys == WANTED
    assert (machine.root / TOY_FILE[1:]).read_text() == "toy.size=7\ntoy.speed=9\n"
    assert machine.fix().outcome == "nothing-to-do"
    (path,) = (machine.root / ENTRIES).iterdir()
    said = json.loads(path.read_text())
    assert said["packages"] == {"sysctl": "vdscheck", "toy": "tests"}
    assert {each["kind"] for each in said["files"]} == {"sysctl", "toy"}
    assert machine.undo() == ()
    assert state(machine) == before


class Stubborn(ToySettings):
    """One toy takes no value."""

    def write(self, key: str, value: str) -> None:
        super().write(key, "8" if key == SPEED and value == "9" else value)


@pytest.mark.parametrize("stubborn", ["sysctl", "toy"])
def test_where_a_setting_of_one_kind_does_not_hold_those_of_the_other_are_given_back(
    machine: Mixed, stubborn: str
) -> None:
    class Deaf(KernelSettings):
        def write(self, key: str, value: str) -> None:
            super().write(key, "2" if key == REUSE else value)

    before = state(machine)
    odd: dict[str, FixKind] = {"toy": Stubborn(machine.root / "toy"), "sysctl": Deaf(str(machine.settings))}
    kinds = machine.kinds | {stubborn: odd[stubborn]}
    record = machine.fix(desk=Desk(machine.host, True, VERSION, kinds))
    assert record.outcome == "given-back", record
    assert state(machine) == before


@pytest.mark.parametrize("number", range(9))
def test_ended_after_any_step_both_kinds_are_as_before(machine: Mixed, number: int) -> None:
    looks = iter(range(100))
    before = state(machine)
    record = machine.fix(stopped=lambda: next(looks) >= number + 1)
    assert record.outcome in ("declined", "given-back", "applied")
    assert (state(machine) == before) is (record.outcome != "applied")


def test_an_entry_of_a_kind_that_is_not_installed_is_named_and_in_nobodys_way(machine: Mixed) -> None:
    machine.fix()
    before = machine.toys, machine.values
    without = {kernel_settings.name: KernelSettings(str(machine.settings))}
    journal = Journal.opened(machine.host, without)
    assert journal is not None
    found = journal.usable()
    journal.close()
    assert found.latest is None
    (why,) = found.left_to_others
    assert "of the kind toy, which tests sets" in why
    assert machine.undo(Desk(machine.host, True, VERSION, without)) is None
    assert (machine.toys, machine.values) == before
    # A fix of the kernel's settings goes on, with an entry of its own that is given back before.
    machine.write(REUSE, "0")
    alone = Machine.fix(machine, desk=Desk(machine.host, True, VERSION, without))
    assert alone.outcome in ("applied", "undecided", "nothing-to-do"), alone


def test_a_key_that_is_none_of_its_kind_is_refused(machine: Mixed) -> None:
    machine.fix()
    (path,) = (machine.root / ENTRIES).iterdir()
    said = json.loads(path.read_text())
    changed = [
        each | {"key": "../../etc/passwd" if each["kind"] == "toy" else each["key"]} for each in said["settings"]
    ]
    path.write_text(json.dumps(said | {"settings": changed}))
    with pytest.raises(FixError, match="is damaged"):
        machine.undo()
