"""The kernel command line of the next boot, and the settings on it: `sysctl.vm.swappiness=10`."""

import dataclasses
import re
from collections.abc import Sequence
from contextlib import suppress

from vdscheck.plugin import Host, UnavailableError, frozen

BOOT_LOADER_ENTRIES = ("/boot/loader/entries/*.conf", "/efi/loader/entries/*.conf")
GRUB_CONFIGURATIONS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
UNUSED_DEFAULTS = "/etc/default/grub"
SINCE_KERNEL = (5, 8)
"""Documentation/admin-guide/kernel-parameters.txt, sysctl.*=: do_sysctl_args in fs/proc/proc_sysctl.c."""
GRUB_LIMIT_BYTES = 4 * 1024 * 1024

HUGE_PAGE_MODES = ("always", "madvise", "never")
"""setup_transparent_hugepage in mm/huge_memory.c: any other word changes nothing."""
_SETS_CREDENTIAL = ("systemd.set_credential", "systemd.set_credential_binary")
_NOT_READ = frozenset(("single", "recovery", "$kernelopts"))
_PREFIX = r"(?s)sysctl[./](.+)"


@frozen
class CommandLine:
    """Settings on the kernel command line, in their order."""

    settings: tuple[tuple[str, str | None], ...]
    """Keys as paths below /proc/sys, and their values; None where that is not known."""
    modules: tuple[str, ...]
    """Modules that it has loaded early: modules_load=."""
    where: str
    init: str | None = None
    """The program that it names as PID 1: init=."""
    masked: frozenset[str] = frozenset()
    """The units that it has systemd leave alone: systemd.mask=."""
    perhaps_masked: frozenset[str] = frozenset()
    """Those of which that is not known."""
    huge_pages: str | None = None
    """What it says of transparent huge pages: transparent_hugepage=."""
    credentials: frozenset[str] = frozenset()
    """The names of the credentials that it hands to systemd: systemd.set_credential=."""
    problem: str | None = None


def command_line(host: Host) -> CommandLine:
    """What the running kernel's and all entries of the boot loader agree on: the next boot may be of any of them."""
    lines = [parsed(text, f"kernel command line ({path})") for path, text in _boot_loader_lines(host)]
    with suppress(UnavailableError):
        lines.insert(0, parsed(host.read("/proc/cmdline"), "kernel command line"))
    if not lines:
        given = [UNUSED_DEFAULTS] if host.exists(UNUSED_DEFAULTS) else []
        why = f"no boot loader configuration found{', only ' + given[0] if given else ''}"
        return CommandLine((), (), "", problem=f"the kernel command line is not known: {why}")
    first = lines[0]
    agree = all(dataclasses.replace(line, where=first.where) == first for line in lines)
    return first if agree else _common(lines)


def _common(lines: Sequence[CommandLine]) -> CommandLine:
    """What several lines agree on, and where they differ that it is not known."""
    first = lines[0]
    where = " and ".join(dict.fromkeys(line.where for line in lines))
    what = f"{where} differ" if len(lines) > 1 and lines[-1].where != first.where else f"the entries of {where} differ"
    given = [dict(line.settings) for line in lines]
    settings = {key: {each.get(key) for each in given} for key in dict.fromkeys(key for each in given for key in each)}
    masked = first.masked.intersection(*(line.masked for line in lines))
    return CommandLine(
        settings=tuple((key, values.pop() if len(values) == 1 else None) for key, values in settings.items()),
        modules=tuple(each for each in first.modules if all(each in line.modules for line in lines)),
        where=what,
        init=first.init,
        masked=masked,
        perhaps_masked=frozenset[str]().union(*(line.masked for line in lines)) - masked,
        huge_pages=first.huge_pages if len({line.huge_pages for line in lines}) == 1 else None,
        credentials=frozenset[str]().union(*(line.credentials for line in lines)),
        problem=f"{what}: what they do not agree on is not known of the next boot",
    )


def _boot_loader_lines(host: Host) -> list[tuple[str, str]]:
    """Kernel command lines by the file that holds them, without recovery entries, and where a variable holds it all."""
    found: list[tuple[str, str]] = []
    for path in GRUB_CONFIGURATIONS:
        lines = re.findall(r"^\s*linux(?:16|efi)?\s+(?!\S*memtest)\S+(.*)$", _text(host, path), re.MULTILINE)
        found += [(path, text) for text in lines]
    for path in (path for pattern in BOOT_LOADER_ENTRIES for path in host.glob(pattern)):
        options = re.findall(r"^options\s(.*)$", _text(host, path), re.MULTILINE)
        if options:
            found.append((path, " ".join(options)))
    return [(path, text) for path, text in found if not _NOT_READ & set(text.split())]


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path, limit_bytes=GRUB_LIMIT_BYTES)
    except UnavailableError:
        return ""


def parsed(text: str, where: str) -> CommandLine:
    """The settings on one command line."""
    settings: list[tuple[str, str]] = []
    modules: list[str] = []
    init: str | None = None
    masked: set[str] = set()
    huge_pages: str | None = None
    credentials: set[str] = set()
    for name, value in _parameters(text):
        found = re.fullmatch(_PREFIX, name)
        if found and value:
            settings.append((found[1].replace(".", "/"), value))
        if name.replace("-", "_") in {"modules_load", "rd.modules_load"}:
            modules += value.split(",")
        init = value if name == "init" and value else init
        masked |= {value} if name == "systemd.mask" else set()
        credentials |= {value.partition(":")[0]} if name in _SETS_CREDENTIAL else set()
        huge_pages = value if name == "transparent_hugepage" and value in HUGE_PAGE_MODES else huge_pages
    return CommandLine(
        settings=tuple(settings),
        modules=tuple(modules),
        where=where,
        init=init,
        masked=frozenset(masked),
        huge_pages=huge_pages,
        credentials=frozenset(credentials),
    )


def _parameters(text: str) -> list[tuple[str, str]]:
    """Names and values up to `--`; blanks between double quotes do not separate: next_arg in lib/cmdline.c."""
    found = []
    for word in re.findall(r'(?:[^\s"]|"[^"]*(?:"|$))+', text):
        if word == "--":
            break
        name, _, value = word.strip('"').partition("=")
        found.append((name, value.strip('"')))
    return found
