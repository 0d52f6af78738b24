"""What -o names is refused before anything is measured, or gets the whole report and nothing else does."""

import ctypes
import fcntl
import grp  # noqa: F401 - who is another user later cannot import it
import json
import os
import pickle
import pwd  # noqa: F401 - the same
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import dead_mount
from tests.support.fix_namespace import in_namespace
from tests.support.hostile_strings import strings
from tests.support.program import PROGRAM, environment
from tests.support.project import PROJECT
from vdscheck.cli.output import OutputError, places

REPORT = b"the report\n"
OLD = b"an older and longer report\n"
ATTACKER, VICTIM = 41001, 41002
ACL = "system.posix_acl_access"
RENAME_EXCHANGE = 2
STRINGS = strings()


def write(*paths: str | Path, content: bytes = REPORT) -> None:
    """Find all of them, and only then write."""
    for place in places(map(str, paths)):
        place.write(content)


def refusal(*paths: str | Path) -> str:
    """Why nothing is measured."""
    with pytest.raises(OutputError) as refused:
        places(map(str, paths))
    return str(refused.value)


def as_user(user: int, function: Callable[[], Any], *groups: int) -> Any:
    """What a function returns, or raises, when that user calls it."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setgid(user)
            os.setuid(user)
            try:
                said: Any = function()
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                said = error
            os.write(send, pickle.dumps(said))
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as answer:
        said = pickle.loads(answer.read())
    os.waitpid(pid, 0)
    if isinstance(said, BaseException):
        raise said
    return said


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of root that every user can look into; pytest's own lie below one that is closed."""
    with tempfile.TemporaryDirectory(prefix="vdscheck-output-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def made(path: Path, owner: int, mode: int) -> Path:
    """A folder of that user."""
    path.mkdir()
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def file(path: Path, owner: int = 0, mode: int = 0o644, content: bytes = OLD) -> Path:
    path.write_bytes(content)
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def acl_for(user: int, permissions: int) -> bytes:
    """An ACL as the kernel keeps it, with one more user: linux/posix_acl_xattr.h."""
    nobody = 0xFFFFFFFF
    entries = [(0x01, 6, nobody), (0x02, permissions, user), (0x04, 4, nobody), (0x10, 6, nobody), (0x20, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


# What must work


def test_a_new_file_is_the_callers_own_and_as_the_umask_says(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        write(folder / "new.json")
        mine = made(folder / "mine", VICTIM, 0o755)
        as_user(VICTIM, lambda: write(mine / "new.json"))
    finally:
        os.umask(before)
    assert (folder / "new.json").read_bytes() == (mine / "new.json").read_bytes() == REPORT
    assert owner_and_mode(folder / "new.json") == (0, 0, 0o640)
    assert owner_and_mode(mine / "new.json") == (VICTIM, VICTIM, 0o640)
    assert os.listdir(mine) == ["new.json"]


def test_ones_own_file_is_replaced_and_keeps_owner_mode_and_acl(folder: Path) -> None:
    mine = made(folder / "mine", VICTIM, 0o755)
    old = file(mine / "old.json", VICTIM, 0o600)
    inode = old.stat().st_ino
    with_acl = file(mine / "acl.json", VICTIM, 0o660)
    os.setxattr(with_acl, ACL, acl_for(ATTACKER, 4))
    kept = os.getxattr(with_acl, ACL), owner_and_mode(with_acl)
    as_user(VICTIM, lambda: write(old, with_acl))
    assert (old.read_bytes(), owner_and_mode(old)) == (REPORT, (VICTIM, VICTIM, 0o600))
    assert old.stat().st_ino != inode
    assert (os.getxattr(with_acl, ACL), owner_and_mode(with_acl)) == kept
    assert with_acl.read_bytes() == REPORT
    assert sorted(os.listdir(mine)) == ["acl.json", "old.json"]


def test_a_file_without_an_acl_gets_none_from_its_folder(folder: Path) -> None:
    old = file(folder / "old.json", mode=0o600)
    os.setxattr(folder, "system.posix_acl_default", acl_for(ATTACKER, 6))
    write(old, folder / "new.json")
    assert owner_and_mode(old) == (0, 0, 0o600)
    assert ACL not in os.listxattr(old)
    assert ACL in os.listxattr(folder / "new.json")


def test_root_writes_a_new_file_into_a_users_folder_as_root(folder: Path) -> None:
    theirs = made(folder / "theirs", VICTIM, 0o755)
    write(theirs / "report.json")
    write(theirs / "report.json", content=b"again")
    assert (theirs / "report.json").read_bytes() == b"again"
    assert owner_and_mode(theirs / "report.json")[:2] == (0, 0)


def test_root_leaves_a_users_file_in_a_folder_of_roots_to_its_owner(folder: Path) -> None:
    theirs = file(folder / "theirs.json", VICTIM, 0o600)
    write(theirs)
    assert (theirs.read_bytes(), owner_and_mode(theirs)) == (REPORT, (VICTIM, VICTIM, 0o600))


def test_a_file_of_ones_own_in_a_folder_of_somebody_else_is_written_in_place(folder: Path) -> None:
    mine = file(folder / "mine.json", VICTIM, 0o600)
    inode = mine.stat().st_ino
    as_user(VICTIM, lambda: write(mine))
    assert (mine.read_bytes(), owner_and_mode(mine)) == (REPORT, (VICTIM, VICTIM, 0o600))
    assert mine.stat().st_ino == inode
    os.link(mine, folder / "other.json")
    with pytest.raises(OutputError, match="has another name"):
        as_user(VICTIM, lambda: places([str(mine)]))


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6777, 0o1644])
def test_no_setuid_nor_setgid_bit_survives(folder: Path, mode: int) -> None:
    replaced = file(folder / "replaced.json", mode=mode)
    mine = file(folder / "in-place.json", VICTIM, mode)
    write(replaced)
    as_user(VICTIM, lambda: write(mine))
    assert owner_and_mode(replaced)[2] == owner_and_mode(mine)[2] == mode & 0o777


def test_links_of_root_and_ones_own_lead_to_folders(folder: Path) -> None:
    mine = made(folder / "mine", VICTIM, 0o755)
    shared = made(folder / "shared", 0, 0o1777)
    (folder / "by-root").symlink_to(mine)
    as_user(VICTIM, lambda: (shared / "own").symlink_to("../mine"))
    as_user(VICTIM, lambda: write(folder / "by-root/a.json", shared / "own/b.json"))
    assert sorted(os.listdir(mine)) == ["a.json", "b.json"]


# Links


@pytest.mark.parametrize("target", ["passwd", "none", "/dev/null", ".", "other"])
@pytest.mark.parametrize("planted", [True, False], ids=["planted", "one's own"])
def test_a_last_name_that_is_a_link_is_refused(folder: Path, target: str, *, planted: bool) -> None:
    shared, victim = made(folder / "shared", 0, 0o1777), made(folder / "victim", 0, 0o700)
    secret = file(victim / "passwd", content=b"secret")
    (victim / "other").symlink_to("passwd")
    link = shared / "report.json"
    as_user(ATTACKER if planted else 0, lambda: link.symlink_to(os.path.join(victim, target)))
    assert "a symbolic link, which leads to " in refusal(link)
    assert secret.read_bytes() == b"secret"
    assert sorted(os.listdir(victim)) == ["other", "passwd"]
    assert os.listdir(shared) == ["report.json"]


@pytest.mark.parametrize("target", ["/dev/fd/{}", "/proc/self/fd/{}", "by-attacker", "/dev/stderr"])
@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_a_link_that_others_made_leads_to_no_descriptor_of_the_caller(folder: Path, target: str, mode: int) -> None:
    shared, given = made(folder / "shared", 0 if mode & 0o1000 else ATTACKER, mode), file(folder / "given")
    number = os.open(given, os.O_WRONLY)
    os.set_inheritable(number, True)
    as_user(ATTACKER, lambda: (shared / "by-attacker").symlink_to(f"/dev/fd/{number}"))
    link = (folder if target == "by-attacker" else shared) / "report.json"
    aim = shared / target if target == "by-attacker" else target.format(number)
    as_user(0 if target == "by-attacker" else ATTACKER, lambda: link.symlink_to(aim))
    try:
        assert "a symbolic link, which leads to " in refusal(link)
    finally:
        os.close(number)


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777, 0o775])
def test_a_link_on_the_way_that_others_control_is_not_followed(folder: Path, mode: int) -> None:
    theirs, victim = made(folder / "theirs", ATTACKER, mode), made(folder / "victim", 0, 0o755)
    as_user(ATTACKER, lambda: (theirs / "reports").symlink_to(victim))
    assert "a link on the way is not followed" in refusal(theirs / "reports/x.json")
    with pytest.raises(OutputError, match="is not followed"):
        as_user(VICTIM, lambda: places([f"{theirs}/reports/x.json"]))
    (theirs / "by-root").symlink_to(victim)
    assert "a link on the way is not followed" in refusal(theirs / "by-root/x.json")
    assert os.listdir(victim) == []


def test_a_link_of_roots_below_a_folder_that_others_can_exchange_is_not_followed(folder: Path) -> None:
    theirs, victim = made(folder / "theirs", ATTACKER, 0o755), made(folder / "victim", 0, 0o755)
    ours = made(made(theirs / "deep", 0, 0o755) / "ours", 0, 0o755)
    (ours / "out").symlink_to(victim)
    assert "a link on the way is not followed, since " in refusal(ours / "out/x.json")
    assert os.listdir(victim) == []
    # Behind a link that leads out of there from / on, what lies above it counts no more.
    (folder / "good").symlink_to(victim)
    (victim / "further").symlink_to(made(folder / "last", 0, 0o755))
    write(folder / "good/further/x.json")
    assert os.listdir(folder / "last") == ["x.json"]


@pytest.mark.parametrize("way", ["root", "cwd", "fd/3"])
def test_what_another_process_sees_under_a_name_is_not_taken_for_the_same_name_here(folder: Path, way: str) -> None:
    reports = made(folder / "reports", 0, 0o755)
    (reports / "r.json").write_bytes(OLD)
    inside = f"mount -t tmpfs none {reports}; cd {reports}; exec 3<.; echo ready; exec sleep 60"
    with subprocess.Popen(["unshare", "-m", "sh", "-c", inside], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            at = f"/proc/{other.pid}/{way}" + (str(reports) if way == "root" else "")
            assert "leads to what another process sees under /" in refusal(Path(at, "r.json"))
            assert "name it by its own path" in refusal(Path(at, "new.json"))
        finally:
            other.kill()
    assert {each.name: each.read_bytes() for each in reports.iterdir()} == {"r.json": OLD}


def test_a_link_of_ones_own_under_a_second_name_in_a_sticky_folder_is_not_followed(folder: Path) -> None:
    shared, victim = made(folder / "shared", 0, 0o1777), made(folder / "victim", 0, 0o755)
    (folder / "link").symlink_to(victim)
    os.link(folder / "link", shared / "reports", follow_symlinks=False)
    assert "is not followed" in refusal(shared / "reports/x.json")


@pytest.mark.parametrize("by", ["name", "parent"])
def test_a_folder_that_is_exchanged_meanwhile_leads_nowhere_else(folder: Path, by: str) -> None:
    theirs, victim = made(folder / "theirs", ATTACKER, 0o755), made(folder / "victim", 0, 0o755)
    reports = made(theirs / "reports", ATTACKER, 0o755)
    (place,) = places([f"{reports}/report.json"])
    if by == "parent":
        as_user(ATTACKER, lambda: reports.rename(theirs / "before"))
        as_user(ATTACKER, lambda: reports.symlink_to(victim))
        at = theirs / "before"
    else:
        as_user(ATTACKER, lambda: (reports / "report.json").symlink_to(victim / "report.json"))
        at = reports
    with suppress(OutputError):
        place.write(REPORT)
    assert os.listdir(victim) == []
    assert sorted(os.listdir(at)) == ["report.json"]


@contextmanager
def exchanging(one: Path, other: Path, user: int) -> Iterator[None]:
    """Let a user exchange two names as fast as the kernel can: renameat2(2)."""
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    at, names = -100, (os.fsencode(one), os.fsencode(other))
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            while True:
                rename(at, names[0], at, names[1], RENAME_EXCHANGE)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("what", ["the folder", "the file"])
def test_no_race_leads_a_report_elsewhere(folder: Path, what: str) -> None:
    theirs, victim = made(folder / "theirs", ATTACKER, 0o755), made(folder / "victim", 0, 0o755)
    secret = file(victim / "report.json", content=b"secret")
    reports = made(theirs / "reports", ATTACKER, 0o755)
    if what == "the folder":
        one, other, target = reports, theirs / "link", victim
    else:
        one, other, target = reports / "report.json", reports / "link", secret
        as_user(ATTACKER, one.touch)
    as_user(ATTACKER, lambda: other.symlink_to(target))
    outcomes = {"written": 0, "refused": 0}
    with exchanging(one, other, ATTACKER):
        for _ in range(60):
            try:
                write(reports / "report.json")
                outcomes["written"] += 1
            except OutputError:
                outcomes["refused"] += 1
    assert secret.read_bytes() == b"secret"
    assert os.listdir(victim) == ["report.json"]
    assert owner_and_mode(secret) == (0, 0, 0o644)
    assert not [name for name in os.listdir(reports) if name.startswith(".")]
    assert outcomes["refused"] > 0


def test_a_planted_hard_link_costs_the_other_file_nothing(folder: Path) -> None:
    shared, secret = made(folder / "shared", 0, 0o1777), file(folder / "shadow", mode=0o640, content=b"secret")
    os.link(secret, shared / "report.json")
    write(shared / "report.json")
    assert (secret.read_bytes(), owner_and_mode(secret)) == (b"secret", (0, 0, 0o640))
    assert ((shared / "report.json").read_bytes(), owner_and_mode(shared / "report.json")) == (REPORT, (0, 0, 0o640))


def test_a_name_may_be_anything(folder: Path) -> None:
    names = {os.fsencode(text.encode("utf-8", "replace").decode()).translate(None, b"/\0")[:200] for text in STRINGS}
    paths = [os.fsdecode(name) for name in sorted(names - {b"", b".", b".."})][::8]
    assert len(paths) > 50
    write(*(f"{folder}/{name}" for name in paths))
    assert sorted(os.listdir(folder)) == sorted(paths)
    assert {(folder / name).read_bytes() for name in paths} == {REPORT}


# Somebody else's


@pytest.mark.parametrize(
    ("owner", "mode"),
    [(0, 0o1777), (ATTACKER, 0o755), (0, 0o775), (0, 0o777), (VICTIM, 0o700)],
    ids=["sticky", "his own folder", "a group's", "everybody's", "a third one's"],
)
def test_root_refuses_a_file_of_somebody_else_where_others_can_make_names(folder: Path, owner: int, mode: int) -> None:
    at = made(folder / "at", owner, mode)
    if mode == 0o775:
        os.chown(at, 0, ATTACKER)
    for path in (file(at / "x.json", ATTACKER, 0o666), at / "fifo"):
        if path.name == "fifo":
            os.mkfifo(path)
            os.chown(path, ATTACKER, ATTACKER)
        said = refusal(path)
        assert f"it belongs to user {ATTACKER}, and its folder " in said
        assert said.endswith(": remove it, or name another file")
    assert (at / "x.json").read_bytes() == OLD


def test_root_sees_an_acl_of_the_folder(folder: Path) -> None:
    at = made(folder / "at", 0, 0o755)
    os.setxattr(at, ACL, acl_for(ATTACKER, 7))
    file(at / "x.json", VICTIM)
    assert f"user {ATTACKER}, by an ACL" in refusal(at / "x.json")


def test_a_user_refuses_what_he_cannot_leave_to_its_owner(folder: Path) -> None:
    mine = made(folder / "mine", VICTIM, 0o777)
    theirs, roots = file(mine / "a.json", ATTACKER, 0o666), file(mine / "b.json", 0, 0o666)
    of_a_group = file(mine / "c.json", VICTIM)
    os.chown(of_a_group, VICTIM, ATTACKER)

    def said(path: Path, *groups: int) -> str:
        with pytest.raises(OutputError) as refused:
            as_user(VICTIM, lambda: places([str(path)]), *groups)
        return str(refused.value)

    assert f"it belongs to user {ATTACKER}: remove it" in said(theirs)
    assert "it belongs to user root: remove it" in said(roots)
    assert f"the group {ATTACKER}, which is none of yours" in said(of_a_group)
    as_user(VICTIM, lambda: write(of_a_group), ATTACKER)
    assert owner_and_mode(of_a_group)[:2] == (VICTIM, ATTACKER)


# What can be known before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none/x.json", "there is no folder {0}/none"),
        ("a.json/x.json", "{0}/a.json is not a folder"),
        ("to-nowhere/x.json", "there is no folder {0}/to-nowhere"),
        ("", "that is a folder; name a file in it"),
        (".", "that is a folder"),
        ("sub", "that is a folder"),
        ("sub/..", "that is a folder"),
        ("socket", "that is a socket"),
        ("x" * 256, "File name too long"),
        ("y" * 256 + "/x.json", "File name too long"),
        ("loop/x.json", "too many links"),
        ("/sys/kernel/x.json", "permission denied"),
    ],
)
def test_what_cannot_be_written_is_known_before(folder: Path, name: str, said: str) -> None:
    file(folder / "a.json")
    (folder / "sub").mkdir()
    (folder / "to-nowhere").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        assert said.format(folder) in refusal(os.path.join(folder, name))


@pytest.mark.parametrize("path", ["/proc/x", "/proc/self/x", "/sys/x", "/proc/version", "/dev/fd/977", "/dev/stdin/x"])
def test_kernel_trees_hold_no_reports(path: str) -> None:
    assert refusal(path)


@pytest.mark.parametrize("path", ["/proc/1/comm", "/proc/sys/net/core/somaxconn", "/sys/kernel/profiling"])
def test_a_file_of_the_kernel_is_set_by_no_report(path: str) -> None:
    before = Path(path).read_bytes()
    assert "a file of the kernel's" in refusal(path)
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize("flag", ["i", "a"])
def test_what_is_immutable_or_append_only_is_refused(folder: Path, flag: str) -> None:
    at = made(folder / "at", 0, 0o755)
    old = file(at / "old.json")
    for path, names in ((old, [old]), (at, [old, at / "new.json"])):
        subprocess.run(["chattr", f"+{flag}", path], check=True)
        try:
            for name in names:
                # In place an immutable folder lets a file of its own be written; an append-only one lets nothing go.
                if (path, name, flag) == (at, old, "i"):
                    write(name)
                    assert old.read_bytes() == REPORT
                else:
                    assert "-o" in refusal(name)
        finally:
            subprocess.run(["chattr", f"-{flag}", path], check=True)
    assert os.listdir(at) == ["old.json"]


def test_one_file_named_twice_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    file(folder / "old.json")
    os.link(folder / "old.json", folder / "hard.json")
    (folder / "sub").mkdir()
    (folder / "again").symlink_to(".")
    os.mkfifo(folder / "pipe")
    for one, other in (
        ("new.json", f"{folder}/new.json"),
        ("new.json", "./sub/..//new.json"),
        ("new.json", "again/new.json"),
        ("old.json", "hard.json"),
        ("pipe", "again/pipe"),
        ("/dev/stdout", "/dev/fd/1"),
    ):
        assert "are one file: name two" in refusal(one, "between.json", other)
    places(["new.json", "sub/new.json", "/dev/null", "/dev/null"])


# What fails only while writing


def test_what_fails_while_writing_leaves_the_old_file_and_nothing_else(folder: Path) -> None:
    replaced, in_place = file(folder / "replaced.json"), file(folder / "in-place.json", VICTIM)

    def limited(path: Path) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(OutputError) as failed:
            write(path, content=b"x" * 100_000)
        return str(failed.value)

    assert as_user(0, lambda: limited(replaced)).endswith("File too large")
    assert as_user(0, lambda: limited(folder / "new.json")).endswith("File too large")
    assert as_user(VICTIM, lambda: limited(in_place)).endswith("File too large")
    assert replaced.read_bytes() == in_place.read_bytes() == OLD
    assert sorted(os.listdir(folder)) == ["in-place.json", "replaced.json"]


def test_what_is_planted_meanwhile_is_not_followed(folder: Path) -> None:
    shared, victim = made(folder / "shared", 0, 0o1777), file(folder / "victim", content=b"secret")
    (place,) = places([f"{shared}/report.json"])
    as_user(ATTACKER, lambda: (shared / "report.json").symlink_to(victim))
    with pytest.raises(OutputError, match="it has become a symbolic link"):
        place.write(REPORT)
    assert victim.read_bytes() == b"secret"
    assert os.listdir(shared) == ["report.json"]


# Streams


def test_a_pipe_with_a_reader_is_written_straight(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert fcntl.fcntl(1, fcntl.F_GETFD) == 0
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    (place,) = places([str(folder / "pipe")])
    place.write(REPORT)
    assert os.read(reader, 100) == REPORT
    os.close(reader)
    with pytest.raises(OutputError, match="nobody reads from this pipe"):
        place.write(REPORT)


def test_a_descriptor_of_our_own_is_no_place(folder: Path) -> None:
    ours = os.open(folder, os.O_TMPFILE | os.O_RDWR)
    try:
        (folder / "planted").symlink_to(f"/proc/self/fd/{ours}")
        for path in (f"/dev/fd/{ours}", f"/proc/{os.getpid()}/fd/{ours}", folder / "planted"):
            assert "it is not open for writing" in refusal(path)
        assert os.fstat(ours).st_size == 0
    finally:
        os.close(ours)


# The program


def bash(line: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    line = line.replace("vdscheck", " ".join(PROGRAM) + " --passive --only sysctl.somaxconn")
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, timeout=60, check=False, cwd=cwd, env=environment()
    )


@pytest.mark.covered
def test_what_whoever_started_us_left_open_is_written_to(folder: Path) -> None:
    (folder / "link").symlink_to("/dev/stdout")
    done = bash(
        "vdscheck -q -o json=link -o json=/dev/stderr -o json=>(cat >given) -o json=/dev/fd/7 7>seven; wait", folder
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["findings"], "it takes the place of the text"
    assert done.stdout == done.stderr == (folder / "given").read_bytes() == (folder / "seven").read_bytes()
    assert (folder / "link").is_symlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-o json=planted", "a symbolic link"),
        ("-o json=x.json -o text=./x.json", "are one file"),
        ("--json -o json=x.json >x.json", "standard output goes to the same file"),
        ("--json -o json=/dev/stdout", "write to standard output already: leave one out"),
        ("--format text -o json=/dev/fd/1", "write to standard output already: leave one out"),
        ("-o json=x.json 2>>x.json", ""),
        ("-o json=/dev/fd/9 9>x >x", "standard output goes to the same file"),
        ("--json -o text=/dev/fd/9 >x 9>&1", "standard output goes to the same file"),
        ("-o json=/dev/stderr 2>x >x", ""),
        ("-o json=/dev/fd/9 9>x 2>x", ""),
        ("-o json=" + "x" * 256, "File name too long"),
        ("-o json=/proc/x", "no file can be made in its folder"),
    ],
)
def test_what_is_refused_is_2_before_anything_is_measured(folder: Path, words: str, said: str) -> None:
    victim = file(folder / "victim", content=b"secret")
    (folder / "planted").symlink_to(victim)
    done = bash(f"vdscheck {words}", folder)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()
    assert victim.read_bytes() == b"secret"
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


MOUNTS = """
mkdir small ro; mount -t tmpfs -o size=64k none small; mount -t tmpfs none ro
echo old > small/old.json; echo old > ro/old.json; echo old > bound; touch small/bound.json
mount --bind bound small/bound.json; mount -o remount,ro none ro; echo rw > writable; mount --bind writable ro/old.json
report() { vdscheck --passive -q --only sysctl.somaxconn -o "json=$1" >/dev/null; code; }
echo "--- bound"; report small/bound.json; head -c 18 bound; echo; stat -c %h bound
echo "--- bound on a read-only one"; report ro/old.json; head -c 18 writable; echo
echo "--- read-only"; report ro/new.json
echo "--- full"; cat bound > before; head -c 1000000 /dev/zero > small/filling 2>/dev/null
report small/old.json; cat small/old.json; report small/new.json
ls -A small
"""


@pytest.mark.covered
def test_mounts_of_a_file_and_full_or_read_only_file_systems() -> None:
    done = in_namespace(MOUNTS)
    parts = dict(part.split("\n", 1) for part in done.stdout.split("--- ")[1:])
    assert parts["bound"] == 'code 0\n{"schema_version":\n1\n'
    assert parts["bound on a read-only one"] == 'code 0\n{"schema_version":\n'
    assert parts["read-only"] == "code 2\n"
    assert "ro/new.json: Read-only file system" in done.stderr
    assert parts["full"] == "code 4\nold\ncode 4\nbound.json\nfilling\nold.json\n"
    assert done.stderr.count("No space left on device") == 2


@pytest.mark.parametrize(
    "call", ["fsync", *(pytest.param(call, marks=pytest.mark.slow) for call in ("renameat", "fchmod"))]
)
def test_an_error_that_only_the_last_steps_tell_leaves_the_old_file(tmp_path: Path, call: str) -> None:
    old = file(tmp_path / "old.json")
    words = ["--passive", "-q", "--only", "sysctl.somaxconn", "-o", f"json={old}"]
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=EIO"]
    done = subprocess.run([*trace, *PROGRAM, *words], capture_output=True, timeout=60, check=False, env=environment())
    assert (done.returncode, done.stderr.decode()) == (4, f"vdscheck: -o {old}: Input/output error\n")
    assert old.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["old.json"]


@dead_mount.needs_fuse
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_folder_that_never_answers_holds_up_no_signal(folder: Path, number: signal.Signals) -> None:
    words = [*PROGRAM, "--passive", "--only", "sysctl.somaxconn", "-o", f"json={folder}/x.json"]
    with dead_mount.popen(folder, words) as running:
        wait_until(lambda: "request_wait_answer" in waits_of_children(running.pid))
        running.send_signal(number)
        stdout, _ = running.communicate(timeout=20)
    assert (running.returncode, stdout) == (128 + number, "")


@pytest.mark.slow
@dead_mount.needs_fuse
def test_a_folder_that_never_answers_is_2(folder: Path) -> None:
    words = [*PROGRAM, "--passive", "--only", "sysctl.somaxconn", "-o", f"json={folder}/sub/x.json"]
    with dead_mount.popen(folder, words) as running:
        said = running.communicate(timeout=60)
    assert (running.returncode, *said) == (2, "", f"vdscheck: -o {folder}/sub/x.json: does not answer within 5 s\n")


def waits_of_children(pid: int) -> list[str]:
    """The function of the kernel in which each child waits: proc(5), `wchan`; fs/fuse/dev.c has that for an answer."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            found.append(Path(f"/proc/{child}/wchan").read_text())
    return found


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_an_owner_that_a_user_namespace_does_not_know_is_kept(folder: Path) -> None:
    old = file(folder / "old.json", VICTIM, 0o666)
    script = "import sys; from vdscheck.cli.output import places; places([sys.argv[1]])[0].write(b'the report')"
    words = ["unshare", "-U", "--map-root-user", sys.executable, "-c", script, str(old)]
    subprocess.run(words, check=True, env=environment(PYTHONPATH=str(PROJECT)), cwd="/")
    assert (old.read_bytes(), owner_and_mode(old)) == (b"the report", (VICTIM, VICTIM, 0o666))
