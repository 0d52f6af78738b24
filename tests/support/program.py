"""Runs the program as its users do, with plugins of a test's own beside it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = (sys.executable, "-m", "vdscheck")
TIMEOUT_S = 60


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who has set nothing."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("VDSCHECK_", "NO_COLOR"))}
    return kept | more


def vdscheck(
    *words: str, cwd: Path | str = "/", plugins: Path | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """One run to its end."""
    variables = environment(**({"PYTHONPATH": str(plugins)} if plugins else {}))
    variables |= more.pop("env", {})
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": TIMEOUT_S} | more
    return subprocess.run([*PROGRAM, *words], cwd=cwd, env=variables, check=False, **options)


def report(*words: str, **more: Any) -> dict[str, Any]:
    """The report of a run that must succeed."""
    done = vdscheck(*words, "--json", **more)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def plugin(folder: Path, source: str, name: str = "acme", value: str = "") -> Path:
    """A folder with an installed package of one module, as pip would leave it; for `plugins=`.

    `value`: the module that its entry point names, where that is another one.
    """
    (folder / f"{name}.py").write_text(source)
    information = folder / f"{name}-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[vdscheck.plugins]\n{name} = {value or name}\n")
    return folder


def wait_for(happened: Callable[[], object]) -> None:
    """Wait for an event, and no longer than a run may take."""
    give_up_s = time.monotonic() + TIMEOUT_S
    while not happened():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """The child processes of a process with one thread."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_undecided(finding: dict[str, Any]) -> bool:
    """Whether a finding is unknown as it must be: what was seen lies on both sides of its limit.

    An emulated machine is slow and uneven, so nobody can tell beforehand on which side of a limit of time it is.
    """
    if (finding["verdict"], finding["reason"]) != ("unknown", "too-few-samples"):
        return False
    seen, limit = finding["observed"], finding["expected"]["pass"]
    below = seen["low"] is None or seen["low"] <= limit
    return below and (seen["high"] is None or seen["high"] > limit)
