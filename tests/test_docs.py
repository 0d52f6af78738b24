"""What is generated from the code is current, and the README tells the truth."""

import json
import os
import re
from typing import get_args, get_type_hints

import pytest

from tests.support.program import vdscheck
from tests.support.project import PROJECT
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.cli import known, reference
from vdscheck.cli.config import keys
from vdscheck.cli.request import ExitCode
from vdscheck.model.absence import Reason
from vdscheck.model.fixes import FixRecord
from vdscheck.model.judgement import Severity, Verdict
from vdscheck.plugin import Matter
from vdscheck.render.formats import FORMATS

CONTRACT = (PROJECT / "docs/contract.md").read_text("utf-8")
README = (PROJECT / "README.md").read_text("utf-8")
REWRITE = bool(os.environ.get("VDSCHECK_REWRITE_GOLDEN"))
"""Set it to write the generated files anew."""


@pytest.mark.parametrize(
    ("file", "make"),
    [
        ("docs/checks.md", reference.checks_page),
        ("docs/options.md", reference.options_page),
        ("docs/report-v1.schema.json", reference.schema),
    ],
    ids=["checks", "options", "schema"],
)
def test_a_generated_page_is_current(file: str, make: object) -> None:
    made = make()  # type: ignore[operator]
    path = PROJECT / file
    if REWRITE:
        path.write_bytes(made)
    assert path.read_bytes() == made, f"write it anew: VDSCHECK_REWRITE_GOLDEN=1 pytest {__file__}"


def test_every_command_of_the_program_is_the_contracts() -> None:
    shown = vdscheck("--help").stdout
    for command in known.ours().commands:
        assert re.search(rf"^\s+{command}\s", shown, re.MULTILINE)


@pytest.mark.parametrize("command", known.ours().commands)
def test_every_option_of_a_command_stands_in_its_help(command: str) -> None:
    shown = vdscheck(command, "--help").stdout
    for option in known.ours().options_of(command):
        for flag in option.flags:
            assert flag in shown


def test_the_readme_says_which_options_are_no_keys_of_a_configuration_and_which_the_current_folder_may_not_bring() -> (
    None
):
    text = " ".join(README.split())
    (left_out,) = re.findall(r"but for those that are about one call \((.*?), and how", text)
    options = {each.name: each for name in ("run", "cluster") for each in known.ours().options_of(name)}
    of_one_call = {each.name for each in options.values() if each.matter is None}
    flags = {flag: each.name for each in options.values() for flag in each.flags}
    assert {flags[each] for each in re.findall(r"`(-[^`]+)`", left_out)} == of_one_call
    (not_here,) = re.findall(r"may not name what is connected to, read or run \((.*?)\)", text)
    reach = {name for name, key in keys().items() if key.matter is Matter.REACH}
    assert {each.strip("[]") for each in re.findall(r"`([^`]+)`", not_here)} == reach


def test_the_readme_opens_with_the_two_commands_and_names_what_exists(catalogue: Catalogue) -> None:
    assert README.index("./scripts/run") < README.index("./scripts/test") < README.index("## How to read it")
    for name in catalogue.profiles:
        assert name == "base" or f"`{name}`" in README
    for file in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (PROJECT / file).exists(), file
    for verdict in (Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN):
        assert f"`{verdict.value.upper()}`" in README
    for severity in (Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW):
        assert f"{severity.value} {severity.weight}" in README.replace("\n", " ")


def of_contract(heading: str) -> str:
    """A section of the contract."""
    return CONTRACT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_contract_names_the_commands_and_options_that_there_are() -> None:
    section = of_contract("Commands")
    named = re.findall(r"`vdscheck ([a-z]+)", section.partition("Options of")[0])
    assert set(named) == set(known.ours().commands)
    shown = vdscheck("run", "--help").stdout
    for option in re.findall(r"`(--?[a-z][a-z-]*)", section.partition("Options of")[2]):
        assert re.search(rf"{option}\b", shown), option
    assert set(re.findall(r"`([a-z]+)`", section.rpartition("The formats are")[2])) == set(FORMATS)


def test_the_contract_has_the_exit_codes_verdicts_reasons_and_outcomes_of_the_code() -> None:
    codes = re.findall(r"^\| ([0-9, ]+) \|", of_contract("Exit codes"), re.MULTILINE)
    assert codes == [*map(str, sorted(ExitCode)), "129, 130, 143"]
    rows = re.findall(r"^\| `([a-z-]+)` \|", of_contract("Verdicts"), re.MULTILINE)
    assert set(rows) == {verdict.value for verdict in Verdict}
    (unknown,) = re.findall(r"carries a reason: (.*?) \|", of_contract("Verdicts"))
    assert set(re.findall(r"`([a-z-]+)`", unknown)) == {reason.value for reason in Reason}
    (outcomes,) = re.findall(r"fix\{id,outcome: ([a-z|-]+)", CONTRACT)
    assert set(outcomes.split("|")) == set(get_args(get_type_hints(FixRecord)["outcome"]))


def test_the_contract_has_the_fields_of_the_schema() -> None:
    definitions = json.loads(reference.schema())["$defs"]
    shown = of_contract("JSON documents, `schema_version` 1")
    for name in (
        "Report",
        "Tool",
        "RulesetNote",
        "Run",
        "TargetNote",
        "Score",
        "Gate",
        "Finding",
        "FixRecord",
        "FixChange",
    ):
        for field in definitions[name]["properties"]:
            assert re.search(rf"\b{field}\b", shown), f"{name}.{field}"


def test_the_contract_says_which_keys_the_current_folder_may_not_bring() -> None:
    reach = {name for name, key in keys().items() if key.matter is Matter.REACH}
    (listed,) = re.findall(
        r"connected to, read or run: (.*?)\. The run", of_contract("Configuration").replace("\n", " ")
    )
    assert {each.strip("[]") for each in re.findall(r"`([^`]+)`", listed)} == reach


def test_nothing_of_the_machine_that_built_it_is_in_the_project() -> None:
    import subprocess

    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=PROJECT)
    private = re.compile("/" + "work/|(?<!\\w)/" + "root/\\.|pypi" + "\\.org|deb\\.debian" + "\\.org")
    for name in filter(None, listed.stdout.split("\0")):
        text = (PROJECT / name).read_bytes().decode("utf-8", "replace")
        assert not private.search(text), name
