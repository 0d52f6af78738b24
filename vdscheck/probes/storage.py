"""Disks in use and the file systems on them, with everything in between resolved."""

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from vdscheck.measurements import Disk, Disks, FileSystem, FileSystems
from vdscheck.plugin import Host, Reason, UnavailableError, probe, unmeasured
from vdscheck.probes import optional
from vdscheck.probes.cgroups import is_amount
from vdscheck.probes.drivers import driver_of, kind_of
from vdscheck.probes.mounts import Mount, holder, mounts

PLACES = ("/", "/var", "/var/lib", "/var/log", "/home", "/srv", "/opt", "/tmp")  # noqa: S108 - it is only looked at
"""Where services write."""

_BLOCK = "/sys/class/block"
_SECTOR_BYTES = 512
"""The unit of /sys/block/*/size, whatever the device's own."""
_LAYERS = 16
"""More layers of dm, md and loop than anybody stacks: a loop in the links ends there."""
_NOT_WHOLE = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd")
_NO_DISK = frozenset(
    (
        *("tmpfs", "ramfs", "devtmpfs", "proc", "sysfs", "cgroup", "cgroup2", "squashfs", "iso9660"),
        *("erofs", "autofs", "overlayfs", "efivarfs", "rootfs"),
    )
)
"""In memory, the kernel's own, or never written."""
_REMOTE = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs", "lustre", "beegfs", "orangefs")
)
"""Another machine's space, and a server that no longer answers would hold us up for good."""


@probe("machine.disks", cheap=True, deadline_s=3.0)
def disks(host: Host) -> Disks:
    """Follows mounts and swap through dm, md, loop and partitions to whole disks in /sys/class/block."""
    blocks = set(host.names(_BLOCK))
    table = mounts(host)
    found: dict[str, None] = {}
    for name in _in_use(host, table, blocks):
        found.update(dict.fromkeys(_below(host, name, table, blocks)))
    fixed = [name for name in sorted(blocks) if _is_fixed(host, name)]
    # a root whose device cannot be followed (ZFS, btrfs on many, a container's overlay) is on one of these
    used = [name for name in found if name in fixed] or fixed
    if not fixed:
        why = f"no disk can be seen from here: {_BLOCK} holds only {', '.join(sorted(blocks))[:100] or 'nothing'}"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    return Disks(
        disks=tuple(_disk(host, name) for name in used),
        attached_bytes=sum(_size_bytes(host, name) for name in fixed),
    )


def _in_use(host: Host, table: tuple[Mount, ...], blocks: set[str]) -> Iterator[str]:
    for mount in table:
        name = _by_number(host, mount.device) or _by_path(host, mount.source, blocks)
        if name:
            yield name
    for line in (optional.text(host, "/proc/swaps") or "").split("\n")[1:]:
        path = line.split()[0] if line.split() else ""
        if path in ("", "none"):
            continue
        name = _by_path(host, path, blocks)
        if name:
            yield name


def _by_number(host: Host, number: str) -> str | None:
    """The block device of a file system; those without one (0:21) are not in /sys/dev/block."""
    if not re.fullmatch(r"[1-9][0-9]*:[0-9]+", number):
        return None
    try:
        return host.link(f"/sys/dev/block/{number}").rpartition("/")[2]
    except UnavailableError:
        return None


def _by_path(host: Host, path: str, blocks: set[str]) -> str | None:
    """The block device that a path such as /dev/mapper/vg-root or /dev/vda2 names, by its name in /sys."""
    if not path.startswith("/dev/"):
        return None
    name = path.rpartition("/")[2]
    if name in blocks:
        return name
    if path.startswith("/dev/mapper/"):
        return next(
            (
                each
                for each in sorted(blocks)
                if each.startswith("dm-") and optional.line(host, f"{_BLOCK}/{each}/dm/name") == name
            ),
            None,
        )
    try:
        target = host.resolved(path).rpartition("/")[2]
    except UnavailableError:
        return None
    return target if target in blocks else None


def _below(host: Host, name: str, table: tuple[Mount, ...], blocks: set[str], depth: int = 0) -> Iterator[str]:
    """The whole disks under a block device."""
    if depth > _LAYERS:
        return
    under = [*optional.names(host, f"{_BLOCK}/{name}/slaves"), *_loop_backing(host, name, table, blocks)]
    if under:
        for each in under:
            yield from _below(host, each, table, blocks, depth + 1)
    elif host.exists(f"{_BLOCK}/{name}/partition"):
        whole = host.resolved(f"{_BLOCK}/{name}").split("/")[-2]
        yield from _below(host, whole, table, blocks, depth + 1)
    else:
        yield name


def _loop_backing(host: Host, name: str, table: tuple[Mount, ...], blocks: set[str]) -> Iterator[str]:
    file = (optional.text(host, f"{_BLOCK}/{name}/loop/backing_file") or "").rstrip("\n")
    mount = holder(table, file) if file else None
    if mount is not None:
        found = _by_number(host, mount.device) or _by_path(host, mount.source, blocks)
        if found and found != name:
            yield found


def _is_fixed(host: Host, name: str) -> bool:
    """Whole, there, and not a drive that somebody could take out."""
    folder = f"{_BLOCK}/{name}"
    if name.startswith(_NOT_WHOLE) or host.exists(f"{folder}/partition"):
        return False
    # one path of several to an NVMe drive is hidden behind the drive itself
    if "1" in (optional.line(host, f"{folder}/removable"), optional.line(host, f"{folder}/hidden")):
        return False
    return _size_bytes(host, name) > 0


def _disk(host: Host, name: str) -> Disk:
    folder = f"{_BLOCK}/{name}"
    maker, model = (
        optional.line(host, f"{folder}/device/vendor") or "",
        optional.line(host, f"{folder}/device/model") or "",
    )
    driver = driver_of(host, f"{folder}/device") or ("nvme" if name.startswith("nvme") else None)
    # of virtio and Xen disks the field vendor is a number
    named = f"{maker} {model}".strip() if maker in _IMITATORS else model
    return Disk(
        name=name,
        driver=driver,
        kind=kind_of(driver, named),
        model=named or None,
        size_bytes=_size_bytes(host, name),
    )


_IMITATORS = ("QEMU", "VBOX", "VMware", "Msft")


def _size_bytes(host: Host, name: str) -> int:
    text = optional.line(host, f"{_BLOCK}/{name}/size") or ""
    return int(text) * _SECTOR_BYTES if re.fullmatch(r"[0-9]{1,15}", text) else 0


@probe("storage.file-systems", deadline_s=4.0)
def file_systems(host: Host) -> FileSystems:
    """Asks statvfs(2) of the file systems that hold /, /var, /var/lib, /var/log, /home, /srv, /opt, /tmp."""
    table = mounts(host)
    found: dict[str, FileSystem] = {}
    seen: set[str] = set()
    for place in PLACES:
        mount = _holder(host, table, place)
        if mount is None or mount.device in seen:
            continue
        seen.add(mount.device)
        measured = _measured(host, mount)
        if measured is not None:
            found[mount.point] = measured
    if not found:
        why = "no file system on a disk holds any of " + ", ".join(PLACES)
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    return FileSystems(by_mount=found)


def _holder(host: Host, table: tuple[Mount, ...], place: str) -> Mount | None:
    """The mount on which a place lies; by the table first, so that a dead server is not touched."""
    mount = holder(table, place)
    if mount is None or not _is_ours(mount) or not host.exists(place):
        return None
    real = host.resolved(place)
    mount = holder(table, real)
    return mount if mount is not None and _is_ours(mount) else None


def _is_ours(mount: Mount) -> bool:
    # a fuse file system may hang as well; fuseblk is a local disk
    return mount.type not in _NO_DISK | _REMOTE and not mount.type.startswith("fuse.")


def _measured(host: Host, mount: Mount) -> FileSystem | None:
    name = f"statvfs-{quote(mount.point, safe='')[:200]}"
    found = host.fact(name, lambda: _statvfs(mount.point))
    keys = ("size_bytes", "free_bytes", "inodes", "inodes_free")
    if not isinstance(found, dict) or not all(is_amount(found.get(key)) for key in keys):
        raise UnavailableError(unmeasured(Reason.ERROR, f"the captured fact {name} lacks {', '.join(keys)}"))
    if found["size_bytes"] <= 0:
        return None
    return FileSystem(
        device=mount.source,
        type=mount.type,
        size_bytes=found["size_bytes"],
        free_bytes=found["free_bytes"],
        inodes=found["inodes"],
        inodes_free=found["inodes_free"],
    )


def _statvfs(path: str) -> dict[str, Any]:
    found = os.statvfs(path)
    return {
        "size_bytes": found.f_blocks * found.f_frsize,
        "free_bytes": found.f_bavail * found.f_frsize,
        "inodes": found.f_files,
        "inodes_free": found.f_favail,
    }
