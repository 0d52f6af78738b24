"""The kernel probes: against this machine and independent commands, and on small made-up trees."""

import ctypes
import errno
import ipaddress
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.alone import alone
from tests.support.project import PROJECT
from vdscheck import testing
from vdscheck.linux import processes
from vdscheck.measurements import KERNEL_KEYS, KernelOwner
from vdscheck.model.absence import Absent, Reason, UnavailableError
from vdscheck.plugin import Probe
from vdscheck.probes.sysctl import listeners, open_files, values
from vdscheck.target.host import Host

LIVE = Host()


def taken(probe: Probe, host: Host = LIVE) -> Any:
    """What a probe gives: a measurement, or the absence that stands for it."""
    try:
        return probe.function(host)
    except UnavailableError as error:
        return error.absent


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def in_child(code: str, *wrapper: str) -> Any:
    """What a piece of code in a process of its own prints as JSON; `taken` and the probes are at hand."""
    start = (
        "import json, os\n"
        "from tests.probes.sysctl.test_sysctl import LIVE, listeners, open_files, taken, values\n"
        "from vdscheck.model.absence import Absent\n"
    )
    argv = [*wrapper, sys.executable, "-c", start + textwrap.dedent(code)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Whose kernel

MOUNTINFO = "22 1 0:21 / {} {} shared:2 - proc proc rw\n"
OWN_LINKS = {"/proc/self/ns/pid": "pid:[4026531836]", "/proc/self/ns/user": "user:[4026531837]"}
OWN_FILES = {
    "/proc/self/mountinfo": MOUNTINFO.format("/proc", "rw,nosuid"),
    "/proc/2/comm": "kthreadd\n",
    "/proc/self/uid_map": "         0          0 4294967295\n",
}


@pytest.mark.parametrize(
    ("files", "links", "ours", "writable"),
    [
        ({}, {}, True, True),
        ({"/.dockerenv": ""}, {}, True, True),
        ({"/proc/2/comm": None}, {}, True, True),  # hidepid=2
        ({"/proc/self/mountinfo": None}, {}, True, True),
        ({"/proc/2/comm": "bash\n"}, {}, False, True),
        ({"/proc/2/comm": "kthreadd/101\n"}, {}, False, True),  # OpenVZ
        ({"/proc/self/uid_map": "0 100000 65536\n"}, {}, False, True),
        ({"/proc/self/uid_map": "0 0 4294967295\n1 1 1\n"}, {}, False, True),
        ({"/proc/self/uid_map": ""}, {}, False, True),
        ({}, {"/proc/self/ns/pid": "pid:[4026532600]"}, False, True),
        ({}, {"/proc/self/ns/user": "user:[4026532600]"}, False, True),
        # A systemd unit with ProtectKernelTunables= is on its own machine, where it may set nothing.
        ({"/proc/self/mountinfo": MOUNTINFO.format("/proc", "ro,nosuid")}, {}, True, False),
        (
            {"/proc/self/mountinfo": MOUNTINFO.format("/proc", "rw") + MOUNTINFO.format("/proc/sys", "ro,relatime")},
            {},
            True,
            False,
        ),
        (
            {"/proc/self/mountinfo": MOUNTINFO.format("/proc", "ro") + MOUNTINFO.format("/proc/sys", "rw,relatime")},
            {},
            True,
            True,
        ),
        ({"/proc/self/mountinfo": "rubbish\n\n" + MOUNTINFO.format("/proc/sys", "rw")}, {}, True, True),
    ],
)
def test_who_owns_the_kernel_follows_from_facts(
    tmp_path: Path, files: dict[str, Any], links: dict[str, str], ours: Any, writable: Any
) -> None:
    present = {path: text for path, text in {**OWN_FILES, **files}.items() if text is not None}
    found = taken(values.owner, testing.host(tmp_path, present, {**OWN_LINKS, **links}))
    assert (found.ours, found.writable) == (ours, writable)
    assert all(found.clues)


@pytest.mark.parametrize("links", [{}, {"/proc/self/ns/pid": "pid:[4026531836]"}])
def test_without_the_namespaces_nobody_is_called_the_owner(tmp_path: Path, links: dict[str, str]) -> None:
    found = taken(values.owner, testing.host(tmp_path, OWN_FILES, links))
    assert (found.kind, found.reason) == ("unmeasured", Reason.NOT_RUN)
    assert taken(values.owner, Host(root=str(tmp_path / "proc"))).reason is Reason.NOT_RUN


OWNER_CODE = """
found = taken(values.owner)
print(json.dumps([found.ours, found.writable]))
"""


def test_this_machine_owns_its_kernel() -> None:
    assert in_child(OWNER_CODE) == [True, True]
    assert isinstance(taken(values.owner), KernelOwner)


def test_an_ordinary_user_gets_the_same_answer_with_hidden_processes() -> None:
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh")
    code = """
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    assert not os.path.exists("/proc/1"), "processes are not hidden"
    """
    assert in_child(textwrap.dedent(code) + OWNER_CODE, *hidden) == [True, True]


@pytest.mark.parametrize(
    "flags",
    [("--pid", "--fork", "--mount-proc"), ("--user", "--map-root-user"), ("--user", "--map-user=1000")],
)
def test_in_namespaces_of_its_own_a_process_does_not_own_the_kernel(flags: tuple[str, ...]) -> None:
    assert in_child(OWNER_CODE, "unshare", *flags)[0] is False


def test_a_read_only_proc_sys_is_not_writable_and_says_nothing_of_whose_the_kernel_is() -> None:
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    assert in_child(OWNER_CODE, "unshare", "--mount", "sh", "-c", script, "sh") == [True, False]


# Settings


def test_settings_are_what_sysctl_says() -> None:
    found = taken(values.sysctls)
    assert set(found.values) | set(found.missing) == set(KERNEL_KEYS)
    for key, value in found.values.items():
        assert value.split() == output("sysctl", "-n", key).split(), key


def test_settings_are_normalised_and_what_is_missing_names_its_module_or_namespace(tmp_path: Path) -> None:
    host = testing.host(
        tmp_path,
        {
            "/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
            "/proc/sys/net/ipv4/ip_local_reserved_ports": "\n",
            "/proc/sys/vm/swappiness": " 60 \n",
        },
    )
    found = taken(values.sysctls, host)
    assert found.values == {
        "net.ipv4.ip_local_port_range": "32768 60999",
        "net.ipv4.ip_local_reserved_ports": "",
        "vm.swappiness": "60",
    }
    conntrack, backlog = found.missing["net.netfilter.nf_conntrack_max"], found.missing["net.core.somaxconn"]
    assert conntrack.kind == backlog.kind == "not-applicable"
    assert "the module nf_conntrack is not loaded" in conntrack.detail
    assert "network namespace" in backlog.detail
    assert found.missing["vm.max_map_count"].reason is Reason.UNSUPPORTED


def test_an_image_without_captured_settings_has_none(tmp_path: Path) -> None:
    found = taken(values.sysctls, Host(root=str(tmp_path)))
    assert found.values == {}
    assert {absent.reason for absent in found.missing.values()} == {Reason.NOT_RUN}


def test_a_setting_that_may_not_be_read_is_a_matter_of_permission(tmp_path: Path) -> None:
    host = testing.host(tmp_path, {"/proc/sys/vm/swappiness": "60\n", "/proc/sys/fs/nr_open/x": ""})
    found = taken(values.sysctls, host)
    assert found.missing["fs.nr_open"].reason is Reason.ERROR


# Counters


def test_tcp_counters_are_what_nstat_says() -> None:
    names = {
        "listen_overflows": "TcpExtListenOverflows",
        "listen_drops": "TcpExtListenDrops",
        "req_q_full_do_cookies": "TcpExtTCPReqQFullDoCookies",
        "req_q_full_drop": "TcpExtTCPReqQFullDrop",
        "syncookies_sent": "TcpExtSyncookiesSent",
        "syncookies_failed": "TcpExtSyncookiesFailed",
        "active_opens": "TcpActiveOpens",
    }
    before, found, after = nstat(), taken(values.tcp_counters), nstat()
    for field, name in names.items():
        # Counters only grow, and others use the network of this machine as well.
        assert before[name] <= getattr(found, field) <= after[name], name


def nstat() -> dict[str, int]:
    lines = (line.split() for line in output("nstat", "-asz").splitlines()[1:])
    return {words[0]: int(words[1]) for words in lines}


@alone
def test_a_closed_connection_waits_and_is_counted() -> None:
    before = taken(values.tcp_counters)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        client.close()
        accepted.close()
        after = taken(values.tcp_counters)
        assert after.active_opens == before.active_opens + 1
        assert after.time_wait == waiting() == 1


def waiting() -> int:
    return len(output("ss", "-Htan", "state", "time-wait").splitlines())


NETSTAT = "TcpExt: SyncookiesSent SyncookiesFailed ListenOverflows ListenDrops TCPReqQFullDoCookies TCPReqQFullDrop\n"
COUNTERS = {
    "/proc/net/netstat": "IpExt: InNoRoutes\nIpExt: 9\n" + NETSTAT + "TcpExt: 1 2 3 4 5 6\n",
    "/proc/net/snmp": "Tcp: RtoAlgorithm MaxConn ActiveOpens\nTcp: 1 -1 78\n",
    "/proc/net/sockstat": "sockets: used 59\nTCP: inuse 1 orphan 0 tw 17 alloc 2 mem 1\nUDP: inuse 0 mem 0\n",
}


def test_counters_are_found_by_name(tmp_path: Path) -> None:
    found = taken(values.tcp_counters, testing.host(tmp_path, COUNTERS))
    assert (found.syncookies_sent, found.syncookies_failed, found.listen_overflows) == (1, 2, 3)
    assert (found.listen_drops, found.req_q_full_do_cookies, found.req_q_full_drop) == (4, 5, 6)
    assert (found.active_opens, found.time_wait) == (78, 17)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/proc/net/netstat", "TcpExt: SyncookiesSent\nTcpExt: 1\n"),
        ("/proc/net/netstat", NETSTAT),
        ("/proc/net/netstat", NETSTAT + "TcpExt: a b c d e f\n"),
        ("/proc/net/snmp", ""),
        ("/proc/net/sockstat", "TCP: inuse 1\n"),
        ("/proc/net/sockstat", "TCP: inuse 1 tw x\n"),
    ],
)
def test_a_counter_that_is_not_there_is_not_zero(tmp_path: Path, path: str, text: str) -> None:
    found = taken(values.tcp_counters, testing.host(tmp_path, {**COUNTERS, path: text}))
    assert isinstance(found, Absent)
    assert found.reason is Reason.UNSUPPORTED


def test_the_mode_of_huge_pages_is_what_the_kernel_marks(tmp_path: Path) -> None:
    marked = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    assert f"[{taken(values.huge_pages).enabled}]" in marked
    folder = "/sys/kernel/mm/transparent_hugepage"
    host = testing.host(tmp_path / "a", {f"{folder}/enabled": "always madvise [never]\n"})
    assert (taken(values.huge_pages, host).enabled, taken(values.huge_pages, host).defrag) == ("never", None)
    assert (
        taken(values.huge_pages, testing.host(tmp_path / "b", {f"{folder}/enabled": "always\n"})).reason is Reason.ERROR
    )
    assert taken(values.huge_pages, Host(root=str(tmp_path))).reason is Reason.NOT_RUN


def test_connection_tracking_is_counted_where_it_is_loaded(tmp_path: Path) -> None:
    folder = "/proc/sys/net/netfilter/nf_conntrack"
    found = taken(
        values.conntrack, testing.host(tmp_path / "a", {f"{folder}_count": "7\n", f"{folder}_max": "262144\n"})
    )
    assert (found.count, found.maximum) == (7, 262144)
    assert taken(values.conntrack, Host(root=str(tmp_path))).reason is Reason.NOT_RUN
    broken = testing.host(tmp_path / "b", {f"{folder}_count": "\n", f"{folder}_max": "1\n"})
    assert taken(values.conntrack, broken).reason is Reason.ERROR
    live = taken(values.conntrack)
    if os.path.exists(f"{folder}_max"):
        assert live.maximum == int(output("sysctl", "-n", "net.netfilter.nf_conntrack_max"))
    else:
        assert live.kind == "not-applicable"


def test_swap_is_what_free_says(tmp_path: Path) -> None:
    line = next(line for line in output("free", "--bytes").splitlines() if line.startswith("Swap:"))
    found = taken(values.swap)
    assert found.total_bytes == int(line.split()[1])
    files = {
        "/proc/meminfo": "MemTotal: 9 kB\nSwapCached: 1 kB\nSwapTotal:       2048 kB\nSwapFree:        1024 kB\n",
        "/proc/vmstat": "pswpin 5\npswpout 6\nzswpin 7\n",
    }
    found = taken(values.swap, testing.host(tmp_path, files))
    assert (found.total_bytes, found.used_bytes) == (2 << 20, 1 << 20)
    assert (found.pages_in_since_boot, found.pages_out_since_boot) == (5, 6)
    for path in files:
        assert taken(values.swap, testing.host(tmp_path, {**files, path: ""})).reason is Reason.UNSUPPORTED


# Files and watches


def service(pid: int, name: str, limit: str, open_files: int, parent: int = 1) -> dict[str, str]:
    limits = f"Limit                     Soft Limit           Hard Limit           Units     \n{limit}"
    return {
        f"/proc/{pid}/stat": f"{pid} ({name}) S {parent} {pid} {pid} 0",
        f"/proc/{pid}/limits": limits,
        f"/proc/{pid}/comm": f"{name}\n",
        **{f"/proc/{pid}/fd/{number}": "" for number in range(open_files)},
    }


def limits_file(limit: int | str) -> str:
    return f"Max open files            {limit:<20} 524288               files     \n"


def test_file_handles_are_what_the_kernel_counts() -> None:
    _, _, maximum = output("cat", "/proc/sys/fs/file-nr").split()
    found = taken(open_files.file_handles)
    assert found.maximum == int(maximum)
    assert found.allocated > 0  # how many is another number at every look


def test_the_services_are_what_pid_1_started_whatever_their_names(tmp_path: Path) -> None:
    host = testing.host(
        tmp_path,
        {
            "/proc/sys/fs/file-nr": "617\t0\t9223372036854775807\n",
            **service(300, "nginx", limits_file(1024), 100),
            **service(301, "a) R 9 (b", limits_file(512), 3),
            **service(302, "c) R 1 (d", limits_file(4), 4, parent=300),
            **service(303, "no limit", limits_file("unlimited"), 4),
            "/proc/self/fd/1": "",
            "/proc/304/stat": "",
        },
    )
    found = taken(open_files.file_handles, host)
    assert (found.allocated, found.maximum) == (617, 9223372036854775807)
    assert (found.lowest_service, found.lowest_service_limit) == ("a) R 9 (b", 512)
    assert (found.fullest_service, found.fullest_service_open) == ("nginx", 100)


def test_without_visible_services_only_the_whole_is_known(tmp_path: Path) -> None:
    found = taken(open_files.file_handles, testing.host(tmp_path, {"/proc/sys/fs/file-nr": "0 0 100\n"}))
    assert (found.allocated, found.lowest_service_limit, found.fullest_service_open) == (0, None, None)


@pytest.mark.parametrize("text", ["", "1 2", "1 2 x", "1 2 -3", "1 2 3 4", "१ २ ३"])
def test_a_file_nr_that_holds_something_else_is_an_error(tmp_path: Path, text: str) -> None:
    found = taken(open_files.file_handles, testing.host(tmp_path, {"/proc/sys/fs/file-nr": text}))
    assert found.reason is Reason.ERROR


@alone
def test_inotify_watches_are_counted(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    before = taken(open_files.inotify)
    descriptor = libc.inotify_init()
    assert descriptor >= 0
    try:
        for number in range(5):
            (tmp_path / str(number)).mkdir()
            assert libc.inotify_add_watch(descriptor, bytes(tmp_path / str(number)), 0x100) >= 0
        after = taken(open_files.inotify)
    finally:
        os.close(descriptor)
    assert (before.instances, before.watches) == (0, 0)
    assert (after.instances, after.watches, after.most_watches_of_a_user) == (1, 5, 5)


# Sockets


def ss_listening() -> dict[tuple[str, int], tuple[int, int]]:
    """Address and port -> waiting and backlog, as ss prints them."""
    found = {}
    for line in output("ss", "-Hltn").splitlines():
        _, waiting, backlog, local, *_ = line.split()
        address, _, port = local.rpartition(":")
        address = address.strip("[]").partition("%")[0].replace("*", "::")
        found[str(ipaddress.ip_address(address)), int(port)] = (int(waiting), int(backlog))
    return found


def listening() -> dict[tuple[str, int], tuple[int, int]]:
    found = taken(listeners.listeners)
    return {(each.address, each.port): (each.waiting, each.backlog) for each in found.sockets}


@alone
def test_listening_sockets_have_the_backlog_that_ss_prints() -> None:
    with ExitStack() as stack:
        mine = {}
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")):
            for backlog in (1, 7, 100):
                server = stack.enter_context(socket.socket(family))
                server.bind((address, 0))
                server.listen(backlog)
                mine[address, server.getsockname()[1]] = (0, backlog)
        assert listening() == ss_listening() == mine
        owners = {each.port: each.owner for each in taken(listeners.listeners).sockets}
        name = Path("/proc/self/comm").read_text().strip()
        assert {owners[port] for _, port in mine} == {name}


@alone
def test_connections_that_wait_for_accept_are_counted() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=9))
        for _ in range(4):
            stack.enter_context(socket.create_connection(server.getsockname()))
        key = ("127.0.0.1", server.getsockname()[1])
        assert listening()[key] == (4, 9) == ss_listening()[key]


def test_the_backlog_is_what_the_kernel_allowed_not_what_was_asked_for() -> None:
    limit = int(output("sysctl", "-n", "net.core.somaxconn"))
    with socket.create_server(("127.0.0.1", 0), backlog=1 << 30) as server:
        assert listening()["127.0.0.1", server.getsockname()[1]][1] == limit


def test_thousands_of_sockets_are_no_trouble() -> None:
    code = """
    import resource, socket
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    os.system("ip link set lo up")
    kept = [socket.create_server(("127.0.0.1", 0), backlog=5) for _ in range(4000)]
    found = taken(listeners.listeners)
    print(json.dumps([
        len({each.port for each in found.sockets}), found.local_ports_in_use,
        sorted({each.backlog for each in found.sockets}), len({each.owner for each in found.sockets}),
    ]))
    """
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 5000
    assert in_child(code, "unshare", "--net") == [4000, 4000, [5], 1]


def test_where_nothing_listens_nothing_is_found_and_that_is_not_an_absence() -> None:
    code = """
    found = taken(listeners.listeners)
    print(json.dumps([len(found.sockets), found.local_ports_in_use]))
    """
    assert in_child(code, "unshare", "--net") == [0, 0]


def test_local_ports_of_every_state_count_once() -> None:
    code = """
    import socket
    os.system("ip link set lo up")
    server = socket.create_server(("127.0.0.1", 0))
    alone = taken(listeners.listeners).local_ports_in_use
    kept = [socket.create_connection(server.getsockname()) for _ in range(3)]
    accepted = [server.accept() for _ in kept]
    connected = taken(listeners.listeners).local_ports_in_use
    kept.pop().close()
    print(json.dumps([alone, connected, taken(listeners.listeners).local_ports_in_use]))
    """
    assert in_child(code, "unshare", "--net") == [1, 4, 4]


def test_an_ordinary_user_sees_the_queues_but_not_the_owners_of_others() -> None:
    code = """
    import socket
    server = socket.create_server(("127.0.0.1", 0), backlog=5)
    if os.fork() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        found = [each for each in taken(listeners.listeners).sockets if each.port == server.getsockname()[1]]
        print(json.dumps([found[0].backlog, found[0].owner]), flush=True)
        os._exit(0)
    os.wait()
    """
    backlog, _ = in_child(code)
    assert backlog == 5


def captured(root: Path, fact: Any) -> Host:
    return testing.host(root, {}, facts={"listeners": fact})


def test_captured_sockets_are_read_with_their_owners(tmp_path: Path) -> None:
    row = ["::", 80, 511, 3, 4711]
    links = {"/proc/9/fd/3": "socket:[4711]", "/proc/9/fd/4": "pipe:[4711]"}
    fact = {"listening": [row], "local_ports_in_use": None}
    host = testing.host(tmp_path, {"/proc/9/comm": "nginx\n"}, links, {"listeners": fact})
    found = taken(listeners.listeners, host)
    assert found.local_ports_in_use is None
    (only,) = found.sockets
    assert (only.address, only.port, only.backlog, only.waiting, only.owner) == ("::", 80, 511, 3, "nginx")


@pytest.mark.parametrize(
    "fact",
    [
        None,
        [],
        {},
        "x",
        {"listening": 1, "local_ports_in_use": 1},
        {"listening": [[]], "local_ports_in_use": 1},
        {"listening": [["::", 1, 2, 3]], "local_ports_in_use": 1},
        {"listening": [["::", 1, 2, 3, "4"]], "local_ports_in_use": 1},
        {"listening": [["::", 1, -2, 3, 4]], "local_ports_in_use": 1},
        {"listening": [["::", 1, True, 3, 4]], "local_ports_in_use": 1},
        {"listening": [[6, 1, 2, 3, 4]], "local_ports_in_use": 1},
        {"listening": [], "local_ports_in_use": 1.5},
        {"listening": []},
    ],
)
def test_a_captured_fact_of_another_shape_is_an_error(tmp_path: Path, fact: Any) -> None:
    found = taken(listeners.listeners, captured(tmp_path, fact))
    assert isinstance(found, Absent)
    assert found.reason is Reason.ERROR


def test_an_image_has_no_sockets(tmp_path: Path) -> None:
    assert taken(listeners.listeners, Host(root=str(tmp_path))).reason is Reason.NOT_RUN


@alone
def test_looking_for_owners_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (processes, open_files):
        monkeypatch.setattr(module, "LOOK_LIMIT_S", -1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        inode = os.fstat(server.fileno()).st_ino
        assert processes.socket_owners(LIVE, {inode}) == {}
        assert taken(open_files.file_handles).lowest_service is None
        assert taken(open_files.inotify).processes_unseen > 0
        monkeypatch.undo()
        assert set(processes.socket_owners(LIVE, {inode})) == {inode}


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOENT, Reason.UNSUPPORTED),
        (errno.EPERM, Reason.PERMISSION),
        (errno.ENOBUFS, Reason.ERROR),
        (None, Reason.TIMEOUT),
    ],
)
def test_a_kernel_that_refuses_is_an_absence_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, number: int | None, reason: Reason
) -> None:
    def refuse(states: int, ends_at: float) -> Iterator[listeners.DiagSocket]:
        raise TimeoutError if number is None else OSError(number, "refused")
        yield

    monkeypatch.setattr(listeners, "dump", refuse)
    found = taken(listeners.listeners)
    assert isinstance(found, Absent)
    assert found.reason is reason


# What the kernel answers


def message(kind: int, payload: bytes) -> bytes:
    length = 16 + len(payload)
    return struct.pack("=IHHII", length, kind, 2, 1, 0) + payload + bytes(-length % 4)


def described(family: int, address: bytes, port: int, state: int, queues: tuple[int, int], inode: int) -> bytes:
    head = struct.pack("=BBBB", family, state, 0, 0) + struct.pack(">HH", port, 0)
    return head + address.ljust(16, b"\0") + bytes(16 + 4 + 8 + 4) + struct.pack("=IIII", *queues, 1000, inode)


NUMBERS = st.integers(0, 2**32 - 1)
V4 = st.tuples(st.just(2), st.binary(min_size=4, max_size=4))
V6 = st.tuples(st.just(10), st.binary(min_size=16, max_size=16))
SOCKETS = st.tuples(V4 | V6, st.integers(0, 65535), st.integers(1, 12), st.tuples(NUMBERS, NUMBERS), NUMBERS)


@given(sockets=st.lists(SOCKETS, max_size=20), extra=st.binary(max_size=40), done=st.booleans())
def test_what_the_kernel_describes_is_what_is_read(sockets: list[Any], extra: bytes, done: Any) -> None:
    parts = [message(20, described(*where, *rest) + extra) for where, *rest in sockets]
    found, ended = listeners.parse(b"".join(parts) + (message(3, bytes(4)) if done else b""))
    assert ended is done
    for each, ((family, address), port, state, queues, inode) in zip(found, sockets, strict=True):
        assert each.address == str(ipaddress.ip_address(address))
        assert (each.family, each.port, each.state) == (family, port, state)
        assert (each.read_queue, each.write_queue, each.inode) == (*queues, inode)


@given(datagram=st.binary(max_size=300))
def test_rubbish_from_the_kernel_is_refused_and_never_read_for_ever(datagram: bytes) -> None:
    try:
        listeners.parse(datagram)
    except (listeners.DiagError, OSError):
        return


@given(sockets=st.lists(SOCKETS, min_size=1, max_size=4), data=st.data())
def test_a_damaged_answer_is_refused_or_read_never_a_crash(sockets: list[Any], data: st.DataObject) -> None:
    whole = bytearray(b"".join(message(20, described(*where, *rest)) for where, *rest in sockets))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        found, _ = listeners.parse(bytes(whole[:cut]))
    except (listeners.DiagError, OSError):
        return
    for each in found:
        assert str(ipaddress.ip_address(each.address)) == each.address


@pytest.mark.parametrize(
    ("datagram", "number"),
    [
        (message(2, struct.pack("=i", -errno.EPERM)), errno.EPERM),
        (message(2, struct.pack("=i", 5)), errno.EIO),
        (message(2, struct.pack("=i", -(2**31))), errno.EIO),
        (message(3, struct.pack("=i", -errno.ENOBUFS)), errno.ENOBUFS),
    ],
)
def test_an_error_from_the_kernel_is_its_errno(datagram: bytes, number: int) -> None:
    with pytest.raises(OSError, match="sock_diag") as raised:
        listeners.parse(datagram)
    assert raised.value.errno == number


@pytest.mark.parametrize(
    "datagram",
    [
        message(3, b""),
        message(20, b""),
        message(20, described(1, b"", 0, 10, (0, 0), 0)),
        message(3, bytes(4))[:10],
        message(20, described(2, b"", 0, 10, (0, 0), 0) + bytes(8))[:-4],
        struct.pack("=IHHII", 15, 20, 2, 1, 0),
        struct.pack("=IHHII", 0, 20, 2, 1, 0),
        struct.pack("=IHHII", 2**32 - 1, 20, 2, 1, 0),
    ],
)
def test_a_message_that_is_too_short_or_too_long_is_refused(datagram: bytes) -> None:
    with pytest.raises(listeners.DiagError):
        listeners.parse(datagram)
