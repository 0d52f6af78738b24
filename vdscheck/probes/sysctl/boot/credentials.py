"""Settings that systemd hands to the unit that applies them: systemd.system-credentials(7), read after all files."""

import fnmatch
from collections.abc import Iterator

from vdscheck.linux import sysctl_d
from vdscheck.linux.sysctl_d import SettingsFile
from vdscheck.linux.systemd_units import Units
from vdscheck.measurements import NOT_LOOKED_AT
from vdscheck.plugin import Host, Reason, UnavailableError
from vdscheck.probes.sysctl.boot.cmdline import CommandLine

SYSTEM = "/run/credentials/@system"
STORES = ("/etc/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore")
"""By precedence, behind what the system itself was given: systemd.exec(5), LoadCredential=."""
VOLATILE_STORES = ("/run/credstore", "/run/credstore.encrypted")
ENCRYPTED = ("/run/credentials/@encrypted", *(f"{store}.encrypted" for store in STORES))
FIRMWARE = "/sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials"
OEM_STRINGS = "/sys/firmware/dmi/entries/11-*/raw"
"""SMBIOS type 11: io.systemd.credential:NAME=VALUE."""
_LOADS = ("ImportCredential", "LoadCredential", "LoadCredentialEncrypted")


def handed_in(host: Host, units: Units, unit: str, name: str, line: CommandLine) -> list[SettingsFile]:
    """What the unit reads under the name of a credential at the next boot, as far as it can be seen."""
    if not _is_loaded(units, unit, name):
        return []
    found = [
        SettingsFile(path, trouble=f"{path}: not counted: /run is empty when the machine boots")
        for path in _there(host, VOLATILE_STORES, name)
    ]
    closed = [folder for folder in (SYSTEM, *STORES, *ENCRYPTED) if _is_closed(host, f"{folder}/{name}")]
    if closed:
        found.append(
            SettingsFile(closed[0], trouble=f"{name} in {' and '.join(closed)} (open to root alone) {NOT_LOOKED_AT}")
        )
    unseen = next(_unseen(host, name, line), None)
    if unseen is not None:
        why = f"{unseen}: what this credential sets is not known"
        return [*found, SettingsFile(unseen, trouble=why, unreadable=True)]
    given = next(_there(host, (SYSTEM, *STORES), name), None)
    return found if given is None else [*found, sysctl_d.read_settings_file(host, given)]


def _is_loaded(units: Units, unit: str, name: str) -> bool:
    try:
        lines = [line for line in units.assignments(unit) if line.key in _LOADS]
    except UnavailableError:
        return True
    return any(fnmatch.fnmatchcase(name, line.value.partition(":")[0]) for line in lines)


def _there(host: Host, folders: tuple[str, ...], name: str) -> Iterator[str]:
    return (f"{folder}/{name}" for folder in folders if host.exists(f"{folder}/{name}"))


def _is_closed(host: Host, path: str) -> bool:
    """Whether only root can see if there is such a file."""
    try:
        host.status(path)
    except UnavailableError as error:
        return error.absent.reason is Reason.PERMISSION
    return False


def _unseen(host: Host, name: str, line: CommandLine) -> Iterator[str]:
    """Where it is handed in so that its content cannot be read here."""
    yield from _there(host, ENCRYPTED, name)
    if host.exists(f"{SYSTEM}/{name}"):
        return  # what the system itself was given, all of which comes from one of these
    if name in line.credentials:
        yield f"systemd.set_credential={name} on the {line.where}"
    yield from _there(host, (FIRMWARE,), name)
    for path in host.glob(OEM_STRINGS):
        try:
            strings = host.read_bytes(path)
        except UnavailableError:
            continue
        if any(f"io.systemd.credential{kind}:{name}=".encode() in strings for kind in ("", ".binary")):
            yield path
