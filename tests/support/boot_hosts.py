"""Small made-up hosts for the tests of boot truth: a Debian 12 of a few files, and what a test adds to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vdscheck import testing
from vdscheck.measurements import BootTruth
from vdscheck.probes.sysctl.boot.predict import boot_truth
from vdscheck.target.host import Host


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


SWAPPINESS = "vm.swappiness"
"""The key that most tests set."""

GONE = None
"""In place of a content: not on this host."""

Content = str | bytes | Link | None

DEBIAN_12: Mapping[str, Content] = {
    "sbin/init": Link("/usr/lib/systemd/systemd"),
    "lib": Link("usr/lib"),
    "usr/lib/systemd/systemd": "",
    "usr/lib/systemd/systemd-sysctl": "",
    "usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so": "",
    "usr/lib/systemd/system/systemd-sysctl.service": "[Service]\nExecStart=/lib/systemd/systemd-sysctl\n",
    "usr/lib/systemd/system/procps.service": Link("systemd-sysctl.service"),
    "usr/lib/systemd/system/sysinit.target.wants/systemd-sysctl.service": Link("../systemd-sysctl.service"),
    "etc/init.d/procps": "#!/bin/sh\n",
    "etc/rcS.d/S01procps": Link("../init.d/procps"),
    "etc/debian_version": "12.13\n",
    "etc/sysctl.d/99-sysctl.conf": Link("../sysctl.conf"),
    "etc/sysctl.conf": "# nothing\n",
    "usr/lib/modules/6.1.0-40-amd64/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
    "boot/grub/grub.cfg": "menuentry 'Debian' {\n\tlinux /vmlinuz-6.1.0-40-amd64 root=/dev/vda1 ro quiet\n}\n",
}


def host(root: Path, files: Mapping[str, Content] | None = None, *, base: Mapping[str, Content] = DEBIAN_12) -> Host:
    """A host with the files of `base`, changed by `files`; a command line of its own is all that is known of it."""
    silent = {"boot/grub/grub.cfg": GONE} if "proc/cmdline" in (files or {}) else {}
    whole = {**base, **silent, **(files or {})}
    links = {name: content.target for name, content in whole.items() if isinstance(content, Link)}
    return testing.host(root, {name: each for name, each in whole.items() if isinstance(each, str | bytes)}, links)


def truth(
    root: Path, files: Mapping[str, Content] | None = None, *, base: Mapping[str, Content] = DEBIAN_12
) -> BootTruth:
    """Boot truth of such a host."""
    found = boot_truth.function(host(root, files, base=base))
    assert isinstance(found, BootTruth)
    return found


def decided(found: BootTruth, key: str = SWAPPINESS) -> tuple[str | None, str, str]:
    """The value of a key, where it comes from, and what decides it."""
    return found.keys[key].value, found.keys[key].origin, found.keys[key].where
