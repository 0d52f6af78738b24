"""What is applied, read back, verified and given back, on made-up machines whose kernels misbehave."""

import errno
import json
import os
import re
import shutil
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.fix_hosts import KINDS, Machine, at_desk, catalogue, taken
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.fix.files import NEW_NAME, FixError
from vdscheck.fix.flow import foreseeing
from vdscheck.fix.journal import FOLDER, Journal, unfinished
from vdscheck.fix.transaction import Desk, NotBegunError, recover, undo, verified
from vdscheck.fixes.sysctl import KernelSettings
from vdscheck.fixes.sysctl.boot import FILE as DROP_IN
from vdscheck.measure.measure import Outcome
from vdscheck.model.absence import Reason, unmeasured
from vdscheck.model.fixes import FixRecord
from vdscheck.model.report import Taken
from vdscheck.process import signals
from vdscheck.target.host import Host
from vdscheck.target.what_if import WhatIfHost

WATCHES = "fs.inotify.max_user_watches"
REUSE, SOMAXCONN, IDLE = "net.ipv4.tcp_tw_reuse", "net.core.somaxconn", "net.ipv4.tcp_slow_start_after_idle"
FILTER = "net.ipv4.conf.all.rp_filter"
LATE = Taken("2026-11-25T00:00:00Z", 5.0, "made up", None, unmeasured(Reason.TIMEOUT, "too late"))
OURS = DROP_IN.lstrip("/")
ENTRIES = FOLDER.lstrip("/")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root", "web")


def test_what_covers_a_setting_and_is_none_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    kernel = KernelSettings(str(tmp_path))
    for key in ("pipe", "folder"):
        with pytest.raises(OSError, match="something else than a setting"):
            kernel.seen(key)
        assert kernel.read(key) is None
        with pytest.raises(OSError, match=r"No such device or address|Is a directory"):
            kernel.write(key, "1")


def state(machine: Machine) -> tuple[dict[str, str], dict[str, bytes]]:
    return machine.values, machine.files


class Odd(KernelSettings):
    """A kernel that does something else with one key."""

    def __init__(self, machine: Machine, key: str, act: Callable[[str], str | None]) -> None:
        super().__init__(str(machine.settings))
        self.key, self.act = key, act

    def write(self, key: str, value: str) -> None:
        if key != self.key:
            super().write(key, value)
        elif (instead := self.act(value)) is not None:
            super().write(key, instead)


def odd(machine: Machine, key: str, act: Callable[[str], str | None]) -> dict[str, Any]:
    return {"desk": at_desk(machine, Odd(machine, key, act))}


# Reading back


def test_what_is_wanted_is_there_now_and_at_boot(machine: Machine) -> None:
    record = machine.fix()
    assert record.outcome == "applied"
    assert {each.key: (each.before, each.after, each.outcome) for each in record.changes} == {
        REUSE: ("2", "1", "applied"),
        IDLE: ("1", "0", "applied"),
        FILTER: ("0", "2", "applied"),
    }
    text = (machine.root / OURS).read_text()
    assert "vdscheck undo" in text.splitlines()[0]
    assert (machine.root / OURS).stat().st_mode & 0o7777 == 0o644
    assert machine.states() == ["held"]
    machine.reboot()
    assert machine.fix().outcome == "nothing-to-do"


def in_a_network(machine: Machine, ours: str, of_pid_1: str | None) -> None:
    for process, namespace in (("self", ours), ("1", of_pid_1)):
        if namespace is not None:
            (machine.root / f"proc/{process}/ns").mkdir(parents=True, exist_ok=True)
            (machine.root / f"proc/{process}/ns/net").symlink_to(namespace)


@pytest.mark.parametrize("of_pid_1", ["net:[4026531840]", None])
def test_a_fix_in_another_network_namespace_says_whose_values_stay(machine: Machine, of_pid_1: str | None) -> None:
    in_a_network(machine, "net:[4026532001]", of_pid_1)
    which = "is not that of PID 1" if of_pid_1 else "may not be that of PID 1 (/proc/1/ns/net is closed)"
    asked: list[str] = []

    def no(record: FixRecord) -> bool:
        asked.append(record.detail)
        return False

    for record in (machine.fix(dry_run=True), machine.fix()):
        assert record.detail.startswith(f"this network namespace {which}: net.")
        assert record.detail.endswith(
            f" change in here alone, and the host's own values stay until the next boot reads /{OURS}"
        )
    machine.undo()
    assert machine.fix(yes=False, ask=no).outcome == "declined"
    assert asked[0].startswith("this network namespace ")


def test_a_fix_in_the_hosts_network_namespace_says_nothing_of_it(machine: Machine) -> None:
    in_a_network(machine, "net:[4026531840]", "net:[4026531840]")
    assert machine.fix().detail == ""


def test_a_fix_of_what_has_no_namespace_says_nothing_of_it(machine: Machine) -> None:
    in_a_network(machine, "net:[4026532001]", "net:[4026531840]")
    for key, value in ((REUSE, "1"), (IDLE, "0"), (FILTER, "2")):
        machine.write(key, value)
    record = machine.fix()
    assert (record.outcome, record.detail, len(record.changes)) == ("applied", "", 3)


def test_a_second_fix_writes_nothing(machine: Machine) -> None:
    machine.fix()
    seen = {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")}
    assert machine.fix().outcome == "nothing-to-do"
    assert {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")} == seen


def test_nothing_to_do_leaves_not_even_a_journal(machine: Machine) -> None:
    for key, value in ((REUSE, "1"), (IDLE, "0"), (FILTER, "2")):
        machine.write(key, value)
        machine.file(f"etc/sysctl.d/{key}.conf", f"{key} = {value}\n")
    assert machine.fix().outcome == "nothing-to-do"
    assert not (machine.root / "var").exists()


@pytest.mark.parametrize("made_of_it", ["0", "12345", ""])
def test_a_value_that_the_kernel_changes_in_silence_did_not_work(machine: Machine, made_of_it: str) -> None:
    before = state(machine)
    record = machine.fix(**odd(machine, REUSE, lambda value: made_of_it if value == "1" else value))
    assert record.outcome == "given-back"
    assert f"{REUSE} was set to 1 and reads back as" in record.detail
    assert {each.outcome for each in record.changes} == {"given-back"}
    assert state(machine) == before
    assert machine.states() == ["given-back"]


def test_a_key_that_may_not_be_written_gives_all_back(machine: Machine) -> None:
    def refuse(_value: str) -> str | None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    before = state(machine)
    record = machine.fix(**odd(machine, REUSE, refuse))
    assert (record.outcome, record.detail) == ("given-back", f"{REUSE} cannot be set to 1: Operation not permitted")
    assert state(machine) == before


def test_a_bug_gives_all_back_and_stays_a_bug(machine: Machine) -> None:
    def stumble(_value: str) -> str | None:
        raise ZeroDivisionError

    before = state(machine)
    with pytest.raises(ZeroDivisionError):
        machine.fix(**odd(machine, REUSE, stumble))
    assert state(machine) == before
    assert machine.states() == ["given-back"]


def test_a_key_that_vanishes_while_it_is_set_gives_the_others_back(machine: Machine) -> None:
    def vanish(_value: str) -> str | None:
        machine.path(REUSE).unlink()
        return None

    record = machine.fix(**odd(machine, REUSE, vanish))
    assert record.outcome == "given-back"
    assert "reads back as nothing" in record.detail
    assert (machine.read(IDLE), machine.read(FILTER), machine.files.get(OURS)) == ("1", "0", None)


# Between the plan and its application


def test_a_value_that_somebody_sets_during_the_question_is_planned_again(machine: Machine) -> None:
    asked: list[FixRecord] = []
    said: list[str] = []

    def ask(record: FixRecord) -> bool:
        asked.append(record)
        if len(asked) == 1:
            machine.write(REUSE, "0")
        return True

    record = machine.fix(yes=False, ask=ask, say=said.append)
    assert len(asked) == 2
    assert [{each.key: each.before for each in one.changes}[REUSE] for one in asked] == ["2", "0"]
    assert record.outcome == "applied"
    assert said == [
        f"{REUSE} is 0 now, and was 2 when the plan was made: nothing was written; measuring and planning again"
    ]
    assert machine.undo() == ()
    assert machine.read(REUSE) == "0"


def test_a_key_that_vanishes_during_the_question_is_left_alone(machine: Machine) -> None:
    def ask(_record: FixRecord) -> bool:
        machine.path(REUSE).unlink(missing_ok=True)
        return True

    record = machine.fix(yes=False, ask=ask)
    assert record.outcome == "applied"
    assert REUSE not in {each.key for each in record.changes}


def test_our_file_edited_during_the_question_is_planned_again(machine: Machine) -> None:
    def ask(_record: FixRecord) -> bool:
        if not (machine.root / OURS).exists():
            machine.file(OURS, "vm.swappiness = 33\n")
        return True

    assert machine.fix(yes=False, ask=ask).outcome == "applied"
    assert "vm.swappiness = 33\n" in (machine.root / OURS).read_text()
    machine.undo()
    assert machine.files[OURS] == b"vm.swappiness = 33\n"


def test_settings_that_never_rest_are_given_up_after_three_plans(machine: Machine) -> None:
    class Restless(KernelSettings):
        reads = 0

        def read(self, key: str) -> str | None:
            assert key
            self.reads += 1
            return str(10 + self.reads)

    before = state(machine)
    record = machine.fix(desk=at_desk(machine, Restless(str(machine.settings))))
    assert record.outcome == "refused"
    assert "changed 3 times" in record.detail
    assert state(machine) == before


def test_no_is_no(machine: Machine) -> None:
    before = state(machine)
    assert machine.fix(yes=False, ask=lambda _record: False).outcome == "declined"
    assert machine.fix(yes=False, ask=lambda _record: None).detail.startswith("nobody to ask")
    assert machine.fix(dry_run=True).outcome == "planned"
    assert state(machine) == before
    assert not (machine.root / "var").exists()


def test_a_signal_at_any_moment_leaves_the_old_state_or_the_new_one(machine: Machine) -> None:
    before = state(machine)
    outcomes = []
    for moment in range(40):
        looks = iter(range(10_000))
        record = machine.fix(stopped=lambda: next(looks) >= moment)  # noqa: B023 - used at once
        outcomes.append(record.outcome)
        if record.outcome == "applied":
            break
        assert state(machine) == before, moment
        assert "interrupted" in record.detail
        assert set(machine.states()) <= {"given-back"}
    assert outcomes[-1] == "applied"
    assert outcomes.count("given-back") >= 5
    assert outcomes.count("declined") >= 1


# Measured again


def spoiling(machine: Machine, spoiled: Iterable[int]) -> Callable[[Host, Iterable[ProbeEntry]], Outcome]:
    """Measures as the machine does, but in some of the full measurements after the fix something else got worse."""
    chosen, seen = set(spoiled), [0]

    def measure(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
        outcome = machine.measure(host, entries)
        if not isinstance(host, WhatIfHost):
            seen[0] += 1
            if seen[0] in chosen:
                values = outcome.measurements["sysctl.values"].value
                outcome.measurements["sysctl.values"] = taken(
                    type(values)(values={**values.values, "net.ipv4.tcp_syncookies": "0"}, missing=values.missing)
                )
        return outcome

    return measure


def test_a_finding_that_gets_worse_gives_all_back(machine: Machine) -> None:
    before = state(machine)
    record = machine.fix(measure=spoiling(machine, [1, 2]))
    assert record.outcome == "given-back"
    assert "sysctl.syn-backlog got worse" in record.detail
    assert state(machine) == before


def test_what_is_worse_only_once_does_not_count(machine: Machine) -> None:
    assert machine.fix(measure=spoiling(machine, [1])).outcome == "applied"


def forgetful(
    machine: Machine, lost: Iterable[int], *, supposed: bool
) -> Callable[[Host, Iterable[ProbeEntry]], Outcome]:
    """Measures as the machine does, but some of the looks at the next boot come to nothing."""
    chosen, seen = set(lost), [0]

    def measure(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
        outcome = machine.measure(host, entries)
        if isinstance(host, WhatIfHost) is supposed:
            seen[0] += 1
            if seen[0] in chosen:
                del outcome.measurements["sysctl.boot"]
                outcome.measurements["sysctl.boot"] = LATE
        return outcome

    return measure


@pytest.mark.parametrize(("lost", "outcome"), [([1], "applied"), ([1, 2], "given-back")])
def test_a_look_at_the_next_boot_that_comes_too_late_is_taken_again(
    machine: Machine, lost: list[int], outcome: str
) -> None:
    before = state(machine)
    assert machine.fix(measure=forgetful(machine, lost, supposed=False)).outcome == outcome
    assert (state(machine) == before) is (outcome == "given-back")


@pytest.mark.parametrize(("lost", "outcome"), [([1], "applied"), ([1, 2], "undecided")])
def test_what_cannot_be_foreseen_is_not_planned(machine: Machine, lost: list[int], outcome: str) -> None:
    record = machine.fix(measure=forgetful(machine, lost, supposed=True))
    assert record.outcome == outcome
    if outcome != "applied":
        assert {each.why for each in record.left_alone} == {"what it will be after the next boot is not known"}


def test_what_stays_bad_for_another_cause_gives_nothing_back(machine: Machine) -> None:
    machine.file("etc/sysctl.d/99-theirs.conf", f"{IDLE} = 1\n")
    record = machine.fix()
    assert record.outcome == "applied"
    assert {each.key for each in record.left_alone} == {IDLE}
    assert machine.read(IDLE) == "1"


# Giving back


def test_an_undo_brings_back_the_first_report_finding_by_finding(machine: Machine) -> None:
    machine.write(SOMAXCONN, "128")
    before, verdicts = state(machine), machine.verdicts
    machine.fix()
    assert machine.undo() == ()
    assert (state(machine), machine.verdicts) == (before, verdicts)
    assert machine.undo() is None
    assert machine.states() == ["undone"]


def test_an_undo_after_a_reboot_brings_back_what_the_boot_would_have_given(machine: Machine) -> None:
    machine.write(REUSE, "0")
    before = machine.files
    machine.fix()
    machine.reboot()
    assert machine.read(REUSE) == "1"
    assert machine.undo() == ()
    assert (machine.read(REUSE), machine.read(IDLE), machine.files) == ("2", "1", before)


def test_two_fixes_are_undone_one_after_the_other(machine: Machine) -> None:
    start = state(machine)
    machine.fix()
    first = state(machine)
    machine.write(SOMAXCONN, "128")
    machine.file("etc/sysctl.d/20-a.conf", f"{SOMAXCONN} = 128\n")
    second = state(machine)
    assert machine.fix().outcome == "applied"
    assert machine.undo() == ()
    assert state(machine) == second
    machine.write(SOMAXCONN, "4096")
    (machine.root / "etc/sysctl.d/20-a.conf").unlink()
    assert state(machine) == first
    assert machine.undo() == ()
    assert state(machine) == start


def test_a_value_that_somebody_set_since_stays_and_is_named(machine: Machine) -> None:
    machine.fix()
    machine.write(REUSE, "0")
    assert machine.undo() == (REUSE,)
    assert (machine.read(REUSE), machine.read(IDLE)) == ("0", "1")
    assert machine.files.get(OURS) is None


def test_a_value_that_cannot_be_read_is_not_taken_for_given_back(machine: Machine) -> None:
    machine.fix()
    value, aside = machine.path(REUSE), machine.path(REUSE).with_name("aside")
    value.rename(aside)
    value.symlink_to(aside)
    with pytest.raises(FixError, match=f"{REUSE} cannot be read"):
        machine.undo()
    assert machine.states() == ["undoing"]
    assert machine.read(IDLE) == "1"
    value.unlink()
    aside.rename(value)
    assert machine.undo() == ()
    assert (machine.states(), machine.read(REUSE)) == (["undone"], "2")


def test_a_value_that_cannot_be_read_after_it_was_given_back_is_looked_at_again(machine: Machine) -> None:
    def unread(value: str) -> str | None:
        machine.path(REUSE).write_text(value)
        aside = machine.path(REUSE).with_name("aside")
        machine.path(REUSE).rename(aside)
        machine.path(REUSE).symlink_to(aside)
        return None

    machine.fix()
    with pytest.raises(FixError, match=f"{REUSE} cannot be read"):
        machine.undo(**odd(machine, REUSE, unread))
    assert machine.states() == ["undoing"]


def test_all_that_could_not_be_given_back_is_named_and_nothing_is_called_gone_that_was_not_read(
    machine: Machine,
) -> None:
    machine.fix()
    for key in (REUSE, IDLE):
        value, aside = machine.path(key), machine.path(key).with_name(f"aside-{key}")
        value.rename(aside)
        value.symlink_to(aside)
    (machine.root / OURS).unlink()
    (machine.root / OURS).symlink_to("/nowhere")
    with pytest.raises(FixError) as refused:
        machine.undo()
    assert [each in str(refused.value) for each in (REUSE, IDLE, OURS)] == [True] * 3
    entry = Journal.made(machine.host, KINDS).latest()
    assert entry is not None
    said = verified(entry, at_desk(machine, KernelSettings(str(machine.settings))))
    assert sum("cannot be read" in each for each in said) == 2
    assert "gone" not in repr(said)


def test_a_file_that_could_not_be_given_back_is_not_called_given_back(machine: Machine) -> None:
    folder = (machine.root / OURS).parent

    def ended_as_soon_as_our_file_is_there() -> bool:
        if (machine.root / OURS).exists():
            folder.chmod(0o777)
        return (machine.root / OURS).exists()

    record = machine.fix(stopped=ended_as_soon_as_our_file_is_there)
    assert record.outcome == "given-back"
    assert "can be written by others" in record.detail
    in_file = [each for each in record.changes if each.file is not None]
    assert in_file
    assert {each.outcome for each in in_file} == {"left"}
    folder.chmod(0o755)
    assert machine.undo() == ()
    assert machine.states() == ["given-back"]


def test_a_key_that_is_gone_stops_no_undo(machine: Machine) -> None:
    machine.fix()
    machine.path(REUSE).unlink()
    assert machine.undo() == ()
    assert (machine.states(), machine.read(IDLE)) == (["undone"], "1")


def test_a_line_that_somebody_changed_or_added_since_stays(machine: Machine) -> None:
    machine.fix()
    path = machine.root / OURS
    path.write_text(path.read_text().replace(f"{REUSE} = 1", f"{REUSE} = 0") + "kernel.panic = 10\n")
    assert machine.undo() == (REUSE,)
    assert path.read_text() == f"{REUSE} = 0\nkernel.panic = 10\n"


def test_our_file_comes_back_byte_by_byte_with_its_mode(machine: Machine) -> None:
    content = b"# caf\xe9\r\n -net.ipv4.tcp_tw_reuse=0\nkernel.panic=10"
    path = machine.root / OURS
    path.write_bytes(content)
    path.chmod(0o600)
    assert machine.fix().outcome == "applied"
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"tcp_tw_reuse=0" not in path.read_bytes()
    machine.undo()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o600)


def test_what_was_ended_in_the_middle_is_said_and_given_back(machine: Machine) -> None:
    class Dies(KernelSettings):
        def write(self, key: str, value: str) -> None:
            super().write(key, value)
            if key == REUSE:
                os._exit(7)

    before = state(machine)
    child = os.fork()
    if child == 0:
        machine.fix(desk=at_desk(machine, Dies(str(machine.settings))))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert machine.read(REUSE) == "1"
    said = unfinished(machine.host, KINDS)
    assert said is not None
    assert "a fix was ended in the middle" in said
    journal = Journal.opened(machine.host, KINDS)
    assert journal is not None
    assert [done.left for done in recover(journal, machine.desk)] == [()]
    journal.close()
    assert state(machine) == before
    assert unfinished(machine.host, KINDS) is None


# Folders and links


def test_a_folder_that_is_not_there_is_made_and_taken_away_again(machine: Machine) -> None:
    folder = machine.root / "etc/sysctl.d"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert machine.fix().outcome == "applied"
    assert (folder / "90-vdscheck.conf").exists()
    assert machine.undo() == ()
    assert not folder.exists()


def test_a_folder_that_others_use_meanwhile_stays(machine: Machine) -> None:
    folder = machine.root / "etc/sysctl.d"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    machine.fix()
    machine.file("etc/sysctl.d/50-new.conf", "# theirs\n")
    assert machine.undo() == ()
    assert [path.name for path in folder.iterdir()] == ["50-new.conf"]


@pytest.mark.parametrize("target", ["/srv/settings", "../../srv/settings", "../../../../../../srv/settings"])
def test_a_folder_that_is_a_link_is_followed_inside_the_root(machine: Machine, target: str) -> None:
    folder = machine.root / "etc/sysctl.d"
    real = machine.root / "srv/settings"
    real.parent.mkdir()
    folder.rename(real)
    folder.symlink_to(target)
    assert machine.fix().outcome == "applied"
    assert (real / "90-vdscheck.conf").exists()
    assert machine.undo() == ()
    assert folder.is_symlink()
    assert not (real / "90-vdscheck.conf").exists()


def test_a_folder_that_is_a_link_to_nothing_in_here_is_refused(machine: Machine, tmp_path: Path) -> None:
    folder = machine.root / "etc/sysctl.d"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    folder.symlink_to(outside)
    before = machine.values
    record = machine.fix()
    assert record.outcome in {"refused", "given-back"}
    assert list(outside.iterdir()) == []
    assert machine.values == before


def test_a_file_of_ours_that_is_a_link_is_refused(machine: Machine) -> None:
    target = machine.root / "etc/theirs.conf"
    target.write_text("# theirs\n")
    (machine.root / OURS).symlink_to("../theirs.conf")
    before = machine.values
    record = machine.fix()
    assert (record.outcome, "is a symbolic link" in record.detail) == ("refused", True)
    assert (machine.values, target.read_text()) == (before, "# theirs\n")
    assert machine.states() == []


def test_a_thousand_files_are_no_trouble(machine: Machine) -> None:
    for number in range(1000):
        machine.file(f"etc/sysctl.d/{number:04}-x.conf", f"{REUSE} = 2\n")
    before = machine.files
    record = machine.fix()
    assert record.outcome == "applied"
    # 9000 and more come after 90-vdscheck.conf only where the names say so: "0999" does not.
    assert REUSE in {each.key for each in record.changes}
    machine.undo()
    assert machine.files == before


# The journal


def test_the_journal_says_all_that_a_person_needs_to_give_it_back(machine: Machine) -> None:
    machine.fix()
    (path,) = (machine.root / ENTRIES).iterdir()
    said = json.loads(path.read_text())
    assert {each["key"]: (each["before"], each["wanted"]) for each in said["settings"]}[REUSE] == ("2", "1")
    assert [each["before"] for each in said["files"]] == [None]
    assert (said["state"], said["version"], said["boot_id"].count("-")) == ("held", "1.2.3", 4)
    assert path.stat().st_mode & 0o7777 == 0o644
    assert path.name == f"{said['id']}.json"


def entry(machine: Machine) -> Path:
    machine.fix()
    (path,) = (machine.root / ENTRIES).iterdir()
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def newer(path: Path) -> None:
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another(path: Path) -> None:
    path.rename(path.with_name("20200101-1.json"))


def link(path: Path) -> None:
    path.rename(path.with_name("x"))
    path.symlink_to("x")


def others(path: Path) -> None:
    os.chown(path, 12345, 12345)


def writable(path: Path) -> None:
    path.chmod(0o666)


def others_folder(path: Path) -> None:
    os.chown(path.parent, 12345, 12345)


def writable_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def writable_above(path: Path) -> None:
    path.parent.parent.chmod(0o777)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncate, "is damaged"),
        (empty, "is damaged"),
        (newer, "has format 3, and this version reads 2"),
        (another, "says that it is"),
        (link, "is a symbolic link"),
        (others, "is not root's alone"),
        (writable, "is not root's alone"),
        (others_folder, "belongs to another user"),
        (writable_folder, "can be written by others"),
        (writable_above, "can be written by others"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_journal_that_cannot_be_trusted_is_refused(
    machine: Machine, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(entry(machine))
    before = state(machine)
    with pytest.raises(FixError, match=said):
        machine.undo()
    machine.write(REUSE, "0")
    record = machine.fix()
    assert (record.outcome, said in record.detail) == ("refused", True)
    assert machine.read(REUSE) == "0"
    assert machine.files == before[1]
    told = unfinished(machine.host, KINDS)
    assert told is not None
    assert said in told
    assert "\n" not in told


def test_another_name_of_the_lock_blocks_nothing(machine: Machine) -> None:
    assert machine.fix().outcome == "applied"
    lock = machine.root / "var/lib/vdscheck/lock"
    os.link(lock, machine.root / "var/lib/vdscheck/of-a-backup")
    assert machine.undo() == ()
    assert machine.fix().outcome == "applied"


def test_a_lock_that_is_another_file_as_well_is_refused_and_stays_as_it_is(machine: Machine) -> None:
    held = Journal.made(machine.host, KINDS)
    held.close()
    other = machine.root / "srv/other"
    other.parent.mkdir(exist_ok=True)
    other.write_text("")
    other.chmod(0o644)
    (machine.root / "var/lib/vdscheck/lock").unlink(missing_ok=True)
    os.link(other, machine.root / "var/lib/vdscheck/lock")
    record = machine.fix()
    assert (record.outcome, "is another file as well (a hard link)" in record.detail) == ("refused", True)
    assert other.stat().st_mode & 0o777 == 0o644


def a_file_as_journal(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("")


def a_folder_as_lock(path: Path) -> None:
    path.with_name("lock").mkdir(parents=True)


def a_link_to_nothing_as_journal(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to("nowhere")


def a_folder_as_new_entry(path: Path) -> None:
    (path / NEW_NAME).mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil", [a_file_as_journal, a_folder_as_lock, a_folder_as_new_entry, a_link_to_nothing_as_journal]
)
def test_what_stands_in_the_way_of_the_journal_is_told_with_what_to_do(
    machine: Machine, spoil: Callable[[Path], None]
) -> None:
    spoil(machine.root / ENTRIES)
    record = machine.fix()
    assert record.outcome == "refused"
    assert re.search(": (look (at|where) [a-z ,]+|move it away)$", record.detail), record.detail
    assert record.detail.count("away") <= 1


def test_what_was_set_in_another_network_namespace_is_not_set_in_this_one(machine: Machine) -> None:
    namespace = machine.root / "proc/self/ns/net"
    namespace.parent.mkdir(parents=True)
    namespace.symlink_to("net:[1]")
    assert machine.fix().outcome == "applied"
    fixed = machine.values
    namespace.unlink()
    namespace.symlink_to("net:[2]")
    before = state(machine)
    with pytest.raises(FixError, match=r"was made in another network namespace \(net:\[1\]\)"):
        machine.undo()
    assert (machine.values, state(machine)) == (fixed, before)
    namespace.unlink()
    namespace.symlink_to("net:[1]")
    assert machine.undo() == ()
    assert machine.values != fixed


@pytest.mark.parametrize("shown", ["", "\n", "not an id\n"])
def test_where_this_boot_is_not_told_nothing_is_called_given_back(machine: Machine, shown: str) -> None:
    assert machine.fix().outcome == "applied"
    fixed = machine.values
    boot_id = machine.settings / "kernel/random/boot_id"
    before = boot_id.read_text()
    boot_id.write_text(shown)
    with pytest.raises(FixError, match="boot_id cannot be read, so it is not known whether this is the boot of"):
        machine.undo()
    assert machine.values == fixed
    boot_id.write_text(before)
    assert machine.undo() == ()
    assert machine.values != fixed


@pytest.mark.parametrize("folder", ["run", "usr/local/lib", "usr/lib", "lib"])
def test_a_file_of_our_name_that_ours_would_hide_is_named_before_anything_is_changed(
    machine: Machine, folder: str
) -> None:
    if folder == "lib":  # as on Debian 11 and before: no link to usr/lib
        (machine.root / "lib").unlink(missing_ok=True)
    machine.file(f"{folder}/sysctl.d/90-vdscheck.conf", "kernel.kptr_restrict = 2\n")
    before = state(machine)
    record = machine.fix()
    assert (record.outcome, state(machine)) == ("refused", before)
    why = f"would keep /{folder}/sysctl.d/90-vdscheck.conf from being applied at boot"
    assert why in record.detail
    shown = machine.fix(dry_run=True)
    assert (shown.outcome, why in shown.detail) == ("planned", True)
    machine.file(OURS, "kernel.panic = 1\n")
    assert machine.fix().outcome == "applied"


def test_where_this_boot_is_not_told_nothing_is_fixed(machine: Machine) -> None:
    before = state(machine)
    (machine.settings / "kernel/random/boot_id").write_text("")
    record = machine.fix()
    assert (record.outcome, "boot_id cannot be read" in record.detail) == ("refused", True)
    assert state(machine) == before


def test_a_namespace_with_the_number_of_one_that_is_gone_is_another(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = machine.root / "proc/self/ns/net"
    namespace.parent.mkdir(parents=True)
    namespace.symlink_to("net:[1]")
    monkeypatch.setattr("vdscheck.fix.transaction.network_namespace_cookie", lambda: 7)
    assert machine.fix().outcome == "applied"
    fixed = machine.values
    monkeypatch.setattr("vdscheck.fix.transaction.network_namespace_cookie", lambda: 8)
    with pytest.raises(FixError, match=r"was made in another network namespace \(net:\[1\]\)"):
        machine.undo()
    assert machine.values == fixed
    monkeypatch.setattr("vdscheck.fix.transaction.network_namespace_cookie", lambda: 7)
    assert machine.undo() == ()
    assert machine.values != fixed


def test_an_entry_without_the_cookie_of_its_namespace_is_told_by_the_number(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = machine.root / "proc/self/ns/net"
    namespace.parent.mkdir(parents=True)
    namespace.symlink_to("net:[1]")
    monkeypatch.setattr("vdscheck.fix.transaction.network_namespace_cookie", lambda: None)
    assert machine.fix().outcome == "applied"
    monkeypatch.setattr("vdscheck.fix.transaction.network_namespace_cookie", lambda: 8)
    assert machine.undo() == ()


def test_after_a_reboot_no_namespace_keeps_an_entry_from_being_undone(machine: Machine) -> None:
    namespace = machine.root / "proc/self/ns/net"
    namespace.parent.mkdir(parents=True)
    namespace.symlink_to("net:[1]")
    assert machine.fix().outcome == "applied"
    namespace.unlink()
    namespace.symlink_to("net:[2]")
    machine.reboot()
    assert machine.undo() == ()


def test_an_entry_of_before_that_names_no_namespace_is_given_back_as_it_was(machine: Machine) -> None:
    assert machine.fix().outcome == "applied"
    namespace = machine.root / "proc/self/ns/net"
    namespace.parent.mkdir(parents=True)
    namespace.symlink_to("net:[2]")
    assert machine.undo() == ()


# Who may read our file reads it afterwards, and nobody else: neither there nor in the journal

OTHERS, A_GROUP, ALL = 2**32 - 1, 12345, 0o644
_TAGS = {"owner": 0x01, "user": 0x02, "group": 0x04, "mask": 0x10, "others": 0x20}


def acl(**permissions: int) -> bytes:
    """An ACL; `user` is that of user 12345."""
    entries = ((_TAGS[name], number, 12345 if name == "user" else OTHERS) for name, number in permissions.items())
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


def ours(machine: Machine, mode: int = ALL, permissions: bytes | None = None) -> Path:
    """Our file as an administrator has it, with a secret in a comment."""
    path = machine.root / OURS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# token hunter22\nvm.swappiness = 10\n")
    path.chmod(mode)
    if permissions is not None:
        os.setxattr(path, "system.posix_acl_access", permissions)
    return path


def rights(path: Path) -> tuple[int, bytes | None]:
    names = os.listxattr(path)
    found = os.getxattr(path, "system.posix_acl_access") if "system.posix_acl_access" in names else None
    return path.stat().st_mode & 0o7777, found


def written(machine: Machine) -> Path:
    """The one entry of the journal."""
    (path,) = (machine.root / ENTRIES).iterdir()
    return path


PRIVATE: dict[str, Callable[[Machine], Path]] = {
    "for root alone": lambda machine: ours(machine, 0o600),
    "not for its group": lambda machine: ours(machine, 0o604),
    "not for others": lambda machine: ours(machine, 0o640),
    "not for a user": lambda machine: ours(machine, ALL, acl(owner=6, user=0, group=4, mask=4, others=4)),
    "for a user, and not for the group": lambda machine: ours(
        machine, ALL, acl(owner=6, user=4, group=0, mask=4, others=0)
    ),
}


@pytest.mark.parametrize("case", PRIVATE)
def test_what_was_not_for_everybody_stays_so_in_the_file_and_in_the_journal(machine: Machine, case: str) -> None:
    path = PRIVATE[case](machine)
    before = rights(path)
    assert machine.fix().outcome == "applied"
    assert rights(path) == before
    assert rights(written(machine)) == (0o600, None)
    assert machine.undo() == ()
    assert rights(path) == before
    assert rights(written(machine)) == (0o600, None)


def test_in_a_folder_that_is_closed_the_journal_is_closed_too(machine: Machine) -> None:
    path = ours(machine)
    path.parent.chmod(0o700)
    assert machine.fix().outcome == "applied"
    assert rights(written(machine)) == (0o600, None)
    assert machine.undo() == ()
    assert (rights(path), rights(written(machine))) == ((ALL, None), (0o600, None))


@pytest.mark.parametrize("permissions", [None, acl(owner=6, user=4, group=0, mask=4, others=0)])
def test_what_was_closed_after_a_fix_is_not_opened_by_its_undo(machine: Machine, permissions: bytes | None) -> None:
    path = ours(machine)
    assert machine.fix().outcome == "applied"
    assert rights(written(machine)) == (ALL, None)
    with path.open("a") as file:
        file.write("# another token\n")
    path.chmod(0o600)
    if permissions is not None:
        os.setxattr(path, "system.posix_acl_access", permissions)
    closed = rights(path)
    assert machine.undo() == ()
    assert rights(path) == closed
    assert path.read_text() == "# token hunter22\nvm.swappiness = 10\n# another token\n"


def test_a_file_of_ours_that_is_new_may_be_read_by_everybody(machine: Machine) -> None:
    assert machine.fix().outcome == "applied"
    assert (rights(machine.root / OURS), rights(written(machine))) == ((ALL, None), (ALL, None))


# Folders of others


def to_everybody(path: Path) -> None:
    path.chmod(0o777)


def to_a_group(path: Path) -> None:
    os.chown(path, 0, 12345)
    path.chmod(0o775)


def to_a_user_by_an_acl(path: Path) -> None:
    entries = ((0x01, 7, 2**32 - 1), (0x02, 7, 12345), (0x04, 5, 2**32 - 1), (0x10, 7, 2**32 - 1), (0x20, 5, 2**32 - 1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
    os.setxattr(path, "system.posix_acl_access", acl)


def to_its_owner(path: Path) -> None:
    os.chown(path, 12345, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("given", [to_everybody, to_a_group, to_a_user_by_an_acl, to_its_owner])
@pytest.mark.parametrize("name", ["etc/sysctl.d", "etc", "var", "var/lib", "."])
def test_a_folder_of_ours_or_above_it_that_others_can_write_is_refused(
    machine: Machine, name: str, given: Callable[[Path], None]
) -> None:
    for each in ("etc/sysctl.d", "var/lib"):
        (machine.root / each).mkdir(parents=True, exist_ok=True)
    given(machine.root / name)
    before = state(machine)
    record = machine.fix()
    assert record.outcome == "refused"
    assert f"/{name.strip('.')} " in record.detail
    assert "make it root's alone (chown root:, chmod 755)" in record.detail
    assert state(machine) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_folder_that_a_link_of_the_way_leads_through_is_looked_at_too(machine: Machine) -> None:
    elsewhere = machine.root / "srv/shared/sysctl.d"
    elsewhere.mkdir(parents=True)
    elsewhere.parent.chmod(0o777)
    shutil.rmtree(machine.root / "etc/sysctl.d", ignore_errors=True)
    (machine.root / "etc/sysctl.d").symlink_to("../srv/shared/sysctl.d")
    record = machine.fix()
    assert (record.outcome, "/srv/shared can be written by others" in record.detail) == ("refused", True)


@pytest.mark.parametrize("name", ["etc/sysctl.d", "etc", "var/lib"])
def test_a_sticky_folder_is_one_that_others_can_write(machine: Machine, name: str) -> None:
    for each in ("etc/sysctl.d", "var/lib"):
        (machine.root / each).mkdir(parents=True, exist_ok=True)
    (machine.root / name).chmod(0o1777)
    before = state(machine)
    record = machine.fix()
    assert (record.outcome, f"/{name} can be written by others" in record.detail) == ("refused", True)
    assert state(machine) == before


def test_a_link_that_others_made_in_a_sticky_folder_leads_nowhere(machine: Machine) -> None:
    (machine.root / "etc/cron.daily").mkdir(parents=True)
    shutil.rmtree(machine.root / "etc/sysctl.d", ignore_errors=True)
    (machine.root / "etc/sysctl.d").symlink_to("cron.daily")
    os.chown(machine.root / "etc/sysctl.d", 12345, 12345, follow_symlinks=False)
    (machine.root / "etc").chmod(0o1777)
    before = state(machine)
    record = machine.fix()
    assert (record.outcome, "/etc can be written by others" in record.detail) == ("refused", True)
    assert state(machine) == before


@pytest.mark.parametrize("where", ["etc/sysctl.d", "var/lib/vdscheck/journal"])
def test_what_stands_in_the_place_of_a_new_file_is_named_before_anything_is_changed(
    machine: Machine, where: str
) -> None:
    in_the_way = machine.root / where / ".vdscheck-new"
    in_the_way.mkdir(parents=True)
    before = state(machine)
    record = machine.fix()
    assert (record.outcome, ".vdscheck-new there is a folder: move it away" in record.detail) == ("refused", True)
    assert state(machine) == before
    in_the_way.rmdir()
    in_the_way.write_text("of a run that was killed")
    assert machine.fix().outcome == "applied"
    assert not in_the_way.exists()


def test_a_journal_that_another_holds_is_refused(machine: Machine) -> None:
    held = Journal.made(machine.host, KINDS)
    held.lock()
    before = state(machine)
    record = machine.fix()
    name = ascii(Path("/proc/self/comm").read_text().rstrip("\n"))[1:-1]
    assert (record.outcome, record.detail) == (
        "refused",
        f"another vdscheck is changing this host (process {os.getpid()}, {name}): wait until it has ended",
    )
    assert state(machine) == before
    held.close()
    assert machine.fix().outcome == "applied"


def test_entries_are_numbered_whatever_the_clock_says(machine: Machine) -> None:
    machine.fix()
    machine.undo()
    machine.fix()
    names = sorted(path.name for path in (machine.root / ENTRIES).iterdir())
    assert [name.rpartition("-")[2] for name in names] == ["1.json", "2.json"]
    assert machine.states() == ["undone", "held"]


# Signals that come while something is given back


@pytest.fixture
def signalled() -> Iterator[list[int]]:
    """What listens for signals, as the program does: each one that has come."""
    received: list[int] = []
    signals.listen(received)
    yield received
    signals.listen(())


def after_a_value(machine: Machine, received: list[int]) -> Desk:
    """The terminal is closed as soon as the first value was given back."""

    def closed(value: str) -> str:
        received.append(signal.SIGHUP)
        return value

    return at_desk(machine, Odd(machine, REUSE, closed))


def test_an_undo_that_has_begun_gives_back_all_of_it_whatever_signals_come(
    machine: Machine, signalled: list[int]
) -> None:
    start = state(machine)
    assert machine.fix().outcome == "applied"
    journal = Journal.made(machine.host, KINDS)
    found = undo(journal, after_a_value(machine, signalled))
    journal.close()
    assert (found is not None, signalled) == (True, [signal.SIGHUP])
    assert (state(machine), machine.states()) == (start, ["undone"])


def test_what_a_fix_had_left_behind_is_given_back_whole_whatever_signals_come(
    machine: Machine, signalled: list[int]
) -> None:
    start = state(machine)
    assert machine.fix().outcome == "applied"
    path = next((machine.root / ENTRIES).iterdir())
    path.write_text(path.read_text().replace('"held"', '"begun"'))
    journal = Journal.made(machine.host, KINDS)
    assert len(recover(journal, after_a_value(machine, signalled))) == 1
    journal.close()
    assert (state(machine), machine.states()) == (start, ["given-back"])


def test_an_undo_that_is_ended_before_it_begins_gives_back_nothing(machine: Machine, signalled: list[int]) -> None:
    assert machine.fix().outcome == "applied"
    fixed = state(machine)
    signalled.append(signal.SIGTERM)
    with pytest.raises(FixError, match="interrupted"):
        machine.undo()
    assert (state(machine), machine.states()) == (fixed, ["held"])


def seeing(machine: Machine) -> Desk:
    """A desk from which the next boot is seen."""
    return replace(machine.desk, foresee=foreseeing(machine.host, catalogue(), machine.measure))


def test_where_the_next_boot_cannot_be_seen_nothing_is_given_back_after_a_reboot(machine: Machine) -> None:
    assert machine.fix().outcome == "applied"
    machine.reboot()
    fixed = machine.values, state(machine), machine.states()
    with pytest.raises(NotBegunError, match="could not be seen; `vdscheck undo` tries again"):
        machine.undo(replace(machine.desk, foresee=lambda _kind, _content: None))
    assert (machine.values, state(machine), machine.states()) == fixed
    assert machine.undo(seeing(machine)) == ()
    assert machine.states() == ["undone"]


def test_what_nobody_can_tell_of_the_next_boot_stays_after_a_reboot(tmp_path: Path) -> None:
    """What was set by hand before the fix is not what a boot would have set."""
    machine = Machine(tmp_path / "root", "kubernetes-node")
    machine.write(WATCHES, "1000")
    assert WATCHES in {each.key for each in machine.fix().changes}
    machine.reboot()
    assert machine.undo(seeing(machine)) == (WATCHES,)
    assert machine.read(WATCHES) != "1000"


@pytest.mark.parametrize("told", [True, None])
def test_after_a_reboot_what_the_boot_has_set_is_not_given_back_from_another_network_namespace(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *, told: bool | None
) -> None:
    """The drop-in sets that of PID 1: in another one there is nothing of it to be seen."""
    assert machine.fix().outcome == "applied"
    machine.reboot()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(Desk, "is_in_the_hosts_network", property(lambda _: False))
        with pytest.raises(FixError, match=r"run vdscheck undo there \(nsenter -t 1 -n\)"):
            machine.undo()
    monkeypatch.setattr(Desk, "is_in_the_hosts_network", property(lambda _: told))
    assert machine.undo() == ()
