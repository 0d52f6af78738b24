"""Whether this is a container, by the kernel's own facts, and which kind, by clues."""

import re
from collections.abc import Iterator

from vdscheck.linux import optional_files, ownership
from vdscheck.linux.mounts import Mount, mounts
from vdscheck.measurements import UNNAMED_CONTAINER
from vdscheck.plugin import Host, UnavailableError, frozen

_SCOPES = (
    ("kubernetes", r"/kubepods"),
    ("docker", r"/docker[-/][0-9a-f]{12,64}"),
    ("podman", r"/libpod-[0-9a-f]{12,64}"),
    ("lxc", r"/lxc(\.payload)?[./]"),
    ("systemd-nspawn", r"/machine\.slice/(systemd-nspawn@|machine-[^/]*\.scope)"),
)
_STORES = (
    ("docker", "/docker/"),
    ("podman", "/containers/storage/"),
    ("kubernetes", "/kubelet/"),
    ("containerd", "/containerd/"),
)
_MARKS = (("docker", "/.dockerenv"), ("podman", "/run/.containerenv"))


@frozen
class Container:
    """A container, or none, and what was seen."""

    kind: str | None
    """None is not in a container."""
    sure: bool
    clues: tuple[str, ...]


@frozen
class _Clue:
    says: str
    kind: str
    strong: bool = False
    """Whether it speaks of the process itself, and not of an image that may be a stale copy."""


def look(host: Host) -> Container:
    """Tell a container from a machine of its own.

    Facts decide: a process outside of the initial pid or user namespace is in a container, and so is
    one with mounts and a root of its own; one in both namespaces that has the root of PID 1 is not,
    whatever a file in the image or its control group says. Where PID 1 may not be looked at, a
    container that shares the machine's pid namespace is known by its control group or its root.
    """
    found = ownership.look(host)
    named = list(_names(host))
    clues = (*(fact.clue for fact in found.facts), *(clue.says for clue in named))
    kinds = [*(fact.kind for fact in found.facts if fact.kind), *(clue.kind for clue in named)]
    strong = [clue.kind for clue in named if clue.strong]
    if found.kernel is False:
        return Container(kinds[0] if kinds else UNNAMED_CONTAINER, sure=True, clues=clues)
    if found.contained:
        return Container((strong or kinds or [UNNAMED_CONTAINER])[0], sure=bool(strong), clues=clues)
    if found.root:
        return Container(None, sure=True, clues=clues)
    if found.facts:
        return Container(strong[0] if strong else None, sure=not strong, clues=clues)
    return Container(kinds[0] if kinds else None, sure=False, clues=clues)


def _names(host: Host) -> Iterator[_Clue]:
    environment = optional_files.text(host, "/proc/1/environ") or ""
    for word in environment.split("\0"):
        name, found, value = word.partition("=")
        if found and name == "container" and value:
            yield _Clue(f"/proc/1/environ: container={value[:32]}", kind=_known(value))
    for path in ("/run/systemd/container", "/run/host/container-manager"):
        manager = (optional_files.text(host, path) or "").strip()[:32]
        if manager:
            yield _Clue(f"{path}: {manager}", kind=_known(manager))
    yield from _own_cgroup(host)
    yield from _own_mounts(host)
    for kind, path in _MARKS:
        if host.exists(path):
            yield _Clue(f"{path}: is here, which the image may have brought along", kind=kind)


def _known(manager: str) -> str:
    """One name for each kind, however its manager calls itself."""
    return {"oci": UNNAMED_CONTAINER, "lxc-libvirt": "lxc", "nspawn": "systemd-nspawn"}.get(manager, manager[:32])


def _own_cgroup(host: Host) -> Iterator[_Clue]:
    text = optional_files.text(host, "/proc/self/cgroup") or ""
    for kind, pattern in _SCOPES:
        found = re.search(pattern, text)
        if found:
            yield _Clue(f"/proc/self/cgroup: {found[0]}", kind=kind, strong=True)
            return


def _own_mounts(host: Host) -> Iterator[_Clue]:
    try:
        table = mounts(host)
    except UnavailableError:
        return
    for mount in table:
        if mount.type == "fuse.lxcfs" and mount.point.startswith("/proc/"):
            yield _Clue(f"/proc/self/mountinfo: lxcfs on {mount.point}", kind="lxc", strong=True)
            break
    for mount in table:
        kind = _stored_by(mount)
        if kind:
            yield _Clue(f"/proc/self/mountinfo: {mount.point} comes from the store of {kind}", kind=kind, strong=True)
            return


def _stored_by(mount: Mount) -> str | None:
    """Whose store a container's root, or a file that is put into every container, comes from."""
    if mount.point == "/" and mount.type == "overlay":
        told = next((each for each in mount.details if each.startswith("upperdir=")), "")
    elif mount.point in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
        told = mount.root
    else:
        return None
    return next((kind for kind, part in _STORES if part in told), None)
