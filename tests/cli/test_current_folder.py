"""Nothing of the folder in which the program is started runs: whoever owns that folder would run as the caller."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import PROGRAM, environment, plugin
from tests.support.project import PROJECT
from vdscheck import __main__

PREPARING = """#!/bin/sh
# A Python that makes an environment without pip, which would take ten seconds, and finds modules as it is told to.
case "$*" in
  *"-m venv "*)
    {python} "$@" --without-pip || exit
    for made; do :; done
    rm "$made/bin/python"
    cp "$0" "$made/bin/python"
    printf '#!/bin/sh\\nexec {python} -m vdscheck "$@"\\n' > "$made/bin/vdscheck"
    chmod +x "$made/bin/vdscheck"
    exit ;;
  *"-m pip "*)
    case $1 in -I) exec {python} -I -m pip --version ;; *) exec {python} -m pip --version ;; esac ;;
esac
exec {python} "$@"
"""


def trapped(folder: Path) -> Path:
    """A folder with a module of every name that an import could look for, and a program of every name in scripts."""
    folder.mkdir()
    log = folder.parent / "ran"
    code = f"open({str(log)!r}, 'a').write(__name__ + '\\n')\n"
    libraries = {path.stem for path in Path(os.__file__).parent.glob("*.py")}
    installed = {each.name.partition(".")[0] for each in Path(pytest.__file__).parents[1].iterdir()}
    names = libraries | installed | set(sys.stdlib_module_names) | {"vdscheck_checks", "sitecustomize", "usercustomize"}
    for name in sorted(name for name in names if name.isidentifier() and name != "vdscheck"):
        (folder / f"{name}.py").write_text(code)
    plugin(folder, code, "evil")
    words = re.findall(r"[a-z][a-z0-9-]+", "".join((PROJECT / "scripts" / each).read_text() for each in SCRIPTS))
    for word in {*words, "python3", "sh", "env"}:
        program = folder / word
        if not program.exists():
            program.write_text(f"#!/bin/sh\necho {word} >> {log}\nexit 1\n")
            program.chmod(0o755)
    return folder


SCRIPTS = ("run", "test", "prepare.sh")


def ran(folder: Path) -> list[str]:
    """What of a trapped folder was executed."""
    log = folder.parent / "ran"
    return sorted(set(log.read_text().split())) if log.exists() else []


def test_a_trap_that_is_stepped_on_is_seen(tmp_path: Path) -> None:
    folder = trapped(tmp_path / "hostile")
    subprocess.run([sys.executable, "-c", "import typer"], cwd=folder, check=False, capture_output=True)
    subprocess.run(["sh", "-c", "PATH=.:$PATH; sha256sum"], cwd=folder, check=False, capture_output=True)
    assert {"typer", "sha256sum"} <= set(ran(folder))


@pytest.mark.parametrize(
    "variables",
    [{}, {"PYTHONPATH": "."}, {"PYTHONPATH": "/nothing:"}, {"PYTHONPATH": "../hostile"}],
    ids=["alone", "dot", "colon", "relative"],
)
def test_a_module_of_the_current_folder_is_not_imported(tmp_path: Path, variables: dict[str, str]) -> None:
    folder = trapped(tmp_path / "hostile")
    if variables:  # what the interpreter looks for there before any line of ours is the caller's word
        for module in folder.glob("*.py"):
            if module.stem not in {"evil", "click", "msgspec", "rich", "signal", "typer", "tomllib", "vdscheck_checks"}:
                module.unlink()
    # What counts the coverage is imported while the interpreter starts, and takes its own modules from there.
    variables = {name: value for name, value in environment(**variables).items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [*PROGRAM, "list"], cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran(folder) == []
    assert (done.returncode, done.stderr) == (0, "")
    assert "evil" not in done.stdout


def test_an_absolute_folder_of_plugins_is_the_caller_s_word(tmp_path: Path) -> None:
    plugin(tmp_path, f"open('{tmp_path}/ran', 'w')", "mine")
    variables = environment(PYTHONPATH=f":{tmp_path}:")
    subprocess.run([*PROGRAM, "list"], cwd=tmp_path, env=variables, capture_output=True, timeout=60, check=False)
    assert (tmp_path / "ran").exists()


GONE = "the current folder is gone; name the path from / on"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("list", 0, ""),
        ("disk .", 2, f"vdscheck: --disk .: {GONE}\n"),
        ("run --disk x --passive", 2, f"vdscheck: --disk x: {GONE}\n"),
        ("judge x.json", 2, f"vdscheck: x.json: {GONE}\n"),
    ],
)
def test_a_current_folder_that_is_gone_does_no_harm(tmp_path: Path, words: str, code: int, said: str) -> None:
    script = f"mkdir gone; cd gone; rmdir ../gone; {' '.join(PROGRAM)} {words}"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, said)


DEEPER = """
import os, subprocess, sys
for _ in range(25):
    os.mkdir("d" * 200)
    os.chmod(".", 0o300)
    os.chdir("d" * 200)
with open("typer.py", "w") as trap:
    trap.write(f"open({sys.argv[1]!r}, 'w')")
done = subprocess.run(sys.argv[2:])
os.unlink("typer.py")
for _ in range(25):
    os.chdir("..")
    os.chmod(".", 0o700)
    os.rmdir("d" * 200)
sys.exit(done.returncode)
"""
ORDINARY = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
"""What makes root a user who may not read what its mode forbids."""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
@pytest.mark.parametrize(
    ("words", "code"), [(("list",), 0), (("run", "--passive"), 0), (("judge", "x.json"), 2), (("list", "-P"), 0)]
)
def test_a_current_folder_that_cannot_be_named_does_no_harm(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    """It is deeper than PATH_MAX, below one that may not be read."""
    first = [word for word in words if word == "-P"]
    program = [sys.executable, *first, "-m", "vdscheck", *(word for word in words if word not in first)]
    call = [*ORDINARY, sys.executable, "-c", DEEPER, str(tmp_path / "ran"), *program]
    variables = environment(PYTHONPATH=str(PROJECT))
    done = subprocess.run(call, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1 if code else 0), done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EACCES, errno.ENOENT, errno.EIO])
@pytest.mark.parametrize("part", ["", ".", "x"])
def test_where_the_current_folder_has_no_name_nothing_is_imported_relative_to_it(
    monkeypatch: pytest.MonkeyPatch, number: int, part: str
) -> None:
    def nameless() -> str:
        raise OSError(number, "no name")

    monkeypatch.setattr("sys.path", [part, "/usr/lib/python3"])
    monkeypatch.setattr("os.getcwd", nameless)
    monkeypatch.setenv("PYTHONPATH", f"{part}:/usr/lib/python3")
    __main__._leave_current_folder()
    assert sys.path == ["/usr/lib/python3"]


def clone(folder: Path) -> Path:
    """The scripts, and a Python for them."""
    project = folder / "clone"
    shutil.copytree(PROJECT / "scripts", project / "scripts")
    shutil.copy(PROJECT / "pyproject.toml", project)
    for name in ("vdscheck", "checks"):
        (project / name).mkdir()
    return project


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("{}", {}),
        pytest.param(".:{}", {"PYTHONPATH": ":.", "PYTHONHOME": ".", "CDPATH": "."}, marks=pytest.mark.slow),
        pytest.param(":{}:", {"PYTHONPATH": "../hostile", "PYTHON": "../bin/python3"}, marks=pytest.mark.slow),
    ],
    ids=["plain", "dots", "colons"],
)
def test_the_scripts_run_nothing_of_the_current_folder(tmp_path: Path, path: str, more: dict[str, str]) -> None:
    folder = trapped(tmp_path / "hostile")
    project = clone(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(PREPARING.format(python=sys.executable))
    python.chmod(0o755)
    variables = environment(PATH=path.format(f"{programs}:{os.environ['PATH']}"), **more)
    done = subprocess.run(
        [project / "scripts/run", "list"],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran(folder) == []
    assert done.returncode == 0, done.stderr
    assert "sysctl.somaxconn" in done.stdout
    assert (project / ".venv/stamp").exists()
