"""What on disk sets transparent huge pages after systemd-tmpfiles has: scripts, units, rules, sysfsutils, tuned."""

import re
from collections.abc import Callable, Iterator

from vdscheck.linux.systemd_units import Units
from vdscheck.measurements import LateWriter
from vdscheck.plugin import Host, UnavailableError
from vdscheck.probes.sysctl.boot.late_programs import tuned_options
from vdscheck.probes.sysctl.boot.late_writers import Again, Look
from vdscheck.probes.sysctl.boot.shell import DECIDING

KEY = "transparent_hugepage.enabled"
MENTIONS = (
    r"transparent_hugepage(?!/(?:defrag|khugepaged|shmem_enabled|use_zero_page|hpage_pmd_size)\b)"
    r"|\btransparent_hugepages?\s*=|--thp-(?:always|madvise|never)\b"
)
"""The mode, or a pattern or a variable that may be it; its neighbours are something else."""
_ONLY_READS = r"\s*[-@:+!]*(?:(?:/usr)?/bin/)?(?:cat|head|grep|ls)\s[^<>|;&$`()]*"
_FILE = r"['\"]?/sys/kernel/mm/transparent_hugepage/enabled(?=['\"\s;&|)]|$)"
_SETS = rf"\b(?:echo|printf)\s+(?:-n\s+)?['\"]?(always|madvise|never)\b['\"]?\s*(?:>|\|\s*(?:/usr/bin/)?tee)\s*{_FILE}"
"""The one way of setting it that is understood."""
_SYSFSUTILS = r"^\s*kernel[/.]mm[/.]transparent_hugepage[/.]enabled\s*=\s*(\S+)"
_CLOUD = ("/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d/*.cfg", "/var/lib/cloud/scripts/per-boot/*")


def late_huge_pages(host: Host, units: Units) -> Iterator[LateWriter]:
    """All that are found; where it cannot be told what one writes, it is said that it does."""
    look = _Look(host, units, Again({}, {}))
    finders: tuple[Callable[[], Iterator[LateWriter]], ...] = (
        look.rc_local,
        look.init_scripts,
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

    def _said(self, name: str, path: str, said: str, *, enabled: bool) -> Iterator[LateWriter]:
        if any(_may_write(line) for line in said.splitlines()):
            yield _late(name, path, _mode(said), enabled=enabled)

    def not_looked_at(self, what: str, where: str) -> LateWriter:
        """What there is too much of may set it."""
        return _late(f"{what} that were not looked at", where, None, enabled=True)

    def udev_rules(self) -> Iterator[LateWriter]:
        """Rules that run something for it."""
        for path in self.rules():
            yield from self._writer("udev rule", path, self.text(path), enabled=True)


def _may_write(line: str) -> bool:
    return re.search(MENTIONS, line) is not None and re.fullmatch(_ONLY_READS, line) is None


def _mode(text: str) -> str | None:
    """The mode that a text sets; None where it says several, or may do something else, or decides whether it does."""
    said = list(re.finditer(_SETS, text))
    modes = {each[1] for each in said}
    if len(modes) != 1 or DECIDING.search(text[: said[0].start()]):
        return None
    return None if any(map(_may_write, re.sub(_SETS, "", text).splitlines())) else modes.pop()


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
