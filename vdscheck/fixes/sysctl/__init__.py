"""Kernel settings: set below /proc/sys, persisted in a file of sysctl.d."""

import errno
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from vdscheck.fixes import by_hand
from vdscheck.fixes.sysctl import boot as next_boot
from vdscheck.fixes.sysctl import held, huge_pages
from vdscheck.fixes.sysctl.boot import FILE, FOLDER, NAME, same
from vdscheck.linux import sysctl_d
from vdscheck.measurements import BootTruth, KernelOwner, Listeners, NodeAgents, Sysctls
from vdscheck.plugin import (
    Absent,
    AtBoot,
    FixChange,
    FixKind,
    Host,
    LeftAlone,
    Measurements,
    Reason,
    Restored,
    SettingFix,
    Surroundings,
    Taken,
    safe_text,
)

V = TypeVar("V")

KEY = r"[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)+|net/ipv4/conf/(?!\.{1,2}/)[A-Za-z0-9_.-]{1,15}/forwarding"
"""The key of a kernel setting that may be set, such as `net.core.somaxconn`; with slashes, where a name has dots."""
FORWARD, INTERFACES = "net.ipv4.ip_forward", "net.ipv4.conf"
REDIRECTS = "net.ipv4.conf.all.accept_redirects"
OWNED_ON_A_NODE = (
    r"net\.ipv4\.ip_forward|net\.ipv6\.conf\..*forwarding|net\.ipv4\.conf\..*\.rp_filter|net\.bridge\.bridge-nf-.*"
    r"|net\.netfilter\.nf_conntrack_.*|vm\.overcommit_memory"
)
"""What kubelet, kube-proxy and network plugins set: kubernetes' component-helpers/node/util/sysctl and
pkg/proxy/conntrack; the CNI plugins' own documentation."""
BACKLOG = "net.core.somaxconn"
SHOWN_LIMIT = 8
OF_A_NAMESPACE = "net."
"""How the keys begin that each network namespace has for itself."""
NOT_READ = (Reason.TIMEOUT, Reason.PERMISSION, Reason.ERROR, Reason.UNREACHABLE)
"""Why a key that there is has no value. A kernel that does not have it was seen (unsupported)."""


class KernelSettings(FixKind):
    """Kernel settings, by their keys (sysctl(8))."""

    name = "sysctl"
    key_pattern = KEY
    file = FILE
    boot = BootTruth
    deciding: ClassVar[Mapping[type, str]] = {
        Sysctls: "the settings of the running kernel",
        BootTruth: "what the settings will be after the next boot",
        KernelOwner: "whose kernel this is",
        NodeAgents: "whether this is a Kubernetes node, whose agents set some keys",
    }
    beside = (Listeners,)
    whole = held.EVERY_SETTING
    single = tuple(held.SETTINGS)
    page_fix = ("vdscheck --fix --only {check}", "sysctl -w KEY=VALUE", f"echo 'KEY = VALUE' >> {FILE}")
    page_undo = ("vdscheck undo", "sysctl -w KEY=OLD", f"sed -i '\\#^KEY = VALUE$#d' {FILE}")

    def __init__(self, folder: str = "/proc/sys") -> None:
        from vdscheck.fixes.sysctl.kernel import Kernel

        self._kernel = Kernel(folder)

    # For people

    def summary(self, setting: SettingFix) -> str:
        """What a proposed change does."""
        return f"set {setting.key} to {setting.value}, {by_hand.when(setting)}"

    def commands(self, setting: SettingFix) -> tuple[str, ...]:
        """The same by hand: now, and at every boot."""
        return by_hand.commands(setting, _sysctl(setting.key, setting.value), _line(setting), FILE)

    def undo(self, setting: SettingFix) -> tuple[str, ...]:
        """What takes it back by hand."""
        now = None if setting.before is None else _sysctl(setting.key, setting.before)
        return by_hand.undo(setting, now, _line(setting), FILE)

    # A plan

    def same(self, first: str | None, second: str | None) -> bool:
        """Whether two values are the same field by field."""
        return same(first, second)

    def now(self, key: str, here: Surroundings) -> str | None:
        """A setting as it was measured."""
        sysctls = here.of(Sysctls)
        return None if here.image or sysctls is None else sysctls.values.get(key)

    def why_not(self, key: str, here: Surroundings) -> str | None:
        """Why a key is not ours to set, whatever its value."""
        boot = here.of(BootTruth)
        if not re.fullmatch(KEY, key) or boot is None or key not in boot.keys:
            return "what it will be after the next boot is not known"
        owner = here.of(KernelOwner)
        if owner is None and not here.image:
            return "whose kernel this is could not be told"
        if owner is not None and not owner.ours:
            return f"the kernel is not this machine's own ({', '.join(owner.clues[:3])}): ask who runs the host"
        if (why := _agents_own(key, here)) is not None:
            return why
        if not here.image and self.now(key, here) is None:
            return "it does not exist now, or cannot be read"
        return None

    def lasts(self, key: str, wanted: str, boot: BootTruth | None) -> str | None:
        """Why a key will not be what is wanted after the next boot; None where it will."""
        return next_boot.lasts(key, wanted, boot)

    def at_boot(self, key: str, boot: BootTruth) -> AtBoot | None:
        """What a key will be after the next boot, and what decides."""
        found = next_boot.at_boot(key, boot)
        return None if found is None else AtBoot(*found)

    def foreseen(self, before: BootTruth, after: BootTruth, keys: Collection[str]) -> BootTruth:
        """The next boot as foreseen, for the keys that are set; for the others as it is."""
        return replace(
            after, keys={key: after.keys[key] if key in keys else value for key, value in before.keys.items()}
        )

    def supposed(self, here: Measurements, values: Mapping[str, str], boot: BootTruth | None) -> Measurements:
        """The measurements as they would be with these settings, and with that next boot."""
        return held.supposed(here, values, boot)

    def moved(self, before: Measurements, after: Measurements, keys: Collection[str]) -> Measurements:
        """What a change of these settings can have moved as it is after it; all else as it was before."""
        return held.moved(before, after, keys)

    def holds(self, measurement: type, keys: Collection[str]) -> bool:
        """Whether a measurement of that type holds one of these settings."""
        return held.holds(measurement, keys)

    def may_restart(self, key: str, here: Surroundings) -> tuple[str, ...]:
        """Services whose sockets got the old limit: they may have asked for more, and keep it until a restart."""
        listeners, now = here.of(Listeners), self.now(key, here)
        if key != BACKLOG or listeners is None or now is None:
            return ()
        found = {each.owner for each in listeners.sockets if str(each.backlog) == now and each.owner is not None}
        return tuple(sorted(found)[:SHOWN_LIMIT])

    # What could not be seen

    def watched(self, here: Measurements, now: dict[str, None], at_boot: dict[str, None]) -> Measurements:
        """The measurements, noting which keys are looked up in them: so that no list has to say it."""
        return {name: _watched(taken, now, at_boot) for name, taken in here.items()}

    def not_read(self, keys: Iterable[str], here: Measurements, *, live: bool) -> Iterator[LeftAlone]:
        """The keys that were looked up and have no value, though the kernel has them."""
        kernel = Surroundings(here, image=not live).of(Sysctls)
        if kernel is None:
            return
        if live and not kernel.values:
            yield LeftAlone("/proc/sys", "not one kernel setting can be read there: is /proc mounted?")
            return
        for key in keys:
            absent: Absent | None = kernel.missing.get(key)
            if absent is not None and absent.reason in NOT_READ:
                yield LeftAlone(key, f"it could not be seen: {absent.detail}")

    def not_foreseen(self, keys: Iterable[str] | None, here: Measurements) -> Iterator[LeftAlone]:
        """Of these keys those that a file decides at boot which could not be read."""
        boot = Surroundings(here, image=False).of(BootTruth)
        if boot is None:
            return
        for key in sorted(boot.keys if keys is None else keys):
            decided = boot.keys.get(key)
            if decided is not None and decided.origin == "unread":
                yield LeftAlone(key, f"what it will be after the next boot could not be seen: {decided.where}")

    # The file

    def merged(self, content: bytes | None, settings: Mapping[str, str]) -> bytes:
        """The content of our file with these settings."""
        from vdscheck.fixes.sysctl import drop_in

        return drop_in.merged(content, settings)

    def restored(self, now: bytes | None, before: bytes | None, after: bytes) -> Restored:
        """What the content was before, three-way."""
        from vdscheck.fixes.sysctl import drop_in

        return drop_in.restored(now, before, after)

    def says(self, content: bytes | None, keys: Iterable[str]) -> dict[str, str]:
        """What the content sets these keys to."""
        from vdscheck.fixes.sysctl import drop_in

        return drop_in.says(content, keys)

    def hidden_by(self, host: Host) -> str | None:
        """Another file of that name in a later folder: the first folder that has a name counts (sysctl.d(5))."""
        from vdscheck.linux.sysctl_d import FOLDER_OF_SPLIT_USR, FOLDERS

        paths = (f"{folder}/{NAME}" for folder in (*FOLDERS, FOLDER_OF_SPLIT_USR) if folder != FOLDER)
        return next(filter(host.exists, paths), None)

    # A plan as a shell script

    def script_checks(self, changes: Sequence[FixChange]) -> list[str]:
        """What ends the script before anything is changed."""
        from vdscheck.fixes.sysctl import script

        return script.checks(changes)

    def script_sets(self, changes: Sequence[FixChange], comment: Callable[[str], list[str]]) -> list[str]:
        """What sets and persists them."""
        from vdscheck.fixes.sysctl import script

        return script.sets(changes, comment)

    def script_undoes(self, changes: Sequence[FixChange]) -> list[str]:
        """What takes them back."""
        from vdscheck.fixes.sysctl import script

        return script.undoes(changes)

    # The running kernel

    def path(self, key: str) -> str:
        """The file of a setting."""
        return self._kernel.path(key)

    def seen(self, key: str) -> str | None:
        """A setting, its fields separated by one blank."""
        return self._kernel.seen(key)

    def write(self, key: str, value: str) -> None:
        """Set it."""
        self._kernel.write(key, value)

    def moves(self, key: str, value: str) -> Mapping[str, str]:
        """Turning forwarding on or off does so for each interface, and turns redirects of all off or on.

        Source: inet_forward_change in net/ipv4/devinet.c.
        """
        if key != FORWARD:
            return {}
        names = [name for name in self._kernel.names(INTERFACES) if name != "all"]
        on = "0" if value == "0" else "1"
        return {REDIRECTS: "0" if on == "1" else "1"} | {f"net/ipv4/conf/{name}/forwarding": on for name in names}

    def moved_at_boot(self, key: str, host: Host) -> str | None:
        """What the last line of sysctl.d for it says."""
        path = (key if "/" in key else key.replace(".", "/")).encode()
        found = sysctl_d.applied(sysctl_d.settings_files(host, sysctl_d.FOLDERS), [path], None)
        if path in found.unknown:
            raise OSError(errno.EIO, f"{found.unknown[path]} cannot be read, and may set {key}")
        return safe_text(found.writes[path].value) if path in found.writes else None

    def is_of_a_namespace(self, key: str) -> bool:
        """Whether each network namespace has this key for itself."""
        return key.startswith((OF_A_NAMESPACE, "net/"))


def _sysctl(key: str, value: str) -> str:
    return f"sysctl -w {shlex.quote(f'{key}={value}')}"


def _line(setting: SettingFix) -> str:
    return f"{setting.key} = {setting.value}"


def _agents_own(key: str, here: Surroundings) -> str | None:
    """Why a key may be the agents' of a Kubernetes node."""
    agents = here.of(NodeAgents)
    if not re.fullmatch(OWNED_ON_A_NODE, key) or (agents is not None and not agents.is_node):
        return None
    if agents is None:
        return "whether this is a Kubernetes node, whose agents set it, could not be told"
    return f"kubelet or the network plugin of this Kubernetes node sets it ({', '.join(agents.evidence[:3])})"


def _watched(taken: Taken, now: dict[str, None], at_boot: dict[str, None]) -> Taken:
    if isinstance(taken.value, Sysctls):
        return replace(taken, value=replace(taken.value, values=Watched(taken.value.values, now)))
    if isinstance(taken.value, BootTruth):
        return replace(taken, value=replace(taken.value, keys=Watched(taken.value.keys, at_boot)))
    return taken


class Watched(dict[str, V]):
    """Settings that note what is looked up in them."""

    def __init__(self, values: Mapping[str, V], asked: dict[str, None]) -> None:
        super().__init__(values)
        self._asked = asked

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def __getitem__(self, key: str) -> V:
        self._note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - the signature of dict
        """The value of a key."""
        self._note(key)
        return super().get(key, default)

    def _note(self, key: object) -> None:
        if isinstance(key, str):
            self._asked[key] = None


kernel_settings = KernelSettings()

__all__ = ["KernelSettings", "huge_pages", "kernel_settings"]
