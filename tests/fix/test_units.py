"""A fix and an undo in systemd units that may not do everything, and on a root in memory: whole, or refused."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.fix.test_server import DROP_IN, PREPARED, SELECTED, STATE, begun, files, known, states
from tests.lab.debian import SUITES, Suite
from tests.lab.vm import Boot, boot
from vdscheck.model.records import frozen

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("server"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make servers"),
]

BOOT_LIMIT_S = 3000.0
PROGRAM = "/usr/bin/env PYTHONPATH=/job/site python3 -m vdscheck"


@frozen
class Unit:
    """What a unit may do, and what comes of a fix in it."""

    properties: tuple[str, ...]
    outcome: Literal["applied", "refused"]
    why: str = ""


WRITABLE = "ReadWritePaths=/etc/sysctl.d /var/lib"
SERVICE = "SystemCallFilter=@system-service"
UNITS = {
    "plain": Unit((), "applied"),
    "strict": Unit(("ProtectSystem=strict",), "refused", "Read-only file system"),
    "strict-but": Unit(("ProtectSystem=strict", WRITABLE), "applied"),
    "full": Unit(("ProtectSystem=full",), "refused", f"{DROP_IN} cannot be written here"),
    "tunables": Unit(("ProtectKernelTunables=yes",), "refused", "/proc/sys is mounted read-only"),
    "private": Unit(("NoNewPrivileges=yes", "PrivateTmp=yes", "ProtectHome=yes", "PrivateDevices=yes"), "applied"),
    "filter": Unit(("NoNewPrivileges=yes", SERVICE), "applied"),
    "filter-errno": Unit((SERVICE, "SystemCallErrorNumber=EPERM"), "applied"),
    "no-fsync": Unit(("SystemCallFilter=~fsync", "SystemCallErrorNumber=EPERM"), "refused", "cannot be written"),
    "no-rename": Unit(("SystemCallFilter=~renameat", "SystemCallErrorNumber=EPERM"), "refused", "cannot be written"),
    "read-only-etc": Unit(("ReadOnlyPaths=/etc",), "refused", "Read-only file system"),
    "read-only-var": Unit(("ReadOnlyPaths=/var",), "refused", "/var/lib/vdscheck/journal"),
    "read-only-keys": Unit(("ReadOnlyPaths=/proc/sys/net",), "refused", "/proc/sys/net/"),
    "users": Unit(("PrivateUsers=yes",), "refused", "the kernel is not this machine's own"),
    "all": Unit(
        ("ProtectSystem=strict", "ProtectKernelTunables=yes", "NoNewPrivileges=yes", "PrivateTmp=yes", SERVICE),
        "refused",
        "/proc/sys is mounted read-only",
    ),
}
OVERLAY_INIT = r"""#!/bin/sh
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
mkdir -p /mnt/root/run/lower
cd /mnt/root
pivot_root . run/lower
exec /sbin/init
"""
"""As a live system does: / is an overlay whose upper layer is in memory."""


def in_unit(name: str, words: str) -> str:
    properties = " ".join(f"-p '{each}'" for each in UNITS[name].properties)
    run = f"systemd-run --quiet --wait --pipe {properties} {PROGRAM} {words}"
    said = f"{run} > out/{name}.json 2> out/{name}.err; echo $? > out/{name}.code"
    # An emulated server may be too slow to see what the next boot brings: then nothing was changed yet.
    return f"for time in 1 2 3 4 5; do {said}; grep -q '\"undecided\"' out/{name}.json || break; done"


def steps(name: str) -> list[str]:
    fix = in_unit(name, f"--fix --yes --json {SELECTED}")
    undo = in_unit(name, "undo").replace(f"out/{name}.", f"out/{name}-undo.")
    fixed = [fix, f"{STATE} {name}"]
    return [*fixed, undo, f"{STATE} {name}-undone"] if UNITS[name].outcome == "applied" else fixed


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", SUITES)
def test_in_a_unit_a_fix_is_whole_or_refused_and_on_a_root_in_memory_refused(suite: Suite, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "files": files(tmp_path, suite),
        "state": tmp_path / "disk.img",
        "timeout_s": BOOT_LIMIT_S,
    }
    job = begun(PREPARED, f"{STATE} old", *(step for name in UNITS for step in steps(name)))
    job += f"\ncat > /etc/overlay-init <<'END'\n{OVERLAY_INIT}END\nchmod 755 /etc/overlay-init; sync\n"
    first = boot(suite, job=job, out=tmp_path / "1", **common)
    wrong = {name: said for name in UNITS if (said := _wrong(first, name)) is not None}
    assert wrong == {}
    live = begun(
        f"{STATE} live",
        f"python3 -m vdscheck --fix --yes --json {SELECTED} > out/fix.json; echo $? > out/code",
        f"{STATE} after",
    )
    second = boot(suite, job=live, out=tmp_path / "2", kernel_cmdline="init=/etc/overlay-init", keep=False, **common)
    fix = json.loads((second.out / "fix.json").read_text())["fix"]
    assert (fix["outcome"], (second.out / "code").read_text()) == ("refused", "3\n")
    assert "/ is of type overlay" in fix["detail"]
    assert known(states(second)["after"]) == known(states(second)["live"])


def _wrong(booted: Boot, name: str) -> str | None:
    """What is not as it should be after a unit, if anything."""
    unit, found = UNITS[name], states(booted)
    said = (booted.out / f"{name}.json").read_text()
    errors = (booted.out / f"{name}.err").read_text()
    try:
        fix = json.loads(said)["fix"]
    except ValueError:
        return f"no report: {said[:200]!r} {errors[-500:]!r}"
    code = (booted.out / f"{name}.code").read_text().strip()
    told = f"{fix['outcome']} {code}: {fix['detail']}"
    if (fix["outcome"], code) != (unit.outcome, "0" if unit.outcome == "applied" else "3") or unit.why not in told:
        return told
    old = known(found["old"])
    if unit.outcome == "refused":
        return None if known(found[name]) == old else f"{told}, and something was changed"
    wanted = {each["key"]: each["wanted"] for each in fix["changes"]}
    if {key: found[name]["values"].get(key) for key in wanted} != wanted or DROP_IN not in found[name]["files"]:
        return f"{told}, and it is not all there"
    undone = (booted.out / f"{name}-undo.code").read_text().strip()
    return None if undone == "0" and known(found[f"{name}-undone"]) == old else f"the undo ended with {undone}"
