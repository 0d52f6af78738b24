"""A saved report may come from anybody: of any content it is judged, or refused in one line, and soon."""

import json
import os
import resource
import signal
import subprocess
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile_values import WHOLE, Place, json_values, nested, places, with_at, without
from tests.support.program import PROGRAM, environment, vdscheck
from tests.support.project import PROJECT
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.catalogue.entry_points import CatalogueError
from vdscheck.cli import deliver, judge, request
from vdscheck.plugin import Terminal
from vdscheck.ruleset.profile import RulesetError

REPORTS = PROJECT / "tests/earlier/reports"
LIMIT_S, LIMIT_MIB = 10, 512
UNREAD = ("tool", "score", "gates", "findings", "fix")
"""What a new judging makes anew."""


@cache
def catalogue() -> Catalogue:
    return load()


@cache
def saved(name: str) -> dict[str, Any]:
    whole = json.loads((REPORTS / f"{name}.json").read_text())
    return {key: value for key, value in whole.items() if key not in UNREAD}


def judged(content: dict[str, Any]) -> None:
    """As the program judges it, with everything that it prints."""
    plain = request.Settings(request.Asked(), None, {}, (("text", None), ("json", None)))
    made = judge._judged_again(plain, catalogue(), "report.json", json.dumps(content).encode())[0]
    assert all(deliver.draw(made, plain, Terminal(utf8=True, verbose=True)).contents)


def judged_or_refused(content: dict[str, Any]) -> None:
    with suppress(request.UsageError, RulesetError, CatalogueError):
        judged(content)


NAMES = ("host-root", "redis", "path", "cluster", "waived", "manifests", "root")


def changed() -> st.SearchStrategy[dict[str, Any]]:
    """A real report with any value at one or two places of it, or without what was there."""
    found = [(name, place) for name in NAMES for place in places(saved(name)) if place]

    def at(drawn: tuple[tuple[str, Place], Any]) -> dict[str, Any]:
        (name, place), value = drawn
        return dict(without(saved(name), place) if value is LEFT_OUT else with_at(saved(name), place, value))

    return st.tuples(st.sampled_from(found), json_values() | st.sampled_from(WHOLE) | st.just(LEFT_OUT)).map(at)


LEFT_OUT = object()


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(changed())
def test_any_value_at_any_place_of_a_report_is_judged_or_refused(content: dict[str, Any]) -> None:
    judged_or_refused(content)


@pytest.mark.slow
@settings(max_examples=6_000, suppress_health_check=list(HealthCheck))
@given(changed())
def test_any_value_at_any_place_of_many_reports(content: dict[str, Any]) -> None:
    judged_or_refused(content)


def refused(content: dict[str, Any] | bytes) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises((request.UsageError, RulesetError)) as why:
        judge._judged_again(request.Settings(request.Asked(), None, {}), catalogue(), "r.json", raw)
    assert len(str(why.value).splitlines()) == 1
    assert len(str(why.value)) < 1000
    return str(why.value)


MEMORY = ("measurements", "memory.amounts", "value", "total_bytes")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("target", "memory_bytes"), 10**400, "target.memory_bytes is a number beyond 64 bits"),
        (("target", "cpus"), -(10**400), "target.cpus is a number beyond 64 bits"),
        (MEMORY, 10**400, "measurements.memory.amounts.value.total_bytes is a number beyond 64 bits"),
        (("measurements", "clock.kernel", "value", "offset_us"), 1e61, "offset_us is 1e+61: no quantity"),
        (("measurements", "clock.kernel", "duration_s"), 1e300, "duration_s is 1e+300: no quantity"),
        (("schema_version",), 2, "schema version 2, but this version of vdscheck reads 1"),
        (("schema_version",), "1", "schema_version is not a whole number, or is not there"),
        (("schema_version",), True, "schema_version is not a whole number, or is not there"),
        (("schema_version",), 1.0, "schema_version is not a whole number, or is not there"),
        (("schema_version",), 10**400, "schema_version is a number beyond 64 bits"),
        (("run", "started_at"), "2024-W01-1", "run.started_at is not a time"),
        (("run", "command"), nested(120), "nested more than 100 deep"),
        (("ruleset", "profiles"), [f"p{number}" for number in range(100_000)], "there is no profile p0"),
        (("ruleset", "overrides"), {"only": ["*"] * 1001}, "ruleset.overrides: at most 1,000 texts"),
        (("ruleset", "overrides"), {"skip": ["x" * 5000]}, "ruleset.overrides: at most 1,000 texts of 4,096"),
        (("ruleset", "overrides"), {"waivers": [{}] * 1001}, "ruleset.overrides: at most 1,000 waivers"),
        (("measurements",), {f"x.y[{number}]": {} for number in range(3)}, "missing required field `taken_at`"),
        (("measurements", "x" * 5000), None, "is a name of 5,000 characters"),
    ],
)
def test_what_cannot_be_judged_is_one_line_with_its_place(place: Place, value: Any, said: str) -> None:
    whole = saved("host-root")
    inner: Any = whole
    for key in place[:-1]:
        inner = inner[key]
    assert said in refused(with_at(whole, place[:-1], {**inner, place[-1]: value}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "truncated"),
        (b"\xff\xfe{\0}\0", "malformed"),
        (b'{"schema_version": 1, "schema_version": 2}', "schema version 2"),
        (b'{"schema_version": 1e400}', "out of range"),
        (b'{"schema_version": ' + b"1" * 5000 + b"}", "out of range"),
        (b'{"schema_version": 1, "run": "\\ud800"}', ""),
        (b'{"a":' + b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 1_000_000, "nested too deeply"),
    ],
    ids=["nothing", "UTF-16", "twice", "exponent", "digits", "half a pair", "lists", "maps"],
)
def test_what_is_no_json_of_ours_is_one_line(text: bytes, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("target", "memory_bytes"), 10**400, "target.memory_bytes is a number beyond 64 bits"),
        (("run", "command"), nested(120), "nested more than 100 deep"),
    ],
    ids=["number", "depth"],
)
def test_what_cannot_be_judged_is_a_wrong_call(tmp_path: Path, place: Place, value: Any, said: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps(with_at(saved("host-root"), place, value)))
    done = vdscheck("judge", str(file))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"vdscheck: {file}: not a report that can be judged: ")
    assert said in done.stderr


def test_a_profile_that_is_named_a_hundred_thousand_times_is_one_profile(tmp_path: Path) -> None:
    whole = saved("host-root")
    file = tmp_path / "r.json"
    file.write_text(json.dumps(with_at(whole, ("ruleset", "profiles"), ["web"] * 100_000)))
    again = json.loads(vdscheck("judge", str(file), "--json").stdout)
    assert (
        again["ruleset"] == json.loads(vdscheck("judge", str(REPORTS / "host-root.json"), "--json").stdout)["ruleset"]
    )
    assert again["ruleset"]["profiles"] == ["web"]


def test_a_mark_of_the_byte_order_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_bytes(b"\xef\xbb\xbf" + (REPORTS / "disk.json").read_bytes())
    assert vdscheck("judge", str(file)).returncode == 0


def test_what_is_secret_in_a_saved_report_is_not_said_again(tmp_path: Path) -> None:
    address = "redis://me:s3cret-word@127.0.0.1:1?token=s3cret-too"
    whole = saved("host-root")
    whole["ruleset"]["overrides"] |= {"redis": [address], "plugin": {"key": "s3cret-leaf"}, "skip": ["sysctl.*"]}
    whole["run"]["command"] += ["--redis", address, f"--redis={address}"]
    whole["warnings"].append(f"configuration: {address}")
    file = tmp_path / "r.json"
    file.write_text(json.dumps(whole))
    done = vdscheck("judge", str(file), "--json")
    assert done.returncode == 0
    assert "s3cret" not in done.stdout + done.stderr
    again = json.loads(done.stdout)
    assert again["ruleset"]["overrides"] == {"skip": ["sysctl.*"]}
    assert again["run"]["command"][-1] == "--redis=redis://***@127.0.0.1:1?***"


# Time and memory

TAKEN = {"taken_at": "x", "duration_s": 0, "method": "", "value": {"a": 1}, "absent": None}


def large(case: str) -> str:
    """A report that is as large as a limit lets it be."""
    whole = saved("host-root")
    hole = json.dumps({**whole, "measurements": {"acme.x": {**TAKEN, "value": "HOLE"}}})
    pieces = {
        "lists": f"[{'[],' * 10_000_000}[]]",
        "maps": f"[{'{},' * 10_000_000}{{}}]",
        "numbers": f"[{'1.5,' * 7_500_000}1]",
        "names": "{" + ",".join(f'"{number}":{{}}' for number in range(2_500_000)) + "}",
        "text": '"' + "x" * 31_000_000 + '\U0001f600"',
    }
    if case in pieces:
        return hole.replace('"HOLE"', pieces[case])
    if case == "beyond":
        return hole.replace("HOLE", "x" * (40 << 20))
    if case == "measurements":
        return json.dumps({**whole, "measurements": {f"acme.x{number}": TAKEN for number in range(300_000)}})
    if case == "subjects":
        one = whole["measurements"]["disk.stack[/var/lib]"]
        return json.dumps({**whole, "measurements": {f"disk.stack[{number}]": one for number in range(3_000)}})
    if case == "warnings":
        return json.dumps({**whole, "warnings": ["w" * 20] * 1_000_000})
    assert case == "findings"
    return json.dumps({**whole, "findings": [{}] * 3_000_000})


CASES = (
    "lists", "maps", "numbers", "names", "text", "beyond", "measurements", "subjects", "warnings", "findings",
)  # fmt: skip


def pss_kib(pid: int) -> int:
    """What a process and its children take, pages that they share counted once (proc_pid_smaps(5))."""
    total = 0
    with suppress(OSError, ValueError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (str(pid), *children):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total


def examined(file: Path, *words: str) -> tuple[int, str, float, int]:
    """The exit code, standard error, how much processor time and how much memory it took at most."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = subprocess.Popen(
        [*PROGRAM, "judge", str(file), *words],
        env=environment(), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    most = [0]

    def watch() -> None:
        while program.poll() is None:
            most[0] = max(most[0], pss_kib(program.pid))
            time.sleep(0.01)

    watching = threading.Thread(target=watch)
    watching.start()
    _, said = program.communicate(timeout=10 * LIMIT_S)
    watching.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return program.returncode, said, spent_s, most[0] >> 10


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("words", [("--json",), ("-v",)])
def test_a_large_report_is_judged_or_refused_within_its_limits(
    tmp_path: Path, case: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / "r.json"
    file.write_text(large(case))
    code, said, spent_s, most_mib = examined(file, *words)
    assert code == 0 or (code == 2 and len(said.splitlines()) == 1), said
    assert spent_s < LIMIT_S
    assert most_mib < LIMIT_MIB


def test_three_thousand_disks_are_judged_within_the_limits(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(large("subjects"))
    code, said, spent_s, most_mib = examined(file)
    assert code == 0, said
    assert spent_s < LIMIT_S
    assert most_mib < LIMIT_MIB


def test_whoever_limits_the_memory_to_it_gets_the_same(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(large("lists"))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_MIB << 20, LIMIT_MIB << 20))

    done = vdscheck("judge", str(file), preexec_fn=limited)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "not a report that can be judged" in done.stderr


def test_a_report_that_takes_long_is_left_at_the_first_interruption(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(large("numbers"))
    program = subprocess.Popen(
        [*PROGRAM, "judge", str(file), "--json"],
        env=environment(), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while program.poll() is None and not Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text():
        os.sched_yield()
    program.send_signal(signal.SIGINT)
    out, _ = program.communicate(timeout=20)
    assert program.returncode == 130
    assert json.loads(out)["run"]["complete"] is False


# What a report brings of its own

LOGIN = "redis://me:S3cretPw99@h:1/0?sig=S3cretSig99"


def with_a_login(content: dict[str, Any], place: str) -> dict[str, Any]:
    measurements, first = content["measurements"], next(iter(content["measurements"]))
    match place:
        case "subject":
            late = {"kind": "unmeasured", "reason": "error", "detail": "x", "limit": None}
            measurements[f"redis.latency[{LOGIN}]"] = {**measurements[first], "value": None, "absent": late}
        case "overrides":
            content["ruleset"]["overrides"] = {LOGIN: 1}
        case "kind":
            content["target"]["kind"] = LOGIN
        case "name":
            content["target"]["name"] = LOGIN
        case "profile":
            content["ruleset"]["profiles"] = [LOGIN]
        case "value":
            taken = next(each for key, each in measurements.items() if key.startswith("kernel.boot"))
            taken["value"]["problems"] = [LOGIN]
        case "warning":
            content["warnings"] = [LOGIN]
    return content


@pytest.mark.parametrize("place", ["subject", "overrides", "kind", "name", "profile", "value", "warning"])
@pytest.mark.parametrize("escaped", [False, True])
def test_no_login_in_a_saved_report_is_shown(tmp_path: Path, place: str, *, escaped: bool) -> None:
    text = json.dumps(with_a_login(json.loads(json.dumps(saved("host-root"))), place))
    assert "S3cretPw99" in text
    if escaped:
        text = text.replace("@", "\\u0040").replace("//me", "\\/\\/me").replace("?sig", "\\u003fsig")
    (tmp_path / "r.json").write_text(text)
    done = vdscheck("judge", str(tmp_path / "r.json"), "--no-config", "--json", "-o", f"text={tmp_path}/said")
    said = done.stdout + done.stderr + ((tmp_path / "said").read_text() if done.returncode != 2 else "")
    assert "S3cret" not in said


@pytest.mark.parametrize("brought", ["waivers", "skip"])
def test_with_a_gate_the_overrides_of_the_report_itself_are_told(tmp_path: Path, brought: str) -> None:
    content = json.loads(json.dumps(saved("host-root")))
    content["ruleset"]["overrides"] = {}
    file = tmp_path / "r.json"

    def gate(*more: str) -> tuple[int, dict[str, Any], list[str]]:
        file.write_text(json.dumps(content))
        done = vdscheck("judge", str(file), "--no-config", "--fail-on", "fail", "--json", *more)
        return done.returncode, json.loads(done.stdout), done.stderr.splitlines()

    code, report, said = gate()
    bad = sorted({each["id"] for each in report["findings"] if each["verdict"] == "fail"})
    assert (code, bool(bad), said) == (1, True, [])
    waivers = [{"check": each, "reason": "x", "expires": "2099-01-01"} for each in bad]
    content["ruleset"]["overrides"] = {"waivers": waivers} if brought == "waivers" else {"skip": bad}
    code, report, said = gate()
    what = [f"waiver of {each} until 2099-01-01" if brought == "waivers" else f"skip {each}" for each in bad]
    assert code == 0
    assert report["gates"][0]["loosened_by"] == {"file": str(file), "what": what}
    head = f"vdscheck: {file}, not named with --config, changes what the gates judge:"
    assert said == [head, *(f"  {each}" for each in what)]
    (tmp_path / "own.toml").write_text('skip = ["redis.*"]\n')
    done = vdscheck("judge", str(file), "--config", str(tmp_path / "own.toml"), "--fail-on", "fail", "--json")
    assert (done.returncode, json.loads(done.stdout)["gates"][0]["loosened_by"]) == (1, None)


@pytest.mark.parametrize(
    ("profiles", "what"),
    [
        ([], ["no profile"]),
        (["latency"], ["profile latency"]),
        (["web", "latency"], ["profile web", "profile latency"]),
        (["web"], None),
    ],
)
def test_with_a_gate_the_profiles_of_the_report_itself_are_told(
    tmp_path: Path, profiles: list[str], what: list[str] | None
) -> None:
    content = json.loads(json.dumps(saved("host-root")))
    content["ruleset"] |= {"overrides": {}, "profiles": profiles}
    file = tmp_path / "r.json"
    file.write_text(json.dumps(content))

    def told(*more: str) -> tuple[Any, list[str]]:
        done = vdscheck("judge", str(file), "--fail-on", "fail", "--json", *more, cwd=tmp_path)
        return json.loads(done.stdout)["gates"][0]["loosened_by"], done.stderr.splitlines()

    found, said = told("--no-config")
    assert found == (None if what is None else {"file": str(file), "what": what})
    assert [line.strip() for line in said[1:]] == (what or [])
    assert told("--no-config", "--profile", "latency") == (None, [])
    named = tmp_path / "own.toml"
    named.write_text('skip = ["redis.*"]\n')
    assert told("--config", str(named)) == (None, [])
    (tmp_path / "vdscheck.toml").write_text('skip = ["redis.*"]\n')
    beside = told()[0]["what"]
    assert [each for each in beside if "profile" in each] == [f"{each}, as {file} says" for each in what or []]
