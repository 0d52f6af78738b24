"""Transparent huge pages after the next boot: kernel default, command line, tmpfiles.d, and who comes late."""

import re
from collections.abc import Iterator

from vdscheck.linux import procfs
from vdscheck.linux.systemd_units import Units
from vdscheck.measurements import HugePagesAtBoot, LateWriter
from vdscheck.plugin import Host, UnavailableError, frozen, probe
from vdscheck.probes.sysctl.boot.cmdline import HUGE_PAGE_MODES, CommandLine, command_line
from vdscheck.probes.sysctl.boot.defaults import booting_kernel
from vdscheck.probes.sysctl.boot.late_huge_pages import late_huge_pages
from vdscheck.probes.sysctl.boot.tmpfiles import applied_at_boot, tmpfiles

FILE = "/sys/kernel/mm/transparent_hugepage/enabled"
LEAST_BYTES = 512 << 20
"""With less memory the kernel turns them off whatever it is told: hugepage_init in mm/huge_memory.c."""
ABOUT = 0.1
"""MemTotal is less than what the kernel counts then by what it frees of itself later: nearer than this is not told."""
CONFIGURED = {"ALWAYS": "always", "MADVISE": "madvise", "NEVER": "never"}
"""mm/Kconfig, CONFIG_TRANSPARENT_HUGEPAGE_*."""


@frozen
class _Begin:
    """What the kernel comes up with."""

    value: str | None
    where: str


@probe("sysctl.huge-pages-at-boot", deadline_s=5.0)
def huge_pages_at_boot(host: Host) -> HugePagesAtBoot:
    """Reads the kernel's configuration and command line, tmpfiles.d, and what else sets the mode at boot."""
    units, line = Units(host), command_line(host)
    begin = _begin(host, line)
    why, unsure = applied_at_boot(host, units, line)
    late = tuple(late_huge_pages(host, units))
    if why is not None:
        return _made(begin.value, begin.where, why, (), late)
    found = tmpfiles(host, units, line).written(FILE)
    if unsure is not None and (unsure.anything or found.value != begin.value):
        return _made(None, unsure.why, None, found.overridden, late)
    if not found.sure:
        return _made(None, found.why or "tmpfiles.d could not be read", None, found.overridden, late)
    if found.value is None or found.where is None:
        return _made(begin.value, begin.where, None, found.overridden, late)
    if found.value not in HUGE_PAGE_MODES:
        where = f"{begin.where}; {found.where} says {found.value!r}, which the kernel refuses"
        return _made(begin.value, where, None, found.overridden, late)
    return _made(found.value, found.where, None, found.overridden, late)


def _made(
    value: str | None, where: str, why: str | None, overridden: tuple[str, ...], late: tuple[LateWriter, ...]
) -> HugePagesAtBoot:
    return HugePagesAtBoot(
        value=value, where=where, applied=why is None, not_applied=why, overridden=overridden, late_writers=late
    )


def _begin(host: Host, line: CommandLine) -> _Begin:
    memory = _memory_bytes(host)
    if memory is not None and memory < LEAST_BYTES * (1 - ABOUT):
        return _Begin("never", "the kernel turns them off with less than 512 MiB of memory")
    if memory is None or memory < LEAST_BYTES:
        return _Begin(
            None, "whether there are 512 MiB of memory, with less of which the kernel turns them off, is not known"
        )
    if line.huge_pages is not None:
        return _Begin(line.huge_pages, line.where)
    if line.problem is not None:
        return _Begin(None, line.problem)
    release = booting_kernel(host).release
    return next(_configured(host, release), _Begin(None, "the configuration of the kernel cannot be read"))


def _memory_bytes(host: Host) -> int | None:
    try:
        return procfs.meminfo_bytes(host).get("MemTotal")
    except UnavailableError:
        return None


def _configured(host: Host, release: str | None) -> Iterator[_Begin]:
    if release is None or "/" in release:
        return
    for path in (f"/boot/config-{release}", f"/lib/modules/{release}/config", f"/usr/lib/modules/{release}/config"):
        try:
            text = host.read(path)
        except UnavailableError:
            continue
        for word, mode in CONFIGURED.items():
            if re.search(rf"(?m)^CONFIG_TRANSPARENT_HUGEPAGE_{word}=y$", text):
                yield _Begin(mode, f"kernel default ({path})")
