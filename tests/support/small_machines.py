"""Runs the program where little is allowed or there: limits, cgroups, refused system calls, missing file systems."""

import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support import refused
from tests.support.fix_namespace import opened
from tests.support.program import PROGRAM, TIMEOUT_S, environment
from tests.support.project import PROJECT

USER = 1_000_000 + os.getpid()
"""Somebody without an entry in /etc/passwd, and without any other process: a limit counts those of the whole host."""


def run(
    *words: str,
    limits: Mapping[int, int] | None = None,
    cell: Path | None = None,
    before: str = "",
    user: int | None = None,
    refusing: tuple[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """One run to its end: with limits (of setrlimit), in a cgroup, as a user, after a script in a mount namespace."""
    command = [*program, *words]
    if refusing is not None:
        command = [sys.executable, refused.__file__, *refusing, *command]
    if user is not None:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
    if before or user is not None:
        script = opened((PROJECT, Path(sys.base_prefix))) + before + '\nexec "$@"'
        command = ["unshare", "-m", "sh", "-c", script, "sh", *command]

    def limit() -> None:
        if cell is not None:
            (cell / "cgroup.procs").write_text(str(os.getpid()))
        for which, most in (limits or {}).items():
            resource.setrlimit(which, (most, most))

    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": TIMEOUT_S} | more
    with tempfile.TemporaryDirectory() as folder:
        variables = dict(environment() if env is None else env)
        return subprocess.run(command, check=False, cwd=folder, env=variables, preexec_fn=limit, **options)


@contextmanager
def cgroup(controller: str, **limits: int) -> Iterator[Path]:
    """A cgroup of its own; the limits are named as in version 2: `pids_max`, `memory_max`."""
    names = {"memory_max": "memory.limit_in_bytes"}
    above = Path("/sys/fs/cgroup", controller)
    if not (above / "cgroup.procs").exists():
        above, names = Path("/sys/fs/cgroup"), {}
        (above / "cgroup.subtree_control").write_text(f"+{controller}")
    made = above / f"vdscheck-test-{uuid.uuid4().hex[:12]}"
    made.mkdir()
    try:
        for name, most in limits.items():
            (made / names.get(name, name.replace("_", "."))).write_text(str(most))
        with suppress(OSError):
            (made / "memory.swap.max").write_text("0")
        yield made
    finally:
        _remove(made)


def _remove(made: Path) -> None:
    """What still ends keeps it from being removed."""
    give_up = time.monotonic() + 10
    while True:
        try:
            made.rmdir()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        else:
            return
