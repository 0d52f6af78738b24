"""Disks in use and the file systems on them, with everything in between resolved."""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from vdscheck.linux import optional_files
from vdscheck.linux.block_devices import BLOCK, Blocks
from vdscheck.linux.cgroups import is_amount
from vdscheck.linux.drivers import disk_driver, kind_of
from vdscheck.linux.mounts import REMOTE, Mount, holder, mounts
from vdscheck.measurements import Disk, Disks, FileSystem, FileSystems
from vdscheck.plugin import Host, Reason, UnavailableError, probe, unmeasured
from vdscheck.probes.disk.devices import model_of

PLACES = ("/", "/var", "/var/lib", "/var/log", "/home", "/srv", "/opt", "/tmp")  # noqa: S108 - it is only looked at
"""Where services write."""

_NO_DISK = frozenset(
    (
        *("tmpfs", "ramfs", "devtmpfs", "proc", "sysfs", "cgroup", "cgroup2", "squashfs", "iso9660"),
        *("erofs", "autofs", "overlayfs", "efivarfs", "rootfs"),
    )
)
"""In memory, the kernel's own, or never written."""


@probe("disk.devices", formerly="machine.disks", cheap=True, deadline_s=3.0)
def disks(host: Host) -> Disks:
    """Follows mounts and swap through dm, md, loop and partitions to whole disks in /sys/class/block."""
    blocks = Blocks.of(host)
    found: dict[str, None] = {}
    for name in _in_use(blocks):
        found.update(dict.fromkeys(blocks.whole(name)))
    fixed = blocks.fixed()
    # a root whose device cannot be followed (ZFS, a container's overlay) is on one of these
    used = [name for name in found if name in fixed] or fixed
    if not fixed:
        seen = ", ".join(sorted(blocks.names))[:100] or "nothing"
        why = f"no disk can be seen from here: {BLOCK} holds only {seen}"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    return Disks(
        disks=tuple(_disk(blocks, name) for name in used),
        attached_bytes=sum(blocks.size_bytes(name) for name in fixed),
    )


def _in_use(blocks: Blocks) -> Iterator[str]:
    for mount in blocks.table:
        yield from blocks.of_mount(mount)
    for line in (optional_files.text(blocks.host, "/proc/swaps") or "").split("\n")[1:]:
        path = line.split()[0] if line.split() else ""
        name = blocks.by_path(path)
        if name:
            yield name


def _disk(blocks: Blocks, name: str) -> Disk:
    driver, model = disk_driver(blocks.host, name), model_of(blocks, name)
    return Disk(
        name=name,
        driver=driver,
        kind=kind_of(driver, model or ""),
        model=model,
        size_bytes=blocks.size_bytes(name),
    )


@probe("disk.file-systems", formerly="storage.file-systems", deadline_s=4.0)
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
    return mount.type not in _NO_DISK | REMOTE and not mount.type.startswith("fuse.")


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
