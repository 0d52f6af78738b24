"""What processes hold open: files against their limits, inotify watches, listening sockets."""

import re
import time
from collections.abc import Iterator

from vdscheck.linux.processes import _NUMBER, LOOK_LIMIT_S, descriptors, name, processes
from vdscheck.measurements import FileHandles, InotifyUse
from vdscheck.plugin import Host, Reason, UnavailableError, frozen, probe, unmeasured

_OPEN_FILES = r"(?ma)^Max open files[ ]+([0-9]{1,19})[ ]"


# Open files


@frozen
class _Service:
    name: str
    limit: int
    open_files: int | None

    @property
    def share(self) -> float:
        return (self.open_files or 0) / max(1, self.limit)


@probe("sysctl.open-files", formerly="kernel.file-handles", cheap=True, deadline_s=3.0)
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


@probe("sysctl.inotify-use", formerly="kernel.inotify", live=True)
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
