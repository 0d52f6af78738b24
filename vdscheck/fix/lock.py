"""The lock that keeps two changes of one host apart: a file that only its owner can open, and who holds it."""

import fcntl
import os
import re
import stat

from vdscheck.fix.files import FixError, Folder, NoRoomError, refused

NAME = "lock"
MODE = 0o600
"""Whoever can open a file can lock it, for reading too: so nobody else may open this one."""
_HELD = r"[0-9]+: FLOCK +ADVISORY +WRITE ([0-9]+) ([0-9a-f]+):([0-9a-f]+):([0-9]+) "


class LockError(FixError):
    """Another process holds the lock, or there can be none; one line."""


def taken(folder: Folder) -> int:
    """Lock a folder until the descriptor that is returned is closed. Raises LockError and NoRoomError."""
    where = f"{folder.path}/{NAME}"
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(NAME, flags, MODE, dir_fd=folder.descriptor)
        try:
            _lock(descriptor, where)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        message = f"{where} cannot be locked: {refused(error)}"
        kind = NoRoomError if error.errno in NoRoomError.NUMBERS else LockError
        raise kind(message) from error
    return descriptor


def held_by(folder: Folder) -> str | None:
    """Who holds the lock of a folder, as ` (process 4711, python3)`; None where nobody does, or it cannot be seen."""
    try:
        descriptor = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.descriptor)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _holder(os.fstat(descriptor))
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int, where: str) -> None:
    """Raises LockError, or OSError for what is told in the words of the system."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
        message = f"{where} is not root's file: look at it, and move it away"
        raise LockError(message)
    if found.st_nlink > 1 and stat.S_IMODE(found.st_mode) != MODE:  # a backup may have made another name of ours
        message = f"{where} is another file as well (a hard link): look at it, and move it away"
        raise LockError(message)
    if stat.S_IMODE(found.st_mode) != MODE:
        os.fchmod(descriptor, MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = f"another vdscheck is changing this host{_holder(found)}: wait until it has ended"
        raise LockError(message) from error


def _holder(found: os.stat_result) -> str:
    """Who holds the lock of a file, as ` (process 4711, python3)`; empty where that is not to be seen."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as lines:
            locks = [match for line in lines if (match := re.match(_HELD, line))]
    except OSError:
        return ""
    same = [each for each in locks if int(each[4]) == found.st_ino]
    device = (os.major(found.st_dev), os.minor(found.st_dev))
    # An overlay's files may be told by stat(2) to lie on another device than /proc/locks says.
    exact = [each for each in same if (int(each[2], 16), int(each[3], 16)) == device]
    pids = {each[1] for each in exact or same}
    return f" (process {', '.join(f'{pid}{_name(pid)}' for pid in sorted(pids)[:1])})" if pids else ""


def _name(pid: str) -> str:
    """What a process calls itself, which may be anything: only plain ASCII is left as it is."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            said = file.read().removesuffix("\n")
    except OSError:
        return ""
    return f", {ascii(said)[1:-1]}"
