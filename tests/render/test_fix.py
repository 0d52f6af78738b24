"""A plan and what came of it, in a terminal and as a shell script: golden captures, and what holds for all of them."""

import os
import re
import subprocess
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.project import PROJECT
from tests.support.reports import HOSTILE, by_hand, finding, middling, report, script
from vdscheck.fixes.sysctl.boot import FILE as DROP_IN
from vdscheck.model.fixes import FixChange, FixRecord, LeftAlone
from vdscheck.model.judgement import Verdict
from vdscheck.render.text.fix import fix_text
from vdscheck.render.text.report import terminal

GOLDEN = PROJECT / "tests/golden"
REWRITE = os.environ.get("VDSCHECK_REWRITE_GOLDEN") == "1"
SGR = re.compile(rb"\x1b\[([0-9;]*)m")

CHANGES = (
    FixChange(
        "sysctl",
        "net.core.somaxconn",
        None,
        "128",
        "4096",
        "4096",
        None,
        "planned",
        "sysctl.somaxconn (web: origin), sysctl.persistence",
        ("nginx", "redis-server"),
    ),
    FixChange(
        "sysctl",
        "net.ipv4.tcp_tw_reuse",
        DROP_IN,
        "2",
        "2",
        "1",
        None,
        "planned",
        "sysctl.tcp-tw-reuse (web: origin)",
        (),
    ),
    FixChange(
        "sysctl",
        "net.ipv4.ip_local_port_range",
        DROP_IN,
        "40000 45000",
        None,
        "32768 60999",
        None,
        "planned",
        "sysctl.port-range (web: kernel)",
        (),
    ),
)
LEFT = (
    LeftAlone("vm.swappiness", f"/etc/sysctl.d/99-tuning.conf:3 sets it to 60 after {DROP_IN}: let that line say 10"),
    LeftAlone("net.ipv4.ip_forward", "kubelet or the network plugin of this Kubernetes node sets it (/run/flannel)"),
)
PLANNED = FixRecord(
    id=None,
    outcome="planned",
    detail="",
    score_before=70,
    score_promised=79,
    changes=CHANGES,
    left_alone=LEFT,
)
APPLIED = replace(
    PLANNED,
    id="20261123-1",
    outcome="applied",
    changes=tuple(replace(each, after=each.wanted, outcome="applied") for each in CHANGES),
)
GIVEN_BACK = replace(
    PLANNED,
    id="20261123-2",
    outcome="given-back",
    detail="net.ipv4.tcp_tw_reuse was set to 1 and reads back as 2",
    changes=(
        replace(CHANGES[0], after="128", outcome="given-back"),
        replace(CHANGES[1], after="2", outcome="given-back"),
        replace(CHANGES[2], after="1024 2000", outcome="left"),
    ),
    left_alone=(LeftAlone("net.ipv4.ip_local_port_range", "it is 1024 2000 now, which somebody set since: it stays"),),
)
REFUSED = replace(
    PLANNED,
    outcome="refused",
    detail="another vdscheck is changing this host: wait until it has ended",
    changes=(),
    left_alone=(),
)
NOTHING = replace(PLANNED, outcome="nothing-to-do", changes=(), score_promised=70)
NO_ROOT = replace(PLANNED, detail="only root may set them: sudo vdscheck --fix --only 'sysctl.*'")
DECLINED = replace(PLANNED, outcome="declined", detail="nothing was changed")
BAD = FixRecord(
    id=HOSTILE,
    outcome="applied",
    detail=HOSTILE,
    score_before=None,
    score_promised=None,
    changes=(
        FixChange(
            "sysctl", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, "applied", HOSTILE, (HOSTILE, HOSTILE)
        ),
    ),
    left_alone=(LeftAlone(HOSTILE, HOSTILE),),
)
RECORDS = {
    "planned": PLANNED,
    "applied": APPLIED,
    "given-back": GIVEN_BACK,
    "refused": REFUSED,
    "nothing": NOTHING,
    "no-root": NO_ROOT,
    "declined": DECLINED,
    "hostile": BAD,
    "hostile-plan": replace(BAD, outcome="planned"),
}
CAPTURES = """
planned.fix.40 planned.fix.80 planned.fix.200 planned.fix-ascii.80 planned.fix-colour.80 applied.fix.80
applied.fix-ascii.80 given-back.fix.80 refused.fix.80 nothing.fix.80 no-root.fix.80 declined.fix.80 hostile.fix.80
hostile-plan.fix.80 mended.fix-colour.80 planned.sh.0 nothing.sh.0
""".split()  # noqa: SIM905 - a table


def conversation() -> bytes:
    """What a person sees of a fix after the report: the plan, the question, the outcome."""
    shown = {"width": 80, "colour": True, "utf8": True}
    whole = terminal(replace(middling(), fix=APPLIED), verbose=False, quiet=True, **shown)  # type: ignore[arg-type]
    outcome = whole[whole.index(b"\x1b[1mFIX") :].replace(b"\n\x1b[1mGATE", b"\0").partition(b"\0")[0]
    question = b"Apply? [y/N] y\n\n"
    outcome = outcome.rstrip(b"\n") + b"\n"
    return b"$ sudo vdscheck --fix\n" + fix_text(PLANNED, **shown).lstrip(b"\n") + question + outcome  # type: ignore[arg-type]


def captured(name: str) -> bytes:
    example, style, width = name.split(".")
    if style == "sh":
        return script(replace(middling(), fix=RECORDS[example]))
    if example == "mended":
        return conversation()
    words = style.split("-")
    return fix_text(RECORDS[example], width=int(width), colour="colour" in words, utf8="ascii" not in words)


@pytest.mark.parametrize("name", CAPTURES)
def test_a_fix_looks_as_captured(name: str) -> None:
    found = captured(name)
    if REWRITE:
        (GOLDEN / name).write_bytes(found)
    assert found == (GOLDEN / name).read_bytes()


def test_every_golden_file_belongs_to_a_test() -> None:
    names = {path.name for path in GOLDEN.iterdir() if ".fix" in path.name or ".sh." in path.name}
    assert names == set(CAPTURES)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("width", [1, 40, 80, 200])
def test_nothing_acts_on_the_terminal_and_no_line_is_too_long(name: str, width: int) -> None:
    record = RECORDS[name]
    found = fix_text(record, width=width, colour=False, utf8=True).decode()
    assert {each for each in found if unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp", "Cs"}} <= {"\n"}
    assert max(map(len, found.splitlines())) <= max(width, 20)
    assert fix_text(record, width=width, colour=False, utf8=False).isascii()
    coloured = fix_text(record, width=width, colour=True, utf8=True)
    assert SGR.sub(b"", coloured).decode() == found
    assert {code for codes in SGR.findall(coloured) for code in codes.split(b";")} <= {b"0", b"1", b"2", b"31"}


def test_a_report_ends_with_what_was_done_and_the_score_before_and_after() -> None:
    shown = replace(middling(), fix=APPLIED)
    for quiet in (False, True):
        text = terminal(shown, width=80, colour=False, utf8=True, verbose=False, quiet=quiet).decode()
        assert "✓ net.ipv4.tcp_tw_reuse 2 → 1, read back 1" in text
        assert f"measured again: 70 → {shown.score.value}" in text


@pytest.mark.parametrize("record", [None, *RECORDS.values()])
def test_a_script_is_one_that_a_shell_can_read(record: FixRecord | None, tmp_path: Path) -> None:
    bad = finding(HOSTILE, Verdict.WARN, HOSTILE, fix=by_hand(HOSTILE, HOSTILE, "echo a; rm x"))
    text = script(replace(report([bad]), fix=record))
    file = tmp_path / "plan.sh"
    file.write_bytes(text)
    done = subprocess.run(["sh", "-n", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert b"\n#   echo a; rm x\n" in text
    for line in text.decode().splitlines():
        assert "\x1b" not in line


def test_a_script_for_another_root_does_not_write_to_that_of_the_running_system(tmp_path: Path) -> None:
    made = replace(report([]), fix=PLANNED)
    text = script(replace(made, target=replace(made.target, root="/mnt\ntouch evil"))).decode()
    assert "for the tree /mnt\\ntouch evil: chroot TREE sh < this file\n" in text
    (tmp_path / "sysctl").symlink_to("/bin/true")
    safe = text.replace("/etc/sysctl.d", str(tmp_path / "written")).replace("/proc/1/root", "/")
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh"], input=safe, cwd=tmp_path, env=path, check=False, capture_output=True, text=True)
    assert (done.returncode, "for this system: vdscheck --fix" in done.stderr) == (2, True)
    assert [each.name for each in tmp_path.iterdir()] == ["sysctl"]
    hidden = text.replace("/etc/sysctl.d", str(tmp_path / "written")).replace("/proc/1/root", "/proc/1/none")
    done = subprocess.run(["sh"], input=hidden, cwd=tmp_path, env=path, check=False, capture_output=True, text=True)
    assert (done.returncode, "cannot be looked at: unmount /proc below TREE" in done.stderr) == (2, True)
    assert [each.name for each in tmp_path.iterdir()] == ["sysctl"]
    assert "/proc/1/root" not in script(made).decode()


def test_a_script_says_why_a_fix_would_be_refused_where_it_was_made() -> None:
    text = script(replace(report([]), fix=replace(PLANNED, detail="a reason\nid"))).decode()
    assert "# a reason\\nid\n" in text


def test_a_script_quotes_what_it_did_not_make_itself(tmp_path: Path) -> None:
    wanted = "1; touch evil; '$(touch evil)'"
    evil = replace(CHANGES[1], key="a.b", wanted=wanted, before="`touch evil`", why="x\ntouch evil")
    text = script(replace(report([]), fix=replace(PLANNED, changes=(evil,), left_alone=())))
    stub = tmp_path / "sysctl"
    stub.write_text("#!/bin/sh\nexit 0\n")
    stub.chmod(0o755)
    safe = text.replace(b"/etc/sysctl.d", str(tmp_path).encode())
    subprocess.run(
        ["sh"], input=safe, cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False, capture_output=True
    )
    assert not (tmp_path / "evil").exists()
