"""Boot truth for real: what is predicted inside a fresh server is what its kernel shows after a reboot."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.lab.debian import SUITES, Suite
from tests.lab.vm import boot
from tests.support.project import PROJECT
from vdscheck.measurements import KERNEL_KEYS

pytestmark = [
    pytest.mark.xdist_group("server"),
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can build the server"),
]

PACKAGE = PROJECT / "vdscheck"
COMMAND_LINE = "sysctl.net.ipv4.tcp_max_syn_backlog=777 sysctl.vm.overcommit_memory=1 sysctl/fs/nr_open=1048577"
FILES = {
    "etc/sysctl.d/10-a.conf": (
        "vm.swappiness = 1\nnet.core.somaxconn = ten\n-net.ipv4.conf.all.rp_filter\nnet.ipv4.tcp_timestamps = 0 # why\n"
        "net.ipv4.conf.*.rp_filter = 1\nnet/ipv4/ip_forward = 0\nfs.file-max = 0x100000\nvm.overcommit_memory = 0\n"
    ),
    "etc/sysctl.d/50-b.conf": "vm.swappiness = 33\r\nnet.ipv4.conf.all.forwarding = 1\r\n",
    "etc/sysctl.d/60-c.conf": "net.netfilter.nf_conntrack_max = 12345\nnet.ipv4.ip_local_reserved_ports = 9148,8080\n",
    "usr/local/lib/sysctl.d/70-d.conf": "net.ipv4.ip_local_port_range = 2000\nnet.ipv4.tcp_s[ly]*s* = 0\n",
    "etc/sysctl.d/70-e.conf": "net.ipv4.tcp_tw_reuse = 1\nfs.inotify.max_user_instances = 010000\n",
    "etc/sysctl.conf": "net.ipv4.tcp_tw_reuse = 0\n",
    "etc/modules-load.d/a.conf": "nf-conntrack\n",
    "run/sysctl.d/80-f.conf": "vm.max_map_count = 70000\n",
}
SHOW = """
import json, os, sys
sys.path.insert(0, "/job")
from vdscheck.measurements import KERNEL_KEYS
from vdscheck.plugin import Host
from vdscheck.probes.sysctl.boot.predict import boot_truth
truth = boot_truth.function(Host())
def now(key):
    path = "/proc/sys/" + key.replace(".", "/")
    return " ".join(open(path).read().split()) if os.path.exists(path) else None
print(json.dumps({
    "now": {key: now(key) for key in KERNEL_KEYS},
    "truth": {key: [each.value, each.where] for key, each in truth.keys.items()},
    "init": truth.init,
}))
"""


def package() -> bytes:
    """The probes as an archive: they need nothing but Python."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(PACKAGE, "vdscheck", filter=lambda each: None if "__pycache__" in each.name else each)
    return content.getvalue()


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_predicted_before_a_reboot_is_there_after_it(suite: Suite, tmp_path: Path) -> None:
    state, out = tmp_path / "disk", tmp_path / "out"
    files = {"vdscheck.tar": package(), "show.py": SHOW.encode()}
    files |= {f"tree/{name}": content.encode() for name, content in FILES.items()}
    copy = "cp -a tree/. /; ln -sf /dev/null /etc/sysctl.d/50-default.conf"
    show = "tar -xf vdscheck.tar; python3 show.py >out/%s"
    first = boot(
        suite, job=f"{copy}; {show % 'before'}", out=out, files=files, state=state, kernel_cmdline=COMMAND_LINE
    )
    again = boot(suite, job=show % "after", out=out, files=files, state=state, keep=False, kernel_cmdline=COMMAND_LINE)
    assert (first.rc, again.rc) == (0, 0)
    before, after = (json.loads((out / name).read_text()) for name in ("before", "after"))
    assert before["init"] == "systemd-sysctl"
    foretold = {key: value for key, (value, _) in before["truth"].items() if value is not None}
    assert set(KERNEL_KEYS) - set(foretold) <= {"fs.inotify.max_user_watches"}
    assert {key: (value, after["now"][key]) for key, value in foretold.items() if value != after["now"][key]} == {}
    changed = sum(before["now"][key] != after["now"][key] for key in KERNEL_KEYS)
    assert changed > len(KERNEL_KEYS) / 2
