"""What lies under a path: the mount, the layers below it, and the disks at the bottom."""

from collections.abc import Iterator

from vdscheck.linux.block_devices import Blocks
from vdscheck.linux.mounts import IN_MEMORY, REMOTE, Mount, holder
from vdscheck.measurements import DiskLayer, DiskStack, LayerKind
from vdscheck.plugin import Host, Reason, UnavailableError, not_applicable, probe, unmeasured
from vdscheck.probes.disk.devices import device
from vdscheck.probes.disk.subject import DiskPath

_BY_UUID: tuple[tuple[str, LayerKind], ...] = (
    ("LVM-", "lvm"),
    ("CRYPT-", "crypt"),
    ("mpath-", "multipath"),
    ("part", "partition"),
)
"""What the programs that make dm devices write at the start of dm/uuid."""
_BY_NAME: tuple[tuple[str, LayerKind], ...] = (
    ("dm-", "dm"),
    ("md", "raid"),
    ("loop", "loop"),
    ("zram", "memory"),
    ("ram", "memory"),
)
_SHARED = REMOTE | {"9p", "virtiofs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone"}
"""Folders of other machines, the hypervisor's included."""


@probe("disk.stack", cheap=True, deadline_s=3.0)
def stack(host: Host, disk: DiskPath) -> DiskStack:
    """Follows /proc/self/mountinfo and /sys/class/block from a path through all layers to whole disks."""
    return followed(Blocks.of(host), disk)


def followed(blocks: Blocks, disk: DiskPath) -> DiskStack:
    """The stack under a path. Raises UnavailableError where there is no disk, or none can be seen."""
    mount = _mount(blocks, disk)
    tops = blocks.of_mount(mount)
    layers = (*_above(mount), *(_layer(blocks, name) for name in _all_below(blocks, tops)))
    if any(each.kind == "memory" for each in layers):
        raise UnavailableError(not_applicable(_in_memory(disk, layers[-1].name)))
    whole = tuple(dict.fromkeys(each for top in tops for each in blocks.whole(top)))
    return DiskStack(
        path=disk.shown,
        mount=mount.point,
        file_system=mount.type,
        source=mount.source,
        layers=layers,
        devices=tuple(device(blocks, name) for name in whole or _only_disk(blocks, disk, mount)),
        followed=bool(whole),
    )


def _mount(blocks: Blocks, disk: DiskPath) -> Mount:
    """The mount that holds a path; by the table first, so that a server that is dead is not touched."""
    _refuse_diskless(holder(blocks.table, disk.path), disk)
    if not blocks.host.exists(disk.path):
        why = f"there is no {disk.shown} here: name a folder that is there with --disk"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    mount = holder(blocks.table, blocks.host.resolved(disk.path))
    _refuse_diskless(mount, disk)
    if mount is None:
        why = f"/proc/self/mountinfo names no mount that holds {disk.shown}"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    return mount


def _refuse_diskless(mount: Mount | None, disk: DiskPath) -> None:
    if mount is not None and mount.type in IN_MEMORY:
        raise UnavailableError(not_applicable(_in_memory(disk, mount.type)))
    if mount is not None and mount.type in _SHARED:
        why = f"{disk.shown} lies on {mount.type} ({mount.source}): a folder of another machine, no disk of this one"
        raise UnavailableError(not_applicable(why))


def _in_memory(disk: DiskPath, what: str) -> str:
    return f"{disk.shown} lies in memory ({what}), on no disk: name a folder on a disk with --disk"


def _above(mount: Mount) -> Iterator[DiskLayer]:
    """What stands between a path and a block device without being one."""
    if mount.type == "overlay":
        upper = next((word.partition("=")[2] for word in mount.details if word.startswith("upperdir=")), None)
        yield DiskLayer(name="overlay", kind="overlay", detail=upper)
    elif mount.root != "/" and mount.type != "btrfs":
        yield DiskLayer(name=mount.point, kind="bind", detail=mount.root)


def _all_below(blocks: Blocks, tops: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for top in tops for each in blocks.stack(top)))


def _layer(blocks: Blocks, name: str) -> DiskLayer:
    kind = _kind(blocks, name)
    detail = {"raid": "md/level", "lvm": "dm/name", "crypt": "dm/name", "multipath": "dm/name", "dm": "dm/name"}
    said = blocks.backing_file(name) if kind == "loop" else blocks.line(name, detail.get(kind, "dm/name"))
    return DiskLayer(name=name, kind=kind, detail=said)


def _kind(blocks: Blocks, name: str) -> LayerKind:
    if blocks.is_partition(name):
        return "partition"
    uuid = blocks.line(name, "dm/uuid") or ""
    known: LayerKind | None = next((kind for start, kind in _BY_UUID if uuid.startswith(start)), None)
    known = known or next((kind for start, kind in _BY_NAME if name.startswith(start)), None)
    return known or ("stacked" if blocks.below(name) else "disk")


def _only_disk(blocks: Blocks, disk: DiskPath, mount: Mount) -> tuple[str, ...]:
    """Where a mount cannot be followed (a container's overlay, ZFS): the only disk there is, if there is but one."""
    fixed = blocks.fixed()
    if len(fixed) == 1:
        return fixed
    seen = f"{len(fixed)} disks are here: {', '.join(fixed)[:100]}" if fixed else "no disk can be seen from here"
    why = f"{disk.shown} is {mount.type} on {mount.source}, which cannot be followed further down; {seen}"
    raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
