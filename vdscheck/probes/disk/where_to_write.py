"""Where the disk instruments may make their files, and in words why they may not."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack

from vdscheck.plugin import Absent, Reason, UnavailableError, frozen, not_applicable, safe_text, secrets, unmeasured
from vdscheck.probes.disk.subject import DiskPath

ROOM_BYTES = 1 << 30
"""With less than this free nothing is written: somebody needs it more than we do."""

_IN_MEMORY = {0x01021994: "tmpfs", 0x858458F6: "ramfs", 0x958458F6: "hugetlbfs"}
"""By f_type of statfs(2) (include/uapi/linux/magic.h): since Linux 6.6 tmpfs takes O_DIRECT as well."""
_TRY_ELSEWHERE = (errno.EACCES, errno.EPERM, errno.EROFS)


@frozen
class TestFileLocation:
    """A folder to make files in."""

    folder: str
    stands_for: str | None
    """The path meant, where this is another folder on its device."""
    free_bytes: int
    descriptor: int
    """The folder itself (O_PATH): where somebody exchanges its name meanwhile, nothing is written elsewhere."""

    @property
    def shown(self) -> str:
        """The folder as a text that any encoder bears."""
        return safe_text(self.folder)


def places(disk: DiskPath, opened: ExitStack) -> Iterator[TestFileLocation]:
    """The folders to try, in order, held open until `opened` is closed. Raises UnavailableError where none can be."""
    descriptor = _opened(disk)
    opened.callback(os.close, descriptor)
    status = _status(disk, descriptor)
    free_bytes = _free_bytes(disk, descriptor)
    yield TestFileLocation(disk.path, None, free_bytes, descriptor)
    if disk.asked_for:
        return
    for folder in ("/var/tmp", os.environ.get("HOME", ""), os.getcwd()):  # noqa: S108 - our files have no name in it
        if folder.startswith("/") and folder != disk.path:
            other = _on_device(folder, status.st_dev)
            if other is not None:
                opened.callback(os.close, other)
                yield TestFileLocation(folder, disk.shown, free_bytes, other)


def may_try_elsewhere(error: OSError) -> bool:
    """Whether another folder of the same device may do."""
    return error.errno in _TRY_ELSEWHERE


def refused(disk: DiskPath, error: OSError) -> UnavailableError:
    """What the user is told of an error: what, where, and what to do."""
    if error.errno in (errno.EACCES, errno.EPERM):
        nor = "" if disk.asked_for else ", nor in another folder on its device"
        return _unmeasured(Reason.PERMISSION, f"may not write in {disk.shown}{nor}: sudo vdscheck may")
    if error.errno in _WHAT_TO_DO:
        reason, what = _WHAT_TO_DO[error.errno]
        return _unmeasured(reason, f"{disk.shown} {what}")
    return _unmeasured(Reason.ERROR, f"{disk.shown}: {os.strerror(error.errno or errno.EIO)}")


_WHAT_TO_DO = {
    errno.EROFS: (Reason.UNSUPPORTED, "is read-only: name a folder that can be written with --disk"),
    errno.EDQUOT: (Reason.UNSUPPORTED, "has a quota, which is used up: free some, or name another folder with --disk"),
    errno.ENOSPC: (Reason.UNSUPPORTED, "is full: free some space, or name another folder with --disk"),
    errno.EIO: (Reason.ERROR, "gave an I/O error: save the data on it, and look for the cause with dmesg"),
}


def _unmeasured(reason: Reason, why: str) -> UnavailableError:
    return UnavailableError(unmeasured(reason, why))


def _opened(disk: DiskPath) -> int:
    try:
        return os.open(disk.path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        why = f"there is no {disk.shown} here: name a folder that is there with --disk"
        raise _unmeasured(Reason.UNSUPPORTED, why) from error
    except (OSError, ValueError) as error:
        raise _unreadable(disk, error) from error


def _status(disk: DiskPath, descriptor: int) -> os.stat_result:
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        raise _unreadable(disk, error) from error
    if not stat.S_ISDIR(status.st_mode):
        kind = "a file" if stat.S_ISREG(status.st_mode) else "no folder"
        why = f"{disk.shown} is {kind}: name the folder to examine with --disk"
        raise _unmeasured(Reason.UNSUPPORTED, why)
    in_memory = _memory_file_system(descriptor)
    if in_memory:
        raise UnavailableError(in_memory_is_no_disk(disk, in_memory))
    return status


def _unreadable(disk: DiskPath, error: Exception) -> UnavailableError:
    if isinstance(error, PermissionError):
        return _unmeasured(Reason.PERMISSION, f"may not look into {disk.shown}: sudo vdscheck may")
    return _unmeasured(Reason.ERROR, f"{disk.shown}: {secrets.what_failed(error)}")


def in_memory_is_no_disk(disk: DiskPath, what: str) -> Absent:
    """Why nothing is measured of what has no disk."""
    return not_applicable(f"{disk.shown} lies in memory ({what}), on no disk: name a folder on a disk with --disk")


def _memory_file_system(descriptor: int) -> str | None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # struct statfs has 120 bytes on 64-bit machines; its first word is f_type
    answer = (ctypes.c_long * 64)()
    if libc.fstatfs(descriptor, ctypes.byref(answer)) != 0:
        return None
    return _IN_MEMORY.get(answer[0] & 0xFFFFFFFF)


def _free_bytes(disk: DiskPath, descriptor: int) -> int:
    try:
        found = os.fstatvfs(descriptor)
    except OSError as error:
        raise refused(disk, error) from error
    free_bytes = found.f_bavail * found.f_frsize
    if free_bytes < ROOM_BYTES:
        why = (
            f"only {free_bytes / 2**20:,.0f} MiB are free on {disk.shown}: nothing is written "
            "where less than 1 GiB is free"
        )
        raise _unmeasured(Reason.UNSUPPORTED, why)
    return free_bytes


def _on_device(folder: str, device: int) -> int | None:
    """A folder that lies on that device, open; None of another one."""
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    if os.fstat(descriptor).st_dev == device:
        return descriptor
    os.close(descriptor)
    return None
