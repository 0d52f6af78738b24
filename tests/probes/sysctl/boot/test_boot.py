"""What the kernel settings will be after the next boot: which line of which file decides."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.boot_hosts import GONE, SWAPPINESS, Content, Link, decided, host, truth
from tests.support.program import vdscheck
from vdscheck.linux import sysctl_d
from vdscheck.measurements import KERNEL_KEYS, BootTruth
from vdscheck.probes.sysctl.boot import predict
from vdscheck.target.host import Host

# Files: which are read, and which line decides

ONE_KEY: dict[str, tuple[Mapping[str, Content], str | None, str]] = {
    "of two lines the later one": ({"etc/sysctl.d/a.conf": f"{SWAPPINESS}=1\n{SWAPPINESS}=2\n"}, "2", "a.conf:2"),
    "of two files that of the later name": (
        {"etc/sysctl.d/a.conf": f"{SWAPPINESS}=1", "usr/lib/sysctl.d/b.conf": f"{SWAPPINESS}=2"},
        "2",
        "/usr/lib/sysctl.d/b.conf:1",
    ),
    "of one name that of the first folder": (
        {"etc/sysctl.d/a.conf": f"{SWAPPINESS}=1", "usr/lib/sysctl.d/a.conf": f"{SWAPPINESS}=2"},
        "1",
        "/etc/sysctl.d/a.conf:1",
    ),
    "capitals sort before small letters": (
        {"etc/sysctl.d/Z.conf": f"{SWAPPINESS}=1", "etc/sysctl.d/a.conf": f"{SWAPPINESS}=2"},
        "2",
        "/etc/sysctl.d/a.conf:1",
    ),
    "an empty file masks": (
        {"etc/sysctl.d/a.conf": "", "usr/lib/sysctl.d/a.conf": f"{SWAPPINESS}=2"},
        "60",
        "kernel default",
    ),
    "an absolute link to /dev/null masks": (
        {"etc/sysctl.d/a.conf": Link("/dev/null"), "usr/lib/sysctl.d/a.conf": f"{SWAPPINESS}=2"},
        "60",
        "kernel default",
    ),
    "a link is resolved inside the root": (
        {"etc/sysctl.d/a.conf": Link("/srv/a"), "srv/a": f"{SWAPPINESS}=3"},
        "3",
        "/etc/sysctl.d/a.conf:1",
    ),
    "a link that leads nowhere hides its name": (
        {"etc/sysctl.d/a.conf": Link("/nowhere"), "usr/lib/sysctl.d/a.conf": f"{SWAPPINESS}=2"},
        "60",
        "kernel default",
    ),
    "only names that end in .conf": ({"etc/sysctl.d/a.conf.bak": f"{SWAPPINESS}=1"}, "60", "kernel default"),
    "no hidden names": ({"etc/sysctl.d/.a.conf": f"{SWAPPINESS}=1"}, "60", "kernel default"),
    "sysctl.conf by the link that Debian 12 has": (
        {"etc/sysctl.conf": f"# x\n{SWAPPINESS}=1\n"},
        "1",
        "/etc/sysctl.d/99-sysctl.conf:2",
    ),
    "sysctl.conf is not read without the link": (
        {"etc/sysctl.d/99-sysctl.conf": GONE, "etc/sysctl.conf": f"{SWAPPINESS}=1\n"},
        "60",
        "kernel default",
    ),
    "slashes may separate": ({"etc/sysctl.d/a.conf": "vm/swappiness = 1"}, "1", "a.conf:1"),
    "a glob": ({"etc/sysctl.d/a.conf": "vm.swap* = 1"}, "1", "a.conf:1"),
    "a line that names the key wins over a later glob": (
        {"etc/sysctl.d/a.conf": "vm.swappiness = 1\nvm.swap* = 2"},
        "1",
        "a.conf:1",
    ),
    "an exclusion keeps globs off": (
        {"etc/sysctl.d/a.conf": "vm.swap* = 2\n-vm.swappiness\n"},
        "60",
        "kernel default",
    ),
    "an exclusion takes an assignment back": (
        {"etc/sysctl.d/a.conf": "vm.swappiness = 2\n-vm.swappiness\n"},
        "60",
        "kernel default",
    ),
    "a minus with a value is an assignment": ({"etc/sysctl.d/a.conf": "-vm.swappiness = 2"}, "2", "a.conf:1"),
    "a comment after a value is written with it, and the kernel stops reading at the blank": (
        {"etc/sysctl.d/a.conf": "vm.swappiness = 2 # why"},
        "2",
        "a.conf:1",
    ),
    "lines that end in CR LF": ({"etc/sysctl.d/a.conf": "\r\nvm.swappiness = 2\r\n"}, "2", "a.conf:2"),
    "what the kernel refuses is not set": (
        {"etc/sysctl.d/a.conf": "vm.swappiness = ten"},
        "60",
        "kernel default",
    ),
    "hexadecimal is read as the kernel does": ({"etc/sysctl.d/a.conf": "vm.swappiness = 0x10"}, "16", "a.conf:1"),
    "what lies in /run is gone at boot": (
        {"run/sysctl.d/a.conf": f"{SWAPPINESS}=1", "usr/lib/sysctl.d/a.conf": f"{SWAPPINESS}=2"},
        "2",
        "/usr/lib/sysctl.d/a.conf:1",
    ),
    "what leads into /run is gone at boot": (
        {"run/a": f"{SWAPPINESS}=1", "etc/sysctl.d/a.conf": Link("../../run/a")},
        "60",
        "kernel default",
    ),
    "a credential is read last": (
        {
            "etc/credstore/sysctl.extra": f"{SWAPPINESS}=1",
            "etc/sysctl.d/zz.conf": f"{SWAPPINESS}=2",
            "etc/systemd/system/systemd-sysctl.service.d/x.conf": "[Service]\nLoadCredential=sysctl.extra\n",
        },
        "1",
        "/etc/credstore/sysctl.extra:1",
    ),
    "a folder of its own at /lib is read by Debian 12": (
        {"lib": GONE, "lib/sysctl.d/a.conf": f"{SWAPPINESS}=1"},
        "1",
        "/lib/sysctl.d/a.conf:1",
    ),
}


@pytest.mark.parametrize("name", ONE_KEY)
def test_what_decides_a_key(name: str, tmp_path: Path) -> None:
    files, value, where = ONE_KEY[name]
    found = decided(truth(tmp_path, files))
    assert found[0] == value
    assert found[2].startswith(where) or found[2].endswith(f"/{where}")


def test_the_lines_that_lose_are_named_with_their_values(tmp_path: Path) -> None:
    files = {
        "etc/sysctl.d/10-a.conf": "vm.swappiness = 1\nvm.s* = 2\n",
        "usr/lib/sysctl.d/20-b.conf": "-vm/swappiness\n",
        "etc/sysctl.d/30-c.conf": "vm.swappiness = 3\n",
    }
    found = truth(tmp_path, files).keys[SWAPPINESS]
    assert found.where == "/etc/sysctl.d/30-c.conf:1"
    assert found.overridden == (
        "/etc/sysctl.d/10-a.conf:1 = 1",
        "/etc/sysctl.d/10-a.conf:2 = 2",
        "/usr/lib/sysctl.d/20-b.conf:1 = (excluded)",
    )


def test_a_value_that_is_an_address_shows_no_login(tmp_path: Path) -> None:
    line = "vm.swappiness = redis://me:hunter22@h/?password=hunter22\n"
    files = {
        "etc/sysctl.d/a.conf": line,
        "etc/sysctl.d/b.conf": f"{line}vm.swappiness = 10\n",
        "etc/rc.local": "#!/bin/sh\nsysctl -w vm.swappiness=redis://me:hunter22@h\n",
        "etc/sysctl.conf": line,
    }
    for names in (list(files), ["etc/sysctl.d/a.conf"], ["etc/rc.local"]):
        root = tmp_path / str(len(names)) / names[0].replace("/", "-")
        assert "hunter22" in repr(truth(root, {name: files[name] for name in names}))
        done = vdscheck("--root", str(root), "--only", "sysctl.persistence", "--json", "-v")
        assert "hunter22" not in done.stdout + done.stderr
        assert "redis://***@h" in done.stdout


@pytest.mark.parametrize("name", [b"zz-\xff.conf", b"zz-\xe9t\xe9.conf", b"zz-\xed\xa0\x80.conf"])
def test_a_file_whose_name_is_no_text_leaves_open_what_it_decides(tmp_path: Path, name: bytes) -> None:
    shown = name.decode("utf-8", "backslashreplace")
    folder = tmp_path / "etc/sysctl.d"
    # A file that is called as the other one is shown is another file.
    found = truth(tmp_path, {"etc/sysctl.d/a.conf": f"{SWAPPINESS}=1\n", f"etc/sysctl.d/{shown}": f"{SWAPPINESS}=2\n"})
    assert decided(found)[0] == "2"
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text(f"{SWAPPINESS}=3\n")
    found = predict.boot_truth.function(Host(root=str(tmp_path)))
    assert decided(found)[:2] == (None, "unread")
    assert any(f"{shown}: its name is no text" in each for each in found.problems)


def test_ip_forward_and_all_forwarding_are_one_setting_and_the_later_line_wins(tmp_path: Path) -> None:
    files = {"etc/sysctl.d/a.conf": "net.ipv4.ip_forward = 0\nnet.ipv4.conf.all.forwarding = 1\n"}
    found = truth(tmp_path, files).keys["net.ipv4.ip_forward"]
    assert (found.value, found.where) == ("1", "/etc/sysctl.d/a.conf:2")
    assert found.overridden == ("/etc/sysctl.d/a.conf:1 = 0",)


def test_an_older_name_of_the_tracking_table_is_the_same_setting(tmp_path: Path) -> None:
    files = {"etc/sysctl.d/a.conf": "net.nf_conntrack_max = 9\n", "etc/modules-load.d/x.conf": "nf-conntrack\n"}
    found = truth(tmp_path, files).keys["net.netfilter.nf_conntrack_max"]
    assert (found.value, found.needs_module) == ("9", None)


def test_what_two_settings_make_of_each_other_holds_for_either_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ("vm.dirty_bytes", "vm.dirty_ratio")
    monkeypatch.setattr(predict, "KERNEL_KEYS", keys)
    found = truth(tmp_path, {"etc/sysctl.d/a.conf": "vm.dirty_bytes = 4096000\nvm.dirty_ratio = 10\n"})
    assert [found.keys[key].value for key in keys] == ["0", "10"]
    assert found.keys["vm.dirty_bytes"].where == "/etc/sysctl.d/a.conf:2"


def test_procps_is_named_where_it_would_leave_another_value(tmp_path: Path) -> None:
    files = {"etc/sysctl.conf": "vm.swappiness = 1\n", "etc/sysctl.d/99-zz.conf": "vm.swappiness = 2\n"}
    found = truth(tmp_path, files)
    assert (found.keys[SWAPPINESS].value, found.keys[SWAPPINESS].procps_value) == ("2", "1")
    assert found.keys["vm.overcommit_memory"].procps_value is None


def test_a_sysctl_conf_that_nobody_reads_is_said(tmp_path: Path) -> None:
    files: dict[str, Content] = {"etc/sysctl.d/99-sysctl.conf": GONE, "etc/sysctl.conf": "vm.swappiness = 1\n"}
    found = truth(tmp_path, files)
    assert any(said.startswith("/etc/sysctl.conf: nothing reads it at boot") for said in found.problems)


def test_what_the_init_refuses_is_said_with_its_line(tmp_path: Path) -> None:
    files = {"etc/sysctl.d/a.conf": "vm.swappiness = ten\nnonsense\n", "run/sysctl.d/b.conf": "x = 1"}
    found = truth(tmp_path, files)
    assert found.keys[SWAPPINESS].overridden == ("/etc/sysctl.d/a.conf:1 = ten",)
    said = "\n".join(found.problems)
    assert "/etc/sysctl.d/a.conf:1: the kernel refuses 'ten' for vm.swappiness" in said
    assert "/etc/sysctl.d/a.conf:2: not an assignment" in said
    assert "/run/sysctl.d/b.conf: not counted: /run is empty when the machine boots" in said


# What cannot be read


def test_a_file_that_may_say_otherwise_and_cannot_be_read_makes_a_key_unknown(tmp_path: Path) -> None:
    big = b"#" + b"x" * sysctl_d.FILE_LIMIT_BYTES
    files: dict[str, Content] = {
        "etc/sysctl.d/50-a.conf": big,
        "etc/sysctl.d/60-b.conf": "vm.swappiness = 1\nvm.over* = 1\n",
    }
    found = truth(tmp_path, files)
    assert decided(found)[:2] == ("1", "file")
    assert decided(found, "vm.overcommit_memory")[:2] == (None, "unread")
    assert found.keys["vm.overcommit_memory"].overridden == ("/etc/sysctl.d/60-b.conf:2 = 1",)


def test_an_ordinary_user_is_told_which_file_only_root_can_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = host(Path(folder), {"etc/sysctl.d/a.conf": "vm.swappiness = 1"})
        (Path(folder) / "etc/sysctl.d/a.conf").chmod(0)
        found = boot_truth_of_nobody(made)
    assert decided(found)[:2] == (None, "unread")
    assert decided(found)[2] == "/etc/sysctl.d/a.conf cannot be read here, and may set it"


@pytest.mark.parametrize("closed", ["etc/sysctl.d", "etc"])
def test_an_ordinary_user_who_cannot_list_a_folder_knows_nothing_of_what_files_set(closed: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = host(Path(folder), {"etc/sysctl.d/a.conf": "vm.swappiness = 1"})
        (Path(folder) / closed).chmod(0o700)
        found = boot_truth_of_nobody(made)
    assert {each.origin for each in found.keys.values()} <= {"unread", "unknown"}


def boot_truth_of_nobody(made: Host) -> BootTruth:
    """Root reads everything, so the question is asked by a user who may not."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        found = predict.boot_truth.function(made)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
    assert isinstance(found, BootTruth)
    return found


# Every key, whatever is there


def test_every_key_has_an_answer_on_this_host_and_on_an_empty_one(tmp_path: Path) -> None:
    for found in (predict.boot_truth.function(Host()), truth(tmp_path, base={})):
        assert tuple(found.keys) == KERNEL_KEYS
        for key, each in found.keys.items():
            assert (each.value is None) == (each.origin in {"unread", "unknown"}), key
            assert each.where, key
    assert found.init == "none"


HOSTILE: dict[str, Mapping[str, Content]] = {
    "links in a circle": {"etc/sysctl.d/a.conf": Link("b.conf"), "etc/sysctl.d/b.conf": Link("a.conf")},
    "a folder that is a link to itself": {"etc/sysctl.d/x": "", "usr/local/lib/sysctl.d": Link("sysctl.d")},
    "a file where a folder should be": {"usr/local/lib/sysctl.d": "vm.swappiness = 1"},
    "a link out of the root": {"etc/sysctl.d/a.conf": Link("../../../../../../../../etc/passwd")},
    "zero bytes": {"etc/sysctl.d/a.conf": b"\0" * 100_000},
    "a line of 2 MiB": {"etc/sysctl.d/a.conf": b"x" * (2 << 20)},
    "a million lines": {"etc/sysctl.d/a.conf": b"\n" * 1_000_000},
    "a glob of a thousand stars": {"etc/sysctl.d/a.conf": "vm." + "*a" * 1000 + " = 1"},
    "braces in braces": {"etc/sysctl.d/a.conf": "vm.*" + "{a,b}" * 200 + " = 1"},
    "a grub.cfg of rubbish": {"boot/grub/grub.cfg": os.urandom(1000)},
    "a unit of rubbish": {"etc/systemd/system/a.service": os.urandom(1000)},
    "a modules-load.d of rubbish": {"etc/modules-load.d/a.conf": os.urandom(1000)},
    "the command line is huge": {"proc/cmdline": "sysctl.vm.swappiness=1 " * 100_000},
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tree_is_survived(name: str, tmp_path: Path) -> None:
    assert truth(tmp_path, HOSTILE[name]).init == "systemd-sysctl"


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_in_sysctl_d(kind: str, tmp_path: Path) -> None:
    """A FIFO blocks systemd-sysctl until it is ended, before it has applied anything; a folder only fails."""
    made = host(tmp_path, {"etc/sysctl.d/a.conf": "vm.swappiness = 1"})
    path = tmp_path / "etc/sysctl.d/b.conf"
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    found = predict.boot_truth.function(made)
    assert decided(found)[0] == ("60" if kind == "fifo" else "1")
    assert any("/etc/sysctl.d/b.conf" in said for said in found.problems)


FSTAB = "UUID=1 / ext4 defaults 0 1\n/dev/vdb1 /data ext4 defaults,nofail 0 2\nUUID=2 none swap sw 0 0\n{more}\n"
LATE_MOUNTS: dict[str, tuple[Mapping[str, Content], str | None]] = {
    "a link to another file system": (
        {"etc/sysctl.d/95-x.conf": Link("/data/x.conf"), "data/x.conf": "vm.swappiness=1\n"},
        None,
    ),
    "a link to one in memory": (
        {
            "etc/sysctl.d/95-x.conf": Link("/a b/x.conf"),
            "a b/x.conf": "vm.swappiness=1\n",
            "etc/fstab": FSTAB.format(more="tmpfs /a\\040b tmpfs defaults 0 0"),
        },
        None,
    ),
    "a folder of its own": (
        {"usr/local/lib/sysctl.d/x.conf": "vm.swappiness=1\n", "etc/fstab": FSTAB.format(more="/dev/vdc /usr/local x")},
        None,
    ),
    "one that the initramfs mounts": (
        {
            "usr/lib/sysctl.d/x.conf": "vm.swappiness=1\n",
            "etc/fstab": FSTAB.format(more="/dev/vdc /usr x\n/dev/vdd /usr/lib x x-initrd.mount,ro"),
        },
        "1",
    ),
    "a link beside it": ({"etc/sysctl.d/95-x.conf": Link("/data2/x"), "data2/x": "vm.swappiness=1\n"}, "1"),
    "a line that comes after it": (
        {
            "etc/sysctl.d/95-x.conf": Link("/data/x.conf"),
            "data/x.conf": "vm.swappiness=2\n",
            "etc/sysctl.d/96-y.conf": "vm.swappiness=1\n",
        },
        "1",
    ),
}


@pytest.mark.parametrize("case", LATE_MOUNTS)
def test_what_may_not_be_mounted_yet_is_not_known(case: str, tmp_path: Path) -> None:
    files, value = LATE_MOUNTS[case]
    found = truth(tmp_path, {"etc/fstab": FSTAB.format(more=""), **files})
    assert decided(found)[:2] == (value, "unread" if value is None else "file")
    assert value == "1" or any("may not be mounted yet when it is read" in said for said in found.problems)
