"""Which kernel settings a line of shell, of a unit or of a udev rule writes, as far as its text shows."""

import re
from collections.abc import Iterator

from vdscheck.measurements import KERNEL_KEYS

Settings = dict[str, str | None]
"""The judged keys that are set; None where the value is not to be read from the text."""

OTHER_NAMES = {
    "net.ipv4.conf.all.forwarding": "net.ipv4.ip_forward",
    "net.nf_conntrack_max": "net.netfilter.nf_conntrack_max",
}
CALLS = r"\bsysctl\b|/proc/sys/"
ALL_FILES = r"(?:^|[\s'\"=;&|(/])sysctl\b[^;&|]*\s--system\b"
ONE_FILE = r"(?:^|[\s'\"=;&|(/])sysctl\b[^;&|]*\s(?:-[a-z]*[pf]|--load)(?:\s+|=)?([^\s;&|'\"]+)?"
WORD_LIMIT = 4096

_OPERATORS = frozenset((";", "&&", "||", "|", "&", "(", ")", "{", "}"))
_KEY = r"(?s)-?([A-Za-z_][\w-]*(?:[./][\w*-]+)+)\s*=\s*(.*)"
_PROC = r"/proc/sys/([\w./*-]+)"
_UDEV = r"SYSCTL\{([^}]+)\}\s*=\s*\"([^\"]*)\""


def settings_of(text: str) -> Settings:
    """The judged settings that lines of shell write; a later line wins."""
    found: Settings = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if re.search(CALLS, line) and not line.lstrip().startswith(("#", ";", "//")):
            found.update(_of_line(line))
    return found


def udev_settings(text: str) -> Settings:
    """The same for udev rules, which can set a key by themselves: SYSCTL{KEY}="VALUE" (udev(7))."""
    found: Settings = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.lstrip().startswith("#"):
            for key, value in re.findall(_UDEV, line):
                _add(found, key, value)
            if "RUN" in line:
                found.update(settings_of(line.replace('"', " ; ")))
    return found


def judged(key: str) -> str | None:
    """A key in either spelling as its judged name; None where it is not judged."""
    plain = key.strip().strip("/").replace("/", ".")
    plain = OTHER_NAMES.get(plain, plain)
    return plain if plain in KERNEL_KEYS else None


def _of_line(line: str) -> Settings:
    found: Settings = {}
    for command in _commands(line):
        if any("sysctl" in word and re.search(CALLS, word) and " " in word for word in command):
            for word in command:
                found.update(settings_of(word))
        elif any(word.rpartition("/")[2] == "sysctl" for word in command):
            _of_sysctl(command, found)
        else:
            _of_redirection(command, found)
    return found


def _of_sysctl(command: list[str], found: Settings) -> None:
    """`sysctl -w KEY=VALUE KEY = VALUE`."""
    start = next(place for place, word in enumerate(command) if word.rpartition("/")[2] == "sysctl")
    rest = re.sub(r"\s+=\s+", "=", "\0".join(command[start + 1 :]).replace("\0=\0", "="))
    for word in rest.split("\0"):
        pair = re.fullmatch(_KEY, word)
        if pair:
            _add(found, pair[1], pair[2].strip("'\""))


def _of_redirection(command: list[str], found: Settings) -> None:
    """`echo VALUE > /proc/sys/KEY`, or with tee."""
    text = " ".join(command)
    for target in re.findall(r"(?:>|\btee\b(?:\s+-\S+)*)\s*(/proc/sys/\S+)", text):
        key = re.match(_PROC, target)
        said = re.search(r"\b(?:echo|printf)\s+(?:-\w+\s+)?(.*?)\s*(?:>|\|)", text)
        if key:
            _add(found, key[1], said[1].strip("'\"").removesuffix("\\n") if said else "$")


def _add(found: Settings, key: str, value: str) -> None:
    name = judged(key)
    if name is not None:
        found[name] = None if re.search(r"[$`]", value) else " ".join(value.split())


def _commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line; a pipe into tee stays with what it is fed."""
    words = _words(line[:WORD_LIMIT])
    command: list[str] = []
    for place, word in enumerate(words):
        is_pipe = word == "|" and any(each.rpartition("/")[2] == "tee" for each in words[place + 1 : place + 3])
        if word in _OPERATORS and not is_pipe:
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _words(line: str) -> list[str]:
    import shlex

    splitter = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    splitter.whitespace_split = True
    splitter.commenters = "#"
    try:
        return list(splitter)
    except ValueError:
        return re.findall(r"[;&|()]+|[^\s;&|()'\"]+", line)
