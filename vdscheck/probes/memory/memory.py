"""Memory as the kernel counts it, what a balloon took of it, swap, and how long tasks wait for it."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from vdscheck.linux import cgroups, optional_files, procfs
from vdscheck.linux.psi import stalls
from vdscheck.measurements import Memory, MemoryPressure, Swapping
from vdscheck.plugin import Host, Reason, UnavailableError, Window, probe, unmeasured

PAGE_BYTES = 4096
"""What a page is on x86; a captured tree of another architecture says its own in a fact."""

_BLOCKS = "/sys/devices/system/memory"
_STEP_S = 0.25


@probe("memory.amounts", cheap=True, deadline_s=3.0)
def amounts(host: Host) -> Memory:
    """Asks psutil (/proc/meminfo), and reads the memory blocks, the balloon counters and the cgroup limit."""
    found = _numbers(host, "psutil-virtual-memory", _virtual_memory, ("total", "available"))
    driver = _balloon_driver(host)
    limit = cgroups.memory_limit(host, found["total"])
    return Memory(
        total_bytes=found["total"],
        available_bytes=found["available"],
        installed_bytes=_installed(host),
        ballooned_bytes=None if driver is None else _ballooned(host, driver),
        balloon_driver=driver,
        limit_bytes=None if limit is None else limit[0],
        limit_used_bytes=None if limit is None else limit[1],
    )


def _virtual_memory() -> dict[str, Any]:
    import psutil

    found = _written_by_a_kernel(psutil.virtual_memory)
    return {"total": found.total, "available": found.available}


def _written_by_a_kernel(ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - psutil's own tuples
    """What psutil makes of /proc/meminfo, which it takes to be as a kernel writes it."""
    try:
        return ask()
    except (LookupError, ValueError) as error:
        why = "/proc/meminfo is not what a kernel writes there"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error


def _swap_memory() -> dict[str, Any]:
    import psutil

    found = _written_by_a_kernel(psutil.swap_memory)
    return {"total": found.total, "used": found.used}


def _numbers(host: Host, name: str, ask: Any, keys: tuple[str, ...]) -> dict[str, int]:  # noqa: ANN401
    found = host.fact(name, ask)
    if not isinstance(found, dict) or not all(cgroups.is_amount(found.get(key)) for key in keys):
        raise UnavailableError(unmeasured(Reason.ERROR, f"the captured fact {name} lacks {', '.join(keys)}"))
    return {key: found[key] for key in keys}


def _installed(host: Host) -> int | None:
    """The memory blocks that are online; None where the kernel has no such blocks."""
    try:
        block_bytes = int(host.read(f"{_BLOCKS}/block_size_bytes").strip(), 16)
    except (UnavailableError, ValueError):
        return None
    online = 0
    for folder in host.glob(f"{_BLOCKS}/memory[0-9]*"):
        try:
            online += host.read(f"{folder}/online").strip() == "1"
        except UnavailableError:
            return None
    installed = online * block_bytes
    return installed if 0 < installed < cgroups.LARGEST else None


def _balloon_driver(host: Host) -> str | None:
    for bus, driver in (("virtio", "virtio_balloon"), ("vmbus", "hv_balloon")):
        folder = f"/sys/bus/{bus}/drivers/{driver}"
        # besides its devices it holds bind, unbind, uevent, new_id and module
        if any(host.exists(f"{folder}/{name}/driver") for name in optional_files.names(host, folder)):
            return driver
    if host.exists("/sys/module/vmw_balloon"):
        return "vmw_balloon"
    if host.exists("/sys/devices/system/xen_memory/xen_memory0"):
        return "xen"
    return None


def _ballooned(host: Host, driver: str) -> int | None:
    """What the balloon holds now.

    Since 6.16 the kernel counts the pages of every balloon driver (nr_balloon_pages); before that
    only virtio's and VMware's are counted, as pages in and pages out (mm/balloon_compaction.c).
    """
    counters = procfs.vmstat(host)
    if "nr_balloon_pages" in counters:
        return _bytes(counters["nr_balloon_pages"], host)
    if driver in ("virtio_balloon", "vmw_balloon") and {"balloon_inflate", "balloon_deflate"} <= set(counters):
        return _bytes(max(0, counters["balloon_inflate"] - counters["balloon_deflate"]), host)
    return None


def _bytes(pages: int, host: Host) -> int | None:
    found = pages * _page_bytes(host)
    return found if found < cgroups.LARGEST else None


def _page_bytes(host: Host) -> int:
    try:
        found = host.fact("page-bytes", lambda: os.sysconf("SC_PAGE_SIZE"))
    except UnavailableError:
        return PAGE_BYTES
    return found if isinstance(found, int) and found in (4096, 16384, 65536) else PAGE_BYTES


@probe(
    "memory.swapping",
    deadline_s=3.0,
    window=Window(passive_s=0.05, quick_s=0.4, default_s=1.0, thorough_s=3.0),
    live=True,
)
def swapping(host: Host) -> Iterator[Swapping]:
    """Watches pswpin and pswpout of /proc/vmstat while the run goes on; amounts from psutil."""
    began, first = time.monotonic(), _swapped(host)
    amount = _numbers(host, "psutil-swap-memory", _swap_memory, ("total", "used"))
    for _ in host.looks(_STEP_S):
        now = _swapped(host)
        yield Swapping(
            total_bytes=amount["total"],
            used_bytes=amount["used"],
            window_s=round(time.monotonic() - began, 3),
            pages_in=now[0] - first[0],
            pages_out=now[1] - first[1],
            pages_in_since_boot=now[0],
        )


def _swapped(host: Host) -> tuple[int, int]:
    counters = procfs.vmstat(host)
    if "pswpin" not in counters or "pswpout" not in counters:
        why = "/proc/vmstat does not count swapped pages: a kernel without swap"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    return counters["pswpin"], counters["pswpout"]


@probe("memory.stall", cheap=True, deadline_s=2.0)
def stall(host: Host) -> MemoryPressure:
    """Reads /proc/pressure/memory."""
    return stalls(host, "memory", MemoryPressure)
