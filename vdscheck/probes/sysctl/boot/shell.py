"""Which kernel settings a line of shell, of a unit or of a udev rule writes, as far as its text shows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vdscheck.measurements import KERNEL_KEYS

Settings = dict[str, str | None]
"""The judged keys that are set, or may be; None where it is not to be read from the text to what."""

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
_READS = frozenset(("cat", "head", "grep", "egrep", "test", "[", "[[", "ls", "stat", "echo", "printf", "logger"))
"""Programs that write nothing but what they show."""
_DECIDES = frozenset(("if", "elif", "else", "case", "while", "until", "for", "exit", "return", "exec", "trap"))
DECIDING = re.compile(rf"&&|\|\||\(\)|\b(?:{'|'.join(_DECIDES)}|function)\b")
"""What decides whether that which follows is carried out."""
_BEFORE_A_PROGRAM = frozenset(("if", "elif", "while", "until", "then", "else", "do", "!", "sudo"))
_PATHS = tuple(key.replace(".", "/") for key in (*KERNEL_KEYS, *OTHER_NAMES))
_NAMES = re.compile("|".join(sorted({path.rpartition("/")[2] for path in _PATHS})))
_UDEV = r"SYSCTL\{([^}]+)\}\s*=\s*\"([^\"]*)\""


def settings_of(text: str) -> Settings:
    """The judged settings that lines of shell write, or may write.

    One value is told only where it is the only one, and nothing before it decides whether it is written.
    """
    reader = _Reader()
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.lstrip().startswith(("#", ";", "//")):
            reader.line(line)
    return reader.found


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


@dataclass(slots=True)
class _Reader:
    """Reads a script from its beginning."""

    found: Settings = field(default_factory=dict)
    decides: bool = False
    """Whether something that came already decides what of the rest is carried out."""

    def line(self, line: str) -> None:
        """Take up a line."""
        if re.search(CALLS, line) or _NAMES.search(line):
            for before, command in _commands(line):
                self.decides |= before in {"&&", "||"} or bool(set(command) & _DECIDES)
                self._command(command, is_piped="|" in line)
        self.decides |= DECIDING.search(line) is not None

    def _command(self, command: list[str], *, is_piped: bool) -> None:
        sets: Settings = {}
        shown = _program(command) in _READS
        if not shown and any(word.rpartition("/")[2] == "sysctl" for word in command):
            _of_sysctl(command, sets)
            shown = "=" not in "".join(command)
        elif not shown and any(" " in word and (re.search(CALLS, word) or _NAMES.search(word)) for word in command):
            for word in command:
                sets |= settings_of(word)
            shown = True
        else:
            _of_redirection(command, sets)
            shown = shown and not (is_piped or re.search(r">(?!\s*(?:/dev/null|&))", " ".join(command)))
        if not shown:
            sets = dict.fromkeys(_mentioned(command)) | sets
        for key, value in sets.items():
            told = not self.decides and self.found.get(key, value) == value
            self.found[key] = value if told else None


def _program(command: list[str]) -> str:
    """The program of a command, behind what shell puts before it."""
    words = (word for word in command if word not in _BEFORE_A_PROGRAM)
    return next(words, "").rpartition("/")[2]


def _mentioned(command: list[str]) -> Iterator[str]:
    """The judged keys that words of a command name, whole, by their end, or by a pattern."""
    for token in re.findall(r"[\w$./*?{}-]+", " ".join(command)):
        wild = re.sub(r"\$\{?\w*\}?|\{[^}]*\}", "*", token).strip("-/").removeprefix("proc/sys/").replace(".", "/")
        if re.search(r"[*?$]", wild.rpartition("/")[2]) or wild == "forwarding":
            continue
        for path in _PATHS:
            if f"/{path}".endswith(f"/{wild}") or fnmatchcase(f"/{path}", f"*/{wild}"):
                yield judged(path) or path


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
        plain = None if re.search(r"[$`]", value) else " ".join(value.split())
        found[name] = plain if found.get(name, plain) == plain else None


def _commands(line: str) -> Iterator[tuple[str, list[str]]]:
    """The simple commands of a line, each with what stands before it; a pipe into tee stays with what it is fed."""
    words = _words(line[:WORD_LIMIT])
    command: list[str] = []
    before = ""
    for place, word in enumerate(words):
        is_pipe = word == "|" and any(each.rpartition("/")[2] == "tee" for each in words[place + 1 : place + 3])
        if word in _OPERATORS and not is_pipe:
            yield before, command
            before, command = word, []
        else:
            command.append(word)
    yield before, command


def _words(line: str) -> list[str]:
    import shlex

    splitter = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    splitter.whitespace_split = True
    splitter.commenters = "#"
    try:
        return list(splitter)
    except ValueError:
        return re.findall(r"[;&|()]+|[^\s;&|()'\"]+", line)
