"""`--fix`, `--dry-run`, `undo` as their users meet them: net keys of the real kernel, in namespaces of their own."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.test_cli import SLOW
from tests.lab.container import run_in_container
from tests.lab.product import product_tree
from tests.support import boot_hosts
from tests.support.fix_namespace import in_namespace, place_of_the_journal, prelude
from tests.support.program import environment, plugin, vdscheck, wait_for
from vdscheck.cli import reference

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")

SCHEMA = json.loads(reference.schema())
OLD = [
    "net.core.somaxconn = 128",
    "net.ipv4.conf.all.rp_filter = 0",
    "net.ipv4.tcp_slow_start_after_idle = 1",
    "net.ipv4.tcp_tw_reuse = 2",
]
NEW = [
    "net.core.somaxconn = 4096",
    "net.ipv4.conf.all.rp_filter = 2",
    "net.ipv4.tcp_slow_start_after_idle = 0",
    "net.ipv4.tcp_tw_reuse = 1",
]


def valid(text: str) -> dict[str, Any]:
    found = dict(json.loads(text))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return found


def parts(script: str, **more: Any) -> tuple[list[str], str]:
    """What a script wrote on standard output between its lines of dashes, and on standard error."""
    done = in_namespace(script, **more)
    return [part.strip() for part in done.stdout.split("----\n")], done.stderr


@pytest.mark.covered
def test_a_fix_a_second_one_and_an_undo(tmp_path: Path) -> None:
    found, said = parts(
        """
        vdscheck --json --passive --only 'sysctl.*'; echo ----
        fix --yes --json; code >&2; echo ----
        keys; cat /etc/sysctl.d/90-vdscheck.conf; echo ----
        ls -l --time-style=full-iso /etc/sysctl.d /var/lib/vdscheck/journal > before
        fix --yes --json; code >&2; echo ----
        ls -l --time-style=full-iso /etc/sysctl.d /var/lib/vdscheck/journal | diff before - ; echo ----
        vdscheck undo --list; echo ----
        vdscheck undo; code >&2; echo ----
        keys; ls /etc/sysctl.d; echo ----
        vdscheck --json --passive --only 'sysctl.*'; echo ----
        vdscheck undo; code >&2; vdscheck undo --list
        """
    )
    first, fixed, again, last = (valid(found[number]) for number in (0, 1, 3, 8))
    assert (first["fix"], fixed["fix"]["outcome"], again["fix"]["outcome"]) == (None, "applied", "nothing-to-do")
    assert fixed["fix"]["score_before"] == first["score"]["value"]
    assert fixed["score"]["value"] == fixed["fix"]["score_promised"] > first["score"]["value"]
    changes = {each["key"]: (each["before"], each["wanted"], each["after"]) for each in fixed["fix"]["changes"]}
    assert changes["net.ipv4.tcp_tw_reuse"] == ("2", "1", "1")
    assert found[2].splitlines()[:4] == NEW
    assert "net.ipv4.tcp_tw_reuse = 1" in found[2].splitlines()[4:]
    assert "net.core.somaxconn = 4096" not in found[2].splitlines()[4:]
    assert found[4] == ""
    assert [line.split()[:2] for line in found[5].splitlines()] == [[fixed["fix"]["id"], "held"]]
    assert "all of it is given back" in found[6]
    assert found[7].splitlines() == OLD
    verdicts = [[(each["id"], each["subject"], each["verdict"]) for each in one["findings"]] for one in (first, last)]
    assert verdicts[0] == verdicts[1]
    assert found[9].splitlines()[0] == "nothing to undo: every fix has been given back"
    assert said.split("\n") == ["code 0"] * 4 + [""]


def test_a_plan_changes_nothing_and_its_script_does_the_same(tmp_path: Path) -> None:
    found, said = parts(
        """
        printf 'vm.swappiness = 60' > /etc/sysctl.d/90-vdscheck.conf
        vdscheck --dry-run --passive --only 'sysctl.*' -o sh=plan.sh; code >&2; echo ----
        keys; ls /etc/sysctl.d /var/lib/vdscheck; echo ----
        cat plan.sh; echo ----
        sh -eu plan.sh; code; echo ----
        keys; grep -v '^#' /etc/sysctl.d/90-vdscheck.conf; ls -A /etc/sysctl.d; echo ----
        fix --json; echo ----
        sh -eu plan.sh; code
        """
    )
    shown = found[0]
    assert "FIX  4 changes; nothing is changed yet" in shown
    assert "net.ipv4.tcp_tw_reuse               2    2           1" in shown
    assert "writes /etc/sysctl.d/90-vdscheck.conf" in shown
    assert found[1].splitlines()[:4] == OLD
    assert found[1].endswith("/etc/sysctl.d:\n90-vdscheck.conf\n\n/var/lib/vdscheck:")
    assert found[2].startswith("#!/bin/sh\n")
    assert (found[3], found[6]) == ("code 0", "code 0")
    assert found[4].splitlines()[:4] == NEW
    kept = ["vm.swappiness = 60"] + [line for line in NEW if "somaxconn" not in line]
    assert found[4].splitlines()[4:] == [*kept, "90-vdscheck.conf"]
    assert valid(found[5])["fix"]["outcome"] == "nothing-to-do"
    assert said == "code 0\n"


OWN_LINES = "vm.swappiness = 60{0}net.ipv4.tcp_tw_reuse = 2{0}net.core.rmem_max = 7{0}"


@pytest.mark.parametrize("end", ["\\r", "\\000", "\\r\\n"])
def test_the_script_of_a_plan_leaves_a_file_whose_lines_it_does_not_know(end: str) -> None:
    found, said = parts(
        f"""
        printf '{OWN_LINES.format(end)}' > /etc/sysctl.d/90-vdscheck.conf; cp /etc/sysctl.d/90-vdscheck.conf before
        fix --dry-run -o sh=plan.sh; echo ----
        sh plan.sh; code; keys; cmp before /etc/sysctl.d/90-vdscheck.conf && ls -A /etc/sysctl.d
        """
    )
    assert found[1].splitlines() == ["code 3", *OLD, "90-vdscheck.conf"]
    assert "end in CR or NUL, which sed does not know: vdscheck --fix; nothing was changed" in said


@pytest.mark.parametrize(
    ("spelled", "again"),
    [
        ("net.ipv4.tcp_tw_reuse = 2", "sh plan.sh"),
        ("  -net/ipv4/tcp_tw_reuse=2", ""),
        ("-net.ipv4.tcp_tw_reuse =0", ""),
    ],
)
def test_what_a_plan_says_takes_its_script_back_gives_the_lines_that_were_there(spelled: str, again: str) -> None:
    found, _ = parts(
        f"""
        printf '%s\\n' '# ours' '{spelled}' 'vm.swappiness = 60' > /etc/sysctl.d/90-vdscheck.conf
        cp /etc/sysctl.d/90-vdscheck.conf before
        fix --dry-run -o sh=plan.sh; echo ----
        sh plan.sh; code; {again}
        keys; sed -n '/^# To take it back:$/,$ s/^# //p' plan.sh | grep -E '^(sysctl|LC_ALL)' > back.sh; echo ----
        sh -eu back.sh > /dev/null; code; keys; grep . /etc/sysctl.d/90-vdscheck.conf | diff before -
        """
    )
    assert found[1].splitlines() == ["code 0", *NEW]
    assert found[2].splitlines() == ["code 0", *OLD]


def test_the_script_of_a_plan_keeps_owner_and_mode_of_our_file() -> None:
    found, _ = parts(
        """
        printf 'vm.swappiness = 60' > /etc/sysctl.d/90-vdscheck.conf; chmod 600 /etc/sysctl.d/90-vdscheck.conf
        fix --dry-run -o sh=plan.sh; echo ----
        echo old > /etc/sysctl.d/.vdscheck-new; chmod 666 /etc/sysctl.d/.vdscheck-new
        sh plan.sh; code; stat -c '%a %u %n' /etc/sysctl.d/* /etc/sysctl.d/.v*
        grep -c old /etc/sysctl.d/90-vdscheck.conf
        """
    )
    assert found[1].splitlines() == ["code 0", "600 0 /etc/sysctl.d/90-vdscheck.conf", "0"]


def test_a_new_file_of_the_script_and_of_a_fix_lets_in_nobody_whom_the_folder_lets_in() -> None:
    entries = "0200000001000700ffffffff0200070001fa000004000500ffffffff10000700ffffffff20000500ffffffff"
    given = f"system.posix_acl_default 0x{entries}"
    found, _ = parts(
        f"""
        "$PYTHON" -c 'import os, sys
os.setxattr("/etc/sysctl.d", sys.argv[1], bytes.fromhex(sys.argv[2][2:]))' {given}
        fix --dry-run -o sh=plan.sh; echo ----
        sh plan.sh; code; stat -c '%a %n' /etc/sysctl.d/*
        setpriv --reuid 64001 --clear-groups sh -c 'echo x >> /etc/sysctl.d/90-vdscheck.conf' 2>/dev/null || echo no
        echo ----
        chmod 600 /etc/sysctl.d/90-vdscheck.conf
        sysctl -q -w net.ipv4.tcp_tw_reuse=2; sed -i /tcp_tw_reuse/d /etc/sysctl.d/90-vdscheck.conf
        fix --yes > /dev/null; code; stat -c '%a %n' /etc/sysctl.d/*
        setpriv --reuid 64001 --clear-groups cat /etc/sysctl.d/90-vdscheck.conf 2>/dev/null || echo no
        """
    )
    assert found[1].splitlines() == ["code 0", "644 /etc/sysctl.d/90-vdscheck.conf", "no"]
    assert found[2].splitlines() == ["code 0", "600 /etc/sysctl.d/90-vdscheck.conf", "no"]


def test_the_script_of_a_plan_changes_nothing_that_somebody_changed_since() -> None:
    found, said = parts(
        """
        fix --dry-run -o sh=plan.sh; echo ----
        sysctl -q -w net.ipv4.conf.all.rp_filter=1; sh plan.sh; code; keys; ls -A /etc/sysctl.d; echo ----
        sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.tcp_tw_reuse=1; sh plan.sh; code; keys
        """
    )
    changed = [line.replace("rp_filter = 0", "rp_filter = 1") for line in OLD]
    assert found[1].splitlines() == ["code 3", *changed]
    assert "net.ipv4.conf.all.rp_filter is 1 now, and was 0 when the plan was made" in said
    assert found[2].splitlines() == ["code 0", *NEW]


@pytest.mark.parametrize(
    "open_to_others",
    [
        "chown 64001 /etc/sysctl.d",
        "chmod 777 /etc/sysctl.d",
        "chgrp 64001 /etc/sysctl.d; chmod 775 /etc/sysctl.d",
        "touch $OURS; chown 64001 $OURS",
        "ln -s $PWD/secret $OURS",
        """mkdir -m 777 theirs; mkdir theirs/d; mount -t tmpfs -o mode=755 none /mnt; cp -r /etc/. /mnt
        mount --bind /mnt /etc; rm -r /etc/sysctl.d; ln -s $PWD/theirs/d /etc/sysctl.d""",
    ],
)
def test_the_script_of_a_plan_changes_nothing_where_others_can_write(open_to_others: str) -> None:
    found, said = parts(
        f"""
        echo secret > secret; chmod 600 secret; OURS=/etc/sysctl.d/90-vdscheck.conf
        fix --dry-run -o sh=plan.sh; echo ----
        {open_to_others}; ln -s $PWD/secret /etc/sysctl.d/.vdscheck-new
        sh plan.sh; code; keys; cat secret
        """
    )
    assert found[1].splitlines() == ["code 3", *OLD, "secret"]
    assert "nothing was changed" in said


@pytest.mark.parametrize(
    ("options", "code", "outcome"),
    [
        ("", 0, "declined"),
        ("--min-score 100", 1, "declined"),
        ("--yes --min-score 100", 0, "applied"),
        ("--dry-run --fail-on fail", 1, "planned"),
        ("--yes --dry-run", 0, "planned"),
        ("--yes --only sysctl.persistence", 0, "applied"),
    ],
)
def test_the_exit_code_is_the_reports_own_where_nothing_was_tried(options: str, code: int, outcome: str) -> None:
    found, said = parts(f"fix --json {options}; code >&2; echo ----\nkeys")
    report = valid(found[0])
    assert (report["fix"]["outcome"], said) == (outcome, f"code {code}\n")
    if outcome != "applied":
        assert found[1].splitlines() == OLD
        assert {each["outcome"] for each in report["fix"]["changes"]} == {"planned"}


@pytest.mark.parametrize(
    ("obstacle", "why"),
    [
        ("mount -o remount,ro /etc/sysctl.d", "Read-only file system"),
        ("touch /etc/sysctl.d/90-vdscheck.conf; chattr +i /etc/sysctl.d/90-vdscheck.conf", "Operation not permitted"),
        ("mkdir /etc/sysctl.d/90-vdscheck.conf", "is no regular file"),
        ("mount -o remount,ro /var/lib/vdscheck", "Read-only file system"),
        ("mount -t tmpfs -o size=4k,mode=755 none /etc/sysctl.d; head -c 4096 /dev/zero > /etc/sysctl.d/x", "No space"),
        ("mount -o bind,ro /proc/sys/net /proc/sys/net; mount -o remount,bind,ro /proc/sys/net", "Read-only"),
    ],
)
def test_what_stands_in_the_way_leaves_everything_as_it_was(obstacle: str, why: str) -> None:
    found, said = parts(f"{obstacle}; fix --yes --json; code >&2; echo ----\nkeys; ls -A /etc/sysctl.d")
    report = valid(found[0])
    assert report["fix"]["outcome"] in {"refused", "given-back"}
    assert why in report["fix"]["detail"]
    assert said == "code 3\n"
    assert found[1].splitlines()[:4] == OLD
    assert ".vdscheck-new" not in found[1]


@pytest.mark.parametrize("room", ["size=4k", "nr_inodes=4"])
def test_a_disk_with_room_for_only_one_state_of_an_entry_is_full_before_anything_is_changed(room: str) -> None:
    found, said = parts(
        f"mount -t tmpfs -o {room},mode=755 none /var/lib/vdscheck; fix --yes --json; code >&2; echo ----\nkeys"
    )
    fix = valid(found[0])["fix"]
    assert (fix["outcome"], said, found[1].splitlines()) == ("refused", "code 3\n", OLD)
    assert "No space left on device" in fix["detail"]


@pytest.mark.parametrize(
    ("how", "code", "outcome"), [("error=EAGAIN", 4, "undecided"), ("signal=TERM:when=1", 143, "declined")]
)
def test_a_run_that_ends_before_its_plan_says_what_became_of_the_fix(how: str, code: int, outcome: str) -> None:
    found, said = parts(
        f"""
        strace -f -o /dev/null -e trace=clone -e inject=clone:{how} \
          "$PYTHON" -m vdscheck --fix --yes --json --passive --only 'sysctl.*'; code >&2; echo ----
        keys
        """
    )
    fix = valid(found[0])["fix"]
    assert (fix["outcome"], said, found[1].splitlines()) == (outcome, f"code {code}\n", OLD)
    assert fix["detail"] == "the run was ended before anything was planned"


def test_a_second_fix_at_once_is_refused_in_one_line(tmp_path: Path) -> None:
    hold = (
        "import fcntl,os,time; f=os.open('/var/lib/vdscheck/lock',os.O_RDWR|os.O_CREAT,0o600); fcntl.flock(f,2); "
        "open('held','w').close(); time.sleep(60)"
    )
    found, said = parts(
        f"""
        "$PYTHON" -c "{hold}" & holder=$!
        while [ ! -e held ]; do sleep 0.05; done
        fix --yes --json; code >&2; cat /proc/$holder/comm; kill $holder; echo ----
        keys; echo ----
        echo $holder
        """
    )
    report, name = found[0].splitlines()
    who = f"process {found[2]}, {name}"
    assert valid(report)["fix"]["detail"] == f"another vdscheck is changing this host ({who}): wait until it has ended"
    assert (said.splitlines()[0], found[1].splitlines()) == ("code 3", OLD)


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
@pytest.mark.parametrize("at", ["write:1", "write:2", "write:4", "fsync:4", "renameat:2"])
def test_a_signal_at_any_step_gives_everything_back(name: str, code: int, at: str) -> None:
    call, number = at.split(":")
    found, said = parts(
        f"""
        strace -o /dev/null -e trace={call} -e inject={call}:signal={name}:when={number} \
          "$PYTHON" -m vdscheck --fix --yes --json --passive --only 'sysctl.*'; code >&2; echo ----
        keys; ls -A /etc/sysctl.d; vdscheck undo --list
        """
    )
    report = valid(found[0])
    assert said == f"code {code}\n"
    assert report["run"]["complete"] is False
    assert report["fix"]["outcome"] == "given-back"
    assert found[1].splitlines()[:4] == OLD
    assert "given-back" in found[1].splitlines()[4]


def test_without_root_the_plan_is_shown_with_the_command() -> None:
    found, said = parts(
        """
        setpriv --reuid 12345 --regid 12345 --clear-groups \
          "$PYTHON" -m vdscheck --fix --passive --only 'sysctl.*' --json
        code >&2; echo ----
        keys
        """
    )
    report = valid(found[0])
    assert report["fix"]["outcome"] == "planned"
    assert report["fix"]["detail"] == "only root may set them: sudo vdscheck --fix --passive --only 'sysctl.*' --json"
    assert {each["key"] for each in report["fix"]["changes"]} == {line.partition(" ")[0] for line in OLD}
    assert (said, found[1].splitlines()) == ("code 0\n", OLD)


def test_a_run_of_any_kind_says_that_a_fix_was_ended_in_the_middle() -> None:
    found, _ = parts(
        """
        strace -o /dev/null -e trace=renameat -e inject=renameat:signal=KILL:when=2 \
          "$PYTHON" -m vdscheck --fix --yes --json --passive --only 'sysctl.*'; echo ----
        vdscheck --json --passive --only sysctl.somaxconn; echo ----
        vdscheck --fix --dry-run --json --passive --only sysctl.somaxconn; echo ----
        fix --yes --json; echo ----
        vdscheck undo --list
        """
    )
    for number in (1, 2):
        assert any("was ended in the middle" in said for said in valid(found[number])["warnings"])
    report = valid(found[3])
    assert report["fix"]["outcome"] == "applied"
    assert any("it was given back" in said for said in report["warnings"])
    assert [line.split()[1] for line in found[4].splitlines()] == ["held", "given-back"]


@pytest.mark.covered
def test_an_undo_that_leaves_something_ends_with_3() -> None:
    found, said = parts("fix --yes -q >/dev/null; sysctl -q -w net.ipv4.tcp_tw_reuse=0; vdscheck undo; code >&2; keys")
    assert said == "code 3\n"
    assert "net.ipv4.tcp_tw_reuse: it is 0 now, which somebody set since: it stays" in found[0]
    assert found[0].splitlines()[-4:] == [*OLD[:3], "net.ipv4.tcp_tw_reuse = 0"]


def test_an_undo_of_nothing_is_no_failure(tmp_path: Path) -> None:
    boot_hosts.host(tmp_path)
    for words, said in (((), "nothing to undo: there is no journal"), (("--list",), "the journal is empty")):
        done = vdscheck("undo", "--root", str(tmp_path), *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(said)
    assert not (tmp_path / "var").exists()


def test_an_undo_without_root_says_who_may() -> None:
    found, said = parts(
        """
        fix --yes -q > /dev/null
        setpriv --reuid 12345 --regid 12345 --clear-groups "$PYTHON" -m vdscheck undo --list; code; echo ----
        setpriv --reuid 12345 --regid 12345 --clear-groups "$PYTHON" -m vdscheck undo; code; echo ----
        keys
        """
    )
    assert (found[0].splitlines()[0].split()[1], found[0].splitlines()[-1]) == ("held", "code 0")
    assert (found[1], said) == ("code 3", "vdscheck: only root may give it back: sudo vdscheck undo\n")
    assert found[2].splitlines() == NEW


def test_a_value_is_given_back_by_hand_with_what_the_journal_says() -> None:
    found, _ = parts(
        r"""
        strace -o /dev/null -e trace=renameat -e inject=renameat:signal=KILL:when=3 \
          "$PYTHON" -m vdscheck --fix --yes --json --passive --only 'sysctl.*' > /dev/null
        keys; echo ----
        cd /var/lib/vdscheck/journal
        entry=$(ls -t | head -n 1)
        grep '"state": "begun"' "$entry"; grep '"before": null' "$entry"
        sed -n 's/^ *"key": "\(.*\)",$/\1/p' "$entry" > keys
        sed -n 's/^ *"before": "\(.*\)",$/\1/p' "$entry" > before
        paste -d= keys before | while read -r line; do sysctl -q -w "$line"; done; rm keys before
        rm /etc/sysctl.d/90-vdscheck.conf; rm -f /etc/sysctl.d/.vdscheck-new
        keys; ls -A /etc/sysctl.d; echo ----
        vdscheck undo; code
        """
    )
    assert found[0].splitlines() == NEW
    assert found[1].splitlines() == ['"state": "begun",', '   "before": null,', *OLD]
    assert found[2].splitlines()[-1] == "code 0"


@pytest.mark.parametrize(("words", "imported"), [("", False), ("--dry-run", True)])
def test_a_run_without_a_plan_and_a_journal_imports_nothing_of_it(words: str, *, imported: bool) -> None:
    found, _ = parts(
        f"""
        "$PYTHON" -X importtime -m vdscheck {words} --json --passive --only sysctl.somaxconn 2>times >report
        grep -oE 'vdscheck[.]fix[.](journal|transaction|plan)' times | sort -u
        """
    )
    names = ["vdscheck.fix.journal", "vdscheck.fix.plan", "vdscheck.fix.transaction"]
    assert found[0].split() == (names if imported else [])


def test_yes_without_fix_is_a_wrong_call() -> None:
    done = vdscheck("--yes")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "vdscheck: --yes goes with --fix\n")


# A terminal


def on_a_terminal(answer: bytes, *words: str, interrupt: bool = False) -> tuple[int, str]:
    """Run a fix on a terminal, answer its question, and show the keys at the end."""
    script = prelude() + 'trap : INT; "$PYTHON" -m vdscheck --fix --passive --only "sysctl.*" "$@"; code; keys'
    with place_of_the_journal():
        child, terminal = pty.fork()
        if child == 0:
            os.environ.update(environment(PYTHON=sys.executable, TERM="xterm", LC_ALL="C.UTF-8", COLUMNS="80"))
            os.execvp("unshare", ["unshare", "-mn", "sh", "-c", script, "sh", *words])
        said, answered, until = b"", False, time.monotonic() + 60
        while time.monotonic() < until:
            if not select.select([terminal], [], [], 0.5)[0]:
                continue
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                break
            said += piece
            if b"Apply? [y/N]" in said and not answered:
                answered = True
                if interrupt:
                    time.sleep(0.3)
                os.write(terminal, answer)
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.decode().replace("\r\n", "\n")


@pytest.mark.covered
def test_on_a_terminal_the_report_the_plan_the_question_and_the_report_again() -> None:
    _, said = on_a_terminal(b"y\n", "--no-color")
    order = [
        "FAIL     sysctl.somaxconn",
        "FIX  4 changes; nothing is changed yet",
        "Apply? [y/N] y",
        "✓ net.ipv4.tcp_tw_reuse 2 → 1, read back 1",
        "measured again:",
        "code 0",
        NEW[0],
    ]
    places = [said.rfind(text) if text == NEW[0] else said.find(text) for text in order]
    assert -1 not in places, said
    assert places == sorted(places)
    assert said.count("/ 100") == 2


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"yes please\n", b"\x04"])
def test_any_other_answer_changes_nothing(answer: bytes) -> None:
    _, said = on_a_terminal(answer, "-q")
    assert "nothing was changed" in said
    assert "code 0" in said
    assert said.splitlines()[-4:] == OLD


def test_an_interrupted_question_changes_nothing() -> None:
    _, said = on_a_terminal(b"\x03", "-q", interrupt=True)
    assert "code 130" in said
    assert said.splitlines()[-4:] == OLD


# An image, a container


def test_an_image_gets_the_persistent_part_inside_it_alone(tmp_path: Path) -> None:
    root = tmp_path / "image"
    boot_hosts.host(root)
    outside = {path.name: path.stat().st_mtime_ns for path in Path("/etc/sysctl.d").iterdir()}
    done = vdscheck("--fix", "--yes", "--json", "--root", str(root), "--only", "sysctl.*")
    report = valid(done.stdout)
    assert (done.returncode, report["fix"]["outcome"]) == (0, "applied")
    assert report["score"]["value"] == report["fix"]["score_promised"] > report["fix"]["score_before"]
    ours = root / "etc/sysctl.d/90-vdscheck.conf"
    assert "net.ipv4.tcp_tw_reuse = 1\n" in ours.read_text()
    assert [path.name for path in (root / "var/lib/vdscheck/journal").iterdir()] == [f"{report['fix']['id']}.json"]
    assert {path.name: path.stat().st_mtime_ns for path in Path("/etc/sysctl.d").iterdir()} == outside
    assert not Path("/var/lib/vdscheck/journal").exists()
    again = vdscheck("--fix", "--yes", "--json", "--root", str(root), "--only", "sysctl.*")
    assert valid(again.stdout)["fix"]["outcome"] == "nothing-to-do"
    undone = vdscheck("undo", "--root", str(root))
    assert undone.returncode == 0
    assert "as it was before, at the next boot" in undone.stdout
    assert not ours.exists()


def test_a_container_that_owns_no_kernel_is_refused(tmp_path: Path) -> None:
    site = product_tree("bookworm", tmp_path / "site")
    done = run_in_container(
        ["python3", "-m", "vdscheck", "--fix", "--yes", "--json", "--passive", "--only", "sysctl.*"],
        binds={"/site": site},
        env={"PYTHONPATH": "/site"},
        timeout_s=60,
    )
    report = valid(done.stdout)
    assert (done.returncode, report["fix"]["outcome"], done.stderr) == (3, "refused", "")
    assert report["fix"]["detail"].startswith("the kernel is not this machine's own (")


def test_two_real_fixes_at_once_end_in_one_whole_state() -> None:
    found, _ = parts(
        """
        fix --yes --json > 1.json & first=$!
        fix --yes --json > 2.json & second=$!
        wait $first; echo $?; wait $second; echo $?; echo ----
        cat 1.json; echo ----
        cat 2.json; echo ----
        keys; vdscheck undo --list; echo ----
        vdscheck undo; code; keys
        """
    )
    outcomes = sorted(valid(found[number])["fix"]["outcome"] for number in (1, 2))
    assert "applied" in outcomes
    assert set(outcomes) <= {"applied", "refused", "nothing-to-do"}
    assert set(found[0].split()) <= {"0", "3"}
    assert found[3].splitlines()[:4] == NEW
    assert found[3].count("held") == 1
    assert found[4].splitlines()[-4:] == OLD


def test_an_interrupted_measurement_changes_nothing(tmp_path: Path) -> None:
    began = tmp_path / "began"
    begins = SLOW.replace("time.sleep(", f"open({str(began)!r}, 'w').close()\n    time.sleep(")
    with place_of_the_journal():
        script = prelude() + 'exec "$PYTHON" -m vdscheck --fix --yes --json --only "sysctl.*" --only acme.slow'
        process = subprocess.Popen(
            ["unshare", "-mn", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(PYTHON=sys.executable, PYTHONPATH=str(plugin(tmp_path, begins))),
        )
        wait_for(began.exists)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    report = valid(said)
    assert (process.returncode, report["run"]["complete"], report["fix"]["outcome"]) == (130, False, "declined")
