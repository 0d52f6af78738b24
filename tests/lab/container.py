"""A real OS container on this machine: Debian's userland under Debian's runc.

It has its own users (mapped), processes, mounts, network, host name and IPC; /proc/sys and /sys are
read-only as Docker makes them, or writable as in a privileged one. Its root is a copy-on-write view
of `debian.rootfs`, gone afterwards; what it prints is what comes back.
"""

import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from .debian import Suite, rootfs
from .processes import LabError, need, need_root, run

START_TIMEOUT_S: Final = 60.0

_MAPPED: Final = 100_000
"""The host's user that is root inside; 65536 of them follow."""
_CLEAN_TIMEOUT_S: Final = 30.0
_CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID"),
    *("SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)
"""What Docker leaves to a container."""
_MORE_CAPABILITIES: Final = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_NICE")
_READ_ONLY: Final = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_MASKED: Final = (
    *("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"),
)
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
}
_SCRIPT: Final = """\
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
exec runc --root "$2/state" run --bundle "$2" "$3"
"""


def run_in_container(
    argv: Sequence[str],
    *,
    suite: Suite = "bookworm",
    binds: Mapping[str, Path] | None = None,
    env: Mapping[str, str] | None = None,
    userns: bool = True,
    own_pids: bool = True,
    privileged_sys: bool = False,
    timeout_s: float = START_TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh container and return what it said; nothing of it is left behind.

    `binds` are shown read-only at the paths they are named by. `userns` gives it users of its own;
    without `own_pids` it sees this machine's processes; `privileged_sys` makes /proc/sys and /sys
    writable and gives it the capabilities to match: with `userns=False` it may then change this
    machine. Raises LabError at the deadline, with the
    container ended.
    """
    need_root()
    need("runc", "unshare")
    name = f"vdscheck-lab-{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory(prefix=name) as folder:
        bundle = Path(folder)
        bundle.chmod(0o755)
        for part in ("upper", "work", "root"):
            (bundle / part).mkdir(mode=0o755)
        config = _config(argv, binds or {}, {**_ENVIRONMENT, **(env or {})}, privileged_sys)
        if not own_pids:
            config["linux"]["namespaces"].remove({"type": "pid"})
        if userns:
            _map_users(config, bundle / "upper")
        (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
        script = ["unshare", "-m", "sh", "-c", _SCRIPT, "sh", str(rootfs(suite)), folder, name]
        try:
            done = run(script, timeout_s=timeout_s)
        finally:
            _remove(bundle, name)
    _complain_about_runc(done)
    return done


def _config(
    argv: Sequence[str],
    binds: Mapping[str, Path],
    env: Mapping[str, str],
    privileged_sys: bool,  # noqa: FBT001  # private, and named as the caller's own
) -> dict[str, Any]:
    """Return the runtime's description of the container."""
    names = (*_CAPABILITIES, *(_MORE_CAPABILITIES if privileged_sys else ()))
    held = [f"CAP_{name}" for name in names]
    kinds = ("pid", "network", "ipc", "uts", "mount")
    return {
        "ociVersion": "1.0.2",
        "hostname": "lab-container",
        "root": {"path": "root", "readonly": False},
        "process": {
            "args": list(argv),
            "cwd": "/",
            "env": [f"{key}={value}" for key, value in env.items()],
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
        },
        "mounts": [*_mounts(privileged_sys=privileged_sys), *_bound(binds)],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": [] if privileged_sys else list(_MASKED),
            "readonlyPaths": [] if privileged_sys else [f"/proc/{name}" for name in _READ_ONLY],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def _mounts(*, privileged_sys: bool) -> list[dict[str, Any]]:
    """Return the mounts that every container has."""
    safe = ["nosuid", "noexec", "nodev"]
    state = "rw" if privileged_sys else "ro"
    size = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    kinds = (
        ("/proc", "proc", "proc", safe),
        ("/dev", "tmpfs", "tmpfs", size),
        ("/dev/pts", "devpts", "devpts", terminals),
        ("/dev/shm", "tmpfs", "shm", [*safe, "mode=1777"]),
        ("/dev/mqueue", "mqueue", "mqueue", safe),
        ("/sys", "sysfs", "sysfs", [*safe, state]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", [*safe, "relatime", state]),
    )
    return [
        {"destination": place, "type": kind, "source": source, "options": options}
        for place, kind, source, options in kinds
    ]


def _bound(binds: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return the mounts that show the caller's files, read-only."""
    options = ["rbind", "ro", "nosuid", "nodev"]
    return [
        {"destination": place, "type": "bind", "source": str(path.resolve()), "options": options}
        for place, path in binds.items()
    ]


def _map_users(config: dict[str, Any], upper: Path) -> None:
    """Give the container users of its own: its root is nobody in particular outside."""
    mapping = [{"containerID": 0, "hostID": _MAPPED, "size": 65536}]
    linux = config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = mapping
    for part in (upper, upper.with_name("root"), upper.parent):
        os.chown(part, _MAPPED, _MAPPED)


def _remove(bundle: Path, name: str) -> None:
    """End the container where it still runs, and have the runtime forget it."""
    runc = ["runc", "--root", str(bundle / "state"), "delete", "--force", name]
    with suppress(LabError):
        run(runc, timeout_s=_CLEAN_TIMEOUT_S)


def _complain_about_runc(done: subprocess.CompletedProcess[str]) -> None:
    """Raise LabError where the program never started."""
    if done.returncode != 0 and "runc run failed" in done.stderr:
        message = f"no container: {done.stderr[-2000:]}"
        raise LabError(message)
