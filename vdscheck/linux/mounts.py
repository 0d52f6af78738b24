"""The mount table: /proc/self/mountinfo as mounts, and which of them holds a path."""

import re
from collections.abc import Iterable

from vdscheck.plugin import Host, UnavailableError, frozen

_ESCAPED = tuple((f"\\{ord(each):03o}", each) for each in " \t\n#,=\\")
"""What the kernel writes in octal (fs/proc_namespace.c, fs/seq_file.c); the backslash is read last."""
LIMIT_BYTES = 64 << 20
"""Of a mount table: a user may mount a thousand folders (fuse.conf), each with a path of 4 KiB in octal."""
_FIELDS = 10
"""Fixed fields of a line: six before the optional ones, the separator, three after it."""

REMOTE = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs", "lustre", "beegfs", "orangefs"))
"""Another machine's space, and a server that no longer answers would hold us up for good."""
IN_MEMORY = frozenset(("tmpfs", "ramfs", "devtmpfs", "rootfs", "hugetlbfs"))
"""File systems without any disk."""
_MEMORY_DISKS = re.compile(r"/dev/(z?ram[0-9]+|mapper/live-[a-z-]+)")
"""Block devices whose content is memory: brd, zram, and the device-mapper snapshot of a live system (dracut)."""
_OF_THE_KERNEL = {"/proc": "proc", "/sys": "sysfs"}


@frozen
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    number: str
    """What the kernel calls this mount, and no other in any namespace."""
    parent: str
    """The mount that it is mounted on."""
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

    @property
    def is_memory(self) -> bool:
        """Whether a reboot empties it."""
        return self.type in IN_MEMORY or _MEMORY_DISKS.fullmatch(self.source) is not None

    def holds(self, path: str) -> bool:
        """Whether a path lies at or below the mount point."""
        return path == self.point or path.startswith(self.point.rstrip("/") + "/")


def mounts(host: Host, process: str = "self") -> tuple[Mount, ...]:
    """What is mounted for a process, in the kernel's order."""
    return parsed(host.read(f"/proc/{process}/mountinfo", limit_bytes=LIMIT_BYTES))


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
        parent=words[1],
        point=_plain(words[4]),
        device=words[2],
        root=_plain(words[3]),
        type=after[0],
        source=_plain(after[1]),
        options=tuple(words[5].split(",")),
        details=tuple(map(_plain, after[2].split(","))),
    )


def _plain(word: str) -> str:
    """What was escaped, quickly: whoever mounts a thousand folders with long names is not to hold up a fix."""
    if "\\" not in word:
        return word
    for octal, character in _ESCAPED:
        word = word.replace(octal, character)
    return word


def holder(found: Iterable[Mount], path: str) -> Mount | None:
    """The mount that a path lies on: the deepest, and of several at one point the last."""
    best: Mount | None = None
    for mount in found:
        if mount.holds(path) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def reached(found: Iterable[Mount], path: str) -> Mount | None:
    """The mount that a path without links leads to, step by step: one that is covered by another is not reached."""
    above = [mount for mount in found if mount.holds(path)]
    numbers = {mount.number for mount in above}
    here = min((mount for mount in above if mount.parent not in numbers), key=_depth, default=None)
    for _ in above:
        if here is None:
            break
        inside = [mount for mount in above if mount.parent == here.number and mount is not here]
        if not inside:
            break
        here = min(inside, key=_depth)
    return here


def _depth(mount: Mount) -> int:
    return len(mount.point)


def covering(found: Iterable[Mount], path: str) -> str | None:
    """What is mounted over a file of the kernel's, so that it cannot be told whether there is one; else None."""
    top = "/" + path.split("/")[1]
    mount = reached(found, path)
    if mount is None or not (mount.point == top or mount.point.startswith(f"{top}/")):
        return None
    own = mount.type == _OF_THE_KERNEL.get(top) and mount.root == (mount.point[len(top) :] or "/")
    return None if own else f"{mount.type} is mounted over {mount.point}"


_FIRST = ("/", "/usr", "/dev", "/proc", "/sys", "/run")
"""Mounted by the initramfs, and by the init before all else (systemd, src/shared/mount-setup.c)."""


def _is_late(words: list[str]) -> bool:
    """Whether a line of fstab mounts something that the initramfs does not."""
    options = words[3].split(",") if len(words) > 3 else []  # noqa: PLR2004 - device, point, type, options
    return len(words) > 1 and words[1].startswith("/") and "x-initrd.mount" not in options and words[1] not in _FIRST


@frozen
class Emptied:
    """What is empty when the machine boots: /run and /dev/shm, and whatever is kept in memory beside /."""

    table: tuple[Mount, ...] = ()
    mounted_late: tuple[str, ...] | None = None
    """The mount points of fstab that may come after what is asked of; None where all have come by then."""

    @classmethod
    def of(cls, host: Host) -> "Emptied":
        """That of a host; in a tree without a mount table only what is empty everywhere."""
        try:
            return cls(mounts(host))
        except UnavailableError:
            return cls()

    @classmethod
    def before_mounts(cls, host: Host) -> "Emptied":
        """That for what runs before local-fs.target; / and /usr are mounted before the init starts."""
        try:
            text = host.read("/etc/fstab")
        except UnavailableError:
            text = ""
        lines = (line.split() for line in text.splitlines() if not line.lstrip().startswith("#"))
        points = {_plain(words[1]).rstrip("/") for words in lines if _is_late(words)}
        return cls(cls.of(host).table, tuple(sorted(points - {"", "/usr"})))

    def late(self, real: str, path: str) -> str | None:
        """The mount point below which a path leads and that may not be mounted yet."""
        if self.mounted_late is None:
            return None
        named = [point for point in self.mounted_late if real.startswith(f"{point}/")]
        if named:
            return max(named, key=len)
        mount = reached(self.table, real) if real != path else None
        if mount is None or mount.point in _FIRST or path.startswith(f"{mount.point}/"):
            return None
        return mount.point

    def place(self, real: str, path: str) -> str | None:
        """The folder or file that is empty at boot and that a path leads to, as people are told.

        What is mounted over the folder of the path itself (a path that ends in a slash) is not meant: see `over`.
        """
        plain = next((folder for folder in ("/run", "/dev/shm") if real.startswith(f"{folder}/")), None)  # noqa: S108
        if plain is not None:
            return plain
        mount = self._memory(real)
        if mount is None or path.startswith(f"{mount.point}/"):
            return None
        return f"{mount.point} ({mount.type})"

    def over(self, folder: str) -> str | None:
        """What in memory is mounted over a folder without links, and hides what the next boot finds there."""
        mount = self._memory(folder)
        return None if mount is None else f"{mount.type} is mounted over {mount.point}"

    def _memory(self, path: str) -> Mount | None:
        mount = reached(self.table, path)
        known = mount is not None and mount.point != "/" and mount.is_memory and mount.type != "devtmpfs"
        return mount if known else None
