"""What on disk sets transparent huge pages after systemd-tmpfiles has: scripts, units, rules, sysfsutils, tuned."""

import re
from collections.abc import Callable, Iterator

from vdscheck.linux.systemd_units import Units
from vdscheck.measurements import LateWriter
from vdscheck.plugin import Host, UnavailableError
from vdscheck.probes.sysctl.boot.late_programs import tuned_options
from vdscheck.probes.sysctl.boot.late_writers import Again, Look

KEY = "transparent_hugepage.enabled"
MENTIONS = (
    r"transparent_hugepage(?!/(?:defrag|khugepaged|shmem_enabled|use_zero_page|hpage_pmd_size)\b)"
    r"|\btransparent_hugepages?\s*="
)
"""The mode, or a pattern or a variable that may be it; its neighbours are something else."""
ONLY_READS = r"^[^>]*\b(?:cat|grep|awk|head|test|\[)\b[^>]*$"
_SAID = r"\b(?:echo|printf)\s+(?:-\w+\s+)?['\"]?(always|madvise|never)\b"
_SYSFSUTILS = r"^\s*kernel[/.]mm[/.]transparent_hugepage[/.]enabled\s*=\s*(\S+)"
_CLOUD = ("/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d/*.cfg", "/var/lib/cloud/scripts/per-boot/*")


def late_huge_pages(host: Host, units: Units) -> Iterator[LateWriter]:
    """All that are found; where it cannot be told what one writes, it is said that it does."""
    look = _Look(host, units, Again({}, {}))
    finders: tuple[Callable[[], Iterator[LateWriter]], ...] = (
        look.rc_local,
        look.units_of_the_host,
        look.interface_hooks,
        look.udev_rules,
        look.module_hooks,
        look.cron,
    )
    for find in finders:
        yield from find()
    yield from _tuned(host, units)
    yield from _sysfsutils(host, units)
    yield from _cloud_init(host, units)


class _Look(Look):
    """The same places as for kernel settings, with another thing to look for."""

    def _writer(self, name: str, path: str, text: str, *, enabled: bool) -> Iterator[LateWriter]:
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        found = [line for line in lines if re.search(MENTIONS, line) and not re.search(ONLY_READS, line)]
        if found:
            said = re.search(_SAID, found[-1])
            yield _late(name, path, said[1] if said else None, enabled=enabled)

    def not_looked_at(self, what: str, where: str) -> LateWriter:
        """What there is too much of may set it."""
        return _late(f"{what} that were not looked at", where, None, enabled=True)

    def udev_rules(self) -> Iterator[LateWriter]:
        """Rules that run something for it."""
        for path in self.rules():
            yield from self._writer("udev rule", path, self.text(path), enabled=True)


def _late(name: str, file: str, value: str | None, *, enabled: bool) -> LateWriter:
    values = {} if value is None else {KEY: value}
    return LateWriter(name=name, file=file, keys=(KEY,), values=values, enabled=enabled)


def _tuned(host: Host, units: Units) -> Iterator[LateWriter]:
    """`transparent_hugepages=` of the plugin vm, and a path of the plugin sysfs, in the active profile."""
    for path, options in tuned_options(host):
        for key, value in options:
            if key in ("transparent_hugepages", "transparent_hugepage") or key.endswith("transparent_hugepage/enabled"):
                plain = value if re.fullmatch("always|madvise|never", value) else None
                yield _late("tuned", path, plain, enabled=units.is_enabled("tuned.service"))


def _sysfsutils(host: Host, units: Units) -> Iterator[LateWriter]:
    for path in ("/etc/sysfs.conf", *host.glob("/etc/sysfs.d/*.conf")):
        found = re.findall(_SYSFSUTILS, _text(host, path), re.MULTILINE)
        if found:
            yield _late("sysfsutils", path, found[-1], enabled=units.is_enabled("sysfsutils.service"))


def _cloud_init(host: Host, units: Units) -> Iterator[LateWriter]:
    names = ("cloud-init.service", "cloud-init-local.service", "cloud-init-main.service")
    runs = any(map(units.is_enabled, names)) and not host.exists("/etc/cloud/cloud-init.disabled")
    for path in (path for pattern in _CLOUD for path in host.glob(pattern)):
        if re.search(MENTIONS, _text(host, path)):
            yield _late("cloud-init", path, None, enabled=runs)


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path)
    except UnavailableError:
        return ""
