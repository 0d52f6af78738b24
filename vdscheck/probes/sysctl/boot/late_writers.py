"""What else on disk sets kernel settings after the init has: scripts, units, rules, hooks."""

import re
from collections.abc import Callable, Iterator, Mapping

from vdscheck.linux.sysctl_d import read_settings_file
from vdscheck.linux.systemd_units import Units
from vdscheck.measurements import KERNEL_KEYS, LateWriter
from vdscheck.plugin import Host, UnavailableError, frozen
from vdscheck.probes.sysctl.boot import procps
from vdscheck.probes.sysctl.boot.cmdline import CommandLine
from vdscheck.probes.sysctl.boot.late_programs import program_writers
from vdscheck.probes.sysctl.boot.shell import (
    ALL_FILES,
    CALLS,
    ONE_FILE,
    OTHER_NAMES,
    Settings,
    judged,
    settings_of,
    udev_settings,
)
from vdscheck.probes.sysctl.boot.tmpfiles import late_tmpfiles

FILES_LIMIT = 1000
"""How many files of one kind are looked at."""
SCRIPT_LIMIT_BYTES = 256 * 1024
SCRIPTS_LIMIT = 20
"""How many scripts are read that one thing starts, and these start."""
SPARED_UNITS = frozenset(("systemd-sysctl.service", "procps.service"))
SPARED_SCRIPTS = frozenset(("procps", "procps.sh"))
"""The init's own, which the files are applied by."""
SPARED_RULES = "99-systemd.rules"
"""Runs systemd-sysctl for the keys of one network interface when that appears: none of them is judged."""

_RULES = ("/etc/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
_MODPROBE = ("/etc/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
_CRONTABS = ("/var/spool/cron/crontabs/root", "/var/spool/cron/root", "/var/spool/cron/tabs/root")
"""Root's own: of Debian, of Red Hat, of SUSE."""
_PROGRAMS = r"(/(?!proc/|sys/|dev/)[^\s;'\"]+)"
_OWN_PROGRAMS = r"(/(?:usr/local|usr/libexec|opt|etc|root|srv|home|var)/[^\s;'\"]+)"
_STARTED = (
    r"(?:^[-@:+!|]*|\b(?:ba|da|k|z|a|mk)?sh|\bpython[\d.]*|\bperl|\bsource|(?:^|[\s;&|'\"])\.)(?:\s+-[\w-]+)*\s*['\"]?"
)
"""What stands before the name of a script that is started, also of one that says not by what."""
_BECOMES_ANOTHER = (
    r"(?:^|[\s/'\"=;&|(@:+!-])(?:runuser|su|gosu|su-exec|setuidgid|s6-setuidgid|chpst"
    r"|(?:sudo|doas)\s[^;&|]*(?:-\w*u|--user)|setpriv\s[^;&|]*--reuid|systemd-run\s[^;&|]*--uid"
    r"|start-stop-daemon\s[^;&|]*(?:-c|--chuid)|chroot\s[^;&|]*--userspec)[\s=]"
)
"""How a command line runs what stands behind it as another user."""
_SYSTEMD_SYSCTL = r"systemd-sysctl\b(.*)"
_PREFIX = r"--prefix[= ]([\w./*-]+)"


@frozen
class Again:
    """What the files of sysctl.d say of each key, for those that apply them again."""

    systemd: Mapping[str, str]
    procps: Mapping[str, str]


def late_writers(host: Host, units: Units, again: Again, line: CommandLine) -> tuple[LateWriter, ...]:
    """All that are found, each with the keys that it was seen to set."""
    look = Look(host, units, again)
    finders: tuple[Callable[[], Iterator[LateWriter]], ...] = (
        look.rc_local,
        look.init_scripts,
        look.units_of_the_host,
        look.interface_hooks,
        look.udev_rules,
        look.module_hooks,
        look.cron,
    )
    found = (writer for find in finders for writer in find())
    return (*program_writers(host, units), *late_tmpfiles(host, units, line), *found)


@frozen
class Look:
    """The places where something may be set late, and how what stands there becomes a writer."""

    host: Host
    units: Units
    again: Again

    def rc_local(self) -> Iterator[LateWriter]:
        """/etc/rc.local runs where it is executable: systemd-rc-local-generator(8)."""
        yield from self._script("rc.local", "/etc/rc.local", enabled=self._is_executable("/etc/rc.local"))

    def init_scripts(self) -> Iterator[LateWriter]:
        """Scripts of SysV that have no unit of their own: systemd-sysv-generator(8); another init runs all."""
        systemd = self._is_systemd()
        for path in self.host.glob("/etc/rc[2-5S].d/S*")[:FILES_LIMIT]:
            name = re.sub(r"^S[0-9]+", "", path.rpartition("/")[2])
            if name not in SPARED_SCRIPTS and not (systemd and self.units.file(f"{name.removesuffix('.sh')}.service")):
                yield from self._script("init script", path, enabled=self._is_executable(path))

    def _is_systemd(self) -> bool:
        try:
            return self.host.resolved("/sbin/init").endswith("/systemd")
        except UnavailableError:
            return True

    def units_of_the_host(self) -> Iterator[LateWriter]:
        """Units that call sysctl or write below /proc/sys when they start, also in a script of the host's own."""
        own = {path.rpartition("/")[2] for path in self.host.glob("/etc/systemd/system/*.service")}
        names = sorted(own | set(self.units.enabled))
        for name in names[:FILES_LIMIT]:
            path = self.units.file(name)
            if name in SPARED_UNITS or path is None:
                continue
            yield from self._writer(
                name,
                path,
                "\n".join(self.units.commands(name)),
                enabled=self.units.is_enabled(name),
                user=self.units.user(name),
                programs=_PROGRAMS if path.startswith("/etc/") else _OWN_PROGRAMS,
            )
        if len(names) > FILES_LIMIT:
            yield self.not_looked_at(f"{len(names) - FILES_LIMIT:,} of {len(names):,} units", "/etc/systemd/system")

    def interface_hooks(self) -> Iterator[LateWriter]:
        """What ifupdown, NetworkManager and networkd-dispatcher run when an interface comes up."""
        ifupdown = self.host.exists("/usr/sbin/ifup") or self.host.exists("/sbin/ifup")
        for path in ("/etc/network/interfaces", *self.host.glob("/etc/network/interfaces.d/*")):
            lines = re.findall(r"^\s*(?:pre-up|up|post-up)\s+(.*)$", self.text(path), re.MULTILINE)
            yield from self._writer("network interfaces", path, "\n".join(lines), enabled=ifupdown)
        for pattern, enabled in (
            ("/etc/network/if-up.d/*", ifupdown),
            ("/etc/network/if-pre-up.d/*", ifupdown),
            ("/etc/NetworkManager/dispatcher.d/*", self.units.is_enabled("NetworkManager.service")),
            ("/etc/networkd-dispatcher/*/*", self.units.is_enabled("networkd-dispatcher.service")),
        ):
            for path in self.host.glob(pattern)[:FILES_LIMIT]:
                runs = enabled and self._is_executable(path)
                yield from self._script("network interface hook", path, enabled=runs)

    def udev_rules(self) -> Iterator[LateWriter]:
        """Rules that set keys, or run what does."""
        for path in self.rules():
            text = self.text(path)
            if "sysctl" in text.lower() or "/proc/sys/" in text:
                yield from self._made("udev rule", path, udev_settings(text) | self._applied_again(text), text)

    def rules(self) -> list[str]:
        """The files of udev's rules, without the one of systemd itself."""
        return [path for path in self._by_name(_RULES, "*.rules") if not path.endswith(SPARED_RULES)]

    def module_hooks(self) -> Iterator[LateWriter]:
        """What modprobe runs in the place of loading a module."""
        for path in self._by_name(_MODPROBE, "*.conf"):
            lines = re.findall(r"^\s*install\s+\S+\s+(.*)$", self.text(path), re.MULTILINE)
            yield from self._writer("modprobe", path, "\n".join(lines), enabled=True)

    def cron(self) -> Iterator[LateWriter]:
        """Lines that run once at boot: @reboot, crontab(5). What cron runs as another user sets nothing."""
        for path in ("/etc/crontab", *self.host.glob("/etc/cron.d/*"), *_CRONTABS):
            user = "" if path in _CRONTABS else r"(?:root|0)\s+"
            lines = re.findall(rf"^\s*@reboot\s+{user}(.*)$", self.text(path), re.MULTILINE)
            yield from self._writer("cron", path, "\n".join(lines), enabled=True)

    def not_looked_at(self, what: str, where: str) -> LateWriter:
        """What there is too much of may set anything."""
        return _late(f"{what} that were not looked at", where, dict.fromkeys(KERNEL_KEYS), enabled=True)

    # How a text becomes a writer

    def _script(self, name: str, path: str, *, enabled: bool) -> Iterator[LateWriter]:
        yield from self._writer(name, path, self.text(path), enabled=enabled)

    def _writer(
        self, name: str, path: str, text: str, *, enabled: bool, user: str = "root", programs: str = _OWN_PROGRAMS
    ) -> Iterator[LateWriter]:
        said = "\n".join(self._with_scripts(text, programs, as_root=user in ("root", "0")))
        yield from self._said(name, path, said, enabled=enabled)

    def _said(self, name: str, path: str, said: str, *, enabled: bool) -> Iterator[LateWriter]:
        """The writer that a text makes of it, which has no comments."""
        if re.search(CALLS, said):
            yield from self._made(name, path, settings_of(said) | self._applied_again(said), said, enabled=enabled)

    def _with_scripts(self, text: str, programs: str, *, as_root: bool) -> Iterator[str]:
        """The lines of a text without comments, and those of the scripts that it starts, and that these start."""
        seen: set[str] = set()
        todo = [(line, as_root, programs) for line in _lines(text)]
        while todo:
            line, by_root, pattern = todo.pop(0)
            yield line
            by_root = by_root or re.match(r"[-@:|]*[+!]", line) is not None
            for program in re.findall(pattern, line):
                if program in seen or len(seen) == SCRIPTS_LIMIT:
                    continue
                seen.add(program)
                runs = by_root and not _becomes_another(line.partition(program)[0], line)
                script = self._started(program, line) if runs or self._is_roots(program) else ""
                todo += [(each, runs, _OWN_PROGRAMS) for each in _lines(script)]

    def _started(self, path: str, line: str) -> str:
        """The text of a script that a line starts; empty where it is none."""
        text = self.text(path)
        is_script = text.startswith("#!") or re.search(_STARTED + re.escape(path), line) is not None
        return text if is_script and "\0" not in text else ""

    def _made(self, name: str, path: str, found: Settings, text: str, *, enabled: bool = True) -> Iterator[LateWriter]:
        """Nothing of a text that sets no judged key in so many words, unless it hides what it sets."""
        hides = re.search(r"\bsysctl\b[^\n]*[$`]|\bcd\s+\"?/proc/sys\b|>\s*\"?/proc/sys/[^\s]*\$", text) is not None
        if found or hides:
            yield _late(name, path, found, enabled=enabled)

    def _applied_again(self, text: str) -> Settings:
        """What the files of sysctl.d say, where a text has them applied again."""
        found: Settings = {}
        for call in re.finditer(_SYSTEMD_SYSCTL, text):
            prefixes = [prefix.replace(".", "/").strip("/") for prefix in re.findall(_PREFIX, call[1])]
            for key, value in self.again.systemd.items():
                path = key.replace(".", "/")
                if not prefixes or any(path == each or path.startswith(f"{each}/") for each in prefixes):
                    found[key] = value
        if re.search(ALL_FILES, text):
            found |= self.again.procps
        for call in re.finditer(ONE_FILE, text):
            found |= self._of_file(call[1] or procps.LAST_FILE)
        return found

    def _of_file(self, path: str) -> Settings:
        if not path.startswith("/") or not self.host.exists(path):
            return {}
        keys = [key.replace(".", "/").encode() for key in (*KERNEL_KEYS, *OTHER_NAMES)]
        writes = procps.applied_by_procps([read_settings_file(self.host, path)], keys).writes
        return {
            name: write.value.decode("utf-8", "backslashreplace")
            for key, write in writes.items()
            if (name := judged(key.decode())) is not None
        }

    # What is on disk

    def _by_name(self, folders: tuple[str, ...], pattern: str) -> list[str]:
        """The files of these folders, of each name that of the first one."""
        chosen: dict[str, str] = {}
        for folder in folders:
            for path in self.host.glob(f"{folder}/{pattern}"):
                chosen.setdefault(path.rpartition("/")[2], path)
        return [chosen[name] for name in sorted(chosen)][:FILES_LIMIT]

    def text(self, path: str) -> str:
        """The text of a file; empty where it cannot be read."""
        try:
            return self.host.read(path, limit_bytes=SCRIPT_LIMIT_BYTES)
        except UnavailableError:
            return ""

    def _is_roots(self, path: str) -> bool:
        """Whether a file is root's, without a link on the way, which could lead to what another user chose."""
        try:
            return self.host.resolved(path) == path and self.host.status(path).uid == 0
        except UnavailableError:
            return False

    def _is_executable(self, path: str) -> bool:
        try:
            return bool(self.host.status(path).mode & 0o111)
        except UnavailableError:
            return False


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def _becomes_another(before: str, line: str) -> bool:
    """Whether a program is run as another user, who can set nothing."""
    return re.search(_BECOMES_ANOTHER, before) is not None and not re.search(r"\broot\b", line)


def _late(name: str, file: str, found: Settings, *, enabled: bool) -> LateWriter:
    return LateWriter(
        name=name,
        file=file,
        keys=tuple(sorted(found)),
        values={key: value for key, value in sorted(found.items()) if value is not None},
        enabled=enabled,
    )
