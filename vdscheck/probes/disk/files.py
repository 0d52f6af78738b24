"""The files of the disk instruments: without a name, filled with what cannot be compressed, read past the cache."""

import errno
import mmap
import os
import time
from contextlib import suppress

from vdscheck.plugin import Absent, Reason, frozen, unmeasured

MOST_BYTES = 256 << 20
MOST_SHARE = 0.05
"""Of the free space."""
BLOCK_BYTES = 4096

_PIECE_BYTES = 1 << 20
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS)
"""What file systems and kernels without O_TMPFILE answer (open(2))."""
_AT_EMPTY_PATH = 0x1000
_STATX_DIOALIGN = 0x2000
_STX_DIO_MEM_ALIGN = 0x98
"""Where in struct statx the alignments for O_DIRECT stand (include/uapi/linux/stat.h), since Linux 6.1."""


@frozen
class TestFile:
    """An open file that nobody else can open, and that is gone when it is closed, however we end."""

    descriptor: int
    named: bool
    """Whether it had a name from its making until the next system call: a file system without O_TMPFILE."""

    def close(self) -> None:
        """Give its space back."""
        with suppress(OSError):
            os.close(self.descriptor)


def made(folder: int) -> TestFile:
    """A new file in a folder, whose descriptor may be for paths only (O_PATH). Raises OSError."""
    try:
        return TestFile(os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder), named=False)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
    name = f".vdscheck-{os.getpid()}-{os.urandom(8).hex()}"
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    os.unlink(name, dir_fd=folder)
    return TestFile(descriptor, named=True)


def past_the_cache(file: TestFile) -> Absent | None:
    """Switch a file to O_DIRECT; why not, where its file system has none."""
    import fcntl

    try:
        flags = fcntl.fcntl(file.descriptor, fcntl.F_GETFL)
        fcntl.fcntl(file.descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
    except OSError:
        return _NOT_DIRECT
    align_bytes = _offset_alignment(file.descriptor)
    return None if align_bytes is None or 0 < align_bytes <= BLOCK_BYTES else _NOT_DIRECT


_NOT_DIRECT = unmeasured(
    Reason.UNSUPPORTED,
    "this file system reads through the page cache only (no O_DIRECT), so that the memory would be measured",
)


def _offset_alignment(descriptor: int) -> int | None:
    """What the file system wants of O_DIRECT, 0 where it would go through the cache; None where it does not say."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    answer = (ctypes.c_uint32 * 64)()
    if not hasattr(libc, "statx"):
        return None
    wanted = ctypes.c_uint(_STATX_DIOALIGN)
    if libc.statx(descriptor, b"", _AT_EMPTY_PATH, wanted, ctypes.byref(answer)) != 0:
        return None
    if not answer[0] & _STATX_DIOALIGN:
        return None
    memory, offset = answer[_STX_DIO_MEM_ALIGN // 4], answer[_STX_DIO_MEM_ALIGN // 4 + 1]
    return offset if memory else 0


def allowed_bytes(free_bytes: int) -> int:
    """How much all our files together may hold."""
    return min(MOST_BYTES, int(free_bytes * MOST_SHARE))


def filled(file: TestFile, most_bytes: int, until: float) -> int:
    """Write what cannot be compressed, until the file is full or the time is up; how much that was.

    Every block is another one, so that nothing below can keep two of them as one. Raises OSError.
    """
    piece = mmap.mmap(-1, _PIECE_BYTES)
    piece[:] = os.urandom(_PIECE_BYTES)
    written = 0
    while written + _PIECE_BYTES <= most_bytes and (written == 0 or time.monotonic() < until):
        for start in range(0, _PIECE_BYTES, BLOCK_BYTES):
            piece[start : start + 16] = os.urandom(16)
        if os.pwritev(file.descriptor, [piece], written) != _PIECE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += _PIECE_BYTES
    os.fdatasync(file.descriptor)
    return written


def reserved(file: TestFile, size_bytes: int) -> None:
    """Have the blocks of a file set aside, where the file system can. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # not posix_fallocate: where the file system cannot, that writes to every block instead
    if libc.fallocate(file.descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size_bytes)) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
