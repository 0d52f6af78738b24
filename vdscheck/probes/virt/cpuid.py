"""What the processor itself says of the hypervisor: the CPUID leaves from 0x40000000."""

import os
import struct
from collections.abc import Callable
from typing import Any

from vdscheck.plugin import Host, Reason, UnavailableError, unmeasured

BASES = (0x40000000, 0x40000100)
"""A hypervisor that also speaks Hyper-V's language to Windows has its own leaves at the second one."""

_DEVICE = "/dev/cpu/0/cpuid"
# void ask(uint32_t leaf, uint32_t answer[4]) in the System V calling convention
_CODE = bytes.fromhex(
    "f30f1efa"  # endbr64
    "53"  # push rbx, which cpuid overwrites and the caller keeps
    "89f8"  # mov eax, edi
    "31c9"  # xor ecx, ecx
    "0fa2"  # cpuid
    "8906"  # mov [rsi], eax
    "895e04"  # mov [rsi + 4], ebx
    "894e08"  # mov [rsi + 8], ecx
    "89560c"  # mov [rsi + 12], edx
    "5b"  # pop rbx
    "c3"  # ret
)

Leaf = tuple[int, int, int, int]


def signatures(host: Host) -> tuple[str, ...]:
    """The twelve letters that a hypervisor signs with, from each base; garbage where there is none.

    Raises UnavailableError on a processor without CPUID, or where the instruction cannot be run.
    """
    found = host.fact("cpuid", _ask)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UnavailableError(unmeasured(Reason.ERROR, "the captured fact cpuid is not a list of texts"))
    return tuple(found)


def _ask() -> list[str]:
    return [_signature(_leaf(base)) for base in BASES]


def _signature(leaf: Leaf) -> str:
    raw = struct.pack("<3I", *leaf[1:])
    return raw.decode("ascii", "replace").rstrip("\0")


def _leaf(number: int) -> Leaf:
    """The instruction is not privileged: it needs no root and no program, where a page may be executed.

    A hardened kernel refuses such a page; the device needs root and a module.
    """
    if os.uname().machine != "x86_64":
        why = f"{os.uname().machine} has no CPUID instruction"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    try:
        return _executed(number)
    except OSError:
        return _from_device(number)


def _executed(number: int) -> Leaf:
    import ctypes  # with mmap 3 ms that only this probe needs
    import mmap

    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    with mmap.mmap(-1, mmap.PAGESIZE, flags=kind, prot=protection) as page:
        page.write(_CODE)
        answer = (ctypes.c_uint32 * 4)()
        start = (ctypes.c_char * len(_CODE)).from_buffer(page)
        ask: Callable[[int, Any], None] = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_void_p)(
            ctypes.addressof(start)
        )
        ask(number, ctypes.addressof(answer))
        # the page cannot be given back while something points into it
        del ask, start
        return (answer[0], answer[1], answer[2], answer[3])


def _from_device(number: int) -> Leaf:
    with open(_DEVICE, "rb", buffering=0) as device:
        device.seek(number)
        return struct.unpack("<4I", device.read(16))
