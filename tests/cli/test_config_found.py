"""Which configuration counts: named, found or none; and what one that is found may do to a gate."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main

from tests.support.program import vdscheck
from tests.support.project import PROJECT
from vdscheck import codec
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.cli import app, known
from vdscheck.cli.config import keys
from vdscheck.cli.loosened import loosened
from vdscheck.model.judgement import Gate
from vdscheck.plugin import Matter
from vdscheck.target.interface import TargetKind

EARLIER = PROJECT / "tests/earlier"
FEW = ("--passive", "--only", "sysctl.somaxconn")
FAR = "2099-01-01"
BROKEN = "this is no configuration"
COMMANDS = typer.main.get_command(app.command_line(known.ours())).commands  # type: ignore[attr-defined]


Refusal = Callable[..., str]


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str]) -> Refusal:
    """Calls the program, here and now, with words that it must refuse, and returns the one line that it says."""

    def refused(*words: str) -> str:
        code = app.program([], words)
        said = capfd.readouterr()
        assert (code, said.out) == (2, ""), said
        (line,) = said.err.splitlines()
        return line

    return refused


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return dict(json.loads((PROJECT / "docs/report-v1.schema.json").read_text()))


# Named, found, or none


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the caller's own, as a pull request left it, and the current one."""
    folder = tmp_path / "checkout"
    folder.mkdir(mode=0o755)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VDSCHECK_CONFIG", raising=False)
    return folder


def found(checkout: Path, text: str) -> Path:
    file = checkout / "vdscheck.toml"
    file.write_text(text)
    return file


def test_no_config_reads_none_and_ignores_the_environment(
    checkout: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = found(checkout, BROKEN)
    other = checkout / "other.toml"
    other.write_text(BROKEN)
    assert f"{file}: not TOML" in refusal("--passive")
    monkeypatch.setenv("VDSCHECK_CONFIG", "")
    assert f"{file}: not TOML" in refusal("--passive")
    monkeypatch.setenv("VDSCHECK_CONFIG", str(other))
    assert f"{other}: not TOML" in refusal("--passive")
    done = vdscheck(*FEW, "--no-config", "--json", cwd=checkout, env={"VDSCHECK_CONFIG": str(other)})
    assert (done.returncode, done.stderr) == (0, "")
    assert not any("configuration" in each for each in json.loads(done.stdout)["warnings"])


def test_a_file_and_none_exclude_each_other(refusal: Refusal) -> None:
    said = refusal("--passive", "--no-config", "--config", "vdscheck.toml")
    assert said == "vdscheck: --config and --no-config exclude each other"


def test_each_command_that_takes_a_configuration_takes_none() -> None:
    options = {name: {each for param in command.params for each in param.opts} for name, command in COMMANDS.items()}
    takes = {name for name, known in options.items() if "--config" in known}
    assert {"run", "cluster", "judge", "disk", "jitter", "redis", "path"} <= takes
    assert takes == {name for name, known in options.items() if "--no-config" in known}


@pytest.mark.parametrize("command", ["disk", "jitter", "redis", "path", "cluster", "judge"])
def test_each_of_them_reads_none_then(checkout: Path, refusal: Refusal, command: str) -> None:
    file = found(checkout, BROKEN)
    last = {"judge": ["none.json"], "cluster": ["--offline"]}.get(command, ["--format", "none"])
    assert f"{file}: not TOML" in refusal(command, *last)
    assert "TOML" not in refusal(command, *last, "--no-config")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")


@needs_root
@pytest.mark.parametrize("place", ["pub", "home"])
def test_both_ways_out_of_a_configuration_of_somebody_else(
    checkout: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = checkout / place
    file = folder / {"pub": "vdscheck.toml", "home": ".config/vdscheck/config.toml"}[place]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("profile = 'redis'")
    os.chown(file, 1002, 1002)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder if place == "pub" else "/")
    assert refusal(*FEW) == (
        f"vdscheck: refusing {file}: {file} belongs to another user (1002). "
        f"To use it: --config {file}; to run without it: --no-config"
    )
    for words, profiles in ((["--config", str(file)], ["redis"]), (["--no-config"], ["web"])):
        done = vdscheck(*FEW, *words, "--json", cwd=os.getcwd())
        assert json.loads(done.stdout)["ruleset"]["profiles"] == profiles


# A program that a file in the current folder names


@pytest.fixture
def hostile(checkout: Path) -> Path:
    """A checkout whose configuration names a kubeconfig, whose login is a program beside it."""
    found(checkout, 'kubeconfig = "k.yaml"\n')
    (checkout / "k.yaml").write_text(
        """
        {apiVersion: v1, kind: Config, current-context: x,
         clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}],
         users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: ./evil.sh,
                  interactiveMode: Never}}}],
         contexts: [{name: x, context: {cluster: c, user: u}}]}
        """
    )
    program = checkout / "evil.sh"
    program.write_text("#!/bin/sh\necho ran > $(dirname $0)/ran\n")
    program.chmod(0o755)
    return checkout


@pytest.mark.parametrize("owner", [0, 1002])
def test_a_program_of_the_current_folder_is_not_run(hostile: Path, refusal: Refusal, owner: int) -> None:
    if owner:
        if os.geteuid():
            pytest.skip("only root can make files of other users")
        for path in (hostile, *hostile.iterdir()):
            os.chown(path, owner, owner)
    said = refusal("cluster")
    assert ("belongs to another user" in said) == bool(owner)
    assert ("vdscheck.toml:1: kubeconfig says what is connected to, read or run" in said) == (not owner)
    assert not (hostile / "ran").exists()


def test_it_is_run_where_the_file_is_named(hostile: Path) -> None:
    done = vdscheck("cluster", "--config", "./vdscheck.toml", "--json", cwd=hostile)
    assert done.returncode == 0, done
    assert (hostile / "ran").exists()


# Waivers


def waiver(check: str, expires: str = FAR) -> str:
    return f'[[waivers]]\ncheck = "{check}"\nreason = "known"\nexpires = {expires}\n'


def test_a_pattern_is_no_waiver_and_all_that_it_matched_is_named(
    catalogue: Catalogue, checkout: Path, refusal: Refusal
) -> None:
    file = found(checkout, waiver("*"))
    for words in ([], ["--config", str(file)]):
        line = refusal("--passive", *words)
        assert "[[waivers]]: * is a pattern, and a waiver names one check: write one waiver for each" in line
        judged = [check_id for check_id in sorted(catalogue.checks) if not check_id.startswith("cluster.")]
        assert line.endswith("; it matched " + ", ".join(judged))


def test_a_configuration_of_an_earlier_version_with_a_pattern_is_refused(refusal: Refusal) -> None:
    file = EARLIER / "configurations/glob-waiver.toml"
    assert "sysctl.s* is a pattern" in refusal("--passive", "--config", str(file))


def test_a_report_of_an_earlier_version_is_judged_by_its_patterns(checkout: Path, refusal: Refusal) -> None:
    report = str(EARLIER / "reports/waived.json")
    judged = json.loads(vdscheck("judge", report, "--no-config", "--json", cwd=checkout).stdout)
    before = json.loads(Path(report).read_text())
    assert judged["ruleset"]["overrides"] == before["ruleset"]["overrides"]
    waived = [each["id"] for each in judged["findings"] if each["verdict"] == "waived"]
    assert waived == [each["id"] for each in before["findings"] if each["verdict"] == "waived"] != []
    found(checkout, waiver("sysctl.s*"))
    assert "sysctl.s* is a pattern" in refusal("judge", report)


# Gates


def squeezed(text: str) -> str:
    """Without blanks: a long word is broken where the terminal ends."""
    return "".join(text.split())


@pytest.mark.parametrize("kind", ["here", "home"])
def test_what_a_found_file_changes_is_told_wherever_a_gate_is_asked_for(
    checkout: Path, schema: dict[str, Any], kind: str
) -> None:
    file = checkout / {"here": "vdscheck.toml", "home": ".config/vdscheck/config.toml"}[kind]
    file.parent.mkdir(parents=True, exist_ok=True)
    limits = '[limits."sysctl.somaxconn"]\nbacklog = "1000000000 connections"\n'
    file.write_text(waiver("sysctl.somaxconn") + waiver("time.sync", "2020-01-01") + limits)
    where: dict[str, Any] = {"cwd": checkout if kind == "here" else "/", "env": {"HOME": str(checkout)}}
    told = [f"{file}, not named with --config, changes what the gates judge:"]
    told += [f"  waiver of sysctl.somaxconn until {FAR}", "  limit sysctl.somaxconn backlog 1000000000 connections"]
    words = ["--passive", "--only", "sysctl.somaxconn", "--fail-on", "warn"]
    done = vdscheck(*words, "--json", "-o", f"text={checkout}/said", **where)
    report = json.loads(done.stdout)
    jsonschema.Draft202012Validator(schema).validate(report)
    (gate,) = report["gates"]
    assert (done.returncode, gate["holds"]) == (0, True)
    assert gate["loosened_by"] == {"file": str(file), "what": [each.strip() for each in told[1:]]}
    assert done.stderr.splitlines() == [f"vdscheck: {told[0]}", *told[1:]]
    gate_and_why = squeezed("".join(["GATE fail-on warn holds (found 0)", *told]))
    assert gate_and_why in squeezed((checkout / "said").read_text())
    if kind == "home":
        return
    quiet = vdscheck(*words, "-q", **where)
    assert quiet.stderr.splitlines() == [f"vdscheck: {told[0]}", *told[1:]]
    assert gate_and_why in squeezed(quiet.stdout)
    for without in (["--only", "sysctl.somaxconn"], ["--no-config"], ["--config", str(file)]):
        more = words if without[0] != "--only" else ["--passive"]
        done = vdscheck(*more, *without, "--json", **where)
        assert done.stderr == ""
        assert [gate["loosened_by"] for gate in json.loads(done.stdout)["gates"]] in ([], [None])


def test_a_saved_report_is_judged_with_the_same_word(checkout: Path) -> None:
    saved = str(EARLIER / "reports/host-root.json")
    plain = json.loads(vdscheck("judge", saved, "--no-config", "--json", "--fail-on", "fail").stdout)
    wrong = [each["id"] for each in plain["findings"] if each["verdict"] == "fail"]
    assert plain["gates"] == [
        {"name": "fail-on", "threshold": "fail", "value": len(wrong), "holds": False, "loosened_by": None}
    ]
    found(checkout, "quick = true\n" + "".join(waiver(each) for each in dict.fromkeys(wrong)))
    done = vdscheck("judge", saved, "--json", "--fail-on", "fail", cwd=checkout)
    (gate,) = json.loads(done.stdout)["gates"]
    assert (done.returncode, gate["holds"]) == (0, True)
    assert gate["loosened_by"]["what"] == [f"waiver of {each} until {FAR}" for each in dict.fromkeys(wrong)]


def test_what_the_command_line_decides_is_not_the_file_s_doing(checkout: Path) -> None:
    found(checkout, 'profile = "redis"\nskip = "disk.*"\nquick = true\nmin-coverage = 0\nmin-score = 1\n')
    words = [*FEW, "--json", "--min-score", "0"]
    gates = json.loads(vdscheck(*words, cwd=checkout).stdout)["gates"]
    what = ["profile redis", "skip disk.*", "min-coverage 0 (without it 60)"]
    assert [(gate["name"], gate["threshold"], gate["loosened_by"]["what"]) for gate in gates] == [
        ("min-score", 0, what),
        ("min-coverage", 0, what),
    ]
    words += ["--profile", "web", "--skip", "net.*", "--min-coverage", "0"]
    assert [gate["loosened_by"] for gate in json.loads(vdscheck(*words, cwd=checkout).stdout)["gates"]] == [None, None]


def test_a_gate_that_the_file_itself_asks_for_is_its_own_affair(checkout: Path) -> None:
    found(checkout, f'fail-on = "unknown"\n{waiver("time.sync")}')
    done = vdscheck(*FEW, "--json", "--min-score", "0", "--min-coverage", "0", cwd=checkout)
    loosening = {gate["name"]: gate["loosened_by"] for gate in json.loads(done.stdout)["gates"]}
    assert loosening["fail-on"] is None
    assert loosening["min-score"]["what"] == [f"waiver of time.sync until {FAR}"]


EXAMPLES: dict[str, tuple[Any, list[str]]] = {
    "profile": (["redis", "web"], ["profile redis", "profile web"]),
    "only": (["sysctl.*"], ["only sysctl.*"]),
    "skip": (["disk.*"], ["skip disk.*"]),
    "passive": (True, ["passive"]),
    "quick": (True, ["quick"]),
    "thorough": (True, []),
    "offline": (True, ["offline"]),
    "disk": (["/dev/shm"], ["disk"]),
    "redis": (["redis://:S3cretPw@h"], ["redis"]),
    "path": (["home=::1"], ["path"]),
    "context": ("x", ["context"]),
    "kubeconfig": ("k", ["kubeconfig"]),
    "node-reports": ("reports", ["node-reports"]),
    "namespace": (["shop"], ["namespace shop"]),
    "selector": (["nvme=a=b"], ["selector nvme=a=b"]),
    "min-nvme": (0, ["min-nvme 0"]),
    "region": (["no-osl"], ["region no-osl"]),
    "limits": (
        {"a.b": {"x": "1 %", "y": {"pass": "1 %", "fail": "2 %"}}},
        ["limit a.b x 1 %", "limit a.b y {'pass': '1 %', 'fail': '2 %'}"],
    ),
    "severity": ({"a.b": "low"}, ["severity a.b low"]),
    "offer": ({"cpus": 1}, ["offer cpus 1"]),
    "waivers": (
        [{"check": "a.b", "reason": "", "expires": FAR}, {"check": "a.c", "reason": "", "expires": "2026-01-01"}],
        [f"waiver of a.b until {FAR}"],
    ),
    "plugin": ({"acme": {"hosts": 3}}, ["plugin"]),
    "min-coverage": (0, ["min-coverage 0 (without it 60)"]),
}


def test_each_key_that_bears_on_a_gate_is_told() -> None:
    shown = {name for name, key in keys().items() if key.matter is Matter.SHOWING}
    assert shown | {"min-score", "fail-on"} == set(keys()) - set(EXAMPLES)
    for name, (value, what) in EXAMPLES.items():

        def told(target: TargetKind, *decided: str, measures: bool = True) -> list[str]:
            return list(loosened({name: value}, decided, target, "2026-11-29", measures=measures))  # noqa: B023

        assert what in (told("host"), told("cluster")), name
        assert told("host", name) == told("cluster", name) == []
        of_measuring = keys()[name].matter in {Matter.MEASURING, Matter.REACH}
        assert told(keys()[name].target or "host", measures=False) == ([] if of_measuring else what)


def test_a_gate_of_an_earlier_version_is_a_gate(schema: dict[str, Any]) -> None:
    assert "loosened_by" not in schema["$defs"]["Gate"]["required"]
    old = b'{"name": "fail-on", "threshold": "fail", "value": 0, "holds": true}'
    assert codec.decode(old, Gate) == Gate("fail-on", "fail", 0, True, None)


# A kubeconfig that nobody named


KUBECONFIG = """
{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}],
 users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: PROGRAM,
          interactiveMode: Never}}}], contexts: [{name: x, context: {cluster: c, user: u}}]}
"""


def logs_in_by(folder: Path, above: Path) -> Path:
    """A kubeconfig that is found in that folder; its program tells that it ran."""
    program = above / "login.sh"
    program.write_text(f"#!/bin/sh\ntouch {above}/ran\n")
    program.chmod(0o755)
    file = folder / ".kube/config"
    file.parent.mkdir(parents=True)
    file.write_text(KUBECONFIG.replace("PROGRAM", str(program)))
    return file


@needs_root
def test_a_kubeconfig_in_a_home_of_somebody_else_runs_nothing(
    checkout: Path, tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = logs_in_by(checkout, tmp_path)
    monkeypatch.setenv("HOME", str(checkout))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    os.chown(file.parent, 1002, 1002)
    said = f"vdscheck: refusing {file}: {file.parent} belongs to another user (1002). To use it: --kubeconfig {file}"
    assert refusal("cluster") == said
    assert not (tmp_path / "ran").exists()
    for words, more in (((), {"KUBECONFIG": str(file)}), (("--kubeconfig", str(file)), {})):
        vdscheck("cluster", *words, "--json", cwd=checkout, env=more)
        (tmp_path / "ran").unlink()


def test_one_s_own_kubeconfig_is_used(checkout: Path, tmp_path: Path) -> None:
    logs_in_by(checkout, tmp_path)
    assert vdscheck("cluster", "--json", cwd="/", env={"HOME": str(checkout), "KUBECONFIG": ""}).returncode == 0
    assert (tmp_path / "ran").exists()


def test_without_a_home_none_is_found_in_the_current_folder(
    checkout: Path, tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs_in_by(checkout / "~", tmp_path)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for home in ("~", "./~"):
        monkeypatch.setenv("HOME", home)
        assert "no kubeconfig at" in refusal("cluster")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", dict[int, Any]().__getitem__)  # no account: a KeyError
    assert refusal("cluster") == "vdscheck: no kubeconfig at ~/.kube/config: name one with --kubeconfig or KUBECONFIG"
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("checkout")
def test_an_address_in_kubeconfig_is_shown_without_its_login_though_it_is_a_list_of_files(
    monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    monkeypatch.setenv("KUBECONFIG", "https://us3rNm:S3cr3tPw99@h:1/2?tok=Qu3ryTok1")
    assert refusal("cluster") == "vdscheck: no kubeconfig at https://***@h:1/2?***"


PASTED = {
    "the file itself": "apiVersion: v1\nusers: [{name: u, user: {token: hunter22hunter22}}]\n",
    "in one line": '{"apiVersion": "v1", "users": [{"name": "u", "user": {"token": "hunter22hunter22"}}]}',
    "base64 of it": base64.b64encode(b"apiVersion: v1 hunter22hunter22 " * 20).decode(),
    "a token": "hunter22hunter22hunter22",
    "a token of three parts": "eyJhbGciOiJSUzI1NiJ9.eyJodW50ZXIyMmh1bnRlcjIyaHVudGVyMjIifQ.hunter22hunter22",
    "one that is too long": f"/tmp/{'hunter22' * 1000}",
}


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("pasted", PASTED.values(), ids=PASTED)
@pytest.mark.parametrize("variable", ["KUBECONFIG", "VDSCHECK_CONFIG"])
def test_what_is_pasted_into_the_variable_of_a_file_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, refusal: Refusal, variable: str, pasted: str
) -> None:
    monkeypatch.setenv(variable, pasted)
    said = refusal("cluster")
    assert f"{variable}: {len(pasted):,} characters that look like no path" in said
    pieces = {pasted[at : at + 12] for at in range(len(pasted) - 11)}
    assert not any(piece in said for piece in pieces)


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("variable", ["KUBECONFIG", "VDSCHECK_CONFIG"])
@pytest.mark.parametrize("pasted", ["admin:Sup3rS3cret", "AKIAX:wJalrX/K7MDENG/bPx", "xoxb-1.a-b_c", "Passw0rd1234"])
def test_a_token_that_is_as_short_as_a_name_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, refusal: Refusal, variable: str, pasted: str
) -> None:
    monkeypatch.setenv(variable, pasted)
    assert f"{variable}: {len(pasted):,} characters that look like no path" in refusal("cluster")


def test_a_found_file_takes_the_place_of_another_one_aloud(checkout: Path, tmp_path: Path) -> None:
    """An empty file that a pull request brings must not open the gates of the user's own in silence."""
    own = tmp_path / "home/.config/vdscheck/config.toml"
    own.parent.mkdir(parents=True)
    own.write_text('min-score = 100\n[limits."sysctl.somaxconn"]\nbacklog = "2000000 connections"\n')
    environment = {"HOME": str(tmp_path / "home")}
    assert vdscheck(*FEW, cwd=checkout, env=environment).returncode == 1
    file = found(checkout, "")
    said = f"{file} was found first: {own} does not count"
    done = vdscheck(*FEW, "--json", cwd=checkout, env=environment)
    assert (done.returncode, done.stderr) == (0, f"vdscheck: {said}\n")
    assert said in json.loads(done.stdout)["warnings"]
    done = vdscheck(*FEW, "--json", "--fail-on", "fail", cwd=checkout, env=environment)
    (gate,) = json.loads(done.stdout)["gates"]
    assert gate["loosened_by"] == {"file": str(file), "what": [f"was found first: {own} does not count"]}
    assert str(own) in done.stderr
    # What a saved report says of limits is such a configuration too.
    file.unlink()
    report = checkout / "report.json"
    vdscheck(*FEW, "-o", f"json={report}", cwd=checkout, env=environment)
    found(checkout, "")
    again = vdscheck("judge", str(report), "--json", cwd=checkout, env={"HOME": "/"})
    assert f"what {report} says of limits and waivers does not count" in again.stderr
    named = vdscheck(*FEW, "--config", str(file), "--json", cwd=checkout, env=environment)
    assert named.stderr == ""


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("path", ["kubeconfig", "./k.yaml", "/home/runner/_temp/8c1f4e2a-0000-4a4a-9b9b-0123456789ab"])
def test_a_path_in_the_variable_of_a_file_is_named(
    monkeypatch: pytest.MonkeyPatch, refusal: Refusal, path: str
) -> None:
    for variable in ("KUBECONFIG", "VDSCHECK_CONFIG"):
        monkeypatch.setenv(variable, path)
        assert path.removeprefix("./") in refusal("cluster")
        monkeypatch.delenv(variable)
