"""Reads of 4 KiB at random places, past the cache: one at a time, each timed, or many at once, counted."""

import errno
import mmap
import os
import random
import struct
import time
from collections.abc import Callable

from vdscheck.plugin import frozen
from vdscheck.probes.disk.files import BLOCK_BYTES

DEPTH = 32

_CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""The numbers of io_setup, io_destroy, io_getevents and io_submit, which the C library does not wrap."""
_IOCB = "<QIIHhIQQqQII"
"""struct iocb of include/uapi/linux/aio_abi.h; IOCB_CMD_PREAD is 0."""
_IOCB_WORDS = struct.calcsize(_IOCB) // 8
_OFFSET_WORD = 5
_EVENT_WORDS = 4
"""struct io_event: data, obj, res, res2."""


def qd1_reads(descriptor: int, size_bytes: int, seconds: float) -> tuple[list[int], int]:
    """Nanoseconds of each read, and of all of them with what is between them. Raises OSError."""
    clock, read, draw = time.perf_counter_ns, os.preadv, random.random
    blocks = size_bytes // BLOCK_BYTES
    into = [mmap.mmap(-1, BLOCK_BYTES)]
    took: list[int] = []
    began = now = clock()
    until = began + int(seconds * 1e9)
    while now < until:
        offset = int(draw() * blocks) * BLOCK_BYTES
        before = clock()
        count = read(descriptor, into, offset)
        now = clock()
        if count != BLOCK_BYTES:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        took.append(now - before)
    return took, now - began


@frozen
class Rate:
    """Reads that were done, and in how long."""

    count: int
    took_ns: int


class Qd32ByAio:
    """32 reads under way by Linux AIO (io_submit(2)), from one thread."""

    method = "Linux AIO"

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        """Raise OSError where this kernel or a seccomp filter has no AIO, or all of it is in use (aio-max-nr)."""
        import ctypes

        numbers = _CALLS.get(os.uname().machine)
        if numbers is None or struct.calcsize("P") != 8:  # noqa: PLR2004 - bytes of a pointer
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        setup, self._destroy, self._getevents, self._submit = map(ctypes.c_long, numbers)
        libc = ctypes.CDLL(None, use_errno=True)
        self._call, self._errno = libc.syscall, ctypes.get_errno
        self._call.restype = ctypes.c_long
        context = ctypes.c_ulong(0)
        self._checked(self._call(setup, ctypes.c_long(DEPTH), ctypes.byref(context)))
        self._context = context
        self._blocks = size_bytes // BLOCK_BYTES
        self._buffers = mmap.mmap(-1, DEPTH * BLOCK_BYTES)
        self._requests = (ctypes.c_uint64 * (_IOCB_WORDS * DEPTH))()
        self._queue = (ctypes.c_uint64 * 1)()
        self._events = (ctypes.c_int64 * (_EVENT_WORDS * DEPTH))()
        self._prepare(descriptor, ctypes.addressof(ctypes.c_char.from_buffer(self._buffers)))
        first = ctypes.addressof(self._requests)
        self._addresses = [first + each * _IOCB_WORDS * 8 for each in range(DEPTH)]
        self._depth, self._one = ctypes.c_long(DEPTH), ctypes.c_long(1)
        self._to_queue, self._to_events = ctypes.byref(self._queue), ctypes.byref(self._events)
        # It does not wait, so there is no other thread to let run meanwhile.
        self._quick_call = ctypes.PyDLL(None, use_errno=True).syscall
        self._quick_call.restype = ctypes.c_long

    def _prepare(self, descriptor: int, buffers: int) -> None:
        for each in range(DEPTH):
            buffer = buffers + each * BLOCK_BYTES
            request = struct.pack(_IOCB, each, 0, 0, 0, 0, descriptor, buffer, BLOCK_BYTES, 0, 0, 0, 0)
            self._requests[each * _IOCB_WORDS : (each + 1) * _IOCB_WORDS] = list(struct.unpack("<8Q", request))

    def _checked(self, result: int) -> int:
        if result < 0:
            number = self._errno()
            raise OSError(number, os.strerror(number))
        return result

    def run(self, seconds: float) -> Rate:
        """Keep 32 under way; counted from when the first 32 are done, so that filling the queue does not."""
        try:
            rate, under_way = self._counted(seconds)
            while under_way:
                under_way -= len(self._ended())
        except OSError:
            # the kernel writes into our buffers until the last read is done, which this waits for
            self.close()
            raise
        return rate

    def _counted(self, seconds: float) -> tuple[Rate, int]:
        """The rate, and how many are still under way."""
        clock = time.perf_counter_ns
        done, counted_from = 0, 0
        began = now = clock()
        until = began + int(seconds * 1e9)
        self._start(range(DEPTH))
        while True:
            ended = self._ended()
            now = clock()
            done += len(ended)
            if now >= until and done > counted_from > 0:
                return Rate(done - counted_from, now - began), DEPTH - len(ended)
            if done >= DEPTH and not counted_from:
                began, counted_from = now, done
            self._start(ended)

    def _start(self, which: "range | list[int]") -> None:
        """Hand in one after the other: the device begins with the first while we are at the second."""
        draw, blocks, queue, requests = random.random, self._blocks, self._queue, self._requests
        call, submit = self._quick_call, self._submit
        context, one, to_queue = self._context, self._one, self._to_queue
        for each in which:
            requests[each * _IOCB_WORDS + _OFFSET_WORD] = int(draw() * blocks) * BLOCK_BYTES
            queue[0] = self._addresses[each]
            if self._checked(call(submit, context, one, to_queue)) != 1:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _wait(self) -> int:
        return int(self._call(self._getevents, self._context, self._one, self._depth, self._to_events, None))

    def _ended(self) -> list[int]:
        count = self._checked(self._wait())
        words = self._events[: count * _EVENT_WORDS]
        for result in words[2::_EVENT_WORDS]:
            if result != BLOCK_BYTES:
                number = -result if result < 0 else errno.EIO
                raise OSError(number, os.strerror(number))
        return words[::_EVENT_WORDS]

    def close(self) -> None:
        """Give the kernel its part back, once nothing is under way."""
        self._call(self._destroy, self._context)


class Qd32ByThreads:
    """32 reads under way by 32 threads: where there is no AIO."""

    method = "32 threads"

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor, self._size_bytes = descriptor, size_bytes

    def run(self, seconds: float) -> Rate:
        """Let every thread read one by one; the first error of any is raised."""
        import threading

        counts: list[int] = []
        errors: list[OSError] = []

        def work() -> None:
            try:
                took, _ = qd1_reads(self._descriptor, self._size_bytes, seconds)
                counts.append(len(took))
            except OSError as error:
                errors.append(error)

        threading.stack_size(1 << 18)
        threads = [threading.Thread(target=work) for _ in range(DEPTH)]
        began = time.perf_counter_ns()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return Rate(sum(counts), time.perf_counter_ns() - began)

    def close(self) -> None:
        """Nothing is kept."""


Qd32Reader = Qd32ByAio | Qd32ByThreads


def qd32_reader(descriptor: int, size_bytes: int, by: Callable[[int, int], Qd32Reader] = Qd32ByAio) -> Qd32Reader:
    """Linux AIO, or threads where there is none."""
    try:
        return by(descriptor, size_bytes)
    except OSError:
        return Qd32ByThreads(descriptor, size_bytes)
