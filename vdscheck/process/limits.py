"""The limits of the session that stop this program: which one an error or a death comes from, in words.

Nothing here raises, and little is imported: memory or descriptors may be what is missing.
"""

import errno
import os
import resource
import signal
from collections.abc import Iterator

_MIB = 1 << 20
_NO_LIMIT = 1 << 60
"""What cgroups of version 1 say of memory that is not limited is of this size."""


def limit_of(error: BaseException) -> str | None:
    """The limit that an error comes from, itself or what caused it; None of any other error."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        found = _of_one(each)
        if found is not None:
            return found
        each = each.__cause__ or each.__context__
    return None


def why_refused(error: BaseException) -> str:
    """Why there can be no further process: the limit, or what the kernel said."""
    if isinstance(error, OSError) and error.errno == errno.EAGAIN:
        return processes()
    return limit_of(error) or f"the refusal of a new process ({os.strerror(getattr(error, 'errno', 0) or 0)})"


def _of_one(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return memory()
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return processes()
    if isinstance(error, ImportError):
        return _of_the_loader(str(error))
    number = error.errno if isinstance(error, OSError) else None
    # A socket says EAGAIN as well, for what is no limit at all.
    if number == errno.EAGAIN and not _fork_is_refused():
        return None
    named = {
        errno.EAGAIN: processes,
        errno.ENOMEM: memory,
        errno.EMFILE: _open_files,
        errno.ENFILE: lambda: "the limit of open files of the whole machine (fs.file-max)",
        errno.EFBIG: _file_size,
    }.get(number or 0)
    return None if named is None else named()


def _of_the_loader(said: str) -> str | None:
    """The dynamic loader has nothing but words for what it could not have (glibc, elf/dl-load.c)."""
    if os.strerror(errno.EMFILE) in said:
        return _open_files()
    return memory() if "failed to map segment" in said or os.strerror(errno.ENOMEM) in said else None


def _open_files() -> str:
    return f"the limit of open files (ulimit -n {_limits(resource.RLIMIT_NOFILE)[0]})"


def _file_size() -> str:
    return f"the limit of a file's size (ulimit -f {_limits(resource.RLIMIT_FSIZE)[0] // 1024})"


def _fork_is_refused() -> bool:
    try:
        pid = os.fork()
    except OSError:
        return True
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return False


def limit_of_death(status: int | None, oom_kills_before: int) -> str | None:
    """The limit that ended a process, from what waitpid(2) says of it; None where it was none."""
    if status is None or not os.WIFSIGNALED(status):
        return None
    number = os.WTERMSIG(status)
    if number == signal.SIGSYS:
        return "the filter of system calls (seccomp)"
    if number == signal.SIGKILL and oom_kills() > oom_kills_before:
        return memory()
    seconds, _ = _limits(resource.RLIMIT_CPU)
    # At the soft limit comes SIGXCPU; where the hard one is no higher, SIGKILL at once.
    if number == signal.SIGXCPU or (number == signal.SIGKILL and seconds != resource.RLIM_INFINITY):
        return f"the limit of CPU time (ulimit -t {seconds})"
    return None


def oom_kills() -> int:
    """How many processes of our cgroup the kernel has ended for want of memory; 0 where nobody counts them."""
    for folder, unified in _folders("memory"):
        text = _text(f"{folder}/{'memory.events' if unified else 'memory.oom_control'}")
        words = text.split()
        if "oom_kill" in words[:-1]:
            return _number(words[words.index("oom_kill") + 1]) or 0
    return 0


def processes() -> str:
    """The limit of processes, with the tightest of those that count for us."""
    found = [(most, f"pids.max {most}") for most in _of_cgroups("pids", "pids.max", "pids.max")]
    most, _ = _limits(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and most != resource.RLIM_INFINITY:
        found.append((most, f"ulimit -u {most}"))
    return f"the limit of processes ({min(found)[1]})" if found else "the limit of processes"


def memory() -> str | None:
    """The limit of memory; None where the only one is that which a measuring process sets itself (`children`)."""
    soft, hard = _limits(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft == hard:
        return f"the limit of memory (ulimit -v {soft // 1024})"
    most = min(_of_cgroups("memory", "memory.max", "memory.limit_in_bytes"), default=None)
    if most is not None:
        return f"the limit of memory ({most / _MIB:.3g} MiB for this cgroup)"
    return "the limit of memory" if soft == resource.RLIM_INFINITY else None


def hold_to(which: int, most: int) -> None:
    """Let this process take no more of something (a RLIMIT_ number) than that; the hard limit tells the session's."""
    try:
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    except (OSError, ValueError):  # a filter of system calls refuses it
        return


def _limits(which: int) -> tuple[int, int]:
    """The soft and the hard limit of this process; without a limit where even asking is refused."""
    try:
        return resource.getrlimit(which)
    except OSError:
        return resource.RLIM_INFINITY, resource.RLIM_INFINITY


def _of_cgroups(controller: str, unified_name: str, name: str) -> Iterator[int]:
    """A limit of our cgroup and of all above it."""
    for folder, unified in _folders(controller):
        found = _number(_text(f"{folder}/{unified_name if unified else name}").strip())
        if found is not None and found < _NO_LIMIT:
            yield found


def _folders(controller: str) -> Iterator[tuple[str, bool]]:
    """Our cgroup's folder and all above it, where they usually are; whether each is of the unified hierarchy."""
    for line in _text("/proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            mounts, unified = [f"/sys/fs/cgroup/{controllers}", f"/sys/fs/cgroup/{controller}"], False
        elif not controllers:
            mounts, unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], True
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            below = "/".join(parts[:depth])
            yield from ((f"{mount}/{below}".rstrip("/"), unified) for mount in mounts)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except (OSError, MemoryError):
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None  # noqa: PLR2004 - 2**64
