"""The journal: who may lock it, and what is made of entries that people, disks and other versions have spoilt."""

import ctypes
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.fix_hosts import KINDS, Machine, in_memory
from tests.support.fix_namespace import in_namespace
from vdscheck.fix.files import FixError
from vdscheck.fix.flow import recovered
from vdscheck.fix.journal import FOLDER, Entry, Journal, unfinished
from vdscheck.fix.lock import NAME as LOCK
from vdscheck.fixes import settings_file
from vdscheck.fixes.sysctl import drop_in
from vdscheck.fixes.sysctl.boot import FILE as DROP_IN
from vdscheck.fixes.sysctl.boot import FOLDER as DROP_IN_FOLDER
from vdscheck.target.host import Host

REUSE = "net.ipv4.tcp_tw_reuse"
OURS = DROP_IN.lstrip("/")
ENTRIES = FOLDER.lstrip("/")


@pytest.fixture
def machine() -> Iterator[Machine]:
    with in_memory() as folder:
        yield Machine(folder / "root", "web")


def entry(machine: Machine, number: int = 1) -> Path:
    (path,) = (machine.root / ENTRIES).glob(f"*-{number}.json")
    return path


def change(path: Path, **values: Any) -> None:
    """Edit an entry by hand, in place."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=1))


# The lock


@contextmanager
def another(act: Callable[[], object]) -> Iterator[int]:
    """A process that does something and then waits; its number."""
    receive, send = os.pipe()
    hold, let_go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receive)
        os.close(let_go)
        act()
        os.write(send, b"x")
        os.read(hold, 1)
        os._exit(0)
    os.close(send)
    os.close(hold)
    try:
        assert os.read(receive, 1) == b"x"
        yield pid
    finally:
        os.close(receive)
        os.close(let_go)
        os.waitpid(pid, 0)


def test_who_holds_the_lock_is_named(machine: Machine) -> None:
    def hold() -> None:
        Journal.made(machine.host, KINDS).lock()
        ctypes.CDLL(None).prctl(15, b"\x1b[31m\n\xe2\x80\xae(x)", 0, 0, 0)

    before = machine.values, machine.files
    with another(hold) as pid:
        record = machine.fix()
        assert (machine.values, machine.files) == before
    assert record.outcome == "refused"
    said = re.fullmatch(
        r"another vdscheck is changing this host \(process (\d+), (.*)\): wait until it has ended", record.detail
    )
    assert said is not None
    assert int(said[1]) == pid
    assert said[2] == r"\x1b[31m\n\u202e(x)"
    assert machine.fix().outcome == "applied"


def test_the_lock_is_a_file_that_only_its_owner_can_open(machine: Machine) -> None:
    machine.fix()
    path = (machine.root / ENTRIES).parent / LOCK
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o666)
    assert machine.undo() is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("spoil", [lambda path: path.mkdir(), lambda path: path.symlink_to("x"), os.mkfifo])
def test_a_lock_that_is_no_file_is_refused_in_one_line(machine: Machine, spoil: Callable[[Path], None]) -> None:
    machine.fix()
    path = (machine.root / ENTRIES).parent / LOCK
    path.unlink()
    spoil(path)
    before = machine.values, machine.files
    with pytest.raises(FixError, match="lock") as error:
        machine.undo()
    assert "\n" not in str(error.value)
    assert (machine.values, machine.files) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")
def test_no_user_can_keep_a_fix_or_an_undo_from_going_on() -> None:
    hold = """
import fcntl, os, sys, time
folder = "/var/lib/vdscheck/journal"
held = []
above = os.path.dirname(folder)
for path in (above, os.path.join(above, "lock"), folder, *(os.path.join(folder, each) for each in os.listdir(folder))):
    for lock in (fcntl.LOCK_SH, fcntl.LOCK_EX):
        try:
            held.append(os.open(path, os.O_RDONLY))
            fcntl.flock(held[-1], lock | fcntl.LOCK_NB)
        except OSError as error:
            print(os.path.basename(path), error.strerror, file=sys.stderr)
    try:
        fcntl.lockf(held[-1], fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.fcntl(held[-1], 1024, fcntl.F_RDLCK)  # F_SETLEASE
    except OSError as error:
        print(os.path.basename(path), error.strerror, file=sys.stderr)
open("held", "w").close()
time.sleep(600)
"""
    done = in_namespace(
        f"""
        chmod 777 .
        cat > hold.py <<'end'
{hold}
end
        blocked() {{
          rm -f held
          setpriv --reuid 12345 --regid 12345 --clear-groups "$PYTHON" hold.py 2>refused & holder=$!
          while [ ! -e held ]; do sleep 0.05; done
          "$@"; code
          kill $holder; wait $holder 2>/dev/null
        }}
        fix --yes -q > /dev/null; code
        blocked vdscheck undo > said; tail -n 1 said
        grep -c "^lock Permission denied" refused
        blocked fix --yes -q > said; tail -n 1 said
        """
    )
    assert done.stdout.split("\n") == ["code 0", "code 0", "3", "code 0", ""], done


# Entries that were spoilt


def spoilt(**values: Any) -> dict[str, Any]:
    return values


BAD_VALUES = [
    spoilt(number=0),
    spoilt(number=10**30),
    spoilt(at="x\ny"),
    spoilt(version="x" * 1000),
    spoilt(at="held"),
    spoilt(at="\u0661\u0662"),
    spoilt(boot_id="\0"),
    spoilt(state="done"),
    spoilt(folders=["/a\0b"]),
    spoilt(folders=["/srv"]),
    spoilt(folders=[DROP_IN_FOLDER, "/etc"]),
]
BAD_FILES = [
    spoilt(mode=2**40),
    spoilt(mode=-1),
    spoilt(mode=0o10644),
    spoilt(mode="0644"),
    spoilt(uid=2**40),
    spoilt(uid=-1),
    spoilt(gid=2**32 - 1),
    spoilt(content="a \u2192 b"),
    spoilt(content="\ud800"),
    spoilt(content=5),
]
BAD_SETTINGS = [
    spoilt(key="../../etc/passwd"),
    spoilt(key="net/core"),
    spoilt(key="net..core"),
    spoilt(key=""),
    spoilt(key="a.b\0c"),
    spoilt(before="1\n2"),
    spoilt(at_boot="\0"),
    spoilt(wanted="1" * 100_000),
    spoilt(wanted=None),
]


def spoil(machine: Machine, number: int, kind: str, values: dict[str, Any]) -> None:
    path = entry(machine, number)
    said = json.loads(path.read_text())
    if kind == "settings":
        change(path, settings=[said["settings"][0] | values, *said["settings"][1:]])
    elif kind == "file":
        file = {"content": "", "mode": 0o644, "uid": 0, "gid": 0}
        (written,) = said["files"]
        change(path, files=[written | {"before": file | values}])
    else:
        change(path, **values)


CASES = [
    *(("entry", each) for each in BAD_VALUES),
    *(("file", each) for each in BAD_FILES),
    *(("settings", each) for each in BAD_SETTINGS),
]


def test_a_value_that_no_fix_writes_is_refused_in_one_line(machine: Machine) -> None:
    machine.fix()
    machine.write(REUSE, "0")
    before = machine.values, machine.files
    sound = entry(machine).read_text()
    for kind, values in CASES:
        entry(machine).write_text(sound)
        spoil(machine, 1, kind, values)
        with pytest.raises(FixError, match="is damaged") as error:
            machine.undo()
        assert "\n" not in str(error.value), values
        assert (machine.values, machine.files) == before, values
        assert "is damaged" in (unfinished(machine.host, KINDS) or ""), values
    assert machine.fix().outcome == "refused"


@pytest.mark.parametrize("mode", [0o4777, 0o2666, 0o1777, 0o7755])
@pytest.mark.parametrize("owner", [pytest.param(0, marks=pytest.mark.slow), 12345])
def test_a_file_never_comes_back_setuid_another_users_or_writable_by_others(
    machine: Machine, mode: int, owner: int
) -> None:
    machine.fix()
    spoil(machine, 1, "file", {"content": "kernel.panic = 10\n", "mode": mode, "uid": owner, "gid": owner})
    assert machine.undo() == ()
    path = machine.root / OURS
    found = path.stat()
    assert path.read_text() == "kernel.panic = 10\n"
    assert stat.S_IMODE(found.st_mode) & ~0o755 == 0
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize(("mode", "kept"), [(0o644, 0o644), (0o640, 0o600), (0o600, 0o600), (0o755, 0o644)])
def test_what_not_everybody_may_read_is_not_read_in_the_journal(machine: Machine, mode: int, kept: int) -> None:
    path = machine.root / OURS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# a secret\n")
    path.chmod(mode)
    machine.fix()
    assert "a secret" in entry(machine).read_text()
    assert stat.S_IMODE(entry(machine).stat().st_mode) == kept
    assert machine.undo() == ()
    assert stat.S_IMODE(entry(machine).stat().st_mode) == kept
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_an_undo_removes_no_folder_that_no_fix_made(machine: Machine) -> None:
    (machine.root / "srv").mkdir()
    machine.fix()
    change(entry(machine), folders=["/srv"])
    with pytest.raises(FixError, match="is damaged"):
        machine.undo()
    assert (machine.root / "srv").is_dir()


TOO_MUCH = b"vm.swappiness = 60\n" * 14_000
SAID = "262,144 bytes"


def test_a_file_that_is_too_large_to_be_read_line_by_line_is_refused(machine: Machine) -> None:
    (machine.root / OURS).write_bytes(TOO_MUCH)
    before = machine.values, machine.files
    record = machine.fix()
    assert (record.outcome, SAID in record.detail) == ("refused", True)
    assert (machine.values, machine.files) == before
    assert machine.states() == []


def test_a_file_that_a_fix_would_make_too_large_is_refused(machine: Machine) -> None:
    (machine.root / OURS).write_bytes(b"# " + b"x" * ((256 << 10) - 10) + b"\n")
    before = machine.values, machine.files
    record = machine.fix()
    assert (record.outcome, f"would be larger than {SAID}" in record.detail) == ("refused", True)
    assert (machine.values, machine.files) == before


def test_an_undo_of_a_file_that_has_become_too_large_is_refused(machine: Machine) -> None:
    machine.fix()
    with (machine.root / OURS).open("ab") as file:
        file.write(TOO_MUCH)
    with pytest.raises(FixError, match=f"larger than {SAID}, and not what vdscheck writes: move it away"):
        machine.undo()
    assert (machine.root / OURS).stat().st_size > len(TOO_MUCH)


def test_an_entry_that_keeps_a_file_which_is_too_large_is_damaged(machine: Machine) -> None:
    machine.fix()
    files = json.loads(entry(machine).read_text())["files"]
    files[0]["after"]["content"] = TOO_MUCH.decode()
    change(entry(machine), files=files)
    with pytest.raises(FixError, match="the content of a file is too large"):
        machine.undo()


def test_each_line_of_a_file_is_read_once(machine: Machine) -> None:
    read: list[bytes] = []

    def keys(line: bytes) -> list[bytes]:
        read.append(line)
        return drop_in.SYNTAX.keys(line)

    syntax = replace(drop_in.SYNTAX, keys=keys)
    lines = b"vm.swappiness = 60\n" * 1000
    found = settings_file.restored(syntax, lines + b"x = 1\n", None, lines)
    assert found.content is not None
    assert sorted(read) == [b"vm.swappiness = 60\n", b"x = 1\n"]
    assert len(settings_file.merged(syntax, lines, {"vm.swappiness": "1"})) < 1000
    assert len(read) == 3


# A damaged entry beside sound ones


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:120])


def hostile(path: Path) -> None:
    change(path, folders=["/a\0b"])


@pytest.mark.parametrize("damage", [truncated, hostile])
def test_an_entry_that_was_given_back_long_ago_is_passed_over(machine: Machine, damage: Callable[[Path], None]) -> None:
    machine.fix()
    machine.undo()
    start = machine.values, machine.files
    damage(entry(machine))
    result = machine.fixed()
    assert result.record.outcome == "applied"
    assert unfinished(machine.host, KINDS) is None
    assert entry(machine, 2).exists()
    assert machine.undo() == ()
    assert (machine.values, machine.files) == start


def test_what_is_only_passed_over_is_not_called_given_back(machine: Machine) -> None:
    assert recovered(machine.bench()) == ([], False)
    machine.fix()
    machine.undo()
    truncated(entry(machine))
    said, gave_back = recovered(machine.bench())
    assert ("passed over" in said[0], gave_back) == (True, False)


def test_what_was_given_back_is_said_so(machine: Machine) -> None:
    machine.fix()
    change(entry(machine), state="begun")
    said, gave_back = recovered(machine.bench())
    assert ("had been ended in the middle" in said[0], gave_back) == (True, True)


@pytest.mark.parametrize("damage", [empty, truncated, hostile])
def test_a_damaged_entry_is_passed_over_while_a_later_one_holds(
    machine: Machine, damage: Callable[[Path], None]
) -> None:
    machine.fix()
    machine.write(REUSE, "0")
    machine.file("etc/sysctl.d/20-a.conf", "net.core.somaxconn = 128\n")
    machine.write("net.core.somaxconn", "128")
    second = machine.values, machine.files
    assert machine.fix().outcome == "applied"
    damage(entry(machine, 1))
    assert unfinished(machine.host, KINDS) is None
    assert machine.undo() == ()
    assert (machine.values, machine.files) == second
    # Now it would be the turn of the damaged one.
    with pytest.raises(FixError, match="is damaged"):
        machine.undo()
    assert machine.fix().outcome == "refused"
    assert (machine.values, machine.files) == second


def test_an_entry_that_may_be_half_done_stops_a_fix_and_an_undo(machine: Machine) -> None:
    machine.fix()
    change(entry(machine), state="begun", folders=["/srv"])
    machine.write(REUSE, "0")
    before = machine.values, machine.files
    assert machine.fix().outcome == "refused"
    with pytest.raises(FixError, match="is damaged"):
        machine.undo()
    assert (machine.values, machine.files) == before


def test_an_entry_that_may_be_half_done_is_in_the_way_also_where_the_clock_was_set_back_since(machine: Machine) -> None:
    machine.fix()
    ahead = entry(machine)
    change(ahead, id="29990101-1")
    ahead.rename(ahead.with_name("29990101-1.json"))
    machine.write(REUSE, "0")
    machine.file("etc/sysctl.d/20-a.conf", "net.core.somaxconn = 128\n")
    machine.write("net.core.somaxconn", "128")
    assert machine.fix().outcome == "applied"
    (second,) = (each for each in (machine.root / ENTRIES).iterdir() if not each.name.startswith("2999"))
    change(second, state="begun")
    truncated(second)
    machine.write(REUSE, "2")
    before = machine.values, machine.files
    with pytest.raises(FixError, match="is damaged"):
        machine.undo()
    assert machine.fix().outcome == "refused"
    assert (machine.values, machine.files) == before


@pytest.mark.parametrize("last", [1, 999_998, 999_999])
def test_every_entry_that_is_begun_has_a_name_that_is_read_again(machine: Machine, last: int) -> None:
    machine.fix()
    machine.undo()
    first = entry(machine)
    day = first.name.partition("-")[0]
    change(first, id=f"{day}-{last}")
    first.rename(first.with_name(f"{day}-{last}.json"))
    start = machine.values, machine.files
    assert machine.fix().outcome == "applied"
    assert sorted(machine.states()) == ["held", "undone"]
    assert machine.undo() == ()
    assert (machine.values, machine.files) == start


def test_a_journal_of_many_large_files_is_refused_in_one_line_and_soon(machine: Machine) -> None:
    machine.fix()
    large = entry(machine).with_name("20200101-1.json")
    with large.open("wb") as file:
        file.truncate(4 << 20)
    for number in range(2, 200):
        os.link(large, large.with_name(f"20200101-{number}.json"))
    with pytest.raises(FixError, match="holds more than 67,108,864 bytes: move old entries away"):
        machine.undo()
    told = unfinished(machine.host, KINDS)
    assert told is not None
    assert "holds more than" in told


def test_the_file_of_a_damaged_entry_is_never_written_over(machine: Machine) -> None:
    machine.fix()
    machine.undo()
    hostile(entry(machine))
    kept = entry(machine).read_bytes()
    machine.fix()
    assert entry(machine, 1).read_bytes() == kept
    assert json.loads(entry(machine, 2).read_text())["number"] == 2


# Whatever an entry holds

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text() | st.sampled_from(["begun", "held", DROP_IN]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["format", "id", "number", "state", "version", "at", "boot_id", "settings", "files", "folders", "packages"]
)
FILE_FIELDS = st.sampled_from(["content", "mode", "uid", "gid"])
SETTING_FIELDS = st.sampled_from(["kind", "key", "before", "at_boot", "wanted", "now", "in_file"])


@st.composite
def changed(draw: st.DrawFn, sound: dict[str, Any]) -> bytes:
    """A sound entry in which something is another thing, or that is cut off."""
    said = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.sampled_from(["entry", "before", "after", "files", "settings"]))
        if where in ("before", "after"):
            files = said.get("files")
            part = files[0].get(where) if isinstance(files, list) and files and isinstance(files[0], dict) else None
            if isinstance(part, dict):
                part[draw(FILE_FIELDS)] = draw(JSON_VALUES)
                continue
        if where == "entry" or not isinstance(said.get(where), dict | list) or not said[where]:
            said[draw(FIELDS)] = draw(JSON_VALUES)
        elif isinstance(said[where], list):
            each = draw(st.sampled_from(range(len(said[where]))))
            if isinstance(said[where][each], dict):
                said[where][each][draw(SETTING_FIELDS)] = draw(JSON_VALUES)
    text = json.dumps(said, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


def sound() -> dict[str, Any]:
    with in_memory() as folder:
        machine = Machine(folder / "root", "web")
        (machine.root / OURS).write_text("kernel.panic = 10\n")
        machine.fix()
        return dict(json.loads(entry(machine).read_text()))


SOUND = sound()


def whatever(content: bytes) -> None:
    """Read, listed, told, undone and fixed: in one line, or done; and nothing but what a fix touches is touched."""
    with in_memory() as folder:
        machine = Machine(folder / "root", "web")
        (machine.root / "srv").mkdir()
        theirs = {name: text for name, text in machine.files.items() if name != OURS}
        journal = machine.root / ENTRIES
        journal.mkdir(parents=True)
        (journal / f"{SOUND['id']}.json").write_bytes(content)
        opened = Journal.opened(Host(str(machine.root)), KINDS)
        assert opened is not None
        found = opened.contents()
        opened.close()
        assert len(found.entries) + len(found.damaged) == 1
        told = [unfinished(machine.host, KINDS) or ""]
        for act in (machine.undo, machine.fix):
            try:
                act()
            except FixError as refusal:
                told.append(str(refusal))
        assert not any("\n" in each for each in told)
        assert {name: text for name, text in machine.files.items() if name != OURS} == theirs
        assert (machine.root / "srv").is_dir()
        ours = machine.root / OURS
        assert not ours.exists() or stat.S_IMODE(ours.stat().st_mode) & ~0o755 == 0
        shutil.rmtree(machine.root)


@given(content=changed(SOUND))
@example(content=b"")
@example(content=b"[" * 100_000)
@example(content=b'{"format": 1, "state": "undone"')
@example(content=json.dumps(SOUND | {"boot_id": None, "settings": []}).encode())
@settings(max_examples=12, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_an_entry_holds_nothing_is_a_bug(content: bytes) -> None:
    whatever(content)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(content=changed(SOUND) | st.binary(max_size=200))
@settings(max_examples=2000, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_thousands_of_entries_hold_nothing_is_a_bug(content: bytes) -> None:
    whatever(content)


def test_every_field_of_an_entry_is_tried() -> None:
    names = set(Entry.__dataclass_fields__)
    assert set(SOUND) == names
    assert set(SOUND["settings"][0]) == {"kind", "key", "before", "at_boot", "wanted", "now", "in_file", "moved_by"}
    assert set(SOUND["files"][0]["after"]) == {"content", "mode", "uid", "gid"}
