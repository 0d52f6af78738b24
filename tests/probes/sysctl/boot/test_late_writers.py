"""What else sets kernel settings after the init: found on disk, with what it sets and whether it will run."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.boot_hosts import GONE, Content, Link, truth
from vdscheck.measurements import KERNEL_KEYS, LateWriter
from vdscheck.probes.sysctl.boot.shell import settings_of, udev_settings

FORWARD, OVERCOMMIT, SWAPPINESS = "net.ipv4.ip_forward", "vm.overcommit_memory", "vm.swappiness"


def found(root: Path, files: Mapping[str, Content]) -> list[LateWriter]:
    return list(truth(root, files).late_writers)


def unit(command: str, name: str = "tune.service", *, wanted: bool = True) -> dict[str, Content]:
    return {
        f"etc/systemd/system/{name}": f"[Service]\nExecStart={command}\n",
        f"etc/systemd/system/multi-user.target.wants/{name}": Link(f"../{name}") if wanted else GONE,
    }


def wanted(name: str) -> dict[str, Content]:
    """An installed unit that is enabled."""
    return {
        f"usr/lib/systemd/system/{name}": "[Service]\nExecStart=/usr/bin/x\n",
        f"etc/systemd/system/multi-user.target.wants/{name}": Link(f"/lib/systemd/system/{name}"),
    }


def executable(root: Path, files: Mapping[str, Content], *paths: str) -> list[LateWriter]:
    from tests.support.boot_hosts import host
    from vdscheck.probes.sysctl.boot.predict import boot_truth

    made = host(root, files)
    for path in paths:
        (root / path).chmod(0o755)
    return list(boot_truth.function(made).late_writers)


TUNED = {
    **wanted("tuned.service"),
    "etc/tuned/active_profile": "mine\n",
    "etc/tuned/mine/tuned.conf": "[main]\ninclude=latency\n[sysctl]\nvm.swappiness=7\nnet.core.somaxconn=>2048\n",
    "usr/lib/tuned/latency/tuned.conf": "[main]\nsummary=x\n[sysctl]\nvm.swappiness = 1\nvm.overcommit_memory=1 # x\n",
}
USER_DATA = """\
#cloud-config
bootcmd:
  - [ sysctl, -w, vm.swappiness=5 ]
  - "sysctl -w net.ipv4.ip_forward=1"
runcmd:
  - sysctl -w vm.overcommit_memory=2
"""

TMPFILES: Mapping[str, Content] = {
    "usr/bin/systemd-tmpfiles": "",
    "usr/lib/systemd/system/systemd-tmpfiles-setup.service": (
        "[Service]\nExecStart=systemd-tmpfiles --create --remove --boot --exclude-prefix=/dev\n"
    ),
    "usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service": Link(
        "../systemd-tmpfiles-setup.service"
    ),
}


def tmpfiles(**lines: str) -> dict[str, Content]:
    """Files of tmpfiles.d with lines about a kernel setting, and what applies them."""
    return {**TMPFILES, **{f"etc/tmpfiles.d/{name}.conf": f"{line}\n" for name, line in lines.items()}}


WRITERS: dict[str, tuple[Mapping[str, Content], list[tuple[str, str, dict[str, str | None], bool]]]] = {
    "nothing": ({}, []),
    "tuned: what is included comes first, and files of /etc/sysctl.d win": (
        TUNED | {"etc/sysctl.d/a.conf": "net.ipv4.ip_forward=1\n"},
        [
            (
                "tuned",
                "/etc/tuned/mine/tuned.conf",
                {SWAPPINESS: "7", OVERCOMMIT: "1", "net.core.somaxconn": None},
                True,
            )
        ],
    ),
    "tuned gives way to /etc/sysctl.d": (
        TUNED | {"etc/sysctl.d/a.conf": "vm.swappiness=60\n", "etc/sysctl.conf": "net/core/somaxconn=1"},
        [("tuned", "/etc/tuned/mine/tuned.conf", {OVERCOMMIT: "1"}, True)],
    ),
    "tuned does not give way where it is told not to": (
        TUNED | {"etc/sysctl.d/a.conf": "vm.swappiness=60\n", "etc/tuned/tuned-main.conf": "reapply_sysctl = 0\n"},
        [
            (
                "tuned",
                "/etc/tuned/mine/tuned.conf",
                {SWAPPINESS: "7", OVERCOMMIT: "1", "net.core.somaxconn": None},
                True,
            )
        ],
    ),
    "tuned that is not enabled": (
        TUNED
        | {"etc/systemd/system/multi-user.target.wants/tuned.service": GONE, "etc/tuned/mine/tuned.conf": "[sysctl]\n"},
        [("tuned", "/etc/tuned/mine/tuned.conf", {}, False)],
    ),
    "docker": (
        wanted("docker.service"),
        [("docker", "/usr/lib/systemd/system/docker.service", {FORWARD: "1"}, True)],
    ),
    "docker by its socket": (
        wanted("docker.socket") | {"usr/lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd\n"},
        [("docker", "/usr/lib/systemd/system/docker.service", {FORWARD: "1"}, True)],
    ),
    "docker that is masked": (
        wanted("docker.service") | {"etc/systemd/system/docker.service": Link("/dev/null")},
        [("docker", "/etc/systemd/system/docker.service", {FORWARD: "1"}, False)],
    ),
    "docker that is told not to": (wanted("docker.service") | {"etc/docker/daemon.json": '{"ip-forward": false}'}, []),
    "kubelet": (
        wanted("kubelet.service"),
        [("kubelet", "/usr/lib/systemd/system/kubelet.service", {OVERCOMMIT: "1"}, True)],
    ),
    "kubelet that leaves the kernel alone": (
        wanted("kubelet.service") | {"var/lib/kubelet/config.yaml": "kind: x\nprotectKernelDefaults: true\n"},
        [],
    ),
    "k3s": (
        wanted("k3s.service"),
        [
            (
                "k3s",
                "/usr/lib/systemd/system/k3s.service",
                {FORWARD: "1", OVERCOMMIT: "1", "net.netfilter.nf_conntrack_max": None},
                True,
            )
        ],
    ),
    "k3s that leaves overcommitment alone": (
        wanted("k3s.service") | {"etc/rancher/k3s/config.yaml": "protect-kernel-defaults: true\n"},
        [
            (
                "k3s",
                "/usr/lib/systemd/system/k3s.service",
                {FORWARD: "1", "net.netfilter.nf_conntrack_max": None},
                True,
            )
        ],
    ),
    "CNI: a bridge, where something runs it": (
        wanted("containerd.service")
        | {"etc/cni/net.d/10-x.conflist": '{"plugins":[{"type": "bridge", "isGateway": true},{"type":"tuning"}]}'},
        [("CNI plugin bridge+tuning", "/etc/cni/net.d/10-x.conflist", {FORWARD: "1"}, True)],
    ),
    "CNI: a bridge that is no gateway": (
        {"etc/cni/net.d/10-x.conf": '{"type": "bridge", "isGateway": false}'},
        [("CNI plugin bridge", "/etc/cni/net.d/10-x.conf", {}, False)],
    ),
    "CNI: one that does not say, and nothing that runs it": (
        {"etc/cni/net.d/05-cilium.conf": '{"type": "cilium-cni"}'},
        [("CNI plugin cilium-cni", "/etc/cni/net.d/05-cilium.conf", {}, False)],
    ),
    "cloud-init: at every boot, and once": (
        wanted("cloud-init.service")
        | {"etc/cloud/cloud.cfg": "users: x\n", "var/lib/cloud/instance/user-data.txt": USER_DATA},
        [
            (
                "cloud-init (bootcmd)",
                "/var/lib/cloud/instance/user-data.txt",
                {SWAPPINESS: "5", FORWARD: "1"},
                True,
            ),
            ("cloud-init (runcmd)", "/var/lib/cloud/instance/user-data.txt", {OVERCOMMIT: "2"}, False),
        ],
    ),
    "cloud-init that is off": (
        wanted("cloud-init.service") | {"etc/cloud/cloud-init.disabled": "", "etc/cloud/cloud.cfg": USER_DATA},
        [
            ("cloud-init (bootcmd)", "/etc/cloud/cloud.cfg", {SWAPPINESS: "5", FORWARD: "1"}, False),
            ("cloud-init (runcmd)", "/etc/cloud/cloud.cfg", {OVERCOMMIT: "2"}, False),
        ],
    ),
    "ufw": (
        wanted("ufw.service")
        | {
            "etc/default/ufw": "IPT_SYSCTL=/etc/ufw/sysctl.conf\n",
            "etc/ufw/ufw.conf": "ENABLED=yes\n",
            "etc/ufw/sysctl.conf": "#net/ipv4/ip_forward=1\nnet/ipv4/conf/all/rp_filter=1\n",
        },
        [("ufw", "/etc/ufw/sysctl.conf", {"net.ipv4.conf.all.rp_filter": "1"}, True)],
    ),
    "ufw that is not on": (
        {"etc/default/ufw": "IPT_SYSCTL=/etc/ufw/sysctl.conf\n", "etc/ufw/sysctl.conf": "net/ipv4/ip_forward=1\n"},
        [],
    ),
    "networkd": (
        wanted("systemd-networkd.service") | {"etc/systemd/network/a.network": "[Network]\nIPForward=ipv4\n"},
        [("systemd-networkd", "/etc/systemd/network/a.network", {FORWARD: "1"}, True)],
    ),
    "a unit": (
        unit("/sbin/sysctl -w vm.swappiness=3"),
        [("tune.service", "/etc/systemd/system/tune.service", {SWAPPINESS: "3"}, True)],
    ),
    "a unit that is not enabled": (
        unit("/sbin/sysctl -w vm.swappiness=3", wanted=False),
        [("tune.service", "/etc/systemd/system/tune.service", {SWAPPINESS: "3"}, False)],
    ),
    "a unit with a timer": (
        unit("/sbin/sysctl -w vm.swappiness=3", wanted=False)
        | {
            "etc/systemd/system/tune.timer": "[Timer]\n",
            "etc/systemd/system/timers.target.wants/tune.timer": Link("../tune.timer"),
        },
        [("tune.service", "/etc/systemd/system/tune.service", {SWAPPINESS: "3"}, True)],
    ),
    "an instance of a template": (
        {
            "etc/systemd/system/tune@.service": "[Service]\nExecStart=/sbin/sysctl -w vm.swappiness=3\n",
            "etc/systemd/system/multi-user.target.wants/tune@a.service": Link("../tune@.service"),
        },
        [
            ("tune@.service", "/etc/systemd/system/tune@.service", {SWAPPINESS: "3"}, False),
            ("tune@a.service", "/etc/systemd/system/tune@.service", {SWAPPINESS: "3"}, True),
        ],
    ),
    "a unit that runs a script": (
        unit("-/usr/local/sbin/tune --all") | {"usr/local/sbin/tune": "#!/bin/sh\nsysctl -q vm.swappiness=3\n"},
        [("tune.service", "/etc/systemd/system/tune.service", {SWAPPINESS: "3"}, True)],
    ),
    "a unit that runs a program": (
        unit("/usr/local/bin/x") | {"usr/local/bin/x": b"\x7fELF\0 sysctl -w $x \0 sysctl -w vm.swappiness=1 \0"},
        [],
    ),
    "a drop-in takes the command back": (
        unit("/sbin/sysctl -w vm.swappiness=3")
        | {"etc/systemd/system/tune.service.d/x.conf": "[Service]\nExecStart=\nExecStart=/bin/true\n"},
        [],
    ),
    "a unit that applies all files again": (
        unit("/sbin/sysctl --system")
        | {"etc/sysctl.d/a.conf": "vm.swappiness=3\n", "etc/sysctl.conf": "net.netfilter.nf_conntrack_max = 9"},
        [
            (
                "tune.service",
                "/etc/systemd/system/tune.service",
                {SWAPPINESS: "3", "net.netfilter.nf_conntrack_max": "9"},
                True,
            )
        ],
    ),
    "a unit that applies one file": (
        unit("/sbin/sysctl -p /etc/tune") | {"etc/tune": "vm.swappiness=3\nnet.ipv4.conf.all.forwarding=1\n"},
        [("tune.service", "/etc/systemd/system/tune.service", {SWAPPINESS: "3", FORWARD: "1"}, True)],
    ),
    "a unit that only reads": (unit("/sbin/sysctl vm.swappiness"), []),
    "a unit whose values cannot be read": (
        unit("/bin/sh -c 'sysctl -w vm.swappiness=$(cat /x)'"),
        [("tune.service", "/etc/systemd/system/tune.service", {SWAPPINESS: None}, True)],
    ),
    "a unit that hides what it sets": (
        unit("/bin/sh -c 'for x in a b; do sysctl -w $x; done'"),
        [("tune.service", "/etc/systemd/system/tune.service", {}, True)],
    ),
    "an interface, by ifupdown": (
        {
            "usr/sbin/ifup": "",
            "etc/network/interfaces": "iface a inet dhcp\n up sysctl -w net.ipv4.ip_forward=1\n  # up sysctl x.y=1\n",
        },
        [("network interfaces", "/etc/network/interfaces", {FORWARD: "1"}, True)],
    ),
    "an interface, without ifupdown": (
        {"etc/network/interfaces.d/a": "up echo 1 > /proc/sys/net/ipv4/ip_forward\n"},
        [("network interfaces", "/etc/network/interfaces.d/a", {FORWARD: "1"}, False)],
    ),
    "a udev rule": (
        {"etc/udev/rules.d/70-x.rules": 'SYSCTL{net/ipv4/ip_forward}="1", RUN+="/sbin/sysctl -w vm.swappiness=2"\n'},
        [("udev rule", "/etc/udev/rules.d/70-x.rules", {FORWARD: "1", SWAPPINESS: "2"}, True)],
    ),
    "systemd's own udev rule sets nothing that is judged": (
        {"usr/lib/udev/rules.d/99-systemd.rules": 'RUN+="/lib/systemd/systemd-sysctl --prefix=/net/ipv4/conf/$name"\n'},
        [],
    ),
    "a udev rule that applies the files when a module comes": (
        {
            "etc/udev/rules.d/70-x.rules": 'RUN+="/lib/systemd/systemd-sysctl --prefix=/net/netfilter"\n',
            "etc/sysctl.d/a.conf": "net.netfilter.nf_conntrack_max = 9\nvm.swappiness = 3\n",
        },
        [("udev rule", "/etc/udev/rules.d/70-x.rules", {"net.netfilter.nf_conntrack_max": "9"}, True)],
    ),
    "modprobe": (
        {"etc/modprobe.d/a.conf": "install nf_conntrack /sbin/modprobe -i nf_conntrack; sysctl -w vm.swappiness=3\n"},
        [("modprobe", "/etc/modprobe.d/a.conf", {SWAPPINESS: "3"}, True)],
    ),
    "systemd-tmpfiles": (
        tmpfiles(a="w /proc/sys/vm/swappiness - - - - 3"),
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {SWAPPINESS: "3"}, True)],
    ),
    "systemd-tmpfiles: the first of two lines for one path": (
        tmpfiles(a="w /proc/sys/vm/swappiness - - - - 3", b="w /proc/sys/vm/swappiness - - - - 4"),
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {SWAPPINESS: "3"}, True)],
    ),
    "systemd-tmpfiles: a pattern": (
        tmpfiles(a="w /proc/sys/vm/swappines? - - - - 3"),
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {SWAPPINESS: "3"}, True)],
    ),
    "systemd-tmpfiles: F writes as well, and after it a line that writes": (
        tmpfiles(a="F /proc/sys/vm/overcommit_memory - - - - 2", b="w /proc/sys/vm/swappiness - - - - 3"),
        [
            ("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {OVERCOMMIT: "2"}, True),
            ("systemd-tmpfiles", "/etc/tmpfiles.d/b.conf", {SWAPPINESS: "3"}, True),
        ],
    ),
    "systemd-tmpfiles: an appended value, and one that is worked out at boot": (
        tmpfiles(a="w+ /proc/sys/vm/swappiness - - - - 3", b="w /proc/sys/vm/overcommit_memory - - - - %b"),
        [
            ("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {SWAPPINESS: None}, True),
            ("systemd-tmpfiles", "/etc/tmpfiles.d/b.conf", {OVERCOMMIT: None}, True),
        ],
    ),
    "systemd-tmpfiles: two names of one setting": (
        tmpfiles(a="w /proc/sys/net/ipv4/ip_forward - - - - 0\nw /proc/sys/net/ipv4/conf/all/forwarding - - - - 1"),
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {FORWARD: None}, True)],
    ),
    "systemd-tmpfiles that is masked": (
        tmpfiles(a="w /proc/sys/vm/swappiness - - - - 3")
        | {"etc/systemd/system/systemd-tmpfiles-setup.service": Link("/dev/null")},
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {SWAPPINESS: "3"}, False)],
    ),
    "systemd-tmpfiles of which it is not known whether it runs": (
        tmpfiles(a="w /proc/sys/vm/swappiness - - - - 3")
        | {"etc/systemd/system/systemd-tmpfiles-setup.service.d/a.conf": "[Unit]\nConditionPathExists=/x\n"},
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {SWAPPINESS: None}, True)],
    ),
    "systemd-tmpfiles with a file that leads to no text": (
        tmpfiles() | {"etc/tmpfiles.d/a.conf": b"#" * (4 * 1024 * 1024 + 1)},
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", {}, True)],
    ),
    "cron, at boot": (
        {"etc/cron.d/a": "@reboot root sysctl -w vm.swappiness=3\n@daily root sysctl -w vm.overcommit_memory=1\n"},
        [("cron", "/etc/cron.d/a", {SWAPPINESS: "3"}, True)],
    ),
    "cron, at boot, as another user": (
        {
            "etc/cron.d/a": "@reboot app sysctl -w vm.swappiness=3\n",
            "etc/crontab": "@reboot r00t sysctl -w vm.swappiness=3\n@reboot\troot\tsysctl -w vm.overcommit_memory=1\n",
        },
        [("cron", "/etc/crontab", {OVERCOMMIT: "1"}, True)],
    ),
    "the crontab of root, and none of another user": (
        {
            "var/spool/cron/crontabs/root": "@reboot sysctl -w vm.swappiness=3\n",
            "var/spool/cron/crontabs/www-data": "@reboot sysctl -w vm.swappiness=4\n",
        },
        [("cron", "/var/spool/cron/crontabs/root", {SWAPPINESS: "3"}, True)],
    ),
    "the program of a service that does not run as root, where it is root's": (
        {
            **unit("/opt/a.sh\nUser=app"),
            "opt/a.sh": "#!/bin/sh\nsudo sysctl -w vm.swappiness=3\n",
        },
        [("tune.service", "/etc/systemd/system/tune.service", {SWAPPINESS: "3"}, True)],
    ),
    "a link to it in the home of the service": (
        {
            **unit("/home/app/a.sh\nUser=app"),
            "home/app/a.sh": Link("/opt/a.sh"),
            "opt/a.sh": "#!/bin/sh\nsysctl -w vm.swappiness=3\n",
        },
        [],
    ),
    "systemd-tmpfiles: a quoted path": (
        tmpfiles(a='w "/proc/sys/vm/swappiness" - - - - 3'),
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", dict.fromkeys(KERNEL_KEYS), True)],
    ),
    "systemd-tmpfiles: a quoted path of a file that is replaced": (
        tmpfiles(a='f+ "/proc/sys/vm/swappiness" - - - - 3'),
        [("systemd-tmpfiles", "/etc/tmpfiles.d/a.conf", dict.fromkeys(KERNEL_KEYS), True)],
    ),
    "rc.local that may not run": (
        {"etc/rc.local": "#!/bin/sh\nsysctl -w vm.swappiness=3\n"},
        [("rc.local", "/etc/rc.local", {SWAPPINESS: "3"}, False)],
    ),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(
    ("command", "user", "writers"),
    [
        ("/home/app/a.sh", "app", 0),
        ("-/home/app/a.sh", "app", 0),
        ("+/home/app/a.sh", "app", 1),
        ("-!/home/app/a.sh", "app", 1),
        ("/home/app/a.sh", "root", 1),
        ("/home/app/a.sh", "", 1),
        ("/home/app/a.sh", "root\nUser=app", 0),
        ("/home/app/a.sh", "\nDynamicUser=yes", 0),
        ("/home/app/a.sh", "\nDynamicUser=yes\nDynamicUser=no", 1),
        ("/home/app/a.sh", "root\nDynamicUser=yes", 1),
        ("/usr/sbin/runuser -u app -- /home/app/a.sh", "root", 0),
        ("/bin/su - app -c '/home/app/a.sh'", "", 0),
        ("/bin/sh -c 'exec su -s /bin/sh -c /home/app/a.sh app'", "root", 0),
        ("/bin/su -c /home/app/a.sh root", "root", 1),
        ("/usr/bin/sudo -u app /home/app/a.sh", "root", 0),
        ("/usr/bin/sudo -nHu app /home/app/a.sh", "root", 0),
        ("/usr/bin/sudo -n /home/app/a.sh", "root", 1),
        ("/usr/bin/setpriv --reuid=app --init-groups /home/app/a.sh", "root", 0),
        ("/usr/bin/setpriv --no-new-privs /home/app/a.sh", "root", 1),
        ("/sbin/start-stop-daemon --start --chuid app --exec /home/app/a.sh", "root", 0),
        ("/usr/bin/chpst -u app /home/app/a.sh", "root", 0),
        ("/usr/bin/nice -n 5 /bin/bash /home/app/a.sh", "root", 1),
    ],
)
def test_another_user_s_program_counts_only_where_root_runs_it(
    command: str, user: str, writers: int, tmp_path: Path
) -> None:
    script = tmp_path / "home/app/a.sh"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\nsysctl -w vm.swappiness=3\n")
    os.chown(script, 64001, 64001)
    assert [each.keys for each in found(tmp_path, unit(f"{command}\nUser={user}"))] == [(SWAPPINESS,)] * writers


@pytest.mark.parametrize("name", WRITERS)
def test_who_sets_what_later(name: str, tmp_path: Path) -> None:
    files, expected = WRITERS[name]
    made = [
        (each.name, each.file, dict.fromkeys(each.keys) | each.values, each.enabled) for each in found(tmp_path, files)
    ]
    assert made == expected


@pytest.mark.parametrize("path", ["etc/rc.local", "etc/network/if-up.d/x", "var/lib/cloud/scripts/per-boot/x"])
def test_a_script_runs_where_it_is_executable(path: str, tmp_path: Path) -> None:
    files = {
        path: "#!/bin/sh\nsysctl -w vm.swappiness=3\n",
        "usr/sbin/ifup": "",
        "etc/cloud/cloud.cfg": "",
        **wanted("cloud-init.service"),
    }
    (writer,) = executable(tmp_path, files, path)
    assert (writer.keys, writer.values, writer.enabled) == ((SWAPPINESS,), {SWAPPINESS: "3"}, True)


SHELL: dict[str, dict[str, str | None]] = {
    "sysctl -w vm.swappiness=1": {SWAPPINESS: "1"},
    "/usr/sbin/sysctl -qw vm/swappiness=1 net.ipv4.ip_forward=0": {SWAPPINESS: "1", FORWARD: "0"},
    "sysctl -w vm.swappiness = 1": {SWAPPINESS: "1"},
    'sysctl -w "vm.swappiness=1"': {SWAPPINESS: "1"},
    "sysctl -w net.ipv4.ip_local_port_range='1024 65535'": {"net.ipv4.ip_local_port_range": "1024 65535"},
    "sudo sysctl vm.swappiness=1 && sysctl vm.overcommit_memory=2": {SWAPPINESS: "1", OVERCOMMIT: None},
    "sysctl -e vm.swappiness=1 >/dev/null 2>&1 || true": {SWAPPINESS: "1"},
    "sysctl -w vm.swappiness=1; sysctl -w vm.swappiness=2": {SWAPPINESS: None},
    "sysctl -w vm.swappiness=1 vm.swappiness=2": {SWAPPINESS: None},
    "sysctl -w vm.swappiness=1\nsysctl -w vm.swappiness=1\nexit 0": {SWAPPINESS: "1"},
    "if true; then sysctl -w vm.swappiness=1; fi": {SWAPPINESS: None},
    "if true\nthen\nsysctl -w vm.swappiness=1\nelse\nsysctl -w vm.swappiness=2\nfi": {SWAPPINESS: None},
    "exit 0\nsysctl -w vm.swappiness=1": {SWAPPINESS: None},
    "tune() {\nsysctl -w vm.swappiness=1\n}": {SWAPPINESS: None},
    "[ -x /sbin/sysctl ] && sysctl -e vm.swappiness=1 >/dev/null 2>&1 || true": {SWAPPINESS: None},
    "test -f /proc/sys/vm/swappiness && echo 1 | tee /proc/sys/vm/swappiness": {SWAPPINESS: None},
    "echo 2 > /proc/sys/vm/overcommit_memory; echo 1 > /proc/sys/vm/swappiness": {SWAPPINESS: "1", OVERCOMMIT: "2"},
    "K=vm.swappiness\nsysctl -w $K=1": {SWAPPINESS: None},
    "for k in tcp_tw_reuse x; do echo 0 > /proc/sys/net/ipv4/$k; done": {"net.ipv4.tcp_tw_reuse": None},
    "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done": {
        "net.ipv4.conf.all.rp_filter": None,
        "net.ipv4.conf.default.rp_filter": None,
    },
    "cd /proc/sys/vm; echo 1 > swappiness": {SWAPPINESS: None},
    "dd if=/x of=/proc/sys/vm/swappiness": {SWAPPINESS: None},
    "echo 1 >| /proc/sys/vm/swappiness": {SWAPPINESS: None},
    "echo vm.swappiness=1 | sysctl -p -": {SWAPPINESS: None},
    "echo vm.swappiness=1 > /etc/sysctl.d/x.conf; sysctl --system": {SWAPPINESS: None},
    'python3 -c \'open("/proc/sys/vm/swappiness", "w").write("1")\'': {SWAPPINESS: None},
    "echo 'vm.swappiness is set'; sysctl -w vm.overcommit_memory=2": {OVERCOMMIT: "2"},
    "sysctl -w net.ipv4.conf.eth0.rp_filter=1": {},
    "grep -q 1 /proc/sys/vm/swappiness": {},
    "sysctl -w vm.swappiness=$VALUE": {SWAPPINESS: None},
    "sysctl -w \\\n vm.swappiness=1": {SWAPPINESS: "1"},
    "sysctl -n vm.swappiness": {},
    "x=$(sysctl -n vm.swappiness)": {},
    "# sysctl -w vm.swappiness=1": {},
    "echo hello # sysctl -w vm.swappiness=1": {},
    "sysctl -w kernel.panic=1": {},
    "echo 1 > /proc/sys/vm/swappiness": {SWAPPINESS: "1"},
    "echo 1 >/proc/sys/net/ipv4/conf/all/forwarding": {FORWARD: "1"},
    'echo "1024 65535" > /proc/sys/net/ipv4/ip_local_port_range': {"net.ipv4.ip_local_port_range": "1024 65535"},
    "printf '1\\n' > /proc/sys/vm/swappiness": {SWAPPINESS: "1"},
    "echo -n 1 | tee /proc/sys/vm/swappiness >/dev/null": {SWAPPINESS: "1"},
    "echo $x > /proc/sys/vm/swappiness": {SWAPPINESS: None},
    "cat /etc/x > /proc/sys/vm/swappiness": {SWAPPINESS: None},
    "cat /proc/sys/vm/swappiness": {},
    "sh -c 'sysctl -w vm.swappiness=1; echo 2 > /proc/sys/vm/overcommit_memory'": {SWAPPINESS: "1", OVERCOMMIT: "2"},
    "sysctl -w 'vm.swappiness=1": {SWAPPINESS: "1"},
}


@pytest.mark.parametrize("line", SHELL)
def test_what_a_line_of_shell_sets(line: str) -> None:
    assert settings_of(line) == SHELL[line]


@given(
    text=st.text(max_size=80)
    | st.lists(
        st.sampled_from([*"=1 '\";>{}$\\\n|(", "sysctl", "-w", "vm.swappiness", "/proc/sys/", "RUN", "SYSCTL{"]),
        max_size=20,
    ).map("".join)
)
def test_any_text_is_read_without_an_exception(text: str) -> None:
    for settings in (settings_of(text), udev_settings(text)):
        assert all(value is None or isinstance(value, str) for value in settings.values())
