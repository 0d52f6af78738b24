"""A second kind of settings beside those of the kernel: planned, applied and given back together, or not at all."""

import json
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.fix_hosts import TODAY, VERSION, Machine, taken
from tests.support.toys import SIZE, SPEED, TOY_FILE, WANTED, ToySettings, right, toys, toys_at_boot
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
from vdscheck.plugin import FixKind, Host, Measurements
from vdscheck.ruleset import ruleset

REUSE = "net.ipv4.tcp_tw_reuse"
ENTRIES = FOLDER.lstrip("/")


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
