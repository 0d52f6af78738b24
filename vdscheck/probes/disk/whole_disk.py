"""A whole disk as a file to read from: by its number, read only, past the cache."""

import os
import re
import stat

from vdscheck.linux import optional_files
from vdscheck.linux.block_devices import Blocks
from vdscheck.plugin import Absent, Host, Reason, UnavailableError, frozen, unmeasured
from vdscheck.probes.disk.stack import followed
from vdscheck.probes.disk.subject import DiskPath


@frozen
class WholeDisk:
    """A disk that is open for reading."""

    name: str
    descriptor: int
    size_bytes: int

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def whole_disk(host: Host, disk: DiskPath) -> WholeDisk | Absent:
    """The first whole disk under a path, or why it cannot be read."""
    try:
        return opened(host, followed(Blocks.of(host), disk).devices[0].name)
    except UnavailableError as error:
        return error.absent


def opened(host: Host, name: str) -> WholeDisk | Absent:
    """A disk by its name in /sys/class/block, or why it cannot be read."""
    node = _node(host, name)
    if node is None:
        return unmeasured(Reason.UNSUPPORTED, f"/dev has no node for {name}")
    try:
        descriptor = os.open(node, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        return WholeDisk(name, descriptor, os.lseek(descriptor, 0, os.SEEK_END))
    except PermissionError:
        who = "sudo vdscheck may" if os.geteuid() else "this container or sandbox denies it (devices cgroup)"
        return unmeasured(Reason.PERMISSION, f"may not read {node}: {who}")
    except OSError as error:
        return unmeasured(Reason.ERROR, f"{node}: {os.strerror(error.errno or 0)}")


def _node(host: Host, name: str) -> str | None:
    """The node in /dev that has the disk's number: what is only called like it is another."""
    number = re.fullmatch(r"([0-9]+):([0-9]+)", optional_files.line(host, f"/sys/class/block/{name}/dev") or "")
    said = optional_files.text(host, f"/sys/class/block/{name}/uevent") or ""
    called = next((line.partition("=")[2] for line in said.split("\n") if line.startswith("DEVNAME=")), name)
    path = f"/dev/{called}"
    try:
        found = os.stat(path)
    except OSError:
        return None
    is_it = number is not None and found.st_rdev == os.makedev(int(number[1]), int(number[2]))
    return path if is_it and stat.S_ISBLK(found.st_mode) else None
