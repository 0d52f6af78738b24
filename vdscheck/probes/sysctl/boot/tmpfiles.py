"""What systemd-tmpfiles writes at the next boot: whether it runs, and which kernel settings it sets."""

from collections.abc import Iterator

from vdscheck.linux.mounts import Emptied
from vdscheck.linux.systemd_units import Units
from vdscheck.linux.tmpfiles_d import Tmpfiles
from vdscheck.measurements import KERNEL_KEYS, LateWriter
from vdscheck.plugin import Host
from vdscheck.probes.sysctl.boot.applier import Command, Doubt, doubt, empty_root
from vdscheck.probes.sysctl.boot.cmdline import CommandLine
from vdscheck.probes.sysctl.boot.credentials import handed_in
from vdscheck.probes.sysctl.boot.init import installed_init
from vdscheck.probes.sysctl.boot.shell import OTHER_NAMES, Settings, judged

UNIT = "systemd-tmpfiles-setup.service"
CREDENTIAL = "tmpfiles.extra"
PROGRAMS = ("/usr/bin/systemd-tmpfiles", "/bin/systemd-tmpfiles")
COMMAND = Command(
    ("systemd-tmpfiles", *PROGRAMS),
    needs=frozenset(("--create", "--boot")),
    may_have=frozenset(("--remove", "--exclude-prefix=/dev", "--graceful")),
)


def tmpfiles(host: Host, units: Units, line: CommandLine) -> Tmpfiles:
    """All lines that it reads."""
    return Tmpfiles.of(host, Emptied.of(host), handed_in(host, units, UNIT, CREDENTIAL, line))


def applied_at_boot(host: Host, units: Units, line: CommandLine) -> tuple[str | None, Doubt | None]:
    """Why nothing of tmpfiles.d is applied when the machine boots; else what keeps it from being known."""
    why = _not_applied(host, units, line)
    unsure = doubt(units, UNIT, COMMAND) if why is None else None
    if isinstance(unsure, str):
        why, unsure = f"{unsure}: nothing of tmpfiles.d is applied at boot", None
    if why is None and UNIT in line.perhaps_masked:
        unsure = unsure or Doubt(f"whether {UNIT} is masked is not known: {line.where}", anything=False)
    return why, unsure or empty_root(host)


def late_tmpfiles(host: Host, units: Units, line: CommandLine) -> Iterator[LateWriter]:
    """The files with lines that set kernel settings (`w /proc/sys/KEY - - - - VALUE`), as far as it is told to what."""
    why, unsure = applied_at_boot(host, units, line)
    found = tmpfiles(host, units, line)
    by_file: dict[str, Settings] = {}
    for key in (*KERNEL_KEYS, *OTHER_NAMES):
        written, name = found.written(f"/proc/sys/{key.replace('.', '/')}"), judged(key)
        if written.where is None or name is None:
            continue
        settings = by_file.setdefault(written.where.rpartition(":")[0], {})
        plain = None if written.value is None or unsure is not None else " ".join(written.value.split())
        settings[name] = plain if settings.get(name, plain) == plain else None
    if found.unread is not None:
        by_file.setdefault(found.unread.path, {})
    for file, settings in sorted(by_file.items()):
        values = {key: value for key, value in sorted(settings.items()) if value is not None}
        yield LateWriter(
            name="systemd-tmpfiles", file=file, keys=tuple(sorted(settings)), values=values, enabled=why is None
        )


def _not_applied(host: Host, units: Units, line: CommandLine) -> str | None:
    """Why nothing of tmpfiles.d is applied at boot; None where it is."""
    init = installed_init(host, units, line)
    if not init.boots_with_systemd:
        return "the init is not systemd, so nothing applies tmpfiles.d at boot"
    if not any(host.exists(path) for path in PROGRAMS):
        return "there is no systemd-tmpfiles, so nothing applies tmpfiles.d at boot"
    mask = units.mask(UNIT)
    if mask is not None or UNIT in line.masked:
        return f"{UNIT} is masked ({mask or line.where}): nothing of tmpfiles.d is applied at boot"
    if units.file(UNIT) is None or not units.is_enabled(UNIT):
        return f"nothing starts {UNIT}, so nothing of tmpfiles.d is applied at boot"
    return None
