"""What processes hold open: files against their limits, inotify watches, listening sockets."""

import re
import time
from collections.abc import Collection, Iterator

from vdscheck.measurements import FileHandles, InotifyUse
from vdscheck.model import frozen
from vdscheck.plugin import Host, Reason, UnavailableError, probe, unmeasured

LOOK_LIMIT_S = 1.0
"""How long the processes of a host are looked at; a host may have tens of thousands of them."""
COMM_LIMIT = 64
"""A name has at most 15 bytes (TASK_COMM_LEN), and safe_text may write each as four."""

_NUMBER = "(?a)[0-9]{1,19}"
_OPEN_FILES = r"(?ma)^Max open files[ ]+([0-9]{1,19})[ ]"


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


# Open files


@frozen
class _Service:
    name: str
    limit: int
    open_files: int | None

    @property
    def share(self) -> float:
        return (self.open_files or 0) / max(1, self.limit)


@probe("kernel.file-handles", cheap=True, deadline_s=3.0)
def file_handles(host: Host) -> FileHandles:
    """Reads /proc/sys/fs/file-nr, and limits and open files of the services in /proc/PID."""
    words = host.read("/proc/sys/fs/file-nr").split()
    if len(words) != 3 or not all(re.fullmatch(_NUMBER, word) for word in words):  # noqa: PLR2004
        raise UnavailableError(unmeasured(Reason.ERROR, "/proc/sys/fs/file-nr does not hold three numbers"))
    found = list(_services(host))
    lowest = min(found, key=lambda service: service.limit, default=None)
    counted = (service for service in found if service.open_files is not None)
    fullest = max(counted, key=lambda service: service.share, default=None)
    return FileHandles(
        allocated=int(words[0]),
        maximum=int(words[2]),
        lowest_service_limit=lowest.limit if lowest else None,
        lowest_service=lowest.name if lowest else None,
        fullest_service=fullest.name if fullest else None,
        fullest_service_open=fullest.open_files if fullest else None,
        fullest_service_limit=fullest.limit if fullest else None,
    )


def _services(host: Host) -> Iterator[_Service]:
    """The services: what PID 1 started, or adopted, and its own limit of open files."""
    ends_at = time.monotonic() + LOOK_LIMIT_S
    for pid in processes(host):
        if time.monotonic() > ends_at:
            return
        try:
            # The name, in parentheses, may hold anything; the parent is the second word behind it.
            if host.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1:2] != ["1"]:
                continue
            limit = re.search(_OPEN_FILES, host.read(f"/proc/{pid}/limits"))
        except UnavailableError:
            continue
        called = name(host, pid)
        if limit and called is not None:
            yield _Service(called, int(limit[1]), _count(host, pid))


def _count(host: Host, pid: str) -> int | None:
    try:
        return len(host.names(f"/proc/{pid}/fd"))
    except UnavailableError:
        return None


# inotify


@probe("kernel.inotify", live=True)
def inotify(host: Host) -> InotifyUse:
    """Counts inotify instances and watches in /proc/PID/fdinfo of the processes that may be seen."""
    instances, unseen = 0, 0
    watches: dict[int, int] = {}
    ends_at = time.monotonic() + LOOK_LIMIT_S
    for pid in processes(host):
        if time.monotonic() > ends_at:
            unseen += 1
            continue
        try:
            user = host.status(f"/proc/{pid}").uid
            held = [each for each, target in descriptors(host, pid, ends_at) if target == "anon_inode:inotify"]
        except UnavailableError as error:
            unseen += error.absent.reason is Reason.PERMISSION
            continue
        instances += len(held)
        for descriptor in held:
            watches[user] = watches.get(user, 0) + _watches(host, f"/proc/{pid}/fdinfo/{descriptor}")
    return InotifyUse(
        instances=instances,
        watches=sum(watches.values()),
        most_watches_of_a_user=max(watches.values(), default=0),
        processes_unseen=unseen,
    )


def _watches(host: Host, path: str) -> int:
    """One line `inotify wd:...` a watch; a watcher of half a million files has a long file."""
    try:
        return host.read(path, limit_bytes=1 << 27).count("inotify wd:")
    except UnavailableError:
        return 0
