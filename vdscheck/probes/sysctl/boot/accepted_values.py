"""What the kernel makes of the text that is written to a setting: a number, two, a list of ports, or nothing."""

import re

from vdscheck.plugin import frozen

_NUMBER = r"(?a)(-?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)"
_LONGEST_NUMBER = 21
"""TMPBUFLEN in kernel/sysctl.c, less one."""
_LAST_PORT = 65535
_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1


@frozen
class Numbers:
    """Whole numbers within bounds, each with its own."""

    low: int
    high: int
    count: int = 1


# Bounds as the tables of the kernel's source give them (kernel/sysctl.c, fs/file_table.c, mm/util.c,
# net/core/sysctl_net_core.c, net/ipv4/sysctl_net_ipv4.c) since 5.13. The first port of the range must
# not be below net.ipv4.ip_unprivileged_port_start, which is 1024 where nobody lowers it.
KINDS: dict[str, Numbers] = {
    "fs.file-max": Numbers(0, _LONG_MAX),
    "fs.inotify.max_user_instances": Numbers(0, _LONG_MAX),
    "fs.inotify.max_user_watches": Numbers(0, _LONG_MAX),
    "fs.nr_open": Numbers(8, _INT_MAX),
    "net.core.somaxconn": Numbers(0, _INT_MAX),
    "net.ipv4.conf.all.rp_filter": Numbers(-_INT_MAX - 1, _INT_MAX),
    "net.ipv4.conf.default.rp_filter": Numbers(-_INT_MAX - 1, _INT_MAX),
    "net.ipv4.ip_forward": Numbers(-_INT_MAX - 1, _INT_MAX),
    "net.ipv4.ip_local_port_range": Numbers(1024, _LAST_PORT, 2),
    "net.ipv4.tcp_max_syn_backlog": Numbers(-_INT_MAX - 1, _INT_MAX),
    "net.ipv4.tcp_slow_start_after_idle": Numbers(0, 255),
    "net.ipv4.tcp_syncookies": Numbers(0, 255),
    "net.ipv4.tcp_timestamps": Numbers(0, 255),
    "net.ipv4.tcp_tw_reuse": Numbers(0, 2),
    "net.netfilter.nf_conntrack_max": Numbers(-_INT_MAX - 1, _INT_MAX),
    "vm.max_map_count": Numbers(0, _INT_MAX),
    "vm.overcommit_memory": Numbers(0, 2),
    "vm.swappiness": Numbers(0, 200),
}
PORT_LIST = "net.ipv4.ip_local_reserved_ports"


def as_the_kernel_takes_it(key: str, text: str, before: str | None) -> str | None:
    """The value that a key shows after this text was written to it; None where the kernel refuses it.

    `before` is what it showed, where that is known: fewer numbers than a key has leave the others.
    """
    if key == PORT_LIST:
        return _ports(text)
    kind = KINDS.get(key)
    if kind is None:
        return " ".join(text.split())
    given = [_number(word) for word in re.split("[ \t\n]+", text.strip(" \t\n\v\f\r"))[: kind.count]]
    kept = (before or "").split()[len(given) : kind.count]
    numbers = [number for number in given if number is not None and kind.low <= number <= kind.high]
    if len(numbers) != len(given) or len(numbers) + len(kept) != kind.count:
        return None
    numbers += [int(word) for word in kept]
    return " ".join(map(str, numbers)) if numbers == sorted(numbers) else None


def _number(word: str) -> int | None:
    """Decimal, 0x hexadecimal or 0 octal: proc_get_long and simple_strtoul with base 0."""
    found = re.fullmatch(_NUMBER, word)
    if not found or len(word) > _LONGEST_NUMBER:
        return None
    digits = found[2].lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    return int(found[1] + digits, base)


def _ports(text: str) -> str | None:
    """A list of ports and ranges, in order and joined: proc_do_large_bitmap."""
    chosen: set[int] = set()
    listed = text.rstrip(" \t\n").removesuffix(",")
    for part in listed.split(",") if listed else ():
        low, dash, high = part.partition("-")
        first, last = _number(low), _number(high) if dash else _number(low)
        if first is None or last is None or not 0 <= first <= last <= _LAST_PORT:
            return None
        chosen |= set(range(first, last + 1))
    return ",".join(_ranges(sorted(chosen)))


def _ranges(ports: list[int]) -> list[str]:
    found: list[list[int]] = []
    for port in ports:
        if found and found[-1][1] == port - 1:
            found[-1][1] = port
        else:
            found.append([port, port])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]
