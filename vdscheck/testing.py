"""The public face for tests of checks, probes and plugins: hosts made of files, and what a check says of measurements.

`host` is a target that answers from files; `capture` reads what probes read of the running host, `text` writes it down,
and `load` and `unpack` make a target of it again; `judged` calls a check as a run does. Nothing else imports this.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from vdscheck.catalogue import catalogue
from vdscheck.catalogue.declarations import Need, check_entry
from vdscheck.plugin import (
    Absent,
    Check,
    Host,
    Judgement,
    Limits,
    Probe,
    Reason,
    UnavailableError,
    absent_judgement,
    not_applicable,
    unmeasured,
)
from vdscheck.ruleset.profile import read_profile
from vdscheck.target.host import FACTS

__all__ = ["Tree", "capture", "host", "judged", "judged_each", "load", "text", "unpack"]

NOT_MEASURED = unmeasured(Reason.NOT_RUN, "the test gives no such measurement")

_BLANKED = {
    "/etc/machine-id": "00000000000000000000000000000000\n",
    "/proc/sys/kernel/hostname": "captured\n",
    "/etc/hostname": "captured\n",
    "/proc/sys/kernel/random/boot_id": "00000000-0000-0000-0000-000000000000\n",
}
_PRIVATE = re.compile(r"/(address|serial|wwid|uuid|.*_serial|.*_uuid|.*_asset_tag)$")
_NUMBERED = re.compile(r"(/sys/devices/system/memory/memory)([0-9]+)(/online)")
_OWN_MOUNTS = re.compile(r"/(root|work|tmp|mnt|home|opt|farm|old_root|container)(/.*)?")


# Checks


def judged(check: str | Check, *measured: object, profile: str = "web", **given: object) -> Judgement:
    """What a check says of measurements, by the limits of a profile.

    `check` is one that is installed, by its id, or the check itself. A parameter gets what is `given` by its name: a
    measurement, an `Absent`, a mapping by subject, a limit. Otherwise it gets that of the measurements that has its
    type, or the limit that the profile sets; what can do without either gets an `Absent`. Raises TypeError where a
    check cannot do without what it does not get, and where it judges several subjects: see `judged_each`.
    """
    found = _called(check, measured, profile, given)
    if isinstance(found, dict):
        message = f"it judges several subjects ({', '.join(found)}): ask judged_each"
        raise TypeError(message)
    return found


def judged_each(
    check: str | Check, *measured: object, profile: str = "web", **given: object
) -> dict[str | None, Judgement]:
    """What a check says, as `judged` has it, by the subjects that it names; None stands for no subject."""
    found = _called(check, measured, profile, given)
    return dict(found.items()) if isinstance(found, dict) else {None: found}


def _called(
    check: str | Check, measured: Iterable[object], profile: str, given: Mapping[str, object]
) -> Judgement | dict[str, Judgement]:
    entry = check_entry(check) if isinstance(check, Check) else _installed().checks[check]
    of_profile = _limits(profile)
    by_type = {type(each): each for each in measured}
    arguments = dict(given)
    for need in entry.needs:
        if need.name not in given:
            arguments[need.name] = _argument(need, entry.check.id, by_type, of_profile)
        value = arguments[need.name]
        if isinstance(value, Absent) and not need.bears_absence:
            return absent_judgement(value)
    result = entry.check.function(**arguments)
    if isinstance(result, dict):
        return {subject: _judgement(each) for subject, each in result.items()}
    return _judgement(result)


def _argument(
    need: Need, check_id: str, by_type: Mapping[type, object], of_profile: Mapping[str, Mapping[str, object]]
) -> object:
    if need.kind == "limits":
        return Limits({name: dict(limits) for name, limits in of_profile.items()})
    if need.kind == "threshold":
        found = of_profile.get(check_id, {}).get(need.name)
        instead = not_applicable("no chosen profile sets this limit")
    else:
        found, instead = by_type.get(need.type), NOT_MEASURED
    if found is None and not need.bears_absence:
        message = f"{check_id} needs {need.name}: {need.type.__name__}"
        raise TypeError(message)
    return instead if found is None else found


def _judgement(found: Judgement | Absent) -> Judgement:
    return absent_judgement(found) if isinstance(found, Absent) else found


@cache
def _limits(profile: str) -> Mapping[str, Mapping[str, object]]:
    return read_profile(profile, _installed()).limits


@cache
def _installed() -> catalogue.Catalogue:
    return catalogue.load()


# Hosts


def host(
    folder: Path,
    files: Mapping[str, str | bytes],
    links: Mapping[str, str] | None = None,
    facts: Mapping[str, object] | None = None,
) -> Host:
    """A target that answers from these files, written below a folder: absent is what is not among them.

    `facts` are what probes ask the kernel for (`host.fact`), as values that JSON has.
    """
    said = {name: json.dumps(value) for name, value in (facts or {}).items()}
    texts = {
        path: each.decode("utf-8", "surrogateescape") if isinstance(each, bytes) else each
        for path, each in files.items()
    }
    return unpack(Tree(files=_absolute(texts), links=_absolute(links or {}), facts=said), folder)


def _absolute(named: Mapping[str, str]) -> dict[str, str]:
    return {"/" + path.lstrip("/"): each for path, each in named.items()}


@dataclass
class Tree:
    """What a host's TOML file holds."""

    meta: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    listed: dict[str, str] = field(default_factory=dict)
    """Names that a folder holds and nothing looked into."""
    facts: dict[str, str] = field(default_factory=dict)


def load(file: Path) -> Tree:
    """The tree in a TOML file."""
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    return Tree(
        found.get("meta", {}),
        _expanded(found.get("files", {})),
        found.get("links", {}),
        found.get("folders", []),
        found.get("listed", {}),
        found.get("facts", {}),
    )


def _expanded(files: Mapping[str, str]) -> dict[str, str]:
    """Names such as `memory{0-23,32-199}` as the many that they stand for."""
    found = {}
    for path, content in files.items():
        before, numbers, after = re.fullmatch(r"([^{}]*)(?:\{([0-9,-]+)\})?([^{}]*)", path).groups()  # type: ignore[union-attr]
        for part in (numbers or "").split(","):
            first, _, end = part.partition("-")
            names = [str(each) for each in range(int(first), int(end or first) + 1)] if part else [""]
            found.update({f"{before}{name}{after}": content for name in names})
    return found


def _folded(files: Mapping[str, str]) -> dict[str, str]:
    """The memory blocks of a machine in one line for each state."""
    found: dict[str, str] = {}
    numbered: dict[tuple[str, str, str], set[int]] = {}
    for path, content in files.items():
        match = _NUMBERED.fullmatch(path)
        if match:
            numbered.setdefault((match[1], match[3], content), set()).add(int(match[2]))
        else:
            found[path] = content
    for (before, after, content), numbers in numbered.items():
        starts = sorted(number for number in numbers if number - 1 not in numbers)
        ends = sorted(number for number in numbers if number + 1 not in numbers)
        ranges = ",".join(f"{first}-{last}" for first, last in zip(starts, ends, strict=True))
        found[f"{before}{{{ranges}}}{after}"] = content
    return found


def unpack(tree: Tree, folder: Path) -> Host:
    """Write a host's tree below a folder, and give the Host that looks at it."""
    for path, target in tree.links.items():
        place = _place(folder, path, tree.links, last=False)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    for path in tree.folders:
        _place(folder, path, tree.links).mkdir(parents=True, exist_ok=True)
    for path, content in tree.files.items():
        place = _place(folder, path, tree.links)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode("utf-8", "surrogateescape"))
    for path, names in tree.listed.items():
        for name in names.split():
            place = _place(folder, f"{path}/{name}", tree.links, last=False)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink() and not place.exists():
                place.touch()
    facts = folder / FACTS.lstrip("/")
    facts.mkdir(parents=True, exist_ok=True)
    for name, text in tree.facts.items():
        json.loads(text)
        (facts / f"{name}.json").write_text(text, encoding="utf-8")
    return Host(root=str(folder))


def _place(folder: Path, path: str, links: Mapping[str, str], *, last: bool = True) -> Path:
    """Where a path leads below the folder, with the tree's own links followed."""
    done: list[str] = []
    parts = [part for part in path.split("/") if part]
    while parts:
        head = parts.pop(0)
        if head == "..":
            done = done[:-1]
            continue
        target = links.get("/" + "/".join([*done, head])) if parts or last else None
        if target is None:
            done.append(head)
            continue
        done = [] if target.startswith("/") else done
        parts = [part for part in target.split("/") if part and part != "."] + parts
    return folder.joinpath(*done)


def capture(probes: Iterable[Probe]) -> Tree:
    """What the probes read of the running host, without serial numbers, addresses and ids.

    Of probes that measure for a while, and of what cannot be read, the tree has nothing.
    """
    tree = Tree()
    listings: dict[str, list[str]] = {}

    def record(kind: str, path: str, content: bytes) -> None:
        if kind == "folder":
            listings[path] = content.decode().split("\n")
        else:
            _keep(tree, kind, path, content)

    running = Host(record=record)
    for each in probes:
        if each.window is None and not each.live:
            with suppress(UnavailableError):
                each.function(running)
    tree.folders = sorted(set(tree.folders) | set(listings))
    _finish(tree, listings)
    return _anonymous(tree, running.read("/proc/self/cgroup"))


def _keep(tree: Tree, kind: str, path: str, content: bytes) -> None:
    if kind == "fact":
        tree.facts[path] = content.decode()
    elif kind == "file":
        tree.files[path] = _cleaned(path, content.decode("utf-8", "backslashreplace"))
    elif kind == "link":
        tree.links[path] = content.decode()
    elif Path(path).is_dir():
        tree.folders.append(path)
    else:
        tree.files.setdefault(path, "")


def _anonymous(tree: Tree, cgroups: str) -> Tree:
    """The tree without the names of the capturing machine's folders and control groups."""
    own = {line.split(":", 2)[2] for line in cgroups.splitlines()} - {"/"}
    above = {parent for path in own for parent in _parents(path)}

    def neutral(said: str) -> str:
        for path in sorted(own, key=len, reverse=True):
            said = said.replace(path, "/captured")
        return re.sub(r"(?<=[ =])/(root|tmp)/[^ ,\n]+", "/captured", said)

    def is_ours(path: str) -> bool:
        return not any(f"{parent}/" in path for parent in above) or any(each in path for each in own)

    tree.files = {neutral(path): neutral(said) for path, said in tree.files.items() if is_ours(path)}
    tree.folders = sorted({neutral(path) for path in tree.folders if is_ours(path)})
    return tree


def _cleaned(path: str, content: str) -> str:
    if path in _BLANKED:
        return _BLANKED[path]
    if _PRIVATE.search(path):
        return "0\n"
    if path in ("/proc/self/mountinfo", "/proc/1/mountinfo"):
        lines = content.splitlines(keepends=True)
        return "".join(line for line in lines if not _OWN_MOUNTS.fullmatch(line.split(" ")[4]))
    if path == "/proc/1/environ":
        return "\0".join(word for word in content.split("\0") if word.startswith("container="))
    return content


def _finish(tree: Tree, listings: Mapping[str, list[str]]) -> None:
    known = {*tree.files, *tree.links, *tree.folders}
    parents = {parent for path in known for parent in _parents(path)}
    for path, names in listings.items():
        rest = [name for name in names if name and f"{path}/{name}" not in known | parents]
        if rest:
            tree.listed[path] = " ".join(rest)
    tree.folders = [path for path in tree.folders if path not in parents and path not in tree.listed]


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(2, len(parts))]


def text(tree: Tree) -> str:
    """The tree as TOML."""
    blocks = [
        f"[meta.{how}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())
        for how, said in tree.meta.items()
    ]
    if tree.folders:
        blocks.insert(0, "folders = [\n" + "".join(f"  {json.dumps(each)},\n" for each in tree.folders) + "]\n")
    for name in ("links", "listed", "facts", "files"):
        table = _folded(tree.files) if name == "files" else getattr(tree, name)
        if table:
            lines = (f"{json.dumps(key)} = {_string(value)}\n" for key, value in sorted(table.items()))
            blocks.append(f"[{name}]\n" + "".join(lines))
    return "\n".join(blocks)


def _string(value: str) -> str:
    plain = all(char in "\n\t" or " " <= char < "\x7f" for char in value)
    if plain and "'''" not in value and value.count("\n") > 1:
        return f"'''\n{value}'''"
    return json.dumps(value).replace("\x7f", "\\u007f")
