"""A process that calls itself kubelet counts only where it is root's, and is that program."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.alone import alone
from vdscheck.plugin import Host
from vdscheck.probes.sysctl.node_agents import PROCESSES, node_agents

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

USER = 12345
NAMED = """
import ctypes, os, sys
if int(sys.argv[2]):
    os.setgroups([])
    os.setresgid(*[int(sys.argv[2])] * 3)
    os.setresuid(*[int(each) for each in sys.argv[3].split(",")])
    if sys.argv[4] == "hidden":
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: most of /proc/PID is root's then
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def running(*words: str, program: str = sys.executable) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def seen() -> set[str]:
    return {each for each in node_agents.function(Host()).evidence if each.startswith("the process ")}


def called(name: str, uid: int, *, ids: str = "", hidden: str = "") -> list[str]:
    return ["-c", NAMED, name, str(uid), ids or f"{uid},{uid},{uid}", hidden]


@pytest.mark.parametrize("name", sorted(PROCESSES))
@alone
def test_a_name_that_a_user_gave_his_process_is_no_evidence(name: str) -> None:
    with running(*called(name, USER)):
        assert seen() == set()


@pytest.mark.parametrize(
    ("ids", "hidden"),
    [
        (f"{USER},{USER},{USER}", "hidden"),
        (f"{USER},0,0", ""),  # as a setuid program that he started has them
        (f"{USER},{USER},0", ""),
        (f"{USER},0,0", "hidden"),
    ],
)
@alone
def test_neither_a_setuid_program_nor_a_process_that_hides_makes_a_node(ids: str, hidden: str) -> None:
    with running(*called("kubelet", USER, ids=ids, hidden=hidden)):
        assert seen() == set()


@alone
def test_a_thread_that_is_called_so_makes_no_node() -> None:
    stop = threading.Event()
    named = threading.Event()

    def be_kubelet() -> None:
        ctypes.CDLL(None).prctl(15, b"kubelet", 0, 0, 0)
        named.set()
        stop.wait()

    thread = threading.Thread(target=be_kubelet)
    thread.start()
    try:
        assert named.wait(10)
        assert seen() == set()
    finally:
        stop.set()
        thread.join()


@alone
def test_a_program_of_roots_that_was_started_through_a_link_of_that_name_makes_no_node(tmp_path: Path) -> None:
    link = tmp_path / "kubelet"
    link.symlink_to("/bin/sh")
    with running("-c", "echo ready; read line", program=str(link)) as process:
        assert Path(f"/proc/{process.pid}/comm").read_text() == "kubelet\n"
        assert seen() == set()


@alone
def test_a_kubelet_of_roots_makes_a_node(tmp_path: Path) -> None:
    program = tmp_path / "kubelet"
    shutil.copy("/bin/sh", program)
    with running("-c", "echo ready; read line", program=str(program)):
        assert seen() == {"the process kubelet"}
        program.unlink()  # as an upgrade does
        assert seen() == {"the process kubelet"}
