"""Calls a function in a process of its own, where what others do on this machine is not seen."""

import ctypes
import functools
import os
import pickle
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
T = TypeVar("T")
P = ParamSpec("P")


def unshare(flags: int) -> None:
    """What unshare(2) does to the calling process."""
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def mounted(*words: str) -> None:
    """Mount something where nobody else sees it: in the calling process, which has a mount namespace of its own."""
    subprocess.run(["mount", *words], check=True)


def called_in_child(function: Callable[[], T]) -> T:
    """What the function returns in a child of this process; where it raises, so does this, with the child's trace."""
    with tempfile.TemporaryFile() as answer:
        pid = os.fork()
        if pid == 0:
            try:
                pickle.dump(_answered(function), answer)
                answer.flush()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        answer.seek(0)
        holds, found = pickle.load(answer)
    if not holds:
        raise AssertionError(found)
    returned: T = found
    return returned


def called_alone(function: Callable[[], T]) -> T:
    """What the function returns where there are no other processes and no other sockets: it is PID 1 there."""

    def as_pid_1() -> T:
        mounted("--make-rprivate", "/")
        mounted("-t", "proc", "proc", "/proc")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return function()

    def with_namespaces() -> T:
        unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID)
        return called_in_child(as_pid_1)

    return called_in_child(with_namespaces)


def alone(test: Callable[P, None]) -> Callable[P, None]:
    """Decorates a test that is to run as `called_alone` does it: others may start and end what it looks for."""

    @functools.wraps(test)
    def there(*args: P.args, **more: P.kwargs) -> None:
        called_alone(functools.partial(test, *args, **more))

    return there


def _answered(function: Callable[[], T]) -> tuple[bool, T | str]:
    try:
        return True, function()
    except BaseException:  # noqa: BLE001 - it is told to the test
        return False, traceback.format_exc()
