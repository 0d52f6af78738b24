"""Whose kernel and whose root this process sees: the one place that decides whether they are this machine's own.

The report tells a container by it, and `--fix` and `undo` refuse by it.
"""

import os
import re
from collections.abc import Iterator

from vdscheck.linux import optional_files
from vdscheck.linux.mounts import Mount, holder, mounts
from vdscheck.plugin import Host, UnavailableError, frozen

INITIAL_PID_NAMESPACE = 4026531836
INITIAL_USER_NAMESPACE = 4026531837
"""Fixed numbers of the kernel: PROC_PID_INIT_INO, PROC_USER_INIT_INO in include/linux/proc_ns.h."""
WHOLE_ID_RANGE = ["0", "0", "4294967295"]
NAMESPACES = 2

_UNIONS = ("overlay", "aufs", "unionfs", "fuse.unionfs-fuse", "fuse.unionfs")


@frozen
class Fact:
    """What the kernel says of whose it is."""

    clue: str
    ours: bool
    kind: str | None = None
    """The kind of container that it tells by itself."""


@frozen
class Ownership:
    """Whether the kernel and the root that this process sees are this machine's own. None is not known."""

    kernel: bool | None
    root: bool | None
    """Whether / is the root of the machine's PID 1; where the kernel is not ours, PID 1 is not the machine's."""
    contained: bool | None
    """Whether this is a container: it has the pid or user namespace of one, or mounts and a root of its own."""
    writable: bool
    """Whether /proc/sys is mounted read-write."""
    lost_at_boot: str | None
    """Why a reboot empties /; None where it does not."""
    facts: tuple[Fact, ...]


@frozen
class _Mounts:
    """The mount table of this process, and that of PID 1 where it may be read."""

    ours: tuple[Mount, ...]
    its: tuple[Mount, ...]

    @property
    def shared(self) -> bool | None:
        """Whether both see one and the same mounts: a mount has one number, and no other namespace shows it."""
        if not self.ours or not self.its:
            return None
        return not {mount.number for mount in self.ours}.isdisjoint(mount.number for mount in self.its)


def look(host: Host) -> Ownership:
    """Decide by the kernel's own facts, which root and an ordinary user see alike."""
    facts = list(_of_the_kernel(host))
    kernel = _all(facts)
    table = _Mounts(_table(host, "self"), _table(host, "1"))
    root = _of_the_root(host, table)
    contained = None if kernel is None else not kernel
    if kernel and root is not None:
        facts.append(root)
        # A chroot in the mounts of the machine itself is no container, and no machine's root either.
        contained = None if not root.ours and table.shared is None else not (root.ours or table.shared)
    return Ownership(
        kernel=kernel,
        root=None if root is None or not kernel else root.ours,
        contained=contained,
        writable=_is_writable(table.ours),
        lost_at_boot=_lost_at_boot(host, table.ours),
        facts=tuple(facts),
    )


def refusal(found: Ownership) -> str | None:
    """Why nothing may be changed here: one line with what, why and what to do; None where it may."""
    return _of_others(found) or _unsettable(found)


def _of_others(found: Ownership) -> str | None:
    against = next((fact.clue for fact in found.facts if not fact.ours), "")
    if found.kernel is False:
        return f"the kernel is not this machine's own ({against}): run vdscheck on the host, or ask who runs it"
    if found.root is False:
        return (
            f"the root folder is not this machine's own ({against}), so no boot would read what is written here: "
            "run vdscheck on the host itself; in a pod that has the host's root at /host: chroot /host vdscheck ..."
        )
    if found.kernel is None:
        return "whose kernel this is cannot be told, as /proc/self/ns cannot be read: mount /proc, and run it again"
    if found.root is None:
        return (
            "whose root folder this is cannot be told, as neither /proc/1/root nor /proc/1/mountinfo can be read: "
            "run vdscheck as root, where /proc shows PID 1"
        )
    return None


def _unsettable(found: Ownership) -> str | None:
    if found.lost_at_boot is not None:
        return (
            f"{found.lost_at_boot}: a reboot takes away what is written here; "
            "fix the system on disk: vdscheck --fix --root DIR"
        )
    if not found.writable:
        return (
            "/proc/sys is mounted read-only here, as ProtectKernelTunables= of a systemd unit does: "
            "run vdscheck outside of it"
        )
    return None


# The kernel


def _of_the_kernel(host: Host) -> Iterator[Fact]:
    yield from _namespace(host, "pid", INITIAL_PID_NAMESPACE)
    yield from _namespace(host, "user", INITIAL_USER_NAMESPACE)
    mapping = optional_files.text(host, "/proc/self/uid_map")
    if mapping is not None:
        whole = mapping.split() == WHOLE_ID_RANGE
        yield Fact(f"/proc/self/uid_map: {'all users are themselves' if whole else 'users are mapped'}", whole)
    # Under hidepid=2 an ordinary user does not see it: that says nothing.
    second = optional_files.text(host, "/proc/2/comm")
    if second is not None:
        name = second.strip()[:32]
        yield Fact(f"/proc/2/comm: PID 2 is {name}", name == "kthreadd")
    if host.exists("/proc/vz") and not host.exists("/proc/bc"):
        yield Fact("/proc/vz: an OpenVZ kernel, and /proc/bc of its host is not here", ours=False, kind="openvz")


def _namespace(host: Host, kind: str, initial: int) -> Iterator[Fact]:
    try:
        found = re.fullmatch(rf"{kind}:\[([0-9]+)\]", host.link(f"/proc/self/ns/{kind}"))
    except UnavailableError:
        return
    if found:
        ours = int(found[1]) == initial
        yield Fact(f"/proc/self/ns/{kind}: {'the initial one' if ours else 'a namespace of its own'}", ours)


def _all(facts: list[Fact]) -> bool | None:
    """One fact that speaks against it is enough; to be ours, both namespaces must be known."""
    if not all(fact.ours for fact in facts):
        return False
    known = sum(fact.clue.startswith("/proc/self/ns/") for fact in facts)
    return True if known == NAMESPACES else None


# The root


def _of_the_root(host: Host, table: _Mounts) -> Fact | None:
    """Whether / is that of PID 1, by the folders themselves, or by what is mounted there where those are closed."""

    def is_same() -> bool:
        return os.path.samestat(os.stat("/proc/1/root/"), os.stat("/"))

    try:
        same, seen = bool(host.fact("root-of-pid-1", is_same)), "/proc/1/root"
    except UnavailableError:
        its = _root_of(table.its)
        if its is None or not table.ours:
            return None
        same, seen = _is_one(_root_of(table.ours), its), "/proc/1/mountinfo"
    return Fact(f"{seen}: / is {'' if same else 'not '}the root of PID 1", same)


def _table(host: Host, process: str) -> tuple[Mount, ...]:
    try:
        return mounts(host, process)
    except UnavailableError:
        return ()


def _root_of(table: tuple[Mount, ...]) -> Mount | None:
    """What is mounted at /; None where / is a folder of something that is mounted above it, as in a chroot."""
    return next((mount for mount in reversed(table) if mount.point == "/"), None)


def _is_one(ours: Mount | None, its: Mount) -> bool:
    """Whether two mounts show one folder of one file system."""
    return ours is not None and (ours.device, ours.root) == (its.device, its.root)


def is_the_machines(here: Host, folder: int, point: str | None) -> bool | None:
    """Whether a folder is the root of the machine itself, as a pod sees it at /host; None where it cannot be told.

    The folder is named by an open descriptor, and by the path where it is, which counts where /proc/1/root is closed.
    In a pid namespace PID 1 is not the machine's.
    """
    if not _all(list(_of_the_kernel(here))):
        return None
    try:
        return os.path.samestat(os.stat("/proc/1/root/"), os.fstat(folder))
    except OSError:
        its = _root_of(_table(here, "1"))
        ours = next((mount for mount in reversed(_table(here, "self")) if mount.point == point), None)
        return None if its is None else _is_one(ours, its)


# What stays


def _is_writable(table: tuple[Mount, ...]) -> bool:
    """Whether the mount that /proc/sys lies in may be written; where mounts are stacked the last one counts."""
    found = holder((mount for mount in table if mount.point in ("/proc", "/proc/sys")), "/proc/sys")
    return found is None or "ro" not in found.options


def _lost_at_boot(host: Host, table: tuple[Mount, ...]) -> str | None:
    root = _root_of(table)
    if root is None:
        return None
    if root.is_memory:
        return f"/ is kept in memory ({root.source if root.source.startswith('/dev/') else root.type})"
    return _lost_with_the_upper_layer(host, root, table) if root.type in _UNIONS else None


def _lost_with_the_upper_layer(host: Host, root: Mount, table: tuple[Mount, ...]) -> str | None:
    """Why what is written to a union of layers is gone after a boot: it is in the upper one."""
    upper = next((detail.removeprefix("upperdir=") for detail in root.details if detail.startswith("upperdir=")), None)
    if upper is None:
        return f"/ is of type {root.type}, without a layer that is seen to outlast a reboot"
    # It is named as it was found when / was mounted, and often nothing leads there any more.
    below = holder((mount for mount in table if mount.point != "/"), upper)
    if below is None or not host.is_folder(upper):
        return f"/ is of type {root.type}, and its upper layer {upper} is not seen to outlast a reboot"
    return f"/ is of type {root.type}, and its upper layer {upper} is kept in memory" if below.is_memory else None
