"""What the real programs would set at boot: systemd-sysctl and procps, asked on any tree of files.

The tree stands in for the root of a machine: its /etc/sysctl.d, /run/sysctl.d, /usr/lib/sysctl.d,
/lib/sysctl.d, /etc/sysctl.conf and whatever its links lead to. In a private mount namespace it
becomes a root with a /proc/sys of plain files, one per key, each holding a sentinel; the program of
Debian 12 or 13 runs in there by chroot and sees nothing else; then the files are read. The machine
is not touched, and needs neither systemd nor the two Debians: those come from `debian.rootfs`.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from .debian import rootfs
from .oracle_worker import BASE
from .processes import LabError, must, need_root

Program = Literal["systemd", "procps"]

START_TIMEOUT_S: Final = 60.0
_PATHS: Final[Mapping[Program, tuple[str, ...]]] = {
    "systemd": ("lib/systemd/systemd-sysctl",),
    "procps": ("sbin/sysctl", "--system"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """One tree to ask about."""

    tree: Path
    keys: Mapping[str, str]
    """Key as a path below /proc/sys ("net/ipv4/conf/eth0.100/rp_filter") -> its value before."""
    cmdline: str = ""
    """The kernel's command line."""
    chroot: Path | None = None
    """The root whose program is asked; Debian 12's where none is given."""
    program: Program = "systemd"
    options: tuple[str, ...] = ()
    """More arguments for the program, such as --prefix=/net/ipv4."""
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program did with one tree."""

    values: Mapping[str, str]
    """The value of each key afterwards: the sentinel where nobody set it."""
    code: int
    """Its exit code; -9 where it was killed at the deadline."""
    said: str
    """What it wrote, both streams."""


def ask_systemd_sysctl(
    tree: Path,
    keys: Mapping[str, str],
    *,
    chroot: Path | None = None,
    cmdline: str | None = None,
) -> dict[str, str]:
    """What systemd-sysctl (252, or that of `chroot`) makes of the keys with this tree at boot."""
    question = Question(tree, keys, cmdline or "", chroot)
    return dict(ask_many([question])[0].values)


def ask_procps(tree: Path, keys: Mapping[str, str], *, chroot: Path | None = None) -> dict[str, str]:
    """What `sysctl --system` (procps 4.0.2, or that of `chroot`) makes of the keys."""
    question = Question(tree, keys, chroot=chroot, program="procps")
    return dict(ask_many([question])[0].values)


def ask_many(questions: Iterable[Question], *, workers: int | None = None) -> list[Answer]:
    """Ask about many trees, one process per CPU; the answers are in the order of the questions."""
    need_root()
    asked = list(questions)
    count = min(workers or os.cpu_count() or 1, len(asked))
    if count == 0:
        return []
    with ThreadPoolExecutor(count) as pool:
        shares = list(pool.map(_ask, [asked[first::count] for first in range(count)]))
    return [shares[index % count][index // count] for index in range(len(asked))]


def _ask(questions: Sequence[Question]) -> list[Answer]:
    """Have one worker answer its share."""
    timeout_s = START_TIMEOUT_S + sum(question.timeout_s for question in questions)
    worker = [sys.executable, "-I", "-S", str(Path(__file__).with_name("oracle_worker.py"))]
    with tempfile.TemporaryDirectory(prefix="vdscheck-oracle-") as root:
        bases: dict[Path | None, Path] = {}
        sent = json.dumps([_sent(question, root, bases) for question in questions])
        out = must(worker, timeout_s=timeout_s, stdin=sent)
    return [Answer(**answer) for answer in json.loads(out)]


def _sent(question: Question, root: str, bases: dict[Path | None, Path]) -> dict[str, Any]:
    """A question as the worker reads it."""
    if question.chroot not in bases:
        bases[question.chroot] = question.chroot or rootfs("bookworm")
    base = bases[question.chroot] / "usr"
    if not question.tree.is_dir():
        message = f"{question.tree} is no folder"
        raise LabError(message)
    return {
        "root": root,
        "tree": str(question.tree.resolve()),
        "base": str(base.resolve()),
        "keys": dict(question.keys),
        "cmdline": question.cmdline,
        "argv": [*_program(base, question.program), *question.options],
        "timeout_s": question.timeout_s,
    }


def _program(base: Path, program: Program) -> list[str]:
    """The command line that starts a program below BASE without any library outside of it."""
    loaders = sorted(base.glob("lib/*-linux-gnu*/ld-linux*.so.*"))
    if not loaders:
        message = f"{base} has no dynamic loader: it is no Debian root"
        raise LabError(message)
    folder = loaders[0].parent.relative_to(base)
    libraries = f"/{BASE}/{folder}:/{BASE}/{folder}/systemd"
    path, *options = _PATHS[program]
    loader = [f"/{BASE}/{folder}/{loaders[0].name}", "--library-path", libraries]
    return [*loader, f"/{BASE}/{path}", *options]
