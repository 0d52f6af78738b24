"""System calls that the kernel refuses: a seccomp filter of a few instructions, for a program that is to run under it.

As a script: `python -m tests.support.refused CALL[,CALL]... ACTION PROGRAM...`, where the action is the errno that the
calls get, as EPERM, or `kill`.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence

_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K and BPF_RET|BPF_K (linux/bpf_common.h)."""

NUMBERS = {
    "x86_64": {"clone": 56, "fork": 57, "vfork": 58, "clone3": 435, "setsid": 112, "setrlimit": 160, "prlimit64": 302}
    | {"socket": 41, "socketpair": 53, "perf_event_open": 298, "prctl": 157, "pidfd_open": 434}
    | {"fsync": 74, "fchmod": 91, "renameat": 264},
    "aarch64": {"clone": 220, "clone3": 435, "setsid": 157, "setrlimit": 164, "prlimit64": 261}
    | {"socket": 198, "socketpair": 199, "perf_event_open": 241, "prctl": 167, "pidfd_open": 434}
    | {"fsync": 82, "fchmod": 52, "renameat": 38},
}
"""Of the calls that tests refuse (asm/unistd.h); not every machine has each of them."""


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse(calls: Sequence[str], action: str) -> None:
    """Let the kernel refuse some system calls to this process and all that come of it."""
    known = NUMBERS[platform.machine()]
    outcome = _KILL_PROCESS if action == "kill" else _ERRNO | getattr(errno, action)
    numbers = [known[call] for call in calls if call in known]
    lines = [(_LOAD, 0, 0, 0)]
    lines += [(_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, outcome)]
    program = _Program(len(lines), b"".join(struct.pack("=HBBI", *line) for line in lines))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    refuse(sys.argv[1].split(","), sys.argv[2])
    os.execv(sys.argv[3], sys.argv[3:])
