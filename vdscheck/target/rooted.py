"""A folder that stands for the root of a file system: held open from the start, and walked without leaving it."""

import errno
import fcntl
import os
from collections.abc import Callable

from vdscheck.process.guard import opened_in_child

LINKS_LIMIT = 40
LOWEST_DESCRIPTOR = 3
"""Below it are the standard streams: a descriptor that is kept must not take the place of a closed one."""
_DELETED = " (deleted)"
"""What the kernel writes behind the last name of a folder that is gone: d_path in fs/d_path.c."""
Visit = Callable[[str, int], None]
"""What is done with a folder that a walk passes: its path inside the root, and its descriptor (O_PATH)."""
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class RootError(Exception):
    """A folder that cannot stand for another root; one line: which, why, what to do."""


class Root:
    """The root by its descriptor: whoever exchanges or renames its folder meanwhile changes nothing here."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def opened(cls, path: str) -> "Root":
        """Open a folder. Raises OSError."""
        return cls(_beyond_the_streams(os.open(path, _FOLDER)))

    @classmethod
    def named(cls, path: str) -> "Root":
        """Open the folder that a caller named as another root than the running system's. Raises RootError."""
        try:
            return cls(_beyond_the_streams(opened_in_child(lambda: _another(path))))
        except OSError as error:
            message = f"--root {path}: {_why_not(error)}"
            raise RootError(message) from error

    def __del__(self) -> None:
        os.close(self.descriptor)

    @property
    def path(self) -> str | None:
        """Where the folder is now, for people; None where no path from here leads to it."""
        try:
            path = os.readlink(f"/proc/self/fd/{self.descriptor}")
        except OSError:
            return None
        # Of what lies outside of our own root the kernel gives the path within its own.
        return path if path.startswith("/") and path != "/" else None

    def place(self, path: str, *, follow: bool = True, visit: Visit | None = None) -> tuple[int, str]:
        """The folder (as an open O_PATH descriptor) and the name that a path leads to, inside the root.

        Each step is taken with openat and O_NOFOLLOW, so a link that changes while we walk cannot
        lead out of the root. `visit` is called for each folder on the way. Raises OSError, and what `visit` raises.
        """
        way = _Walk(self.descriptor, visit)
        parts = parts_of(path)
        try:
            while parts:
                head = parts.pop(0)
                if head == "..":
                    way.leave()
                    continue
                target = way.link(head) if parts or follow else None
                if target is not None:
                    if target.startswith("/"):
                        way.back_to_root()
                    parts = parts_of(target) + parts
                elif parts:
                    way.enter(head)
                else:
                    return way.take(), head
            return way.take(), "."
        finally:
            way.close()


class _Walk:
    """The folders from a root to where a walk stands, each as an open descriptor."""

    def __init__(self, root: int, visit: Visit | None) -> None:
        self._folders = [os.open(".", _FOLDER, dir_fd=root)]
        self._names: list[str] = []
        self._links = 0
        self._visit = visit
        self._visited()

    def _visited(self) -> None:
        if self._visit is None:
            return
        try:
            self._visit("/" + "/".join(self._names), self._folders[-1])
        except BaseException:
            self.close()
            raise

    def link(self, name: str) -> str | None:
        """The target of a link in the folder where we stand; None of what is not a link."""
        try:
            target = os.readlink(name, dir_fd=self._folders[-1])
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise
        self._links += 1
        if self._links > LINKS_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return target

    def enter(self, name: str) -> None:
        self._folders.append(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._folders[-1]))
        self._names.append(name)
        self._visited()

    def leave(self) -> None:
        """Go up, as far as the root."""
        if len(self._folders) > 1:
            os.close(self._folders.pop())
            self._names.pop()

    def back_to_root(self) -> None:
        while len(self._folders) > 1:
            self.leave()

    def take(self) -> int:
        """The descriptor of the folder where we stand, for the caller to close."""
        return self._folders.pop()

    def close(self) -> None:
        for descriptor in self._folders:
            os.close(descriptor)
        self._folders = []


def _beyond_the_streams(descriptor: int) -> int:
    if descriptor >= LOWEST_DESCRIPTOR:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR)
    finally:
        os.close(descriptor)


def _another(path: str) -> int:
    """Open a folder that is not the running system's root. Raises RootError and OSError."""
    descriptor = os.open(path, _FOLDER)
    found = os.fstat(descriptor)
    if os.path.samestat(found, os.stat("/")):
        message = f"--root {path} is this system's own root: leave --root out"
        raise RootError(message)
    if _is_deleted(descriptor, found):
        message = f"--root {path}: the folder has been deleted; name one that exists"
        raise RootError(message)
    return descriptor


def _is_deleted(descriptor: int, found: os.stat_result) -> bool:
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return False
    if not path.endswith(_DELETED):
        return False
    try:
        # A folder may be called so.
        return not os.path.samestat(os.stat(path), found)
    except OSError:
        return True


def _why_not(error: OSError) -> str:
    said = {
        errno.ENOENT: "there is no such folder",
        errno.ENOTDIR: "it is not a folder",
        errno.EACCES: "you may not open it: sudo, or a folder of your own",
        errno.ELOOP: "it leads through too many links",
    }
    return said.get(error.errno or 0, f"it cannot be opened: {error.strerror or error}")


def parts_of(path: str) -> list[str]:
    """The names in a path, without those that lead nowhere."""
    return [part for part in path.split("/") if part not in {"", "."}]
