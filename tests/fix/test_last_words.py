"""Whatever ends a run after its fix was begun, the last line says where the fix stands."""

import os
import shlex

import pytest

from tests.support.fix_namespace import in_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")

HOLDS = " is applied and holds: `vdscheck undo` gives it back"
BEGUN = " was begun, and is not known to hold: `vdscheck undo` gives it back"
LOW = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))"
FAILURES: dict[str, tuple[str, int, str, str]] = {
    "no memory for the report": ("run.write = fails(MemoryError())", 4, HOLDS, "held"),
    "a report that cannot be imported": ("run.write = fails(ImportError('none'))", 4, HOLDS, "held"),
    "a bug behind the fix": ("run.write = fails(RuntimeError())", 4, HOLDS, "held"),
    "a bug while it is verified": ("flow._wrong = fails(RuntimeError())", 4, " was given back", "given-back"),
    "no memory while it is verified": ("flow._wrong = fails(MemoryError())", 4, " was given back", "given-back"),
    "a second signal": ("flow._wrong = signalled", 143, BEGUN, "begun"),
    "a journal that cannot be gone on with": (
        "flow._wrong = fails(RuntimeError()); transaction.give_back = fails(FixError('none'))",
        4,
        " not all could be given back: `vdscheck undo` tries again",
        "begun",
    ),
    "before anything is written": ("run.draw = fails(MemoryError())", 4, "", ""),
}
WRAPPED = """
import os, signal, sys, time
from vdscheck import __main__ as program
from vdscheck.cli import run
from vdscheck.fix import flow, transaction
from vdscheck.fix.files import FixError

def fails(error):
    def anything(*_args, **_named):
        raise error
    return anything

def signalled(*_args):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1.2)
    os.kill(os.getpid(), signal.SIGTERM)

def low(real):
    def lowered(*args, **named):
        LOW
        return real(*args, **named)
    return lowered

only = ["--only", "sysctl.somaxconn", "--only", "sysctl.persistence"]
sys.argv = ["vdscheck", "--fix", "--yes", "--passive", "-q", *only]
FAILURE
program.main()
"""


def failed(failure: str) -> tuple[int, list[str], str]:
    """The code, the lines of standard error, and the state in the journal."""
    code = WRAPPED.replace("LOW", LOW).replace("FAILURE", failure)
    script = f"""
    "$PYTHON" -c {shlex.quote(code)} > /dev/null; echo $?
    vdscheck undo --list
    """
    done = in_namespace(script)
    number, _, journal = done.stdout.partition("\n")
    return int(number), done.stderr.splitlines(), journal


@pytest.mark.parametrize("case", FAILURES)
def test_what_ends_a_run_says_where_its_fix_stands(case: str) -> None:
    failure, code, stands, state = FAILURES[case]
    found, said, journal = failed(failure)
    assert found == code
    if stands:
        assert f" {state} " in journal
        assert said[-1].endswith(stands)
        assert said[-1].startswith(("vdscheck: fix ", "vdscheck: of fix "))
    else:
        assert not any("fix" in line for line in said)
        assert "the journal is empty" in journal


@pytest.mark.parametrize("where", ["flow._kept", "flow._done", "run.write"])
def test_a_limit_of_memory_that_is_lowered_in_the_middle_is_told_with_where_the_fix_stands(where: str) -> None:
    _, said, journal = failed(f"{where} = low({where})")
    state = next(each for each in ("held", "given-back", "begun") if f" {each} " in journal)
    told = {"held": HOLDS, "given-back": " was given back", "begun": "`vdscheck undo`"}[state]
    assert not said or told in said[-1]
    assert not any("a bug" in line for line in said)
