"""What installs and shows completions starts programs of others: they get nothing that is for this one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import PROGRAM, environment

SECRET = "S3cretPassw0rd"
NO_PROC = """
import sys, shellingham.posix.proc as proc
def missing(*_): raise OSError
proc.iter_process_parents = missing
from vdscheck.cli.app import program
sys.exit(program((), sys.argv[1:]))
"""


def planted(folder: Path, names: tuple[str, ...]) -> Path:
    """A folder of programs that note their names and environments; the file that they note it in."""
    (folder / "bin").mkdir()
    noted = folder / "noted"
    for name in names:
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\necho "ran ${{0##*/}}" >>{noted}\n/usr/bin/env >>{noted}\n')
        program.chmod(0o755)
    return noted


def called(folder: Path, *words: str, **more: str) -> None:
    here = {"HOME": str(folder), "PATH": f"{folder}/bin:/usr/bin:/bin", "VDSCHECK_REDIS_URL": f"redis://:{SECRET}@h"}
    variables = environment(**here, VDSCHECK_ANYTHING=SECRET, **more)
    subprocess.run(words, env=variables, cwd=folder, check=False, capture_output=True, timeout=60)


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_where_there_is_no_proc_ps_gets_nothing_of_ours(tmp_path: Path, option: str) -> None:
    noted = planted(tmp_path, ("ps",))
    called(tmp_path, sys.executable, "-c", NO_PROC, option)
    assert "ran ps" in noted.read_text()
    assert "PATH=" in noted.read_text()
    assert SECRET not in noted.read_text()


@pytest.mark.parametrize("shell", ["powershell", "pwsh"])
@pytest.mark.parametrize("how", ["named", "found"])
def test_the_shell_that_is_asked_for_its_profile_gets_nothing_of_ours(tmp_path: Path, shell: str, how: str) -> None:
    noted = planted(tmp_path, (shell,))
    if how == "named":
        detection = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        called(tmp_path, *PROGRAM, "--install-completion", shell, **detection)
    else:
        shutil.copy("/bin/sh", tmp_path / shell)
        called(tmp_path, str(tmp_path / shell), "-c", f"{' '.join(PROGRAM)} --install-completion; :")
    assert f"ran {shell}" in noted.read_text()
    assert SECRET not in noted.read_text()


@pytest.mark.parametrize("instruction", ["source_bash", "complete_bash"])
def test_a_shell_that_asks_for_completions_starts_nothing_with_what_is_ours(tmp_path: Path, instruction: str) -> None:
    noted = planted(tmp_path, ("bash",))
    called(tmp_path, *PROGRAM, _VDSCHECK_COMPLETE=instruction, COMP_WORDS="vdscheck ", COMP_CWORD="1")
    assert SECRET not in (noted.read_text() if noted.exists() else "")


@pytest.mark.parametrize("words", [("list",), ("run", "--passive", "--only", "no.such"), ("--version",)])
def test_whoever_asks_for_no_completions_keeps_the_variables(words: tuple[str, ...], tmp_path: Path) -> None:
    start = "import os, sys; from vdscheck.cli.app import program; program((), sys.argv[1:])"
    show = f"{start}; print(os.environ['VDSCHECK_X'])"
    variables = environment(VDSCHECK_X="seven")
    done = subprocess.run(
        [sys.executable, "-c", show, *words], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1] == "seven"
