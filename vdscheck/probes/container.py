"""Whether this is a container, by the kernel's own facts, and which kind, by clues."""

import re
from collections.abc import Iterator

from vdscheck.measurements import UNNAMED_CONTAINER
from vdscheck.model import frozen
from vdscheck.plugin import Host, UnavailableError
from vdscheck.probes import optional
from vdscheck.probes.mounts import Mount, mounts

INITIAL_PID_NAMESPACE = 4026531836
INITIAL_USER_NAMESPACE = 4026531837
"""Fixed numbers of the kernel: PROC_PID_INIT_INO, PROC_USER_INIT_INO in include/linux/proc_ns.h."""

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
class _Sign:
    clue: str
    inside: bool | None = None
    """What the kernel's own facts say; None of a mere clue."""
    kind: str | None = None
    strong: bool = False
    """Whether it speaks of the process itself, and not of an image that may be a stale copy."""


def look(host: Host) -> Container:
    """Tell a container from a machine of its own.

    Facts decide: a process outside of the initial pid or user namespace is in a container, one in
    both is not, whatever a file in the image says. A container that shares the machine's pid
    namespace is known by its own cgroup or its own root file system.
    """
    signs = [*_facts(host), *_names(host)]
    clues = tuple(sign.clue for sign in signs)
    said = [sign.inside for sign in signs if sign.inside is not None]
    kinds = [sign.kind for sign in signs if sign.kind]
    strong = [sign.kind for sign in signs if sign.kind and sign.strong]
    if True in said:
        return Container(kinds[0] if kinds else UNNAMED_CONTAINER, sure=True, clues=clues)
    if said:
        return Container(strong[0] if strong else None, sure=not strong, clues=clues)
    return Container(kinds[0] if kinds else None, sure=False, clues=clues)


def _facts(host: Host) -> Iterator[_Sign]:
    yield from _namespace(host, "pid", INITIAL_PID_NAMESPACE)
    yield from _namespace(host, "user", INITIAL_USER_NAMESPACE)
    mapping = optional.text(host, "/proc/self/uid_map")
    if mapping is not None:
        whole = mapping.split() == ["0", "0", "4294967295"]
        yield _Sign(f"/proc/self/uid_map: {'all users are themselves' if whole else 'users are mapped'}", not whole)
    second = optional.text(host, "/proc/2/comm")
    if second is not None:
        name = second.strip()[:32]
        yield _Sign(f"/proc/2/comm: PID 2 is {name}", name != "kthreadd")
    if host.exists("/proc/vz") and not host.exists("/proc/bc"):
        yield _Sign(
            "/proc/vz: an OpenVZ kernel, and /proc/bc of its host is not here",
            inside=True,
            kind="openvz",
            strong=True,
        )


def _namespace(host: Host, kind: str, initial: int) -> Iterator[_Sign]:
    try:
        found = re.fullmatch(rf"{kind}:\[([0-9]+)\]", host.link(f"/proc/self/ns/{kind}"))
    except UnavailableError:
        return
    if found:
        own = int(found[1]) != initial
        yield _Sign(f"/proc/self/ns/{kind}: {'a namespace of its own' if own else 'the initial one'}", own)


def _names(host: Host) -> Iterator[_Sign]:
    environment = optional.text(host, "/proc/1/environ") or ""
    for word in environment.split("\0"):
        name, found, value = word.partition("=")
        if found and name == "container" and value:
            yield _Sign(f"/proc/1/environ: container={value[:32]}", kind=_known(value))
    for path in ("/run/systemd/container", "/run/host/container-manager"):
        manager = (optional.text(host, path) or "").strip()[:32]
        if manager:
            yield _Sign(f"{path}: {manager}", kind=_known(manager))
    yield from _own_cgroup(host)
    yield from _own_mounts(host)
    for kind, path in _MARKS:
        if host.exists(path):
            yield _Sign(f"{path}: is here, which the image may have brought along", kind=kind)


def _known(manager: str) -> str:
    """One name for each kind, however its manager calls itself."""
    return {"oci": UNNAMED_CONTAINER, "lxc-libvirt": "lxc", "nspawn": "systemd-nspawn"}.get(manager, manager[:32])


def _own_cgroup(host: Host) -> Iterator[_Sign]:
    text = optional.text(host, "/proc/self/cgroup") or ""
    for kind, pattern in _SCOPES:
        found = re.search(pattern, text)
        if found:
            yield _Sign(f"/proc/self/cgroup: {found[0]}", kind=kind, strong=True)
            return


def _own_mounts(host: Host) -> Iterator[_Sign]:
    try:
        table = mounts(host)
    except UnavailableError:
        return
    for mount in table:
        if mount.type == "fuse.lxcfs" and mount.point.startswith("/proc/"):
            yield _Sign(f"/proc/self/mountinfo: lxcfs on {mount.point}", kind="lxc", strong=True)
            break
    for mount in table:
        kind = _stored_by(mount)
        if kind:
            yield _Sign(f"/proc/self/mountinfo: {mount.point} comes from the store of {kind}", kind=kind, strong=True)
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
