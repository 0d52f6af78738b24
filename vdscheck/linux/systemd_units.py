"""systemd's units as they lie on disk: which are enabled, masked, and what they run."""

import re
from collections.abc import Iterator

from vdscheck.plugin import Host, UnavailableError, frozen

UNIT_FOLDERS = (
    "/etc/systemd/system.control",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""By precedence: systemd.unit(5). Those below /run are empty when the machine boots."""
STARTERS = (".timer", ".socket", ".path")
"""Units that start the service of their name."""

_COMMAND = r"^\s*Exec(?:Start|StartPre|StartPost)\s*=(.*)$"
_USER = r"^\s*User\s*=\s*(\S*)"
_DYNAMIC = r"^\s*DynamicUser\s*=\s*(?:1|yes|y|true|t|on)\s*$"


@frozen
class UnitLine:
    """An assignment in a unit or a drop-in of it."""

    path: str
    key: str
    value: str

    @property
    def text(self) -> str:
        """The line as it is shown, with its file."""
        return f"{self.path}: {self.key}={self.value}"


class Units:
    """The units on disk, and which of them start at the next boot."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._files: dict[str, str] = {}
        self._drop_ins: dict[str, list[str]] = {}
        self._links: dict[str, list[str]] = {}
        """By the name of a unit, the links by which others want it."""
        for folder in _folders(host):
            for name in _names(host, folder):
                self._look_at(folder, name)
        self.enabled = self._enabled()

    def _look_at(self, folder: str, name: str) -> None:
        path = f"{folder}/{name}"
        if name.endswith((".wants", ".requires")):
            for wanted in _names(self._host, path):
                self._links.setdefault(wanted, []).append(f"{path}/{wanted}")
        elif name.endswith(".d"):
            self._drop_ins.setdefault(name.removesuffix(".d"), []).append(path)
        else:
            self._files.setdefault(name, path)

    def file(self, name: str) -> str | None:
        """The file of a unit, or the link that masks it; of its template where it is an instance."""
        return self._files.get(name) or self._files.get(re.sub(r"@[^@]*(\.\w+)$", r"@\1", name))

    def drop_ins(self, name: str) -> list[str]:
        """The files that change a unit: its own, then those for all of a name or type."""
        found: dict[str, str] = {}
        stem, _, suffix = name.rpartition(".")
        begins = [stem[: found.end()] for found in re.finditer("-", stem)]
        names = (name, *(f"{each}.{suffix}" for each in reversed(begins)), suffix)
        for folder in (folder for each in names for folder in self._drop_ins.get(each, ())):
            for file in _names(self._host, folder):
                if file.endswith(".conf"):
                    found.setdefault(file, f"{folder}/{file}")
        return [found[file] for file in sorted(found) if not leads_to_nothing(self._host, found[file])]

    def mask(self, name: str) -> str | None:
        """The empty file or link to /dev/null that masks a unit; None of one that is not masked."""
        path = self.file(name)
        return path if path is not None and leads_to_nothing(self._host, path) else None

    def wanted_by(self, name: str, target: str) -> str | None:
        """The link by which a target wants a unit; it may lead to nothing, which takes the wish back."""
        return next((link for link in self._links.get(name, ()) if f"/{target}.wants/" in link), None)

    def is_enabled(self, name: str) -> bool:
        """Whether a unit starts at boot: another one wants it, or starts it later, and it is not masked."""
        return name in self.enabled

    def commands(self, name: str) -> tuple[str, ...]:
        """The command lines that a unit runs when it starts, with those of its drop-ins."""
        found: list[str] = []
        for line in self._lines(name):
            command = re.match(_COMMAND, line)
            if command:
                found = [*found, command[1].strip()] if command[1].strip() else []
        return tuple(found)

    def user(self, name: str) -> str:
        """Whom a unit runs its commands as, but for those that begin with + or !."""
        lines = list(self._lines(name))
        named = [found[1] for line in lines if (found := re.match(_USER, line))]
        dynamic = [line for line in lines if re.match(r"\s*DynamicUser\s*=", line)]
        if not (named and named[-1]) and dynamic and re.match(_DYNAMIC, dynamic[-1], re.IGNORECASE):
            return name.partition(".")[0]  # systemd.exec(5): named as the unit
        return named[-1] if named and named[-1] else "root"

    def assignments(self, name: str) -> Iterator[UnitLine]:
        """What a unit and its drop-ins say, but for [Install]. Raises UnavailableError where one cannot be read."""
        for path in self._read(name):
            section = ""
            for line in _joined(self._host.read(path)):
                key, equals, value = line.partition("=")
                if line.startswith("["):
                    section = line
                elif section != "[Install]":
                    yield UnitLine(path, key.strip(), value.strip() if equals else "")

    def _read(self, name: str) -> tuple[str, ...]:
        path = self.file(name)
        return (*([path] if path else ()), *self.drop_ins(name))

    def _lines(self, name: str) -> Iterator[str]:
        """The lines of a unit and its drop-ins."""
        for each in self._read(name):
            yield from re.sub(r"\\\n", " ", _text(self._host, each)).splitlines()

    def _enabled(self) -> frozenset[str]:
        wanted = {
            name for name, links in self._links.items() if any(not leads_to_nothing(self._host, link) for link in links)
        }
        started = {f"{name.rpartition('.')[0]}.service" for name in wanted if name.endswith(STARTERS)}
        names = wanted | {name for name in started if self.file(name) is not None}
        return frozenset(name for name in names if self.mask(name) is None)


def _joined(text: str) -> Iterator[str]:
    """The lines that say something; one that ends in a backslash goes on in the next that is no comment."""
    begun = ""
    for line in text.split("\n"):
        words = line.strip()
        if words.startswith(("#", ";")):
            continue
        if words.endswith("\\"):
            begun += f"{words[:-1]} "
            continue
        if whole := (begun + words).strip():
            yield whole
        begun = ""
    if begun.strip():
        yield begun.strip()


def leads_to_nothing(host: Host, path: str) -> bool:
    """Whether a path is an empty file or leads to /dev/null, also in a tree that has no /dev."""
    try:
        status = host.status(path)
    except UnavailableError:
        return _says_null(host, path)
    return status.kind == "device" or (status.kind == "file" and status.size_bytes == 0)


def _says_null(host: Host, path: str) -> bool:
    try:
        return host.link(path) == "/dev/null"
    except UnavailableError:
        return False


def _folders(host: Host) -> list[str]:
    """Without /lib/systemd/system where /lib is a link to /usr/lib."""
    found: dict[str, str] = {}
    for folder in UNIT_FOLDERS:
        try:
            found.setdefault(host.resolved(folder), folder)
        except UnavailableError:
            continue
    return list(found.values())


def _names(host: Host, folder: str) -> tuple[str, ...]:
    try:
        return host.names(folder)
    except UnavailableError:
        return ()


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path)
    except UnavailableError:
        return ""
