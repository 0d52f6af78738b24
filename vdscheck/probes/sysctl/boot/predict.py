"""Boot truth: what the kernel settings will be after the next boot, and what decides it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vdscheck.linux import sysctl_d
from vdscheck.linux.mounts import Emptied
from vdscheck.linux.sysctl_d import Applied, SettingsFile, Write
from vdscheck.linux.systemd_units import Units
from vdscheck.measurements import KERNEL_KEYS, BootTruth, KeyAtBoot
from vdscheck.plugin import Host, UnavailableError, frozen, probe, safe_text
from vdscheck.probes.sysctl.boot import cmdline, procps
from vdscheck.probes.sysctl.boot.accepted_values import as_the_kernel_takes_it
from vdscheck.probes.sysctl.boot.cmdline import CommandLine, command_line
from vdscheck.probes.sysctl.boot.credentials import handed_in
from vdscheck.probes.sysctl.boot.defaults import Kernel, booting_kernel
from vdscheck.probes.sysctl.boot.init import NONE, PROCPS, UNIT, Init, installed_init
from vdscheck.probes.sysctl.boot.late_writers import Again, late_writers
from vdscheck.probes.sysctl.boot.modules import is_early, module_of

PROBLEMS_LIMIT = 100

ALIASES = (
    ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"),
    ("net/netfilter/nf_conntrack_max", "net/nf_conntrack_max"),
)
"""Names of one and the same value: net/ipv4/devinet.c; net/netfilter/nf_conntrack_standalone.c."""
ZERO_EACH_OTHER = (
    ("vm/dirty_bytes", "vm/dirty_ratio"),
    ("vm/dirty_background_bytes", "vm/dirty_background_ratio"),
    ("vm/overcommit_kbytes", "vm/overcommit_ratio"),
)
"""Only one of two counts, and setting it makes 0 of the other: Documentation/admin-guide/sysctl/vm.rst."""

# bump_file_max_and_nr_open in systemd's src/core/main.c, since 240: LONG_MAX, and the largest value that
# the kernel takes (sysctl_nr_open_max in fs/file.c), found by halving until 257. Debian built without
# the second until 255 (-Dbump-proc-sys-fs-nr-open=false in debian/rules; debian/changelog, 256~rc3-3).
FILE_MAX_BY_PID_1 = "9223372036854775807"
NR_OPEN_BY_PID_1 = "1073741816"
LAST_THAT_HALVES = 257
LAST_DEBIAN_THAT_SPARES_NR_OPEN = 255
RAISED_BY_PID_1 = "raised by PID 1 (systemd, src/core/main.c)"
CREDENTIAL = "sysctl.extra"
FOLDERS_OF_64_BITS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64")


@frozen
class Step:
    """One value that is written to a key on the way from power-on to the end of the init's work."""

    key: str
    """As a path below /proc/sys."""
    value: str | None
    """None where it is known that it is set, and not to what."""
    where: str
    origin: Literal["file", "kernel-command-line", "default"]

    @property
    def text(self) -> str:
        """The step as it is shown among those that lost."""
        return f"{self.where} = {'?' if self.value is None else self.value}"


@frozen
class Boot:
    """What is known of the next boot before the init applies any file."""

    init: Init
    kernel: Kernel
    line: CommandLine
    missing: dict[str, str]
    """Keys that do not exist while the init applies its files, with the module that makes them."""


@probe("sysctl.boot", formerly="kernel.boot", deadline_s=10.0)
def boot_truth(host: Host) -> BootTruth:
    """Reads sysctl.d, the kernel command line and the init's files as the installed init does at boot."""
    kernel = booting_kernel(host)
    line = command_line(host)
    units = Units(host)
    init = installed_init(host, units, line)
    targets = _targets()
    boot = Boot(init, kernel, line, _missing(host, targets, kernel, line))
    given = handed_in(host, units, UNIT, CREDENTIAL, line)
    systemd, by_procps = _by_both(host, init, [key.encode() for key in targets], given)
    work = _Work(boot, _before_files(host, boot), *_truth(init, systemd, by_procps))
    keys = {key: work.key_at_boot(key) for key in KERNEL_KEYS}
    said = [*init.problems, line.problem, *work.truth.problems, *work.refused, _idle_sysctl_conf(host, init)]
    return BootTruth(
        init=init.name,
        keys=keys,
        late_writers=late_writers(host, units, Again(_said(systemd), _said(by_procps)), line),
        problems=tuple(dict.fromkeys(each for each in said if each is not None))[:PROBLEMS_LIMIT],
    )


def _targets() -> list[str]:
    """The reported keys and those that bear on them, as paths below /proc/sys."""
    keys = [_path(key) for key in KERNEL_KEYS]
    also = [each for pair in (*ALIASES, *ZERO_EACH_OTHER) for each in pair if set(pair) & set(keys)]
    return list(dict.fromkeys([*keys, *also]))


def _path(key: str) -> str:
    return key.replace(".", "/")


def _missing(host: Host, targets: Iterable[str], kernel: Kernel, line: CommandLine) -> dict[str, str]:
    owned = {key: module for key in targets if (module := module_of(key)) is not None}
    late = {each for each in owned.values() if not is_early(host, each, kernel.release, line.modules)}
    return {key: module for key, module in owned.items() if module in late}


def _by_both(host: Host, init: Init, keys: list[bytes], given: Iterable[SettingsFile]) -> tuple[Applied, Applied]:
    """What systemd-sysctl makes of the files, and what procps' `sysctl --system` does."""
    folders = [*sysctl_d.FOLDERS, *([sysctl_d.FOLDER_OF_SPLIT_USR] if init.reads_split_usr else [])]
    volatile = Emptied.before_mounts(host)
    files = [*sysctl_d.settings_files(host, folders, volatile=volatile), *given]
    by_procps = procps.applied_by_procps(procps.procps_files(host, volatile=volatile), keys)
    return sysctl_d.applied(files, keys, init.version), by_procps


def _truth(init: Init, systemd: Applied, by_procps: Applied) -> tuple[Applied, Applied | None]:
    """What the installed init does, and what procps would where that is another."""
    if init.name == PROCPS:
        return by_procps, None
    if init.name == NONE:
        lost = {key: (*texts, *_texts(systemd, (key,))) for key, texts in systemd.losers.items()}
        return Applied(losers=lost), None
    return systemd, by_procps


def _said(applied: Applied) -> dict[str, str]:
    """What the files say of each reported key, also of one that does not exist yet."""
    return {
        key: safe_text(max(writes, key=_place).value)
        for key in KERNEL_KEYS
        if (writes := [applied.writes[each] for each in _group(_path(key)) if each in applied.writes])
    }


def _idle_sysctl_conf(host: Host, init: Init) -> str | None:
    """Debian 13 has no link to /etc/sysctl.conf any more, and systemd-sysctl reads it by that link alone."""
    path = procps.LAST_FILE
    if init.name == PROCPS or not host.exists(path):
        return None
    if not sysctl_d.parse([sysctl_d.read_settings_file(host, path)], init.version)[0]:
        return None
    read = {_real(host, each) for folder in sysctl_d.FOLDERS for each in host.glob(f"{folder}/*.conf")}
    if _real(host, path) in read:
        return None
    return f"{path}: nothing reads it at boot, as no link in /etc/sysctl.d leads to it; `sysctl --system` does"


def _before_files(host: Host, boot: Boot) -> tuple[Step, ...]:
    """The command line, then PID 1: what is written before the init applies any file."""
    steps = []
    version = boot.kernel.version
    if version is None or version >= cmdline.SINCE_KERNEL:
        steps += [Step(key, value, boot.line.where, "kernel-command-line") for key, value in boot.line.settings]
    if boot.init.raises_limits and any(host.is_folder(folder) for folder in FOLDERS_OF_64_BITS):
        steps.append(Step("fs/file-max", FILE_MAX_BY_PID_1, RAISED_BY_PID_1, "default"))
        halves = (boot.init.version or 0) <= LAST_THAT_HALVES
        if not boot.init.is_debian or (boot.init.version or 0) > LAST_DEBIAN_THAT_SPARES_NR_OPEN:
            steps.append(Step("fs/nr_open", NR_OPEN_BY_PID_1 if halves else None, RAISED_BY_PID_1, "default"))
    return tuple(steps)


def _real(host: Host, path: str) -> str | None:
    try:
        return host.resolved(path)
    except UnavailableError:
        return None


@dataclass(slots=True)
class _Work:
    """From all that is written to the value that is there in the end."""

    boot: Boot
    before_files: tuple[Step, ...]
    truth: Applied
    procps: Applied | None
    refused: list[str] = field(default_factory=list)

    def key_at_boot(self, key: str) -> KeyAtBoot:
        """What one key will be, and why."""
        group = _group(_path(key))
        module = self.boot.missing.get(_path(key))
        if module is not None:
            return self._without_module(group, module)
        unsure = next((self.truth.unknown[each] for each in group if each in self.truth.unknown), None)
        lost = tuple(text for each in group for text in self.truth.losers.get(each, ()))
        if unsure is not None:
            where = f"{unsure} cannot be read here, and may set it"
            return _key(None, "unread", where, lost + _texts(self.truth, group))
        steps = self._steps(key, self.truth)
        value, step = self._folded(key, steps, self.refused)
        doubt = self.boot.init.doubt
        if doubt is not None and (doubt.anything or value is None or self._without_files(key, steps) != value):
            return _key(None, "unread", doubt.why, lost + _texts(self.truth, group))
        other = value if self.procps is None else self._folded(key, self._steps(key, self.procps), [])[0]
        if value is None and step is not None and step.origin == "kernel-command-line":
            return _key(None, "unread", step.where, lost + _texts(self.truth, group))
        where, origin = (step.where, step.origin) if step else self._by_nobody(key)
        origin = "unknown" if value is None else origin
        beaten = [each for each in steps if each is not step]
        early = tuple(each.text for each in beaten if each.origin != "file")
        late = tuple(each.text for each in beaten if each.origin == "file")
        return _key(value, origin, where, early + lost + late, other if other != value else None)

    def _without_files(self, key: str, steps: Iterable[Step]) -> str | None:
        return self._folded(key, [step for step in steps if step.origin != "file"], [])[0]

    def _by_nobody(self, key: str) -> tuple[str, Literal["default", "unknown"]]:
        default = self.boot.kernel.default(key)
        if default is None:
            return "nobody sets it, and the default of this kernel is not known", "unknown"
        return default[1], "default"

    def _without_module(self, group: Sequence[bytes], module: str) -> KeyAtBoot:
        lines = tuple(text for each in group for text in self.truth.losers.get(each, ())) + _texts(self.truth, group)
        said = f"{module} is not loaded when the init applies its files, so the key does not exist then"
        return _key(None, "unknown", said, lines, module=module)

    def _steps(self, key: str, by: Applied) -> list[Step]:
        """All that is written to a key, under any of its names, and to one that makes 0 of it, in order."""
        names = (*_group(_path(key)), *_partners(_path(key)))
        writes = sorted((by.writes[each] for each in names if each in by.writes), key=_place)
        files = [Step(safe_text(each.key), safe_text(each.value), each.where, "file") for each in writes]
        return [step for step in self.before_files if step.key.encode() in names] + files

    def _folded(self, key: str, steps: Iterable[Step], refused: list[str]) -> tuple[str | None, Step | None]:
        """The value after all steps, and the one that decided."""
        default = self.boot.kernel.default(key)
        value, winner = default[0] if default else None, None
        for step in steps:
            taken = step.value
            if step.key.encode() in _partners(_path(key)):
                taken = "0"
            elif taken is not None:
                taken = as_the_kernel_takes_it(key, taken, value)
                if taken is None:
                    refused.append(f"{step.where}: the kernel refuses {step.value!r} for {key}")
                    continue
            value, winner = taken, step
        return value, winner


def _key(
    value: str | None,
    origin: Literal["file", "kernel-command-line", "default", "unread", "unknown"],
    where: str,
    overridden: tuple[str, ...],
    procps_value: str | None = None,
    module: str | None = None,
) -> KeyAtBoot:
    return KeyAtBoot(
        value=value,
        origin=origin,
        where=where,
        overridden=overridden,
        procps_value=procps_value,
        needs_module=module,
    )


def _texts(applied: Applied, group: Sequence[bytes]) -> tuple[str, ...]:
    writes = [applied.writes[each] for each in group if each in applied.writes]
    return tuple(f"{write.where} = {safe_text(write.value)}" for write in sorted(writes, key=_place))


def _place(write: Write) -> int:
    return write.place


def _group(path: str) -> tuple[bytes, ...]:
    """A key with the other names of the same value."""
    return tuple(each.encode() for each in next((names for names in ALIASES if path in names), (path,)))


def _partners(path: str) -> tuple[bytes, ...]:
    """The key that makes 0 of this one when it is set."""
    return tuple(each.encode() for pair in ZERO_EACH_OTHER if path in pair for each in pair if each != path)
