"""Runs inside a server: says what state it is in, and runs a fix that stops dead at one of its steps.

`python3 fix_guest.py state LABEL` writes one line `STATE {...}`; `python3 fix_guest.py stop STEP ARG...` runs the
program in this process with those arguments, and at that step writes `STOPPED AT STEP` and waits for the power to go.
A step is `before:CALL:NUMBER` or `after:CALL:NUMBER`, as `before:rename:2`, counted over the calls of that name.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEYS = (
    "net.core.somaxconn",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_tw_reuse",
    "vm.swappiness",
)
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FOLDERS = ("/etc/tmpfiles.d", "/etc/sysctl.d", "/run/sysctl.d", "/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d")
CALLS = ("write", "rename", "fsync", "unlink", "mkdir", "rmdir")
WAIT_S = 300.0


def state(label: str) -> None:
    values = {key: " ".join(Path("/proc/sys", key.replace(".", "/")).read_text().split()) for key in KEYS}
    values["transparent_hugepage.enabled"] = PAGES.read_text().partition("[")[2].partition("]")[0]
    files: dict[str, list[Any]] = {}
    for path in [each for folder in FOLDERS for each in sorted(Path(folder).glob("*"))] + [Path("/etc/sysctl.conf")]:
        if path.is_file():
            found = path.lstat()
            files[str(path)] = [path.read_text(), found.st_mode, found.st_mtime_ns]
    journal = {
        each.name: json.loads(each.read_text())["state"] for each in Path("/var/lib/vdscheck/journal").glob("*.json")
    }
    said = {"label": label, "values": values, "files": files, "journal": journal}
    print("STATE " + json.dumps(said), flush=True)


def stop(step: str, arguments: list[str]) -> None:
    when, wanted, number = step.split(":")
    counts = dict.fromkeys(CALLS, 0)

    def patched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **named: Any) -> Any:
            if name == "write" and words[0] < 3:
                return call(*words, **named)
            counts[name] += 1
            here = name == wanted and counts[name] == int(number)
            if here and when == "before":
                halt(step)
            result = call(*words, **named)
            if here and when == "after":
                halt(step)
            return result

        return run

    for name in CALLS:
        setattr(os, name, patched(name, getattr(os, name)))
    from vdscheck.cli.app import program

    code = program([], arguments)
    print(f"NEVER STOPPED AT {step}: {code} {counts}", flush=True)


def halt(step: str) -> None:
    print(f"STOPPED AT {step}", flush=True)
    time.sleep(WAIT_S)
    os._exit(9)


if __name__ == "__main__":
    if sys.argv[1] == "state":
        state(sys.argv[2])
    else:
        stop(sys.argv[2], sys.argv[3:])
