"""Other programs, each with a deadline that its descendants cannot outlive."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

APT_TIMEOUT_S: Final = 900.0

PACKAGES: Final[Mapping[str, str]] = {
    "busybox": "busybox-static",
    "fio": "fio",
    "fuse2fs": "fuse2fs",
    "ip": "iproute2",
    "mke2fs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "qemu-system-x86_64": "qemu-system-x86",
    "redis-benchmark": "redis-tools",
    "redis-check-rdb": "redis-tools",
    "redis-cli": "redis-tools",
    "runc": "runc",
    "strace": "strace",
    "unshare": "util-linux",
}
"""The Debian package that brings each program the lab calls."""


class LabError(RuntimeError):
    """The lab cannot do what was asked; the message says what is missing or what went wrong."""


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program in a session of its own and return what it said, whatever its exit code.

    Raises LabError at the deadline; the whole session is ended then, and on any interruption.
    """
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=env,
        text=True,
        errors="surrogateescape",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as expired:
            message = f"{argv[0]} had not ended after {timeout_s:g} s"
            raise LabError(message) from expired
        finally:
            end_session(process.pid)
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)


def must(argv: Sequence[str], *, timeout_s: float, cwd: Path | None = None, stdin: str | None = None) -> str:
    """What a program that must succeed writes to its output.

    Raises LabError with the end of what it complained of.
    """
    done = run(argv, timeout_s=timeout_s, cwd=cwd, stdin=stdin)
    if done.returncode != 0:
        message = f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
        raise LabError(message)
    return done.stdout


def end_session(session: int) -> None:
    """Kill what is left of a session that `run` or its like has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)


def missing(*programs: str) -> list[str]:
    """The Debian packages of those programs that are not here."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    return sorted({PACKAGES[name] for name in programs if not shutil.which(name, path=path)})


def need(*programs: str) -> None:
    """Install what is missing of the programs, as root.

    Raises LabError naming the packages where this is not root, or apt-get cannot.
    """
    packages = missing(*programs)
    if not packages:
        return
    if os.geteuid() != 0:
        message = f"missing: apt-get install {' '.join(packages)}"
        raise LabError(message)
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=600"]
    must([*apt, "update"], timeout_s=APT_TIMEOUT_S)
    frontend = ["env", "DEBIAN_FRONTEND=noninteractive"]
    install = [*frontend, *apt, "install", "--no-install-recommends", *packages]
    must(install, timeout_s=APT_TIMEOUT_S)


def need_root() -> None:
    """Raise LabError unless this is root."""
    if os.geteuid() != 0:
        message = "only root can do this: it mounts, maps users and changes roots"
        raise LabError(message)
