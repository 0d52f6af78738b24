"""What the control groups that we are in allow: the tightest limit from ours up to the root."""

from collections.abc import Iterator

from vdscheck.linux import optional_files
from vdscheck.linux.mounts import Mount, mounts
from vdscheck.plugin import Host, UnavailableError

LARGEST = 1 << 62
"""Beyond this a counter of bytes or pages is nonsense, and reports could not carry it."""


def cpu_quota(host: Host) -> float | None:
    """How many CPUs the cgroups allow at most; None without a limit."""
    found: list[float] = []
    for folder, unified in _folders(host, "cpu"):
        if unified:
            limit, period = (*_words(host, f"{folder}/cpu.max"), "", "")[:2]
        else:
            limit = "".join(_words(host, f"{folder}/cpu.cfs_quota_us"))
            period = "".join(_words(host, f"{folder}/cpu.cfs_period_us"))
        quota_us, period_us = whole(limit), whole(period)
        if quota_us and period_us:
            found.append(quota_us / period_us)
    return min(found, default=None)


def throttle_files(host: Host) -> tuple[str, ...]:
    """The cpu.stat files of our cgroup and those above it that count throttling."""
    files = [f"{folder}/cpu.stat" for folder, _ in _folders(host, "cpu")]
    return tuple(file for file in dict.fromkeys(files) if throttles(optional_files.text(host, file) or "") is not None)


def throttles(text: str) -> tuple[int, int, int] | None:
    """Periods, throttled periods, and the throttled time in ns, of a cpu.stat of either version.

    None where it counts none of this: the root of the unified hierarchy, or a kernel without
    CONFIG_CFS_BANDWIDTH.
    """
    words = text.split()
    said = {name: whole(number) for name, number in zip(words[::2], words[1::2], strict=False)}
    periods, throttled = said.get("nr_periods"), said.get("nr_throttled")
    time_ns, time_us = said.get("throttled_time"), said.get("throttled_usec")
    if time_ns is None and time_us is not None:
        time_ns = 1000 * time_us
    if periods is None or throttled is None or time_ns is None:
        return None
    return periods, throttled, time_ns


def memory_limit(host: Host, total_bytes: int) -> tuple[int, int] | None:
    """The tightest memory limit within all of memory, and what is used of it; None without one.

    Used is what reclaim could not give back at once: all but the inactive part of the page cache,
    which is how the kubelet counts a working set.
    """
    best: tuple[int, int] | None = None
    for folder, unified in _folders(host, "memory"):
        names = (
            ("memory.max", "memory.current", "inactive_file")
            if unified
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        limit = whole("".join(_words(host, f"{folder}/{names[0]}")))
        used = whole("".join(_words(host, f"{folder}/{names[1]}")))
        if limit is None or used is None or limit > total_bytes or (best and best[0] <= limit):
            continue
        words = _words(host, f"{folder}/memory.stat")
        stat = dict(zip(words[::2], words[1::2], strict=False))
        idle = whole(stat.get(names[2], "")) or 0
        best = (limit, max(0, used - idle))
    return best


def whole(text: str) -> int | None:
    """A number of less than 63 bits as the kernel writes it; None of anything else (`max`, `-1`)."""
    if not text.isascii() or not text.isdecimal() or len(text) > 20:  # noqa: PLR2004 - digits of 2**64
        return None
    number = int(text)
    return number if number < LARGEST else None


def is_amount(value: object) -> bool:
    """Whether a captured fact is a number of bytes, pages or inodes."""
    return type(value) is int and 0 <= value < LARGEST


def _words(host: Host, path: str) -> list[str]:
    return (optional_files.text(host, path) or "").split()


def _folders(host: Host, controller: str) -> Iterator[tuple[str, bool]]:
    """Our cgroup's folder and all above it, up to the mount; whether each is of the unified hierarchy."""
    try:
        table = mounts(host)
        lines = host.read("/proc/self/cgroup").split("\n")
    except UnavailableError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, found, path = rest.partition(":")
        unified = number == "0" and not controllers
        if not found or not (unified or controller in controllers.split(",")):
            continue
        mount = _mounted(table, controller, unified=unified)
        if mount is not None:
            for folder in _upwards(mount, path):
                yield folder, unified


def _mounted(table: tuple[Mount, ...], controller: str, *, unified: bool) -> Mount | None:
    for mount in table:
        if unified and mount.type == "cgroup2":
            return mount
        if not unified and mount.type == "cgroup" and controller in mount.details:
            return mount
    return None


def _upwards(mount: Mount, path: str) -> Iterator[str]:
    # without a cgroup namespace a container sees the path of its host, and only its own part mounted
    below = path.removeprefix(mount.root) if mount.root != "/" else path
    parts = [part for part in below.split("/") if part and part != ".."]
    base = mount.point.rstrip("/")
    for depth in range(len(parts), -1, -1):
        yield "/".join([base, *parts[:depth]])
