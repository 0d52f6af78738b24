"""The program as a user and a robot meet it: exit codes, streams, bad input, interruptions."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import jsonschema
import pytest

import vdscheck.__main__ as start
from tests.support.program import PROGRAM, TIMEOUT_S, children, environment, plugin, report, vdscheck, wait_for

FEW = ("--only", "sysctl.*", "--passive")

SLOW = """
import time
from vdscheck.plugin import *

@measurement
class Slow:
    '''Nothing.'''
    x: int

@probe("acme.slow", deadline_s=30)
def slow(host: Host) -> Slow:
    '''Takes its time.'''
    time.sleep(25)
    return Slow(x=1)

@check("acme.slow", severity=Severity.LOW)
def judged(slow: Slow) -> Judgement:
    '''It is slow.

    Why: a test
    False positives: none
    By hand: wait
    Sources: none
    '''
    return Judgement(verdict=Verdict.PASS, summary="it is slow")
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The published schema, as the program prints it."""
    return dict(json.loads(vdscheck("schema").stdout))


def refusal(*words: str, code: int = 2, **more: Any) -> str:
    done = vdscheck(*words, **more)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("vdscheck: ")
    return lines[0]


@pytest.mark.covered
def test_the_report_of_this_host_is_one_json_document_of_the_schema(schema: dict[str, Any]) -> None:
    done = vdscheck("--json", "--offline")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    jsonschema.Draft202012Validator(schema).validate(found)
    assert found["run"]["complete"] is True
    assert found["run"]["command"][0] == "vdscheck"
    assert found["target"]["name"] == os.uname().nodename
    assert len(found["findings"]) > 20


def test_without_a_command_run_is_meant() -> None:
    done = vdscheck(*FEW, "--json")
    assert json.loads(done.stdout)["findings"]
    assert json.loads(vdscheck("run", *FEW, "--json").stdout)["ruleset"] == json.loads(done.stdout)["ruleset"]


@pytest.mark.covered
def test_a_saved_report_is_judged_to_the_same_findings(tmp_path: Path, schema: dict[str, Any]) -> None:
    done = vdscheck("--passive", "--json", "--skip", "virt.virtio", "-o", f"json={tmp_path}/saved.json")
    again = vdscheck("judge", f"{tmp_path}/saved.json", "--json")
    assert (again.returncode, again.stderr) == (0, "")
    first, second = json.loads(done.stdout), json.loads(again.stdout)
    jsonschema.Draft202012Validator(schema).validate(second)
    assert json.loads((tmp_path / "saved.json").read_text()) == first
    for key in ("findings", "score", "ruleset", "measurements", "target", "run"):
        assert second[key] == first[key]
    by_redis = json.loads(vdscheck("judge", f"{tmp_path}/saved.json", "--json", "--profile", "redis").stdout)
    assert by_redis["ruleset"]["profiles"] == ["redis"]
    assert by_redis["measurements"] == first["measurements"]


def test_a_report_that_is_judged_again_keeps_what_was_said_of_its_run(tmp_path: Path) -> None:
    file, waived = tmp_path / "saved.json", tmp_path / "vdscheck.toml"
    waived.write_text("[[waivers]]\ncheck = 'sysctl.somaxconn'\nreason = 'known'\nexpires = 2020-01-01")
    found = json.loads(vdscheck(*FEW, "--config", str(waived), "--json").stdout)
    assert ["expired" in each for each in found["warnings"]] == [False, True]
    of_the_run = "the measuring did not end in time and was given up"
    file.write_text(json.dumps(found | {"warnings": [of_the_run, *found["warnings"]]}))
    again = json.loads(vdscheck("judge", str(file), "--json").stdout)["warnings"]
    assert again == [of_the_run, *found["warnings"]]
    waived.write_text("[limits]")
    otherwise = json.loads(vdscheck("judge", str(file), "--config", str(waived), "--profile", "redis", "--json").stdout)
    assert otherwise["warnings"] == [of_the_run, found["warnings"][0]]


def test_a_report_is_judged_from_standard_input() -> None:
    saved = vdscheck(*FEW, "--json").stdout
    assert json.loads(vdscheck("judge", "-", "--json", input=saved).stdout)["findings"]


@pytest.mark.parametrize("words", ["judge -", "cluster --offline -f -"])
@pytest.mark.parametrize("given", ["0>/dev/null", "0>x"])
def test_a_standard_input_that_cannot_be_read_is_a_wrong_call(tmp_path: Path, words: str, given: str) -> None:
    """`nohup` leaves one that can only be written to."""
    line = f"{' '.join(PROGRAM)} {words} {given}"
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment()
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "standard input cannot be read: " in done.stderr


@pytest.mark.parametrize("limits", ["-v 350000", "-t 5", "-S -v 300000"])
def test_a_report_is_judged_under_a_limit_of_the_session(tmp_path: Path, limits: str) -> None:
    """A hard limit below our own is not to be raised, which only root may."""
    file = tmp_path / "r.json"
    file.write_text(vdscheck(*FEW, "--json").stdout)
    tmp_path.chmod(0o755)
    bound = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
    line = f'ulimit {limits}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", line, "bash", *bound, *PROGRAM, "judge", str(file), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["findings"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not a report that can be judged"),
        ("{}", "schema_version"),
        ('{"schema_version": 99}', "schema version 99"),
        ("[" * 100_000, "not a report"),
        ('{"schema_version": ' + "9" * 100_000, "not a report"),
    ],
)
def test_what_is_not_a_report_is_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "saved.json").write_text(content)
    assert said in refusal("judge", f"{tmp_path}/saved.json")


def test_a_report_with_hostile_overrides_is_refused(tmp_path: Path) -> None:
    saved = json.loads(vdscheck(*FEW, "--json").stdout)
    saved["ruleset"]["overrides"] = {"waivers": [{"check": "*"}], "x": 1}
    (tmp_path / "saved.json").write_text(json.dumps(saved))
    assert "ruleset.overrides" in refusal("judge", f"{tmp_path}/saved.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "sysctl.somaxcon"], "did you mean sysctl.somaxconn?"),
        (["--profile", "wbe"], "did you mean web?"),
        (["--profile", "cluster"], "profile cluster says nothing of a host: vdscheck cluster judges by it"),
        (["cluster", "--profile", "web", "--offline", "-f", "/dev/null"], "profile web says nothing of a cluster"),
        (["--format", "jsn"], "there is no format jsn: did you mean json?"),
        (["--min-score", "101"], "--min-score"),
        (["--min-score", "many"], "--min-score"),
        (["--fail-on", "error"], "error"),
        (["-o", "json"], "write -o FORMAT=FILE"),
        (["-o", "json=/no/such/folder/x.json"], "there is no folder /no/such/folder"),
        (["-o", "json=/"], "that is a folder"),
        (["-o", "yaml=/tmp/x"], "there is no format yaml"),
        (["--quick", "--thorough"], "exclude each other"),
        (["--root", "/no/such/folder"], "there is no such folder"),
        (["--config", "/no/such/file"], "there is no /no/such/file"),
        (["--config", "/"], "is not a regular file"),
        (["--config", ""], "the word after --config is empty"),
        (["-o", "json=a"] * 51, "-o: at most 50 files, and 51 are named"),
        (["-q", "-v"], "--quiet and --verbose exclude each other"),
        (["--json", "--format", "text"], "--json and --format text exclude each other"),
        (["--only", "sysctl.overcommit"], "no check of profile web; sysctl.overcommit is judged by: "),
        (["--only", "sysctl.*", "--skip", "sysctl.*"], "--only and --skip leave no check"),
        (["--skip", "*"], "--skip leaves no check"),
        (["--no-such-option"], "--no-such-option"),
        (["no-such-command"], "no-such-command"),
        (["judge"], "REPORT.json"),
        (["judge", "/no/such/file"], "there is no /no/such/file"),
        (["explain", "sysctl.somaxcon"], "did you mean sysctl.somaxconn?"),
        (["--only", "\x1b[31mred\u202e\n[red]x"], "\\x1b[31mred\\u202e\\n[red]x"),
    ],
)
def test_a_wrong_call_is_one_clear_line_and_nothing_on_stdout(words: list[str], said: str) -> None:
    assert said in refusal(*words)


@pytest.mark.parametrize("spelt", ["clus*", "cluster*", "*ster.*", "c?uster.*", "cluster.*"])
def test_a_selection_is_answered_by_what_it_selects(spelt: str) -> None:
    judged_elsewhere = f"--only {spelt}: cluster.api-latency is judged by another command: vdscheck cluster"
    assert judged_elsewhere in refusal("--passive", "--only", spelt)
    assert report(*FEW, "--skip", spelt)["findings"]


@pytest.mark.covered
def test_a_wrong_configuration_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text("profle = 'web'")
    assert "did you mean profile?" in refusal("--config", str(file))
    assert "did you mean profile?" in refusal(env={"VDSCHECK_CONFIG": str(file)})


def test_the_command_line_wins_over_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text("profile = 'redis'\nonly = 'sysctl.*'\nmin-score = 100\npassive = true\nformat = 'json'")
    done = vdscheck("--config", str(file), "--profile", "web", "--min-score", "0", "--quick")
    found = json.loads(done.stdout)
    assert found["ruleset"]["profiles"] == ["web"]
    assert found["gates"][0]["threshold"] == 0
    assert {finding["area"] for finding in found["findings"]} == {"sysctl"}
    assert any(str(file) in warning for warning in found["warnings"])


def test_verbosity_on_the_command_line_wins_over_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    words = ("--config", str(file), *FEW)
    file.write_text("quiet = true")
    assert "\nPASS" in vdscheck(*words, "-v").stdout
    assert "ruleset" not in vdscheck(*words).stdout
    file.write_text("verbose = true")
    assert "ruleset" not in vdscheck(*words, "-q").stdout
    file.write_text("verbose = true\nquiet = true")
    assert "verbose and quiet exclude each other" in refusal(*words)


def test_json_can_be_asked_for_in_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text("json = true")
    json.loads(vdscheck("--config", str(file), *FEW).stdout)
    assert vdscheck("--config", str(file), *FEW, "--format", "text").stdout.startswith("vdscheck")
    file.write_text("json = true\nformat = 'text'")
    assert "json and format exclude each other" in refusal("--config", str(file))


def test_a_subject_that_no_finding_has_is_said() -> None:
    found = report("--only", "sysctl.persistence[net.core.somaxcon]", "--only", "sysctl.somaxconn", "--passive")
    assert [finding["id"] for finding in found["findings"]] == ["sysctl.somaxconn"]
    assert found["warnings"] == ["--only sysctl.persistence[net.core.somaxcon] left nothing: no finding has that name"]


@pytest.mark.parametrize("started_at", ["", "yesterday", "9999-99-99T00:00:00.000Z"])
def test_a_report_without_the_day_on_which_its_waivers_count_is_refused(tmp_path: Path, started_at: str) -> None:
    saved = json.loads(vdscheck(*FEW, "--json").stdout)
    saved["run"]["started_at"] = started_at
    (tmp_path / "saved.json").write_text(json.dumps(saved))
    assert "run.started_at" in refusal("judge", f"{tmp_path}/saved.json")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--min-score", "0"], 0),
        (["--min-score", "0", "--min-coverage", "0"], 0),
        (["--fail-on", "unknown", "--only", "sysctl.somaxconn"], 0),
    ],
)
def test_gates_decide_the_exit_code(words: list[str], code: int) -> None:
    assert vdscheck("--passive", "--json", *words).returncode == code


@pytest.mark.covered
def test_a_gate_that_does_not_hold_is_1(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text("[limits.'sysctl.somaxconn']\nbacklog = '1000000000 connections'")
    done = vdscheck("--config", str(file), "--only", "sysctl.somaxconn", "--json", "--min-score", "50")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert [gate["holds"] for gate in found["gates"]] == [False, True]
    assert vdscheck("--config", str(file), "--only", "sysctl.somaxconn", "--fail-on", "fail").returncode == 1


def test_a_waiver_keeps_a_finding_from_failing_until_it_expires(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    limits = "[limits.'sysctl.somaxconn']\nbacklog = '1000000000 connections'\n"
    waiver = "[[waivers]]\ncheck = 'sysctl.somaxconn'\nreason = 'known'\nexpires = "
    words = ("--config", str(file), "--only", "sysctl.somaxconn", "--fail-on", "fail", "--json")
    file.write_text(f"{limits}{waiver}2999-01-01")
    done = vdscheck(*words)
    (finding,) = json.loads(done.stdout)["findings"]
    assert (done.returncode, finding["verdict"], finding["waiver"]["reason"]) == (0, "waived", "known")
    file.write_text(f"{limits}{waiver}2020-01-01")
    done = vdscheck(*words)
    assert done.returncode == 1
    assert any("expired on 2020-01-01" in warning for warning in json.loads(done.stdout)["warnings"])


@pytest.mark.covered
def test_several_formats_come_from_one_run(tmp_path: Path) -> None:
    done = vdscheck(*FEW, "-o", f"json={tmp_path}/a.json", "-o", f"text={tmp_path}/b.txt")
    assert json.loads((tmp_path / "a.json").read_text())["run"]["id"]
    assert (tmp_path / "b.txt").read_text().startswith("vdscheck")
    assert done.stdout.startswith("vdscheck")


# Streams


def test_a_reader_that_goes_away_ends_the_run_quietly() -> None:
    line = " ".join(PROGRAM) + " --passive --json | head -c 10; echo ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True, env=environment()
    )
    assert done.stderr == ""
    assert done.stdout.endswith("0\n")


def test_a_full_disk_is_4_and_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = vdscheck(*FEW, "--json", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 4
    assert done.stderr == "vdscheck: standard output: No space left on device\n"
    done = vdscheck(*FEW, "--json", "-o", "json=/dev/full")
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    json.loads(done.stdout)


def test_a_closed_standard_output_is_4_and_one_line() -> None:
    line = " ".join(PROGRAM) + " --passive --json >&-"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    assert done.returncode == 4
    assert done.stderr == "vdscheck: standard output is closed\n"


@pytest.mark.parametrize(
    ("closed", "code", "printed"),
    [
        ("<&-", 0, True),
        ("2>&-", 0, True),
        ("<&- 2>&-", 0, True),
        ("<&- >&-", 4, False),
        (">&- 2>&-", 4, False),
        ("<&- >&- 2>&-", 4, False),
    ],
)
def test_closed_streams_cost_neither_measurements_nor_the_files(
    tmp_path: Path, closed: str, code: int, *, printed: bool
) -> None:
    line = f"{' '.join((*PROGRAM, *FEW))} --json -o json={tmp_path}/saved.json {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False, env=environment())
    saved = (tmp_path / "saved.json").read_bytes()
    assert (done.returncode, done.stdout) == (code, saved if printed else b"")
    assert {finding["reason"] for finding in json.loads(saved)["findings"]} <= {None, "unsupported"}


def test_a_wrong_call_with_standard_error_closed_is_2() -> None:
    line = " ".join(PROGRAM) + " --only nothing 2>&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False, env=environment())
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize("word", ["--help", "--version", "list"])
def test_what_the_small_commands_print_may_not_get_lost_either(word: str) -> None:
    for target, said in ((">/dev/full", "No space left on device"), (">&-", "standard output is closed")):
        line = f"{' '.join(PROGRAM)} {word} {target}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False, env=environment())
        assert done.returncode == 4
        assert done.stderr.decode().splitlines() in ([f"vdscheck: standard output: {said}"], [f"vdscheck: {said}"])


def test_a_pipe_that_nobody_reads_is_4_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = vdscheck(*FEW, "--json", "-o", f"json={tmp_path}/pipe", timeout=20)
    assert done.returncode == 4
    assert done.stderr == f"vdscheck: -o {tmp_path}/pipe: nobody reads from this pipe\n"
    json.loads(done.stdout)


def test_names_that_are_not_utf_8_are_shown_as_their_bytes(tmp_path: Path, schema: dict[str, Any]) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.makedirs(folder + b"/etc")
    with open(folder + b"/v.toml", "w", encoding="utf-8") as file:
        file.write("quiet = true\n")
    words: list[str | bytes] = [
        "--only",
        "sysctl.somaxconn",
        "--only",
        b"sysctl.*[\xff]",
        "--config",
        folder + b"/v.toml",
    ]
    words += ["--root", folder, "-o", b"json=" + folder + b"/saved.json", "--json"]
    done = subprocess.run([*PROGRAM, *words], capture_output=True, timeout=60, check=False, env=environment())
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    jsonschema.Draft202012Validator(schema).validate(found)
    assert found["target"]["root"] == f"{tmp_path}/\\xff"
    assert found["ruleset"]["overrides"]["only"][1] == "sysctl.*[\\xff]"
    assert f"configuration: {tmp_path}/\\xff/v.toml" in found["warnings"]
    with open(folder + b"/saved.json", "rb") as file:
        assert file.read() == done.stdout
    said = subprocess.run(
        [*PROGRAM, "judge", folder + b"/nothing"], capture_output=True, timeout=60, check=False, env=environment()
    )
    assert f"{tmp_path}/\\xff/nothing" in said.stderr.decode()


def test_nothing_but_the_report_goes_to_stdout_and_nothing_to_stderr_in_a_pipe() -> None:
    done = vdscheck(*FEW)
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_from_a_folder_that_is_gone_the_report_still_comes(tmp_path: Path) -> None:
    def run(words: str) -> subprocess.CompletedProcess[str]:
        line = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone; {' '.join(PROGRAM)} {words}"
        return subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False, env=environment()
        )

    done = run("--only sysctl.somaxconn --passive --json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["findings"]
    for words in ("-o json=x.json", "judge x.json", "--config x.toml"):
        done = run(words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "the current folder is gone" in done.stderr


def test_a_run_that_cannot_have_its_measuring_process_is_4_and_names_the_limit() -> None:
    line = "ulimit -n 6; exec " + " ".join(PROGRAM) + " --passive --json --only sysctl.somaxconn"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    found = json.loads(done.stdout)
    (finding,) = found["findings"]
    assert (done.returncode, found["run"]["complete"], finding["reason"]) == (4, False, "error")
    assert finding["summary"] == "the limit of open files (ulimit -n 6) stopped this measurement"


# Interruptions


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]
)
@pytest.mark.covered
def test_an_interrupted_run_is_a_valid_incomplete_report(
    tmp_path: Path, schema: dict[str, Any], number: signal.Signals, code: int
) -> None:
    began_slow = tmp_path / "began"
    folder = plugin(tmp_path, SLOW.replace("time.sleep(", f"open({str(began_slow)!r}, 'w').close()\n    time.sleep("))
    running = subprocess.Popen(
        [*PROGRAM, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONPATH=str(folder)),
        cwd="/",
        text=True,
    )
    # The others are done: of the processes that measure only the slow one is left.
    wait_for(lambda: began_slow.exists() and [len(children(each)) for each in children(running.pid)] == [1])
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, stderr) == (code, "")
    found = json.loads(stdout)
    jsonschema.Draft202012Validator(schema).validate(found)
    assert found["run"]["complete"] is False
    verdicts = {finding["id"]: finding["reason"] for finding in found["findings"]}
    assert verdicts["acme.slow"] == "not-run"
    assert any(finding["verdict"] == "pass" for finding in found["findings"])


def test_from_the_moment_the_handlers_stand_every_interruption_gives_a_report(schema: dict[str, Any]) -> None:
    """The program is told to stop at its first system call after the handlers, and later."""
    outcomes = []
    for delay_ms in range(10, 400, 30):
        running = subprocess.Popen(
            [*PROGRAM, "--json", "--passive"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd="/",
        )
        give_up = time.monotonic() + TIMEOUT_S
        # Whether the handler of SIGINT stands is seen in proc(5) `status`: SigCgt has bit 2.
        while time.monotonic() < give_up:
            status = Path(f"/proc/{running.pid}/status").read_text()
            caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
            command = Path(f"/proc/{running.pid}/cmdline").read_bytes()
            if caught & 0x4002 == 0x4002 and b"vdscheck" in command:
                break
        time.sleep(delay_ms / 1000 - 0.01)
        running.send_signal(signal.SIGTERM)
        stdout, stderr = running.communicate(timeout=20)
        outcomes.append(running.returncode)
        assert running.returncode in {143, 0}, (delay_ms, running.returncode, stderr)
        if running.returncode == 143:
            assert stderr == b""
            jsonschema.Draft202012Validator(schema).validate(json.loads(stdout))
    assert outcomes[0] == 143


@pytest.mark.parametrize("pause_s", [0.0, 0.002, 0.2])
def test_the_same_signal_from_two_senders_is_one_interruption(pause_s: float) -> None:
    """`timeout` and service managers signal the process and its group, a moment apart."""
    running = subprocess.Popen(
        [*PROGRAM, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd="/"
    )
    wait_for(lambda: children(running.pid))
    running.send_signal(signal.SIGTERM)
    time.sleep(pause_s)
    running.send_signal(signal.SIGTERM)
    stdout, stderr = running.communicate(timeout=20)
    assert (running.returncode, stderr) == (143, b"")
    assert json.loads(stdout)["run"]["complete"] is False


def test_a_signal_may_come_at_any_instruction_of_the_handler_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs a handler inside a handler; both signals are noted then, and neither is a bug."""

    def noted(interrupted_at: int) -> list[int]:
        received: list[int] = []
        monkeypatch.setattr(start, "_received", received)
        monkeypatch.setattr(start, "_received_at_s", [])
        instructions = itertools.count()

        def traced(frame: FrameType, event: str, _argument: object) -> Any:
            if frame.f_code is not start._receive.__code__:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and next(instructions) == interrupted_at:
                start._receive(signal.SIGINT, None)
            return traced

        before = sys.gettrace()
        sys.settrace(traced)
        try:
            start._receive(signal.SIGTERM, None)
        finally:
            sys.settrace(before)
        return sorted(received)

    outcomes = [noted(at) for at in range(200)]
    number = outcomes.index([signal.SIGTERM])
    # How many instructions there are depends on the version of Python: 20 with 3.13, more with 3.11.
    assert number >= 10
    assert outcomes == [[signal.SIGINT, signal.SIGTERM]] * number + [[signal.SIGTERM]] * (200 - number)


def test_a_second_interruption_ends_the_program_at_once(tmp_path: Path) -> None:
    began = tmp_path / "began"
    # What a plugin does in the program itself is waited for; it has been tried in a session of its own before.
    code = f"import os, time\nif os.getsid(0) != os.getpid():\n  open({str(began)!r}, 'w').close()\n  time.sleep(600)\n"
    folder = plugin(tmp_path, code)
    running = subprocess.Popen(
        [*PROGRAM, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONPATH=str(folder)),
        cwd="/",
    )
    wait_for(began.exists)
    running.send_signal(signal.SIGTERM)
    time.sleep(1.2)  # sooner it would be the same one, from another sender
    running.send_signal(signal.SIGINT)
    stdout, _ = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, stdout) == (130, b"")


@pytest.mark.parametrize("words", [("judge", "-"), ("cluster", "--offline", "-f", "-")], ids=["judge", "cluster"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_waiting_for_standard_input_can_be_interrupted(
    words: tuple[str, ...], number: signal.Signals, code: int, schema: dict[str, Any]
) -> None:
    running = subprocess.Popen(
        [*PROGRAM, *words, "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd="/",
    )
    wait_for(lambda: b"poll_schedule_timeout" in Path(f"/proc/{running.pid}/wchan").read_bytes())
    running.send_signal(number)
    try:
        assert running.wait(timeout=20) == code
    finally:
        running.kill()
        stdout, stderr = running.communicate()
    assert stderr == b""
    found = json.loads(stdout)
    jsonschema.Draft202012Validator(schema).validate(found)
    assert (found["run"]["complete"], found["findings"]) == (False, [])
    assert found["warnings"] == ["interrupted before anything was examined"]
    assert found["target"]["kind"] == ("cluster" if words[0] == "cluster" else "host")


def test_whoever_starts_it_with_sigint_ignored_meant_it() -> None:
    line = "trap '' INT; exec " + " ".join(PROGRAM) + " --passive --json"
    running = subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, env=environment(), cwd="/")
    wait_for(lambda: children(running.pid))
    running.send_signal(signal.SIGINT)
    stdout, _ = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, json.loads(stdout)["run"]["complete"]) == (0, True)


# Plugins


HEAD = "from vdscheck.plugin import *\n"
PROBE = """
@measurement
class Acme:
    '''Nothing.'''
    x: int

@probe("acme.probe", deadline_s=3)
def measured(host: Host) -> Acme:
    '''Measures.'''
    {body}
    return Acme(x=1)
"""
CHECK = """
@check("acme.check", severity=Severity.LOW)
def judged(acme: {type}) -> Judgement:
    '''It is checked.

    Why: a test
    False positives: none
    By hand: look
    Sources: none
    '''
    {body}
    return Judgement(verdict=Verdict.PASS, summary="fine")
"""


def source(probe_body: str = "pass", check_body: str = "pass", kind: str = "Acme", head: str = HEAD) -> str:
    return head + PROBE.format(body=probe_body) + CHECK.format(type=kind, body=check_body)


def test_a_plugin_is_found_by_its_entry_point(tmp_path: Path) -> None:
    found = report("--only", "acme.*", plugins=plugin(tmp_path, source()))
    assert [(finding["id"], finding["verdict"]) for finding in found["findings"]] == [("acme.check", "pass")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module", "acme.py:1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = = 1", "acme.py:1: SyntaxError"),
        ("\n\nraise SystemExit(0)", "acme.py:3: SystemExit"),
        ("while True: pass", "acme.py:1: TimeoutError: did not end within 5 s"),
        (source(kind="int"), "parameter acme: int is neither"),
        (source(kind="NoSuch"), "NameError: name 'NoSuch' is not defined"),
        (
            source() + CHECK.format(type="Acme", body="pass").replace("def judged", "def again"),
            "acme.check is declared twice",
        ),
        (source().replace("acme.check", "sysctl.somaxconn"), "sysctl.somaxconn is declared twice"),
        (source().replace("Why: a test", ""), "has no `Why:`"),
    ],
    ids=["import", "syntax", "exit", "endless", "annotation", "unknown name", "duplicate", "ours", "heading"],
)
def test_a_plugin_that_cannot_be_loaded_is_2_and_names_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    message = refusal("--json", plugins=plugin(tmp_path, text))
    assert said in message
    assert "acme.py:" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import ctypes\nctypes.string_at(0)", "was ended by SIGSEGV"),
        ("import os\nos._exit(0)", "ended in the middle of it (exit code 0)"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGRTMIN + 3)", "was ended by signal 37"),
        ("while True:\n  try:\n    while True: pass\n  except BaseException: pass", "did not end within 5 s"),
    ],
    ids=["segv", "exit", "real-time signal", "endless"],
)
def test_a_plugin_whose_import_would_end_the_program_is_2(tmp_path: Path, text: str, said: str) -> None:
    message = refusal("--json", plugins=plugin(tmp_path, text), timeout=20)
    assert "plugin acme (acme) cannot be loaded" in message
    assert said in message


NOISE = "import os; print('noise' * 5000); os.write(1, b'noise')"


@pytest.mark.parametrize("text", [f"{NOISE}\n" + source(), source(check_body=NOISE)], ids=["import", "check"])
def test_what_a_plugin_prints_is_not_in_the_report(tmp_path: Path, text: str) -> None:
    found = report("--only", "acme.*", plugins=plugin(tmp_path, text))
    assert [finding["verdict"] for finding in found["findings"]] == ["pass"]


@pytest.mark.parametrize(
    "text", ["import os\nos.fork()\n" + source(), source(check_body="import os; os.fork()")], ids=["import", "check"]
)
def test_a_plugin_that_forks_does_not_double_the_report(tmp_path: Path, text: str) -> None:
    found = report("--only", "acme.*", plugins=plugin(tmp_path, text))
    assert [finding["verdict"] for finding in found["findings"]] == ["pass"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("while True: pass", "timeout"),
        ("import os, time\n    os.fork(); os.fork(); time.sleep(60)", "timeout"),
        ("import ctypes; ctypes.string_at(0)", "error"),
        ("raise SystemExit(0)", "error"),
        ("[print('x' * (1 << 20)) for _ in range(8)]", None),
        ("import os; [os.close(fd) for fd in range(100)]", "error"),
    ],
    ids=["endless", "fork", "segv", "exit", "output", "closes its pipe"],
)
@pytest.mark.covered
def test_a_probe_of_a_plugin_cannot_break_the_run(tmp_path: Path, body: str, reason: str | None) -> None:
    found = report("--only", "acme.*", "--only", "sysctl.somaxconn", plugins=plugin(tmp_path, source(body)))
    reasons = {finding["id"]: finding["reason"] for finding in found["findings"]}
    assert reasons == {"acme.check": reason, "sysctl.somaxconn": None}


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "raise SystemExit(0)",
        "1 / 0",
        "return 3",
        "import ctypes; ctypes.string_at(0)",
        "import os; os._exit(0)",
    ],
)
def test_a_check_of_a_plugin_cannot_break_the_run(tmp_path: Path, body: str) -> None:
    found = report("--only", "acme.*", plugins=plugin(tmp_path, source(check_body=body)))
    assert [finding["reason"] for finding in found["findings"]] == ["error"]


def test_hostile_text_of_a_plugin_does_not_reach_the_terminal(tmp_path: Path) -> None:
    text = source().replace('summary="fine"', 'summary="\\x1b[31m\\u202e[red]\\nfine"')
    done = vdscheck("--only", "acme.*", "-v", plugins=plugin(tmp_path, text))
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "[red]" in done.stdout


def test_what_an_image_cannot_say_of_each_key_is_said_once(tmp_path: Path) -> None:
    done = vdscheck("--root", str(tmp_path), "--only", "sysctl.persistence")
    said = " ".join(done.stdout.split())
    assert said.count("only a running kernel knows it") == 1
    assert said.count("UNKNOWN") == said.count("sysctl.persistence[") == 1


# The small commands


def test_the_version_and_the_help_are_on_stdout() -> None:
    assert vdscheck("--version").stdout.startswith("vdscheck 0.")
    for words in (["--help"], ["-h"], ["run", "--help"], ["run", "-h"], ["judge", "--help"]):
        done = vdscheck(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage" in done.stdout


@pytest.mark.covered
def test_the_catalogue_and_the_profiles_can_be_read() -> None:
    listed = vdscheck("list")
    assert "sysctl.somaxconn" in listed.stdout
    explained = vdscheck("explain", "sysctl.somaxconn")
    assert explained.returncode == 0
    for word in ("ListenOverflows", "somaxconn", "origin"):
        assert word in explained.stdout
    assert "kubernetes-node" in vdscheck("profiles").stdout
    for done in (listed, explained):
        assert "\x1b" not in done.stdout


def test_only_what_is_a_kernel_setting_is_mended_as_one() -> None:
    assert "sysctl -w KEY=VALUE" in vdscheck("explain", "sysctl.swappiness").stdout
    assert "sysctl -w" not in vdscheck("explain", "sysctl.thp").stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("vdscheck ex", "explain"),
        ("vdscheck explain sysctl.soma", "sysctl.somaxconn"),
        ("vdscheck --pas", "--passive"),
        ("vdscheck --only sysctl.soma", "sysctl.somaxconn"),
        ("vdscheck\n--quick\n--profile\nweb\n--off", "--offline"),
    ],
)
def test_the_shell_completes_commands_and_checks(words: str, found: str) -> None:
    done = vdscheck(
        env={
            "_VDSCHECK_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
    )
    assert found in done.stdout.split()
