"""Trees for --root that somebody has made for others to examine, fix and undo: each wants to lead out or to hurt.

Each maker changes a small Debian below `root`, may point at the folder `canary` outside of it, and returns what is to
be done in the private mount namespace of the run, as shell lines with the tree as "$root".
"""

import json
import os
import random
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support import boot_hosts

SEED = 20261129
SECRET = "CANARY-5d1f0c77e2"
VALUE = "1971226171"
"""What is in every file outside, and must be in nothing that is said."""
OURS = "etc/sysctl.d/90-vdscheck.conf"
ESCAPES = "\x1b[31m\x1b]0;title\x07\u202ered\u2069\u009b2J"

Maker = Callable[[Path, Path, random.Random], str | None]
MAKERS: dict[str, Maker] = {}


def maker(function: Maker) -> Maker:
    """Keep a maker by its name."""
    MAKERS[getattr(function, "__name__").replace("_", " ")] = function  # noqa: B009 - a Callable has no name for mypy
    return function


def made(name: str, root: Path, canary: Path) -> str:
    """Make a tree and what lies outside of it; the shell lines that complete it."""
    chosen = random.Random(f"{SEED} {name}")
    boot_hosts.host(root)
    (root / "var/lib").mkdir(parents=True)
    (root / "etc/os-release").write_text('PRETTY_NAME="Debian GNU/Linux 12"\n')
    for folder in ("sysctl.d", "journal", "systemd"):
        (canary / folder).mkdir(parents=True)
    line = f"# {SECRET}\nnet.core.somaxconn = {VALUE}\nkernel.{SECRET} = {SECRET}\n"
    for path in ("secret", "sysctl.d/90-vdscheck.conf", "sysctl.d/50-secret.conf", "systemd/systemd", "grub.cfg"):
        (canary / path).write_text(line)
    (canary / "journal/20261101-1.json").write_text(json.dumps(entry()))
    return MAKERS[name](root, canary, chosen) or ""


def entry(**more: Any) -> dict[str, Any]:
    """A journal entry of a fix, as it is on disk."""
    setting = {
        "key": "net.core.somaxconn",
        "before": "128",
        "at_boot": "128",
        "wanted": "4096",
        "now": True,
        "in_file": True,
    }
    after = {"content": f"# {SECRET}\nnet.core.somaxconn = 4096\n", "mode": 0o644, "uid": 0, "gid": 0}
    plain: dict[str, Any] = {
        "format": 1,
        "id": "20261101-1",
        "number": 1,
        "state": "held",
        "version": "0.1.0",
        "at": "2026-11-01T00:00:00Z",
        "boot_id": None,
        "settings": [setting],
        "file_before": None,
        "file_after": after,
        "folders": [],
    }
    return plain | more


def snapshot(folder: Path) -> Mapping[str, tuple[Any, ...]]:
    """All that can be told of a tree: kinds, owners, modes, times, contents."""

    def told(path: Path) -> Iterator[Any]:
        found = path.lstat()
        yield from (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        if stat.S_ISREG(found.st_mode):
            yield path.read_bytes()

    return {str(path.relative_to(folder)): tuple(told(path)) for path in [folder, *folder.rglob("*")]}


def replaced(path: Path, target: Path | str) -> None:
    """Put a link where something else is, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def up_to(canary: Path) -> str:
    """The canary from any folder below the root, by more steps up than there are."""
    return "../" * 40 + str(canary).lstrip("/")


# Links that lead out


@maker
def the_settings_folder_is_a_link_out(root: Path, canary: Path, _chosen: random.Random) -> None:
    replaced(root / "etc/sysctl.d", canary / "sysctl.d")


@maker
def the_settings_folder_is_a_link_up(root: Path, canary: Path, _chosen: random.Random) -> None:
    replaced(root / "etc/sysctl.d", up_to(canary / "sysctl.d"))


@maker
def etc_is_a_link_out(root: Path, canary: Path, _chosen: random.Random) -> None:
    replaced(root / "etc", up_to(canary))


@maker
def our_file_is_a_link_out(root: Path, canary: Path, _chosen: random.Random) -> None:
    replaced(root / OURS, canary / "secret")


@maker
def every_setting_is_a_link_out(root: Path, canary: Path, _chosen: random.Random) -> None:
    for number in range(20):
        replaced(root / f"etc/sysctl.d/{number:02}-x.conf", (canary / "secret", up_to(canary / "secret"))[number % 2])
    replaced(root / "etc/sysctl.conf", "/etc/shadow")
    replaced(root / "etc/sysctl.d/60-shadow.conf", "../" * 30 + "etc/shadow")


@maker
def the_journal_is_a_link_out(root: Path, canary: Path, _chosen: random.Random) -> None:
    replaced(root / "var/lib/vdscheck/journal", canary / "journal")


@maker
def the_folder_of_the_journal_is_a_link_up(root: Path, canary: Path, _chosen: random.Random) -> None:
    replaced(root / "var/lib/vdscheck", up_to(canary))


@maker
def var_is_a_link_out(root: Path, canary: Path, _chosen: random.Random) -> None:
    (canary / "lib").mkdir()
    replaced(root / "var", up_to(canary))


@maker
def a_journal_entry_is_a_link_out(root: Path, canary: Path, _chosen: random.Random) -> None:
    replaced(root / "var/lib/vdscheck/journal/20261101-1.json", up_to(canary / "journal/20261101-1.json"))


@maker
def the_new_files_are_planted_links(root: Path, canary: Path, _chosen: random.Random) -> None:
    (root / "var/lib/vdscheck/journal").mkdir(parents=True)
    for folder in ("etc/sysctl.d", "var/lib/vdscheck/journal"):
        replaced(root / folder / ".vdscheck-new", canary / "secret")


@maker
def the_init_and_its_units_are_links_out(root: Path, canary: Path, _chosen: random.Random) -> None:
    replaced(root / "sbin/init", "/proc/1/exe")
    replaced(root / "usr/lib/systemd", up_to(canary / "systemd"))
    replaced(root / "boot/grub/grub.cfg", up_to(canary / "grub.cfg"))
    replaced(root / "usr/lib/modules", "../" * 20 + "usr/lib/modules")


@maker
def every_name_is_a_link_to_a_link(root: Path, canary: Path, _chosen: random.Random) -> None:
    for number in range(60):
        (root / f"hop{number}").symlink_to(f"hop{number + 1}")
    (root / "hop60").symlink_to(canary)
    replaced(root / OURS, "/hop0/secret")
    replaced(root / "etc/sysctl.d/10-few.conf", "/hop30/secret")


@maker
def links_lead_in_circles(root: Path, _canary: Path, _chosen: random.Random) -> None:
    replaced(root / "etc/sysctl.conf", "sysctl.conf")
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    replaced(root / "etc/sysctl.d", "/a/sysctl.d")


# What is no file


@maker
def fifos_stand_for_files(root: Path, _canary: Path, _chosen: random.Random) -> None:
    for path in (
        "etc/sysctl.conf",
        OURS,
        "etc/sysctl.d/10-x.conf",
        "etc/os-release",
        "etc/hostname",
        "boot/grub/grub.cfg",
    ):
        (root / path).unlink(missing_ok=True)
        os.mkfifo(root / path)
    (root / "var/lib/vdscheck/journal").mkdir(parents=True)
    os.mkfifo(root / "var/lib/vdscheck/journal/20261101-1.json")


@maker
def devices_stand_for_files(root: Path, _canary: Path, _chosen: random.Random) -> None:
    nodes = ((OURS, 1, 5), ("etc/sysctl.d/10-x.conf", 1, 9), ("etc/sysctl.d/20-x.conf", 5, 0), ("etc/os-release", 1, 5))
    for path, major, minor in nodes:
        (root / path).unlink(missing_ok=True)
        os.mknod(root / path, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    os.mknod(root / "etc/sysctl.d/30-x.conf", 0o666 | stat.S_IFBLK, os.makedev(7, 0))


@maker
def sockets_stand_for_files(root: Path, _canary: Path, _chosen: random.Random) -> None:
    here = os.open(".", os.O_RDONLY)
    for path in (OURS, "etc/sysctl.d/10-x.conf", "etc/machine-id"):
        os.chdir((root / path).parent)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as each:
            each.bind(Path(path).name)
        os.fchdir(here)
    os.close(here)


@maker
def folders_stand_for_files(root: Path, _canary: Path, _chosen: random.Random) -> None:
    for path in (OURS, "etc/sysctl.d/10-x.conf", "var/lib/vdscheck/journal/20261101-1.json"):
        (root / path / "below").mkdir(parents=True)


@maker
def a_file_stands_for_the_folder_of_the_journal(root: Path, _canary: Path, _chosen: random.Random) -> None:
    (root / "var/lib/vdscheck").write_text("x")


# Too large, too deep, too many


@maker
def files_are_huge(root: Path, _canary: Path, _chosen: random.Random) -> None:
    (root / OURS).write_bytes(b"# x\n" * (2 << 20))
    (root / "etc/sysctl.d/10-x.conf").write_bytes(b"vm.swappiness = 1\n" * (1 << 20))
    (root / "var/lib/vdscheck/journal").mkdir(parents=True)
    (root / "var/lib/vdscheck/journal/20261101-1.json").write_bytes(b"[" * (8 << 20))


@maker
def files_are_larger_than_any_disk(root: Path, _canary: Path, _chosen: random.Random) -> None:
    for path in (OURS, "etc/sysctl.d/10-x.conf", "etc/sysctl.conf", "boot/grub/grub.cfg", "etc/os-release"):
        (root / path).touch()
        os.truncate(root / path, 1 << 40)


@maker
def folders_are_deeper_than_any_path(root: Path, _canary: Path, _chosen: random.Random) -> None:
    here = os.open(".", os.O_RDONLY)
    for top in ("etc/sysctl.d", "usr/lib/systemd/system"):
        os.chdir(root / top)
        for _ in range(600):
            os.mkdir("d" * 100 + ".conf")
            os.chdir("d" * 100 + ".conf")
        os.fchdir(here)
    os.close(here)


@maker
def there_are_thousands_of_files(root: Path, _canary: Path, chosen: random.Random) -> None:
    for number in range(5000):
        (root / f"etc/sysctl.d/{number:05}-x.conf").write_text(f"vm.swappiness = {chosen.randrange(100)}\n")
    for number in range(2000):
        (root / f"usr/lib/systemd/system/x{number}.service").write_text("[Service]\nExecStart=/bin/true\n")


@maker
def there_are_thousands_of_journal_entries(root: Path, _canary: Path, _chosen: random.Random) -> None:
    journal = root / "var/lib/vdscheck/journal"
    journal.mkdir(parents=True)
    for number in range(1, 2000):
        text = json.dumps(entry(id=f"20261101-{number}", number=number, state="undone"))
        (journal / f"20261101-{number}.json").write_text(text)


# Names and contents


@maker
def names_act_on_terminals(root: Path, _canary: Path, _chosen: random.Random) -> None:
    names = (
        f"{ESCAPES}.conf",
        "new\nline.conf",
        "-rf.conf",
        "$(id).conf",
        "[red]x.conf",
        " .conf",
        "a" * 250 + ".conf",
    )
    for name in names:
        (root / "etc/sysctl.d" / name).write_text(
            f"{ESCAPES} = 1\nnot a setting {ESCAPES}\nvm.swappiness = {ESCAPES}\n"
        )
    os.close(os.open(os.fsencode(root) + b"/etc/sysctl.d/\xff\xfe\x80.conf", os.O_CREAT | os.O_WRONLY))
    (root / "etc/os-release").write_text(f'PRETTY_NAME="{ESCAPES}"\n')
    (root / "etc/hostname").write_text(ESCAPES)


@maker
def captured_facts_are_made_up(root: Path, _canary: Path, chosen: random.Random) -> None:
    facts = root / ".vdscheck/facts"
    facts.mkdir(parents=True)
    texts = ("[" * 100_000, '{"status": 1e999}', '"\\ud800"', "null", "-1", json.dumps({"a": ESCAPES}), "9" * 5000)
    for name in ("adjtimex", "cpuid", "root-of-pid-1", "psutil-virtual-memory", "psutil-swap-memory", "uname"):
        (facts / f"{name}.json").write_text(chosen.choice(texts))
    (root / "proc/1").mkdir(parents=True)
    (root / "proc/self/ns").mkdir(parents=True)
    (root / "proc/self/ns/pid").symlink_to(f"pid:[{'9' * 4000}]")
    (root / "proc/self/ns/user").symlink_to(ESCAPES)
    (root / "proc/self/mountinfo").write_text(f"1 1 8:1 / / rw - overlay {ESCAPES} rw,upperdir=/etc\n" * 100)
    (root / "proc/1/mountinfo").write_bytes(b"1 1 \xff / / rw - \\777 x y\n")


@maker
def the_journal_was_written_by_hand(root: Path, canary: Path, _chosen: random.Random) -> None:
    journal = root / "var/lib/vdscheck/journal"
    journal.mkdir(parents=True)
    way_out = f"/{up_to(canary)}"
    hostile = entry(state="begun", folders=[way_out, "/etc", "/../../canary", "/"], at=ESCAPES, version=ESCAPES)
    hostile["file_before"] = {"content": ESCAPES.encode().decode("latin-1"), "mode": 0o4777, "uid": 1, "gid": 1}
    (journal / "20261101-1.json").write_text(json.dumps(hostile))
    (root / OURS).write_text(f"# {ESCAPES}\nnet.core.somaxconn = 4096\n")


@maker
def everything_belongs_to_others(root: Path, _canary: Path, _chosen: random.Random) -> None:
    (root / OURS).write_text("vm.swappiness = 60\n")
    (root / "var/lib/vdscheck/journal").mkdir(parents=True)
    (root / "var/lib/vdscheck/journal/20261101-1.json").write_text(json.dumps(entry()))
    for path in (root / "var/lib/vdscheck", *root.rglob("*")):
        if not path.is_symlink():
            os.chown(path, 12345, 12345)
            path.chmod(0o6777)


@maker
def files_cannot_be_changed(root: Path, _canary: Path, _chosen: random.Random) -> str:
    (root / OURS).write_text("vm.swappiness = 60\n")
    return 'chattr +i "$root/etc/sysctl.d/90-vdscheck.conf"'


@maker
def folders_cannot_be_changed(root: Path, _canary: Path, _chosen: random.Random) -> str:
    (root / "var/lib/vdscheck/journal").mkdir(parents=True)
    return 'chattr +a "$root/var/lib/vdscheck/journal"; chattr +i "$root/etc/sysctl.d"'


# Mounts below the root


@maker
def proc_and_sys_of_the_running_system_are_mounted_inside(root: Path, _canary: Path, _chosen: random.Random) -> str:
    for name in ("proc", "sys", "dev"):
        (root / name).mkdir()
    replaced(root / "etc/sysctl.d/10-x.conf", "/proc/1/environ")
    replaced(root / "etc/os-release", "/proc/version")
    return 'for name in proc sys dev; do mount --rbind /$name "$root/$name"; done'


@maker
def the_tree_is_mounted_inside_itself(root: Path, _canary: Path, _chosen: random.Random) -> str:
    (root / "usr/lib/systemd/system/again").mkdir()
    (root / "mnt").mkdir()
    return 'mount --rbind "$root" "$root/mnt"; mount --bind "$root" "$root/usr/lib/systemd/system/again"'


@maker
def what_is_written_to_is_mounted_read_only(_root: Path, _canary: Path, _chosen: random.Random) -> str:
    return 'mount --bind "$root/etc/sysctl.d" "$root/etc/sysctl.d"; mount -o remount,bind,ro "$root/etc/sysctl.d"'


@maker
def the_disk_of_the_journal_is_full(_root: Path, _canary: Path, _chosen: random.Random) -> str:
    return 'mount -t tmpfs -o size=4k,mode=755 none "$root/var/lib"; head -c 4096 /dev/zero > "$root/var/lib/x" || :'


@maker
def anything_anywhere(root: Path, canary: Path, chosen: random.Random) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in files:
        kind = chosen.randrange(6)
        if kind == 0:
            replaced(path, chosen.choice((str(canary / "secret"), up_to(canary / "secret"), "/etc/shadow", path.name)))
        elif kind == 1:
            path.unlink()
            os.mkfifo(path)
        elif kind == 2:
            path.write_bytes(chosen.randbytes(chosen.randrange(3000)))
        elif kind == 3:
            path.unlink()
            path.mkdir()
