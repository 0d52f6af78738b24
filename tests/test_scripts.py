"""The two commands on a machine that lacks what they need: one line that names all of it, and nothing on stdout."""

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
