"""Where reports go: standard output, and the places that -o names, which are checked before anything is measured."""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from vdscheck.cli import replacing
from vdscheck.model.absence import UnavailableError
from vdscheck.model.records import frozen
from vdscheck.process import streams
from vdscheck.process.guard import in_child, opened_in_child
from vdscheck.process.signals import StoppedError
from vdscheck.target import trusted
from vdscheck.target.text import absolute, safe_text

STDOUT = 1
LINKS_LIMIT = 8
"""How many links may lead to a descriptor of ours."""
_STRAIGHT = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self|proc/thread-self)/fd/(\d{1,7})")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


class OutputError(Exception):
    """A report that cannot be written; one line: where, why, what to do."""


Identity = tuple[str | int, ...]


@frozen
class Place:
    """What an -o names, as it was found: a name in a folder that is held open, or a descriptor that we were given."""

    shown: str
    """The path as it was written, for people."""
    folder: int
    """A descriptor for paths only (O_PATH): what is exchanged above it meanwhile leads nowhere else."""
    name: str
    identity: Identity | None
    """What no other -o may name; None of a device."""
    is_stream: bool = False
    """Whether a reader may hold it up: a pipe, a device, a descriptor of ours."""
    descriptor: int | None = None

    def write(self, content: bytes) -> None:
        """Write a report: whole or not at all, or straight into a stream. Raises OutputError."""
        with _said_of(self.shown):
            if self.descriptor is not None:
                _write_unless_gone(self.descriptor, content)
            elif not self._is_replaced(content):
                _write_straight(self.folder, self.name, content)

    def _is_replaced(self, content: bytes) -> bool:
        try:
            return in_child(
                lambda: replacing.replaced(self.folder, self.name, content),
                streams.FILE_LIMIT_S,
                keeps=(self.folder,),
                stopped=streams.patience.is_over,
            )
        except StoppedError as error:
            message = f"-o {self.shown}: interrupted while it was waited for"
            raise OutputError(message) from error


@contextmanager
def _said_of(shown: str) -> Iterator[None]:
    """Say what goes wrong as an error of one -o."""
    try:
        yield
    except replacing.RefusedError as error:
        message = f"-o {shown}: {error}"
        raise OutputError(message) from error
    except OSError as error:
        message = f"-o {shown}: {_why(error)}"
        raise OutputError(message) from error


def _why(error: OSError) -> str:
    said = {
        errno.EACCES: "permission denied",
        errno.EPERM: "not permitted: lsattr says whether it is immutable or append-only",
        errno.ENXIO: "nobody reads from this pipe",
        errno.ELOOP: "a symbolic link: name the file itself",
    }
    return said.get(error.errno or 0, error.strerror or str(error))


def places(paths: Iterable[str]) -> list[Place]:
    """Find and check what is to be written, before anything is measured. Raises OutputError."""
    found: list[Place] = []
    for path in paths:
        place = _place(path)
        for other in found:
            if place.identity is not None and place.identity == other.identity:
                message = f"-o {place.shown} and -o {other.shown} are one file: name two"
                raise OutputError(message)
        found.append(place)
    return found


def _place(path: str) -> Place:
    shown = safe_text(path)
    descriptor = _descriptor_of(path)
    if descriptor is not None:
        return _given(shown, descriptor)
    parent, name = _parted(path)
    with _said_of(shown):
        folder = _folder(parent)
        descriptor = _descriptor_in(folder, name)
        if descriptor is None:
            kind, is_ours = in_child(lambda: _looked_at(folder, name), keeps=(folder,))
            if kind.link is not None and is_ours:
                descriptor = _descriptor_behind(os.path.join(parent, kind.link))
    if descriptor is not None:
        os.close(folder)
        return _given(shown, descriptor)
    if kind.link is not None:
        message = f"-o {shown}: a symbolic link, which leads to {safe_text(kind.link)}: name the file itself"
        raise OutputError(message)
    place = Place(shown, folder, name, kind.identity, kind.is_stream)
    _refuse_standard(place)
    return place


def _looked_at(folder: int, name: str) -> tuple[replacing.Found, bool]:
    """What has that name, and whether it is a link that is surely the caller's or root's."""
    kind = replacing.checked(folder, name)
    return kind, kind.link is not None and _is_ours(folder, name)


def _parted(path: str) -> tuple[str, str]:
    """The folder from / on, and the name in it. Raises OutputError."""
    shown = safe_text(path)
    try:
        absolute(path)
    except UnavailableError as error:
        message = f"-o {error.absent.detail}"
        raise OutputError(message) from error
    parent, name = os.path.split(path if path.startswith("/") else os.path.join(os.getcwd(), path))
    if name in {"", ".", ".."}:
        message = f"-o {shown}: that is a folder; name a file in it"
        raise OutputError(message)
    return parent, name


def _folder(parent: str) -> int:
    shown = safe_text(parent)
    try:
        return opened_in_child(lambda: trusted.folder(parent, os.geteuid()))
    except FileNotFoundError as error:
        message = f"there is no folder {shown}"
        raise replacing.RefusedError(message) from error
    except NotADirectoryError as error:
        message = f"{shown} is not a folder"
        raise replacing.RefusedError(message) from error
    except trusted.UntrustedError as error:
        message = f"a link on the way is not followed, since {error}: name the folder that it leads to"
        raise replacing.RefusedError(message) from error


# Our own descriptors


def _descriptor_of(path: str) -> int | None:
    """By its name: /proc/self is another folder in whoever else walks there, and need not be there at all."""
    plain = re.sub(r"/(?:[.]?/)+", "/", path)
    found = _DESCRIPTOR.fullmatch(plain)
    return int(found[1]) if found else _STANDARD.get(plain)


def _descriptor_in(folder: int, name: str) -> int | None:
    """The descriptor of ours that a name in this folder is, if the folder lists them."""
    if not name.isdecimal():
        return None
    try:
        listed = os.stat("/proc/self/fd")
    except FileNotFoundError:
        return None
    return int(name) if os.path.samestat(in_child(lambda: os.fstat(folder), keeps=(folder,)), listed) else None


def _is_ours(folder: int, name: str) -> bool:
    """Whether nobody but the caller and root can have made what has this name, or put it there."""
    try:
        trusted.check_name(folder, name, os.geteuid())
    except (OSError, trusted.UntrustedError):
        return False
    return True


def _descriptor_behind(path: str) -> int | None:
    """The descriptor of ours that a link leads to, if it does."""
    for _ in range(LINKS_LIMIT):
        descriptor = _descriptor_of(path)
        if descriptor is not None:
            return descriptor
        parent, name = os.path.split(path)
        try:
            folder = _folder(parent)
        except replacing.RefusedError:
            return None
        try:
            descriptor = _descriptor_in(folder, name)
            link = in_child(partial(_link_of_ours, folder, name), keeps=(folder,))
        except OSError:
            return None
        finally:
            os.close(folder)
        if descriptor is not None or link is None:
            return descriptor
        path = os.path.join(parent, link)
    return None


def _link_of_ours(folder: int, name: str) -> str | None:
    return os.readlink(name, dir_fd=folder) if _is_ours(folder, name) else None


def _given(shown: str, descriptor: int) -> Place:
    """A descriptor that whoever started us left open for us. What we opened ourselves is closed on exec."""
    try:
        is_given = os.get_inheritable(descriptor)
        writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        found = _status_of(descriptor)
    except OSError:
        is_given = writes = False
    if not is_given or not writes:
        message = f"-o {shown}: it is not open for writing"
        raise OutputError(message)
    identity: Identity = ("descriptor", descriptor)
    if stat.S_ISREG(found.st_mode):
        identity = replacing.identity(found)
    place = Place(shown, -1, "", identity, is_stream=True, descriptor=descriptor)
    _refuse_standard(place)
    return place


def _status_of(descriptor: int) -> os.stat_result:
    """Found by a child where it may be of a file system that never answers."""
    return (
        in_child(lambda: os.fstat(descriptor), keeps=(descriptor,))
        if streams.is_file(descriptor)
        else os.fstat(descriptor)
    )


def _refuse_standard(place: Place) -> None:
    """Refuse what standard output or standard error is written to: it would be replaced under them."""
    for descriptor, name in ((1, "standard output"), (2, "standard error")):
        if place.descriptor == descriptor:
            if descriptor == STDOUT:
                return  # it takes the place of the text there, or is refused beside another format
            continue
        try:
            found = _status_of(descriptor)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and replacing.identity(found) == place.identity:
            message = f"-o {place.shown}: {name} goes to the same file: name another one"
            raise OutputError(message)


# Writing


def _write_straight(folder: int, name: str, content: bytes) -> None:
    # What is opened is no file: from here on it is the kernel's own, whatever the file system of its name does.
    descriptor = opened_in_child(lambda: _opened_straight(folder, name), keeps=(folder,))
    try:
        streams.write(descriptor, content)
    finally:
        os.close(descriptor)


def _opened_straight(folder: int, name: str) -> int:
    # Opening a pipe that nobody reads would wait for a reader; with O_NONBLOCK it is an error (ENXIO).
    descriptor = os.open(name, _STRAIGHT, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        message = "it was exchanged for a file in this very moment"
        raise replacing.RefusedError(message)
    return descriptor


def to_stdout(content: bytes) -> None:
    """Write to standard output; a reader or a terminal that went away ends it quietly. Raises OutputError."""
    try:
        _write_unless_gone(1, content)
    except OSError as error:
        if error.errno == errno.EBADF:
            message = "standard output is closed"
            raise OutputError(message) from error
        message = f"standard output: {error.strerror}"
        raise OutputError(message) from error


def _write_unless_gone(descriptor: int, content: bytes) -> None:
    try:
        streams.write(descriptor, content)
    except OSError as error:
        if not streams.is_gone(descriptor, error):
            raise
