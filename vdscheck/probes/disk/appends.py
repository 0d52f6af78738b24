"""Small appends, each made safe by fdatasync, as etcd and other databases write their logs."""

import errno
import os
import time

from vdscheck.probes.disk.files import TestFile, made, reserved

APPEND_BYTES = 2300
"""As in the fio job for etcd: IBM, "Using Fio to Tell Whether Your Storage is Fast Enough for Etcd" (2019)."""
LOG_BYTES = 22 << 20
"""The size of the file there."""

_POOL_BYTES = 1 << 20


class Log:
    """A preallocated file that is appended to; when it is full, a new one takes its place.

    In a new one every append lies on blocks that were set aside and never written, as in etcd's; on
    blocks that were written before, the file system would have less to do.
    """

    def __init__(self, folder: int, size_bytes: int) -> None:
        """Take the descriptor of a folder, which stays open. Raise OSError."""
        self._folder, self._size_bytes = folder, size_bytes
        self._pool = memoryview(os.urandom(_POOL_BYTES))
        self._drawn = 0
        self._file = self._new()
        self._room = self._size_bytes // APPEND_BYTES

    def _new(self) -> TestFile:
        file = made(self._folder)
        try:
            reserved(file, self._size_bytes)
        except OSError:
            file.close()
            raise
        return file

    def append(self, seconds: float) -> list[int]:
        """Nanoseconds of each fdatasync, without the write before it. Raises OSError."""
        clock, write, sync = time.perf_counter_ns, os.write, os.fdatasync
        took: list[int] = []
        now = clock()
        until = now + int(seconds * 1e9)
        while now < until:
            piece = self._piece()
            descriptor = self._with_room().descriptor
            if write(descriptor, piece) != APPEND_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            before = clock()
            sync(descriptor)
            now = clock()
            took.append(now - before)
            self._room -= 1
        return took

    def _piece(self) -> memoryview:
        start = self._drawn
        self._drawn = (start + APPEND_BYTES) % (_POOL_BYTES - APPEND_BYTES)
        return self._pool[start : start + APPEND_BYTES]

    def _with_room(self) -> TestFile:
        if not self._room:
            self._file.close()
            self._file = self._new()
            self._room = self._size_bytes // APPEND_BYTES
        return self._file

    def close(self) -> None:
        """Give its space back."""
        self._file.close()
