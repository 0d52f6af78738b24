"""Who the host is: what the head of a report says of it."""

import os

from vdscheck.measurements import Identity
from vdscheck.plugin import Host, UnavailableError, probe


@probe("host.identity", formerly="machine.identity", cheap=True, deadline_s=2.0)
def identity(host: Host) -> Identity:
    """Reads the hostname, the machine id, the boot id, os-release and the first processor's name."""
    found = Identity(
        name=_line(host, "/proc/sys/kernel/hostname") or _line(host, "/etc/hostname") or "unnamed",
        machine_id=_line(host, "/etc/machine-id"),
        boot_id=_line(host, "/proc/sys/kernel/random/boot_id"),
        os=_assigned(host, ("/etc/os-release", "/usr/lib/os-release"), "PRETTY_NAME", "="),
        kernel=_line(host, "/proc/sys/kernel/osrelease"),
        cpu_model=_assigned(host, ("/proc/cpuinfo",), "model name", ":"),
        cpus=_configured(host, "cpus-online", "SC_NPROCESSORS_ONLN", 1),
        memory_bytes=_configured(host, "memory-bytes", "SC_PHYS_PAGES", os.sysconf("SC_PAGE_SIZE")),
    )
    host.limits_met.clear()  # the head of a report says what it has: each of these may be missing alone
    return found


def _line(host: Host, path: str) -> str | None:
    try:
        return host.read(path).strip().partition("\n")[0] or None
    except UnavailableError:
        return None


def _assigned(host: Host, paths: tuple[str, ...], name: str, sign: str) -> str | None:
    """The first value of a name in the first of some files that can be read."""
    for path in paths:
        try:
            lines = host.read(path).splitlines()
        except UnavailableError:
            continue
        for line in lines:
            key, found, value = line.partition(sign)
            if found and key.strip() == name:
                return value.strip().strip("\"'") or None
    return None


def _configured(host: Host, fact: str, name: str, unit: int) -> int | None:
    try:
        found = host.fact(fact, lambda: os.sysconf(name) * unit)
    except UnavailableError:
        return None
    return found if isinstance(found, int) else None
