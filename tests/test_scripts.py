"""The two commands: what they need is named in one line, and `test` runs the gates and the tests that are named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import PROJECT

WITHOUT_VENV = """#!/bin/sh
case "$*" in *ensurepip*) exit 1 ;; esac
exec {python} "$@"
"""


def as_a_user(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a fresh clone where no Debian package is installed and the user is not root."""
    project = folder / "clone"
    shutil.copytree(PROJECT / "scripts", project / "scripts")
    shutil.copy(PROJECT / "pyproject.toml", project)
    programs = folder / "bin"
    programs.mkdir()
    fakes = {
        "id": "#!/bin/sh\necho 1000\n",
        "dpkg-query": "#!/bin/sh\nexit 1\n",
        "python3": WITHOUT_VENV.format(python=sys.executable),
    }
    for name, text in fakes.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False)


def wanted(script: str) -> set[str]:
    """The packages that a script asks for, one a line."""
    text = (PROJECT / script).read_text()
    _, _, listed = text.partition("want_packages $(venv_packages) \\\n")
    return {"python3-venv", *listed.partition("\nmake_venv")[0].replace("\\", " ").split()}


def test_the_tests_say_what_they_need() -> None:
    assert wanted("scripts/run") == {"python3-venv"}
    assert {"fio", "qemu-system-x86", "runc", "strace"} < wanted("scripts/test")


@pytest.mark.parametrize("script", ["run", "test"])
def test_a_script_that_is_called_through_a_link_reads_nothing_beside_the_link(tmp_path: Path, script: str) -> None:
    planted = tmp_path / "scripts/prepare.sh"
    planted.parent.mkdir()
    planted.write_text("echo planted; exit 0\n")
    link = tmp_path / "links" / script
    link.parent.mkdir()
    link.symlink_to(tmp_path / "clone/scripts" / script)
    done = as_a_user(tmp_path, str(link))
    assert (done.returncode, done.stdout) == (2, "")
    assert "apt-get install " in done.stderr


@pytest.mark.parametrize("call", ["sh < $SCRIPT", 'sh -c "$(cat $SCRIPT)"', "cat $SCRIPT | sh -s", ". $SCRIPT"])
@pytest.mark.parametrize("script", ["run", "test"])
def test_a_script_that_cannot_know_where_it_is_reads_nothing_of_the_current_folder(
    tmp_path: Path, script: str, call: str
) -> None:
    here = tmp_path / "theirs/here"
    here.mkdir(parents=True)
    for folder in (here, here.parent, tmp_path):
        (folder / "scripts").mkdir()
        (folder / "scripts/prepare.sh").write_text("echo planted; exit 0\n")
    done = subprocess.run(
        ["sh", "-c", call],
        cwd=here,
        env={"PATH": os.environ["PATH"], "SCRIPT": str(PROJECT / "scripts" / script)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"start scripts/{script} by its path\n")


@pytest.mark.parametrize("script", ["scripts/run", "scripts/test"])
def test_all_that_is_missing_is_named_in_one_line(tmp_path: Path, script: str) -> None:
    done = as_a_user(tmp_path, f"./{script}")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    before, _, named = line.partition("apt-get install ")
    assert before == "needed and not installed; as root: "
    assert set(named.split()) == wanted(script)
    assert not (tmp_path / "clone/.venv").exists()


def in_a_clone(folder: Path, *words: str, cwd: str = ".") -> subprocess.CompletedProcess[str]:
    """`scripts/test` of a clone in which all is there: each program of a gate says its name and its words."""
    project = folder / "clone"
    shutil.copytree(PROJECT / "scripts", project / "scripts")
    (project / "scripts/prepare.sh").write_text("want_packages() { :; }; venv_packages() { :; }; make_venv() { :; }\n")
    (project / "tests/fix").mkdir(parents=True)
    (project / "tests/fix/test_plan.py").touch()
    programs = project / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports", "python", "coverage", "go"):
        (programs / name).write_text('#!/bin/sh\nfor word in "${0##*/}" "$@"; do printf "%s|" "$word"; done; echo\n')
        (programs / name).chmod(0o755)
    command = [str(project / "scripts/test"), *words]
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=project / cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("cwd", "path", "marks"),
    [
        (".", "tests/fix", "not slow"),
        (".", "tests/fix/test_plan.py", "not slow"),
        ("tests", "fix/test_plan.py", "not slow"),
        ("tests/fix", "test_plan.py::test_one[a b-2]", "slow or not slow"),
    ],
)
def test_the_tests_that_are_named_run_after_the_gates_wherever_it_is_called(
    tmp_path: Path, cwd: str, path: str, marks: str
) -> None:
    done = in_a_clone(tmp_path, path, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    called = [line for line in done.stdout.splitlines() if line.endswith("|")]
    assert called[:5] == [
        "ruff|format|--check|.|",
        "ruff|check|.|",
        "mypy|",
        "mypy|tests|benchmarks|",
        "lint-imports|--no-cache|",
    ]
    file = os.path.normpath(tmp_path / "clone" / cwd / path)
    assert called[-1] == f"python|-m|pytest|-n|2|--dist|loadgroup|-m|{marks}|{file}|"
    assert done.stdout.endswith("it says nothing of the wheel and of coverage\n")


def test_without_a_name_the_whole_tier_runs_with_its_coverage(tmp_path: Path) -> None:
    called = [line for line in in_a_clone(tmp_path).stdout.splitlines() if line.endswith("|")]
    assert "python|-m|pytest|-n|2|--dist|loadgroup|--cov|--cov-report=|" in called
    assert called[-1].startswith("coverage|report|--fail-under=")


@pytest.mark.parametrize(
    "words",
    [("-k", "x"), ("tests/fix", "-x"), ("",), ("--all", "a", "b"), ("--all", "-x"), ("tests/fix", "--all")],
    ids=" ".join,
)
def test_what_it_does_not_know_is_refused_with_its_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = in_a_clone(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "[PATH... | --all [PART]]" in done.stderr


def test_a_path_that_is_not_there_is_named_before_anything_runs(tmp_path: Path) -> None:
    done = in_a_clone(tmp_path, "tests/fix", "tests/none.py::test_x")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "there is no tests/none.py\n")
