"""The door: the only way to anything outside, for the running host and for a tree under --root."""

import errno
import fnmatch
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, NoReturn

from vdscheck.model.absence import Absent, Reason, UnavailableError, limited, unmeasured
from vdscheck.model.records import frozen
from vdscheck.process import nowhere
from vdscheck.process.limits import limit_of
from vdscheck.target.interface import TargetKind
from vdscheck.target.rooted import Root, Visit, parts_of
from vdscheck.target.text import safe_text

READ_LIMIT_BYTES = 1 << 20
KERNEL_READ_LIMIT_BYTES = 16 << 20
"""Of a file that the kernel makes: the mounts of a dense container host, or 700 CPUs, take megabytes."""
_PIECE_BYTES = 1 << 16
FACTS = "/.vdscheck/facts"
"""Where a captured tree keeps what is not a file: one JSON document for each fact."""

_KERNEL_FILES = ("/proc/", "/sys/")
_KERNEL_TREES = ("/proc", "/sys", "/dev", "/run")
_KERNEL_FILE_SYSTEMS = frozenset(
    ("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf")
)


class NotFoundError(UnavailableError):
    """There is no such file: often a fact in itself, so probes may tell it from other absences."""


_SO_NETNS_COOKIE = 71
"""include/uapi/asm-generic/socket.h."""


def one_line(text: str) -> str:
    r"""A text of which some is from outside in one line: what is not printable is written as `\r`, `\u2028`."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def network_namespace_cookie() -> int | None:
    """What names the network namespace of this process as no other in this boot; None where the kernel has none."""
    import socket

    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        return int.from_bytes(ours.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
    return None


@frozen
class FileStatus:
    """What stat(2) says of a file."""

    kind: str
    """file, folder, link, device, or other."""
    size_bytes: int
    uid: int
    mode: int
    device: int
    """The number of the device that holds it (or, of a device node, its own number)."""


@dataclass
class Host:
    """A machine under examination: the running one (`root` is "/") or the one whose files are below it.

    A root is opened once, when this is made (OSError where it cannot be); its name is only shown after that.
    Links are resolved inside the root, also absolute ones and those with "..". Every method that
    asks for something outside raises UnavailableError, with the reason, when it cannot be had.
    """

    target_kind: ClassVar[TargetKind] = "host"

    root: str = "/"
    tree: Root | None = field(default=None, repr=False, compare=False, kw_only=True)
    """The root itself, where it is not that of the running host."""
    ends_at: float | None = None
    """When the window of the running probe ends, on the monotonic clock."""
    record: Callable[[str, str, bytes], None] | None = None
    """Told of each thing read ("file", "link", "folder", "fact"), for capturing a tree."""
    limits_met: list[str] = field(default_factory=list, repr=False)
    """Limits of this session that kept something from being read, also where its probe goes on without it.

    Then there is no measurement: what is not there cannot be told from what was not seen. A probe
    each of whose answers may be missing alone, and says so, forgets them.
    """
    _foreign_devices: frozenset[int] = field(default=frozenset(), repr=False)

    def __post_init__(self) -> None:
        if self.tree is None and self.root != "/":
            self.tree = Root.opened(self.root)
        if not self.live:
            self._foreign_devices = kernel_file_systems()

    @property
    def live(self) -> bool:
        """Whether this is the running host."""
        return self.tree is None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a process that examines it must keep open."""
        return () if self.tree is None else (self.tree.descriptor,)

    @property
    def time_left_s(self) -> float:
        """Seconds until the window of the running probe ends; 0 when it has, or has none."""
        return 0.0 if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the window."""
        time.sleep(min(seconds, self.time_left_s))

    def looks(self, every_s: float) -> Iterator[None]:
        """Pause and go on until the window ends; once also where a loaded machine has missed all of it."""
        while True:
            self.pause(every_s)
            yield
            if self.time_left_s <= 0:
                return

    # Files

    def read_bytes(self, path: str, *, limit_bytes: int | None = None) -> bytes:
        """The content of a regular file. A FIFO, a device or more than the limit is refused."""
        if limit_bytes is None:
            limit_bytes = KERNEL_READ_LIMIT_BYTES if path.startswith(_KERNEL_FILES) else READ_LIMIT_BYTES
        descriptor = self._open(path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnavailableError(unmeasured(Reason.ERROR, f"{path} is not a regular file"))
            content = bytearray()
            while len(content) <= limit_bytes:
                piece = os.read(descriptor, min(_PIECE_BYTES, limit_bytes + 1 - len(content)))
                if not piece:
                    break
                content += piece
        except OSError as error:
            self._refuse(path, error)
        finally:
            os.close(descriptor)
        if len(content) > limit_bytes:
            why = f"{path} is larger than {limit_bytes:,} bytes: not what this file should be"
            raise UnavailableError(unmeasured(Reason.ERROR, why))
        self._tell("file", path, bytes(content))
        return bytes(content)

    def read(self, path: str, *, limit_bytes: int | None = None) -> str:
        """The content of a regular file as text."""
        return safe_text(self.read_bytes(path, limit_bytes=limit_bytes))

    def names(self, folder: str) -> tuple[str, ...]:
        """What a folder holds, sorted."""
        found = tuple(sorted(map(safe_text, self._listed(folder))))
        self._tell("folder", folder, "\n".join(found).encode())
        return found

    def nameless(self, folder: str) -> frozenset[str]:
        """Those of its names that stand for one that is no text, by which no file can be opened."""
        return frozenset(shown for name in self._listed(folder) if (shown := safe_text(name)) != name)

    def _listed(self, folder: str) -> list[str]:
        try:
            descriptor = self._open(folder, os.O_DIRECTORY)
            try:
                return os.listdir(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._refuse(folder, error)

    def glob(self, pattern: str) -> tuple[str, ...]:
        """The paths that match an absolute pattern, component by component; `*` spares hidden names."""
        return tuple(self._glob("/", [part for part in pattern.split("/") if part]))

    def _glob(self, folder: str, parts: list[str]) -> Iterator[str]:
        if not parts:
            yield folder
            return
        head, rest = parts[0], parts[1:]
        if not any(mark in head for mark in "*?["):
            path = os.path.join(folder, head)
            if self.exists(path):
                yield from self._glob(path, rest)
            return
        try:
            names = self.names(folder)
        except UnavailableError:
            return
        for name in names:
            hidden = name.startswith(".") and not head.startswith(".")
            if not hidden and fnmatch.fnmatchcase(name, head):
                path = os.path.join(folder, name)
                if not rest or self.is_folder(path):
                    yield from self._glob(path, rest)

    def exists(self, path: str) -> bool:
        """Whether a path leads to something, through links as well."""
        try:
            self.status(path)
        except UnavailableError:
            return False
        return True

    def is_folder(self, path: str) -> bool:
        """Whether a path leads to a folder."""
        try:
            return self.status(path).kind == "folder"
        except UnavailableError:
            return False

    def status(self, path: str, *, follow: bool = True) -> FileStatus:
        """What stat(2) (or, not following the last link, lstat(2)) says."""
        found = self._stat(path, follow=follow)
        self._tell("stat" if follow else "lstat", path, b"")
        mode = found.st_mode
        kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link"))
        kind = next((name for test, name in kinds if test(mode)), None)
        is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        number = found.st_rdev if is_device else found.st_dev
        return FileStatus(
            kind or ("device" if is_device else "other"), found.st_size, found.st_uid, mode & 0o7777, number
        )

    def is_read_only(self, path: str) -> bool:
        """Whether what is mounted where a path leads, or would be made, lets nobody write."""
        while True:
            try:
                parent, name = self.place(path)
            except OSError:
                found = None
            else:
                found = _statvfs(parent, name)
            if found is not None:
                return bool(found.f_flag & os.ST_RDONLY)
            if path in ("", "/"):
                return False
            path = path.rpartition("/")[0]

    def link(self, path: str) -> str:
        """The text of a symbolic link, as it stands there."""
        try:
            if self.live:
                text = os.readlink(path)
            else:
                parent, name = self.place(path, follow=False)
                try:
                    text = os.readlink(name, dir_fd=parent)
                finally:
                    os.close(parent)
        except OSError as error:
            self._refuse(path, error)
        self._tell("link", path, os.fsencode(text))
        return safe_text(text)

    def links(self, folder: str) -> Iterator[tuple[str, str]]:
        """The symbolic links of a folder, each with its text, in the order of their numbers where those are names.

        One that goes meanwhile is left out.
        """
        try:
            descriptor = self._open(folder, os.O_DIRECTORY)
        except OSError as error:
            self._refuse(folder, error)
        try:
            for name in sorted(os.listdir(descriptor), key=lambda name: (len(name), name)):
                try:
                    text = os.readlink(name, dir_fd=descriptor)
                except OSError:
                    continue
                if self.record is not None:
                    self._tell("link", os.path.join(folder, name), os.fsencode(text))
                yield (name, text) if name.isascii() and text.isascii() else (safe_text(name), safe_text(text))
        except OSError as error:
            self._refuse(folder, error)
        finally:
            os.close(descriptor)

    def resolved(self, path: str) -> str:
        """The path with every link resolved inside the root; the last name need not exist."""
        parts = parts_of(path)
        done: list[str] = []
        for _ in range(10_000):
            if not parts:
                return "/" + "/".join(done)
            head = parts.pop(0)
            if head == "..":
                done = done[:-1]
                continue
            here = "/" + "/".join([*done, head])
            try:
                target = self.link(here)
            except UnavailableError:
                done.append(head)
                continue
            if target.startswith("/"):
                done = []
            parts = parts_of(target) + parts
            if len(parts) > 1000:  # noqa: PLR2004 - no real path is as long as this
                break
        raise UnavailableError(unmeasured(Reason.ERROR, f"{path} leads through too many links"))

    # What is not a file

    def fact(self, name: str, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON of any shape
        """Something that is not a file: asked of the running kernel, or read from a captured tree.

        `ask` returns what JSON can hold, and raises OSError or UnavailableError.
        """
        if self.live:
            try:
                value = ask()
            except OSError as error:
                self._refuse(name, error)
            if self.record is not None:
                self._tell("fact", name, json.dumps(value).encode())
            return value
        try:
            return json.loads(self.read(f"{FACTS}/{name}.json"))
        except NotFoundError as error:
            raise UnavailableError(self._not_captured(name)) from error
        except (ValueError, RecursionError) as error:
            why = f"the captured fact {name} is not JSON"
            raise UnavailableError(unmeasured(Reason.ERROR, why)) from error

    def run(self, argv: tuple[str, ...], *, timeout_s: float = 3.0, limit_bytes: int = READ_LIMIT_BYTES) -> str:
        """The standard output of a program that succeeds, with an empty environment but for PATH."""

        def ask() -> str:
            return _output(argv, timeout_s, limit_bytes)

        return str(self.fact("run-" + "-".join(PurePosixPath(word).name for word in argv), ask))

    # Refusals

    def _tell(self, kind: str, name: str, content: bytes) -> None:
        if self.record is not None:
            self.record(kind, name, content)

    def _not_captured(self, name: str) -> Absent:
        return unmeasured(
            Reason.NOT_RUN, f"only a running kernel knows: {safe_text(self.root)} holds no captured {name}"
        )

    def _refuse(self, path: str, error: OSError) -> NoReturn:
        limit = limit_of(error) or (self._missing_tree(path, error) if self.live else None)
        if limit is not None:
            self.limits_met.append(limit)
            raise UnavailableError(limited(limit)) from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            if not self.live and path.startswith(_KERNEL_TREES):
                raise NotFoundError(self._not_captured(path)) from error
            raise NotFoundError(unmeasured(Reason.UNSUPPORTED, f"there is no {path} here")) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            why = f"{path}: permission denied: sudo vdscheck reads it"
            raise UnavailableError(unmeasured(Reason.PERMISSION, why)) from error
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise UnavailableError(unmeasured(Reason.UNSUPPORTED, f"{path}: not supported here")) from error
        why = f"{path}: {os.strerror(error.errno or errno.EIO)}"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error

    @staticmethod
    def _missing_tree(path: str, error: OSError) -> str | None:
        """What keeps files of the kernel from being there, on a host whose /proc or /sys is not as it is to be."""
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return None
        for each in (path, str(error.filename)):
            if each.startswith("/proc/") and not os.path.exists("/proc/version"):
                if not os.path.exists("/proc/self/stat"):
                    return "the missing /proc"
                of_a_process = each.split("/")[2].isdecimal()  # which may have ended
                return None if of_a_process else "the reduced /proc (subset=pid)"
            if each.startswith("/sys/") and not os.path.exists("/sys/kernel"):
                return "the missing /sys"
        return None

    # Opening, inside the root

    def _open(self, path: str, flags: int = 0) -> int:
        """A descriptor for reading. Nothing is opened that could block or act: see O_PATH below."""
        flags |= os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            if self.live:
                if not flags & os.O_DIRECTORY and not stat.S_ISREG(os.stat(path).st_mode):
                    raise UnavailableError(unmeasured(Reason.ERROR, f"{path} is not a regular file"))
                return os.open(path, flags)
            found = self._stat(path, follow=True)
            wanted = stat.S_ISDIR if flags & os.O_DIRECTORY else stat.S_ISREG
            if not wanted(found.st_mode):
                kind = "folder" if flags & os.O_DIRECTORY else "regular file"
                raise UnavailableError(unmeasured(Reason.ERROR, f"{path} is not a {kind}"))
            parent, name = self.place(path, follow=True)
            try:
                return os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
            finally:
                os.close(parent)
        except OSError as error:
            self._refuse(path, error)

    def _stat(self, path: str, *, follow: bool) -> os.stat_result:
        try:
            if self.live:
                return os.stat(path, follow_symlinks=follow)
            parent, name = self.place(path, follow=follow)
            try:
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
        except OSError as error:
            self._refuse(path, error)
        if found.st_dev in self._foreign_devices:
            raise NotFoundError(self._not_captured(path))
        return found

    def place(self, path: str, *, follow: bool = True, visit: Visit | None = None) -> tuple[int, str]:
        """The folder (as an open O_PATH descriptor) and the name that a path leads to, inside the root.

        `visit` is called for each folder on the way. Raises OSError, and what `visit` raises.
        """
        return (self.tree or Root.opened("/")).place(path, follow=follow, visit=visit)


def _statvfs(parent: int, name: str) -> os.statvfs_result | None:
    """What statvfs(3) says of a name in a folder, which is let go of; None where nothing is there."""
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return None
    finally:
        os.close(parent)
    try:
        return os.fstatvfs(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _output(argv: tuple[str, ...], timeout_s: float, limit_bytes: int) -> str:
    import subprocess  # 8 ms that only probes which run programs need

    command = " ".join(argv)
    null = nowhere.opened()
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command of a probe, no shell
            argv,
            stdin=null,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except FileNotFoundError as error:
        raise NotFoundError(unmeasured(Reason.UNSUPPORTED, f"{argv[0]} is not installed")) from error
    except subprocess.TimeoutExpired as error:
        why = f"`{command}` took longer than {timeout_s:g} s"
        raise UnavailableError(unmeasured(Reason.TIMEOUT, why)) from error
    finally:
        os.close(null)
    if done.returncode != 0:
        said = safe_text(done.stderr).strip().partition("\n")[0][:200]
        why = f"`{command}` ended with {done.returncode}: {said}"
        raise UnavailableError(unmeasured(Reason.ERROR, why))
    return safe_text(done.stdout[:limit_bytes])


def kernel_file_systems() -> frozenset[int]:
    """The device numbers of the running kernel's own file systems, wherever they are mounted.

    A chroot that is being built often has /proc and /sys of the builder mounted inside: they speak
    of the builder, not of the image.
    """
    return frozenset(device for device, kind, _ in mounted() if kind in _KERNEL_FILE_SYSTEMS)


def mounted() -> Iterator[tuple[int, str, str]]:
    """The device number, the type and the options of each mount of this process; nothing without /proc.

    Read byte by byte: a mount point may hold whatever else than a newline ends a line (CR, NEL), and whoever mounted
    it is not to hide all others.
    """
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return
    for line in lines:
        words = line.split(b" ")
        try:
            kind, *_, options = words[words.index(b"-", 6) + 1 :]
            major, _, minor = words[2].partition(b":")
            yield (
                os.makedev(int(major), int(minor)),
                kind.decode("utf-8", "replace"),
                options.decode("utf-8", "replace"),
            )
        except (ValueError, IndexError):
            continue
