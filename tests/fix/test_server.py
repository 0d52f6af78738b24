"""A fresh server is fixed, rebooted, cut off from power at every step of a fix, and undone."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.lab.debian import SUITES, Suite
from tests.lab.product import asked_again, product_tree
from tests.lab.vm import Boot, boot
from tests.support.project import PROJECT
from vdscheck.fix.files import NEW_NAME

pytestmark = [
    pytest.mark.xdist_group("server"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make servers"),
]

GUEST = PROJECT / "tests/lab/fix_guest.py"
DROP_IN = "/etc/sysctl.d/90-vdscheck.conf"
UNFINISHED = f"/etc/sysctl.d/{NEW_NAME}"
SELECTED = "--passive --only 'sysctl.*'"


def program(selected: str) -> str:
    return f"python3 -m vdscheck --json {selected} 2>>out/stderr"


def fixing(selected: str) -> str:
    fix = asked_again(f"{program(selected)} --fix --yes", "out/REPORT.json", while_it_says='"outcome":"undecided"')
    return f"{fix}; echo CODE $code"


REPORT = asked_again(program(SELECTED), "out/REPORT.json")
FIX = fixing(SELECTED)
UNDO = "python3 -m vdscheck undo"
BOOT_LIMIT_S = 1500.0
"""With what is asked again on a busy machine."""
STATE = "python3 fix_guest.py state"
FOREIGN = "net.core.somaxconn = 128"
"""Somebody's line, in a file that is read before ours."""
PREPARED = (
    f"mkdir -p /etc/sysctl.d; printf '# theirs\\n{FOREIGN}\\n' > /etc/sysctl.d/50-theirs.conf; "
    f"sysctl -q -w '{FOREIGN.replace(' ', '')}'; sync"
)
CUTS = (
    "before:write:1",
    "before:fsync:2",
    "before:rename:1",
    "after:rename:1",
    "after:fsync:4",
    "after:write:2",
    "after:write:3",
    "after:write:4",
    "before:fsync:5",
    "before:write:6",
    "after:write:6",
    "before:rename:2",
    "after:rename:2",
    "after:fsync:6",
    "before:rename:3",
    "after:rename:3",
)
"""From the first write of the journal to the last rename, which says that the fix holds."""


def begun(*steps: str) -> str:
    return "\n".join(("export PYTHONPATH=/job/site", *steps))


def into(line: str, name: str) -> str:
    """A line with a report, into a file of that name."""
    return line.replace("REPORT", name)


def states(booted: Boot) -> dict[str, dict[str, Any]]:
    """What the guest said of itself, by label. A later systemd writes escapes of its own before what a job says."""
    found = (json.loads(line) for line in re.findall(r"STATE (\{.*\})\s*$", booted.console, re.MULTILINE))
    return {each["label"]: each for each in found}


def codes(booted: Boot) -> list[int]:
    return [int(code) for code in re.findall(r"CODE ([0-9]+)\s*$", booted.console, re.MULTILINE)]


def known(state: dict[str, Any]) -> tuple[Any, Any]:
    """What must be as it was: all values and all files, with mode and mtime, but for ours."""
    return state["values"], state["files"]


def files(tmp_path: Path, suite: Suite) -> dict[str, bytes | Path]:
    return {"site": product_tree(suite, tmp_path / "site"), "fix_guest.py": GUEST.read_bytes()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("suite", SUITES)
def test_a_fix_outlives_the_reboot_and_an_undo_brings_everything_back(suite: Suite, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "files": files(tmp_path, suite),
        "state": tmp_path / "disk.img",
        "timeout_s": BOOT_LIMIT_S,
    }
    fix = begun(
        PREPARED,
        into(REPORT, "first"),
        f"{STATE} old",
        into(FIX, "fixed"),
        into(FIX, "again"),
        f"{STATE} new",
    )
    first = boot(suite, job=fix, out=tmp_path / "1", **common)
    fixed, again = (json.loads((first.out / f"{name}.json").read_text()) for name in ("fixed", "again"))
    assert codes(first) == [0, 0]
    assert (fixed["fix"]["outcome"], again["fix"]["outcome"]) == ("applied", "nothing-to-do")
    assert fixed["score"]["value"] == fixed["fix"]["score_promised"] > fixed["fix"]["score_before"]

    check = begun(f"{STATE} rebooted", into(REPORT, "report"), f"{UNDO}; echo CODE $?", f"{STATE} undone")
    check += f"\n{into(REPORT, 'undone')}"
    second = boot(suite, job=check, out=tmp_path / "2", **common)
    report = json.loads((second.out / "report.json").read_text())
    wanted = {each["key"]: each["wanted"] for each in fixed["fix"]["changes"]}
    rebooted = states(second)["rebooted"]
    assert {key: rebooted["values"][key] for key in wanted} == wanted
    assert report["score"]["value"] == fixed["fix"]["score_promised"]
    assert codes(second) == [0]
    third = boot(suite, job=begun(f"{STATE} end", into(REPORT, "report")), out=tmp_path / "3", **common)
    old = states(first)["old"]
    assert known(states(second)["undone"]) == known(old)
    assert known(states(third)["end"]) == known(old)
    before, last = (
        json.loads((each.out / f"{name}.json").read_text()) for each, name in ((first, "first"), (third, "report"))
    )
    assert verdicts(last) == verdicts(before)
    assert last["score"] == before["score"]


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {f"{each['id']}[{each['subject']}]": each["verdict"] for each in report["findings"]}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("suite", "cuts"), [("bookworm", CUTS[::2]), ("trixie", CUTS[1::2])])
def test_a_power_cut_at_every_step_leaves_the_old_state_or_the_new_one(
    suite: Suite, cuts: Sequence[str], tmp_path: Path
) -> None:
    cut_off(suite, cuts, tmp_path)


def cut_off(
    suite: Suite, cuts: Sequence[str], tmp_path: Path, *, then: str = "", selected: str = SELECTED, ours: str = DROP_IN
) -> Boot:
    """Cut a fix off at each step; the boot after it recovers, every other time by a new fix first, and goes on.

    Returns the last boot, in which also `then` was done; the disk after it is `disk.img`.
    """
    common: dict[str, Any] = {
        "files": files(tmp_path, suite),
        "state": tmp_path / "disk.img",
        "timeout_s": BOOT_LIMIT_S,
    }
    steps = [PREPARED, f"{STATE} old"]
    booted: list[Boot] = []
    for number, cut in enumerate(cuts):
        stop = f"python3 fix_guest.py stop {cut} --fix --yes -q {selected} 2>>out/stderr"
        job = begun(*steps, *[stop] * 5)  # one that was stopped does not come back
        one = boot(suite, job=job, out=tmp_path / str(number), cut_at=f"STOPPED AT {cut}", **common)
        assert f"STOPPED AT {cut}" in one.console, one.console[-1500:]
        booted.append(one)
        forward = number % 2 == 0
        recover = [into(fixing(selected), "forward"), f"{STATE} forward"] if forward else []
        steps = [f"{STATE} woken", f"{program(selected)} | grep -o 'in the middle' | head -n 1", *recover]
        steps += [f"{UNDO}; echo CODE $?", f"{STATE} recovered"]
    booted.append(boot(suite, job=begun(*steps, then), out=tmp_path / "last", **common))
    _all_whole(booted, cuts, ours)
    return booted[-1]


def told(booted: Boot) -> str:
    """What the fix after a cut said: how it ended, what it left alone and why, and standard error."""
    said = [path.read_text()[-1500:] for path in (booted.out / "stderr",) if path.exists()]
    report = booted.out / "forward.json"
    text = report.read_text() if report.exists() else ""
    try:
        fix = json.loads(text)["fix"]
    except (ValueError, KeyError):
        return f"no report: {text[-500:]!r}; {said}"
    return json.dumps({name: fix[name] for name in ("outcome", "detail", "left_alone")}) + f"; {said}"


def _all_whole(booted: Sequence[Boot], cuts: Sequence[str], drop_in: str) -> None:
    old, unfinished = states(booted[0])["old"], f"{drop_in.rpartition('/')[0]}/{NEW_NAME}"
    new: dict[str, Any] | None = None
    for number, (cut, after) in enumerate(zip(cuts, booted[1:], strict=True)):
        found = states(after)
        woken, recovered = found["woken"], found["recovered"]
        forward = number % 2 == 0
        assert codes(after) == [0] * (2 if forward else 1), (cut, told(after), after.console[-1500:])
        if forward:
            new = found["forward"]
            assert new["values"] != old["values"], (cut, told(after))
        ours = woken["files"].get(drop_in)
        if ours is not None:
            assert new is not None
            assert ours[0] in {each["files"][drop_in][0] for each in (new,)}, cut
        # A file that was never put in its place may be left, where nothing reads it, until the next run.
        foreign = {name: each for name, each in woken["files"].items() if name not in (drop_in, unfinished)}
        assert foreign == old["files"], cut
        if "begun" in woken["journal"].values():
            assert "in the middle" in after.console, cut
        assert known(recovered) == known(old), cut
        assert unfinished not in recovered["files"], cut
        assert "begun" not in recovered["journal"].values(), (number, cut)
    print(f"{len(cuts)} power cuts, each recovered from")
