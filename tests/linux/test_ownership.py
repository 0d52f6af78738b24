"""Whose kernel and root a process sees: on made-up hosts, and in real containers, chroots and namespaces.

Only keys that a network namespace has for itself are asked for: what should be refused and is not reaches nothing.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.lab.container import run_in_container
from tests.lab.product import product_tree
from tests.probes.sysctl.test_sysctl import OWN_FILES, OWN_LINKS
from tests.support.fix_namespace import in_namespace
from tests.support.project import PROJECT
from vdscheck import testing
from vdscheck.cli import reference
from vdscheck.linux import ownership
from vdscheck.probes.virt import container

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")
JAIL = (PROJECT / "tests/support/other_roots.sh").read_text()
SCHEMA = json.loads(reference.schema())
ONLY = "--passive --only sysctl.somaxconn --only sysctl.slow-start-idle"
OLD = ["net.core.somaxconn = 128", "net.ipv4.tcp_slow_start_after_idle = 1"]
NEW = ["net.core.somaxconn = 4096", "net.ipv4.tcp_slow_start_after_idle = 0"]
SHELL = f"""
{JAIL}
mend() {{ vdscheck --fix --yes --json {ONLY} "$@"; code >&2; }}
inside() {{ chroot jail "$PYTHON" -m vdscheck "$@"; code >&2; }}
values() {{ sysctl net.core.somaxconn net.ipv4.tcp_slow_start_after_idle; }}
written() {{ find /etc/sysctl.d /var/lib/vdscheck -mindepth 1; }}
"""


def parts(script: str) -> tuple[list[str], list[str]]:
    """What a script wrote on standard output between its lines of dashes, and the lines on standard error."""
    done = in_namespace(SHELL + script)
    return [part.strip() for part in done.stdout.split("----\n")], done.stderr.splitlines()


def fix_of(text: str) -> dict[str, Any]:
    report = json.loads(text)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return dict(report["fix"])


def refused(text: str, why: str) -> None:
    """A report of a fix that was refused in one line."""
    fix = fix_of(text)
    assert (fix["outcome"], fix["id"], fix["changes"]) == ("refused", None, [])
    assert why in fix["detail"]
    assert "\n" not in fix["detail"]


# Made-up hosts


def line(
    point: str, kind: str = "ext4", *, number: int = 30, device: str = "8:1", root: str = "/", more: str = ""
) -> str:
    return f"{number} 1 {device} {root} {point} rw,relatime - {kind} {more or '/dev/sda1 rw'}\n"


DISK = line("/")
PROC = line("/proc", "proc", number=31, device="0:21", more="proc rw")
TMPFS = line("/run", "tmpfs", number=33, device="0:9", more="tmpfs rw")


def seen(folder: Path, files: Mapping[str, str | None], links: Mapping[str, str] | None = None) -> ownership.Ownership:
    """What is decided of a machine of its own that is changed by some files; None takes one away."""
    present = {path: text for path, text in {**OWN_FILES, **files}.items() if text is not None}
    return ownership.look(testing.host(folder, present, {**OWN_LINKS, **(links or {})}))


def tables(ours: str, its: str) -> dict[str, str | None]:
    return {"/proc/self/mountinfo": ours, "/proc/1/mountinfo": its}


@pytest.mark.parametrize(
    ("ours", "its", "root", "contained"),
    [
        # One mount namespace; a private one with tmpfs over a folder; one whose root was mounted once more.
        (DISK + PROC, DISK + PROC, True, False),
        (line("/", number=90) + line("/etc/sysctl.d", "tmpfs", number=91), DISK + PROC, True, False),
        (line("/", number=90) + line("/", number=91), DISK + PROC, True, False),
        # A btrfs subvolume, and another one of the same file system.
        (line("/", number=90, root="/@rootfs"), line("/", root="/@rootfs"), True, False),
        (line("/", number=90, root="/@snapshot"), line("/", root="/@rootfs"), False, True),
        # A container's overlay; a folder of the host's own file system as a container's root.
        (line("/", "overlay", number=90, device="0:50"), DISK + PROC, False, True),
        (line("/", number=90, root="/var/lib/machines/x"), DISK + PROC, False, True),
        # A chroot, into a plain folder and into a mount, among the mounts of PID 1.
        (PROC, DISK + PROC, False, False),
        (line("/", number=40, device="8:2") + PROC, DISK + PROC + line("/mnt", number=40, device="8:2"), False, False),
        # A chroot into a plain folder in a mount namespace of its own.
        (line("/proc", "proc", number=91, device="0:21"), DISK + PROC, False, True),
        # PID 1 cannot be looked at; it is itself in a folder below a mount; nothing is to be seen at all.
        (DISK + PROC, "", None, None),
        (DISK + PROC, PROC, None, None),
        ("", DISK + PROC, None, None),
    ],
)
def test_the_root_is_that_of_pid_1_or_another_ones(
    tmp_path: Path, ours: str, its: str, *, root: bool | None, contained: bool | None
) -> None:
    found = seen(tmp_path, tables(ours, its))
    assert (found.kernel, found.root) == (True, root)
    assert found.contained == (False if contained is None else contained)
    refusal = ownership.refusal(found)
    assert (refusal is None) == (root is True)
    assert root is not False or "not this machine's own" in str(refusal)


@pytest.mark.parametrize(
    ("links", "files", "kernel"),
    [
        ({}, {}, True),
        ({"/proc/self/ns/pid": "pid:[4026532600]"}, {}, False),
        ({"/proc/self/ns/user": "user:[4026532600]"}, {}, False),
        ({}, {"/proc/self/uid_map": "0 100000 65536\n"}, False),
        ({}, {"/proc/2/comm": "bash\n"}, False),
        ({}, {"/proc/vz/x": ""}, False),
        ({}, {"/proc/2/comm": None}, True),
        ({}, {"/.dockerenv": "", "/run/.containerenv": ""}, True),
        ({"/proc/self/ns/pid": "nothing"}, {}, None),
    ],
)
def test_the_report_and_the_fix_are_of_one_mind(
    tmp_path: Path, links: dict[str, str], files: dict[str, str | None], *, kernel: bool | None
) -> None:
    found = seen(tmp_path, {**tables(DISK + PROC, DISK + PROC), **files}, links)
    assert found.kernel is kernel
    told = container.look(testing.host(tmp_path, {}))
    if kernel is not None:
        assert (told.kind is None) == kernel == (ownership.refusal(found) is None)
        assert told.sure


@pytest.mark.parametrize(
    ("files", "contained"),
    [
        # After `chroot /host` in a pod: its control group stays, the root is the machine's.
        ({"/proc/self/cgroup": "0::/kubepods.slice/x\n", **tables(line("/", number=90), DISK)}, None),
        # The same pod before it.
        (
            {"/proc/self/cgroup": "0::/kubepods.slice/x\n", **tables(line("/", "overlay", device="0:9"), DISK)},
            "kubernetes",
        ),
        ({**tables(line("/", "overlay", number=90, device="0:9"), DISK)}, "container"),
        ({"/.dockerenv": "", **tables(DISK, DISK)}, None),
        # A rescue system's chroot.
        ({"/.dockerenv": "", **tables(PROC, DISK + PROC)}, None),
    ],
)
def test_a_container_is_told_by_its_root_where_it_has_the_machines_processes(
    tmp_path: Path, files: dict[str, str | None], contained: str | None
) -> None:
    seen(tmp_path, files)
    assert container.look(testing.host(tmp_path, {})).kind == contained


def union(upper: str, kind: str = "overlay") -> str:
    return line("/", kind, device="0:40", more=f"union rw,lowerdir=/l,upperdir={upper},workdir=/w")


LIVE = line("/run/live/overlay", "tmpfs", number=34, device="0:35", more="tmpfs rw")
ON_DISK = line("/media/root-rw", number=35, device="8:3")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (DISK, None),
        (line("/", "btrfs") + TMPFS, None),
        (line("/", "nfs4", more="server:/x rw"), None),
        (line("/", "tmpfs", more="tmpfs rw"), "/ is kept in memory (tmpfs)"),
        (line("/", "ramfs", more="none rw"), "/ is kept in memory (ramfs)"),
        (line("/", "rootfs", device="0:2", more="none rw"), "/ is kept in memory (rootfs)"),
        (line("/", more="/dev/zram0 rw"), "/ is kept in memory (/dev/zram0)"),
        (line("/", more="/dev/ram0 rw"), "/ is kept in memory (/dev/ram0)"),
        (line("/", more="/dev/mapper/live-rw rw"), "/ is kept in memory (/dev/mapper/live-rw)"),
        (union("/run/live/overlay/rw") + TMPFS + LIVE, "its upper layer /run/live/overlay/rw is kept in memory"),
        (union("/run/overlayfs") + TMPFS, "its upper layer /run/overlayfs is kept in memory"),
        (union("/cow/upper") + TMPFS, "its upper layer /cow/upper is not seen to outlast a reboot"),
        (union("/media/root-rw/overlay") + ON_DISK, None),
        (union("/media/root-rw/gone") + ON_DISK, "is not seen to outlast a reboot"),
        (line("/", "overlay", more="overlay ro,lowerdir=/a:/b"), "without a layer that is seen to outlast a reboot"),
        (line("/", "aufs", more="aufs rw,si=1"), "/ is of type aufs, without a layer"),
        (DISK + line("/etc/sysctl.d", "tmpfs", number=50, more="none rw"), None),
    ],
)
def test_a_root_that_a_reboot_empties_is_told(tmp_path: Path, table: str, said: str | None) -> None:
    for folder in ("run/live/overlay/rw", "run/overlayfs", "media/root-rw/overlay"):
        (tmp_path / folder).mkdir(parents=True)
    found = seen(tmp_path, tables(table, table))
    assert (found.root, found.contained) == (True, False)
    assert (found.lost_at_boot is None) == (said is None)
    assert (said or "") in (found.lost_at_boot or "")
    refusal = ownership.refusal(found)
    assert said is None or "--root DIR" in str(refusal)
    assert said is not None or refusal is None


def test_a_unit_that_may_not_set_the_kernel_is_sent_outside(tmp_path: Path) -> None:
    table = DISK + PROC + "60 31 0:21 /sys /proc/sys ro,relatime - proc proc rw\n"
    found = seen(tmp_path, tables(table, DISK + PROC))
    assert (found.kernel, found.root, found.writable) == (True, True, False)
    assert "ProtectKernelTunables=" in str(ownership.refusal(found))


# Real ones


@AS_ROOT
@pytest.mark.slow
def test_a_privileged_container_with_the_hosts_processes_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    site = product_tree("bookworm", tmp_path / "site")
    script = f"""
    sysctl -q -w net.core.somaxconn=128; python3 -m vdscheck --fix --yes --json {ONLY}; echo code $? >&2
    sysctl -n net.core.somaxconn >&2; find /var/lib /etc | grep vdscheck >&2
    """
    done = run_in_container(
        ["sh", "-c", script],
        binds={"/site": site},
        env={"PYTHONPATH": "/site"},
        userns=False,
        own_pids=False,
        privileged_sys=True,
        timeout_s=60,
    )
    refused(done.stdout, "the root folder is not this machine's own (")
    assert done.stderr.splitlines() == ["code 3", "128"]


@AS_ROOT
def test_with_a_root_of_ones_own_nothing_is_fixed_or_undone_and_in_the_hosts_root_it_is() -> None:
    """As in a pod with the host's processes, before and after `chroot /host`."""
    found, said = parts(
        f"""
        sysctl -q -w net.ipv4.tcp_slow_start_after_idle=1
        jail jail; mkdir jail/host; mount --rbind / jail/host
        mount -t tmpfs -o mode=755 none jail/etc/sysctl.d
        inside --fix --yes --json {ONLY}; echo ----
        inside --dry-run --json {ONLY}; echo ----
        values; written; ls -A jail/etc/sysctl.d; echo ----
        chroot jail chroot /host "$PYTHON" -m vdscheck --fix --yes --json {ONLY}; echo ----
        values; ls -A jail/etc/sysctl.d; echo ----
        inside undo; echo ----
        values; ls -A /etc/sysctl.d; echo ----
        chroot jail chroot /host "$PYTHON" -m vdscheck undo; echo ----
        values; ls -A /etc/sysctl.d
        """
    )
    refused(found[0], "the root folder is not this machine's own (")
    planned = fix_of(found[1])
    assert planned["outcome"] == "nothing-to-do"
    assert planned["detail"].startswith("--fix would change nothing here: the root folder is not this machine's own (")
    assert found[2].splitlines() == OLD
    assert fix_of(found[3])["outcome"] == "applied"
    assert found[4].splitlines() == NEW
    assert (found[5], found[6].splitlines()) == ("", [*NEW, "90-vdscheck.conf"])
    assert said[:2] == ["code 3", "code 0"]
    assert said[2].startswith("vdscheck: nothing was given back: the root folder is not this machine's own (")
    assert said[3:] == ["code 3"]
    assert "all of it is given back" in found[7]
    assert found[8].splitlines() == OLD


@AS_ROOT
def test_what_is_in_force_in_the_running_kernel_is_not_undone_as_a_tree() -> None:
    """As from a pod that sees the host's root at /host, before and after `chroot /host`."""
    found, said = parts(
        f"""
        sysctl -q -w net.ipv4.tcp_slow_start_after_idle=1
        "$PYTHON" -m vdscheck --fix --yes --json {ONLY} > /dev/null
        jail jail; mkdir jail/host; mount --rbind / jail/host
        inside undo --root /host; echo ----
        values; ls -A /etc/sysctl.d; vdscheck undo --list; echo ----
        # A pod without the host's processes, and one without /proc, cannot tell whose root it is.
        unshare --pid --fork --mount-proc chroot jail "$PYTHON" -m vdscheck undo --root /host > /dev/null; code >&2
        mount -t tmpfs none jail/proc; inside undo --root /host > /dev/null; umount jail/proc
        chroot jail chroot /host "$PYTHON" -m vdscheck undo > /dev/null; code >&2
        values; ls -A /etc/sysctl.d
        """
    )
    assert said[0].startswith("vdscheck: ")
    refused = "is in force in the running kernel, or may be, which is not reached from here: chroot /host vdscheck undo"
    assert [refused in said[place] for place in (0, 2, 4)] == [True] * 3
    assert [said[place] for place in (1, 3, 5, 6)] == ["code 3", "code 3", "code 3", "code 0"]
    assert found[1].splitlines()[: len(NEW)] == NEW
    assert " held " in found[1]
    assert found[2].splitlines() == OLD


@AS_ROOT
@pytest.mark.parametrize(
    "how",
    [
        "ip netns add lab; set -- ip netns exec lab",
        pytest.param("set -- unshare --mount --propagation private", marks=pytest.mark.slow),
        # Whoever lacks a capability that PID 1 has may not look at /proc/1/root.
        "set -- setpriv --inh-caps -all --bounding-set -sys_ptrace",
    ],
)
def test_on_the_host_itself_a_fix_is_applied_and_undone_whatever_namespace_it_runs_in(how: str) -> None:
    found, _ = parts(
        f"""
        mount -t tmpfs none /run
        {how}
        "$@" sh -c 'sysctl -q -w net.core.somaxconn=128 net.ipv4.tcp_slow_start_after_idle=1
          "$PYTHON" -m vdscheck --fix --yes --json {ONLY}; echo ----; ls -A /etc/sysctl.d; echo ----
          "$PYTHON" -m vdscheck undo; echo $?; echo ----; sysctl net.core.somaxconn net.ipv4.tcp_slow_start_after_idle'
        """
    )
    assert fix_of(found[0])["outcome"] == "applied"
    assert found[1] == "90-vdscheck.conf"
    assert found[2].splitlines()[-1] == "0"
    assert found[3].splitlines() == OLD


@AS_ROOT
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("unshare --user --map-root-user", "the kernel is not this machine's own (/proc/self/ns/user: "),
        ("unshare --pid --fork --mount-proc", "the kernel is not this machine's own (/proc/self/ns/pid: "),
        # As InaccessiblePaths=, or hidepid=2 for whoever may not look at others.
        (
            "unshare --mount sh -c 'mount -t tmpfs none /proc/1; exec \"$@\"' sh",
            "whose root folder this is cannot be told",
        ),
        (
            "unshare --mount sh -c 'mount -o bind,ro /proc/sys /proc/sys; exec \"$@\"' sh",
            "/proc/sys is mounted read-only",
        ),
    ],
)
def test_elsewhere_nothing_is_changed_and_one_line_says_why(how: str, why: str) -> None:
    found, said = parts(
        f"""
        sysctl -q -w net.ipv4.tcp_slow_start_after_idle=1
        {how} "$PYTHON" -m vdscheck --fix --yes --json {ONLY}; code >&2; echo ----
        values; written
        """
    )
    refused(found[0], why)
    assert (said, found[1].splitlines()) == (["code 3"], OLD)


@AS_ROOT
@pytest.mark.slow
def test_what_a_fix_left_half_done_is_not_given_back_from_a_root_of_ones_own() -> None:
    found, said = parts(
        f"""
        strace -o /dev/null -e trace=renameat -e inject=renameat:signal=KILL:when=2 \
          "$PYTHON" -m vdscheck --fix --yes --json {ONLY} > /dev/null
        values; vdscheck undo --list; echo ----
        jail jail
        inside --fix --yes --json {ONLY}; echo ----
        values; vdscheck undo --list
        """
    )
    assert " begun " in found[0]
    refused(found[1], "the root folder is not this machine's own (")
    assert found[2] == found[0]
    assert said[-1:] == ["code 3"]
