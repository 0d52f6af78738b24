"""Which program applies the kernel settings when this machine boots, as far as the disk says."""

import re

from vdscheck.linux.systemd_units import Units, leads_to_nothing
from vdscheck.plugin import Host, UnavailableError, frozen
from vdscheck.probes.sysctl.boot.applier import Command, Doubt, doubt, empty_root
from vdscheck.probes.sysctl.boot.cmdline import CommandLine

SYSTEMD_SYSCTL = ("/usr/lib/systemd/systemd-sysctl", "/lib/systemd/systemd-sysctl")
UNIT = "systemd-sysctl.service"
COMMAND = Command(SYSTEMD_SYSCTL)
INIT = "/sbin/init"
PROCPS_SCRIPT = "/etc/init.d/procps"
PROCPS_LINKS = "/etc/rc[S2].d/S*procps"

SYSTEMD, PROCPS, NONE = "systemd-sysctl", "procps", "none"

_LIBRARY = r"libsystemd-shared-([0-9]{2,4})\b"
_LIBRARIES = (
    "/usr/lib/systemd/libsystemd-shared-*.so",
    "/usr/lib/*/systemd/libsystemd-shared-*.so",
    "/lib/systemd/libsystemd-shared-*.so",
    "/usr/lib64/systemd/libsystemd-shared-*.so",
)
_FIRST_TO_RAISE_LIMITS = 240
_LAST_SPLIT_USR = 254
"""systemd's NEWS for 255: support for split-usr systems was removed."""


@frozen
class Init:
    """The program that applies the settings, and what else of the init matters."""

    name: str
    """`systemd-sysctl`, `procps` or `none`."""
    version: int | None
    """Of systemd."""
    boots_with_systemd: bool
    """Whether systemd is known to be PID 1: it raises some limits itself."""
    is_debian: bool
    problems: tuple[str, ...]
    doubt: Doubt | None = None
    """Why it is not known whether it applies the files."""

    @property
    def reads_split_usr(self) -> bool:
        """Whether it reads /lib/sysctl.d where that is not /usr/lib/sysctl.d."""
        return self.is_debian and self.version is not None and self.version <= _LAST_SPLIT_USR

    @property
    def raises_limits(self) -> bool:
        """Whether PID 1 is a systemd that sets fs.file-max and perhaps fs.nr_open."""
        return self.boots_with_systemd and self.version is not None and self.version >= _FIRST_TO_RAISE_LIMITS


def installed_init(host: Host, units: Units, line: CommandLine) -> Init:
    """Which program applies the settings at boot."""
    program = _program_of_pid_1(host, line.init or INIT)
    version = systemd_version(host)
    is_debian = host.exists("/etc/debian_version") or host.exists("/var/lib/dpkg/status")
    name, problems = _applier(host, units, program)
    unsure = doubt(units, UNIT, COMMAND) if name == SYSTEMD else None
    if isinstance(unsure, str):
        name, problems, unsure = NONE, [f"{unsure}: nothing in sysctl.d is applied at boot"], None
    if name == SYSTEMD and UNIT in line.masked:
        name, problems = NONE, [f"{UNIT} is masked ({line.where}): nothing in sysctl.d is applied at boot"]
    if name == SYSTEMD and UNIT in line.perhaps_masked:
        unsure = unsure or Doubt(f"whether {UNIT} is masked is not known: {line.where}", anything=False)
    if program is None and name == SYSTEMD:
        problems.append(f"there is no {INIT}: the next boot is taken to be systemd's, as its files are here")
    unsure = (unsure if name == SYSTEMD else None) or empty_root(host)
    if unsure is not None:
        problems.append(unsure.why)
    return Init(name, version, program == "systemd", is_debian, (*problems, *_running_init(host)), unsure)


def _program_of_pid_1(host: Host, path: str) -> str | None:
    """The name of the program behind /sbin/init, or what the command line names instead; None of none."""
    try:
        return host.resolved(path).rpartition("/")[2] if host.exists(path) else None
    except UnavailableError:
        return None


def _applier(host: Host, units: Units, program: str | None) -> tuple[str, list[str]]:
    has_systemd_sysctl = any(host.exists(path) for path in SYSTEMD_SYSCTL)
    if has_systemd_sysctl and program in {"systemd", None}:
        return _systemd_sysctl(host, units)
    if host.exists(PROCPS_SCRIPT) and program != "systemd":
        if host.glob(PROCPS_LINKS):
            return PROCPS, []
        return NONE, [f"{PROCPS_SCRIPT} is not enabled: no {PROCPS_LINKS}"]
    return NONE, ["neither systemd-sysctl nor procps' init script applies settings at boot"]


def _systemd_sysctl(host: Host, units: Units) -> tuple[str, list[str]]:
    masked = units.mask(UNIT)
    if masked is not None:
        return NONE, [f"{UNIT} is masked ({masked}): nothing in sysctl.d is applied at boot"]
    link = units.wanted_by(UNIT, "sysinit.target")
    if link is None:
        return NONE, [f"{UNIT} is not wanted by sysinit.target: nothing in sysctl.d is applied at boot"]
    if leads_to_nothing(host, link):
        return NONE, [f"{UNIT} is disabled ({link} leads to nothing): nothing in sysctl.d is applied at boot"]
    if units.file(UNIT) is None:
        return NONE, [f"there is no {UNIT}: nothing in sysctl.d is applied at boot"]
    return SYSTEMD, []


def systemd_version(host: Host) -> int | None:
    """The version of the systemd on disk, from the name of its library."""
    found = [re.search(_LIBRARY, path) for pattern in _LIBRARIES for path in host.glob(pattern)]
    return max((int(each[1]) for each in found if each), default=None)


def _running_init(host: Host) -> list[str]:
    try:
        name = host.read("/proc/1/comm").strip()
    except UnavailableError:
        return []
    if name in {"systemd", "init"}:
        return []
    return [f"PID 1 is {name}, not the init on disk: what is said here holds for a boot from this disk"]
