"""What kernel settings are before anybody sets them: asked of a fresh network namespace, or sourced."""

import json
import os
import re
import select
import signal
from collections.abc import Callable

from vdscheck.plugin import Host, Reason, UnavailableError, frozen, unmeasured

# net/core/net_namespace.c, net/ipv4/af_inet.c and net/ipv4/tcp_ipv4.c give these the same value in
# every new namespace. Left out are those that a new one copies from the first: net.ipv4.conf.all and
# .default (net.core.devconf_inherit_init_net, Documentation/admin-guide/sysctl/net.rst) with
# ip_forward, which is conf.all.forwarding; and nf_conntrack_max, which all of them share.
SAME_IN_A_NEW_NAMESPACE = (
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
)
# A namespace with a hash table of its own has another backlog: net/ipv4/tcp_ipv4.c, tcp_set_hashinfo.
OWN_HASH_TABLE = "/proc/sys/net/ipv4/tcp_child_ehash_entries"
FRESH_NAMESPACE_TIMEOUT_S = 1.5

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

Version = tuple[int, int]
"""Of a kernel: major and minor."""


@frozen
class Default:
    """A value that the kernel's source gives, for a range of versions."""

    value: str
    source: str
    since: Version = (0, 0)
    before: Version = (1000, 0)


_IP_SYSCTL = "Documentation/networking/ip-sysctl.rst"
_VM = "Documentation/admin-guide/sysctl/vm.rst"
DEFAULTS: dict[str, tuple[Default, ...]] = {
    "fs.inotify.max_user_instances": (Default("128", "fs/notify/inotify/inotify_user.c"),),
    "fs.inotify.max_user_watches": (Default("8192", "fs/notify/inotify/inotify_user.c", before=(5, 11)),),
    "fs.nr_open": (Default("1048576", "Documentation/admin-guide/sysctl/fs.rst"),),
    "net.core.somaxconn": (
        Default("128", _IP_SYSCTL, before=(5, 4)),
        Default("4096", _IP_SYSCTL, since=(5, 4)),
    ),
    "net.ipv4.conf.all.rp_filter": (Default("0", _IP_SYSCTL),),
    "net.ipv4.conf.default.rp_filter": (Default("0", _IP_SYSCTL),),
    "net.ipv4.ip_forward": (Default("0", _IP_SYSCTL),),
    "net.ipv4.ip_local_port_range": (
        Default("32768 61000", _IP_SYSCTL, before=(4, 2)),
        Default("32768 60999", _IP_SYSCTL, since=(4, 2)),
    ),
    "net.ipv4.ip_local_reserved_ports": (Default("", _IP_SYSCTL),),
    "net.ipv4.tcp_slow_start_after_idle": (Default("1", _IP_SYSCTL),),
    "net.ipv4.tcp_syncookies": (Default("1", _IP_SYSCTL),),
    "net.ipv4.tcp_timestamps": (Default("1", _IP_SYSCTL),),
    "net.ipv4.tcp_tw_reuse": (
        # The commit is of June 2018, between 4.17 and 4.19: 4.18 is left open.
        Default("0", _IP_SYSCTL, before=(4, 18)),
        Default("2", _IP_SYSCTL, since=(4, 19)),
    ),
    "vm.max_map_count": (Default("65530", _VM),),
    "vm.overcommit_memory": (Default("0", "mm/util.c"),),
    "vm.swappiness": (Default("60", _VM),),
}
"""Defaults of the kernel's own source; those that follow from the size of the memory are not here."""


@frozen
class Kernel:
    """The kernel that will boot, as far as it is known."""

    release: str | None
    fresh: dict[str, str]
    """What a fresh network namespace shows now."""

    @property
    def version(self) -> Version | None:
        """Major and minor, where the release says them."""
        return version_of(self.release or "")

    def default(self, key: str) -> tuple[str, str] | None:
        """The value of a key that nobody sets, and where that is known from."""
        if key in self.fresh:
            return self.fresh[key], "kernel default (a fresh network namespace shows it)"
        known = DEFAULTS.get(key, ())
        if len(known) == 1 and known[0] == Default(known[0].value, known[0].source):
            return known[0].value, f"kernel default ({known[0].source})"
        version = self.version
        if version is None or _is_patched(self.release or ""):
            return None
        for each in known:
            if each.since <= version < each.before:
                return each.value, f"kernel default ({each.source}, Linux {version[0]}.{version[1]})"
        return None


def _is_patched(release: str) -> bool:
    """Red Hat's kernels carry an old number and much that is newer."""
    return re.search(r"\.el[0-9]", release) is not None


def version_of(release: str) -> Version | None:
    """Major and minor version of a kernel release."""
    found = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", release)
    return (int(found[1]), int(found[2])) if found else None


def booting_kernel(host: Host) -> Kernel:
    """The running kernel, or in a tree without one the newest that is installed."""
    return Kernel(_release(host), fresh_namespace(host))


def _release(host: Host) -> str | None:
    try:
        return host.read("/proc/sys/kernel/osrelease").strip()
    except UnavailableError:
        pass
    found = [path.rpartition("/")[2] for path in host.glob("/lib/modules/*")]
    found += [path.rpartition("/vmlinuz-")[2] for path in host.glob("/boot/vmlinuz-*")]
    known = [release for release in found if version_of(release)]
    return max(known, key=_numbers, default=None)


def _numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall("[0-9]{1,9}", release)]


def fresh_namespace(host: Host) -> dict[str, str]:
    """What a new network namespace shows; empty where none may be made, or none was captured."""
    try:
        found = host.fact("fresh-netns", lambda: _ask_fresh_namespace(host))
        own_table = host.exists(OWN_HASH_TABLE) and host.read(OWN_HASH_TABLE).strip() != "0"
    except UnavailableError:
        return {}
    if not isinstance(found, dict):
        return {}
    spared = {"net.ipv4.tcp_max_syn_backlog"} if own_table else set()
    keys = [key for key in SAME_IN_A_NEW_NAMESPACE if key not in spared]
    return {key: found[key] for key in keys if isinstance(found.get(key), str)}


def _ask_fresh_namespace(host: Host) -> dict[str, str]:
    """Read the keys in a child that has a new namespace: /proc/sys/net is that of the task which opens."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(host, writer)
    os.close(writer)
    try:
        content = _read_until_closed(reader)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not content:
        why = "this process may not make a network namespace; root may"
        raise UnavailableError(unmeasured(Reason.PERMISSION, why))
    found = json.loads(content)
    return {str(key): str(value) for key, value in found.items()}


def _be_child(host: Host, writer: int) -> None:
    """Send what the new namespace shows, and end; nothing is sent where there is none."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        unshare: Callable[[int], int] = libc.unshare
        if unshare(_CLONE_NEWNET) == 0 or unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
            os.write(writer, json.dumps(_shown(host)).encode())
    finally:
        os._exit(0)


def _shown(host: Host) -> dict[str, str]:
    found = {}
    for key in SAME_IN_A_NEW_NAMESPACE:
        try:
            found[key] = " ".join(host.read(f"/proc/sys/{key.replace('.', '/')}").split())
        except UnavailableError:
            continue
    return found


def _read_until_closed(reader: int) -> bytes:
    content = b""
    waiting = select.poll()
    waiting.register(reader, select.POLLIN)
    while waiting.poll(FRESH_NAMESPACE_TIMEOUT_S * 1000):
        piece = os.read(reader, 65536)
        if not piece:
            return content
        content += piece
    return b""
