"""Which kernel modules are there when the init applies the settings: keys of others do not exist yet."""

import re

from vdscheck.plugin import Host, UnavailableError

FOLDERS = ("/etc/modules-load.d", "/usr/local/lib/modules-load.d", "/usr/lib/modules-load.d", "/lib/modules-load.d")
"""modules-load.d(5); /run/modules-load.d is empty when the machine boots."""
LISTS = ("/etc/modules", "/etc/initramfs-tools/modules")
"""Read by kmod's init script (modules(5)), and by initramfs-tools for the initial RAM disk."""
INDEX_LIMIT_BYTES = 4 * 1024 * 1024

OWNER_OF_KEY = (
    (r"net/(?:netfilter/)?nf_conntrack_\w+", "nf_conntrack"),
    (r"net/bridge/.+", "br_netfilter"),
)
"""The module that makes a key."""


def module_of(key: str) -> str | None:
    """The module without which a key, as a path below /proc/sys, does not exist."""
    return next((module for pattern, module in OWNER_OF_KEY if re.fullmatch(pattern, key)), None)


def is_early(host: Host, module: str, release: str | None, also: tuple[str, ...]) -> bool:
    """Whether a module is built in, or loaded before systemd-sysctl runs (it is ordered after modules-load)."""
    if _is_built_in(host, module, release):
        return True
    listed = {_plain(name) for name in also} | _listed(host)
    return module in listed or bool(listed & _users_of(host, module, release))


def _is_built_in(host: Host, module: str, release: str | None) -> bool:
    if _names_module(_text(host, f"/lib/modules/{release}/modules.builtin"), module):
        return True
    if not host.live:
        return False
    loaded = {line.partition(" ")[0] for line in _text(host, "/proc/modules").splitlines()}
    return host.exists(f"/sys/module/{module}") and module not in loaded


def _names_module(index: str, module: str) -> bool:
    return any(_file_name(line) == module for line in index.splitlines())


def _file_name(path: str) -> str:
    return _plain(path.rpartition("/")[2].partition(".ko")[0])


def _listed(host: Host) -> set[str]:
    paths: dict[str, str] = {}
    for folder in FOLDERS:
        for path in host.glob(f"{folder}/*.conf"):
            paths.setdefault(path.rpartition("/")[2], path)
    found: set[str] = set()
    for path in (*paths.values(), *LISTS):
        for line in _text(host, path).splitlines():
            words = line.split()
            if words and words[0][0] not in "#;":
                found.add(_plain(words[0]))
    return found


def _users_of(host: Host, module: str, release: str | None) -> set[str]:
    """The modules that need this one, and so bring it with them: modules.dep(5)."""
    found = set()
    for line in _text(host, f"/lib/modules/{release}/modules.dep").splitlines():
        user, _, needed = line.partition(":")
        if module in {_file_name(path) for path in needed.split()}:
            found.add(_file_name(user))
    return found


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path, limit_bytes=INDEX_LIMIT_BYTES)
    except UnavailableError:
        return ""
