"""Block devices as /sys/class/block shows them: what a mount or a path names, and what lies under each."""

import re

from vdscheck.linux import optional_files
from vdscheck.linux.mounts import Mount, holder, mounts
from vdscheck.plugin import Host, UnavailableError, frozen

BLOCK = "/sys/class/block"
_SECTOR_BYTES = 512
"""The unit of /sys/block/*/size, whatever the device's own."""
_NOT_WHOLE = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd")


@frozen
class Blocks:
    """The block devices of a host, and its mounts: everything that leads from a path down to a disk."""

    host: Host
    table: tuple[Mount, ...]
    names: frozenset[str]

    @classmethod
    def of(cls, host: Host) -> "Blocks":
        """What the host shows."""
        return cls(host, mounts(host), frozenset(host.names(BLOCK)))

    def of_mount(self, mount: Mount) -> tuple[str, ...]:
        """The block devices that a mounted file system lies on; several for a btrfs or bcachefs on several."""
        numbered = self._by_number(mount.device)
        if numbered:
            return (numbered,)
        if mount.type == "overlay":
            above = self.upper_mount(mount)
            return () if above is None else self.of_mount(above)
        parts = mount.source.split(":") if mount.type == "bcachefs" else [mount.source]
        named = tuple(filter(None, (self.by_path(part) for part in parts)))
        return self._btrfs_members(named[0]) if named and mount.type == "btrfs" else named

    def upper_mount(self, mount: Mount) -> Mount | None:
        """The mount that holds the writable folder of an overlay; None where it is outside of what we see."""
        upper = next((word.partition("=")[2] for word in mount.details if word.startswith("upperdir=")), "")
        found = holder(self.table, upper) if upper else None
        if found is None or found.type == "overlay" or not self.host.is_folder(upper):
            return None
        return found

    def _btrfs_members(self, name: str) -> tuple[str, ...]:
        for folder in self.host.glob("/sys/fs/btrfs/*/devices"):
            members = optional_files.names(self.host, folder)
            if name in members:
                return members
        return (name,)

    def _by_number(self, number: str) -> str | None:
        """The block device of a file system; those without one (0:21) are not in /sys/dev/block."""
        if not re.fullmatch(r"[1-9][0-9]*:[0-9]+", number):
            return None
        try:
            return self.host.link(f"/sys/dev/block/{number}").rpartition("/")[2]
        except UnavailableError:
            return None

    def by_path(self, path: str) -> str | None:
        """The block device that a path such as /dev/mapper/vg-root or /dev/vda2 names, by its name in /sys."""
        if not path.startswith("/dev/"):
            return None
        name = path.rpartition("/")[2]
        if name in self.names:
            return name
        if path.startswith("/dev/mapper/"):
            mapped = (each for each in sorted(self.names) if each.startswith("dm-"))
            return next((each for each in mapped if self.line(each, "dm/name") == name), None)
        try:
            target = self.host.resolved(path).rpartition("/")[2]
        except UnavailableError:
            return None
        return target if target in self.names else None

    def line(self, name: str, file: str) -> str | None:
        """The first line of one of a device's files; None where it is empty or not there."""
        return optional_files.line(self.host, f"{BLOCK}/{name}/{file}")

    def is_partition(self, name: str) -> bool:
        """Whether it is a part of another device."""
        return self.host.exists(f"{BLOCK}/{name}/partition")

    def backing_file(self, name: str) -> str | None:
        """The file that a loop device shows as a disk."""
        return (optional_files.text(self.host, f"{BLOCK}/{name}/loop/backing_file") or "").rstrip("\n") or None

    def below(self, name: str) -> tuple[str, ...]:
        """The devices one layer down; none under a whole disk."""
        file = self.backing_file(name)
        mount = holder(self.table, file) if file else None
        backing = () if mount is None else tuple(each for each in self.of_mount(mount) if each != name)
        under = (*optional_files.names(self.host, f"{BLOCK}/{name}/slaves"), *backing)
        if not under and self.is_partition(name):
            return (self.host.resolved(f"{BLOCK}/{name}").split("/")[-2],)
        return under

    def stack(self, name: str) -> tuple[str, ...]:
        """A device and all that lies under it, each once, from above."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            each = waiting.pop(0)
            if each not in found:
                found[each] = None
                waiting = [*self.below(each), *waiting]
        return tuple(found)

    def whole(self, name: str) -> tuple[str, ...]:
        """The whole disks at the bottom."""
        return tuple(each for each in self.stack(name) if not self.below(each))

    def fixed(self) -> tuple[str, ...]:
        """All whole disks that nobody could take out, in use or not."""
        return tuple(name for name in sorted(self.names) if self._is_fixed(name))

    def _is_fixed(self, name: str) -> bool:
        if name.startswith(_NOT_WHOLE) or self.is_partition(name):
            return False
        # one path of several to an NVMe drive is hidden behind the drive itself
        if "1" in (self.line(name, "removable"), self.line(name, "hidden")):
            return False
        return self.size_bytes(name) > 0

    def size_bytes(self, name: str) -> int:
        """How large it is; 0 also where that cannot be read, as of an empty drive."""
        text = self.line(name, "size") or ""
        return int(text) * _SECTOR_BYTES if re.fullmatch(r"[0-9]{1,15}", text) else 0
