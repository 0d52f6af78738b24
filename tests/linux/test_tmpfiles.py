"""What systemd-tmpfiles writes at boot, as we work it out and as it does it itself."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdscheck.linux.mounts import Emptied
from vdscheck.linux.tmpfiles_d import WrittenAtBoot, written
from vdscheck.target.host import Host

TARGET = "/sys/kernel/mm/transparent_hugepage/enabled"
FOLDER = "/sys/kernel/mm/transparent_hugepage"
START = "start"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not here")

# All values have one length: what is written over another one leaves nothing of it.
CASES: dict[str, tuple[dict[str, str], str]] = {
    "nobody writes it": ({}, START),
    "one line": ({"etc/10-a": f"w {TARGET} - - - - alpha"}, "alpha"),
    "the first name of a path counts": (
        {"etc/10-a": f"w {TARGET} - - - - alpha", "etc/20-b": f"w {TARGET} - - - - bravo"},
        "alpha",
    ),
    "the first line of a path counts": ({"etc/10-a": f"w {TARGET} - - - - alpha\nw {TARGET} - - - - bravo"}, "alpha"),
    "of one name that of the first folder": (
        {"etc/10-a": f"w {TARGET} - - - - alpha", "usr/lib/10-a": f"w {TARGET} - - - - bravo"},
        "alpha",
    ),
    "a later folder with an earlier name": (
        {"etc/20-a": f"w {TARGET} - - - - alpha", "usr/lib/10-b": f"w {TARGET} - - - - bravo"},
        "bravo",
    ),
    "a pattern after it": (
        {"etc/10-a": f"w {TARGET} - - - - alpha", "etc/20-b": "w /sys/kernel/mm/*/enabled - - - - bravo"},
        "bravo",
    ),
    "a pattern before it": (
        {"etc/10-a": "w /sys/kernel/mm/*/enabled - - - - bravo", "etc/20-b": f"w {TARGET} - - - - alpha"},
        "alpha",
    ),
    "what is to be left alone": ({"etc/10-a": f"x {TARGET}", "etc/20-b": f"w {TARGET} - - - - alpha"}, START),
    "at boot alone": ({"etc/10-a": f"w! {TARGET} - - - - alpha"}, "alpha"),
    "that may fail": ({"etc/10-a": f"w- {TARGET} - - - - alpha"}, "alpha"),
    "created": ({"etc/10-a": f"f {TARGET} - - - - alpha"}, START),
    "created anew": ({"etc/10-a": f"F {TARGET} - - - - alpha"}, "alpha"),
    "created anew, and written": ({"etc/10-a": f"w {TARGET} - - - - alpha\nf+ {TARGET} - - - - bravo"}, "alpha"),
    "a mode before it": ({"etc/10-a": f"m {TARGET} 0600\nw {TARGET} - - - - alpha"}, "alpha"),
    "nothing to write": ({"etc/10-a": f"w {TARGET}"}, START),
    "a comment behind it is a part of it": ({"etc/10-a": f"w {TARGET} - - - - a # b"}, "a # b"),
    "blanks": ({"etc/10-a": f"  w   {TARGET}\t-  -  - -   alpha  \r"}, "alpha"),
    "slashes": ({"etc/10-a": "w /sys//kernel/./mm/transparent_hugepage/enabled/ - - - - alpha"}, "alpha"),
    "no name of a configuration": ({"etc/10-a.x": f"w {TARGET} - - - - alpha"}, START),
    "a folder above it is not it": ({"etc/10-a": f"w {FOLDER} - - - - alpha"}, START),
    "another file": ({"etc/10-a": f"w {FOLDER}/defrag - - - - alpha"}, START),
}
UNSURE = {
    "a quote": f'w "{TARGET}" - - - - alpha',
    "a specifier": f"w {TARGET} - - - - %b",
    "an escape": f"w {TARGET} - - - - al\\x70ha",
    "base64": f"w~ {TARGET} - - - - YWxwaGE=",
    "a specifier in the path": "w /sys/kernel/mm/%u/enabled - - - - alpha",
    "appended": f"w+ {TARGET} - - - - alpha",
}


def made(root: Path, files: Mapping[str, str]) -> None:
    for folder in ("etc", "run", "usr/local/lib", "usr/lib"):
        (root / folder / "tmpfiles.d").mkdir(parents=True, exist_ok=True)
    (root / FOLDER[1:]).mkdir(parents=True)
    for name in ("enabled", "defrag"):
        (root / FOLDER[1:] / name).write_text(START)
    for name, text in files.items():
        folder, _, file = name.rpartition("/")
        suffix = "" if file.endswith(".x") else ".conf"
        (root / folder / "tmpfiles.d" / f"{file}{suffix}").write_text(f"{text}\n")


def ours(root: Path) -> WrittenAtBoot:
    return written(Host(str(root)), TARGET, None)


def theirs(root: Path) -> str:
    command = ["systemd-tmpfiles", "--create", "--boot", f"--root={root}"]
    subprocess.run(command, capture_output=True, check=False, timeout=60)
    return (root / TARGET[1:]).read_text()


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_at_boot(tmp_path: Path, case: str) -> None:
    files, expected = CASES[case]
    made(tmp_path, files)
    found = ours(tmp_path)
    assert found.sure
    assert (found.value or START) == expected
    if shutil.which("systemd-tmpfiles"):
        assert theirs(tmp_path) == expected


@pytest.mark.parametrize("case", UNSURE)
def test_what_is_not_worked_out_is_said(tmp_path: Path, case: str) -> None:
    made(tmp_path, {"etc/10-a": UNSURE[case]})
    found = ours(tmp_path)
    assert (found.sure, found.value) == (False, None)
    assert "/etc/tmpfiles.d/10-a.conf:1" in (found.why or "")


def test_what_stands_below_run_is_gone_at_boot(tmp_path: Path) -> None:
    made(tmp_path, {"run/10-a": f"w {TARGET} - - - - alpha"})
    assert written(Host(str(tmp_path)), TARGET, Emptied()) == WrittenAtBoot(None, None, sure=True)


def test_a_file_that_cannot_be_read_leaves_it_open(tmp_path: Path) -> None:
    made(tmp_path, {"etc/10-a": f"w {TARGET} - - - - alpha"})
    (tmp_path / "etc/tmpfiles.d/05-b.conf").symlink_to("/dev/zero")
    (tmp_path / "dev").mkdir()
    assert written(Host(str(tmp_path)), TARGET, None).value == "alpha", "a link that leads nowhere sets nothing"


LINES = st.builds(
    lambda kind, path, value: f"{kind} {path} - - - - {value}",
    st.sampled_from(["w", "w!", "w-", "f", "f+", "F", "x", "r", "m", "z", "L", "d", "q", "e"]),
    st.sampled_from([TARGET, "/sys/kernel/mm/*/enabled", f"{FOLDER}/enable[d]", "/sys/*/mm/*/*", f"{FOLDER}/defrag"]),
    st.sampled_from(["alpha", "bravo", "delta"]),
)
NAMES = st.sampled_from([f"{folder}/{name}" for folder in ("etc", "usr/lib") for name in ("10-a", "50-b", "90-c")])


def same_as_systemd(files: Mapping[str, list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made(root, {name: "\n".join(lines) for name, lines in files.items()})
        found = ours(root)
        real = theirs(root) if (root / TARGET[1:]).exists() else START
        assert not found.sure or (found.value or START) == real, files


@needs_systemd
@given(files=st.dictionaries(NAMES, st.lists(LINES, max_size=3), max_size=4))
@settings(max_examples=60, derandomize=True)
def test_any_files_come_to_what_systemd_makes_of_them(files: Mapping[str, list[str]]) -> None:
    same_as_systemd(files)


@needs_systemd
@pytest.mark.slow
@given(files=st.dictionaries(NAMES, st.lists(LINES, max_size=4), max_size=6))
@settings(max_examples=2000, derandomize=True)
def test_thousands_of_files_come_to_what_systemd_makes_of_them(files: Mapping[str, list[str]]) -> None:
    same_as_systemd(files)
