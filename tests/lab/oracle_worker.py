"""Runs the programs that set sysctls at boot, each on a made-up root; oracle.py calls it.

It is a program of its own, of the standard library alone, so that it starts quickly and has no
threads: it takes a private mount namespace, reads a JSON list of questions, writes one of answers.
"""

import ctypes
import json
import os
import select
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

BASE: Final = ".base"
"""Where the real system's /usr stands inside the made-up root."""

_CLONE_NEWNS: Final = 0x20000
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18
_MNT_DETACH: Final = 2
_OURS: Final = frozenset({"proc", "sys", "dev", BASE})
"""What the tree cannot bring: these we make ourselves."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Answer the questions on standard input."""
    questions = json.load(sys.stdin)
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise _error(what="unshare")
    _mount("none", Path("/"), flags=_MS_REC | _MS_PRIVATE)
    answers = [_answer(question) for question in questions]
    json.dump(answers, sys.stdout)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    """Build the root, run the program in it, read what the keys hold then, and take it down."""
    root = Path(question["root"])
    _mount("tmpfs", root, kind="tmpfs")
    try:
        _furnish(root, question)
        code, said = _ran(root, question["argv"], question["timeout_s"])
        values = {key: _first_line(root / "proc/sys" / key) for key in question["keys"]}
    finally:
        _libc.umount2(os.fsencode(root), _MNT_DETACH)
    return {"values": values, "code": code, "said": said}


def _furnish(root: Path, question: dict[str, Any]) -> None:
    """Lay out the tree's own folders, the real system's /usr, and our /proc and /dev."""
    with os.scandir(question["tree"]) as entries:
        for entry in entries:
            if entry.name not in _OURS:
                _place(entry, root / entry.name)
    base = root / BASE
    base.mkdir()
    _mount(question["base"], base, flags=_MS_BIND)
    null = root / "dev/null"
    null.parent.mkdir()
    null.touch()
    _mount("/dev/null", null, flags=_MS_BIND)
    kernel = root / "proc/sys"
    kernel.mkdir(parents=True)
    (root / "proc/cmdline").write_text(question["cmdline"] + "\n", encoding="utf-8")
    for key, value in question["keys"].items():
        path = kernel / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.encode("utf-8", "surrogateescape") + b"\n")


def _place(entry: "os.DirEntry[str]", target: Path) -> None:
    """Show one thing of the tree's top level in the made-up root."""
    if entry.is_symlink():
        target.symlink_to(Path(entry.path).readlink())
        return
    if entry.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount(entry.path, target, flags=_MS_BIND | _MS_REC)


def _ran(root: Path, argv: list[str], timeout_s: float) -> tuple[int, str]:
    """The program's exit code and what it wrote; killed at the deadline, with code -9."""
    said = root / BASE.replace("base", "said")
    with said.open("w+b") as log:
        child = os.fork()
        if child == 0:
            _become(root, argv, log.fileno())
        code = _waited(child, timeout_s)
        log.seek(0)
        return code, log.read(65536).decode("utf-8", "surrogateescape")


def _become(root: Path, argv: list[str], log: int) -> NoReturn:
    """Turn this child into the program, with nothing but the made-up root to see."""
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for number, source in enumerate((null, log, log)):
            os.dup2(source, number)
        os.chroot(root)
        os.chdir("/")
        os.execve(argv[0], argv, {"SYSTEMD_LOG_LEVEL": "info", "LC_ALL": "C.UTF-8"})
    finally:
        os._exit(126)


def _waited(child: int, timeout_s: float) -> int:
    """The exit code of a child that is given this long."""
    handle = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _first_line(path: Path) -> str:
    """What a key holds: a shorter value does not remove the end of a longer one before it."""
    if not stat.S_ISREG(path.lstat().st_mode):
        message = f"{path} is no regular file any more"
        raise RuntimeError(message)
    return path.read_bytes().split(b"\n", 1)[0].decode("utf-8", "surrogateescape")


def _mount(source: str, target: Path, *, kind: str = "", flags: int = 0) -> None:
    """mount(2), with its failure as an exception."""
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode())
    if _libc.mount(*arguments, ctypes.c_ulong(flags), None) != 0:
        raise _error(what=f"mount {source} on {target}")


def _error(*, what: str) -> OSError:
    """The exception for a failed call of the C library."""
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
