"""Transparent huge pages: foreseen, set, persisted by tmpfiles.d and given back, beside kernel settings or alone."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.fix_hosts import TODAY, VERSION, Machine, catalogue, taken
from tests.support.reports import middling
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.fix.plan import Name
from vdscheck.fix.transaction import Desk
from vdscheck.fixes.sysctl import KernelSettings
from vdscheck.fixes.sysctl.huge_pages import FILE, KEY, SETTING, HugePageMode
from vdscheck.judge.judge import Judged, judge
from vdscheck.measure.measure import Outcome
from vdscheck.measurements import HugePages, HugePagesAtBoot
from vdscheck.model.fixes import FixRecord
from vdscheck.model.report import Measurements
from vdscheck.probes.sysctl.boot.huge_pages import huge_pages_at_boot
from vdscheck.render import shell
from vdscheck.ruleset import ruleset
from vdscheck.target.host import Host
from vdscheck.target.what_if import WhatIfHost

MODES = ("always", "madvise", "never")
OURS = FILE[1:]
CONFIG = "boot/config-6.1.0-40-amd64"
UNIT = "usr/lib/systemd/system/systemd-tmpfiles-setup.service"
WANTS = "usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service"


class Pages(HugePageMode):
    """A file that behaves as the kernel's: it shows all modes, and which is chosen."""

    def write(self, key: str, value: str) -> None:
        if value not in MODES:
            raise OSError(22, "Invalid argument")
        path = Path(self.path(key))
        path.write_text(shown(value))


def shown(mode: str) -> str:
    return " ".join(f"[{each}]" if each == mode else each for each in MODES) + "\n"


class PagesMachine(Machine):
    """A Debian 12 with 4 GiB whose kernel comes up with `always`."""

    def __init__(self, root: Path, *profiles: str) -> None:
        super().__init__(root, *(profiles or ("latency",)))
        self.file(SETTING[1:], shown("always"))
        self.file("proc/meminfo", "MemTotal:        4000000 kB\n")
        self.file(CONFIG, "CONFIG_TRANSPARENT_HUGEPAGE=y\nCONFIG_TRANSPARENT_HUGEPAGE_ALWAYS=y\n")
        self.file("usr/bin/systemd-tmpfiles", "")
        self.file(UNIT, "[Service]\nExecStart=systemd-tmpfiles --create --remove --boot --exclude-prefix=/dev\n")
        (root / WANTS).parent.mkdir(parents=True, exist_ok=True)
        (root / WANTS).symlink_to("../systemd-tmpfiles-setup.service")

    @property
    def mode(self) -> str:
        found = re.search(r"\[(.*)\]", (self.root / SETTING[1:]).read_text())
        assert found is not None
        return found[1]

    @property
    def at_boot(self) -> HugePagesAtBoot:
        found = huge_pages_at_boot.function(self.host)
        assert isinstance(found, HugePagesAtBoot)
        return found

    @property
    def desk(self) -> Desk:
        kinds = {"sysctl": KernelSettings(str(self.settings)), "huge-pages": Pages(str(self.root / SETTING[1:]))}
        return Desk(self.host, True, VERSION, kinds)

    def measure(self, host: Host | None = None, entries: Iterable[ProbeEntry] = ()) -> Outcome:
        where = host or self.host
        found = super().measure(host, entries).measurements
        found["sysctl.huge-pages-at-boot"] = taken(huge_pages_at_boot.function(where))
        if not isinstance(where, WhatIfHost):
            found["sysctl.huge-pages"] = taken(HugePages(enabled=self.mode, defrag="madvise"))
        return Outcome(found)

    def judge(self, measurements: Measurements) -> Judged:
        rules = ruleset.build(catalogue(), list(self.profiles), {"only": ["sysctl.*"]}, VERSION)
        return judge(catalogue(), rules, measurements, TODAY)

    def state(self) -> object:
        return self.mode, self.values, self.files


@pytest.fixture
def machine(tmp_path: Path) -> PagesMachine:
    return PagesMachine(tmp_path / "root")


def left(record: FixRecord) -> dict[str, str]:
    return {each.key: each.why for each in record.left_alone}


def test_the_mode_is_set_now_and_at_boot_and_given_back_byte_by_byte(machine: PagesMachine) -> None:
    before = machine.state()
    record = machine.fix()
    assert record.outcome == "applied", record
    (change,) = (each for each in record.changes if each.kind == "huge-pages")
    assert (change.key, change.before, change.at_boot, change.wanted, change.after, change.file) == (
        KEY,
        "always",
        "always",
        "never",
        "never",
        FILE,
    )
    assert machine.mode == "never"
    assert (machine.root / OURS).read_text().splitlines()[-1] == f"w {SETTING} - - - - never"
    assert (machine.at_boot.value, machine.at_boot.where) == ("never", f"{FILE}:3")
    assert {Name(each.kind, each.key).kind for each in record.changes} == {"sysctl", "huge-pages"}
    assert machine.undo() == ()
    assert machine.state() == before


def test_what_else_stands_in_our_file_stays(machine: PagesMachine) -> None:
    machine.file(OURS, f"d /run/x 0755\nw {SETTING} - - - - madvise\n")
    assert machine.fix().outcome == "applied"
    assert "d /run/x 0755\n" in (machine.root / OURS).read_text()
    assert (machine.root / OURS).read_text().count(SETTING) == 1
    (machine.root / OURS).write_text((machine.root / OURS).read_text() + "d /run/y 0755\n")
    assert machine.undo() == ()
    assert set((machine.root / OURS).read_text().splitlines()) == {
        "d /run/x 0755",
        "d /run/y 0755",
        f"w {SETTING} - - - - madvise",
    }


LATE = {
    "etc/rc.local": ("#!/bin/sh\necho always > /sys/kernel/mm/transparent_hugepage/enabled\n", "rc.local", "always"),
    "etc/cron.d/pages": (f"@reboot root echo madvise | tee {SETTING}\n", "cron", "madvise"),
    "etc/udev/rules.d/9.rules": (f"RUN+=\"/bin/sh -c 'echo always > {SETTING}'\"\n", "udev rule", "always"),
    "etc/rc.local ": (
        "#!/bin/sh\nfor f in /sys/kernel/mm/transparent_hugepage/*; do echo $X > $f; done\n",
        "rc.local",
        None,
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_who_comes_late_is_named_and_the_mode_left_alone(machine: PagesMachine, name: str) -> None:
    text, who, value = LATE[name]
    machine.file(name.strip(), text)
    (machine.root / name.strip()).chmod(0o755)
    record = machine.fix()
    assert left(record)[KEY].startswith(
        f"{who} {f'sets it to {value}' if value else 'may set it'} after each boot: "
    ), record
    assert machine.mode == "always"
    assert not (machine.root / OURS).exists()


def test_a_unit_that_sets_it_is_found_by_its_commands(machine: PagesMachine) -> None:
    machine.file("etc/systemd/system/thp.service", f"[Service]\nExecStart=/bin/sh -c 'echo never > {SETTING}'\n")
    (machine.root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    (machine.root / "etc/systemd/system/multi-user.target.wants/thp.service").symlink_to("../thp.service")
    (writer,) = machine.at_boot.late_writers
    assert (writer.name, writer.values, writer.enabled) == ("thp.service", {KEY: "never"}, True)
    record = machine.fix()
    (change,) = (each for each in record.changes if each.kind == "huge-pages")
    assert (change.file, change.at_boot, record.outcome) == (None, "never", "applied")


COMMANDS = {
    "sh -c 'echo never > {P}/enabled'": "never",
    "sh -c 'echo never | tee {P}/enabled > /dev/null && echo never | tee {P}/defrag'": "never",
    "sh -c 'echo always > {P}/enabled; echo always > {P}/enabled'": "always",
    "sh -c 'test -f {P}/enabled && echo always | tee {P}/enabled'": None,
    "sh -c 'echo never > {P}/defrag; echo always > {P}/enabled'": "always",
    "sh -c 'echo never > {P}/enabled; echo always > {P}/enabled'": None,
    "sh -c 'if test -f {P}/enabled; then echo always > {P}/enabled; fi'": None,
    "sh -c 'echo always > {P}/enabled; T={P}; echo never > $T/enabled'": None,
    "sh -c 'cd {P}; echo never > enabled'": None,
    "sh -c 'echo never > /sys/kernel/mm/redhat_transparent_hugepage/enabled'": None,
    "dd if=/x of={P}/enabled": None,
    "hugeadm --thp-always": None,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_says_of_the_mode_is_told_only_where_it_is_plain(machine: PagesMachine, command: str) -> None:
    started(machine, f"/bin/{command}".replace("{P}", SETTING.rpartition("/")[0]))
    (writer,) = machine.at_boot.late_writers
    assert (writer.name, writer.values.get(KEY), writer.enabled) == ("thp.service", COMMANDS[command], True)


SCRIPTS = {
    "without its interpreter": ("/bin/sh /opt/a.sh", {"opt/a.sh": "{S}"}),
    "without its interpreter, with words": ("/bin/bash -e /opt/a.sh now", {"opt/a.sh": "{S}"}),
    "that starts another": ("/opt/a.sh", {"opt/a.sh": "#!/bin/sh\n. /opt/b\n", "opt/b": "{S}"}),
    "of a package": ("/usr/libexec/tune", {"usr/libexec/tune": "#!/bin/sh\n{S}"}),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_a_script_that_sets_it_is_read(machine: PagesMachine, case: str) -> None:
    command, files = SCRIPTS[case]
    for name, text in files.items():
        machine.file(name, text.replace("{S}", f"echo always > {SETTING}\nsysctl -w vm.swappiness=3\n"))
    started(machine, command)
    (writer,) = machine.at_boot.late_writers
    assert (writer.name, writer.values) == ("thp.service", {KEY: "always"})
    (writer,) = machine.boot_truth().late_writers
    assert writer.values == {"vm.swappiness": "3"}


@pytest.mark.parametrize("where", ["an init script", "one that a unit replaces", "one that may not run", "rc.local"])
def test_scripts_of_sysv_and_what_rc_local_starts_are_read(machine: PagesMachine, where: str) -> None:
    script = machine.root / "etc/init.d/thp"
    machine.file("etc/init.d/thp", f"#!/bin/sh\necho always > {SETTING}\nsysctl -w vm.swappiness=3\n")
    script.chmod(0o644 if where == "one that may not run" else 0o755)
    if where == "rc.local":
        machine.file("etc/rc.local", "#!/bin/sh\n/etc/init.d/thp start\n")
        (machine.root / "etc/rc.local").chmod(0o755)
    else:
        (machine.root / "etc/rc2.d").mkdir()
        (machine.root / "etc/rc2.d/S01thp").symlink_to("../init.d/thp")
    if where == "one that a unit replaces":
        machine.file("usr/lib/systemd/system/thp.service", "[Service]\nExecStart=/bin/true\n")
    found = [each for each in machine.at_boot.late_writers if each.enabled]
    assert [each.values for each in found] == ([{KEY: "always"}] if where in ("an init script", "rc.local") else [])
    found = [each for each in machine.boot_truth().late_writers if each.enabled]
    assert len(found) == (where in ("an init script", "rc.local"))


def started(machine: PagesMachine, command: str) -> None:
    machine.file("etc/systemd/system/thp.service", f"[Service]\nExecStart={command}\n")
    (machine.root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    (machine.root / "etc/systemd/system/multi-user.target.wants/thp.service").symlink_to("../thp.service")


def test_who_only_looks_or_sets_its_neighbour_is_none(machine: PagesMachine) -> None:
    text = f"#!/bin/sh\ncat {SETTING}\necho never > {SETTING.replace('enabled', 'defrag')}\n"
    machine.file("etc/rc.local", text)
    (machine.root / "etc/rc.local").chmod(0o755)
    assert machine.at_boot.late_writers == ()


def test_tuned_and_sysfsutils_are_known(machine: PagesMachine) -> None:
    machine.file("etc/tuned/active_profile", "db\n")
    machine.file("usr/lib/tuned/db/tuned.conf", "[vm]\ntransparent_hugepages=never\n")
    machine.file("etc/sysfs.d/a.conf", "kernel/mm/transparent_hugepage/enabled = madvise\n")
    found = {each.name: (each.values.get(KEY), each.enabled) for each in machine.at_boot.late_writers}
    assert found == {"tuned": ("never", False), "sysfsutils": ("madvise", False)}


def masked(machine: PagesMachine) -> None:
    machine.file("etc/systemd/system/systemd-tmpfiles-setup.service", "")


def not_started(machine: PagesMachine) -> None:
    (machine.root / WANTS).unlink()


def not_installed(machine: PagesMachine) -> None:
    (machine.root / "usr/bin/systemd-tmpfiles").unlink()


@pytest.mark.parametrize("without", [masked, not_started, not_installed])
def test_where_nothing_applies_tmpfiles_at_boot_it_is_left_alone(machine: PagesMachine, without: object) -> None:
    assert callable(without)
    without(machine)
    record = machine.fix()
    assert "tmpfiles" in left(record)[KEY]
    assert machine.mode == "always"


def test_an_earlier_line_of_somebody_else_is_named(machine: PagesMachine) -> None:
    machine.file("etc/tmpfiles.d/10-a.conf", f"w {SETTING} - - - - madvise\n")
    record = machine.fix()
    assert left(record)[KEY] == "/etc/tmpfiles.d/10-a.conf:1 sets it to madvise: let that line say never"
    assert machine.mode == "always"


def test_what_the_next_boot_brings_anyway_gets_no_line(machine: PagesMachine) -> None:
    machine.file("etc/tmpfiles.d/10-a.conf", f"w {SETTING} - - - - never\n")
    record = machine.fix()
    (change,) = (each for each in record.changes if each.kind == "huge-pages")
    assert (change.file, change.at_boot, record.outcome, machine.mode) == (None, "never", "applied", "never")
    assert not (machine.root / OURS).exists()


def test_what_was_set_by_hand_and_is_lost_at_the_next_boot_gets_a_line(machine: PagesMachine) -> None:
    machine.file(SETTING[1:], shown("never"))
    record = machine.fix()
    (change,) = (each for each in record.changes if each.kind == "huge-pages")
    assert (change.before, change.at_boot, change.wanted, change.file) == ("never", "always", "never", FILE)
    assert (machine.mode, machine.at_boot.value) == ("never", "never")
    assert machine.undo() == ()
    assert (machine.mode, machine.at_boot.value) == ("never", "always")


def test_what_was_set_by_hand_and_may_be_lost_at_the_next_boot_gets_a_line_or_is_left_by_name(
    machine: PagesMachine,
) -> None:
    machine.file(SETTING[1:], shown("never"))
    machine.file(CONFIG, "")
    machine.file("etc/rc.local", f"#!/bin/sh\n[ -e /x ] && echo always > {SETTING}\n")
    (machine.root / "etc/rc.local").chmod(0o755)
    assert "(/etc/rc.local)" in left(machine.fix())[KEY]
    (machine.root / "etc/rc.local").unlink()
    (change,) = (each for each in machine.fix().changes if each.kind == "huge-pages")
    assert (change.before, change.at_boot, change.wanted, change.file) == ("never", None, "never", FILE)
    assert machine.at_boot.value == "never"


def test_a_file_of_our_name_elsewhere_is_not_hidden(machine: PagesMachine) -> None:
    machine.file("usr/lib/tmpfiles.d/90-vdscheck.conf", "d /run/x\n")
    before = machine.state()
    record = machine.fix()
    assert record.outcome == "refused"
    assert "/usr/lib/tmpfiles.d/90-vdscheck.conf" in record.detail
    assert machine.state() == before


BEGINS = {
    "the configuration": ({}, "always"),
    "the command line": ({"proc/cmdline": "quiet transparent_hugepage=madvise\n"}, "madvise"),
    "the last word of the command line": (
        {"proc/cmdline": "transparent_hugepage=never transparent_hugepage=always transparent_hugepage=x\n"},
        "always",
    ),
    "a command line that the boot loader does not give again": (
        {"proc/cmdline": "transparent_hugepage=never\n", "boot/grub/grub.cfg": "linux /vmlinuz root=x quiet\n"},
        None,
    ),
    "a command line that it gives again": (
        {
            "proc/cmdline": "x transparent_hugepage=never\n",
            "boot/grub/grub.cfg": "linux /vmlinuz transparent_hugepage=never\n",
        },
        "never",
    ),
    "little memory": (
        {"proc/meminfo": "MemTotal:  400000 kB\n", "proc/cmdline": "transparent_hugepage=always\n"},
        "never",
    ),
    "about 512 MiB": ({"proc/meminfo": "MemTotal:  500000 kB\n"}, None),
    "no configuration": ({CONFIG: ""}, None),
}


@pytest.mark.parametrize("case", BEGINS)
def test_what_the_kernel_comes_up_with(machine: PagesMachine, case: str) -> None:
    files, value = BEGINS[case]
    if "proc/cmdline" in files:
        (machine.root / "boot/grub/grub.cfg").unlink()
    for name, text in files.items():
        machine.file(name, text)
    assert machine.at_boot.value == value


def test_a_word_that_the_kernel_refuses_changes_nothing(machine: PagesMachine) -> None:
    machine.file("etc/tmpfiles.d/10-a.conf", f"w {SETTING} - - - - off\n")
    assert machine.at_boot.value == "always"
    assert "which the kernel refuses" in machine.at_boot.where


def test_the_script_of_a_plan_sets_reads_back_and_persists(machine: PagesMachine, tmp_path: Path) -> None:
    record = machine.fixed(dry_run=True).record
    only = replace(record, changes=tuple(each for each in record.changes if each.kind == "huge-pages"))
    text = shell.script(replace(middling(), fix=only), machine.desk.kinds).decode()
    file = tmp_path / "plan.sh"
    file.write_text(text)
    subprocess.run(["sh", "-n", str(file)], check=True)
    assert f"echo 'w {SETTING} - - - - never' >>\"$pages_new\"" in text
    assert "pages_are always || pages_are never" in text
