"""Ends fixes and undos in the middle, at each system call that changes anything, and looks at what follows.

`python -m tests.fix.crashes SURROUNDINGS FAULT CALLS` prints one line of JSON a case. SURROUNDINGS is `live`, to be run
in a mount and a network namespace of its own whose /etc/sysctl.d and /var/lib/vdscheck are empty file systems, or a
folder for `--root`. FAULT is `kill`, or an error as `ENOSPC`. CALLS names system calls, or is `all`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import boot_hosts
from tests.support.fix_hosts import KINDS
from tests.support.program import environment
from vdscheck.fix.journal import unfinished
from vdscheck.target.host import Host

CALLS = (
    *("write", "pwrite64", "writev", "rename", "renameat", "renameat2", "fsync", "fdatasync", "sync"),
    *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "chmod", "fchmod", "fchmodat", "fchown"),
)
ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES")
OLD = {
    "net.core.somaxconn": "128",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.tcp_slow_start_after_idle": "1",
    "net.ipv4.ip_local_port_range": "40000 45000",
    "net.ipv4.tcp_syncookies": "0",
}
FILES = {
    "10-theirs.conf": "net.core.somaxconn = 128\nnet.ipv4.tcp_timestamps = 1\n",
    "90-vdscheck.conf": "# mine\nnet.ipv4.tcp_timestamps = 1\nnet.ipv4.tcp_syncookies = 0\n",
}
TIMEOUT_S = 60
DROP_IN = "etc/sysctl.d/90-vdscheck.conf"


@dataclass
class Surroundings:
    """Where it happens: the running kernel in namespaces of its own, or an image."""

    root: Path
    names: dict[str, str] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        return self.root == Path("/")

    def run(self, *words: str, inject: str | None = None) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "vdscheck", *words]
        if not self.live:
            program += ["--root", str(self.root)]
        if inject is not None:
            name = inject.partition(":")[0]
            program = ["strace", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={inject}", *program]
        return subprocess.run(
            program, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=environment(), cwd="/"
        )

    def fix(self, inject: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.run("--fix", "--yes", "--passive", "--only", "sysctl.*", "--json", inject=inject)

    def undo(self, inject: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.run("undo", inject=inject)

    def counted(self, *words: str) -> dict[str, int]:
        """How often each call is made by the program itself, in a run that nobody ends."""
        with tempfile.NamedTemporaryFile() as log:
            program = [
                "strace",
                "-o",
                log.name,
                "-e",
                f"trace={','.join(CALLS)}",
                sys.executable,
                "-m",
                "vdscheck",
                *words,
            ]
            if not self.live:
                program += ["--root", str(self.root)]
            subprocess.run(program, capture_output=True, check=False, timeout=TIMEOUT_S, env=environment(), cwd="/")
            made = re.findall(r"^(\w+)\(", Path(log.name).read_text(), re.MULTILINE)
        return {name: made.count(name) for name in CALLS if name in made}

    # States

    def begin(self) -> None:
        """The old state, with an empty journal."""
        shutil.rmtree(self.root / "var/lib/vdscheck/journal", ignore_errors=True)
        folder = self.root / "etc/sysctl.d"
        for path in folder.iterdir():
            if not path.is_symlink():
                path.unlink()
        for name, content in FILES.items():
            (folder / name).write_text(content)
        self.set(OLD)

    def set(self, values: dict[str, str]) -> None:
        if self.live:
            for key, value in values.items():
                Path("/proc/sys", key.replace(".", "/")).write_text(value)

    def values(self) -> dict[str, str]:
        if not self.live:
            return {}
        return {key: " ".join(Path("/proc/sys", key.replace(".", "/")).read_text().split()) for key in OLD}

    def state(self) -> dict[str, str]:
        """All that a fix may change, but for the journal."""
        files = {path.name: path.read_text() for path in (self.root / "etc/sysctl.d").iterdir() if path.is_file()}
        return files | self.values()

    def drop_in(self) -> str | None:
        path = self.root / DROP_IN
        return path.read_text() if path.exists() else None


def kept(where: Surroundings, folder: Path) -> dict[str, str]:
    """Keep a state aside."""
    for name in ("etc/sysctl.d", "var/lib/vdscheck"):
        shutil.copytree(where.root / name, folder / name, symlinks=True)
    return where.values()


def put(where: Surroundings, folder: Path, values: dict[str, str]) -> None:
    """Put a state that was kept back."""
    shutil.rmtree(where.root / "var/lib/vdscheck/journal", ignore_errors=True)
    for name in ("etc/sysctl.d", "var/lib/vdscheck"):
        for path in (where.root / name).iterdir():
            if path.is_file() or path.is_symlink():
                path.unlink()
        shutil.copytree(folder / name, where.root / name, symlinks=True, dirs_exist_ok=True)
    where.set(values)


def cases(where: Surroundings, fault: str, names: tuple[str, ...]) -> Iterator[dict[str, object]]:
    """Every case, each with what became of it."""
    with tempfile.TemporaryDirectory(prefix="vdscheck-kept-") as name:
        folder = Path(name)
        where.begin()
        old = where.state()
        done = where.fix()
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr)
        new = where.state()
        assert old != new
        values = kept(where, folder)
        where.begin()
        words = {"fix": ("--fix", "--yes", "--passive", "--only", "sysctl.*", "--json"), "undo": ("undo",)}
        for action in ("fix", "undo"):
            where.begin() if action == "fix" else put(where, folder, values)
            counted = where.counted(*words[action])
            for call, count in counted.items():
                for number in range(1, count + 1) if call in names else ():
                    where.begin() if action == "fix" else put(where, folder, values)
                    yield _case(where, action, fault, f"{call}:{number}", (old, new))


def _case(
    where: Surroundings, action: str, fault: str, at: str, states: tuple[dict[str, str], dict[str, str]]
) -> dict[str, object]:
    old, new = states
    call, _, number = at.partition(":")
    what = "signal=KILL" if fault == "kill" else f"error={fault}"
    run = where.fix if action == "fix" else where.undo
    done = run(f"{call}:{what}:when={number}")
    whole = where.drop_in() in (old["90-vdscheck.conf"], new["90-vdscheck.conf"])
    said = unfinished(Host(str(where.root)), KINDS)
    middle = where.state()
    clean = middle in (old, new)
    follows = ("fix", "undo")[int(number) % 2]
    after = where.fix() if follows == "fix" else where.undo()
    state = where.state()
    return {
        "action": action,
        "at": at,
        "fault": fault,
        "code": done.returncode,
        "stderr": done.stderr[-300:],
        "whole": whole,
        "clean": clean,
        "said": said,
        "middle": "old" if middle == old else "new" if middle == new else "between",
        "next": follows,
        "next_code": after.returncode,
        "next_stderr": after.stderr[-300:],
        "state": "old" if state == old else "new" if state == new else "between",
        "differs": {key: (old.get(key), state.get(key)) for key in {*old, *state} if old.get(key) != state.get(key)}
        if state not in (old, new)
        else {},
    }


def refuse_the_machine_itself() -> None:
    """End here where no file systems of our own stand in the way: this changes kernel settings and files."""
    if not all(map(os.path.ismount, ("/etc/sysctl.d", "/var/lib/vdscheck"))):
        sys.exit("this changes kernel settings and files: run it in a mount and a network namespace of its own")


def main(arguments: list[str]) -> int:
    surroundings, fault, calls = arguments
    root = Path("/") if surroundings == "live" else Path(surroundings)
    if root == Path("/"):
        refuse_the_machine_itself()
    else:
        boot_hosts.host(root)
        (root / "var/lib/vdscheck").mkdir(parents=True)
    where = Surroundings(root)
    names = CALLS if calls == "all" else tuple(calls.split(","))
    errors = ERRORS if fault == "errors" else (fault,)
    for number, _ in enumerate(errors):
        for case in cases(where, errors[number], names):
            print(json.dumps(case), flush=True)
    return 0


if __name__ == "__main__":
    # What measures coverage writes a database of its own: a fault would be in that, and not in what is tried.
    for name in [name for name in os.environ if name.startswith(("COVERAGE", "COV_", "VDSCHECK_CONFIG"))]:
        del os.environ[name]
    sys.exit(main(sys.argv[1:]))
