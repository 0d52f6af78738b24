"""A file is read only where nobody but the caller and root can have written it: the judge is an attempt to write."""

import functools
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.alone import CLONE_NEWNS, CLONE_NEWUSER, mounted, unshare
from tests.support.boot_trees import seed
from tests.support.dead_mount import needs_fuse
from tests.support.served_mount import serve
from tests.support.users import ATTACKER, COLLEAGUE, GROUP, PASSWD, VICTIM, User, called_as
from vdscheck.model.absence import UnavailableError
from vdscheck.target import trusted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")

GOOD, EVIL = b"# good\n", b"# evil\n"
NOBODY_NAMED = 0xFFFFFFFF
OWNER, USER, GROUP_OF_FILE, A_GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def set_acl(path: Path, *entries: tuple[int, int, int]) -> None:
    """Give a file the ACL of these entries (tag, permissions, id), those that each ACL must have included."""
    least = {OWNER: 7, GROUP_OF_FILE: 5, MASK: 7, OTHER: 5} | {tag: bits for tag, bits, _ in entries}
    whole = [(tag, bits, NOBODY_NAMED) for tag, bits in least.items() if tag not in {USER, A_GROUP}]
    whole += [entry for entry in entries if entry[0] in {USER, A_GROUP}]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in sorted(whole))
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of root's that every user can reach, whatever is above the tests' own."""
    with tempfile.TemporaryDirectory(prefix="vdscheck-trusted-", dir="/var/lib") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def made(path: Path, uid: int = 0, gid: int = 0, mode: int = 0o644, content: bytes | None = GOOD) -> Path:
    """A file, or without content a folder."""
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def outcome(path: Path | str, uid: int = VICTIM.uid) -> str:
    """What reading a file comes to, for the user of that number: its content, or why not."""
    try:
        return trusted.read(str(path), uid).decode()
    except trusted.UntrustedError as error:
        return f"untrusted: {error}"
    except UnavailableError as error:
        return f"unavailable: {error.absent.detail}"


# Who can write: the table against attempts


class Case(NamedTuple):
    """A folder and a file in it, and who may do what to them."""

    owners: tuple[int, int]
    groups: tuple[int, int]
    modes: tuple[int, int]
    acls: tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int, int], ...]]


def cases(count: int, caller: User) -> list[Case]:
    """Drawn from what people have, and from what nobody should have."""
    draw = random.Random(seed())
    users, groups = [0, *[caller.uid] * 4, 1002], [0, *[caller.gid] * 4, 1002, 2000]
    folder_modes = [0o755, 0o755, 0o775, 0o777, 0o1777, 0o1775, 0o700, 0o2775]
    file_modes = [0o644, 0o644, 0o664, 0o666, 0o600, 0o646, 0o444]
    named = [(USER, bits, uid) for bits in (5, 7) for uid in (0, 1001, 1002)]
    named += [(A_GROUP, bits, gid) for bits in (5, 7) for gid in (1001, 2000)]
    acls: list[tuple[tuple[int, int, int], ...]] = [()] * 10
    acls += [(entry, (MASK, mask, 0), (OTHER, 5, 0)) for entry in named for mask in (5, 7)]

    def pair(values: list[Any]) -> tuple[Any, Any]:
        return draw.choice(values), draw.choice(values)

    return [
        Case(pair(users), pair(groups), (draw.choice(folder_modes), draw.choice(file_modes)), pair(acls))
        for _ in range(count)
    ]


def built(folder: Path, number: int, case: Case) -> Path:
    above = made(folder / str(number), mode=0o755, content=None)
    file = made(above / "file")
    for path, owner, group, mode, acl in zip(
        (above, file), case.owners, case.groups, case.modes, case.acls, strict=True
    ):
        os.chown(path, owner, group)
        path.chmod(mode)
        if acl:
            set_acl(path, *acl)
    return file


class Held(NamedTuple):
    """A folder and a file in it, open as O_PATH: whether the way to them is closed makes no difference then."""

    folder: int
    file: int

    def writes(self) -> bool:
        """Whether the user that calls this can change what is read there, by any of the ways that there are."""
        folder, file = f"/proc/self/fd/{self.folder}", f"/proc/self/fd/{self.file}"

        def one_more_name() -> None:  # as it may have been put there: moved out of a folder of his, or linked
            os.mkdir(f"{folder}/new")
            os.rmdir(f"{folder}/new")

        ways = (
            lambda: os.close(os.open(file, os.O_WRONLY)),
            lambda: os.chmod(file, os.stat(file).st_mode),
            lambda: os.chmod(folder, os.stat(folder).st_mode),
            one_more_name,
        )
        return any(map(succeeds, ways))


def succeeds(way: Callable[[], Any]) -> bool:
    try:
        way()
    except OSError:
        return False
    return True


@pytest.fixture
def held(folder: Path) -> Iterator[Callable[[Path], Held]]:
    """Opens a file and its folder."""
    descriptors: list[int] = []

    def opened(path: Path) -> int:
        descriptors.append(os.open(path, os.O_PATH))
        return descriptors[-1]

    yield lambda file: Held(opened(file.parent), opened(file))
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("caller", [VICTIM, User(0, 0)], ids=["user", "root"])
def test_what_others_can_write_is_refused_and_all_else_is_read(
    folder: Path, held: Callable[[Path], Held], caller: User
) -> None:
    drawn = cases(300, caller)
    files = [built(folder, number, case) for number, case in enumerate(drawn)]
    opened = [held(file) for file in files]
    others = {VICTIM, ATTACKER, COLLEAGUE} - {caller}
    can_write = [called_as(user, lambda: [each.writes() for each in opened]) for user in sorted(others)]
    can_read = called_as(caller, lambda: [succeeds(file.read_bytes) for file in files])
    found = called_as(caller, lambda: [outcome(file, caller.uid) for file in files])
    counts = {"untrusted": 0, "read": 0}
    for number, case in enumerate(drawn):
        said = found[number]
        if not can_read[number]:
            assert said != GOOD.decode(), case
        elif any(each[number] for each in can_write):
            assert said.startswith("untrusted"), (case, said)
            counts["untrusted"] += 1
        else:
            assert said == GOOD.decode(), (case, said)
            counts["read"] += 1
    assert min(counts.values()) > 20, counts


# The way


def link(path: Path, target: str | Path, uid: int = VICTIM.uid) -> Path:
    path.symlink_to(target)
    os.chown(path, uid, uid, follow_symlinks=False)
    return path


def test_links_of_one_s_own_are_followed_wherever_they_lead(folder: Path) -> None:
    made(folder / "mine", *VICTIM[:2], 0o755, None)
    made(folder / "mine/file", *VICTIM[:2])
    made(folder / "mine/deep", *VICTIM[:2], 0o755, None)
    link(folder / "mine/deep/up", "../file")
    link(folder / "mine/whole", folder / "mine/deep/up")
    link(folder / "mine/through", "deep/../../mine/./deep//up", uid=0)
    for name in ("file", "deep/up", "whole", "through"):
        assert outcome(folder / "mine" / name) == GOOD.decode()
    link(folder / "mine/loop", "loop")
    link(folder / "mine/gone", "nothing/at/all")
    link(folder / "mine/under", "file/x")
    assert "leads through too many links" in outcome(folder / "mine/loop")
    assert outcome(folder / "mine/gone").endswith("No such file or directory")
    assert outcome(folder / "mine/under").endswith("Not a directory")


def test_what_is_no_file_is_not_read(folder: Path) -> None:
    made(folder / "mine", *VICTIM[:2], 0o755, None)
    os.mkfifo(folder / "mine/fifo")
    for path in (folder / "mine", folder / "mine/fifo", "/dev/null", "/"):
        assert "is not a regular file" in outcome(path)
    with made(folder / "mine/large").open("r+b") as large:
        large.truncate(100 << 20)
    assert "is larger than 1,048,576 bytes" in outcome(folder / "mine/large")


def test_a_link_or_a_folder_of_others_on_the_way_is_refused(folder: Path) -> None:
    made(folder / "pub", mode=0o1777, content=None)
    made(folder / "pub/theirs", *ATTACKER[:2], 0o755, None)
    made(folder / "mine", *VICTIM[:2], 0o755, None)
    made(folder / "mine/file", *VICTIM[:2])
    made(folder / "pub/theirs/file", *VICTIM[:2])
    link(folder / "pub/planted", folder / "mine/file", ATTACKER.uid)
    link(folder / "pub/theirs/link", folder / "mine/file")
    link(folder / "mine/around", folder / "pub/theirs/../../mine/file")
    link(folder / "mine/by-theirs", folder / "pub/theirs/link")
    for path, step in (
        ("pub/planted", "pub/planted"),
        ("pub/theirs/file", "pub/theirs"),
        ("pub/theirs/link", "pub/theirs"),
        ("mine/around", "pub/theirs"),
        ("mine/by-theirs", "pub/theirs"),
    ):
        assert outcome(folder / path) == f"untrusted: {folder / step} belongs to another user (1002)"


def test_below_a_sticky_folder_of_root_a_folder_of_one_s_own_is_one_s_own(folder: Path) -> None:
    made(folder / "pub", mode=0o1777, content=None)
    made(folder / "pub/mine", *VICTIM[:2], 0o755, None)
    made(folder / "pub/mine/file", *VICTIM[:2])
    link(folder / "pub/mine/link", "file")
    assert {outcome(folder / "pub/mine" / name) for name in ("file", "link")} == {GOOD.decode()}
    assert "belongs to another user" in outcome(made(folder / "pub/theirs", *ATTACKER[:2]))


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_others_can_have_moved_to_a_sticky_folder_is_refused(folder: Path, what: str) -> None:
    pub = made(folder / "pub", mode=0o1777, content=None)
    theirs = made(folder / "theirs", *ATTACKER[:2], 0o777, None)
    mine = made(folder / "mine", *VICTIM[:2], 0o755, None)
    made(mine / "file", *VICTIM[:2])
    if what == "file":  # that the victim made in a folder of the attacker's
        made(theirs / "planted", *VICTIM[:2])
    else:
        link(theirs / "planted", mine / "file")
    called_as(ATTACKER, lambda: (theirs / "planted").rename(pub / "planted"))
    said = outcome(pub / "planted")
    assert said == f"untrusted: {pub}/planted is in a folder in which others can put files (everybody)"


# Races


def swapping(folder: Path, name: str, one: str, other: str) -> int:
    """Start an attacker who exchanges what has that name for a link to one and to the other; his process."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setgroups([])
        os.setresgid(*[ATTACKER.gid] * 3)
        os.setresuid(*[ATTACKER.uid] * 3)
        while True:
            for target in (one, other):
                os.symlink(target, folder / "new")
                os.rename(folder / "new", folder / name)
    finally:
        os._exit(1)


READS = 2000


@pytest.mark.parametrize(
    ("where", "caller"),
    [("file", User(0, 0)), ("file", VICTIM), ("folder", VICTIM), ("own", VICTIM)],
    ids=["file-root", "file", "folder", "own"],
)
def test_a_link_that_is_exchanged_while_we_walk_never_leads_to_another_s_content(
    folder: Path, where: str, caller: User
) -> None:
    good = made(folder / "good", *caller[:2], 0o755, None)
    made(good / "file", *caller[:2])
    theirs = made(folder / "theirs", *ATTACKER[:2], 0o755, None)
    made(theirs / "file", *ATTACKER[:2], content=EVIL)
    mine = made(folder / "mine", *caller[:2], 0o755, None)
    if where == "file":  # two links: only the ends of the way are root's or the caller's
        path = link(mine / "file", theirs / "link", caller.uid)
        attacker = swapping(theirs, "link", f"{good}/file", f"{theirs}/file")
    elif where == "folder":
        path = link(mine / "folder", theirs / "folder", caller.uid) / "file"
        attacker = swapping(theirs, "folder", str(good), str(theirs))
    else:  # the caller's own link is exchanged by himself: what it leads to is judged each time
        path = mine / "link"
        attacker = swapping(theirs, "link", f"{good}/file", f"{theirs}/file")
        link(path, good / "file", caller.uid)

    def read() -> list[str]:
        found = []
        for number in range(READS if where != "own" else 400):
            if where == "own":
                (mine / "new").symlink_to((good, theirs)[number % 2] / "file")
                (mine / "new").rename(path)
            found.append(outcome(path, caller.uid))
        return found

    try:
        found = called_as(caller, read)
        assert os.waitpid(attacker, os.WNOHANG) == (0, 0)
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
    content = [each for each in found if not each.startswith("untrusted")]
    assert set(content) <= {GOOD.decode()}
    assert len(content) == (200 if where == "own" else 0)


# Groups


@pytest.mark.parametrize(
    ("passwd", "group", "said"),
    [
        (PASSWD, GROUP, None),
        (PASSWD, GROUP.replace("victim:x:1001:", "victim:x:1001:victim"), None),
        (PASSWD, GROUP.replace("victim:x:1001:", "victim:x:1001:root,victim"), None),
        (PASSWD, GROUP.replace("victim:x:1001:", "victim:x:1001:attacker"), "group 1001"),
        (PASSWD, GROUP.replace("victim:x:1001:", "victim:x:1001:someone-who-is-gone"), "group 1001"),
        (PASSWD, f"{GROUP}also:x:1001:attacker\n", "group 1001"),
        (PASSWD.replace("1002:1002", "1002:1001"), GROUP, "group 1001"),
        (PASSWD.replace("1001:1001", "1001:2000"), GROUP.replace("1001:", "1001:victim"), "group 1001"),
        (PASSWD.replace("victim:x:1001:1001", "other:x:1234:1234"), GROUP, "group 1001"),
        (PASSWD, GROUP.replace("victim:x:1001:\n", ""), "group 1001"),
        (PASSWD, GROUP.replace("victim:x:1001:", "users:x:1001:"), "group 1001"),
        (PASSWD, GROUP.replace("victim:x:1001:", "attacker:x:1001:"), "group 1001"),
        (PASSWD, f"{GROUP}users:x:1001:\n", "group 1001"),
    ],
    ids=[
        "own",
        "named",
        "root",
        "member",
        "gone",
        "twice",
        "primary",
        "secondary",
        "no-account",
        "no-group",
        "shared",
        "of-another",
        "also-shared",
    ],
)
def test_a_group_without_another_member_is_nobody_else(folder: Path, passwd: str, group: str, said: str | None) -> None:
    mine = made(folder / "mine", *VICTIM[:2], 0o775, None)
    file = made(mine / "file", *VICTIM[:2], 0o664)
    found = called_as(VICTIM, lambda: outcome(file), passwd=passwd, group=group)
    if said is None:
        assert found == GOOD.decode()
    else:
        assert found == f"untrusted: {mine} can be written by others ({said})"


# ACLs


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([(USER, 6, 1002)], "user 1002, by an ACL"),
        ([(USER, 6, 1001), (USER, 6, 0)], None),
        ([(USER, 6, 1002), (MASK, 5, 0)], None),
        ([(USER, 5, 1002)], None),
        ([(A_GROUP, 7, 2000)], "group 2000, by an ACL"),
        ([(A_GROUP, 7, 1001)], None),
        ([(GROUP_OF_FILE, 7, 0), (USER, 4, 1002)], None),
        ([(OTHER, 7, 0), (USER, 4, 1002)], "everybody"),
    ],
)
@pytest.mark.parametrize("which", ["folder", "file"])
def test_an_acl_counts(folder: Path, which: str, entries: list[tuple[int, int, int]], said: str | None) -> None:
    mine = made(folder / "mine", *VICTIM[:2], 0o755, None)
    file = made(mine / "file", *VICTIM[:2])
    path = {"folder": mine, "file": file}[which]
    set_acl(path, *entries)
    without_proc = functools.partial(mounted, "-t", "tmpfs", "none", "/proc")
    for prepare in (lambda: None, without_proc):
        found = called_as(VICTIM, lambda: outcome(file), prepare=prepare)
        assert found == (GOOD.decode() if said is None else f"untrusted: {path} can be written by others ({said})")


def test_root_is_not_led_by_a_file_of_his_own_that_an_acl_lets_another_write(folder: Path) -> None:
    file = made(folder / "file")
    assert outcome(file, 0) == GOOD.decode()
    set_acl(file, (OWNER, 6, 0), (USER, 6, 1002), (GROUP_OF_FILE, 4, 0), (MASK, 6, 0), (OTHER, 4, 0))
    assert file.stat().st_mode & 0o777 == 0o664
    assert outcome(file, 0) == f"untrusted: {file} can be written by others (user 1002, by an ACL)"


def test_what_a_folder_gives_to_files_to_come_is_no_harm_to_this_one(folder: Path) -> None:
    mine = made(folder / "mine", *VICTIM[:2], 0o755, None)
    file = made(mine / "file", *VICTIM[:2])
    set_acl(mine, (USER, 7, 1002))
    default = os.getxattr(mine, "system.posix_acl_access")
    os.removexattr(mine, "system.posix_acl_access")
    mine.chmod(0o755)
    os.setxattr(mine, "system.posix_acl_default", default)
    assert called_as(VICTIM, lambda: outcome(file)) == GOOD.decode()
    later = made(mine / "later", *VICTIM[:2], 0o664)
    assert "user 1002, by an ACL" in called_as(VICTIM, lambda: outcome(later))


def test_an_acl_of_another_version_is_not_taken_for_none(folder: Path) -> None:
    caller = trusted._Caller(VICTIM.uid)
    found = made(folder / "file").stat()
    for acl in (b"", struct.pack("<I", 3), struct.pack("<I", 2) + b"\0" * 7):
        with pytest.raises(trusted.UntrustedError, match="an ACL of an unknown version"):
            caller.check_writers("/file", found, acl)


# User namespaces


def test_the_id_of_all_whom_a_user_namespace_does_not_know_is_nobody_s(folder: Path) -> None:
    made(folder / "pub", mode=0o1777, content=None)
    files = [made(folder / "pub" / str(uid), uid, uid) for uid in (1001, 1002)]

    def inside() -> list[str]:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)  # no id is mapped: all are the overflow id, the caller's as well
        assert os.geteuid() == 65534
        return [outcome(file, os.geteuid()) for file in files]

    assert called_as(VICTIM, inside) == ["untrusted: / belongs to another user (65534)"] * 2


def test_the_user_who_is_called_nobody_reads_his_own(folder: Path) -> None:
    file = made(folder / "file", 65534, 65534)
    assert called_as(User(65534, 65534), lambda: outcome(file, 65534)) == GOOD.decode()


def test_no_descriptor_is_left_open(folder: Path) -> None:
    mine = made(folder / "mine", *VICTIM[:2], 0o755, None)
    made(mine / "file", *VICTIM[:2])
    link(mine / "link", "../mine/file")
    link(mine / "loop", "loop")
    made(mine / "theirs", *ATTACKER[:2])
    before = len(os.listdir("/proc/self/fd"))
    for name in ("file", "link", "loop", "theirs", "none", "file/x", "."):
        outcome(mine / name)
    assert len(os.listdir("/proc/self/fd")) == before
    shutil.rmtree(mine)


def test_a_deep_way_takes_no_more_descriptors_than_a_short_one(folder: Path) -> None:
    deep = made(folder / "mine", *VICTIM[:2], 0o755, None)
    for number in range(60):
        deep = made(deep / str(number), *VICTIM[:2], 0o755, None)
    made(deep / "file", *VICTIM[:2])
    link(deep / "link", "../" * 20 + "/".join(map(str, range(40, 60))) + "/file")

    def few() -> list[str]:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, highest + 4))
        return [outcome(deep / name) for name in ("file", "link")]

    assert called_as(VICTIM, few) == [GOOD.decode()] * 2


# File systems that say who owns what


@needs_fuse
@pytest.mark.parametrize(("server", "said"), [(VICTIM, None), (User(0, 0), None), (ATTACKER, 1002)])
def test_owners_are_the_word_of_whoever_serves_the_file_system(folder: Path, server: User, said: int | None) -> None:
    served = made(folder / "served", mode=0o755, content=None)

    def prepare() -> None:
        serve(served, server=server.uid, owner=VICTIM.uid, content=EVIL if said else GOOD)

    expected = f"untrusted: {served} is on a file system that a program of another user serves ({said})"
    found = called_as(VICTIM, lambda: outcome(served / "file"), prepare=prepare)
    assert found == (expected if said else GOOD.decode())


NAMES_OF_MOUNTS = (
    "plain",
    "a space",
    "tab\t",
    "cr\r",
    "vt\x0b",
    "fs\x1c",
    "nel\x85",
    "nbsp\xa0",
    "em\u2003",
    "line\u2028",
)
SEES = """
import os, sys
from vdscheck.target.host import kernel_file_systems, mounted
devices = {device for device, kind, _ in mounted() if kind == "proc"}
for name in sys.argv[1:]:
    device = os.stat(name).st_dev
    print(device in devices and device in kernel_file_systems(), ascii(name))
"""


def test_a_mount_is_seen_whatever_its_place_is_called(tmp_path: Path) -> None:
    """Of the bytes that end a line or a word somewhere, mountinfo escapes only the newline, the space and the tab."""
    for name in NAMES_OF_MOUNTS:
        (tmp_path / name).mkdir()
    script = 'for each; do mount -t proc proc "$each"; done; exec "$python" -c "$sees" "$@"'
    words = ["unshare", "-m", "--propagation", "private", "sh", "-euc", script, "sh", *NAMES_OF_MOUNTS]
    environment = {**os.environ, "python": sys.executable, "sees": SEES}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"True {name!a}" for name in NAMES_OF_MOUNTS]
