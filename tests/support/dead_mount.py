"""A file system that never answers, as that of a server that is gone, in a mount namespace of its own.

It is FUSE (Linux Documentation/filesystems/fuse.rst) with a server that reads every request and answers
none, so that whoever waits for one is in state D and cannot even be killed, as with NFS. Only to go there
is answered: a current folder was one before its server died. Nothing outside of the namespace sees it,
and it goes with the program that is run on it.
"""

import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import environment
from tests.support.project import PROJECT

LIMIT_S = 90
"""How long it stays at the most: a program that waits for it in the kernel cannot be killed before it goes."""
LOOKUP = 1
GETATTR = 3
READLINK = 5
OPEN = 14
INIT = 26
ACCESS = 34
IOCTL = 39
"""Asked for by whoever wants to know whether a file is a terminal; NFS does not ask its server."""
DIES_AT_READ = "DEAD_MOUNT_DIES_AT_READ"
"""Set: each name is found and can be opened as a file, and only what is in it never comes."""
ANSWERS = "DEAD_MOUNT_ANSWERS"
"""Set to "N KIND": the first N looks find a link, a fifo or a file of root's at every name, and no later one ends."""
_NO_FLUSH = 1 << 5
"""FOPEN_NOFLUSH (linux/fuse.h): to close it is not asked for, as with NFS; else no process that has it could end."""
_MS_NOSUID_NODEV = 2 | 4

needs_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs root and /dev/fuse"
)


def popen(folder: Path | str, argv: Sequence[str], **more: Any) -> "subprocess.Popen[str]":
    """Start a program that finds a file system at the folder which never answers; `cwd` may be it, or below it.

    Signals are for the program: it is the process itself, and what serves is its child.
    """
    env = environment() | more.pop("env", {})
    cwd = str(more.pop("cwd", "/"))
    options: dict[str, Any] = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": "/"} | more
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), env.get("PYTHONPATH")]))
    unshared = ["unshare", "-m", "--propagation", "private", sys.executable, "-m", "tests.support.dead_mount"]
    return subprocess.Popen([*unshared, str(folder), cwd, *argv], env=env, **options)


def _attributes(mode: int) -> bytes:
    return struct.pack("=6Q10I", 2, 1000, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


_OPENED = struct.pack("=Q2I", 1, _NO_FLUSH, 0)
_FILE = _attributes(stat.S_IFREG | 0o644)
_FOUND = {LOOKUP: struct.pack("=4Q2I", 2, 0, LIMIT_S, LIMIT_S, 0, 0) + _FILE, OPEN: _OPENED}
_KINDS = {"link": stat.S_IFLNK | 0o777, "fifo": stat.S_IFIFO | 0o600, "file": stat.S_IFREG | 0o644}


def _looked_at(kind: str) -> dict[int, bytes]:
    """What the looks find that are still answered; nothing of it may be kept, so that there is a next look."""
    of_name = _attributes(_KINDS[kind])
    of_root = _attributes(stat.S_IFDIR | 0o755)
    found = {LOOKUP: struct.pack("=4Q2I", 2, 0, 0, 0, 0, 0) + of_name, GETATTR: struct.pack("=Q2I", 0, 0, 0) + of_root}
    return found | {READLINK: b"elsewhere", OPEN: _OPENED}


def _serve(device: int) -> None:
    """Answer what must be, and hold all else until whoever asks for it has gone."""
    left, _, kind = os.environ.get(ANSWERS, "").partition(" ")
    answers = int(left or 0)
    found = _looked_at(kind) if kind else _FOUND if DIES_AT_READ in os.environ else {}
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError:
            return
        _length, opcode, unique = struct.unpack_from("=IIQ", request)
        if opcode == INIT:
            major, minor = struct.unpack_from("=II", request, 40)
            _answer(device, unique, struct.pack("=IIIIHHII36x", major, min(minor, 31), 0, 0, 12, 9, 1 << 16, 1))
        elif opcode in (ACCESS, IOCTL):
            _answer(device, unique, error=errno.ENOSYS)
        elif opcode in found and (answers or not kind):
            answers -= 1
            _answer(device, unique, found[opcode])


def _answer(device: int, unique: int, body: bytes = b"", *, error: int = 0) -> None:
    os.write(device, struct.pack("=IiQ", 16 + len(body), -error, unique) + body)


def _main(folder: str, cwd: str, *argv: str) -> None:
    """Mount it there, and become the program."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"dead", folder.encode(), b"fuse.dead", _MS_NOSUID_NODEV, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), folder)
    program = os.getpid()
    if os.fork() == 0:
        ended = os.pidfd_open(program)
        for standard in (0, 1, 2):
            os.close(standard)
        threading.Thread(target=_serve, args=(device,), daemon=True).start()
        # What is left behind of the program is let go a moment after it.
        _wait(ended)
        os._exit(0)
    os.close(device)
    os.chdir(cwd)
    os.execvp(argv[0], argv)


def _wait(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(1000 * LIMIT_S)


if __name__ == "__main__":
    _main(*sys.argv[1:])
