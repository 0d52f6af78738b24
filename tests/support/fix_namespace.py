"""A mount and a network namespace of their own, in which net keys of the real kernel may be fixed."""

import fcntl
import functools
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.program import environment
from tests.support.project import PROJECT
from vdscheck.plugin import Host
from vdscheck.probes.sysctl.boot.predict import boot_truth

TIMEOUT_S = 120
JOURNAL_ABOVE = Path("/var/lib/vdscheck")
_PRELUDE = """
set -e
mount -t tmpfs -o mode=755 none /etc/sysctl.d
mount -t tmpfs -o mode=755 none /var/lib/vdscheck
mount -t tmpfs -o mode=755 none /mnt
for tree in fs vm; do
  mkdir /mnt/$tree
  cp -r /proc/sys/$tree/. /mnt/$tree 2>/dev/null || :
  mount --bind /mnt/$tree /proc/sys/$tree
done
umount -l /mnt
AS_BOOTED
ip link set lo up
vdscheck() { "$PYTHON" -m vdscheck "$@"; }
fix() { vdscheck --fix --passive --only 'sysctl.*' "$@"; }
keys() {
  sysctl net.core.somaxconn net.ipv4.conf.all.rp_filter net.ipv4.tcp_slow_start_after_idle net.ipv4.tcp_tw_reuse
}
code() { echo "code $?"; }
sysctl -q -w net.core.somaxconn=128
set +e
"""


@functools.cache
def prelude() -> str:
    """What each script begins with; somaxconn is lower than at boot, and three keys are as the kernel has them.

    fs.* and vm.* have no namespace of their own: a copy stands in their place, so that no fix reaches the real ones.
    The copy has what the system whose files are here sets at boot: where they are those of a chroot or a container,
    the kernel was booted by another one.
    """
    lines = []
    for key, found in boot_truth.function(Host()).keys.items():
        if key.startswith(("fs.", "vm.")) and found.origin == "default" and found.value is not None:
            path = shlex.quote("/proc/sys/" + key.replace(".", "/"))
            lines.append(f"if [ -e {path} ]; then echo {shlex.quote(found.value)} > {path}; fi")
    return _PRELUDE.replace("AS_BOOTED", "\n".join(lines))


def opened(paths: Iterable[Path]) -> str:
    """Shell lines that make folders readable for every user where they lie below one that is not, as /root is."""
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        shut = [each for each in path.parents if not each.stat().st_mode & 0o001]
        if shut:
            closed.setdefault(shut[-1], []).append(path)
    lines: list[str] = []
    for number, (above, below) in enumerate(closed.items()):
        kept = [(f"opened-{number}-{index}", path) for index, path in enumerate(below)]
        lines += [f"mkdir {name}; mount --bind {shlex.quote(str(path))} {name}" for name, path in kept]
        lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(str(above))}")
        for name, path in kept:
            quoted = shlex.quote(str(path))
            lines.append(f"mkdir -p {quoted}; mount --bind {name} {quoted}; umount {name}; rmdir {name}")
    return "\n".join(["set -e", *lines, ""])


@contextmanager
def place_of_the_journal() -> Iterator[int]:
    """A folder to mount over, on a machine that has none yet. Yields the descriptor of a lock.

    To remove it takes away what is mounted on it in every other namespace: only the last who uses it may. What goes on
    after a test was killed uses it too, while it holds the lock.
    """
    lock = os.open(Path(tempfile.gettempdir(), "vdscheck-place-of-the-journal"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        JOURNAL_ABOVE.mkdir(exist_ok=True)
        try:
            yield lock
        finally:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                JOURNAL_ABOVE.rmdir()
    finally:
        os.close(lock)


def in_namespace(script: str, *, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Run a shell script there, after the prelude."""
    whole = opened((PROJECT, Path(sys.base_prefix))) + prelude() + script
    with place_of_the_journal() as lock, tempfile.TemporaryDirectory(prefix="vdscheck-ns-") as folder:
        return subprocess.run(
            # The outer shell alone holds the lock: a test may count the descriptors that it has.
            ["bash", "-c", f'unshare -mn sh -c "$0" {lock}>&-; exit $?', whole],
            pass_fds=(lock,),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment(PYTHON=sys.executable, PATH=os.environ["PATH"], LC_ALL="C.UTF-8"),
        )
