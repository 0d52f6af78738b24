"""Files of the kernel that something is mounted over, and files of the next boot that a reboot empties."""

from pathlib import Path
from typing import Any

import pytest

from tests.fixes.test_huge_pages import PagesMachine
from tests.probes.sysctl.test_sysctl import in_child, taken
from tests.support.boot_hosts import Content, Link, decided, truth
from vdscheck import testing
from vdscheck.linux.mounts import Emptied, covering, parsed
from vdscheck.measurements import NOT_LOOKED_AT
from vdscheck.model.absence import Reason
from vdscheck.probes.sysctl import values

SOMAXCONN = "/proc/sys/net/core/somaxconn"
PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"


def mount(number: int, parent: int, point: str, kind: str, root: str = "/", source: str = "none") -> str:
    return f"{number} {parent} 0:{number} {root} {point} rw,relatime shared:1 - {kind} {source} rw\n"


DISK = mount(20, 1, "/", "ext4", source="/dev/vda1")
PROC, SYS = mount(21, 20, "/proc", "proc"), mount(22, 20, "/sys", "sysfs")
PLAIN = DISK + PROC + SYS
COVERED = {
    "nothing": (PLAIN, None),
    "nothing, in a chroot": (PROC, None),
    "no mount table": ("", None),
    "read-only, as in a container": (PLAIN + mount(30, 21, "/proc/sys", "proc", "/sys"), None),
    "a part of it read-only": (PLAIN + mount(30, 21, "/proc/sys/net", "proc", "/sys/net"), None),
    "another part": (PLAIN + mount(30, 21, "/proc/sys/net/ipv4", "tmpfs"), None),
    "another with that beginning": (PLAIN + mount(30, 21, "/proc/sys/net/co", "tmpfs"), None),
    "an empty tmpfs": (PLAIN + mount(30, 21, "/proc/sys/net", "tmpfs"), "tmpfs is mounted over /proc/sys/net"),
    "a part": (PLAIN + mount(30, 21, "/proc/sys/net/core", "tmpfs"), "tmpfs is mounted over /proc/sys/net/core"),
    "all of it": (PLAIN + mount(30, 21, "/proc/sys", "ramfs"), "ramfs is mounted over /proc/sys"),
    "all of /proc": (PLAIN + mount(30, 21, "/proc", "tmpfs"), "tmpfs is mounted over /proc"),
    "a file": (PLAIN + mount(30, 21, SOMAXCONN, "ext4", "/root/x"), f"ext4 is mounted over {SOMAXCONN}"),
    "another file of the kernel's": (
        PLAIN + mount(30, 21, SOMAXCONN, "proc", "/sys/vm/swappiness"), f"proc is mounted over {SOMAXCONN}",
    ),
    "a folder above what was mounted before": (
        PLAIN + mount(30, 21, "/proc/sys/net", "proc", "/sys/net") + mount(31, 21, "/proc/sys", "tmpfs"),
        "tmpfs is mounted over /proc/sys",
    ),
    "covered, and the kernel's own over that": (
        PLAIN + mount(30, 21, "/proc/sys", "tmpfs") + mount(31, 30, "/proc/sys", "proc", "/sys"), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COVERED)
def test_what_covers_a_setting_is_seen(case: str) -> None:
    table, said = COVERED[case]
    assert covering(parsed(table), SOMAXCONN) == said


@pytest.mark.parametrize("point", ["/proc/sys/net", "/proc/sys", "/proc/sys/net/core"])
def test_a_covered_setting_is_not_taken_for_one_that_the_kernel_does_not_have(point: str, tmp_path: Path) -> None:
    files = {"/proc/self/mountinfo": PLAIN + mount(30, 21, point, "tmpfs"), "/proc/sys/vm/swappiness": "1\n"}
    absent = taken(values.sysctls, testing.host(tmp_path, files)).missing["net.core.somaxconn"]
    assert (absent.kind, absent.reason) == ("unmeasured", Reason.ERROR)
    assert absent.detail == f"{SOMAXCONN} cannot be seen: tmpfs is mounted over {point}"


@pytest.mark.parametrize(
    ("probe", "point"), [(values.huge_pages, "/sys/kernel/mm"), (values.conntrack, "/proc/sys/net/netfilter")]
)
def test_other_measurements_of_covered_files_are_not_taken(probe: Any, point: str, tmp_path: Path) -> None:
    table = PLAIN + mount(30, 21 if point.startswith("/proc") else 22, point, "tmpfs")
    absent = taken(probe, testing.host(tmp_path, {"/proc/self/mountinfo": table}))
    assert (absent.kind, absent.reason) == ("unmeasured", Reason.ERROR)
    assert f"tmpfs is mounted over {point}" in absent.detail


def test_an_empty_tmpfs_over_part_of_the_kernel_is_told_from_a_kernel_without_it() -> None:
    code = """
    found = taken(values.sysctls)
    absent = found.missing["net.core.somaxconn"]
    print(json.dumps([absent.kind, absent.detail, "vm.swappiness" in found.values]))
    """
    script = 'mount -t tmpfs none /proc/sys/net && exec "$@"'
    kind, detail, others = in_child(code, "unshare", "--mount", "sh", "-c", script, "sh")
    assert (kind, others) == ("unmeasured", True)
    assert detail == f"{SOMAXCONN} cannot be seen: tmpfs is mounted over /proc/sys/net"


# What a reboot empties

SHM = mount(40, 20, "/dev", "devtmpfs") + mount(41, 40, "/dev/shm", "tmpfs")
IN_MEMORY: dict[str, tuple[str, str, str | None]] = {
    "/run": ("", "/run/x.conf", "/run"),
    "/dev/shm": (PLAIN + SHM, "/dev/shm/x.conf", "/dev/shm"),
    "/dev/shm where the mount table is not known": ("", "/dev/shm/x.conf", "/dev/shm"),
    "a tmpfs": (PLAIN + mount(30, 20, "/srv/fast", "tmpfs"), "/srv/fast/a/x.conf", "/srv/fast (tmpfs)"),
    "a ramfs": (PLAIN + mount(30, 20, "/mnt", "ramfs"), "/mnt/x.conf", "/mnt (ramfs)"),
    "a compressed disk of memory": (
        PLAIN + mount(30, 20, "/tmp", "ext4", source="/dev/zram1"), "/tmp/x.conf", "/tmp (ext4)",
    ),
    "a file": (
        PLAIN + mount(30, 20, "/etc/sysctl.d/x.conf", "tmpfs"), "/etc/sysctl.d/x.conf", "/etc/sysctl.d/x.conf (tmpfs)",
    ),
    "a disk within a tmpfs": (
        PLAIN + mount(30, 20, "/srv", "tmpfs") + mount(31, 30, "/srv/disk", "ext4", source="/dev/vdb"),
        "/srv/disk/x.conf",
        None,
    ),
    "a disk": (PLAIN + mount(30, 20, "/srv", "ext4", source="/dev/vdb"), "/srv/x.conf", None),
    "the root": (DISK, "/etc/x.conf", None),
    "/dev/null": (PLAIN + SHM, "/dev/null", None),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_MEMORY)
def test_what_a_reboot_empties_is_known_by_the_mount_table(case: str) -> None:
    table, path, place = IN_MEMORY[case]
    assert Emptied(parsed(table)).place(path, "/etc/sysctl.d/x.conf") == place


LINKS: dict[str, tuple[str, str]] = {
    "/dev/shm": (PLAIN + SHM, "/dev/shm/x.conf"),
    "a tmpfs": (PLAIN + mount(30, 20, "/srv/fast", "tmpfs"), "/srv/fast/x.conf"),
    "a ramfs": (PLAIN + mount(30, 20, "/srv/fast", "ramfs"), "/srv/fast/x.conf"),
}


@pytest.mark.parametrize("case", LINKS)
def test_a_drop_in_that_leads_into_memory_is_not_counted(case: str, tmp_path: Path) -> None:
    table, target = LINKS[case]
    files: dict[str, Content] = {
        "proc/self/mountinfo": table,
        target[1:]: "vm.swappiness = 1\n",
        "etc/sysctl.d/95-x.conf": Link(target),
        "etc/sysctl.d/50-a.conf": "vm.swappiness = 30\n",
    }
    found = truth(tmp_path, files)
    assert decided(found) == ("30", "file", "/etc/sysctl.d/50-a.conf:1")
    said = f"/etc/sysctl.d/95-x.conf: leads into {target.rpartition('/')[0]}"
    assert any(each.startswith(said) and "empty when the machine boots" in each for each in found.problems)


@pytest.mark.parametrize("point", ["/etc/sysctl.d", "/etc", "/usr/lib"])
def test_what_hides_the_files_of_the_next_boot_is_said(point: str, tmp_path: Path) -> None:
    files: dict[str, Content] = {
        "proc/self/mountinfo": PLAIN + mount(30, 20, point, "tmpfs"),
        "etc/sysctl.d/a.conf": "vm.swappiness = 1\n",
        "usr/lib/sysctl.d/a.conf": "vm.swappiness = 2\n",
    }
    found = truth(tmp_path, files)
    assert decided(found)[0] == "1"
    folder = "/usr/lib/sysctl.d" if point == "/usr/lib" else "/etc/sysctl.d"
    assert f"what lies below {folder} (tmpfs is mounted over {point}) {NOT_LOOKED_AT}" in found.problems


def test_a_line_for_huge_pages_in_memory_is_not_counted(tmp_path: Path) -> None:
    machine = PagesMachine(tmp_path)
    machine.file("proc/self/mountinfo", PLAIN + mount(30, 20, "/srv/fast", "tmpfs"))
    machine.file("srv/fast/x.conf", f"w {PAGES} - - - - never\n")
    (tmp_path / "etc/tmpfiles.d").mkdir()
    (tmp_path / "etc/tmpfiles.d/95-x.conf").symlink_to("/srv/fast/x.conf")
    assert machine.at_boot.value == "always"


@pytest.mark.parametrize(
    "root",
    [
        mount(20, 1, "/", "tmpfs"),
        mount(20, 1, "/", "ext4", source="/dev/ram0"),
        mount(20, 1, "/", "overlay").replace(" rw\n", " rw,lowerdir=/a,upperdir=/cow/up\n"),
    ],
)
def test_of_a_root_in_memory_the_next_boot_is_not_known(root: str, tmp_path: Path) -> None:
    files: dict[str, Content] = {"proc/self/mountinfo": root + PROC, "etc/sysctl.d/a.conf": "vm.swappiness = 1\n"}
    value, origin, where = decided(truth(tmp_path, files))
    assert (value, origin) == (None, "unread")
    assert where.startswith("which files the next boot finds is not known: / is ")
