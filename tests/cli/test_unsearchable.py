"""A file that cannot even be looked at is not one that is not there: it may hold gates, or name another cluster."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.program import PROGRAM, environment
from tests.support.project import PROJECT

pytestmark = pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
ORDINARY = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
"""What makes root a user who may not enter what its mode forbids."""
NAME_ONE = "name one with --kubeconfig or KUBECONFIG"
RUN = ("--passive", "-q", "--only", "sysctl.somaxconn")


def called(script: str, *words: str, folder: Path, **variables: str) -> tuple[int, list[str]]:
    """The exit code and the lines of standard error of a call behind a script of shell."""
    call = shlex.join([*ORDINARY, *PROGRAM, *words])
    env = environment(PYTHONPATH=str(PROJECT), HOME=str(folder / "home")) | variables
    done = subprocess.run(
        ["sh", "-c", f"{script}\nexec {call}"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path


def test_a_configuration_of_the_users_own_behind_a_closed_folder(folder: Path) -> None:
    code, said = called("mkdir -p home/.config; chmod 600 home/.config", *RUN, folder=folder)
    place = folder / "home/.config/vdscheck/config.toml"
    how = "cannot be looked at: permission denied; to run without it: --no-config"
    assert (code, said) == (2, [f"vdscheck: configuration {place} {how}"])
    assert called("", *RUN, "--no-config", folder=folder) == (0, [])


def test_a_configuration_here_below_a_closed_folder(folder: Path) -> None:
    """As in the current folder of somebody else's shell: `cat ./vdscheck.toml` works."""
    script = "mkdir -p a/b; cd a/b; echo 'fail-on = [\"warn\"]' > vdscheck.toml; chmod 600 .."
    code, said = called(script, *RUN, folder=folder)
    assert (code, len(said)) == (2, 1)
    assert "permission denied" in said[0].lower()
    assert "--no-config" in said[0]


def test_a_current_folder_that_may_not_be_entered_holds_nothing_for_the_caller(folder: Path) -> None:
    assert called("mkdir c; cd c; chmod 600 .", *RUN, folder=folder) == (0, [])


def test_a_home_that_may_not_be_entered_is_none_of_the_callers(folder: Path) -> None:
    """As in a container that runs as another user than the one of its HOME."""
    assert called("chmod 600 home", *RUN, folder=folder) == (0, [])
    code, said = called("chmod 600 home", "cluster", folder=folder)
    assert (code, said) == (2, [f"vdscheck: no kubeconfig at {folder}/home/.kube/config: {NAME_ONE}"])


def test_a_kubeconfig_that_cannot_be_looked_at_is_not_passed_over(folder: Path) -> None:
    script = "mkdir closed; echo '{}' > open; chmod 600 closed"
    code, said = called(script, "cluster", folder=folder, KUBECONFIG=f"{folder}/closed/a:{folder}/open")
    assert (code, len(said)) == (2, 1)
    assert f"kubeconfig {folder}/closed/a cannot be looked at: PermissionError: permission denied" in said[0]


@pytest.mark.parametrize("name", ["~ops/.kube/config", "~", "~/config", "~ops"])
def test_a_tilde_of_whatever_user_leads_nowhere(folder: Path, name: str) -> None:
    why = f"{name}: nothing has put a home folder in the place of ~: write the whole path"
    file = folder / name
    script = f"mkdir -p {shlex.quote(str(file.parent))}; echo '{{}}' > {shlex.quote(str(file))}"
    assert called(script, "cluster", f"--kubeconfig={name}", folder=folder) == (2, [f"vdscheck: {why}"])
    config = [f"vdscheck: configuration {why}"]
    assert called(script, *RUN, f"--config={name}", folder=folder) == (2, config)
    code, said = called(script, *RUN, folder=folder, VDSCHECK_CONFIG=name)
    assert (code, len(said)) == (2, 1)
    assert "nothing has put a home folder" in said[0]
