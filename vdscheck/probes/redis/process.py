"""The process of a Redis server, where it runs on this machine: known by the kernel, or by what INFO says of it."""

import os
import re

from vdscheck.linux import optional_files
from vdscheck.linux.own_addresses import address_of, own_addresses
from vdscheck.linux.processes import name, processes
from vdscheck.measurements import RedisProcess
from vdscheck.plugin import Host, UnavailableError
from vdscheck.probes.redis.info import Info, whole
from vdscheck.probes.redis.url import RedisServer

NAMES = ("redis-server", "valkey-server", "keydb-server", "redis-sentinel", "redis-check-rdb")
START_TOLERANCE_S = 3
"""INFO counts whole seconds since some time after the process began."""


def process(host: Host, peer: int | None, found: Info | None) -> RedisProcess | None:
    """The server's process; None where it is not seen here.

    Of a unix socket the kernel knows who is behind it (`peer`). Otherwise INFO names a process by its number,
    which may be that of a container or, through a tunnel, of another machine: so its name and the time
    that it began must be right as well.
    """
    pid = peer
    if pid is None and found is not None:
        pid = _by_info(host, found)
    if pid is None:
        return None
    called = name(host, str(pid))
    return None if called is None else RedisProcess(pid=pid, name=called, huge_pages=_huge_pages(host, pid))


def _by_info(host: Host, found: Info) -> int | None:
    number, uptime_s = whole(found.get("process_id")), whole(found.get("uptime_in_seconds"))
    if number is None or uptime_s is None:
        return None
    for pid in processes(host):
        if name(host, pid) in NAMES and number in _numbers(host, pid):
            running_s = _running_s(host, pid)
            if running_s is not None and abs(running_s - uptime_s) <= START_TOLERANCE_S:
                return int(pid)
    return None


def _numbers(host: Host, pid: str) -> list[int]:
    """The numbers of a process, in the namespaces that it is seen from (proc_pid_status(5), NSpid)."""
    found = re.search(r"^NSpid:\s*([0-9\s]*)$", optional_files.text(host, f"/proc/{pid}/status") or "", re.MULTILINE)
    return [int(each) for each in found[1].split()] if found else [int(pid)]


def _running_s(host: Host, pid: str) -> float | None:
    """How long a process has been running: field 22 of its stat counts ticks since boot."""
    try:
        fields = host.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        up_s = float(host.read("/proc/uptime").split()[0])
        return up_s - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (UnavailableError, ValueError, IndexError):
        return None


def _huge_pages(host: Host, pid: int) -> bool | None:
    found = re.search("^THP_enabled:[ \t]*([01])", optional_files.text(host, f"/proc/{pid}/status") or "", re.MULTILINE)
    return found[1] == "1" if found else None


def waited_us(host: Host, pid: int | str) -> float | None:
    """How long a process was ready and waited for a CPU so far (the second field of its schedstat)."""
    words = (optional_files.text(host, f"/proc/{pid}/schedstat") or "").split()
    waited_ns = whole(words[1]) if len(words) == 3 else None  # noqa: PLR2004 - run, waited, slices
    return None if waited_ns is None else waited_ns / 1000


def here(server: RedisServer, peer_address: str | None, running: RedisProcess | None) -> bool | None:
    """Whether a server runs on this machine; None where only a port of loopback is seen: it may be a tunnel's end."""
    if running is not None or server.socket_path is not None:
        return True
    if server.local:
        return None
    address = None if peer_address is None else address_of(peer_address)
    return address is not None and address in own_addresses()
