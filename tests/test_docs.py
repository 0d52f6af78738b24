"""What is generated from the code is current, and the README tells the truth."""

import os
import re
from pathlib import Path

import pytest

from tests.program import vdscheck
from vdscheck import pages
from vdscheck.catalogue import Catalogue
from vdscheck.cli import COMMANDS
from vdscheck.model import Severity, Verdict

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text("utf-8")
OPTIONS = (
    *("--profile", "--only", "--skip", "--config", "--format", "--json", "--output", "--min-score"),
    *("--min-coverage", "--fail-on", "--passive", "--quick", "--thorough", "--offline", "--root"),
    *("--path", "--quiet", "--verbose", "--no-color", "--fix", "--dry-run", "--yes"),
)
REWRITE = bool(os.environ.get("VDSCHECK_REWRITE_GOLDEN"))
"""Set it to write the generated files anew."""


@pytest.mark.parametrize(
    ("file", "make"),
    [("docs/checks.md", pages.checks_page), ("docs/report-v1.schema.json", pages.schema)],
    ids=["checks", "schema"],
)
def test_a_generated_page_is_current(file: str, make: object) -> None:
    made = make()  # type: ignore[operator]
    path = PROJECT / file
    if REWRITE:
        path.write_bytes(made)
    assert path.read_bytes() == made, f"write it anew: VDSCHECK_REWRITE_GOLDEN=1 pytest {__file__}"


def test_every_command_of_the_program_is_the_contracts() -> None:
    shown = vdscheck("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\s", shown, re.MULTILINE)


def test_every_option_of_run_stands_in_its_help() -> None:
    shown = vdscheck("run", "--help").stdout
    for option in OPTIONS:
        assert option in shown


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


def test_nothing_of_the_machine_that_built_it_is_in_the_project() -> None:
    import subprocess

    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=PROJECT)
    private = re.compile("/" + "work/|/" + "root/\\.|pypi" + "\\.org|deb\\.debian" + "\\.org")
    for name in filter(None, listed.stdout.split("\0")):
        text = (PROJECT / name).read_bytes().decode("utf-8", "replace")
        assert not private.search(text), name
