"""Bad input from what should be a Redis: one clear line, bounded time and memory, and never a secret."""

import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile_redis import Part, answers, bulk, endless, http, says, server, silence, slowly
from tests.support.program import environment, vdscheck

SECRET = "hunter2-s3cret"
ESCAPES = b"\x1b[2J\x1b]0;owned\x07\x9b31m"
LIMIT_S = 10.0
LIMIT_MB = 300

CASES: dict[str, tuple[Part, str, str]] = {
    "says nothing": (silence, "timeout", "takes connections and did not answer"),
    "one byte a second": (slowly, "timeout", "did not finish its answer to"),
    "an HTTP server": (http, "error", "answers in HTTP: not a Redis server"),
    "an endless bulk": (endless(b"$999999999999\r\n", b"x"), "error", "more than 1,048,576 bytes"),
    "an endless line": (endless(b"+", b"x"), "error", "more than 1,048,576 bytes"),
    "an endless list": (endless(b"*2000000000\r\n", b":1\r\n"), "error", "more than 1,048,576 bytes"),
    "endless nesting": (endless(b"", b"*1\r\n"), "error", "not what Redis does"),
    "terminal escapes": (says(b"-" + ESCAPES + b"\r\n"), "error", "refuses AUTH: look whether"),
    "escapes as PONG": (answers(auth=b"+OK\r\n", ping=b"+" + ESCAPES + b"\r\n"), "error", r"\x1b[2J"),
    "no protocol": (says(b"hello there\r\n"), "error", "not what Redis does"),
    "a bad length": (says(b"$abc\r\n"), "error", "not what Redis does"),
    "closes at once": (lambda _connection: None, "unreachable", "closed the connection"),
    "TLS": (says(b"\x15\x03\x01\x00\x02\x02\x46"), "error", "rediss://"),
    "repeats the password": (says(f"-ERR you said {SECRET}\r\n".encode()), "error", "refuses AUTH: look whether"),
    "PONG with the password": (answers(ping=bulk(SECRET.encode())), "error", "***"),
}


MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print("\\n\\x1e%d" % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, end="")
sys.exit(done.returncode)
"""
"""Of processes that were waited for, also those that ended in between (getrusage(2), ru_maxrss)."""


@dataclass(frozen=True)
class Examined:
    """A run on some servers: everything that was written, and the most memory of any process."""

    report: dict[str, Any]
    everything: str
    most_mb: float

    def findings(self, port: int) -> dict[str, dict[str, Any]]:
        subject = f"127.0.0.1:{port}"
        return {each["id"]: each for each in self.report["findings"] if each["subject"] == subject}

    def durations_s(self, port: int) -> list[float]:
        measured = self.report["measurements"].items()
        return [taken["duration_s"] for key, taken in measured if key.endswith(f"[127.0.0.1:{port}]")]


def examined(folder: Path, *ports: int) -> Examined:
    file = folder / "vdscheck.toml"
    file.write_text(f"redis = {json.dumps([f'redis://mon:{SECRET}@127.0.0.1:{port}' for port in ports])}\n")
    program = [sys.executable, "-c", MEASURED, sys.executable, "-m", "vdscheck", "run", "--only", "redis.*", "--json"]
    done = subprocess.run(
        [*program, "--quick", "--config", str(file)],
        env=environment(), capture_output=True, text=True, check=False, timeout=120, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report, _, most_kb = done.stdout.rpartition("\n\x1e")
    return Examined(json.loads(report), done.stdout + done.stderr, int(most_kb) / 1024)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Examined, dict[str, int]]]:
    """All of them in one run."""
    with ExitStack() as servers:
        ports = {case: servers.enter_context(server(part)) for case, (part, _, _) in CASES.items()}
        yield examined(tmp_path_factory.mktemp("hostile"), *ports.values()), ports


@pytest.mark.xdist_group("hostile-redis")
@pytest.mark.parametrize("case", CASES)
def test_what_is_no_redis_is_one_clear_line(together: tuple[Examined, dict[str, int]], case: str) -> None:
    run, ports = together
    _, reason, said = CASES[case]
    findings = run.findings(ports[case])
    latency = findings["redis.latency"]
    assert (latency["verdict"], latency["reason"]) == ("unknown", reason), latency["summary"]
    assert said in latency["summary"]
    assert "\n" not in latency["summary"]
    assert len(latency["summary"]) < 300
    assert len(findings) == 7
    assert all(each["verdict"] == "unknown" for each in findings.values())
    assert len(run.durations_s(ports[case])) == 3
    assert max(run.durations_s(ports[case])) < LIMIT_S


@pytest.mark.xdist_group("hostile-redis")
def test_nothing_of_it_is_a_secret_an_escape_or_large(together: tuple[Examined, dict[str, int]]) -> None:
    run, _ = together
    assert SECRET not in run.everything
    assert not any(character in run.everything for character in "\x1b\x07\x9b")
    assert run.most_mb < LIMIT_MB


def test_an_info_of_a_gigabyte_is_refused(tmp_path: Path) -> None:
    block = b"x" * (1 << 20)

    def info(connection: Any) -> None:
        connection.sendall(b"$1073741824\r\n")
        for _ in range(1024):
            connection.sendall(block)

    with server(answers(ping=b"+PONG\r\n", info=info, exists=b":0\r\n")) as port:
        run = examined(tmp_path, port)
    assert "answers INFO with more than 1,048,576 bytes" in run.findings(port)["redis.memory"]["summary"]
    assert max(run.durations_s(port)) < LIMIT_S
    assert run.most_mb < LIMIT_MB


@pytest.mark.parametrize(("question", "answered"), [("info", 2), ("latency", 1)])
def test_a_server_that_stops_while_it_is_asked_for_its_account_is_a_failure(question: str, answered: int) -> None:
    """In the middle of the window, as a long command of others may have it: the PINGs before it are kept."""
    asked: Counter[socket.socket] = Counter()

    def account(connection: socket.socket) -> None:
        asked[connection] += 1
        if asked[connection] > answered:
            silence(connection)
        connection.sendall(b"*0\r\n" if question == "latency" else bulk(b"redis_version:7.0.15\r\n"))

    usual: dict[str, bytes | Part] = {
        "ping": b"+PONG\r\n",
        "info": bulk(b""),
        "latency": b"*0\r\n",
        "config": b"*0\r\n",
    }
    with server(answers(**(usual | {question: account}))) as port:
        done = vdscheck("run", "--only", "redis.latency", "--quick", "--json", "--redis", f"redis://127.0.0.1:{port}")
    report = json.loads(done.stdout)
    (finding,) = report["findings"]
    assert finding["verdict"] == "fail", finding["summary"]
    assert "a request had no answer after 1,0" in finding["summary"]
    measured = report["measurements"][f"redis.latency[127.0.0.1:{port}]"]["value"]
    assert measured["ping"]["count"] > measured["unanswered"] == 1
    assert "no longer answers" in measured["serving_absent"]["detail"]


def test_an_info_that_lies_is_refused_or_made_harmless(tmp_path: Path) -> None:
    lies = (
        b"redis_version:%s\r\nused_memory:99999999999999999999999\r\nconnected_clients:-5\r\nrole:%s\r\nloading:maybe\r\n"
        b"maxclients:0\r\nslave0:ip=%s,port=x,state=%s,offset=-1,lag=nan\r\nprocess_id:0x1\r\n"
    ) % (ESCAPES, SECRET.encode(), ESCAPES, SECRET.encode())
    with server(answers(ping=b"+PONG\r\n", info=bulk(lies), config=b"*1\r\n$1\r\nx\r\n", exists=b":0\r\n")) as port:
        run = examined(tmp_path, port)
    findings = run.findings(port)
    assert not [each for each in findings.values() if each["reason"] == "error"]
    assert SECRET not in run.everything
    assert not any(character in run.everything for character in "\x1b\x07\x9b")
    for check in ("memory", "clients"):
        assert findings[f"redis.{check}"]["verdict"] == "unknown"


def test_a_host_without_a_name_is_unreachable_and_in_one_line() -> None:
    done = vdscheck(
        "run", "--only", "redis.clients", "--quick", "--json",
        env={"VDSCHECK_REDIS_URL": f"redis://:{SECRET}@no.such.host.invalid:6379"},
    )  # fmt: skip
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["reason"] in ("unreachable", "timeout")
    assert "no.such.host.invalid" in finding["summary"]
    assert SECRET not in done.stdout + done.stderr


BAD = (
    "redis://127.0.0.1 :6379",
    f"redis//mon:{SECRET}@127.0.0.1",
    f"redis://mon:{SECRET}",
    f"redis://127.0.0.1/0?passwort={SECRET}",
    f"redis://mon:{SECRET}\x1b[2J@127.0.0.1",
    SECRET,
)


@pytest.mark.parametrize("url", BAD)
def test_an_address_that_cannot_be_read_is_refused_before_anything_is_measured(url: str) -> None:
    for variables, words in (({"VDSCHECK_REDIS_URL": url}, ()), ({}, ("--redis", url))):
        done = vdscheck("run", "--only", "redis.*", "--thorough", *words, env=variables)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("vdscheck: the address of a Redis server cannot be read: ")
        assert done.stderr.count("\n") == 1
        assert SECRET not in done.stderr
        assert "\x1b" not in done.stderr


def test_a_bad_address_in_the_configuration_is_refused_as_well(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text(f'redis = "redis://mon:{SECRET}@host name"\n')
    done = vdscheck("run", "--only", "redis.*", "--config", str(file))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert SECRET not in done.stderr
