"""Every option and every key of a configuration with what nobody means: one line and code 2, or a run; never a bug.

Both come from the program's own tables, so that a new one is tried without being named.
"""

import datetime as dt
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile_values import json_values, texts
from tests.support.program import vdscheck
from vdscheck import __version__, codec
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.cli import app, config, known, request
from vdscheck.render.formats import LINE_LIMIT
from vdscheck.ruleset import ruleset

# Options


def options() -> Iterator[tuple[str, Any]]:
    """Each command with each of its options and arguments that takes a value, as typer makes them."""
    group: Any = typer.main.get_command(app.command_line(known.ours()))
    for name, command in group.commands.items():
        for each in command.params:
            if is_argument(each) or not each.is_flag:
                yield name, each


def is_argument(each: Any) -> bool:
    return bool(each.param_type_name == "argument")


OPTIONS = [(command, each) for command, each in options() if not is_argument(each)]
ARGUMENTS = [(command, each) for command, each in options() if is_argument(each)]
NUMBERS = [(command, each) for command, each in OPTIONS if hasattr(each.type, "min") and each.name != "min_nvme"]
"""There may be as many nodes as anybody likes."""
LONG = "x" * 130_000
"""As long as Linux lets one argument be (MAX_ARG_STRLEN is 128 KiB)."""


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    code = app.program([], words)
    out, said = capfd.readouterr()
    assert (code, out) == (2, ""), said
    assert said.startswith("vdscheck: ")
    assert len(said.splitlines()) == 1
    assert len(said) <= LINE_LIMIT + len("\n")
    return said


def given_to(command: str, each: Any, value: str) -> list[str]:
    if is_argument(each):
        return [command, value]
    return [command, max(each.opts, key=len), value]


@pytest.mark.parametrize(("command", "each"), [*OPTIONS, *ARGUMENTS], ids=lambda each: getattr(each, "name", each))
def test_an_empty_value_is_told_with_its_option(capfd: pytest.CaptureFixture[str], command: str, each: Any) -> None:
    words = given_to(command, each, "")
    assert refused(capfd, *words) == f"vdscheck: the word after {words[-2]} is empty: give one, or leave it out\n"
    if not is_argument(each):
        assert "the value is empty" in refused(capfd, command, f"{words[-2]}=")


@pytest.mark.parametrize(("command", "each"), NUMBERS, ids=lambda each: getattr(each, "name", each))
@pytest.mark.parametrize(
    "value", ["nan", "-nan", "inf", "-inf", "1e400", "-1", "x", "1" * 400, "1" * 5000, "0x10", "٣٠٠٠٠٠٠٠٠٠"]
)
def test_a_number_that_is_none_is_refused(
    capfd: pytest.CaptureFixture[str], command: str, each: Any, value: str
) -> None:
    refused(capfd, *given_to(command, each, value))


def test_there_are_numbers_to_try() -> None:
    assert {each.name for _, each in NUMBERS} >= {"duration", "interval", "rounds", "min_score", "tcp"}
    assert len(OPTIONS) > 50


HOSTILE = (
    "\x1b[2J\x9b31m",
    "\u202e",
    "a\nb",
    "\udcff",
    LONG,
    "../" * 2000,
    "%s%n{}",
    "--",
    "=x",
    "json=",
    "-",
    "~",
    "*[",
)


@pytest.mark.parametrize("name", sorted({each.name for _, each in OPTIONS if each.name and each.name != "tcp"}))
def test_hostile_texts_are_refused_or_run_in_one_line(capfd: pytest.CaptureFixture[str], name: str) -> None:
    """Each with a second option that is wrong for sure, so that what is not refused is not measured either."""
    command, each = next((command, each) for command, each in OPTIONS if each.name == name)
    for value in HOSTILE:
        said = refused(capfd, *given_to(command, each, value), *NEVER[command])
        assert not any(character in said for character in "\x1b\x9b\u202e")


NEVER: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("run", "disk", "jitter", "redis", "path", "cluster"), ("--config", "/dev/null/x")),
    "judge": ("/dev/null/x",),
    "undo": ("--root", "/dev/null/x"),
}


@pytest.mark.parametrize(
    "words", [("run", "-o", "=x"), ("run", "-o", "json="), ("run", "-o", "x"), ("run", "-o", "json")]
)
def test_an_output_without_a_format_or_a_file_is_refused(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    refused(capfd, *words)


@pytest.mark.parametrize("words", [(LONG,), (f"--{LONG}",), ("explain", LONG), ("run", LONG), ("run", "--only", LONG)])
def test_a_long_argument_is_not_repeated_in_full(capfd: pytest.CaptureFixture[str], words: Sequence[str]) -> None:
    refused(capfd, *words)


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    for words in (("--root", "."), ("--disk", "x", "--passive", "-o", "json=x.json"), ("--config", "x.toml")):
        done = vdscheck("run", *words, cwd=gone, preexec_fn=gone.rmdir if gone.exists() else None)
        gone.mkdir(exist_ok=True)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "a bug" not in done.stderr


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell", "pwsh", "nope", "", "complete"])
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"COMP_WORDS": "", "COMP_CWORD": "", "_TYPER_COMPLETE_ARGS": ""},
        {"COMP_WORDS": "vdscheck run --p", "COMP_CWORD": "x"},
        {"COMP_WORDS": 'vdscheck "run', "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": 'vdscheck "run'},
        {"COMP_WORDS": "vdscheck \\", "COMP_CWORD": "9" * 400, "_TYPER_COMPLETE_ARGS": "vdscheck \\"},
        {"COMP_WORDS": "vdscheck explain \x1b", "COMP_CWORD": "-7", "_TYPER_COMPLETE_ARGS": "vdscheck explain \x1b"},
        {"COMP_CWORD": "²", "COMP_WORDS": "vdscheck -x"},
    ],
    ids=["none", "empty", "no number", "open quote", "backslash", "negative", "superscript"],
)
def test_completion_without_what_a_shell_sets_is_no_bug(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shell: str, variables: Mapping[str, str]
) -> None:
    for name in ("COMP_WORDS", "COMP_CWORD", "_TYPER_COMPLETE_ARGS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"_VDSCHECK_COMPLETE": f"complete_{shell}", **variables}.items():
        monkeypatch.setenv(name, value)
    code = app.program([], [])
    _, said = capfd.readouterr()
    assert code in (0, 2)
    assert len(said.splitlines()) == (1 if code else 0)
    assert "a bug" not in said


# Python without docstrings


def test_a_python_that_takes_away_docstrings_is_told() -> None:
    done = vdscheck("run", "--passive", env={"PYTHONOPTIMIZE": "2"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdscheck: python -OO (PYTHONOPTIMIZE=2) takes away the docstrings that checks")
    assert done.stderr.endswith(": run vdscheck without it\n")
    assert len(done.stderr.splitlines()) == 1
    assert vdscheck("--version", env={"PYTHONOPTIMIZE": "2"}).returncode == 0


def test_a_python_without_assertions_runs() -> None:
    assert vdscheck("run", "--passive", "--only", "sysctl.*", env={"PYTHONOPTIMIZE": "1"}).returncode == 0


# Configurations


def toml(value: Any) -> str:
    """A value of TOML in one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return (
            "nan"
            if math.isnan(value)
            else "inf"
            if value == math.inf
            else "-inf"
            if value == -math.inf
            else repr(value)
        )
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {toml(each)}' for key, each in value.items())}}}"
    return json.dumps(value) if isinstance(value, str) else "{}" if value is None else str(value)


DATES = (dt.date(2027, 1, 31), dt.datetime(2027, 1, 31, tzinfo=dt.UTC), dt.datetime(2027, 1, 31), dt.time(1, 2))  # noqa: DTZ001
ODD = (
    *(math.nan, math.inf, -math.inf, 1e308, 10**400, -(10**400), 10**19, 0, -1, True, "", " ", "x", [], {}, [[]], [{}]),
    *({"a": {"b": [1]}}, ["x"] * 2000, "x" * 5000, {"x": 10**400}, [10**400], [math.nan], ["\x1b"], "\0"),
    *({"check": "*"}, [{"check": 5}], {"sysctl.somaxconn": {"backlog": 10**400}}, {"cpus": 10**400}, *DATES),
    *(
        {"sysctl.somaxconn": {"backlog": {"pass": math.nan}}},
        {"sysctl.somaxconn": "high"},
        {"cpus": -1},
        {"memory": ""},
    ),
    *({"memory": "1e400 GiB"}, {"memory": "-1 GiB"}, {"bandwidth": "9" * 400 + " Mbit/s"}),
    *([{"check": "sysctl.somaxconn", "reason": "r", "expires": each}] for each in (*DATES, 5, "x", "9999-99-99", None)),
)


@cache
def catalogue() -> Catalogue:
    return load()


def prepared(file: Path) -> None:
    """All that is made of a configuration before anything is measured."""
    read = config.read(str(file))
    found = request.Settings(request.Asked(), read.file, read.values, target="host")
    profiles = list(found.first("profile", ("web",)))
    ruleset.build(catalogue(), profiles, found.overrides, __version__)
    assert found.terminal is not None
    assert found.effort
    for entry in catalogue().probes.values():
        if entry.subject is not None:
            entry.subject.chosen(found.subjects)


def used_or_refused(folder: Path, written: Mapping[str, Any]) -> None:
    file = folder / "c.toml"
    file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in written.items()))
    said = ""
    try:
        prepared(file)
    except request.USAGE_ERRORS as error:
        said = str(error)
    assert len(said.splitlines()) <= 1, said


@pytest.mark.parametrize("name", ["\r", "a\nb", "\u2028", "\x85" * 300, "\ud800"])
@pytest.mark.parametrize("value", [1 << 64, 10.0**300])
def test_a_name_that_breaks_lines_is_refused_in_one(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(codec.CodecError) as refused:
        codec.refuse_absurd({"context": {name: value}})
    assert len(str(refused.value).splitlines()) == 1
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["\r", "a\nb", "\u2028"])
def test_a_configuration_with_such_names_and_values_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    named: list[dict[str, Any]] = [{json.dumps(name): []}, {"only": [name]}, {"severity": {name: "low"}}]
    for written in (*named, {"profile": [name]}):
        used_or_refused(tmp_path, written)


@pytest.mark.parametrize("key", config.keys())
def test_every_key_with_every_odd_value_is_used_or_refused(tmp_path: Path, key: str) -> None:
    for value in ODD:
        used_or_refused(tmp_path, {key: value})


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(sorted(config.keys())), json_values() | st.sampled_from(ODD), max_size=3))
def test_any_configuration_is_used_or_refused(tmp_path: Path, written: Mapping[str, Any]) -> None:
    used_or_refused(tmp_path, written)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from(sorted(config.keys())) | texts, json_values() | st.sampled_from(ODD), max_size=4)
)
def test_many_configurations_are_used_or_refused(tmp_path: Path, written: Mapping[str, Any]) -> None:
    with suppress(UnicodeEncodeError):
        used_or_refused(tmp_path, {json.dumps(key): value for key, value in written.items()})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min-nvme = " + "9" * 400, "min-nvme is a number beyond 64 bits"),
        ("min-nvme = " + "9" * 5000, "not TOML"),
        ("[offer]\ncpus = " + "9" * 400, "offer.cpus is a number beyond 64 bits"),
        ('[limits."sysctl.somaxconn"]\nbacklog = ' + "9" * 400, "is a number beyond 64 bits"),
        ("[plugin.x]\na = " + "[" * 200 + "]" * 200, "nested more than 100 deep"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("x" * (10 << 20), "larger than 1,048,576 bytes"),
        ('disk = ""', "disk: an empty text: leave it out"),
        ("waivers = 5", "waivers are written as [[waivers]] tables"),
        ("waivers = {a = 1}", "waivers are written as [[waivers]] tables"),
    ],
    ids=range(10),
)
def test_a_configuration_beyond_all_measure_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(config.ConfigError) as why:
        config.read(str(file))
    assert said in str(why.value)
    assert len(str(why.value).splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_not_installed_through_a_home_of_somebody_else(tmp_path: Path, shell: str) -> None:
    theirs, victim = tmp_path / "theirs", tmp_path / "victim"
    theirs.mkdir()
    victim.write_text("root's\n")
    for name in (".bashrc", ".zshrc", ".bash_completions/vdscheck.sh", ".config/fish/completions/vdscheck.fish"):
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / name).symlink_to(victim)
    os.chown(theirs, 64001, 64001)
    here = {"HOME": str(theirs), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = vdscheck("--install-completion", shell, env=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert "run it as the user whose HOME it is" in done.stderr
    assert victim.read_text() == "root's\n"
    mine = tmp_path / "mine"
    mine.mkdir()
    assert vdscheck("--install-completion", shell, env=here | {"HOME": str(mine)}).returncode == 0
    assert list(mine.iterdir())
