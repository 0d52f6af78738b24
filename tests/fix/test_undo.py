"""What `undo` does, says and claims: only what it saw, one document each, and also with a full disk."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import boot_hosts
from tests.support.fix_namespace import in_namespace
from tests.support.program import plugin, vdscheck
from vdscheck.cli import reference

SCHEMA = json.loads(reference.schema())
OLD = "net.core.somaxconn = 128"
NEW = "net.core.somaxconn = 4096"
REUSE = "net.ipv4.tcp_tw_reuse"
LATE = "w /proc/sys/net/ipv4/tcp_tw_reuse - - - - 1"
OTHER_BOOT = (
    'sed -i "s/\\"boot_id\\": \\".*\\"/\\"boot_id\\": \\"00000000-0000-4000-8000-000000000000\\"/" '
    "/var/lib/vdscheck/journal/*.json"
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")


def valid(text: str) -> dict[str, Any]:
    found = dict(json.loads(text))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert text.count("\n") <= 1, "one document in one line"
    return found


def parts(script: str) -> list[str]:
    """What a script wrote between its lines of dashes."""
    done = in_namespace(script)
    return [part.strip("\n") for part in done.stdout.split("----\n")]


def changes(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["key"]: each for each in document["undo"]["changes"]}


# What is claimed


@needs_root
@pytest.mark.covered
def test_an_undo_says_of_each_key_what_it_found_gave_back_and_what_the_next_boot_brings() -> None:
    found = parts(
        """
        fix --yes -q > /dev/null
        vdscheck undo --json; code >&2; echo ----
        keys; echo ----
        vdscheck undo --json; echo ----
        vdscheck undo --list --json
        """
    )
    document = valid(found[0])
    undo = document["undo"]
    assert (document["schema_version"], document["tool"]["name"], undo["outcome"]) == (1, "vdscheck", "given-back")
    each = changes(document)[REUSE]
    assert {name: each[name] for name in ("kind", "file", "before", "found", "given_back", "after_boot")} == {
        "kind": "sysctl",
        "file": "/etc/sysctl.d/90-vdscheck.conf",
        "before": "2",
        "found": "1",
        "given_back": True,
        "after_boot": "2",
    }
    somaxconn = changes(document)["net.core.somaxconn"]
    assert (somaxconn["file"], somaxconn["before"], somaxconn["after_boot"]) == (None, "128", "4096")
    assert "4096 after the next boot" in somaxconn["why"]
    assert found[1].splitlines()[0] == OLD
    nothing = valid(found[2])["undo"]
    assert (nothing["outcome"], nothing["entry"], nothing["changes"]) == ("nothing-to-do", None, [])
    listed = valid(found[3])["journal"]
    assert [(each["entry"], each["state"]) for each in listed["entries"]] == [(undo["entry"], "undone")]
    assert {each["key"]: each["wanted"] for each in listed["entries"][0]["changes"]}[REUSE] == "1"


@needs_root
@pytest.mark.parametrize(
    ("move", "where"),
    [
        ("mv /etc/sysctl.d/90-vdscheck.conf /etc/sysctl.d/99-mine.conf", "/etc/sysctl.d/99-mine.conf:"),
        pytest.param(
            "cp /etc/sysctl.d/90-vdscheck.conf /etc/sysctl.d/10-mine.conf",
            "/etc/sysctl.d/10-mine.conf:",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            f"mount -t tmpfs none /usr/lib/tmpfiles.d; echo '{LATE}' > /usr/lib/tmpfiles.d/x.conf",
            "/usr/lib/tmpfiles.d/x.conf",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["moved", "copied", "late"],
)
def test_what_sets_a_key_again_at_boot_is_named(move: str, where: str) -> None:
    found = parts(f"fix --yes -q > /dev/null; {move}; vdscheck undo --json > said; code; cat said; vdscheck undo")
    code, said, *_ = found[0].splitlines()
    document = valid(said)
    each = changes(document)[REUSE]
    assert (code, document["undo"]["outcome"], each["given_back"], each["after_boot"]) == ("code 3", "left", False, "1")
    assert where in each["why"]
    assert "again at each boot" in each["why"]


LATER: dict[str, tuple[str, str | None, bool]] = {
    "another line since": (f"echo {REUSE} = 0 > $D/50-a.conf", "0", True),
    "a line that is there no more": ("rm $D/50-b.conf", "2", True),
    "a line of ours that is somebody's now": (f"sed -i 's/{REUSE} = 1/{REUSE} = 0/' $D/90-vdscheck.conf", "0", False),
    "a later file": (f"echo {REUSE} = 0 > $D/95-a.conf", "0", True),
    "a file that cannot be read": ("head -c 5000000 /dev/zero > $D/60-a.conf", None, False),
}


@needs_root
@pytest.mark.parametrize("case", LATER)
def test_after_a_reboot_a_value_comes_back_as_the_files_have_it_by_then(case: str) -> None:
    since, value, given_back = LATER[case]
    found = parts(
        f"""
        D=/etc/sysctl.d; echo {REUSE} = 0 > $D/50-b.conf; sysctl -q -w {REUSE}=0
        fix --yes -q > /dev/null; {since}; {OTHER_BOOT}
        vdscheck undo --json > said; code; cat said; sysctl -n {REUSE}
        """
    )
    code, said, now = found[0].splitlines()
    each = changes(valid(said))[REUSE]
    assert (code, each["given_back"]) == (f"code {0 if given_back else 3}", given_back)
    assert now == ("1" if value is None else value)
    assert "as the boot would have left it without the fix" in each["why"] or not given_back


@needs_root
@pytest.mark.covered
def test_what_cannot_be_read_is_left_and_can_be_undone_later() -> None:
    found = parts(
        f"""
        fix --yes -q > /dev/null
        cd /var/lib/vdscheck; "$PYTHON" -c "import socket; socket.socket(socket.AF_UNIX).bind('mute')"
        mount --bind mute /proc/sys/{REUSE.replace(".", "/")}
        vdscheck undo --json > said; code; cat said; echo ----
        umount /proc/sys/{REUSE.replace(".", "/")}
        vdscheck undo > /dev/null; code; keys
        """
    )
    code, said = found[0].splitlines()
    document = valid(said)
    each = changes(document)[REUSE]
    assert (code, document["undo"]["outcome"], each["given_back"]) == ("code 3", "left", False)
    assert "cannot be read" in each["why"]
    assert (found[1].splitlines()[0], found[1].splitlines()[-1]) == ("code 0", f"{REUSE} = 2")


@needs_root
@pytest.mark.slow
def test_after_a_reboot_the_value_is_as_the_boot_left_it() -> None:
    found = parts(f"fix --yes -q > /dev/null; {OTHER_BOOT}\nvdscheck undo --json; echo ----\nkeys")
    said = changes(valid(found[0]))
    assert said["net.core.somaxconn"]["why"] == "4096, as the boot left it"
    assert "as the boot would have left it without the fix" in said[REUSE]["why"]
    assert found[1].splitlines() == [NEW, *found[1].splitlines()[1:3], f"{REUSE} = 2"]


@needs_root
@pytest.mark.slow
def test_an_entry_that_names_no_file_does_not_make_its_line_go_away() -> None:
    edit = (
        "import glob, json; path, = glob.glob('/var/lib/vdscheck/journal/*.json'); entry = json.load(open(path)); "
        "entry['files'] = []; json.dump(entry, open(path, 'w'))"
    )
    found = parts(f'fix --yes -q > /dev/null; "$PYTHON" -c {shlex.quote(edit)}; vdscheck undo --json; code')
    said, code = found[0].splitlines()
    document = valid(said)
    assert (document["undo"]["outcome"], code) == ("left", "code 3")
    assert "/etc/sysctl.d/90-vdscheck.conf:" in changes(document)[REUSE]["why"]


@needs_root
@pytest.mark.slow
def test_what_cannot_be_seen_of_the_next_boot_is_not_claimed(tmp_path: Path) -> None:
    blind = plugin(
        tmp_path,
        "from vdscheck.probes.sysctl.boot import predict\nobject.__setattr__(predict.boot_truth, 'deadline_s', 0.0)",
    )
    found = parts(
        f"cp -r {shlex.quote(str(blind))} plugins; chmod 755 . plugins; fix --yes -q > /dev/null\n"
        "PYTHONPATH=$PWD/plugins vdscheck undo --json; code"
    )
    said, code = found[0].splitlines()
    each = changes(valid(said))[REUSE]
    assert (each["given_back"], each["after_boot"], code) == (True, None, "code 0")
    assert "what the next boot brings is not known" in each["why"]


# When it cannot


@needs_root
@pytest.mark.covered
def test_an_undo_in_another_network_namespace_says_only_that_it_is_refused() -> None:
    found = parts(
        """
        fix --yes -q > /dev/null
        unshare -n "$PYTHON" -m vdscheck undo > said 2> why; code; cat said; echo ----; cat why
        """
    )
    assert found[0] == "code 3"
    assert "was made in another network namespace" in found[1]
    assert len(found[1].splitlines()) == 1


@needs_root
@pytest.mark.slow
def test_an_undo_that_is_refused_is_one_document_as_well() -> None:
    found = parts(
        """
        fix --yes -q > /dev/null
        user() { setpriv --reuid 12345 --regid 12345 --clear-groups "$@"; }
        user "$PYTHON" -m vdscheck undo --json; code; echo ----
        user "$PYTHON" -m vdscheck undo --list --json; code; echo ----
        flock -x -n --no-fork /var/lib/vdscheck/lock sh -c 'echo > held; exec sleep 600' & holder=$!
        while [ ! -e held ]; do sleep 0.05; done
        vdscheck undo --json; code; kill $holder; wait 2>/dev/null; echo ----
        chmod 777 /var/lib/vdscheck/journal
        vdscheck undo --json; code; vdscheck undo --list --json; code; echo ----
        keys
        """
    )
    for number, why in ((0, "only root may give it back"), (2, "another vdscheck is changing this host (process ")):
        said, code = found[number].splitlines()
        undo = valid(said)["undo"]
        assert (code, undo["outcome"], undo["changes"]) == ("code 3", "refused", [])
        assert undo["detail"].startswith(why)
    listed, code = found[1].splitlines()
    assert (len(valid(listed)["journal"]["entries"]), code) == (1, "code 0")
    undo, code, listed, list_code = found[3].splitlines()
    assert (code, list_code, valid(undo)["undo"]["outcome"]) == ("code 3", "code 3", "refused")
    assert "can be written by others" in valid(listed)["journal"]["detail"]
    assert found[4].splitlines()[0] == NEW


def test_an_undo_of_nothing_is_one_document(tmp_path: Path) -> None:
    boot_hosts.host(tmp_path)
    for words in ((), ("--list",)):
        done = vdscheck("undo", "--root", str(tmp_path), "--json", *words)
        assert (done.returncode, done.stderr) == (0, "")
        document = valid(done.stdout)
        assert document.get("undo", {}).get("outcome", "nothing-to-do") == "nothing-to-do"
        assert document.get("journal", {}).get("entries", []) == []


@needs_root
@pytest.mark.parametrize("state", ["held", pytest.param("begun", marks=pytest.mark.slow)])
def test_a_full_disk_stops_no_undo(state: str) -> None:
    found = parts(
        f"""
        mount -t tmpfs -o size=64k,mode=755 none /var/lib/vdscheck
        fix --yes -q > /dev/null
        sed -i 's/"state": "held"/"state": "{state}"/' /var/lib/vdscheck/journal/*.json
        rm -f /var/lib/vdscheck/lock
        cat /dev/zero > /var/lib/vdscheck/full 2>/dev/null
        vdscheck undo --json 2>said; code; cat said; echo ----
        keys; ls /etc/sysctl.d; grep -o '"state": ".*"' /var/lib/vdscheck/journal/*.json; echo ----
        vdscheck undo > /dev/null 2>&1; code; keys; echo ----
        rm /var/lib/vdscheck/full; vdscheck undo --json; code; vdscheck undo --list; echo ----
        fix --yes --json > report.json; code; vdscheck undo > /dev/null; code; keys
        grep -o '"outcome":"[a-z-]*","detail":"[^"]*"' report.json
        """
    )
    document, code, told = found[0].splitlines()
    report = valid(document)
    assert (report["undo"]["outcome"], code) == ("given-back", "code 0")
    assert "No space left on device" in report["warnings"][0]
    assert "once more" in told
    assert found[1].splitlines()[0] == OLD
    assert found[1].splitlines()[4:] == [f'"state": "{state}"'], found[1]
    assert found[2].splitlines()[:2] == ["code 0", OLD]
    again, code, listed = found[3].splitlines()
    assert (valid(again)["undo"]["outcome"], valid(again)["warnings"], code) == ("given-back", [], "code 0")
    assert listed.split()[1] == ("undone" if state == "held" else "given-back")
    assert found[4].splitlines()[:3] == ["code 0", "code 0", OLD], found[4]


@needs_root
@pytest.mark.parametrize("where", [pytest.param("/var/lib/vdscheck", marks=pytest.mark.slow), "/etc/sysctl.d"])
@pytest.mark.parametrize(
    ("how", "fill"),
    [
        ("size=8k", "cat /dev/zero > full"),
        pytest.param("size=1m,nr_inodes=3", "touch 1 2", marks=pytest.mark.slow),
    ],
)
def test_a_fix_on_a_full_disk_is_refused_before_anything_is_written(where: str, how: str, fill: str) -> None:
    found = parts(
        f"""
        mount -t tmpfs -o mode=755,{how} none {where}
        (cd {where} && {fill}) 2>/dev/null
        ls -AR /etc/sysctl.d /var/lib/vdscheck > before
        strace -f -qq -o writes -P /proc/sys/net/core/somaxconn -e trace=openat \\
          "$PYTHON" -m vdscheck --fix --yes --json --passive --only 'sysctl.*'; code; echo ----
        grep -c O_WRONLY writes; keys; ls -AR /etc/sysctl.d | diff - before | grep '^<'
        find /var/lib/vdscheck -name '*.json' -o -name '.vdscheck-new'
        """
    )
    report, code = found[0].splitlines()
    assert (json.loads(report)["fix"]["outcome"], code) == ("refused", "code 3")
    assert "No space left on device" in json.loads(report)["fix"]["detail"]
    assert found[1].splitlines()[:2] == ["0", OLD]
    assert len(found[1].splitlines()) == 5, found[1]


# A drop-in of somebody else


@needs_root
@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param("chown 12345:12345 $file", "belongs to user 12345", marks=pytest.mark.slow),
        ("chmod 666 $file", "can be written by others"),
        pytest.param("chmod 664 $file", "can be written by others", marks=pytest.mark.slow),
        pytest.param("chown 12345 $file; chmod 600 $file", "belongs to user 12345", marks=pytest.mark.slow),
    ],
)
def test_a_drop_in_that_somebody_else_can_write_is_refused(make: str, why: str) -> None:
    found = parts(
        f"""
        file=/etc/sysctl.d/90-vdscheck.conf; echo 'kernel.panic = 10' > $file; {make}
        fix --yes --json; code; echo ----
        keys; cat $file; find /var/lib/vdscheck -type f; echo ----
        chown root: $file; chmod 644 $file; fix --yes -q > /dev/null; code; {make}
        vdscheck undo 2>&1; code; keys; echo ----
        chown root: $file; chmod 644 $file; vdscheck undo > /dev/null; code; keys; cat $file
        """
    )
    report, code = found[0].splitlines()
    fix = json.loads(report)["fix"]
    assert (fix["outcome"], code) == ("refused", "code 3")
    assert why in fix["detail"]
    assert [*found[1].splitlines()[:1], *found[1].splitlines()[4:]] == [OLD, "kernel.panic = 10"]
    undone = found[2].splitlines()
    assert undone[0] == "code 0"
    assert any(why in line for line in undone)
    assert "code 3" in undone
    assert found[3].splitlines()[:2] == ["code 0", OLD]
    assert found[3].splitlines()[-1] == "kernel.panic = 10"


BROKEN = {
    "raises": "raise RuntimeError('x')",
    "ends": "import os; os._exit(3)",
    "taken": "from vdscheck.fixes.sysctl import KernelSettings\nmine = KernelSettings()",
}


@needs_root
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_and_keeps_nobody_from_undoing(tmp_path: Path, name: str) -> None:
    broken = plugin(tmp_path, BROKEN[name])
    found = parts(
        f"""
        cp -r {shlex.quote(str(broken))} plugins; chmod 755 . plugins
        fix --yes -q > /dev/null; code
        PYTHONPATH=$PWD/plugins fix --yes -q > /dev/null 2>&1; code
        PYTHONPATH=$PWD/plugins vdscheck undo 2>said >/dev/null; code
        grep -c "^vdscheck: passed over: .*acme" said
        PYTHONPATH=$PWD/plugins vdscheck undo --list 2>/dev/null | grep -c undone
        PYTHONPATH=$PWD/plugins vdscheck --version > /dev/null; code
        """
    )
    assert found[0].splitlines() == ["code 0", "code 2", "code 0", "1", "1", "code 0"], found


SLOW = 'strace -f -o /dev/null -e trace=unlinkat -e inject=unlinkat:delay_enter=2500000 "$PYTHON" -m vdscheck'
"""Removing our file takes its time."""
STRUCK = """
        struck() {
          while ! eval "$1"; do sleep 0.05; done
          shift
          for name in "$@"; do kill -$name $(pgrep -P $run); sleep 1.4; done
          wait $run; code
          sysctl -n net.core.somaxconn; ls /etc/sysctl.d
          sed -n 's/.*"state": "\\(.*\\)".*/\\1/p' /var/lib/vdscheck/journal/*
        }
"""


@needs_root
@pytest.mark.parametrize(("names", "code"), [("TERM TERM", 143), ("HUP TERM", 129), ("TERM TERM TERM", 143)])
def test_an_undo_that_has_begun_is_whole_however_often_it_is_interrupted(names: str, code: int) -> None:
    found = parts(
        f"""
        {STRUCK}
        fix --yes -q > /dev/null
        {SLOW} undo > said 2>&1 & run=$!
        struck '[ "$(sysctl -n net.core.somaxconn)" = 128 ]' {names}
        """
    )
    assert found[0].splitlines() == [f"code {code}", "128", "undone"], found


@needs_root
def test_a_fix_that_gives_back_is_whole_however_often_it_is_interrupted() -> None:
    found = parts(
        f"""
        {STRUCK}
        {SLOW} --fix --yes -q --passive --only 'sysctl.*' > said 2>&1 & run=$!
        struck '[ -e /etc/sysctl.d/90-vdscheck.conf ]' TERM TERM
        """
    )
    assert found[0].splitlines() == ["code 143", "128", "given-back"], found


CONF = "/proc/sys/net/ipv4/conf"


@needs_root
@pytest.mark.parametrize("since", ["nothing", "an interface", "a file", "by hand", "a hardening", "unreadable"])
def test_after_a_reboot_what_forwarding_had_brought_comes_back_with_it(since: str) -> None:
    """The boot set it by the drop-in, and so moved the rest; what somebody set since stays."""
    found = parts(
        f"""
        ip link add d1 type bridge
        echo 0 > {CONF}/all/accept_redirects
        state() {{ cd {CONF}; cat all/accept_redirects default/forwarding d1/forwarding ../ip_forward; cd "$OLDPWD"; }}
        before=$(state)
        set -- --fix --yes --passive -q --profile kubernetes-node --only sysctl.ip-forward
        "$PYTHON" -m vdscheck "$@" > said 2>&1; code
        {OTHER_BOOT}
        case '{since}' in
          'an interface') ip link add d3 type bridge ;;
          'a file') echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/95-own.conf ;;
          'by hand') echo 1 > {CONF}/all/accept_redirects ;;
          'a hardening') echo 'net.ipv4.conf.all.accept_redirects = 0' > /etc/sysctl.d/60-cis.conf ;;
          'unreadable') touch "$(printf '/etc/sysctl.d/99-\\377.conf')" ;;
        esac
        vdscheck undo > undone; code
        cat undone >&2
        after=$(state); [ "$before" = "$after" ] && echo same || echo $after
        cat {CONF}/d3/forwarding 2>/dev/null || :
        """
    )
    expected = {
        # What was set by hand before is not what a boot gives.
        "nothing": ["code 0", "code 0", "1 0 0 0"],
        "an interface": ["code 0", "code 0", "1 0 0 0", "0"],
        "a hardening": ["code 0", "code 0", "same"],
        "unreadable": ["code 0", "code 3", "0 1 1 1"],
        # Forwarding is on without the fix as well, which is told, and so is what it brings.
        "a file": ["code 0", "code 3", "0 1 1 1"],
        "by hand": ["code 0", "code 0", "1 0 0 0"],
    }
    assert found[0].splitlines() == expected[since], found


@needs_root
def test_a_setting_that_something_covers_is_not_one_that_is_gone() -> None:
    found = parts(
        """
        fix --yes -q > /dev/null; code
        mount -t tmpfs none /proc/sys/net
        vdscheck undo 2>&1; code
        umount /proc/sys/net
        vdscheck undo > /dev/null; code; keys | head -1
        """
    )
    lines = found[0].splitlines()
    assert (lines[0], lines[-2:]) == ("code 0", ["code 0", OLD]), found
    assert "code 3" in lines
    assert "tmpfs is mounted over /proc/sys/net; so it is not known whether it is given back" in " ".join(
        found[0].split()
    )


@needs_root
@pytest.mark.parametrize("how", ["undo", "interrupted"])
def test_what_forwarding_brings_for_interfaces_and_redirects_comes_back(how: str) -> None:
    """Turning it off turns redirects on, and each interface's own forwarding off: net/ipv4/devinet.c."""
    end = "vdscheck undo" if how == "undo" else "true"
    stop = "" if how == "undo" else "strace -o /dev/null -e trace=renameat -e inject=renameat:signal=TERM:when=2"
    found = parts(
        f"""
        ip link add d1 type bridge; ip link add d2.7 type bridge
        echo 1 > {CONF}/d1/forwarding; echo 0 > {CONF}/all/accept_redirects
        state() {{ cat {CONF}/all/accept_redirects {CONF}/*/forwarding /proc/sys/net/ipv4/ip_forward | tr '\\n' ' '; }}
        before=$(state)
        set -- --fix --yes --passive -q --profile kubernetes-node --only sysctl.ip-forward
        {stop} "$PYTHON" -m vdscheck "$@" >said 2>&1; code
        [ {how} = interrupted ] || sysctl -n net.ipv4.ip_forward
        {end} > undone; code
        after=$(state); [ "$before" = "$after" ] && echo same || echo "$before $after"
        """
    )
    expected = ["code 0", "1", "code 0", "same"] if how == "undo" else ["code 143", "code 0", "same"]
    assert found[0].splitlines() == expected, found
