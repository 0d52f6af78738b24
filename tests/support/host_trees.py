"""Hosts as files: captured from a running one or constructed from documentation, and unpacked for a test.

`python -m tests.support.host_trees capture NAME` writes tests/hosts/NAME.toml with exactly what the probes read here;
`python -m tests.support.host_trees print` writes it to stdout, for a guest or a container that keeps nothing.
"""

import datetime as dt
import os
import sys
from pathlib import Path

from tests.support.project import PROJECT
from vdscheck import testing
from vdscheck.plugin import Host, Probe
from vdscheck.testing import Tree, capture, text

HOSTS = PROJECT / "tests/hosts"


def load(file: Path) -> Tree:
    """The tree in a TOML file of ours, which says how it came about."""
    found = testing.load(file)
    assert set(found.meta) in ({"captured"}, {"constructed"}), f"{file}: how did it come about?"
    if "captured" in found.meta:
        assert set(found.meta["captured"]) >= {"command", "date", "uname"}, file
    else:
        assert found.meta["constructed"]["source"].strip(), file
    return found


def unpack(file: Path, folder: Path) -> Host:
    """Write the tree of a host's file below a folder, and give the Host that looks at it."""
    return testing.unpack(load(file), folder)


def all_hosts() -> dict[str, Path]:
    """The host files by name."""
    return {file.stem: file for file in sorted(HOSTS.glob("*.toml"))}


def counts() -> str:
    """How many hosts were captured and how many constructed, for the end of a test run."""
    kinds = [next(iter(load(file).meta)) for file in all_hosts().values()]
    return f"host trees: {kinds.count('captured')} captured, {kinds.count('constructed')} constructed"


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
