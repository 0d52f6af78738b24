"""Real Redis servers, examined as their users would: in every way to reach one, and in every state of one."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.lab.net.network import Network
from tests.lab.net.topology import apart
from tests.lab.redis_server import RedisServer, certificates, within
from tests.support.alone import alone
from tests.support.program import environment, report, vdscheck
from tests.support.project import PROJECT

SECRET = "hunter2-s3cret"
QUICK = ("run", "--only", "redis.*", "--quick")
LATENCY = ("run", "--only", "redis.latency", "--quick")
CALM = (*QUICK, "--skip", "redis.latency")
"""Without the latency, which is measured beside a load on every CPU."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("plain"), "--maxmemory", "64mb") as server:
        yield server


def found(*words: str, **more: Any) -> dict[str, dict[str, Any]]:
    """The findings on the one server of a run, by check."""
    made = report(*words, **more)
    findings: dict[str, dict[str, Any]] = {each["id"]: each for each in made["findings"]}
    assert len(findings) == len(made["findings"]) > 0
    return findings


def verdicts(findings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name.removeprefix("redis."): each["verdict"] for name, each in findings.items()}


def answered(finding: Mapping[str, Any]) -> bool:
    """Whether there is a figure: on a busy machine it may be too few samples for a verdict."""
    return finding["verdict"] in ("pass", "fail") or finding["reason"] == "too-few-samples"


def only_user(folder: Path, rule: str) -> tuple[str, str]:
    """The options of a server that takes nobody but this user."""
    file = folder / "users.acl"
    file.write_text(f"user default off\nuser {rule}\n")
    return "--aclfile", str(file)


# How it is reached


@pytest.mark.covered
def test_a_server_on_loopback_is_judged_in_all_respects(plain: RedisServer) -> None:
    made = report(*QUICK, "--redis", plain.url)
    findings = {each["id"]: each for each in made["findings"]}
    assert {each["subject"] for each in made["findings"]} == {f"127.0.0.1:{plain.port}"}
    assert findings["redis.memory"]["verdict"] == "pass"
    assert findings["redis.clients"]["verdict"] == "pass"
    assert findings["redis.exposure"]["verdict"] == "pass"
    assert answered(findings["redis.host-settings"])
    measured = made["measurements"][f"redis.latency[127.0.0.1:{plain.port}]"]["value"]
    assert measured["ping"]["count"] > 400
    assert measured["connect"]["count"] >= 2
    assert measured["here"] is True
    assert 0 < measured["tcp_min_rtt_us"] <= measured["ping"]["max_us"]
    assert measured["serving"]["missing"] == {}
    assert made["measurements"][f"redis.state[127.0.0.1:{plain.port}]"]["value"]["process"]["name"] == "redis-server"


@alone
def test_nobody_listens_by_default_and_nothing_applies() -> None:
    findings = found(*QUICK)
    assert set(verdicts(findings).values()) == {"not-applicable"}
    assert "no Redis listens" in findings["redis.latency"]["summary"]


def test_a_server_that_was_named_and_does_not_listen_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    findings = found(*CALM, "--redis", f"redis://127.0.0.1:{port}")
    assert {each["reason"] for each in findings.values()} == {"unreachable"}
    assert "connection refused" in findings["redis.clients"]["summary"]


def test_a_unix_socket_a_database_and_a_user_with_a_password(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(tmp_path, "--unixsocket", str(path), *only_user(tmp_path, f"mon on >{SECRET} ~* +@all")):
        url = f"unix://mon:{SECRET}@{path}?db=3"
        findings = found(*QUICK, env={"VDSCHECK_REDIS_URL": url})
    assert findings["redis.latency"]["subject"] == f"{path}:/3"
    assert answered(findings["redis.latency"])
    assert findings["redis.clients"]["verdict"] == "pass"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    authority, certificate, key = certificates(folder / "keys")
    options = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority))
    port = RedisServer(folder).port
    server = RedisServer(
        folder, "--tls-port", str(port), "--port", "0", "--tls-auth-clients", "no", *options, port=port
    )
    with server:
        yield server, authority


@pytest.mark.covered
def test_tls_is_checked_against_the_authority_that_is_named(encrypted: tuple[RedisServer, Path]) -> None:
    server, authority = encrypted
    findings = found(*QUICK, "--redis", f"rediss://localhost:{server.port}?ssl_ca_certs={authority}")
    assert answered(findings["redis.latency"])
    assert findings["redis.clients"]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("rediss://localhost:{port}", "certificate of localhost:{port} is not accepted"),
        ("rediss://127.0.0.1:{port}?ssl_ca_certs={ca}", "not accepted: IP address mismatch"),
        ("redis://localhost:{port}", "its address starts with rediss://"),
        ("rediss://localhost:{port}?ssl_ca_certs=/nowhere", "TLS files of localhost:{port} cannot be used"),
    ],
)
def test_what_is_wrong_with_tls_is_said_in_one_line(
    encrypted: tuple[RedisServer, Path], address: str, said: str
) -> None:
    server, authority = encrypted
    findings = found(*CALM, "--redis", address.format(port=server.port, ca=authority))
    summary = findings["redis.clients"]["summary"]
    assert findings["redis.clients"]["verdict"] == "unknown"
    assert said.format(port=server.port) in summary
    assert "\n" not in summary


def test_an_expired_certificate_and_one_for_another_name_are_not_accepted(tmp_path: Path) -> None:
    for name, how, said in (
        ("localhost", {"expired": True}, "expired"),
        ("elsewhere.example", {}, "Hostname mismatch"),
        ("localhost", {"common_name_only": True}, "Hostname mismatch"),
    ):
        authority, certificate, key = certificates(tmp_path / "-".join([name, *how]), name, **how)
        options: tuple[str, ...] = (
            "--tls-cert-file",
            str(certificate),
            "--tls-key-file",
            str(key),
            "--tls-ca-cert-file",
            str(authority),
        )
        port = RedisServer(tmp_path).port
        options = ("--tls-port", str(port), "--port", "0", "--tls-auth-clients", "no", *options)
        with RedisServer(tmp_path / name, *options, port=port):
            findings = found(*CALM, "--redis", f"rediss://localhost:{port}?ssl_ca_certs={authority}")
        assert said in findings["redis.clients"]["summary"]
        assert findings["redis.clients"]["reason"] == "unreachable"


def test_a_client_certificate_is_shown_where_one_is_asked_for(tmp_path: Path) -> None:
    authority, certificate, key = certificates(tmp_path / "keys")
    options = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority))
    port = RedisServer(tmp_path).port
    with RedisServer(tmp_path, "--tls-port", str(port), "--port", "0", *options, port=port):
        without = f"rediss://localhost:{port}?ssl_ca_certs={authority}"
        shown = f"{without}&ssl_certfile={certificate}&ssl_keyfile={key}"
        assert found(*CALM, "--redis", without)["redis.clients"]["verdict"] == "unknown"
        assert found(*CALM, "--redis", shown)["redis.clients"]["verdict"] == "pass"


# Who may do what


@pytest.mark.covered
def test_a_user_who_may_only_ping_gets_its_latency_and_the_line_for_the_rest(tmp_path: Path) -> None:
    with RedisServer(tmp_path, *only_user(tmp_path, f"pinger on >{SECRET} +ping")) as server:
        url = f"redis://pinger:{SECRET}@127.0.0.1:{server.port}"
        findings = found(*QUICK, env={"VDSCHECK_REDIS_URL": url})
    assert answered(findings["redis.latency"])
    evidence = " ".join(str(each["value"]) for each in findings["redis.latency"]["evidence"])
    assert "ACL SETUSER USER +info" in evidence
    for check in ("memory", "clients", "replication", "persistence", "host-settings"):
        finding = findings[f"redis.{check}"]
        assert (finding["verdict"], finding["reason"]) == ("unknown", "permission"), check
        assert "ACL SETUSER USER +info" in finding["summary"]
    assert findings["redis.exposure"]["verdict"] == "pass"


def test_with_the_documented_line_nothing_is_left_unknown(tmp_path: Path) -> None:
    guide = (PROJECT / "docs/redis-acl.md").read_text()
    rule = next(line for line in guide.splitlines() if line.startswith("ACL SETUSER"))
    words = rule.replace("PASSWORD", SECRET).split()[2:]
    with RedisServer(tmp_path, "--maxmemory", "64mb") as server:
        assert server.cli("ACL", "SETUSER", *words) == "OK"
        url = f"redis://{words[0]}:{SECRET}@127.0.0.1:{server.port}"
        made = report(*QUICK, env={"VDSCHECK_REDIS_URL": url})
    assert [each for each in made["findings"] if each["verdict"] == "unknown" and not answered(each)] == []
    measured = made["measurements"][f"redis.latency[127.0.0.1:{server.port}]"]["value"]
    assert measured["serving"]["missing"] == {}


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ("", "asks for a password"),
        (":wrong-pass@", "refuses this password of user default"),
        ("nobody:wrong-pass@", "refuses this user or its password"),
    ],
)
def test_a_wrong_password_is_permission_and_is_not_repeated(tmp_path: Path, login: str, said: str) -> None:
    with RedisServer(tmp_path, "--requirepass", SECRET) as server:
        url = f"redis://{login}127.0.0.1:{server.port}"
        done = vdscheck(*CALM, "--json", env={"VDSCHECK_REDIS_URL": url})
    findings = json.loads(done.stdout)["findings"]
    clients = next(each for each in findings if each["id"] == "redis.clients")
    assert (clients["verdict"], clients["reason"]) == ("unknown", "permission")
    assert said in clients["summary"]
    assert "wrong-pass" not in done.stdout + done.stderr


def test_a_password_where_none_is_set_is_told_apart(plain: RedisServer) -> None:
    findings = found(*CALM, env={"VDSCHECK_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:{plain.port}"})
    assert "has no password for this user" in findings["redis.clients"]["summary"]


# Its states


def test_loading_is_a_known_state(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024") as server:
        server.cli("DEBUG", "POPULATE", "200000", "key", "20")
        with subprocess.Popen(
            ["redis-cli", "-p", str(server.port), "DEBUG", "RELOAD"], stdout=subprocess.DEVNULL
        ) as cli:
            wait_until(lambda: server.cli("PING").startswith("LOADING"))
            findings = found(*QUICK, "--redis", server.url)
            cli.kill()
    assert findings["redis.latency"]["reason"] == "unreachable"
    assert "is loading its data" in findings["redis.latency"]["summary"]
    assert "loading its data" in findings["redis.persistence"]["summary"]
    assert answered(findings["redis.memory"])


def refuses(port: int) -> bool:
    """Whether a server says at once that it takes nobody more."""
    with socket.create_connection(("127.0.0.1", port)) as one_more:
        one_more.settimeout(0.1)
        with suppress(TimeoutError):
            return one_more.recv(4) == b"-ERR"
    return False


def test_a_server_at_its_maximum_of_clients_is_a_failure_and_not_a_riddle(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--maxclients", "2") as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        wait_until(lambda: refuses(server.port))
        findings = found(*QUICK, "--redis", server.url)
        for each in held:
            each.close()
    assert findings["redis.clients"]["verdict"] == "fail"
    assert "refuses connections" in findings["redis.clients"]["summary"]
    assert "maximum number of clients" in findings["redis.latency"]["summary"]


def test_a_replica_that_follows_passes_and_one_that_lost_its_master_fails(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "master") as master:
        options = ("--replicaof", f"127.0.0.1 {master.port}", "--repl-diskless-sync-delay", "0")
        with RedisServer(tmp_path / "replica", *options) as replica:
            wait_until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"))
            wait_until(lambda: "state=online" in master.cli("INFO", "replication"))
            replication = {
                name: found(*CALM, "--redis", each.url)["redis.replication"]
                for name, each in (("master", master), ("replica", replica))
            }
            assert {name: each["verdict"] for name, each in replication.items()} == {
                "master": "pass",
                "replica": "pass",
            }
            master.__exit__()
            wait_until(lambda: "master_link_status:down" in replica.cli("INFO", "replication"))
            findings = found(*QUICK, "--redis", replica.url)
            assert findings["redis.replication"]["verdict"] == "fail"
            assert answered(findings["redis.latency"])
            replica.cli("CONFIG", "SET", "replica-serve-stale-data", "no")
            findings = found(*QUICK, "--redis", replica.url)
    assert "lost its master" in findings["redis.latency"]["summary"]
    assert findings["redis.latency"]["reason"] == "unreachable"


def test_a_full_memory_and_a_failed_save_are_found(tmp_path: Path) -> None:
    with RedisServer(
        tmp_path, "--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru", "--dbfilename", "nothing.rdb"
    ) as server:
        server.cli("DEBUG", "POPULATE", "30000", "key", "100")
        server.cli("SET", "one", "more")
        server.cli("CONFIG", "SET", "save", "3600 1")
        (tmp_path / "nothing.rdb").mkdir()
        server.cli("BGSAVE")
        wait_until(lambda: "rdb_last_bgsave_status:err" in server.cli("INFO", "persistence"))
        findings = found(*CALM, "--redis", server.url)
    assert findings["redis.memory"]["verdict"] == "fail"
    assert "allkeys-lru" in findings["redis.memory"]["summary"]
    assert findings["redis.persistence"]["verdict"] == "fail"
    assert "the last snapshot is err" in findings["redis.persistence"]["summary"]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["redis-server", "valkey-server"])
def test_the_redis_and_the_valkey_of_debian_13_are_examined_in_full(tmp_path: Path, program: str) -> None:
    inside = within("trixie", tmp_path)
    options = ("--maxmemory", "64mb", "--save", "3600 1")
    with RedisServer(tmp_path, *options, program=Path("/usr/bin", program), within=inside) as server:
        with meanwhile(server, b"DEBUG SLEEP 0.003\r\n"):
            slow = found(*LATENCY, "--redis", server.url)["redis.latency"]
        made = report(*QUICK, "--redis", server.url)
    assert "the server breaks it" in slow["summary"]
    value = made["measurements"][f"redis.state[127.0.0.1:{server.port}]"]["value"]
    assert (value["flavour"], value["process"]["name"]) == (program.partition("-")[0], program)
    assert int(value["version"].partition(".")[0]) >= 8
    assert value["missing"] == {}
    latency = made["measurements"][f"redis.latency[127.0.0.1:{server.port}]"]["value"]
    assert latency["serving"]["missing"] == {}
    assert latency["serving"]["calls"] is not None
    undecided = [each["id"] for each in made["findings"] if each["reason"] not in (None, "too-few-samples")]
    assert undecided == []


# Who breaks the limit


def test_long_commands_of_others_are_the_servers_doing(plain: RedisServer) -> None:
    with meanwhile(plain, b"DEBUG SLEEP 0.003\r\n"):
        latency = found(*LATENCY, "--redis", plain.url)["redis.latency"]
    assert latency["verdict"] == "fail", latency["summary"]
    assert "the server breaks it" in latency["summary"]
    assert "debug" in latency["summary"]


def test_a_paused_server_is_a_known_state_and_not_a_pass(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        pausing = threading.Thread(target=pause_when_measured, args=(server,))
        pausing.start()
        latency = found(*LATENCY, "--redis", server.url)["redis.latency"]
        pausing.join()
        findings = found(*LATENCY, "--redis", server.url)
    assert latency["verdict"] == "fail"
    assert "had no answer" in latency["summary"]
    assert findings["redis.latency"]["reason"] == "timeout"
    assert "CLIENT PAUSE" in findings["redis.latency"]["summary"]


def pause_when_measured(server: RedisServer) -> None:
    """Stop all clients in the middle of the window: when the server was asked for its account a second time."""
    # Over one connection: a redis-cli for each question comes too late on a busy machine.
    with socket.create_connection(("127.0.0.1", server.port)) as link:

        def measured() -> bool:
            link.sendall(b"INFO commandstats\r\n")
            found = re.search(rb"cmdstat_latency\|histogram:calls=([0-9]+)", link.recv(1 << 16))
            return found is not None and int(found[1]) > 1

        wait_until(measured, pause_s=0.005)
        link.sendall(b"CLIENT PAUSE 20000 ALL\r\n")
        assert link.recv(100).startswith(b"+OK")


def test_a_server_2_ms_away_is_the_networks_doing(tmp_path: Path) -> None:
    with Network(apart(1000)) as network:
        options = ("--protected-mode", "no", "--bind", "0.0.0.0")
        with RedisServer(tmp_path, *options, within=lambda words: network.command("far", words)) as server:
            url = f"redis://{network.address('far')}:{server.port}"
            words = [sys.executable, "-m", "vdscheck", *QUICK, "--json", "--redis", url]
            done = network.run("near", words, timeout_s=60)
            offline = network.run("near", [*words, "--offline"], timeout_s=60)
    findings = {each["id"]: each for each in json.loads(done.stdout)["findings"]}
    assert findings["redis.latency"]["verdict"] == "fail"
    assert "the network breaks it: a TCP handshake" in findings["redis.latency"]["summary"]
    assert findings["redis.latency"]["observed"]["value"] > 2
    assert findings["redis.exposure"]["verdict"] == "not-applicable"
    assert {each["reason"] for each in json.loads(offline.stdout)["findings"]} == {"not-run"}


HOG = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
print("ready", flush=True)
ends_at = time.monotonic() + 30
while time.monotonic() < ends_at:
    until = time.monotonic() + 0.0025
    while time.monotonic() < until:
        pass
    time.sleep(0.001)
"""


def test_a_box_whose_cpus_are_taken_is_the_boxs_doing(plain: RedisServer) -> None:
    """A real-time task takes every CPU for 2.5 ms of each 3.5 ms, from the server and from the measurement."""
    hogs = [
        subprocess.Popen([sys.executable, "-c", HOG, str(cpu)], stdout=subprocess.PIPE)
        for cpu in os.sched_getaffinity(0)
    ]
    try:
        for hog in hogs:
            assert hog.stdout is not None
            assert hog.stdout.readline() == b"ready\n"
        latency = found(*LATENCY, "--redis", plain.url)["redis.latency"]
    finally:
        for hog in hogs:
            hog.kill()
            hog.communicate()
    assert latency["verdict"] == "fail", latency["summary"]
    assert "the box breaks it" in latency["summary"]


# Who may come in


@pytest.mark.covered
def test_an_open_server_on_a_public_address_fails_and_on_private_ones_warns(tmp_path: Path) -> None:
    cases = (("8.8.4.4", "fail"), ("10.9.8.7", "warn"), ("fd00:9::7", "warn"))
    for number, (address, verdict) in enumerate(cases):
        findings = examined_at(tmp_path / str(number), address, "--protected-mode", "no", "--bind", "0.0.0.0", "::")
        assert findings["redis.exposure"]["verdict"] == verdict, address
        assert address in findings["redis.exposure"]["summary"]
        assert findings["redis.exposure"]["confidence"] == ("low" if verdict == "fail" else "high")


def test_a_server_that_asks_for_a_password_or_is_protected_is_not_open(tmp_path: Path) -> None:
    protected = examined_at(tmp_path / "protected", "8.8.4.4", "--bind", "0.0.0.0")
    assert protected["redis.exposure"]["verdict"] == "pass"
    locked = examined_at(tmp_path / "locked", "8.8.4.4", "--bind", "0.0.0.0", "--requirepass", SECRET, login=SECRET)
    assert locked["redis.exposure"]["verdict"] == "pass"
    loopback = examined_at(tmp_path / "loopback", "8.8.4.4", "--bind", "127.0.0.1", "--protected-mode", "no")
    assert loopback["redis.exposure"]["verdict"] == "pass"


def examined_at(folder: Path, address: str, *options: str, login: str = "") -> dict[str, dict[str, Any]]:
    """The findings on a server of a machine that has one address of its own, in a network that leads nowhere."""
    with Network(apart(0)) as network:
        bits = 128 if ":" in address else 32
        for words in (["link", "set", "d-far", "down"], ["addr", "add", f"{address}/{bits}", "dev", "lo"]):
            assert network.run("near", ["ip", *words]).returncode == 0
        for mine in network.run("near", ["ip", "-o", "addr", "show", "dev", "d-far"]).stdout.splitlines():
            network.run("near", ["ip", "addr", "del", mine.split()[3], "dev", "d-far"])
        with RedisServer(folder, *options, within=lambda words: network.command("near", words)) as server:
            password = f":{login}@" if login else ""
            url = f"redis://{password}127.0.0.1:{server.port}"
            words = ["env", f"VDSCHECK_REDIS_URL={url}", sys.executable, "-m", "vdscheck"]
            done = network.run("near", [*words, *CALM, "--json"], timeout_s=60)
    return {each["id"]: each for each in json.loads(done.stdout)["findings"]}


# Secrets


def test_a_password_on_the_command_line_is_warned_of_and_shown_nowhere(tmp_path: Path) -> None:
    secret = "p@ss/w:rd?&%25"
    with RedisServer(tmp_path, "--requirepass", "p@ss/w:rd?&%") as server:
        url = f"redis://:{secret}@127.0.0.1:{server.port}"
        saved = tmp_path / "report.json"
        done = vdscheck(*CALM, "-v", "--redis", url, "-o", f"json={saved}")
    made = json.loads(saved.read_text())
    assert any("process list" in each for each in made["warnings"])
    assert {each["verdict"] for each in made["findings"] if each["id"] == "redis.clients"} == {"pass"}
    everything = done.stdout + done.stderr + saved.read_text()
    for form in (secret, "p@ss/w:rd?&%", "ss/w:rd"):
        assert form not in everything


def test_nothing_secret_is_in_the_process_list_while_it_runs(tmp_path: Path) -> None:
    secret = secrets.token_hex(12)  # other tests, which run beside this one, name theirs in arguments
    with RedisServer(tmp_path, *only_user(tmp_path, f"mon on >{secret} ~* +@all")) as server:
        variables = environment(VDSCHECK_REDIS_URL=f"redis://mon:{secret}@127.0.0.1:{server.port}")
        running = subprocess.Popen(
            [sys.executable, "-m", "vdscheck", *CALM], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=variables
        )
        seen = set()
        while running.poll() is None:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # it has ended meanwhile
                    seen.add((path.parent.name, path.read_bytes()))
        assert any(pid == str(running.pid) and b"vdscheck" in line for pid, line in seen)
        assert running.stdout is not None
        said = running.stdout.read()
        running.stdout.close()
    assert not any(secret.encode() in line for _, line in seen)
    assert secret.encode() not in said


# What is used


def wait_until(true: Any, timeout_s: float = 20.0, pause_s: float = 0.05) -> None:
    ends_at = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < ends_at
        time.sleep(pause_s)


@contextmanager
def meanwhile(server: RedisServer, command: bytes) -> Iterator[None]:
    """Have somebody else send a command again and again, without a pause, while the block runs."""
    ended = threading.Event()

    def go_on() -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            while not ended.is_set():
                other.sendall(2 * command)
                other.recv(100)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
