"""The mode of transparent huge pages on emulated servers: foreseen and booted, fixed, cut off and undone."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fix.test_server import (
    BOOT_LIMIT_S,
    STATE,
    UNDO,
    begun,
    codes,
    cut_off,
    files,
    fixing,
    into,
    known,
    program,
    states,
)
from tests.lab.debian import SUITES, Suite
from tests.lab.product import asked_again
from tests.lab.vm import boot
from vdscheck.fixes.sysctl.huge_pages import FILE, KEY, SETTING

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("server"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make servers"),
]

SELECTED = "--passive --only sysctl.thp --profile latency"
LOOK = b"""
import json, sys
found = json.load(open(sys.argv[1]))["measurements"]["sysctl.huge-pages-at-boot"]["value"]
late = {each["name"]: each["values"] for each in found["late_writers"] if each["enabled"]}
print("SAID", json.dumps([found["value"], found["where"], late]))
"""
UNIT = b"""
[Service]
Type=oneshot
ExecStart=/bin/sh -c "echo never > /sys/kernel/mm/transparent_hugepage/enabled"
[Install]
WantedBy=sysinit.target
"""
LINE = f"w {SETTING} - - - - "
CONFIGURED = {
    "nothing": ("true", None),
    "a line": (f"echo '{LINE}madvise' > /etc/tmpfiles.d/50-a.conf", "madvise"),
    "an earlier name": (f"echo '{LINE}never' > /etc/tmpfiles.d/40-b.conf", "never"),
    "a pattern after it": ("echo 'w /sys/kernel/mm/*/enabled - - - - always' > /etc/tmpfiles.d/60-c.conf", "always"),
    "left alone": (f"rm /etc/tmpfiles.d/60-c.conf; echo 'x {SETTING}' > /etc/tmpfiles.d/30-d.conf", None),
    "a word that is none": (f"rm /etc/tmpfiles.d/*; echo '{LINE}off' > /etc/tmpfiles.d/50-a.conf", None),
    "a unit": (
        "rm /etc/tmpfiles.d/*; cp thp.service /etc/systemd/system/; systemctl -q enable thp.service",
        "never",
    ),
}
"""Each with what is done before the next boot, and what that is to come up with; None is what the kernel does."""
CUTS = (
    "before:write:1",
    "after:rename:1",
    "after:write:2",
    "before:fsync:5",
    "before:write:3",
    "after:write:3",
    "before:rename:2",
    "after:rename:2",
)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", SUITES)
def test_the_next_boot_is_foreseen(suite: Suite, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "files": files(tmp_path, suite) | {"look.py": LOOK, "thp.service": UNIT},
        "state": tmp_path / "disk.img",
        "timeout_s": BOOT_LIMIT_S,
    }
    said: list[list[Any]] = []
    found: list[str] = []
    for number, (change, _) in enumerate(CONFIGURED.values()):
        look = asked_again(f"{program(SELECTED)} --dry-run", f"out/{number}.json")
        tell = f"python3 look.py out/{number}.json"
        one = boot(suite, job=begun(f"{STATE} now", change, look, tell, "sync"), out=tmp_path / str(number), **common)
        found.append(states(one)["now"]["values"][KEY])
        said.append(json.loads(one.console.rpartition("SAID ")[2].splitlines()[0]))
    last = boot(suite, job=begun(f"{STATE} now"), out=tmp_path / "last", **common)
    found.append(states(last)["now"]["values"][KEY])
    begins = found[0]
    for number, (name, (_, expected)) in enumerate(CONFIGURED.items()):
        value, where, late = said[number]
        foreseen = next((each[KEY] for each in late.values() if KEY in each), value)
        assert foreseen == found[number + 1] == (expected or begins), (name, where, late)


@pytest.mark.timeout(1800)
def test_a_fix_of_the_mode_outlives_the_reboot_and_is_undone(tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "files": files(tmp_path, "bookworm"),
        "state": tmp_path / "disk.img",
        "timeout_s": BOOT_LIMIT_S,
    }
    fix = into(fixing(SELECTED), "fixed")
    first = boot("bookworm", job=begun(f"{STATE} old", fix, f"{STATE} new"), out=tmp_path / "1", **common)
    fixed = json.loads((first.out / "fixed.json").read_text())["fix"]
    assert (fixed["outcome"], codes(first)) == ("applied", [0]), fixed
    assert [(each["kind"], each["key"], each["after"]) for each in fixed["changes"]] == [("huge-pages", KEY, "never")]
    assert states(first)["new"]["files"][FILE][0].endswith(f"{LINE}never\n")
    job = begun(f"{STATE} rebooted", f"{UNDO}; echo CODE $?", f"{STATE} undone")
    second = boot("bookworm", job=job, out=tmp_path / "2", **common)
    assert states(second)["rebooted"]["values"][KEY] == "never"
    assert codes(second) == [0]
    third = boot("bookworm", job=begun(f"{STATE} end"), out=tmp_path / "3", **common)
    assert known(states(second)["undone"]) == known(states(third)["end"]) == known(states(first)["old"])


@pytest.mark.timeout(3600)
def test_a_power_cut_leaves_the_old_mode_or_the_new_one(tmp_path: Path) -> None:
    cut_off("bookworm", CUTS, tmp_path, selected=SELECTED, ours=FILE)
