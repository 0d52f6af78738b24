"""Boots fresh servers of many kinds and prints what each is: python -m tests.lab.facts [FOLDER]."""

import itertools
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .debian import SUITES, Suite
from .vm import Boot, Disk, Nic, boot

JOB: Final = Path(__file__).with_name("facts.sh")

_MACHINES: Final[tuple[tuple[Disk, Nic, str], ...]] = (
    ("nvme", "virtio", "max"),
    ("virtio", "virtio", "qemu64"),
    ("ide", "e1000", "max"),
    ("nvme", "e1000", "qemu64"),
    ("virtio", "e1000", "max"),
    ("ide", "virtio", "qemu64"),
)
"""Each pair of disk, network card and CPU model at least once."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fresh server."""

    suite: Suite
    disk: Disk = "nvme"
    nic: Nic = "virtio"
    cpu: str = "max"

    @property
    def name(self) -> str:
        """The name of the folder that holds its facts."""
        return f"{self.suite}-{self.disk}-{self.nic}-{self.cpu}"


def kinds() -> list[Kind]:
    """Return the kinds of server that the everyday and slow tests boot."""
    return [Kind(suite, *machine) for suite, machine in itertools.product(SUITES, _MACHINES)]


def facts(kind: Kind, out: Path) -> dict[str, str]:
    """Boot a server of that kind and return what it says about itself."""
    job = JOB.read_text(encoding="utf-8")
    booted = boot(kind.suite, job=job, out=out, disk=kind.disk, nic=kind.nic, cpu=kind.cpu)
    return read_facts(booted)


def read_facts(booted: Boot) -> dict[str, str]:
    """Return the facts that a boot of JOB has brought back."""
    lines = (booted.out / "facts").read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def table(columns: dict[str, dict[str, str]]) -> Iterable[str]:
    """Yield a Markdown table of the facts, one column per machine."""
    yield f"| fact | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    names = dict.fromkeys(itertools.chain.from_iterable(columns.values()))
    for name in names:
        values = (column.get(name, "").replace("|", "\\|") for column in columns.values())
        yield f"| {name} | {' | '.join(values)} |"


def main() -> None:
    """Boot every kind and print the table."""
    into = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    columns = {}
    for kind in kinds():
        started = time.monotonic()
        columns[kind.name] = facts(kind, into / kind.name)
        sys.stderr.write(f"{kind.name}: {time.monotonic() - started:.0f} s\n")
    sys.stdout.writelines(f"{line}\n" for line in table(columns))


if __name__ == "__main__":
    main()
