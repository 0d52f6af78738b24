"""Hosts with very much of something: nothing is lost for it, and little time."""

import json
import os
import socket
import sys
from typing import Any

import pytest

from tests.support.program import PROGRAM
from tests.support.small_machines import run
from vdscheck.linux import processes
from vdscheck.probes.sysctl import listeners
from vdscheck.target.host import Host

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")
PYTHON = sys.executable
NAMESPACES = ("unshare", "--net", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c")


def examined(**surroundings: Any) -> tuple[dict[str, Any], float]:
    """The report of a passive run there, and how long it took."""
    done = run("--passive", "--json", **surroundings)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    return report, report["run"]["duration_s"]


def taken(report: dict[str, Any]) -> set[str]:
    """What was measured."""
    return {key for key, each in report["measurements"].items() if each["absent"] is None}


def among(script: str) -> tuple[str, ...]:
    """The program in namespaces of its own, after a script in Python that leaves processes behind."""
    prepared = f"ip link set lo up\n{PYTHON} - <<'END'\n{script}\nEND\n" + 'exec "$@"'
    return (*NAMESPACES, prepared, "sh", *PROGRAM)


LISTENING = """
import os, resource, socket, signal
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
ready, done = os.pipe()
parts, port = -(-COUNT // (most - 50)), 0
for part in range(parts):
    if os.fork() == 0:
        kept = []
        for number in range(part, COUNT, parts):
            kept.append(socket.socket())
            kept[-1].bind((f"127.1.0.{1 + number % 64}", 1024 + number // 64))
            kept[-1].listen(1 + number % 7)
        os.write(done, b"x")
        signal.pause()
for _ in range(parts):
    os.read(ready, 1)
"""


@needs_root
@pytest.mark.slow
def test_65535_listening_sockets_lose_no_measurement_and_hardly_any_time() -> None:
    few, few_s = examined(program=among(""))
    many, many_s = examined(program=among(LISTENING.replace("COUNT", "65535")))
    assert taken(many) == taken(few)
    assert many["score"]["coverage"] == few["score"]["coverage"]
    found = many["measurements"]["sysctl.listeners"]["value"]
    assert len(found["sockets"]) == 65_535
    assert found["local_ports_in_use"] == 1024
    assert sum(each["owner"] is not None for each in found["sockets"]) == listeners.NAMED_LIMIT
    # A second is what it may cost; ten times that is what a loaded machine may make of it.
    assert many_s - few_s < 10


def test_owners_are_looked_up_for_the_sockets_that_a_finding_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[int]] = []

    def owners(_host: Host, inodes: set[int]) -> dict[int, str]:
        asked.append(set(inodes))
        return dict.fromkeys(inodes, "somebody")

    monkeypatch.setattr(listeners, "socket_owners", owners)
    monkeypatch.setattr(listeners, "NAMED_LIMIT", 3)
    longest = int(Host().read("/proc/sys/net/core/somaxconn"))
    rows = [["::", 1000 + inode, backlog, 0, inode] for inode, backlog in enumerate((9, 8, longest, 7, 7, 9, longest))]
    monkeypatch.setattr(listeners, "_ask", lambda: {"listening": rows, "local_ports_in_use": 7})
    found = listeners.listeners.function(Host())
    assert asked == [{2, 6, 3}], "as long as the kernel lets it be, then the shortest, of equal ones the oldest"
    assert [each.owner is not None for each in found.sockets] == [False, False, True, True, False, False, True]


def test_the_look_for_owners_ends_with_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    descriptors = processes.descriptors

    def noted(host: Host, pid: str, ends_at: float) -> Any:
        for found in descriptors(host, pid, ends_at):
            looked.append(found[1])
            yield found

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        inodes = [os.fstat(each.fileno()).st_ino for each in (server, other)]
        monkeypatch.setattr(processes, "processes", lambda _host: [str(os.getpid()), "1"])
        monkeypatch.setattr(processes, "descriptors", noted)
        found = processes.socket_owners(Host(), inodes)
    assert set(found) == set(inodes)
    assert looked[-1] in {f"socket:[{inode}]" for inode in inodes}


MOUNTS = """
mount -t tmpfs none /mnt
"$PYTHON" -c '
import ctypes, os
libc = ctypes.CDLL(None)
for number in range(5000):
    place = f"/mnt/{number}"
    os.mkdir(place)
    assert libc.mount(b"none", place.encode(), b"tmpfs", 0, None) == 0
'
"""
CPUS = """
mount -t tmpfs none /mnt
"$PYTHON" -c '
first = open("/proc/cpuinfo").read().partition("\\n\\n")[0].partition("\\n")[2]
open("/mnt/cpuinfo", "w").write("".join(f"processor\\t: {number}\\n{first}\\n\\n" for number in range(1500)))
assert len(open("/mnt/cpuinfo").read()) > 1 << 20
'
mount --bind /mnt/cpuinfo /proc/cpuinfo
"""


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("before", [MOUNTS, CPUS], ids=["5,000 mounts", "1,500 CPUs"])
def test_long_files_of_the_kernel_lose_no_measurement(before: str) -> None:
    variables = {"PATH": os.environ["PATH"], "PYTHON": PYTHON}
    few, _ = examined(env=variables)
    many, _ = examined(env=variables, before=before)
    assert taken(many) == taken(few)


PROCESSES = """
import os, signal
for _ in range(3000):
    if os.fork() == 0:
        signal.pause()
"""
CONNECTIONS = """
import os, resource, signal, socket
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
ready, done = os.pipe()
for part in range(4):
    if os.fork() == 0:
        server, kept = socket.create_server((f"127.1.0.{1 + part}", 80), backlog=100), []
        for _ in range(5000):
            kept += [socket.create_connection(server.getsockname()), server.accept()[0]]
        os.write(done, b"x")
        signal.pause()
for _ in range(4):
    os.read(ready, 1)
"""


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("script", [PROCESSES, CONNECTIONS], ids=["3,000 processes", "20,000 connections"])
def test_many_processes_and_connections_lose_no_measurement(script: str) -> None:
    few, _ = examined(program=among(""))
    many, _ = examined(program=among(script))
    assert taken(many) == taken(few)
