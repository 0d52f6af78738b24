"""What the files of sysctl.d hold, and what systemd-sysctl makes of them, byte by byte as it does."""

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from vdscheck.linux import sysctl_glob
from vdscheck.linux.mounts import Emptied
from vdscheck.measurements import NOT_LOOKED_AT, SETS_NOTHING
from vdscheck.plugin import Host, NotFoundError, Reason, UnavailableError, frozen, safe_text

FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
"""By precedence: sysctl.d(5), CONF_PATHS in systemd's src/basic/constants.h."""
FOLDER_OF_SPLIT_USR = "/lib/sysctl.d"
"""Read last by a systemd that was built with split-usr, as Debian's were until 254."""
LINE_LIMIT_BYTES = 1024 * 1024
"""A file is left at its first line of this length: LONG_LINE_MAX in systemd's src/basic/fileio.h."""
FILE_LIMIT_BYTES = 4 * 1024 * 1024
OVERRIDDEN_LIMIT = 50
LAST_WITH_LEADING_DOTS = 252
"""The last checked version of systemd that keeps `..` at the start of an absolute path."""

_NAME_MAX = 255
_WHITESPACE = b" \t\n\r"
_COMMENTS = b"#;"
# Each may stand once in the end of a line, a NUL only last: read_line_full in systemd's src/basic/fileio.c.
_END_OF_LINE = rb"(?:\n\r?|\r\n?)\0?|\0"


@frozen
class SettingsFile:
    """A file of sysctl.d, under the path by which the init opens it."""

    path: str
    content: bytes = b""
    trouble: str | None = None
    """What is wrong with it, for a reader."""
    unreadable: bool = False
    """The init can read it, and we cannot: what it sets is not known."""
    blocks: bool = False
    """Reading it never ends, so the init applies nothing at all."""


@frozen
class Line:
    """An assignment; without a value it keeps its key from being set by a glob."""

    key: bytes
    """As a path below /proc/sys."""
    value: bytes | None
    file: int
    """The place of its file in the order in which they are read."""
    path: str
    number: int
    """Of its line, counted as an editor does."""

    @property
    def where(self) -> str:
        """`FILE:LINE`."""
        return f"{self.path}:{self.number}"

    @property
    def text(self) -> str:
        """The line as it is shown among those that lost."""
        return f"{self.where} = {'(excluded)' if self.value is None else safe_text(self.value)}"


@frozen
class Write:
    """What is written to one key in the end."""

    place: int
    """Its place in the order of all writes."""
    key: bytes
    value: bytes
    where: str
    file: int


@dataclass(slots=True)
class Applied:
    """What an init does with a set of files."""

    writes: dict[bytes, Write] = field(default_factory=dict)
    unknown: dict[bytes, str] = field(default_factory=dict)
    """Keys that a file which we cannot read may set otherwise, with its path."""
    losers: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


# Which files


def settings_files(
    host: Host, folders: Sequence[str], *, volatile: Emptied | None = None, hidden: bool = False
) -> list[SettingsFile]:
    """The files that an init reads, in its order: of each base name that of the first folder.

    What `volatile` holds is empty when the machine boots. `hidden`: procps also reads names with
    a leading dot.
    """
    chosen: dict[str, str] = {}
    found: list[SettingsFile] = []
    nameless: list[SettingsFile] = []
    for folder in folders:
        try:
            names = host.names(folder)
            unnamed = host.nameless(folder) if any("\\" in name for name in names) else ()
        except NotFoundError:
            continue
        except UnavailableError as error:
            if error.absent.reason is not Reason.PERMISSION and (_is_loop(error) or not host.is_folder(folder)):
                continue
            found.append(SettingsFile(folder, trouble=error.absent.detail, unreadable=True))
            continue
        gone = _is_volatile(host, f"{folder}/", volatile)
        if not gone and (above := _hidden_by(host, folder, volatile)):
            found.append(SettingsFile(folder, trouble=f"what lies below {folder} ({above}) {NOT_LOOKED_AT}"))
        for name in names:
            if not name.endswith(".conf") or (name.startswith(".") and not hidden):
                continue
            path = f"{folder}/{name}"
            if gone:
                why = f"{path}: not counted: {gone} is empty when the machine boots"
                found.append(SettingsFile(path, trouble=why))
            elif name in unnamed:
                why = f"{path}: its name is no text: what it sets is not known"
                nameless.append(SettingsFile(path, trouble=why, unreadable=True))
            else:
                chosen.setdefault(name, path)
    ordered = sorted(chosen.items(), key=lambda pair: pair[0].encode())
    return [*found, *(_read(host, path, volatile) for _, path in ordered), *nameless]


def _is_volatile(host: Host, path: str, volatile: Emptied | None) -> str | None:
    """The volatile folder that a path leads into."""
    if volatile is None:
        return None
    try:
        real = host.resolved(path)
    except UnavailableError:
        return None
    return volatile.place(real, path)


def _is_late(host: Host, path: str, volatile: Emptied | None) -> str | None:
    """The mount point below which a path leads and that may not be mounted when it is read."""
    if volatile is None:
        return None
    try:
        return volatile.late(host.resolved(path), path)
    except UnavailableError:
        return None


def _hidden_by(host: Host, folder: str, volatile: Emptied | None) -> str | None:
    if volatile is None:
        return None
    try:
        return volatile.over(host.resolved(folder))
    except UnavailableError:
        return None


def read_settings_file(host: Host, path: str, volatile: Emptied | None = None) -> SettingsFile:
    """One file that is named outright, such as /etc/sysctl.conf."""
    return _read(host, path, volatile)


def _read(host: Host, path: str, volatile: Emptied | None) -> SettingsFile:
    if gone := _is_volatile(host, path, volatile):
        return SettingsFile(path, trouble=f"{path}: leads into {gone}, which is empty when the machine boots")
    if late := _is_late(host, path, volatile):
        why = f"{path}: lies below {late}, which may not be mounted yet when it is read"
        return SettingsFile(path, trouble=why, unreadable=True)
    try:
        kind = host.status(path).kind
        if kind == "file":
            return SettingsFile(path, host.read_bytes(path, limit_bytes=FILE_LIMIT_BYTES))
    except NotFoundError:
        return _dangling(host, path)
    except UnavailableError as error:
        return SettingsFile(path, trouble=f"{path}: {error.absent.detail}", unreadable=not _is_loop(error))
    return _no_file(host, path, kind)


def _no_file(host: Host, path: str, kind: str) -> SettingsFile:
    if kind == "folder":
        return SettingsFile(path, trouble=f"{path}: is a folder: nothing is read from it")
    if kind == "device" and host.resolved(path) == "/dev/null":
        return SettingsFile(path)
    if kind == "device":
        return SettingsFile(path, trouble=f"{path}: is a device: what it holds is not known", unreadable=True)
    why = f"{path}: is no file, and reading it never ends: {SETS_NOTHING}"
    return SettingsFile(path, trouble=why, blocks=True)


def _dangling(host: Host, path: str) -> SettingsFile:
    """Also a mask: a link to /dev/null in a tree that has no /dev."""
    try:
        target = host.link(path)
    except UnavailableError:
        return SettingsFile(path, trouble=f"{path}: cannot be found by this name", unreadable=True)
    if target == "/dev/null":
        return SettingsFile(path)
    return SettingsFile(path, trouble=f"{path}: leads nowhere, and hides files of its name elsewhere")


def _is_loop(error: UnavailableError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ELOOP


# What they say


def parse(files: Sequence[SettingsFile], version: int | None) -> tuple[list[Line], list[str]]:
    """All assignments as systemd-sysctl understands them, and what it refuses.

    Takes any bytes and raises nothing. A version that is not known is taken to be a late one.
    """
    lines: list[Line] = []
    problems: list[str] = []
    for place, file in enumerate(files):
        for number, raw in _lines(file.content):
            if raw is None:
                problems.append(f"{file.path}:{number}: a line of 1 MiB or more: the rest of the file is not read")
                break
            text = raw.strip(_WHITESPACE)
            if not text or text[:1] in _COMMENTS:
                continue
            pair = _assignment(text)
            if pair is None:
                problems.append(f"{file.path}:{number}: not an assignment")
                continue
            lines.append(Line(_normal(pair[0], version), pair[1], place, file.path, number))
    return lines, problems


def _lines(content: bytes) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers; None for one that is too long, where reading ends."""
    number = 1
    for line, end in lines_with_ends(content):
        yield number, line if len(line) < LINE_LIMIT_BYTES else None
        number += end.count(b"\n")


def lines_with_ends(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The lines of a content, each with what ends it; the last one may have no end."""
    start = 0
    for end in re.finditer(_END_OF_LINE, content):
        yield content[start : end.start()], end.group()
        start = end.end()
    if start < len(content):
        yield content[start:], b""


def _assignment(text: bytes) -> tuple[bytes, bytes | None] | None:
    key, equals, value = text.partition(b"=")
    excludes = key.startswith(b"-")
    if not equals and not excludes:
        return None
    return key[excludes:].strip(_WHITESPACE), value.strip(_WHITESPACE) if equals else None


def _normal(key: bytes, version: int | None) -> bytes:
    """A key as a path: sysctl_normalize in systemd's src/basic/sysctl-util.c."""
    separator = re.search(rb"[/.]", key)
    if separator and separator[0] == b".":
        key = key.translate(bytes.maketrans(b"/.", b"./"))
    path = simplified(key, keeps_leading_dots=version is not None and version <= LAST_WITH_LEADING_DOTS)
    return path[1:] if path.startswith(b"/") and path != b"/" else path


def simplified(path: bytes, *, keeps_leading_dots: bool) -> bytes:
    """A path without empty names and `.`: path_simplify in systemd's src/basic/path-util.c."""
    if not path:
        return path
    kept: list[bytes] = []
    rest = path.split(b"/")
    while rest:
        name = rest[0]
        if len(name) > _NAME_MAX:
            kept.append(b"/".join(rest))
            break
        rest.pop(0)
        if name in {b"", b"."}:
            continue
        if name == b".." and path.startswith(b"/") and not kept and not keeps_leading_dots:
            continue
        kept.append(name)
    return (b"/" if path.startswith(b"/") else b"") + b"/".join(kept) or b"."


# What is done with it


def applied(files: Sequence[SettingsFile], keys: Iterable[bytes], version: int | None) -> Applied:
    """What systemd-sysctl writes to these keys, which are paths below /proc/sys that exist."""
    lines, problems = parse(files, version)
    found = Applied(problems=[file.trouble for file in files if file.trouble] + problems)
    blocked = any(file.blocks for file in files)
    options = _options(lines)
    places = {key: place for place, key in enumerate(options)}
    patterns = {key: sysctl_glob.compiled(key, braces=True) for key in options if sysctl_glob.is_glob(key)}
    by_key = _by_key(lines)
    for key in keys:
        globs = [pattern for pattern, compiled in patterns.items() if sysctl_glob.matches(compiled, key)]
        rival = [line for each in (key, *globs) for line in by_key.get(each, ())]
        winner = _winner(options, key, globs)
        if winner is not None and not blocked:
            found.writes[key] = Write(places[winner.key], key, winner.value or b"", winner.where, winner.file)
        unsure = _unreadable_after(files, options.get(key))
        if unsure is not None and not blocked:
            found.unknown[key] = unsure
        found.losers[key] = losers(rival, None if blocked else winner)
    return found


def losers(rival: Iterable[Line], winner: Line | None) -> tuple[str, ...]:
    """The lines that also set a key, the last ones where there are many."""
    lost = sorted({(line.file, line.number, line.text) for line in rival if line is not winner})
    return tuple(text for _, _, text in lost[-OVERRIDDEN_LIMIT:])


def _options(lines: Iterable[Line]) -> dict[bytes, Line]:
    """What holds for each key in the end, in the order in which it is applied.

    A line that says the same again leaves a key at its old place; another value moves it to the end.
    """
    options: dict[bytes, Line] = {}
    for line in lines:
        before = options.get(line.key)
        if before is not None and before.value != line.value:
            del options[line.key]
        options[line.key] = line
    return options


def _winner(options: dict[bytes, Line], key: bytes, globs: Sequence[bytes]) -> Line | None:
    """A line that names the key, before or after any glob, also where it only excludes it; else the last glob."""
    named = options.get(key)
    if named is not None:
        return None if named.value is None else named
    return next((options[each] for each in reversed(globs) if options[each].value is not None), None)


def _by_key(lines: Iterable[Line]) -> dict[bytes, list[Line]]:
    found: dict[bytes, list[Line]] = {}
    for line in lines:
        found.setdefault(line.key, []).append(line)
    return found


def _unreadable_after(files: Sequence[SettingsFile], named: Line | None) -> str | None:
    """A file that may decide otherwise; one that is read before a line that names the key cannot."""
    first = 0 if named is None else named.file + 1
    return next((file.path for file in files[first:] if file.unreadable), None)
