"""A real run on a real Redis with a password: what it is shows nowhere, and a password that is a word takes nothing."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.redis_server import RedisServer, free_port
from tests.support.alone import alone
from tests.support.program import vdscheck

WORDS = ("1", "web", "pass", "sysctl")
SELECTED = ("--quick", "--only", "redis.*", "--only", "sysctl.*", "--only", "virt.*", "--skip", "redis.latency")
_VARYING = re.compile(r"(?<![\w.])[0-9][0-9.,]*")


@contextmanager
def redis(folder: Path, port: int, *options: str) -> Iterator[RedisServer]:
    with RedisServer(folder, *options, port=port) as server:
        yield server


def examined(*words: str, **environment: str) -> dict[str, Any]:
    done = vdscheck("run", *words, "--json", env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def steady(value: Any) -> Any:
    """A report without what no two runs have in common: numbers that are measured, times, the run's own id, and the
    sockets, interfaces and disks that other tests open and close beside it."""
    if isinstance(value, dict):
        left_out = ("run", "taken_at", "duration_s", "sysctl.listeners", "virt.nics", "disk.devices")
        return {key: steady(each) for key, each in value.items() if key not in left_out}
    if isinstance(value, list):
        return [steady(each) for each in value]
    if isinstance(value, str):
        return _VARYING.sub("#", value)
    return None if isinstance(value, int | float) and not isinstance(value, bool) else value


@alone
def test_with_a_password_that_is_a_word_the_report_is_that_of_a_run_without_one(tmp_path: Path) -> None:
    """The doors of a server with a password are shut, so both have one; only one run's is such a word."""
    port = free_port()
    with redis(tmp_path, port) as server:
        found = {}
        for word in ("", *WORDS):
            server.cli("CONFIG", "SET", "requirepass", word or "an-unlikely-one-" + "x" * 30)
            server.cli("AUTH", word)
            login = word or "an-unlikely-one-" + "x" * 30
            found[word] = examined(*SELECTED, "--redis", f"redis://:{login}@127.0.0.1:{port}")
            assert server.cli("CONFIG", "SET", "requirepass", "", user=("-a", login, "--no-auth-warning")) == "OK"
    for word in WORDS:
        assert found[word]["run"]["command"] == found[""]["run"]["command"]
        assert steady(found[word]) == steady(found[""])
        assert "***" not in json.dumps(found[word]["findings"]) + json.dumps(found[word]["measurements"])


@alone
def test_such_a_password_takes_nothing_that_a_run_without_a_password_has(tmp_path: Path) -> None:
    """But for the address, and for what a shut door is: nobody but us can say what is behind it."""
    port = free_port()
    selected = (*SELECTED, "--skip", "redis.exposure")
    with redis(tmp_path, port) as server:
        for _ in range(2):  # the first leaves what each later one finds: connections that wait for their end
            without = examined(*selected, "--redis", f"redis://127.0.0.1:{port}")
        for word in WORDS[2:]:
            server.cli("CONFIG", "SET", "requirepass", word)
            found = examined(*selected, "--redis", f"redis://:{word}@127.0.0.1:{port}")
            server.cli("CONFIG", "SET", "requirepass", "", user=("-a", word, "--no-auth-warning"))
            assert found["run"]["command"][-1:] == without["run"]["command"][-1:] == ["--json"]
            assert found["run"]["command"][-2] == f"redis://***@127.0.0.1:{port}"
            assert without["run"]["command"][-2] == f"redis://127.0.0.1:{port}"
            (said,) = [each for each in found["warnings"] if each not in without["warnings"]]
            assert "process list" in said
            for report in (found, without):
                report["warnings"] = []
                for key in [key for key in report["measurements"] if key.startswith("redis.exposure")]:
                    del report["measurements"][key]
            assert steady(found) == steady(without)


ADDRESSES = {
    "in the place of a user": "redis://S3CR3T-W0RD@127.0.0.1:{port}",
    "a user and a password in one": "redis://u%3AS3CR3T-W0RD@127.0.0.1:{port}",
    "an option with spaces": "redis://127.0.0.1:{port}?password=a b S3CR3T-W0RD",
    "an option for the user": "redis://127.0.0.1:{port}?db=0&username=S3CR3T-W0RD",
    "a user and an empty password": "redis://S3CR3T-W0RD:@127.0.0.1:{port}",
    "a user and a password": "redis://S3CR3T-W0RD:S3CR3T-W0RD@127.0.0.1:{port}/0",
}


@pytest.fixture(scope="module")
def shut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), "--requirepass", "another-word") as server:
        yield server


def written(folder: Path, *words: str, **environment: str) -> str:
    """All that a run writes anywhere."""
    files = {name: folder / f"report.{name}" for name in ("json", "text", "sh")}
    more = [word for name, file in files.items() for word in ("-o", f"{name}={file}")]
    done = vdscheck(*words, "-v", *more, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr + "".join(file.read_text() for file in files.values())


def test_of_every_kind_of_address_the_servers_name_is_all_that_is_shown(shut: RedisServer, tmp_path: Path) -> None:
    """In command, subjects, overrides, warnings and details; from the command line, the environment and a file."""
    urls = [each.format(port=shut.port) for each in ADDRESSES.values()]
    file = tmp_path / "vdscheck.toml"
    file.write_text(f"redis = {json.dumps(urls)}\n")
    only = ("run", "--quick", "--only", "redis.clients")
    given = [word for url in urls for word in ("--redis", url)]
    for words, variables in (
        ((*only, *given), {}),
        ((*only, "--config", str(file)), {}),
        (only, {"VDSCHECK_REDIS_URL": urls[0]}),
    ):
        everything = written(tmp_path, *words, **variables)
        for piece in ("S3CR3T", "W0RD", "u%3A"):
            assert piece not in everything
        assert f"127.0.0.1:{shut.port}" in everything


def refused(words: Sequence[str], **environment: str) -> str:
    done = vdscheck(*words, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--root", "redis://me:S3CR3T-W0RD@h?token=S3CR3T-W0RD"),
        ("run", "--format", "redis://me:S3CR3T-W0RD@h"),
        ("run", "--min-score", "redis://me:S3CR3T-W0RD@h"),
        ("run", "--rediss=redis://me:S3CR3T-W0RD@h"),
        ("redis://me:S3CR3T-W0RD@h",),
        ("cluster", "--kubeconfig", "https://S3CR3T-W0RD@h/k"),
        ("judge", "https://me:S3CR3T-W0RD@h/report.json?sig=S3CR3T-W0RD"),
        ("explain", "https://me:S3CR3T-W0RD@h"),
    ],
)
def test_a_wrong_call_that_holds_an_address_is_refused_without_what_is_secret_in_it(words: Sequence[str]) -> None:
    assert "S3CR3T" not in refused(words)


@pytest.mark.parametrize(
    "content",
    [
        'redis = "redis://me:S3CR3T-W0RD@host name"',
        'redis = "redis://me:S3CR3T-W0RD@h',
        'fail-on = "https://me:S3CR3T-W0RD@h"',
        'kubeconfig = "https://me:S3CR3T-W0RD@h"\nredis = 5',
        '[severity]\n"cpu.steal" = "https://me:S3CR3T-W0RD@h"',
        "redis = redis://me:S3CR3T-W0RD@h",
    ],
)
def test_a_configuration_that_cannot_be_followed_is_refused_without_what_is_secret_in_it(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text(content)
    assert "S3CR3T" not in refused(("run", "--only", "redis.clients", "--config", str(file)))
