"""What a plugin can bring beside checks and probes: a command, options, a key of [offer], a format, a kind of fix."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import environment, plugin, report, vdscheck
from tests.support.project import PROJECT
from vdscheck.render.formats import FORMATS

ACME = "tests.support.acme"
ALONE = ("--only", "acme.*")


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the plugin is installed: for PYTHONPATH."""
    return f"{plugin(tmp_path_factory.mktemp('acme'), '', value=ACME)}:{PROJECT}"


def called(acme: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return vdscheck(*words, env={"PYTHONPATH": acme} | more)


def summaries(found: dict[str, Any]) -> dict[str, str]:
    return {str(each["subject"]): each["summary"] for each in found["findings"] if each["id"] == "acme.enough"}


def found_by(acme: str, *words: str) -> dict[str, Any]:
    return report(*words, env={"PYTHONPATH": acme})


def test_its_option_names_what_is_measured(acme: str) -> None:
    assert summaries(found_by(acme, *ALONE)) == {"acme": "4 letters"}
    assert summaries(found_by(acme, *ALONE, "--word", "one", "--word=three")) == {
        "one": "3 letters",
        "three": "5 letters",
    }


def test_its_option_is_a_key_of_the_configuration_with_the_rules_of_its_matter(acme: str, tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text('word = ["one"]\nleast-letters = 4\n')
    found = found_by(acme, *ALONE, "--config", str(file))
    (finding,) = found["findings"]
    assert (finding["subject"], finding["verdict"], finding["expected"]["pass"]) == ("one", "fail", 4)
    here = vdscheck(*ALONE, cwd=tmp_path, env={"PYTHONPATH": acme})
    assert here.returncode == 2
    assert f"{file}:1: word says what is connected to, read or run" in here.stderr
    without = vdscheck(*ALONE, "--config", str(file))
    assert "word is not a known key" in without.stderr
    file.write_text("least-letters = 0\n")
    assert "least-letters: a whole number is wanted" in called(acme, *ALONE, "--config", str(file)).stderr
    file.write_text("least-letters = 4\n")
    loosened = vdscheck(*ALONE, "--min-score", "1", "--json", cwd=tmp_path, env={"PYTHONPATH": acme})
    assert "least-letters 4" in loosened.stderr


def test_its_option_sets_a_limit_that_the_report_keeps(acme: str, tmp_path: Path) -> None:
    found = found_by(acme, *ALONE, "--least-letters", "5")
    assert found["ruleset"]["overrides"]["limits"] == {"acme.enough": {"sold": "5 letters"}}
    assert found["findings"][0]["verdict"] == "fail"
    saved = tmp_path / "r.json"
    saved.write_text(json.dumps(found))
    assert found_by(acme, "judge", str(saved))["findings"] == found["findings"]


def test_its_command_measures_and_judges_alone(acme: str) -> None:
    found = found_by(acme, "count", "house", "--loud", "--duration", "0.5")
    assert summaries(found) == {"house": "5 letters!"}
    assert found["run"]["duration_s"] >= 0.5
    refused = called(acme, "count", "--loud", "--softly")
    assert (refused.returncode, refused.stderr) == (2, "vdscheck: --loud and --softly are too much\n")


def test_its_key_of_the_offer_is_a_limit(acme: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[offer]\nletters = 5\n")
    (finding,) = found_by(acme, *ALONE, "--config", str(file))["findings"]
    assert (finding["verdict"], finding["expected"]["source"][:5]) == ("fail", "offer")
    file.write_text('[offer]\nletters = "5 letters"\n')
    assert "letters: a whole number is wanted" in called(acme, *ALONE, "--config", str(file)).stderr
    file.write_text("[offer]\nlettres = 5\n")
    assert "did you mean letters?" in called(acme, *ALONE, "--config", str(file)).stderr


def test_its_format_has_exit_codes_of_its_own_on_standard_output(acme: str, tmp_path: Path) -> None:
    done = called(acme, *ALONE, "--format", "lines")
    assert (done.returncode, done.stdout) == (40, "ACME 80\nacme.enough pass\n")
    assert called(acme, *ALONE, "--format", "lines", "--least-letters", "9").returncode == 42
    gated = called(acme, *ALONE, "--format", "lines", "--least-letters", "9", "--fail-on", "fail")
    assert gated.returncode == 42
    file = tmp_path / "lines"
    assert called(acme, *ALONE, "-o", f"lines={file}").returncode == 0
    assert file.read_text() == "ACME 80\nacme.enough pass\n"
    assert "there is no format lnes: did you mean lines?" in called(acme, *ALONE, "--format", "lnes").stderr


def test_a_format_that_fails_costs_its_own_output_and_shows_no_text_of_its_error(acme: str, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    done = called(acme, *ALONE, "--format", "lines", "-o", f"json={file}", ACME_FAILS="1")
    assert (done.returncode, done.stdout) == (4, "")
    assert "format lines (" in done.stderr
    assert "acme/__init__.py" in done.stderr
    assert "failed: ValueError" in done.stderr
    assert "S3CR3T" not in done.stderr
    assert json.loads(file.read_text())["findings"]


def test_its_kind_of_fix_is_planned_beside_ours(acme: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for key in ("toy.size", "toy.speed"):
        (root / "toy").mkdir(parents=True, exist_ok=True)
        (root / "toy" / key).write_text("1\n")
    script = tmp_path / "plan.sh"
    words = ("--root", str(root), "--only", "toy.*", "--dry-run", "-o", f"sh={script}")
    found = found_by(acme, *words)
    assert {(each["kind"], each["key"], each["wanted"]) for each in found["fix"]["changes"]} == {
        ("toy", "toy.size", "7"),
        ("toy", "toy.speed", "9"),
    }
    assert "echo 7 > /toy/toy.size" in script.read_text()
    planned = called(acme, *words[:4], "--format", "plan-lines")
    assert (planned.returncode, planned.stdout) == (0, "toy.size=7 (True)\ntoy.speed=9 (True)\n")
    assert (root / "toy/toy.size").read_text() == "1\n"


def test_the_help_and_the_completion_name_what_it_brings(acme: str) -> None:
    assert "count     Count letters alone." in called(acme, "--help").stdout
    shown = called(acme, "run", "--help").stdout
    assert "--word WORD" in shown
    assert ", ".join([*FORMATS, "lines", "plan-lines"]) in " ".join(shown.split())
    assert "--softly" in called(acme, "count", "--help").stdout
    words = {"_VDSCHECK_COMPLETE": "complete_bash", "COMP_WORDS": "vdscheck cou", "COMP_CWORD": "1"}
    assert called(acme, **words).stdout.split() == ["count"]


# Names that are taken, and plugins that are broken

HEAD = "from vdscheck.plugin import *\n"
TAKEN = {
    "command": ('X = Instrument("disk", help="", checks=("disk.*",), probe="disk.latency")', "command disk"),
    "command of the program": ('X = Instrument("undo", help="", checks=("x",), probe="cpu.spin")', "command undo"),
    "option": ('X = Option("redis", help="", commands=("run",))', "option redis"),
    "option of the program": ('X = Option("profile", help="", commands=("run",))', "option profile"),
    "table": ('X = Option("limits", help="", takes="table", matter=Matter.JUDGING)', "option limits"),
    "short option": ('X = Option("quick-look", help="", short="-q", commands=("run",))', "option -q of run"),
    "own option": (
        'X = Instrument("acme", help="", checks=("x",), probe="cpu.spin", options=(Option("json", help=""),))',
        "option --json of acme",
    ),
    "offer": ('X = Bought("cpus", check="cpu.contract", unit="CPUs")', "[offer] cpus"),
    "format": ('X = Format("json", lambda report, terminal: b"")', "format json"),
    "kind": ("from vdscheck.fixes.sysctl import KernelSettings\nX = KernelSettings()", "sysctl"),
}


def assert_all_else_works(where: Path) -> None:
    for words in (("--help",), ("undo", "--help"), ("undo", "--list")):
        done = vdscheck(*words, plugins=where)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    assert vdscheck("--version", plugins=where).stderr == ""
    asked = environment(_VDSCHECK_COMPLETE="complete_bash", COMP_WORDS="vdscheck und", COMP_CWORD="1")
    assert vdscheck(plugins=where, env=asked | {"PYTHONPATH": str(where)}).stdout.split() == ["undo"]


@pytest.mark.parametrize("what", TAKEN)
def test_a_name_that_is_taken_is_2_with_both_files(what: str, tmp_path: Path) -> None:
    text, name = TAKEN[what]
    where = plugin(tmp_path, HEAD + text)
    done = vdscheck("--passive", "--json", plugins=where)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} is declared twice; first at " in done.stderr
    assert str(tmp_path / "acme.py") in done.stderr
    assert str(PROJECT / "vdscheck") in done.stderr
    if what in ("command", "short option", "format", "kind"):
        assert_all_else_works(where)


WRONG = {
    "no such command": ('X = Option("x", help="", commands=("dance",))', "there is no command dance"),
    "a command without options": ('X = Option("x", help="", commands=("list",))', "there is no command list that"),
    "no such option": ('X = Instrument("x", help="", checks=("x",), probe="cpu.spin", options=("y",))', "no option y"),
    "no such probe": ('X = Instrument("x", help="", checks=("x",), probe="acme.x")', "there is no probe acme.x"),
    "no such check": ('X = Bought("x", check="acme.x", unit="GB")', "no check acme.x has a limit `sold`"),
    "no limit": ('X = Bought("x", check="cpu.steal", unit="GB")', "no check cpu.steal has a limit `sold`"),
    "the help": ('X = Option("help", help="", commands=("run",))', "option --help is that of the help"),
    "an argument that is an option": (
        'X = Instrument("x", help="", checks=("x",), probe="cpu.spin", argument=Argument("json", "X", ""))',
        "json is the argument of x, and an option of it",
    ),
    "no name": ('X = Format("No Name", lambda report, terminal: b"")', "'No Name' is no name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_declared_wrongly_is_2_with_its_file(what: str, tmp_path: Path) -> None:
    text, said = WRONG[what]
    done = vdscheck("--passive", "--json", plugins=plugin(tmp_path, HEAD + text))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path / 'acme.py'}: " in done.stderr
    assert said in done.stderr


def test_a_broken_plugin_is_named_by_help_and_completion_and_hides_nothing_of_another(
    acme: str, tmp_path: Path
) -> None:
    where = f"{plugin(tmp_path, 'raise RuntimeError(1)', 'broken')}:{acme}"
    shown = called(where, "--help")
    assert shown.returncode == 0
    assert "count     Count letters alone." in shown.stdout
    assert "vdscheck: passed over: plugin broken (broken) cannot be loaded" in shown.stderr
    words = {"_VDSCHECK_COMPLETE": "complete_bash", "COMP_WORDS": "vdscheck ", "COMP_CWORD": "1"}
    completed = called(where, **words)
    assert {"run", "count"} <= set(completed.stdout.split())
    assert "passed over: plugin broken" in completed.stderr
    unknown = called(where, "dance")
    assert unknown.returncode == 2
    assert "passed over: plugin broken" in unknown.stderr
    assert "dance" in unknown.stderr
    assert called(where, "count").returncode == 2
    assert_all_else_works(tmp_path)


@pytest.mark.parametrize(
    ("words", "is_read"),
    [
        (("--version",), False),
        (("--config", "/no/such/file"), False),
        (("undo", "--root", "/no/such/folder"), False),
        (("judge", "--json", "--format", "text", "x"), False),
        (("--no-such-option",), True),
        (("run", "-x"), True),
        (("dance",), True),
        (("--help",), True),
        (("--format", "dance"), True),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_plugins_are_read_only_where_something_is_met_that_is_not_ours(
    words: tuple[str, ...], *, is_read: bool, tmp_path: Path
) -> None:
    noted = tmp_path / "noted"
    where = plugin(tmp_path, f"open({str(noted)!r}, 'w').close()")
    vdscheck(*words, plugins=where)
    assert noted.exists() is is_read


def test_an_option_may_be_called_as_python_calls_something_else(tmp_path: Path) -> None:
    text = 'X = Option("from", help="", takes="texts", commands=("run",), matter=Matter.MEASURING)'
    where = plugin(tmp_path, HEAD + text)
    found = report("--only", "sysctl.somaxconn", "--from", "here", plugins=where)
    assert found["run"]["command"][-3:] == ["--from", "here", "--json"]


def test_its_places_show_no_login_in_the_report(tmp_path: Path) -> None:
    text = 'X = Option("place", help="", takes="texts", commands=("run",), is_place=True, matter=Matter.REACH)'
    where = plugin(tmp_path, HEAD + text)
    found = report("--only", "sysctl.somaxconn", "--place", "me:S3cr3tPw99@h", plugins=where)
    assert found["run"]["command"][-2:] == ["***@h", "--json"]
