"""A file in a folder that is held open: whether it may be written, and its content exchanged whole or not at all."""

import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress

from vdscheck.fix.files import PERMISSIONS, File, put
from vdscheck.model.records import frozen
from vdscheck.target import trusted
from vdscheck.target.host import kernel_file_systems

_AS_MADE = -1
"""An owner or a group: what the kernel gives a new file there."""
_TO_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_IRREPLACEABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EINVAL)
"""A folder that is not ours to write, an owner that is not ours to give or unknown here (user namespaces), a file that
is a mount of its own."""
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
_FS_IOC_GETFLAGS = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
"""linux/fs.h: _IOR('f', 1, long); its answer is an int all the same."""
_FS_APPEND_FL = 0x20


class RefusedError(Exception):
    """A file that is not written; one line: why, what to do."""


@frozen
class Found:
    """What has a name, before anything is written to it."""

    identity: tuple[str | int, ...] | None
    """The same of the same file, whatever its name; None of a device."""
    is_stream: bool
    """Whether it is a pipe or a device: written straight."""
    link: str | None = None
    """What it leads to, where it is a symbolic link: such a name is not written to."""


def identity(found: os.stat_result) -> tuple[str | int, ...]:
    """The same of the same file, whatever its name."""
    return ("file", found.st_dev, found.st_ino)


def checked(folder: int, name: str) -> Found:
    """What has that name, and that it can be written as far as that can be known. Raises RefusedError and OSError."""
    found = _status(folder, name)
    if found is None:
        _make_nothing(folder)
        above = os.fstat(folder)
        return Found(("name", above.st_dev, above.st_ino, name), is_stream=False)
    if stat.S_ISLNK(found.st_mode):
        return Found(None, is_stream=False, link=os.readlink(name, dir_fd=folder))
    _refuse(found, folder)
    if not stat.S_ISREG(found.st_mode):
        if not os.access(name, os.W_OK, dir_fd=folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return Found(identity(found) if stat.S_ISFIFO(found.st_mode) else None, is_stream=True)
    os.close(os.open(name, _TO_WRITE, dir_fd=folder))
    try:
        _make_nothing(folder)
    except OSError as error:
        if error.errno not in _IRREPLACEABLE:
            raise
        _refuse_names(found)
    return Found(identity(found), is_stream=False)


def replaced(folder: int, name: str, content: bytes) -> bool:
    """Give a file that content, whole or not at all; False of a stream, which is left as it is.

    Its owner, mode and ACL stay, without setuid and setgid. Where the folder cannot be written, or the file is a
    mount of its own, its content is exchanged in place. Raises RefusedError and OSError.
    """
    found = _status(folder, name)
    if found is None:
        put(folder, name, File(content, 0o666 & ~_umask(), _AS_MADE, _AS_MADE), _new_name(), inherits=True)
        return True
    if stat.S_ISLNK(found.st_mode):
        message = "it has become a symbolic link"
        raise RefusedError(message)
    _refuse(found, folder)
    if not stat.S_ISREG(found.st_mode):
        return False
    descriptor = os.open(name, _TO_WRITE, dir_fd=folder)
    try:
        _exchange(folder, name, descriptor, content)
    finally:
        os.close(descriptor)
    return True


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# What is refused


def _refuse(found: os.stat_result, folder: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        message = "that is a folder; name a file in it"
        raise RefusedError(message)
    if stat.S_ISSOCK(found.st_mode):
        message = "that is a socket; name a file or a pipe"
        raise RefusedError(message)
    if stat.S_ISREG(found.st_mode) and found.st_dev in kernel_file_systems():
        message = "that is a file of the kernel's; name a file on a disk"
        raise RefusedError(message)
    if not stat.S_ISCHR(found.st_mode) and not stat.S_ISBLK(found.st_mode):  # which only root can make
        _refuse_foreign(found, folder)


def _refuse_foreign(found: os.stat_result, folder: int) -> None:
    """Refuse what is somebody else's, but for root in a folder that is root's alone."""
    user = os.geteuid()
    way_out = "remove it, or name another file"
    if found.st_uid != user:
        whose = f"it belongs to {_user(found.st_uid)}"
        if user != 0 and stat.S_ISREG(found.st_mode):
            message = f"{whose}: {way_out}"
            raise RefusedError(message)
        try:
            trusted.check_folder(folder, "its folder", user)
        except trusted.UntrustedError as error:
            message = f"{whose}, and {error}: {way_out}"
            raise RefusedError(message) from error
    elif user != 0 and stat.S_ISREG(found.st_mode) and found.st_gid not in (os.getegid(), *os.getgroups()):
        message = f"it belongs to the group {found.st_gid}, which is none of yours: {way_out}"
        raise RefusedError(message)


def _refuse_names(found: os.stat_result) -> None:
    """Refuse what would be written in place and has another name: that is another file to whoever made it."""
    if found.st_nlink > 1:
        message = "it has another name (a hard link), and its folder cannot be written: name another file"
        raise RefusedError(message)


def _user(number: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def _make_nothing(folder: int) -> None:
    """Raise OSError where no file can be made in the folder, or none be renamed there."""
    try:
        os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder))
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        _make_and_remove(folder)
    if _only_grows(folder):
        message = "its folder is append-only (chattr -a): name another file"
        raise RefusedError(message)


def _make_and_remove(folder: int) -> None:
    """What tells whether a file can be made where the file system (NFS, vfat) knows no unnamed ones."""
    new_name = _new_name()
    try:
        os.close(os.open(new_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder))
    except FileNotFoundError as error:
        message = "no file can be made in its folder: name another one"
        raise RefusedError(message) from error
    os.unlink(new_name, dir_fd=folder)


def _only_grows(folder: int) -> bool:
    """Whether names in a folder can be made and never be changed: chattr(1), `a`."""
    with suppress(OSError):
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            answer = fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(8))
        finally:
            os.close(descriptor)
        return bool(int.from_bytes(answer[:4], byteorder="little") & _FS_APPEND_FL)
    return False


# What is written


def _new_name() -> str:
    return f".vdscheck-{os.urandom(8).hex()}"


def _exchange(folder: int, name: str, descriptor: int, content: bytes) -> None:
    """Exchange a file that is open for writing for one with other content, or where that cannot be, its content."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        message = "it was exchanged for something else in this very moment"
        raise RefusedError(message)
    _refuse_foreign(found, folder)
    file = File(content, found.st_mode & PERMISSIONS, found.st_uid, found.st_gid, trusted.acl_of(descriptor))
    try:
        put(folder, name, file, _new_name())
    except OSError as error:
        if error.errno not in _IRREPLACEABLE:
            raise
        _refuse_names(found)
        _overwrite(descriptor, found, content)


def _overwrite(descriptor: int, found: os.stat_result, content: bytes) -> None:
    """Exchange the content in place. The room for it is had first, so that a full disk leaves the old one whole."""
    if stat.S_IMODE(found.st_mode) & ~PERMISSIONS:
        os.fchmod(descriptor, found.st_mode & PERMISSIONS)
    try:
        os.posix_fallocate(descriptor, 0, len(content))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EBADF):
            os.ftruncate(descriptor, found.st_size)
            raise
    at = 0
    while at < len(content):
        at += os.pwrite(descriptor, content[at:], at)
    os.ftruncate(descriptor, len(content))
    os.fsync(descriptor)
