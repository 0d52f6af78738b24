"""The units that apply settings at boot, as an administrator may have changed them."""

import tempfile
from pathlib import Path

import pytest

from tests.fixes.test_huge_pages import UNIT as TMPFILES
from tests.fixes.test_huge_pages import PagesMachine
from tests.probes.sysctl.boot.test_boot import boot_truth_of_nobody
from tests.support.boot_hosts import SWAPPINESS, Content, Link, decided, host, truth
from vdscheck.fixes.sysctl import boot as next_boot
from vdscheck.measurements import NOT_LOOKED_AT

OWN = "etc/systemd/system/systemd-sysctl.service"
DROP_IN = f"{OWN}.d/x.conf"
LINE = {"etc/sysctl.d/a.conf": "vm.swappiness = 1\n"}
PROGRAM = "/usr/lib/systemd/systemd-sysctl"

UNSURE: dict[str, tuple[str, str, bool]] = {
    "a condition": (DROP_IN, "[Unit]\nConditionPathExists=/etc/nowhere\n", False),
    "an assertion": (DROP_IN, "[Unit]\nAssertKernelVersion = > 99\n", False),
    "a prefix": (OWN, f"[Service]\nExecStart={PROGRAM} --prefix=net\n", True),
    "a file": (DROP_IN, f"[Service]\nExecStart=\nExecStart={PROGRAM} /etc/other.conf\n", True),
    "another program": (OWN, "[Service]\nExecStart=/usr/local/sbin/settings\n", True),
    "a shell": (OWN, "[Service]\nExecStart=/bin/sh -c 'exit 0'\n", True),
    "a program before it": (DROP_IN, "[Service]\nExecStartPre=/usr/local/sbin/may-we\n", True),
    "a program that decides": (DROP_IN, "[Service]\nExecCondition=/bin/false\n", True),
    "a read-only kernel": (DROP_IN, "[Service]\nProtectKernelTunables=yes\n", False),
    "a network of its own": (DROP_IN, "[Service]\nPrivateNetwork=yes\n", False),
    "a unit that it needs": (DROP_IN, "[Unit]\nRequires=nowhere.service\n", False),
    "another user": (DROP_IN, "[Service]\nUser=nobody\n", False),
    "one for all units of a beginning": (
        "etc/systemd/system/systemd-.service.d/x.conf", "[Unit]\nConditionPathExists=/etc/nowhere\n", False,
    ),
    "one for all services": (
        "usr/lib/systemd/system/service.d/x.conf", "[Unit]\nConditionPathExists=/etc/nowhere\n", False,
    ),
    "set by systemctl": (
        "etc/systemd/system.control/systemd-sysctl.service.d/x.conf", "[Service]\nPrivateUsers=yes\n", False,
    ),
    "a line that goes on": (DROP_IN, "[Unit]\nCondition\\\n# a comment\nPathExists=/etc/nowhere\n", False),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSURE)
def test_what_a_changed_unit_applies_is_not_known(case: str, tmp_path: Path) -> None:
    path, text, anything = UNSURE[case]
    found = truth(tmp_path, {**LINE, path: text})
    assert decided(found)[:2] == (None, "unread")
    assert f"/{path}: " in decided(found)[2]
    assert decided(found)[2] in found.problems
    # What no file says is as it was, unless something else than the files may be applied.
    assert (found.keys["vm.overcommit_memory"].value is None) == anything
    why = next_boot.lasts(SWAPPINESS, "10", found)
    assert why is not None
    assert "is not known: whether systemd-sysctl.service applies them" in why


HARMLESS: dict[str, dict[str, Content]] = {
    "Debian 12's": {
        OWN: "[Unit]\nDescription=Apply Kernel Variables\nDefaultDependencies=no\nConflicts=shutdown.target\n"
        "After=systemd-modules-load.service\nBefore=sysinit.target shutdown.target\n"
        "ConditionPathIsReadWrite=/proc/sys/net/\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        "ExecStart=/lib/systemd/systemd-sysctl\nTimeoutSec=90s\nLoadCredential=sysctl.extra\n"
    },
    "a later one's": {
        OWN: "[Unit]\nDocumentation=man:sysctl.d(5)\n[Service]\nType=oneshot\n"
        "ExecStart=/usr/lib/systemd/systemd-sysctl\nImportCredential=sysctl.*\n[Install]\nConditionPathExists=/x\n"
    },
    "a later start": {DROP_IN: "# Condition\n[Unit]\nAfter=network-pre.target\n[Service]\nTimeoutStartSec=300\n"},
    "a condition taken back": {DROP_IN: "[Unit]\nConditionPathIsReadWrite=\n"},
    "a failure that does not matter": {DROP_IN: f"[Service]\nExecStart=\nExecStart=-{PROGRAM}\n"},
    "a masked drop-in": {
        f"usr/lib/systemd/system/{DROP_IN.rpartition('system/')[2]}": "[Unit]\nConditionPathExists=/etc/nowhere\n",
        DROP_IN: Link("/dev/null"),
    },
    "another unit's": {"etc/systemd/system/systemd-sysctl2.service.d/x.conf": "[Service]\nExecStart=\n"},
}


@pytest.mark.parametrize("case", HARMLESS)
def test_a_unit_that_does_what_it_was_made_for_applies_the_files(case: str, tmp_path: Path) -> None:
    found = truth(tmp_path, {**LINE, **HARMLESS[case]})
    assert decided(found) == ("1", "file", "/etc/sysctl.d/a.conf:1")
    assert found.problems == ()


CHANGED = {
    "a condition": ("[Unit]\nConditionPathExists=/etc/nowhere\n", None),
    "no --boot": ("[Service]\nExecStart=\nExecStart=systemd-tmpfiles --create\n", None),
    "a prefix": ("[Service]\nExecStart=\nExecStart=systemd-tmpfiles --create --boot --prefix=/run\n", None),
    "no command": ("[Service]\nExecStart=\nExecStart=/bin/true\n", "always"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_huge_pages_are_not_known_where_the_unit_of_tmpfiles_is_changed(case: str, tmp_path: Path) -> None:
    text, after = CHANGED[case]
    machine = PagesMachine(tmp_path)
    machine.file("etc/tmpfiles.d/x.conf", "w /sys/kernel/mm/transparent_hugepage/enabled - - - - never\n")
    assert machine.at_boot.value == "never"
    machine.file(f"etc/systemd/system/{TMPFILES.rpartition('/')[2]}.d/x.conf", text)
    assert machine.at_boot.value == after
    said = [machine.at_boot.where, machine.at_boot.not_applied]
    assert any("systemd-tmpfiles-setup.service" in each for each in said if each is not None)


# Credentials

LOADS: dict[str, Content] = {
    "usr/lib/systemd/system/systemd-sysctl.service": f"[Service]\nExecStart={PROGRAM}\nImportCredential=sysctl.*\n"
}
GIVEN = "vm.swappiness = 3\n"
FW_CFG = "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials"
CREDENTIALS: dict[str, tuple[dict[str, Content], str | None]] = {
    "a store": ({"etc/credstore/sysctl.extra": GIVEN}, "3"),
    "the vendor's store": ({"usr/lib/credstore/sysctl.extra": GIVEN}, "3"),
    "the system's own": ({"run/credentials/@system/sysctl.extra": GIVEN, "etc/credstore/sysctl.extra": "x = 1"}, "3"),
    "an encrypted store": ({"etc/credstore.encrypted/sysctl.extra": "Whatever"}, None),
    "an encrypted one of the vendor's": ({"usr/lib/credstore.encrypted/sysctl.extra": "Whatever"}, None),
    "a store that a reboot empties": ({"run/credstore/sysctl.extra": GIVEN}, "1"),
    "the command line": ({"proc/cmdline": "quiet systemd.set_credential=sysctl.extra:vm.swappiness=3"}, None),
    "the command line, in base64": ({"proc/cmdline": "systemd.set_credential_binary=sysctl.extra:eA=="}, None),
    "the boot loader": (
        {"boot/grub/grub.cfg": "\tlinux /vmlinuz-6.1.0 ro systemd.set_credential=sysctl.extra:x=1\n"}, None,
    ),
    "the command line, as the system got it": (
        {"proc/cmdline": "systemd.set_credential=sysctl.extra:x", "run/credentials/@system/sysctl.extra": GIVEN}, "3",
    ),
    "another on the command line": ({"proc/cmdline": "systemd.set_credential=tmpfiles.extra:vm.swappiness=3"}, "1"),
    "the firmware": ({f"{FW_CFG}/sysctl.extra/raw": GIVEN}, None),
    "SMBIOS": (
        {"sys/firmware/dmi/entries/11-0/raw": b"\x0b\x05\0\0\x01io.systemd.credential:sysctl.extra=vm.swappiness=3\0"},
        None,
    ),
    "SMBIOS, another": ({"sys/firmware/dmi/entries/11-0/raw": b"io.systemd.credential:tmpfiles.extra=x\0"}, "1"),
}  # fmt: skip


@pytest.mark.parametrize("case", CREDENTIALS)
def test_what_a_credential_sets_counts_or_is_not_known(case: str, tmp_path: Path) -> None:
    files, value = CREDENTIALS[case]
    found = truth(tmp_path, {**LINE, **LOADS, **files})
    assert decided(found)[:2] == (value, "unread" if value is None else "file")
    assert value == "1" or "sysctl.extra" in decided(found)[2] or "11-0/raw" in decided(found)[2]


def test_a_credential_is_nothing_where_the_unit_does_not_load_it(tmp_path: Path) -> None:
    given: dict[str, Content] = {"etc/credstore/sysctl.extra": GIVEN, "usr/lib/credstore.encrypted/sysctl.extra": "x"}
    assert decided(truth(tmp_path, {**LINE, **given}))[0] == "1"


@pytest.mark.parametrize("closed", ["etc/credstore", "run/credentials/@system", "usr/lib/credstore.encrypted"])
def test_a_store_that_only_root_may_look_into_is_named(closed: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = host(Path(folder), {**LINE, **LOADS, f"{closed}/x": ""})
        (Path(folder) / closed).chmod(0)
        found = boot_truth_of_nobody(made)
    said = f"sysctl.extra in /{closed} (open to root alone) {NOT_LOOKED_AT}"
    assert (decided(found)[0], said in found.problems) == ("1", True)


@pytest.mark.parametrize(
    ("file", "value"),
    [("etc/credstore/tmpfiles.extra", "never"), ("etc/credstore.encrypted/tmpfiles.extra", None)],
)
def test_a_credential_with_lines_of_tmpfiles_counts_or_is_not_known(
    file: str, value: str | None, tmp_path: Path
) -> None:
    machine = PagesMachine(tmp_path)
    assert machine.at_boot.value == "always"
    machine.file(
        f"etc/systemd/system/{TMPFILES.rpartition('/')[2]}.d/x.conf", "[Service]\nLoadCredential=tmpfiles.extra\n"
    )
    machine.file(file, "w /sys/kernel/mm/transparent_hugepage/enabled - - - - never\n")
    assert machine.at_boot.value == value
    assert file in machine.at_boot.where
