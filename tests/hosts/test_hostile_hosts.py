"""Whatever the files of a host hold, the run ends with a valid report, and no probe or check fails on them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import host_trees
from tests.support.program import vdscheck
from tests.support.project import PROJECT
from vdscheck.cli import reference

HOSTS = PROJECT / "tests/hosts"
SCHEMA = json.loads(reference.schema())
ESCAPES = "\x1b[31m\x1b]0;title\x07\u202ered\u2069\n[red]x\u200b\r\0"


def to(content: bytes) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        file.write_bytes(content)

    return spoil


def missing(file: Path) -> None:
    file.unlink()


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def outside(file: Path) -> None:
    file.unlink()
    file.symlink_to("/" + "../" * 40 + "etc/passwd")


def twice(file: Path) -> None:
    file.write_bytes(file.read_bytes() * 2)


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def minus(file: Path) -> None:
    file.write_bytes(b"-" + file.read_bytes())


SPOILS: dict[str, Callable[[Path], None]] = {
    "missing": missing,
    "empty": to(b""),
    "a blank": to(b" \n"),
    "2 MB": to(b"1" * (2 << 20)),
    "not UTF-8": to(b"\xff\xfe\x00\x80 1 \xc3\x28\n" * 3),
    "escapes": to(ESCAPES.encode()),
    "a huge number": to(b"9" * 5000 + b"\n"),
    "a negative number": to(b"-1\n"),
    "a colon": to(b":\n=\n,\n"),
    "JSON of another shape": to(b'[[{"a": null}], -1, "x", 1e308]'),
    "a FIFO": fifo,
    "a folder": folder,
    "a loop": loop,
    "a way out": outside,
    "twice": twice,
    "cut": cut,
    "a minus": minus,
}


def spoiled(folder: Path, spoil: Callable[[Path], None]) -> Path:
    root = folder / "root"
    root.mkdir()
    host_trees.unpack(HOSTS / "kvm-firecracker.toml", root)
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 50
    for file in files:
        spoil(file)
    return root


@pytest.mark.parametrize("name", SPOILS)
def test_the_report_of_a_spoiled_host_is_valid_and_nothing_fails(tmp_path: Path, name: str) -> None:
    root = spoiled(tmp_path, SPOILS[name])
    done = vdscheck("--root", str(root), "--json", "--passive", "--profile", "web", "--profile", "kubernetes-node")
    assert (done.returncode, done.stderr) == (0, "")
    report: dict[str, Any] = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    failed = [finding["summary"] for finding in report["findings"] if " failed (" in finding["summary"]]
    assert failed == []
    assert report["run"]["complete"]
    assert "root:x:0:0" not in done.stdout


@pytest.mark.parametrize("name", ["escapes", "not UTF-8"])
def test_the_text_of_a_spoiled_host_acts_on_no_terminal(tmp_path: Path, name: str) -> None:
    root = spoiled(tmp_path, SPOILS[name])
    done = vdscheck("--root", str(root), "--passive", "-v")
    assert done.returncode == 0
    for mark in ("\x1b", "\u202e", "\u200b", "\r", "\0"):
        assert mark not in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as another user")
def test_files_that_may_not_be_read_are_unknown_for_want_of_permission(tmp_path: Path) -> None:
    """Judged in this process by a user to whom every file of the tree is closed."""
    root = spoiled(tmp_path, lambda file: file.chmod(0))
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/") and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        from vdscheck.model.absence import UnavailableError
        from vdscheck.target.host import Host

        try:
            Host(str(root)).read("/proc/cpuinfo")
            said = "read"
        except UnavailableError as error:
            said = str(error.absent.reason)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    assert os.read(reader, 100) == b"permission"
    os.close(reader)
