"""Folders of a host in which files are written whole or not at all, with links resolved inside its root."""

import errno
import os
import stat
from contextlib import suppress

from vdscheck.model.records import frozen
from vdscheck.process.guard import in_child
from vdscheck.process.signals import StoppedError
from vdscheck.target import trusted
from vdscheck.target.host import Host

FOLDER_MODE = 0o755
PERMISSIONS = 0o777
"""What is kept of a mode: no file of ours runs as somebody else (setuid, setgid)."""
EVERYBODY_READS, EVERYBODY_ENTERS = 0o444, 0o005
LIMIT_BYTES = 4 << 20
"""More than any file that is written here may hold."""
SETTINGS_LIMIT_BYTES = 256 << 10
"""More than a file of settings may hold: each line of it is read several times, and others may have filled it."""
NEW_NAME = ".vdscheck-new"
"""A file that is being written. No init reads it: its name does not end in .conf, and begins with a dot."""
_TO_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FixError(Exception):
    """What cannot be done to a host, or not be taken back; one line: what, why, what to do."""


class NotAFileError(FixError):
    """What is there is no regular file of a bearable size."""


class OthersError(FixError):
    """A folder in which somebody else can put a file in the place of ours, or one above it."""


class NoRoomError(FixError):
    """A disk, or a quota, is full."""

    NUMBERS = (errno.ENOSPC, errno.EDQUOT)


_REMEDIES = {
    errno.EROFS: "mount it writable (mount -o remount,rw), and run it again",
    errno.ENOTDIR: "look at what stands in the place of a folder, and move it away",
    errno.EISDIR: "look at the folder in its place, and move it away",
    errno.ENOENT: "look where its links lead",
    errno.EPERM: "lsattr shows whether it may not be changed; chattr -i -a allows it",
    errno.EBUSY: "it is a mount of its own: umount it",
}


def refused(error: OSError) -> str:
    """What the system said, and what to do about it where that is known; a sentence of ours says that itself."""
    number = error.errno or 0
    plain = error.strerror == os.strerror(number)
    return f"{error.strerror}: {_REMEDIES[number]}" if plain and number in _REMEDIES else f"{error.strerror}"


@frozen
class File:
    """A regular file as it is."""

    content: bytes
    mode: int
    uid: int
    gid: int
    acl: bytes | None = None
    """Who else may do what, as the kernel keeps it (system.posix_acl_access); None where the mode says all."""

    @property
    def is_open(self) -> bool:
        """Whether everybody may read it."""
        return self.acl is None and self.mode & EVERYBODY_READS == EVERYBODY_READS


def put(folder: int, name: str, file: File, new_name: str, *, inherits: bool = False) -> None:
    """Put a file into an open folder at once, under the new name until it is complete. Raises OSError.

    The new name is gone after an error; only what ends the process leaves it behind. `inherits`: whether a file
    without an ACL keeps the one that the folder gives it.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new_name, flags, 0o600, dir_fd=folder)
    try:
        try:
            view = memoryview(file.content)
            while view:
                view = view[os.write(descriptor, view) :]
            made = os.fstat(descriptor)
            if (made.st_uid, made.st_gid) != (file.uid, file.gid):
                os.fchown(descriptor, file.uid, file.gid)
            if not inherits:
                with suppress(OSError):  # most folders give nothing
                    os.removexattr(descriptor, trusted.ACL)
            os.fchmod(descriptor, file.mode)
            if file.acl is not None:
                os.setxattr(descriptor, trusted.ACL, file.acl)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(new_name, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(new_name, dir_fd=folder)
        raise


class Folder:
    """An open folder. What is done in it goes by its descriptor, so it cannot be led elsewhere meanwhile."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    def close(self) -> None:
        """Let go of the folder, and of a lock on it."""
        os.close(self.descriptor)

    def names(self) -> list[str]:
        """What the folder holds."""
        return sorted(os.listdir(self.descriptor))

    def size_bytes(self, name: str) -> int:
        """The size of what has a name; 0 where nothing has it. Raises OSError."""
        with suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_size
        return 0

    def file(self, name: str, limit_bytes: int = LIMIT_BYTES) -> File | None:
        """A file; None where there is none. Raises NotAFileError, also of a link, and OSError."""
        try:
            found = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        where = f"{self.path}/{name}"
        if not stat.S_ISREG(found.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
            message = f"{where} is {kind}"
            raise NotAFileError(message)
        if found.st_size > limit_bytes:
            message = f"{where} is larger than {limit_bytes:,} bytes"
            raise NotAFileError(message)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(name, flags, dir_fd=self.descriptor)
        try:
            content = b""
            while piece := os.read(descriptor, limit_bytes + 1 - len(content)):
                content += piece
            acl = trusted.acl_of(descriptor)
        finally:
            os.close(descriptor)
        return File(content, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, acl)

    @property
    def is_open(self) -> bool:
        """Whether everybody may look into it."""
        mode = os.fstat(self.descriptor).st_mode
        return mode & EVERYBODY_ENTERS == EVERYBODY_ENTERS and trusted.acl_of(self.descriptor) is None

    def write(self, name: str, file: File) -> None:
        """Put a file there at once: no instant sees half of it, and after it no power cut loses it. Raises OSError."""
        self.tidy()
        put(self.descriptor, name, file, NEW_NAME)
        os.fsync(self.descriptor)

    def is_full(self, size_bytes: int, files: int = 1) -> bool:
        """Whether new files of so many bytes each have no room here, as the file system says. Raises OSError."""
        found = os.fstatvfs(self.descriptor)
        blocks = files * -(-size_bytes // max(found.f_frsize, 1))
        # A file system that has no fixed number of blocks, or of files, says 0 of them.
        no_blocks = found.f_blocks > 0 and found.f_bfree < blocks
        return no_blocks or (found.f_files > 0 and found.f_ffree < files)

    def remove(self, name: str) -> None:
        """Take a file away for good, if it is there. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)
        os.fsync(self.descriptor)

    def tidy(self) -> None:
        """Take away what was being written when a run was ended. Raises OSError."""
        # A file system that is read-only refuses this also where there is nothing to take away.
        with suppress(FileNotFoundError):
            os.stat(NEW_NAME, dir_fd=self.descriptor, follow_symlinks=False)
            try:
                os.unlink(NEW_NAME, dir_fd=self.descriptor)
            except IsADirectoryError as error:
                raise OSError(error.errno, f"{NEW_NAME} there is a folder: move it away") from error
            except PermissionError as error:
                raise OSError(error.errno, f"{NEW_NAME} there cannot be removed (lsattr says why)") from error


def opened(host: Host, path: str) -> Folder | None:
    """A folder of the host; None where there is none.

    Raises OthersError, and OSError, also where it is a link that leads nowhere.
    """
    try:
        descriptor = _open(host, path)
    except FileNotFoundError:
        if _is_link(host, path):
            raise
        return None
    return Folder(path, descriptor)


def made(host: Host, path: str) -> tuple[Folder, tuple[str, ...]]:
    """A folder of the host, made where it is not there, and the folders that were made for it.

    Raises OthersError and OSError.
    """
    new: list[str] = []
    parts = path.strip("/").split("/")
    for length in range(1, len(parts) + 1):
        here = "/" + "/".join(parts[:length])
        found = opened(host, here)
        if found is None:
            _make(host, here)
            new.append(here)
        else:
            found.close()
    return Folder(path, _open(host, path)), tuple(new)


def unmade(host: Host, path: str) -> None:
    """Take a folder away again if nothing is in it. Raises OSError."""
    try:
        parent, name = host.place(path, follow=False)
    except FileNotFoundError:
        return
    try:
        with suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=parent)
        _sync(parent)
    except OSError:
        if not _holds_something(host, path):
            raise
    finally:
        os.close(parent)


def _holds_something(host: Host, path: str) -> bool:
    folder = opened(host, path)
    if folder is None:
        return False
    try:
        return bool(folder.names())
    finally:
        folder.close()


def _open(host: Host, path: str) -> int:
    """Open a folder that answers and that nobody else can fill or exchange.

    Raises OSError, NoAnswerError where it does not answer, OthersError, and FixError at a signal.
    """

    def check(where: str, folder: int) -> None:
        trusted.check_folder(folder, where, os.geteuid())

    def look() -> None:
        parent, name = host.place(path, visit=check)
        try:
            folder = os.open(name, _TO_LOOK, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            trusted.check_folder(folder, path, os.geteuid())
        finally:
            os.close(folder)

    try:
        in_child(look, keeps=host.descriptors)
    except StoppedError:
        message = "interrupted"
        raise FixError(message) from None
    except trusted.UntrustedError as error:
        message = f"{error}: make it root's alone (chown root:, chmod 755)"
        raise OthersError(message) from error
    parent, name = host.place(path)
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


def _is_link(host: Host, path: str) -> bool:
    try:
        parent, name = host.place(path, follow=False)
    except FileNotFoundError:
        return False
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
    finally:
        os.close(parent)


def _make(host: Host, path: str) -> None:
    parent, name = host.place(path, follow=False)
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=parent)
        os.chmod(name, FOLDER_MODE, dir_fd=parent)
        _sync(parent)
    finally:
        os.close(parent)


def _sync(parent: int) -> None:
    """Make the names in a folder last; the descriptor that led there is for paths only (O_PATH)."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
