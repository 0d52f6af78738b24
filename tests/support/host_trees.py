"""Hosts as files: captured from a running one or constructed from documentation, and unpacked for a test.

`python -m tests.support.host_trees capture NAME` writes tests/hosts/NAME.toml with exactly what the probes read here;
`python -m tests.support.host_trees print` writes it to stdout, for a guest or a container that keeps nothing.
"""

import datetime as dt
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.project import PROJECT
from vdscheck.model.absence import UnavailableError
from vdscheck.plugin import Host, Probe
from vdscheck.target.host import FACTS

HOSTS = PROJECT / "tests/hosts"

_BLANKED = {
    "/etc/machine-id": "00000000000000000000000000000000\n",
    "/proc/sys/kernel/hostname": "captured\n",
    "/etc/hostname": "captured\n",
    "/proc/sys/kernel/random/boot_id": "00000000-0000-0000-0000-000000000000\n",
}
_PRIVATE = re.compile(r"/(address|serial|wwid|uuid|.*_serial|.*_uuid|.*_asset_tag)$")
_NUMBERED = re.compile(r"(/sys/devices/system/memory/memory)([0-9]+)(/online)")
_OWN_MOUNTS = re.compile(r"/(root|work|tmp|mnt|home|opt|farm|old_root|container)(/.*)?")


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
    meta = found["meta"]
    assert set(meta) in ({"captured"}, {"constructed"}), f"{file}: how did it come about?"
    if "captured" in meta:
        assert set(meta["captured"]) >= {"command", "date", "uname"}, file
    else:
        assert meta["constructed"]["source"].strip(), file
    return Tree(
        meta,
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


def all_hosts() -> dict[str, Path]:
    """The host files by name."""
    return {file.stem: file for file in sorted(HOSTS.glob("*.toml"))}


def counts() -> str:
    """How many hosts were captured and how many constructed, for the end of a test run."""
    kinds = [next(iter(load(file).meta)) for file in all_hosts().values()]
    return f"host trees: {kinds.count('captured')} captured, {kinds.count('constructed')} constructed"


def unpack(file: Path, folder: Path) -> Host:
    """Write a host's tree below a folder, and give the Host that looks at it."""
    tree = load(file)
    for path, target in tree.links.items():
        place = _place(folder, path, tree.links, last=False)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    for path in tree.folders:
        _place(folder, path, tree.links).mkdir(parents=True, exist_ok=True)
    for path, content in tree.files.items():
        place = _place(folder, path, tree.links)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
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
    """What the probes read of the running host, without serial numbers, addresses and ids."""
    tree = Tree()
    listings: dict[str, list[str]] = {}

    def record(kind: str, path: str, content: bytes) -> None:
        if kind == "folder":
            listings[path] = content.decode().split("\n")
        else:
            _keep(tree, kind, path, content)

    host = Host(record=record)
    for each in probes:
        if each.window is None and not each.live:
            try:
                each.function(host)
            except UnavailableError as error:
                print(f"{each.id}: {error}", file=sys.stderr)
    tree.folders = sorted(set(tree.folders) | set(listings))
    _finish(tree, listings)
    return _anonymous(tree, host.read("/proc/self/cgroup"))


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
    (how, said), *_ = tree.meta.items()
    blocks = [f"[meta.{how}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())]
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


def first_party() -> list[Probe]:
    """The probes of the machine and of kernel settings: those that read no process but our own."""
    from vdscheck.probes.cpu import processors
    from vdscheck.probes.disk import file_systems
    from vdscheck.probes.host import identity
    from vdscheck.probes.memory import memory
    from vdscheck.probes.sysctl import values
    from vdscheck.probes.time import sync
    from vdscheck.probes.virt import hypervisor, nics

    found = [
        value
        for module in (identity, hypervisor, processors, memory, sync, nics, file_systems, values)
        for value in vars(module).values()
        if isinstance(value, Probe)
    ]
    return [each for each in found if each.id not in ("sysctl.open-files", "sysctl.listeners")]


def main(arguments: list[str]) -> int:
    if arguments != ["print"] and (len(arguments) != 2 or arguments[0] != "capture"):
        print(__doc__, file=sys.stderr)
        return 2
    tree = capture(first_party())
    tree.meta = {
        "captured": {
            "command": f"python -m tests.support.host_trees {' '.join(arguments)}",
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "uname": " ".join(os.uname()[each] for each in (0, 2, 3, 4)),
        }
    }
    if arguments == ["print"]:
        print(text(tree), end="")
        return 0
    HOSTS.mkdir(exist_ok=True)
    (HOSTS / f"{arguments[1]}.toml").write_text(text(tree), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
