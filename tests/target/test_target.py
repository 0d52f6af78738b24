"""The door: nothing leads out of a root, nothing blocks, nothing is too large."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdscheck.model.absence import Reason, UnavailableError
from vdscheck.target.host import Host, NotFoundError
from vdscheck.target.text import absolute, safe_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small tree, with a file outside of it that must never be seen."""
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "root"
    (inside / "etc/deep").mkdir(parents=True)
    (inside / "etc/file").write_text("content")
    (inside / "etc/absolute").symlink_to("/etc/file")
    (inside / "etc/relative").symlink_to("../etc/./file")
    (inside / "etc/out").symlink_to("../../secret")
    (inside / "etc/far").symlink_to("../../../../../../../../etc/file")
    (inside / "etc/folder").symlink_to("/etc/deep/..")
    (inside / "etc/loop").symlink_to("loop")
    (inside / "etc/dangling").symlink_to("/nowhere")
    (inside / "etc/host").symlink_to("/proc/version")
    os.mkfifo(inside / "etc/fifo")
    return inside


def refusal(ask: Any) -> UnavailableError:
    with pytest.raises(UnavailableError) as refused:
        ask()
    return refused.value


@pytest.mark.parametrize(
    "path",
    ["/etc/file", "/etc/absolute", "/etc/relative", "/etc/far", "/etc/folder/file", "/../../etc/file", "//etc/./file"],
)
def test_links_are_resolved_inside_the_root(root: Path, path: str) -> None:
    assert Host(str(root)).read(path) == "content"


@pytest.mark.parametrize("path", ["/etc/out", "/../secret", "/etc/dangling", "/etc/nothing", "/etc/file/x"])
def test_what_is_not_inside_is_not_there(root: Path, path: str) -> None:
    with pytest.raises(NotFoundError):
        Host(str(root)).read(path)


def test_what_the_running_kernel_knows_is_not_run_under_a_root(root: Path) -> None:
    for path in ("/proc/version", "/sys/class/net", "/etc/host"):
        assert refusal(lambda path=path: Host(str(root)).read(path)).absent.reason in {
            Reason.NOT_RUN,
            Reason.UNSUPPORTED,
        }
    assert refusal(lambda: Host(str(root)).read("/proc/version")).absent.reason is Reason.NOT_RUN
    assert refusal(lambda: Host(str(root)).fact("adjtimex", dict)).absent.reason is Reason.NOT_RUN


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_proc_of_this_kernel_mounted_inside_a_root_is_not_read(root: Path) -> None:
    (root / "proc").mkdir()
    script = """
mount -t proc proc "$1/proc" && "$2" -c '
import sys
from vdscheck.target.host import Host, NotFoundError
host = Host(sys.argv[1])
try:
    print(host.read("/proc/version"))
except NotFoundError as error:
    print("refused", error.absent.reason.value)
' "$1"
"""
    import sys

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(root), sys.executable],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.strip() == "refused not-run"


@pytest.mark.parametrize("path", ["/etc/fifo", "/etc/deep"])
def test_what_is_not_a_regular_file_is_refused_at_once(root: Path, path: str) -> None:
    assert "is not a regular file" in str(refusal(lambda: Host(str(root)).read(path)))
    assert "is not a regular file" in str(refusal(lambda: Host().read(f"{root}{path}")))


def test_a_loop_of_links_ends(root: Path) -> None:
    assert refusal(lambda: Host(str(root)).read("/etc/loop")).absent.reason is Reason.ERROR
    assert refusal(lambda: Host(str(root)).resolved("/etc/loop")).absent.reason is Reason.ERROR


def test_more_than_a_megabyte_is_refused(root: Path) -> None:
    (root / "large").write_bytes(b"x" * (1 << 20))
    assert len(Host(str(root)).read("/large")) == 1 << 20
    (root / "large").write_bytes(b"x" * ((1 << 20) + 1))
    assert "is larger than" in str(refusal(lambda: Host(str(root)).read("/large")))


def test_a_folder_is_listed_in_order_and_a_file_is_not_a_folder(root: Path) -> None:
    assert Host(str(root)).names("/") == ("etc",)
    assert "is not a folder" in str(refusal(lambda: Host(str(root)).names("/etc/file")))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/etc/f*", ["/etc/far", "/etc/fifo", "/etc/file", "/etc/folder"]),
        ("/e*/deep", ["/etc/deep"]),
        ("/etc/file", ["/etc/file"]),
        ("/etc/nothing", []),
        ("/no*/x", []),
        ("/etc/*/file", ["/etc/folder/file"]),
        ("/etc/.*", []),
    ],
)
def test_globs_match_component_by_component(root: Path, pattern: str, found: list[str]) -> None:
    assert list(Host(str(root)).glob(pattern)) == found


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/etc/absolute", "/etc/file"),
        ("/etc/folder/file", "/etc/file"),
        ("/etc/out", "/secret"),
        ("/etc/dangling", "/nowhere"),
        ("/", "/"),
        ("/../..", "/"),
    ],
)
def test_a_path_is_resolved_as_it_would_be_on_that_host(root: Path, path: str, resolved: str) -> None:
    assert Host(str(root)).resolved(path) == resolved


def test_a_status_tells_links_from_what_they_lead_to(root: Path) -> None:
    host = Host(str(root))
    assert host.status("/etc/absolute").kind == "file"
    assert host.status("/etc/absolute", follow=False).kind == "link"
    assert host.status("/etc/file").size_bytes == 7
    assert host.link("/etc/absolute") == "/etc/file"
    assert (host.exists("/etc/dangling"), host.is_folder("/etc/folder")) == (False, True)


def test_facts_are_read_from_a_captured_tree(root: Path) -> None:
    facts = root / ".vdscheck/facts"
    facts.mkdir(parents=True)
    (facts / "adjtimex.json").write_text('{"status": 0}')
    (facts / "bad.json").write_text("{")
    (facts / "deep.json").write_text("[" * 100_000)
    host = Host(str(root))
    assert host.fact("adjtimex", dict) == {"status": 0}
    assert refusal(lambda: host.fact("bad", dict)).absent.reason is Reason.ERROR
    assert refusal(lambda: host.fact("deep", dict)).absent.reason is Reason.ERROR


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(1, "x"), "permission"),
        (PermissionError(13, "x"), "permission"),
        (OSError(95, "x"), "unsupported"),
        (OSError(5, "x"), "error"),
        (OSError("x"), "error"),
    ],
)
def test_what_the_kernel_refuses_has_a_reason(error: OSError, reason: str) -> None:
    def ask() -> Any:
        raise error

    assert refusal(lambda: Host().fact("x", ask)).absent.reason == reason


@pytest.mark.parametrize(
    ("argv", "reason", "said"),
    [
        (("/bin/false",), "error", "ended with 1"),
        (("/bin/sleep", "9"), "timeout", "took longer than 0.2 s"),
        (("no-such-program",), "unsupported", "no-such-program is not installed"),
    ],
)
def test_a_program_that_fails_has_a_reason(argv: tuple[str, ...], reason: str, said: str) -> None:
    refused = refusal(lambda: Host().run(argv, timeout_s=0.2))
    assert refused.absent.reason == reason
    assert said in refused.absent.detail


def test_a_program_is_run_with_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDSCHECK_REDIS_URL", "secret")
    assert "secret" not in Host().run(("/usr/bin/env",))


def _teller(told: list[tuple[str, str, bytes]]) -> Callable[[str, str, bytes], None]:
    return lambda kind, name, content: told.append((kind, name, content))


def test_everything_that_is_read_can_be_recorded(root: Path) -> None:
    told: list[tuple[str, str, bytes]] = []
    host = Host(str(root), record=_teller(told))
    host.read("/etc/file")
    host.names("/etc/deep")
    host.link("/etc/absolute")
    assert told == [
        ("file", "/etc/file", b"content"),
        ("folder", "/etc/deep", b""),
        ("link", "/etc/absolute", b"/etc/file"),
    ]
    live = Host(record=_teller(told))
    live.fact("answer", lambda: 42)
    assert told[-1] == ("fact", "answer", b"42")


@given(st.binary(max_size=50))
def test_any_bytes_become_text_that_any_encoder_bears(raw: bytes) -> None:
    json.dumps(safe_text(raw)).encode("utf-8")
    safe_text(os.fsdecode(raw)).encode("utf-8")


NAMES = st.sampled_from(["a", "b", "c", "..", ".", "link1", "link2", "link3"])
PATHS = st.lists(NAMES, max_size=6).map("/".join)


@settings(max_examples=300)
@given(st.tuples(PATHS, PATHS, PATHS), st.tuples(st.booleans(), st.booleans(), st.booleans()), PATHS)
def test_a_path_leads_where_a_chroot_would_lead_it(
    tmp_path_factory: pytest.TempPathFactory, targets: tuple[str, ...], absolute: tuple[bool, ...], path: str
) -> None:
    """Compared with the kernel itself: openat2 with RESOLVE_IN_ROOT."""
    top = tmp_path_factory.mktemp("chroot")
    inside = top / "root"
    for folder in ("a/b/c", "b/a", "c"):
        (inside / folder).mkdir(parents=True)
    for where in ("a", "b", ".", "a/b"):
        (inside / where / "file").write_text(f"inside {where}")
        for number, (target, rooted) in enumerate(zip(targets, absolute, strict=True), 1):
            text = ("/" if rooted else "") + target
            if text:
                (inside / where / f"link{number}").symlink_to(text)
    (top / "file").write_text("outside")
    try:
        found = Host(str(inside)).read(f"/{path}/file")
    except UnavailableError:
        found = ""
    assert found == read_in_root(str(inside), f"{path}/file")


def read_in_root(root: str, path: str) -> str:
    import ctypes

    class OpenHow(ctypes.Structure):
        _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))

    how = OpenHow(os.O_RDONLY, 0, 0x10)
    top = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        opened = ctypes.CDLL(None, use_errno=True).syscall(
            437, top, path.lstrip("/").encode(), ctypes.byref(how), ctypes.sizeof(how)
        )
        if opened < 0:
            return ""
        try:
            return os.read(opened, 100).decode()
        finally:
            os.close(opened)
    finally:
        os.close(top)


# Paths of the caller


@given(names=st.lists(st.sampled_from(["a", "b", "link", "away", "..", ".", ""]), max_size=7), rooted=st.booleans())
def test_a_path_of_the_caller_s_is_the_file_that_the_kernel_means(
    tmp_path_factory: pytest.TempPathFactory, *, names: list[str], rooted: bool
) -> None:
    """A link leads elsewhere, and ".." behind it goes up from there."""
    folder = tmp_path_factory.mktemp("paths")
    for each in ("here/a/b", "here/b", "other/a/b"):
        (folder / each).mkdir(parents=True)
    (folder / "here/link").symlink_to("../other/a")
    (folder / "here/a/away").symlink_to("/")
    before = Path.cwd()
    os.chdir(folder / "here")
    try:
        path = os.path.join(*([str(folder / "here")] if rooted else []), "/".join(names).lstrip("/") or ".")
        made = absolute(path)
        assert made.startswith("/")
        assert "/./" not in f"{made}/"
        assert "//" not in made
        assert os.path.exists(made) == os.path.exists(path)
        assert not os.path.exists(path) or os.path.samefile(made, path)
    finally:
        os.chdir(before)


@pytest.mark.parametrize(
    ("path", "made"),
    [("/..", "/"), ("//etc//./x/", "/etc/x"), ("/a/../b", "/a/../b"), ("/../../a", "/a"), ("/", "/")],
)
def test_what_cannot_be_a_link_is_left_out_of_a_path(path: str, made: str) -> None:
    assert absolute(path) == made
