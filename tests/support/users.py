"""Calls a function as an ordinary user of this machine, in a process of its own, with accounts made for the test."""

import grp  # noqa: F401 - the Python of the tests may lie where only root can load more of it
import os
import pwd  # noqa: F401 - the same
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.alone import CLONE_NEWNS, called_in_child, mounted, unshare


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
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("passwd", passwd), ("group", group)):
            Path(folder, name).write_text(text)

        def as_user() -> Any:
            unshare(CLONE_NEWNS)
            mounted("--make-rprivate", "/")
            for name in ("passwd", "group"):
                mounted("--bind", f"{folder}/{name}", f"/etc/{name}")
            prepare()
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            return function()

        return called_in_child(as_user)
