"""Whoever made the tree below --root gets nothing from outside of it, and changes nothing there."""

import ctypes
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.fix_namespace import in_namespace
from tests.target.hostile_roots import MAKERS, SECRET, VALUE, made, snapshot
from vdscheck.cli import reference

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")

SCHEMA = json.loads(reference.schema())
EVERYDAY = ("etc is a link out",)
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MAKERS if name not in EVERYDAY]
SCRIPT = """
root={root}
{lines}
call() {{
  "$PYTHON" -m vdscheck "$@" > out 2> err < /dev/null
  echo "$?" >> codes
  cat out; echo ----
  cat err >&2; echo ---- >&2
}}
call --json --passive --root "$root"
call --passive -v --root "$root"
call --dry-run --json --passive --root "$root"
call --fix --yes --json --passive --root "$root"
call undo --root "$root"
call undo --list --root "$root"
tr '\\n' ' ' < codes
chattr -R -ia "$root/etc" "$root/var" 2> /dev/null
find /etc/sysctl.d /var/lib/vdscheck -mindepth 1
"""
CODES = ({0}, {0}, {0}, {0, 3}, {0, 3}, {0, 3})
CHANGES = 0x0FFF
"""inotify(7): every event."""


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """What is opened, read or changed in a tree meanwhile, by name."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    for each in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        assert libc.inotify_add_watch(descriptor, os.fsencode(each), CHANGES) >= 0
    events: list[str] = []
    try:
        yield events
        while True:
            content = os.read(descriptor, 1 << 16)
            while content:
                _, mask, _, length = struct.unpack_from("iIII", content)
                events.append(f"{mask:#x} {content[16 : 16 + length].rstrip(bytes(1)).decode()}")
                content = content[16 + length :]
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def test_there_are_enough_of_them() -> None:
    assert len(MAKERS) >= 28


@pytest.mark.parametrize("name", [*EVERYDAY, *SLOW])
def test_nothing_outside_of_a_hostile_tree_is_read_or_changed(tmp_path: Path, name: str) -> None:
    root, canary = tmp_path / "root", tmp_path / "canary"
    lines = made(name, root, canary)
    before = snapshot(canary)
    with watched(canary) as events:
        done = in_namespace(SCRIPT.format(root=root, lines=lines), timeout_s=300)
    assert events == []
    assert snapshot(canary) == before
    *said, end = done.stdout.split("----\n")
    errors = done.stderr.split("----\n")
    codes = [int(word) for word in end.split() if word.isdigit()]
    assert all(code in allowed for code, allowed in zip(codes, CODES, strict=True)), (codes, errors)
    assert end.split() == [str(code) for code in codes]
    reports = [valid(said[number]) for number in (0, 2, 3)]
    for report in reports:
        assert report["run"]["complete"]
        assert [each["summary"] for each in report["findings"] if " failed (" in each["summary"]] == []
    assert (codes[3] == 3) == (reports[2]["fix"]["outcome"] in {"refused", "given-back", "undecided"})
    nothing_is_told(done.stdout + done.stderr)


def valid(text: str) -> dict[str, Any]:
    report = dict(json.loads(text))
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return report


def nothing_is_told(text: str) -> None:
    """No secret of the host, no sequence that acts on a terminal, no traceback."""
    hashes = [line.split(":")[1] for line in Path("/etc/shadow").read_text().splitlines()]
    for secret in (SECRET, VALUE, *(each for each in hashes if len(each) > 12)):
        assert secret not in text
    for mark in ("\x1b", "\u202e", "\u009b", "\x07", "\0"):
        assert mark not in text
    assert "Traceback" not in text
    assert "a bug" not in text
