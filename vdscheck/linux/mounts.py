"""The mount table: /proc/self/mountinfo as mounts, and which of them holds a path."""

import re
from collections.abc import Iterable

from vdscheck.plugin import Host, frozen

_OCTAL = r"\\([0-7]{3})"
_FIELDS = 10
"""Fixed fields of a line: six before the optional ones, the separator, three after it."""

REMOTE = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs", "lustre", "beegfs", "orangefs"))
"""Another machine's space, and a server that no longer answers would hold us up for good."""
IN_MEMORY = frozenset(("tmpfs", "ramfs", "devtmpfs", "rootfs", "hugetlbfs"))
"""File systems without any disk."""


@frozen
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    number: str
    """What the kernel calls this mount, and no other in any namespace."""
    point: str
    device: str
    """Major and minor number of the file system, as `254:0`."""
    root: str
    """The folder of the file system that is mounted here; not / for a bind mount."""
    type: str
    source: str
    options: tuple[str, ...]
    """The mount's own."""
    details: tuple[str, ...]
    """The file system's own: upperdir of an overlay, controllers of a cgroup."""

    def holds(self, path: str) -> bool:
        """Whether a path lies at or below the mount point."""
        return path == self.point or path.startswith(self.point.rstrip("/") + "/")


def mounts(host: Host) -> tuple[Mount, ...]:
    """What is mounted, in the kernel's order."""
    return parsed(host.read("/proc/self/mountinfo"))


def parsed(text: str) -> tuple[Mount, ...]:
    """The mounts of a mountinfo text; what is not a line of it is left out."""
    found = (_mount(line.split(" ")) for line in text.split("\n"))
    return tuple(mount for mount in found if mount is not None)


def _mount(words: list[str]) -> Mount | None:
    if len(words) < _FIELDS or "-" not in words[6:]:
        return None
    after = words[words.index("-", 6) + 1 :]
    if len(after) < 3:  # noqa: PLR2004 - type, source, options
        return None
    return Mount(
        number=words[0],
        point=_plain(words[4]),
        device=words[2],
        root=_plain(words[3]),
        type=after[0],
        source=_plain(after[1]),
        options=tuple(words[5].split(",")),
        details=tuple(_plain(after[2]).split(",")),
    )


def _plain(word: str) -> str:
    """Blank, tab, newline and backslash are written in octal."""
    if "\\" not in word:
        return word
    return re.sub(_OCTAL, lambda found: chr(int(found[1], 8)), word)


def holder(found: Iterable[Mount], path: str) -> Mount | None:
    """The mount that a path lies on: the deepest, and of several at one point the last."""
    best: Mount | None = None
    for mount in found:
        if mount.holds(path) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best
