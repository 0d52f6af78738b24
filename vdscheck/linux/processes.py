"""Processes, their names and their descriptors, as far as /proc shows them."""

import re
import time
from collections.abc import Collection, Iterator

from vdscheck.plugin import Host, UnavailableError

LOOK_LIMIT_S = 1.0
"""How long the processes of a host are looked at; a host may have tens of thousands of them."""
COMM_LIMIT = 64
"""A name has at most 15 bytes (TASK_COMM_LEN), and safe_text may write each as four."""

_NUMBER = "(?a)[0-9]{1,19}"


def processes(host: Host) -> list[str]:
    """The processes that may be seen, the oldest numbers first."""
    try:
        return sorted((name for name in host.names("/proc") if re.fullmatch(_NUMBER, name)), key=int)
    except UnavailableError:
        return []


def name(host: Host, pid: str) -> str | None:
    """What a process is called; None where it has ended."""
    try:
        return host.read(f"/proc/{pid}/comm").strip()[:COMM_LIMIT]
    except UnavailableError:
        return None


def descriptors(host: Host, pid: str, ends_at: float) -> Iterator[tuple[str, str]]:
    """The open files of a process as (descriptor, what its link says), until some time on the monotonic clock.

    Raises UnavailableError.
    """
    for found in host.links(f"/proc/{pid}/fd"):
        if time.monotonic() > ends_at:
            return
        yield found


def socket_owners(host: Host, inodes: Collection[int]) -> dict[int, str]:
    """Who holds some sockets, by inode, as far as may be seen (root sees all) and time allows."""
    wanted, found = {f"socket:[{inode}]": inode for inode in inodes}, dict[int, str]()
    ends_at = time.monotonic() + LOOK_LIMIT_S
    for pid in processes(host) if wanted else ():
        if not wanted or time.monotonic() > ends_at:
            break
        held = _held(host, pid, wanted, ends_at)
        owner = name(host, pid) if held else None
        if owner is not None:
            found |= {wanted.pop(link): owner for link in held}
    return found


def _held(host: Host, pid: str, wanted: Collection[str], ends_at: float) -> set[str]:
    """Which of these descriptors a process has open, by what their links say."""
    held: set[str] = set()
    try:
        for _, link in descriptors(host, pid, ends_at):
            if link in wanted:
                held.add(link)
                if len(held) == len(wanted):
                    break
    except UnavailableError:
        return set()
    return held
