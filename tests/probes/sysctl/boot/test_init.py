"""What the kernel settings will be after the next boot: the init, the command line, modules, and defaults."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.boot_hosts import DEBIAN_12, GONE, SWAPPINESS, Content, Link, decided, truth
from vdscheck.probes.sysctl.boot import defaults
from vdscheck.target.host import Host

# The init


INITS: dict[str, tuple[Mapping[str, Content], str, str | None]] = {
    "systemd": ({}, "systemd-sysctl", None),
    "masked by hand": ({"etc/systemd/system/systemd-sysctl.service": Link("/dev/null")}, "none", "is masked"),
    "masked by an empty file": ({"etc/systemd/system/systemd-sysctl.service": ""}, "none", "is masked"),
    "its wish taken back": (
        {"etc/systemd/system/sysinit.target.wants/systemd-sysctl.service": Link("/dev/null")},
        "none",
        "is disabled",
    ),
    "not wanted": (
        {"usr/lib/systemd/system/sysinit.target.wants/systemd-sysctl.service": GONE},
        "none",
        "is not wanted by sysinit.target",
    ),
    "masked on the command line": (
        {"proc/cmdline": "quiet systemd.mask=systemd-sysctl.service"},
        "none",
        "is masked (kernel command line)",
    ),
    "sysvinit": ({"sbin/init": "#!"}, "procps", None),
    "sysvinit without the script's link": ({"sbin/init": "#!", "etc/rcS.d/S01procps": GONE}, "none", "is not enabled"),
    "another init on the command line": ({"proc/cmdline": "init=/bin/sh", "bin/sh": ""}, "procps", None),
    "no init": ({"sbin/init": GONE}, "systemd-sysctl", "there is no /sbin/init"),
    "nothing": (
        {"usr/lib/systemd/systemd-sysctl": GONE, "etc/init.d/procps": GONE},
        "none",
        "neither systemd-sysctl nor procps",
    ),
    "its command taken away": (
        {"etc/systemd/system/systemd-sysctl.service.d/x.conf": "[Service]\nExecStart="},
        "none",
        "x.conf: systemd-sysctl.service runs nothing",
    ),
    "another unit in its place": (
        {"etc/systemd/system/systemd-sysctl.service": "[Service]\nExecStart=/bin/true\n"},
        "none",
        "/etc/systemd/system/systemd-sysctl.service: systemd-sysctl.service runs /bin/true",
    ),
    "no such unit": (
        {"usr/lib/systemd/system/systemd-sysctl.service": GONE},
        "none",
        "there is no systemd-sysctl.service",
    ),
}


@pytest.mark.parametrize("name", INITS)
def test_which_init_applies_the_files(name: str, tmp_path: Path) -> None:
    files, init, said = INITS[name]
    found = truth(tmp_path, {"etc/sysctl.d/a.conf": "vm.swappiness = 1\n", **files})
    assert found.init == init
    assert said is None or said in " ".join(found.problems)
    value = decided(found)[0]
    assert value == ("60" if init == "none" else "1")
    if init == "none":
        assert found.keys[SWAPPINESS].overridden == ("/etc/sysctl.d/a.conf:1 = 1",)
        assert (
            "applied at boot" in found.problems[0] or "applies" in found.problems[0] or "enabled" in found.problems[0]
        )


def test_where_procps_is_the_init_sysctl_conf_is_read_last(tmp_path: Path) -> None:
    files = {
        "sbin/init": "#!",
        "etc/sysctl.d/99-sysctl.conf": GONE,
        "etc/sysctl.conf": "vm.swappiness = 1\n",
        "etc/sysctl.d/zz.conf": "vm.swappiness = 2\n",
    }
    assert decided(truth(tmp_path, files)) == ("1", "file", "/etc/sysctl.conf:1")


@pytest.mark.parametrize(
    ("library", "debian", "file_max", "nr_open"),
    [
        (239, "8", None, "1048576"),
        (252, "12", "9223372036854775807", "1048576"),
        (257, "13", "9223372036854775807", "1073741816"),
        (252, None, "9223372036854775807", "1073741816"),
        (258, "14", "9223372036854775807", None),
    ],
)
def test_what_pid_1_raises_by_its_version(
    library: int, debian: str | None, file_max: str | None, nr_open: str | None, tmp_path: Path
) -> None:
    files: dict[str, Content] = {
        "usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so": GONE,
        f"usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-{library}.so": "",
        "etc/debian_version": debian,
    }
    found = truth(tmp_path, files)
    assert (found.keys["fs.file-max"].value, found.keys["fs.nr_open"].value) == (file_max, nr_open)


def test_a_file_wins_over_what_pid_1_raises(tmp_path: Path) -> None:
    found = truth(tmp_path, {"etc/sysctl.d/a.conf": "fs.file-max = 100000\n"})
    assert decided(found, "fs.file-max") == ("100000", "file", "/etc/sysctl.d/a.conf:1")
    assert found.keys["fs.file-max"].overridden[0].startswith("raised by PID 1")


# The kernel command line


def test_the_command_line_sets_what_no_file_sets(tmp_path: Path) -> None:
    line = 'quiet sysctl.vm.swappiness=7 sysctl/vm/overcommit_memory=1 "sysctl.net.ipv4.ip_local_port_range=2000 3000"'
    found = truth(tmp_path, {"proc/cmdline": f"{line} -- sysctl.fs.nr_open=1\n", "etc/sysctl.d/a.conf": "vm.o*y = 2"})
    assert decided(found) == ("7", "kernel-command-line", "kernel command line")
    assert decided(found, "vm.overcommit_memory") == ("2", "file", "/etc/sysctl.d/a.conf:1")
    assert found.keys["vm.overcommit_memory"].overridden == ("kernel command line = 1",)
    assert decided(found, "net.ipv4.ip_local_port_range")[0] == "2000 3000"
    assert decided(found, "fs.nr_open")[0] == "1048576"


def test_a_kernel_before_5_8_does_not_read_settings_from_its_command_line(tmp_path: Path) -> None:
    files = {"proc/cmdline": "sysctl.vm.swappiness=7", "proc/sys/kernel/osrelease": "5.4.0-1\n"}
    assert decided(truth(tmp_path, files))[0] == "60"


GRUB = "menuentry 'a' {\n\tlinux\t/vmlinuz-6 root=x %s\n}\nmenuentry 'b' {\n\tlinux /vmlinuz-5 root=x %s\n}\n"


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ("sysctl.vm.swappiness=7", "sysctl.vm.swappiness=7", "7"),
        ("sysctl.vm.swappiness=7", "sysctl.vm.swappiness=7 single", "7"),
        ("sysctl.vm.swappiness=7", "single", "7"),
        ("sysctl.vm.swappiness=7", "quiet", None),
        ("sysctl.vm.swappiness=7", "sysctl.vm.swappiness=8", None),
        ("sysctl.vm.overcommit_memory=2", "quiet", "60"),
    ],
)
def test_in_an_image_the_boot_loader_speaks_where_its_entries_agree(
    first: str, second: str, value: str | None, tmp_path: Path
) -> None:
    found = truth(tmp_path, {"boot/grub/grub.cfg": GRUB % (first, second)})
    assert decided(found)[0] == value
    assert any("do not agree on is not known" in said for said in found.problems) == (value != "7")


@pytest.mark.parametrize(
    ("running", "configured", "value"),
    [
        ("sysctl.vm.swappiness=7 quiet", "ro sysctl.vm.swappiness=7", "7"),
        ("sysctl.vm.swappiness=7", "sysctl.vm.swappiness=7\nlinux16 /memtest86+.bin console=ttyS0", "7"),
        ("sysctl.vm.swappiness=7", "$kernelopts", "7"),
        ("sysctl.vm.swappiness=7", "ro", None),
        ("quiet", "ro sysctl.vm.swappiness=7", None),
        ("sysctl.vm.swappiness=7", "sysctl.vm.swappiness=8", None),
        ("sysctl.vm.overcommit_memory=2", "quiet", "60"),
    ],
)
def test_what_the_running_command_line_and_the_boot_loader_s_do_not_both_say_is_not_known(
    running: str, configured: str, value: str | None, tmp_path: Path
) -> None:
    files: dict[str, Content] = {
        "proc/cmdline": f"{running}\n",
        "boot/grub/grub.cfg": f"linux /vmlinuz root=x {configured}\n",
    }
    found = truth(tmp_path / "a", files)
    assert decided(found)[0] == value
    if value is None:
        assert decided(found)[1:] == (
            "unread",
            "kernel command line and kernel command line (/boot/grub/grub.cfg) differ",
        )
    files["etc/sysctl.d/a.conf"] = "vm.swappiness = 1\n"
    assert decided(truth(tmp_path / "b", files))[0] == "1"


@pytest.mark.parametrize("unit", ["systemd-sysctl.service", "systemd-tmpfiles-setup.service"])
def test_a_mask_that_is_on_one_command_line_alone_is_not_known(unit: str, tmp_path: Path) -> None:
    found = truth(
        tmp_path,
        {
            "proc/cmdline": f"systemd.mask={unit}\n",
            "boot/grub/grub.cfg": "linux /vmlinuz root=x\n",
            "etc/sysctl.d/a.conf": "vm.swappiness = 1\n",
        },
    )
    assert decided(found)[0] == (None if "sysctl" in unit else "1")


def test_an_entry_of_the_boot_loader_specification_is_read(tmp_path: Path) -> None:
    files = {
        "boot/grub/grub.cfg": GONE,
        "boot/loader/entries/a.conf": "title x\noptions root=x sysctl.vm.swappiness=7\n",
    }
    assert decided(truth(tmp_path, files)) == (
        "7",
        "kernel-command-line",
        "kernel command line (/boot/loader/entries/a.conf)",
    )


def test_an_image_without_a_boot_loader_says_that_its_command_line_is_not_known(tmp_path: Path) -> None:
    found = truth(
        tmp_path, {"boot/grub/grub.cfg": GONE, "etc/default/grub": 'GRUB_CMDLINE_LINUX="sysctl.vm.swappiness=7"'}
    )
    assert decided(found)[0] == "60"
    assert any("the kernel command line is not known" in said for said in found.problems)


# Keys of modules

CONNTRACK = "net.netfilter.nf_conntrack_max"
SETS_CONNTRACK = {"etc/sysctl.d/a.conf": f"{CONNTRACK} = 9\n"}
INDEX = "kernel/net/nf_nat.ko.xz: kernel/net/nf_conntrack.ko.xz kernel/lib/libcrc32c.ko.xz\n"
EARLY: dict[str, Mapping[str, Content]] = {
    "modules-load.d": {"etc/modules-load.d/a.conf": "# x\n\nnf_conntrack\n"},
    "modules-load.d, with a dash": {"usr/lib/modules-load.d/a.conf": "nf-conntrack"},
    "/etc/modules": {"etc/modules": "nf_conntrack hashsize=4\n"},
    "built in": {"usr/lib/modules/6.1.0-40-amd64/modules.builtin": "kernel/net/netfilter/nf_conntrack.ko\n"},
    "the command line": {"proc/cmdline": "modules-load=dummy,nf_conntrack\n"},
    "a module that needs it": {
        "etc/modules-load.d/a.conf": "nf_nat\n",
        "usr/lib/modules/6.1.0-40-amd64/modules.dep": INDEX,
    },
}
LATE: dict[str, Mapping[str, Content]] = {
    "nothing loads it": {},
    "masked": {"etc/modules-load.d/a.conf": Link("/dev/null"), "usr/lib/modules-load.d/a.conf": "nf_conntrack"},
    "commented out": {"etc/modules-load.d/a.conf": "#nf_conntrack\n;nf_conntrack\n"},
    "only in /run": {"run/modules-load.d/a.conf": "nf_conntrack"},
    "another module": {"etc/modules": "nf_conntrack_ftp_not\n"},
}


@pytest.mark.parametrize("name", EARLY)
def test_a_key_of_a_module_that_is_loaded_early_is_set(name: str, tmp_path: Path) -> None:
    found = truth(tmp_path, {**SETS_CONNTRACK, **EARLY[name]}).keys[CONNTRACK]
    assert (found.value, found.origin, found.where, found.needs_module) == ("9", "file", "/etc/sysctl.d/a.conf:1", None)


@pytest.mark.parametrize("name", LATE)
def test_a_key_of_a_module_that_is_loaded_later_is_not_set(name: str, tmp_path: Path) -> None:
    found = truth(tmp_path, {**SETS_CONNTRACK, **LATE[name]}).keys[CONNTRACK]
    assert (found.value, found.origin, found.needs_module) == (None, "unknown", "nf_conntrack")
    assert found.overridden == ("/etc/sysctl.d/a.conf:1 = 9",)


# Keys that nobody sets


@pytest.mark.parametrize(
    ("release", "key", "value"),
    [
        ("6.1.0-40-amd64", "net.core.somaxconn", "4096"),
        ("5.4.0-1", "net.core.somaxconn", "4096"),
        ("5.3.18", "net.core.somaxconn", "128"),
        ("4.19.0-21-amd64", "net.ipv4.tcp_tw_reuse", "2"),
        ("4.18.0", "net.ipv4.tcp_tw_reuse", None),
        ("4.9.0", "net.ipv4.tcp_tw_reuse", "0"),
        ("4.18.0-553.el8_10.x86_64", "net.core.somaxconn", None),
        ("4.18.0-553.el8_10.x86_64", "vm.swappiness", "60"),
        ("6.1.0", "fs.inotify.max_user_watches", None),
        ("5.10.0", "fs.inotify.max_user_watches", "8192"),
        ("6.1.0", "net.ipv4.tcp_max_syn_backlog", None),
        ("6.1.0", "net.ipv4.ip_local_port_range", "32768 60999"),
        ("6.1.0", "net.ipv4.ip_local_reserved_ports", ""),
        ("gibberish", "net.core.somaxconn", None),
    ],
)
def test_defaults_by_the_version_of_the_kernel(release: str, key: str, value: str | None, tmp_path: Path) -> None:
    found = truth(tmp_path, {"proc/sys/kernel/osrelease": f"{release}\n"}).keys[key]
    assert found.value == value
    assert found.origin == ("unknown" if value is None else "default")
    assert value is None or found.where.startswith("kernel default (")


def test_an_image_boots_the_newest_of_its_kernels(tmp_path: Path) -> None:
    files = {"usr/lib/modules/4.9.0-9-amd64/x": "", "usr/lib/modules/4.19.0-9-amd64/x": "", "boot/vmlinuz-4.9.0-8": ""}
    base = {name: content for name, content in DEBIAN_12.items() if "/modules/" not in name}
    assert decided(truth(tmp_path, files, base=base), "net.ipv4.tcp_tw_reuse")[0] == "2"


def test_a_captured_fresh_network_namespace_speaks_for_its_keys_alone(tmp_path: Path) -> None:
    fact = '{"net.core.somaxconn": "999", "vm.swappiness": "1", "net.ipv4.ip_forward": "1", "net.ipv4.tcp_tw_reuse": 5}'
    found = truth(tmp_path, {".vdscheck/facts/fresh-netns.json": fact})
    assert decided(found, "net.core.somaxconn")[0] == "999"
    assert decided(found)[0] == "60"
    assert decided(found, "net.ipv4.ip_forward")[0] == "0"
    assert decided(found, "net.ipv4.tcp_tw_reuse")[0] == "2"


@pytest.mark.parametrize("fact", ["[]", "1", "null", '"x"', "{", '{"net.core.somaxconn": [1]}'])
def test_a_captured_fact_of_another_shape_is_passed_over(fact: str, tmp_path: Path) -> None:
    found = truth(tmp_path, {".vdscheck/facts/fresh-netns.json": fact})
    assert decided(found, "net.core.somaxconn")[0] == "4096"


def test_a_fresh_network_namespace_of_this_kernel_shows_its_defaults() -> None:
    found = defaults.booting_kernel(Host())
    assert found.fresh["net.ipv4.tcp_timestamps"] == "1"
    assert set(found.fresh) <= set(defaults.SAME_IN_A_NEW_NAMESPACE)
    for key, value in found.fresh.items():
        sourced = defaults.Kernel(found.release, {}).default(key)
        assert sourced is None or sourced[0] == value, key
