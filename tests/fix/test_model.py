"""A machine that is fixed, edited by hand, rebooted and undone in any order: nothing gets worse, nothing is lost."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.fix_hosts import DEFAULTS, VALUES, Machine, scatter
from vdscheck.fix.plan import worse
from vdscheck.fixes.sysctl.boot import FILE as DROP_IN
from vdscheck.fixes.sysctl.boot import same
from vdscheck.target.what_if import WhatIfHost

MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
OURS = DROP_IN.lstrip("/")
FOREIGN = ("etc/sysctl.d/10-a.conf", "etc/sysctl.d/50-b.conf", "etc/sysctl.d/99-zz.conf")
CAPTURED = ("kvm-firecracker", "tcg-debian-12", "tcg-debian-13-ide")
"""Hosts of tests/hosts that own their kernels."""
KEYS = st.sampled_from(sorted(VALUES))


class Lives(RuleBasedStateMachine):
    """Keeps, beside the machine, what it would be if nobody had ever fixed it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY, prefix="vdscheck-")

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.undo_everything()
        self.folder.cleanup()

    @initialize(
        seed=st.integers(0, 10_000),
        profile=st.sampled_from(["web", "redis", "latency", "kubernetes-node"]),
        captured=st.sampled_from([None, *CAPTURED]),
    )
    def begin(self, seed: int, profile: str, captured: str | None) -> None:
        self.machine = Machine(Path(self.folder.name) / "root", profile, captured=captured)
        scatter(self.machine, seed)
        self.without_us = dict(self.machine.values)
        self.theirs = {name: text for name, text in self.machine.files.items() if name != OURS}
        self.ours = self.machine.files.get(OURS)
        self.edited: dict[str, set[str]] = {}
        """Lines that a person put into our file, by key."""
        self.unsure: set[str] = set()
        """Keys of which nobody can tell what they would be without us."""
        self.wanted: dict[str, set[str]] = {}

    # What people do

    @rule(key=KEYS, data=st.data())
    def set_now(self, key: str, data: st.DataObject) -> None:
        value = " ".join(data.draw(st.sampled_from(VALUES[key])).split())
        self.machine.write(key, value)
        if any(same(value, each) for each in self.wanted.get(key, ())):
            self.unsure.add(key)
        self.without_us[key] = value

    @rule(name=st.sampled_from(FOREIGN), key=KEYS, data=st.data())
    def write_a_file(self, name: str, key: str, data: st.DataObject) -> None:
        text = f"# by hand\n{key} = {data.draw(st.sampled_from(VALUES[key]))}\n"
        self.machine.file(name, text)
        self.theirs[name] = text.encode()
        if "held" in self.machine.states():
            self.unsure |= set(DEFAULTS)

    @rule(key=KEYS, data=st.data())
    def edit_our_file(self, key: str, data: st.DataObject) -> None:
        value = data.draw(st.sampled_from(VALUES[key]))
        path = self.machine.root / OURS
        before = path.read_text() if path.exists() else ""
        self.machine.file(OURS, f"{before}{key} = {value}\n")
        self.edited.setdefault(key, set()).add(value)
        self.unsure.add(key)

    @rule()
    def reboot(self) -> None:
        bare = WhatIfHost(str(self.machine.root), path=DROP_IN, content=self.ours or b"")
        truth = self.machine.boot_truth(bare)
        self.machine.reboot()
        for key in self.without_us:
            value = truth.keys[key].value
            self.without_us[key] = self.machine.defaults[key] if value is None else value

    # What we do

    @rule()
    def fix(self) -> None:
        before = self.machine.judged.findings
        record = self.machine.fix()
        assert record.outcome in {"applied", "nothing-to-do"}, record
        assert worse(before, self.machine.judged.findings) == []
        for each in record.changes:
            assert same(self.machine.read(each.key), each.wanted)
            self.wanted.setdefault(each.key, set()).add(each.wanted)

    @rule()
    def undo(self) -> None:
        self.machine.undo()

    @precondition(lambda self: not self.edited)
    @rule()
    def undo_everything(self) -> None:
        while self.machine.undo() is not None:
            pass
        assert set(self.machine.states()) <= {"undone"}
        now = self.machine.values
        differs = {
            key: (value, now[key])
            for key, value in self.without_us.items()
            if key not in self.unsure and not same(value, now[key]) and (value or now[key])
        }
        assert differs == {}
        if not self.edited:
            assert self.machine.files.get(OURS) == self.ours
        self.wanted.clear()

    # What always holds

    @invariant()
    def nobody_elses_file_is_touched(self) -> None:
        if hasattr(self, "machine"):
            files = self.machine.files
            assert {name: text for name, text in files.items() if name != OURS} == self.theirs

    @invariant()
    def no_line_of_ours_is_torn(self) -> None:
        if hasattr(self, "machine"):
            for line in (self.machine.files.get(OURS) or b"").decode().splitlines():
                assert line.startswith(("#", "-", "net", "vm", "fs")), line


def lived(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_lives_of_a_machine_never_get_worse_and_can_be_undone() -> None:
    lived(12, 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_lives_of_a_machine_never_get_worse_and_can_be_undone() -> None:
    lived(400, 25)
