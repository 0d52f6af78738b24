"""Another root: opened once, never the running system's own, and the same folder to the end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import boot_hosts
from tests.support.fix_namespace import in_namespace
from tests.support.program import environment, vdscheck
from tests.support.project import PROJECT
from vdscheck.target.host import Host
from vdscheck.target.rooted import Root, RootError

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")
CALLS = (("--json", "--passive"), ("undo", "--list"))
RACES = 1
JAIL = (PROJECT / "tests/support/other_roots.sh").read_text()


def refusal(path: str, *words: str, **more: Any) -> str:
    """What a call with a root that cannot be examined says: one line, and nothing else happens."""
    done = vdscheck(*words, "--root", path, **more)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("vdscheck: --root ")
    assert done.stderr.count("\n") == 1
    return done.stderr


# The running system's own root


@pytest.mark.parametrize(
    "path", ["/", "//", "/.", "/../", "/../..", "/etc/..", "/proc/self/root", "LINK", "LINK/etc/.."]
)
def test_the_running_system_is_no_other_root_by_any_name(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(RootError, match="is this system's own root: leave --root out"):
        Root.named(path.replace("LINK", str(tmp_path / "link")))


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_a_link_to_the_running_system_is_a_wrong_call(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "link").symlink_to("/")
    assert "leave --root out" in refusal(str(tmp_path / "link"), *words)


@AS_ROOT
def test_the_running_system_mounted_elsewhere_is_no_other_root() -> None:
    done = in_namespace(
        """
        mkdir plain recursive; mount --bind / plain; mount -o remount,bind,ro plain; mount --rbind / recursive
        ln -s / link; ln -s plain link-to-mount
        for root in link link-to-mount recursive recursive/etc/..; do fix --yes --root $root; code; done
        for root in link plain; do vdscheck undo --root $root; code; done
        ls -A /etc/sysctl.d /var/lib/vdscheck
        """
    )
    assert done.stdout.split() == ["code", "2"] * 6 + ["/etc/sysctl.d:", "/var/lib/vdscheck:"]
    assert done.stderr.count("leave --root out") == 6


@AS_ROOT
def test_the_root_of_the_host_is_another_root_to_whoever_has_one_of_its_own(tmp_path: Path) -> None:
    """As a pod sees its host's: at /host."""
    boot_hosts.host(tmp_path / "host")
    done = in_namespace(
        f"""
        {JAIL}
        jail jail; mkdir jail/host jail/live; mount --bind {tmp_path}/host jail/host
        mount --bind / jail/live; mount -o remount,bind,ro jail/live
        inside() {{ chroot jail "$PYTHON" -m vdscheck "$@"; }}
        inside --fix --yes --json --passive --only 'sysctl.*' --root /host; code >&2
        inside undo --root /host >&2; code >&2
        inside undo --root /live >&2; code >&2
        inside undo --root / >&2; code >&2
        ls -A /etc/sysctl.d /var/lib/vdscheck >&2
        """
    )
    found = json.loads(done.stdout)
    assert (found["target"]["root"], found["fix"]["outcome"]) == ("/host", "applied")
    said = done.stderr.splitlines()
    assert [line for line in said if line.startswith("code")] == ["code 0", "code 0", "code 0", "code 2"]
    assert said[-3:] == ["/etc/sysctl.d:", "", "/var/lib/vdscheck:"]


# What cannot be a root


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file", "it is not a folder"),
        ("fifo", "it is not a folder"),
        ("file/x", "it is not a folder"),
        ("loop", "it leads through too many links"),
        ("nowhere", "there is no such folder"),
        ("missing", "there is no such folder"),
        ("x" * 300, "it cannot be opened: File name too long"),
    ],
)
def test_what_is_no_folder_is_no_root(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing")
    with pytest.raises(RootError, match=f"^--root {tmp_path}/{name}: {said}$"):
        Root.named(str(tmp_path / name))


def test_what_is_no_folder_is_a_wrong_call() -> None:
    assert "folder" in refusal("/no/\x1b[31mred\n", "undo")


@pytest.mark.parametrize("path", [".", "./.", "../gone"])
def test_a_current_folder_that_was_deleted_is_a_wrong_call(tmp_path: Path, path: str) -> None:
    (tmp_path / "gone").mkdir()
    script = 'cd "$1/gone" && rmdir "$1/gone" && exec "$2" -m vdscheck --json --root "$3"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(tmp_path), sys.executable, path],
        capture_output=True,
        text=True,
        check=False,
        env=environment(PYTHONPATH=str(PROJECT)),
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "has been deleted" in done.stderr or "there is no such folder" in done.stderr


@AS_ROOT
def test_a_folder_that_may_not_be_reached_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "closed/root").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    user = "setpriv --reuid 12345 --regid 12345 --clear-groups"
    done = in_namespace(f'cd /; {user} "$PYTHON" -m vdscheck --json --root {tmp_path}/closed/root; code')
    assert done.stdout == "code 2\n"
    assert "you may not open it" in done.stderr
    assert done.stderr.count("\n") == 1


# The descriptor


def test_a_root_stays_the_same_folder_when_its_name_is_another_ones(tmp_path: Path) -> None:
    for name in ("image", "other"):
        (tmp_path / name / "etc").mkdir(parents=True)
        (tmp_path / name / "etc/hostname").write_text(name)
    host = Host(str(tmp_path / "image"))
    (tmp_path / "image").rename(tmp_path / "moved")
    (tmp_path / "other").rename(tmp_path / "image")
    assert host.read("/etc/hostname") == "image"
    assert Root.opened(str(tmp_path / "image")).path == str(tmp_path / "image")
    assert host.tree is not None
    assert host.tree.path == str(tmp_path / "moved")


def test_a_folder_may_be_called_as_the_kernel_calls_one_that_was_deleted(tmp_path: Path) -> None:
    (tmp_path / "image (deleted)").mkdir()
    assert Root.named(str(tmp_path / "image (deleted)")).path == str(tmp_path / "image (deleted)")
    with pytest.raises(RootError, match="no such folder"):
        Root.named(str(tmp_path / "image"))


def test_a_root_is_held_beyond_the_standard_streams_and_let_go(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom vdscheck.target.rooted import Root\nos.close(0)\n"
        "root = Root.opened(sys.argv[1])\nfound = root.descriptor\n"
        "print(found > 2, os.get_inheritable(found))\ndel root\n"
        "try: os.fstat(found)\nexcept OSError: print('closed')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "closed"]


def raced(folder: Path, count: int) -> list[list[Any]]:
    """The runs of `tests.target.root_race` in a namespace of their own."""
    boot_hosts.host(folder / "image")
    (folder / "image/var/lib").mkdir(parents=True)
    script = f'PYTHONPATH={PROJECT} "$PYTHON" -m tests.target.root_race {folder} {count}'
    done = in_namespace(script, timeout_s=60 + 40 * count)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@AS_ROOT
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [RACES, pytest.param(35, marks=pytest.mark.slow)])
def test_whoever_exchanges_the_root_for_a_link_to_the_running_system_never_reaches_it(
    tmp_path: Path, count: int
) -> None:
    ours, entries = "90-vdscheck.conf", 0
    for word, code, said, host, image in raced(tmp_path, count):
        assert host == {"etc/sysctl.d": []}, said
        if code == 2:
            assert "leave --root out" in said
            continue
        assert code == 0, (word, said)
        if word == "undo":
            assert ours not in image["etc/sysctl.d"]
        else:
            assert ours in image["etc/sysctl.d"]
            assert len(image["var/lib/vdscheck/journal"]) >= max(entries, 1)
            entries = len(image["var/lib/vdscheck/journal"])
