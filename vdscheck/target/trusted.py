"""Files that we read and others may own: walked to step by step, checked, and read through the same descriptor.

A file is trusted where nobody but the caller and root can have written it or put another one in its place: it and
each folder and link on the way belong to one of them, and neither mode bits nor an ACL let anybody else write. A
sticky folder may be written by others where the way leads on to a folder: they cannot exchange what is not theirs, and
a folder of somebody else nobody can move there. Files and links they can: under a second name, or out of a folder of
their own.
"""

import errno
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import field

from vdscheck.model.absence import Reason, UnavailableError, unmeasured
from vdscheck.model.records import frozen
from vdscheck.target.host import READ_LIMIT_BYTES, Host, kernel_file_systems, mounted
from vdscheck.target.rooted import LINKS_LIMIT
from vdscheck.target.text import safe_text

ROOT = 0
ACL = "system.posix_acl_access"
"""The extended attribute that holds an ACL: linux/xattr.h."""
_ACL_HEADER, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
"""Version 2, then an entry each: tag, permissions, id (linux/posix_acl_xattr.h)."""
_ACL_VERSION = 2
_USER, _GROUP_OF_FILE, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_WRITE = 0o2
_ALL_IDS = 2**32 - 1
_OF_THE_KERNEL = r"[a-z0-9.][\w./:-]*"
"""What an ordinary link of /proc and /sys holds; that of /proc/PID/root, cwd and fd only describes (proc(5))."""
_NOBODY = 65534
"""What the kernel shows of an id that has no place in a user namespace, unless it is told otherwise."""
_THROUGH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class UntrustedError(Exception):
    """Others control a step of the way to a file; one line: which step, and how."""


def read(path: str, user_id: int, *, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
    """The content of a regular file that only this user and root can have written, by its absolute path.

    Raises UntrustedError, and UnavailableError for what is trusted and cannot be read.
    """
    try:
        descriptor = _walked(path, _Caller(user_id), _Walk.file)
        try:
            return _content(descriptor, path, limit_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        why = f"{safe_text(path)}: {os.strerror(error.errno or 0)}"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error


def folder(path: str, user_id: int) -> int:
    """A folder to write into, as a descriptor (O_PATH), by its absolute path.

    It may be anybody's, but a link leads there only where nobody but this user and root can have made it or put it
    there. Raises UntrustedError for another link, and OSError.
    """
    return _walked(path, _Caller(user_id), _Walk.folder, passes=True)


def why_not_folder(path: str, user_id: int) -> str:
    """Why a folder is not one that only this user and root can lead to and write in; "" where it is. Raises OSError."""
    try:
        descriptor = _walked(path, _Caller(user_id), _Walk.folder)
    except UntrustedError as error:
        return str(error)
    try:
        check_folder(descriptor, path, user_id)
    except UntrustedError as error:
        return str(error)
    finally:
        os.close(descriptor)
    return ""


def check_name(folder: int, name: str, user_id: int) -> None:
    """Raise UntrustedError for what others than this user and root can have made or put there, and OSError."""
    _Caller(user_id).check_link(name, os.stat(name, dir_fd=folder, follow_symlinks=False), ".", folder)


def check_folder(descriptor: int, path: str, user_id: int) -> None:
    """Raise UntrustedError for a folder in which others than this user and root can put names."""
    _Caller(user_id).check_folder(path, descriptor, bears_sticky=False)


def _content(descriptor: int, path: str, limit_bytes: int) -> bytes:
    content = bytearray()
    while len(content) <= limit_bytes:
        piece = os.read(descriptor, limit_bytes + 1 - len(content))
        if not piece:
            return bytes(content)
        content += piece
    why = f"{safe_text(path)} is larger than {limit_bytes:,} bytes: not what this file should be"
    raise UnavailableError(unmeasured(Reason.ERROR, why))


# The way


def _walked(path: str, caller: "_Caller", take: Callable[["_Walk", str], int], *, passes: bool = False) -> int:
    """A descriptor of what stands at the end of the way: what was checked."""
    way = _Walk(caller, passes=passes)
    try:
        parts, links = _parts(path), 0
        while parts:
            head = parts.pop(0)
            target = way.link(head)
            if target is None:
                if not parts and head != "..":
                    return take(way, head)
                way.step(head)
                continue
            links += 1
            if links > LINKS_LIMIT:
                message = f"{safe_text(path)} leads through too many links"
                raise UntrustedError(message)
            if target.startswith("/"):
                way.back_to_root()
            parts = _parts(target) + parts
        return take(way, ".")
    finally:
        way.close()


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


class _Walk:
    """A walk from / on: where it stands is open, one descriptor however deep, and each folder entered is checked."""

    def __init__(self, caller: "_Caller", *, passes: bool) -> None:
        self._caller = caller
        self._passes = passes
        """Whether folders of others are passed, where no link in them is followed."""
        self._names: list[str] = []
        self._here = -1
        self._exchangeable: UntrustedError | None = None
        """Of the folders passed so far the first that others can exchange, with all that lies in it."""
        self.back_to_root()

    def link(self, name: str) -> str | None:
        """What a link in the folder where we stand leads to; None of what is no link."""
        found = os.open(name, _THROUGH, dir_fd=self._here)
        try:
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                return None
            if self._passes:
                if self._exchangeable is not None:
                    raise self._exchangeable
                self._caller.check_link(self._path(name), os.fstat(found), self._path(), self._here)
            else:
                self._caller.check_owner(self._path(name), os.fstat(found))
                self._caller.check_place(self._path(name), self._here)
            target = os.readlink("", dir_fd=found)  # of this very link, whatever has its name by now
            if not re.fullmatch(_OF_THE_KERNEL, target) and os.fstat(found).st_dev in kernel_file_systems():
                message = (
                    f"{self._path(name)} leads to what another process sees under {safe_text(target)}: "
                    "name it by its own path"
                )
                raise UntrustedError(message)
            return target
        finally:
            os.close(found)

    def step(self, name: str) -> None:
        """Go into a folder, or back out of one: the way there is walked anew, since it may have been moved since."""
        names = self._names[:-1] if name == ".." else [*self._names, name]
        if name == "..":
            self.back_to_root()
        for each in names[len(self._names) :]:
            self._names.append(each)
            self._enter(os.open(each, _THROUGH | os.O_DIRECTORY, dir_fd=self._here))

    def file(self, name: str) -> int:
        """The file of that name, open for reading and checked, for the caller to close."""
        path = self._path(name)
        _refuse_all_but_files(path, os.stat(name, dir_fd=self._here, follow_symlinks=False))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(name, flags, dir_fd=self._here)
        try:
            found = os.fstat(descriptor)
            _refuse_all_but_files(path, found)
            self._caller.check_owner(path, found)
            self._caller.check_writers(path, found, acl_of(descriptor))
            self._caller.check_place(path, self._here)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def folder(self, name: str) -> int:
        """The folder of that name, for the caller to close."""
        return os.open(name, _THROUGH | os.O_DIRECTORY, dir_fd=self._here)

    def back_to_root(self) -> None:
        """Begin anew, as a link does that leads to an absolute path."""
        self._names = []
        self._exchangeable = None
        self._enter(os.open("/", _THROUGH | os.O_DIRECTORY))

    def close(self) -> None:
        """Let go of where the walk stands."""
        if self._here >= 0:
            os.close(self._here)
            self._here = -1

    def _enter(self, here: int) -> None:
        self.close()
        self._here = here
        try:
            self._caller.check_folder(self._path(), here)
        except UntrustedError as error:
            if not self._passes:
                raise
            self._exchangeable = self._exchangeable or error

    def _path(self, *more: str) -> str:
        return safe_text("/" + "/".join([*self._names, *more]))


def _refuse_all_but_files(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnavailableError(unmeasured(Reason.ERROR, f"{path} is not a regular file"))


# Who else can write


@frozen
class _Caller:
    """The user for whom a file is read: what belongs to him or to root alone is his word."""

    user_id: int
    _servers: dict[int, int] = field(default_factory=dict)
    """By the number of a device, whose program answers for it."""

    def check_owner(self, path: str, found: os.stat_result) -> None:
        """Refuse what belongs to somebody else, and what is on a file system whose owners are somebody else's word."""
        if not self._is_trusted(found.st_uid):
            message = f"{path} belongs to another user ({found.st_uid})"
            raise UntrustedError(message)
        if found.st_dev not in self._servers:
            self._servers[found.st_dev] = _server(found.st_dev)
        if not self._is_trusted(self._servers[found.st_dev]):
            message = (
                f"{path} is on a file system that a program of another user serves ({self._servers[found.st_dev]})"
            )
            raise UntrustedError(message)

    def check_names(self, path: str, link: os.stat_result, folder: os.stat_result) -> None:
        """Refuse a link that anybody may have put where it is by a second name of it."""
        if folder.st_mode & stat.S_ISVTX and link.st_nlink > 1:
            message = f"{path} has another name (a hard link), and anybody may have made it"
            raise UntrustedError(message)

    def check_link(self, path: str, link: os.stat_result, parent: str, folder: int) -> None:
        """Refuse a link that somebody else may have made, or put into its folder."""
        self.check_owner(path, link)
        self.check_folder(parent, folder)
        self.check_names(path, link, os.fstat(folder))

    def check_place(self, path: str, folder: int) -> None:
        """Refuse a file or a link in a folder in which others can put names, sticky or not."""
        who = self._writer(os.fstat(folder), _acl_of_folder(folder))
        if who:
            message = f"{path} is in a folder in which others can put files ({who})"
            raise UntrustedError(message)

    def check_folder(self, path: str, folder: int, *, bears_sticky: bool = True) -> None:
        """Refuse a folder in which somebody else can put a name, or exchange what has one."""
        found = os.fstat(folder)
        self.check_owner(path, found)
        if not (bears_sticky and found.st_mode & stat.S_ISVTX):
            self.check_writers(path, found, _acl_of_folder(folder))

    def check_writers(self, path: str, found: os.stat_result, acl: bytes | None) -> None:
        """Refuse what somebody else can write."""
        who = self._writer(found, acl)
        if who:
            message = f"{path} can be written by others ({who})"
            raise UntrustedError(message)

    def _writer(self, found: os.stat_result, acl: bytes | None) -> str:
        """One who can write and is neither the caller nor root; empty where there is none."""
        if found.st_mode & stat.S_IWOTH:
            return "everybody"
        if acl is None:
            writes = found.st_mode & stat.S_IWGRP and not self._is_own(found.st_gid)
            return f"group {found.st_gid}" if writes else ""
        if len(acl) % _ACL_ENTRY.size != _ACL_HEADER.size or _ACL_HEADER.unpack_from(acl) != (_ACL_VERSION,):
            return "an ACL of an unknown version"
        entries = list(_ACL_ENTRY.iter_unpack(acl[_ACL_HEADER.size :]))
        mask = next((permissions for tag, permissions, _ in entries if tag == _MASK), _WRITE)
        for tag, permissions, number in entries:
            if not permissions & mask & _WRITE:
                continue
            if tag == _USER and not self._is_trusted(number):
                return f"user {number}, by an ACL"
            group = {_GROUP: number, _GROUP_OF_FILE: found.st_gid}.get(tag)
            if group is not None and not self._is_own(group):
                return f"group {group}, by an ACL"
        return ""

    def _is_trusted(self, user_id: int) -> bool:
        return user_id == ROOT or (user_id == self.user_id and user_id != _stranger("uid"))

    def _is_own(self, group_id: int) -> bool:
        """Whether a group is that of the caller or of root alone: the primary one, with no other member."""
        return group_id != _stranger("gid") and _is_private(group_id, {ROOT, self.user_id})


def _is_private(group_id: int, users: set[int]) -> bool:
    """Whether a group is that of one of these users alone: it has his name (user private groups) and no other member.

    By its members alone that is not known: a directory service (sssd, winbind) lists nobody unless it is asked for him,
    and whose primary group it is has him in no list.
    """
    import grp
    import pwd

    accounts = pwd.getpwall()
    numbers = {account.pw_name: account.pw_uid for account in accounts}
    groups = [group for group in grp.getgrall() if group.gr_gid == group_id]
    members = {numbers.get(name) for group in groups for name in group.gr_mem}
    primary = {account.pw_uid for account in accounts if account.pw_gid == group_id}
    named = [numbers.get(group.gr_name) for group in groups]
    return bool(groups) and bool(primary) and (primary | members) <= users and all(each in primary for each in named)


def _stranger(kind: str) -> int | None:
    """The id that stands for all whom this user namespace does not know; None where it knows everybody.

    Who has that id himself cannot tell his own files from theirs.
    """
    try:
        host = Host()
        mapped = [line.split() for line in host.read(f"/proc/self/{kind}_map").split("\n") if line]
        if any(int(length) == _ALL_IDS for _, _, length in mapped):
            return None
        return int(host.read(f"/proc/sys/kernel/overflow{kind}"))
    except (UnavailableError, ValueError):
        return _NOBODY


def _server(device: int) -> int:
    """The user whose program serves a file system (FUSE); root, where that is the kernel."""
    for number, kind, options in mounted():  # without /proc: root's affair
        if number == device and kind.startswith("fuse"):
            told = re.search(r"(?:^|,)user_id=([0-9]+)", options)
            return int(told[1]) if told else ROOT
    return ROOT


def _acl_of_folder(folder: int) -> bytes | None:
    """The ACL of a folder that is open as O_PATH: such a descriptor gives none itself."""
    try:
        return acl_of(f"/proc/self/fd/{folder}")
    except FileNotFoundError:  # no /proc
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            return acl_of(readable)
        finally:
            os.close(readable)


def acl_of(where: int | str) -> bytes | None:
    """The ACL of a file; None where there is none, or where its file system has none. Raises OSError."""
    try:
        return os.getxattr(where, ACL)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP}:
            return None
        raise
