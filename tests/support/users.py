"""Calls a function as an ordinary user of this machine, in a process of its own, with accounts made for the test."""

import ctypes
import grp  # noqa: F401 - the Python of the tests may lie where only root can load more of it
import os
import pickle
import pwd  # noqa: F401 - the same
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


class User(NamedTuple):
    """Somebody: his number, and his groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


VICTIM, ATTACKER, COLLEAGUE = User(1001, 1001), User(1002, 1002), User(1003, 2000)
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
victim:x:1001:1001::/home/victim:/bin/sh
attacker:x:1002:1002::/home/attacker:/bin/sh
colleague:x:1003:2000::/home/colleague:/bin/sh
"""
GROUP = """\
root:x:0:
victim:x:1001:
attacker:x:1002:
shared:x:2000:
"""


def unshare(flags: int) -> None:
    """What unshare(2) does to the calling process."""
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def mounted(*words: str) -> None:
    """Mount something where nobody else sees it: in the calling process, which has a mount namespace of its own."""
    subprocess.run(["mount", *words], check=True)


def nothing() -> None:
    """Does it."""


def called_as(
    user: User,
    function: Callable[[], Any],
    *,
    passwd: str = PASSWD,
    group: str = GROUP,
    prepare: Callable[[], Any] = nothing,
) -> Any:
    """What the function returns where this user calls it and these are all the accounts.

    `prepare` is called before, by root, in the mount namespace that the function then has.
    """
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryDirectory() as folder:
        for name, text in (("passwd", passwd), ("group", group)):
            Path(folder, name).write_text(text)
        pid = os.fork()
        if pid == 0:
            try:
                pickle.dump(_answered(user, function, prepare, Path(folder)), answer)
                answer.flush()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        answer.seek(0)
        holds, found = pickle.load(answer)
    if not holds:
        raise AssertionError(found)
    return found


def _answered(user: User, function: Callable[[], Any], prepare: Callable[[], Any], folder: Path) -> tuple[bool, Any]:
    try:
        unshare(CLONE_NEWNS)
        mounted("--make-rprivate", "/")
        for name in ("passwd", "group"):
            mounted("--bind", str(folder / name), f"/etc/{name}")
        prepare()
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        return True, function()
    except BaseException:  # noqa: BLE001 - it is told to the test
        return False, traceback.format_exc()
