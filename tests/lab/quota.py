"""A control group with a CPU quota on this machine, of whichever version it has; gone afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .processes import LabError, need_root

PERIOD_US = 100_000


@contextmanager
def limited(cpus: float) -> Iterator[Path]:
    """The folder of a group that may use so many CPUs; write a pid to its `cgroup.procs`."""
    need_root()
    folder = _parent() / f"vdscheck-test-{os.getpid()}"
    folder.mkdir()
    try:
        quota = round(cpus * PERIOD_US)
        if (folder / "cpu.max").exists():
            (folder / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        else:
            (folder / "cpu.cfs_quota_us").write_text(str(quota))
        yield folder
    finally:
        folder.rmdir()


def _parent() -> Path:
    for place in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"):
        if Path(place, "cpu.cfs_quota_us").exists():
            return Path(place)
    unified = Path("/sys/fs/cgroup")
    if "cpu" in (unified / "cgroup.subtree_control").read_text().split():
        return unified
    message = "no cgroup of this machine gives CPU quotas"
    raise LabError(message)
