"""Signals, and a terminal that is gone: what was changed is given back or verified, and the journal says which."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fix.test_fix import NEW, OLD, parts, valid
from tests.support.fix_namespace import in_namespace
from tests.support.program import PROGRAM, environment, plugin, vdscheck, wait_for
from vdscheck import __main__ as start

SLOW_CHECK = """
import time
from vdscheck.plugin import *
from vdscheck.measurements import Sysctls

@check("acme.slow", severity=Severity.LOW)
def judged(kernel: Sysctls) -> Judgement:
    '''It is slow.

    Why: a test
    False positives: none
    By hand: wait
    Sources: none
    '''
    open({marker!r}, "w").close()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        pass
    return not_applicable("slow")
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")

FIX = "\"$PYTHON\" -m vdscheck --fix --yes --passive --only 'sysctl.*'"
AT = "strace -o /dev/null -e trace={call} -e inject={call}:{what}:when={number}"


def at(step: str, what: str) -> str:
    """A prefix to a program that makes something happen at its Nth call of that name."""
    call, number = step.split(":")
    return AT.format(call=call, number=number, what=what)


# A session that falls apart


STEPS = [
    (name, code, step)
    for name, code in (("HUP", 129), ("ALRM", 142), ("QUIT", 131), ("USR1", 138), ("ABRT", 134), ("34", 162))
    for step in ("renameat:2", "write:1", "fsync:4")
]


@as_root
@pytest.mark.parametrize(
    ("name", "code", "step"),
    [STEPS[0], STEPS[3], *(pytest.param(*each, marks=pytest.mark.slow) for each in STEPS[1:3] + STEPS[4:])],
)
def test_every_signal_that_ends_a_program_gives_everything_back(name: str, code: int, step: str) -> None:
    found, said = parts(
        f"""
        {at(step, f"signal={name}")} {FIX} --json; code >&2; echo ----
        keys; ls -A /etc/sysctl.d; vdscheck undo --list
        """
    )
    report = valid(found[0])
    assert said == f"code {code}\n"
    assert (report["run"]["complete"], report["fix"]["outcome"]) == (False, "given-back")
    lines = found[1].splitlines()
    assert lines[:4] == OLD
    assert len(lines) == 5
    assert "given-back" in lines[4]


@as_root
def test_a_fix_whose_session_ends_goes_on_where_that_was_to_be_ignored() -> None:
    found, said = parts(
        f"""
        trap '' HUP
        {at("renameat:2", "signal=HUP")} {FIX} --json; code >&2; echo ----
        keys; vdscheck undo --list
        """
    )
    assert (said, valid(found[0])["fix"]["outcome"]) == ("code 0\n", "applied")
    assert found[1].splitlines()[:4] == NEW
    assert "held" in found[1].splitlines()[4]


CLOSES_THE_TERMINAL = r"""
import ctypes, os, pty, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # what the shell leaves behind becomes our child: PR_SET_CHILD_SUBREAPER
shell, terminal = pty.fork()
if shell == 0:
    os.execvp("sh", ["sh", "-c", sys.argv[1] + "; true"])
give_up = time.monotonic() + 60
while not {event} and time.monotonic() < give_up:
    time.sleep(0.001)
os.close(terminal)
# The kernel tells the shell, and when that has ended all that it ran.
while True:
    try:
        pid, status = os.wait()
    except ChildProcessError:
        break
    if pid != shell:
        print(os.waitstatus_to_exitcode(status))
"""


@as_root
@pytest.mark.parametrize(
    ("slow", "event"),
    [
        pytest.param("", "os.path.exists('/var/lib/vdscheck/journal')", marks=pytest.mark.slow),
        pytest.param("", "os.path.exists('/etc/sysctl.d/90-vdscheck.conf')", marks=pytest.mark.slow),
        (at("renameat:2", "delay_exit=1500000"), "os.path.exists('/etc/sysctl.d/90-vdscheck.conf')"),
    ],
    ids=["as it begins", "as it is written", "well before it is verified"],
)
def test_a_terminal_that_is_closed_in_the_middle_of_a_fix_leaves_nothing_begun(slow: str, event: str) -> None:
    script = CLOSES_THE_TERMINAL.format(event=event)
    done = in_namespace(
        f"""
        cat > close.py <<'END'
{script}
END
        "$PYTHON" close.py "{slow} {FIX.replace('"', "")}"
        keys; ls -A /etc/sysctl.d; vdscheck undo --list
        """
    )
    assert done.stderr == ""
    code, *values = done.stdout.splitlines()[:5]
    rest = " ".join(done.stdout.splitlines()[5:])
    if "given-back" in rest:
        assert (code, values) == ("129", OLD)
        assert "90-vdscheck.conf" not in rest
    else:
        assert slow == ""
        assert values == NEW
        assert "held" in rest


# The handler


def test_a_session_that_falls_apart_slowly_is_one_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell, the terminal and the session manager each send it, in their own time."""
    received: list[int] = []
    monkeypatch.setattr(start, "_received", received)
    monkeypatch.setattr(start, "_received_at_s", [os.times().elapsed - 60])
    monkeypatch.setattr(os, "_exit", lambda code: received.append(-code))
    start._receive(signal.SIGHUP, None)
    assert received == [signal.SIGHUP]
    start._receive(signal.SIGTERM, None)
    assert -143 in received


# A judging that takes long


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--json",), ()], ids=["json", "text"])
def test_a_judging_that_takes_long_ends_at_a_signal(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A plugin's check is as slow as a report that was made to be: the process that judges is ended."""
    marker = tmp_path / "judging"
    source = SLOW_CHECK.format(marker=str(marker))
    saved = tmp_path / "report.json"
    saved.write_text(vdscheck("--passive", "--json", "--only", "sysctl.somaxconn").stdout)
    running = subprocess.Popen(
        [*PROGRAM, "judge", str(saved), "--only", "acme.*", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=environment(PYTHONPATH=str(plugin(tmp_path, source))),
    )
    wait_for(lambda: marker.exists() or running.poll() is not None)
    running.send_signal(signal.SIGTERM)
    stdout, said = running.communicate(timeout=20)
    assert running.returncode == 143
    if words:
        assert (valid(stdout)["run"]["complete"], said) == (False, "")
    else:
        assert (stdout, said) == ("", "vdscheck: interrupted before anything was examined\n")


def test_a_check_of_others_that_takes_long_costs_an_interrupted_run_no_other_finding(tmp_path: Path) -> None:
    marker = tmp_path / "judging"
    running = subprocess.Popen(
        [*PROGRAM, "--passive", "--json", "--only", "acme.*", "--only", "sysctl.somaxconn"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=environment(PYTHONPATH=str(plugin(tmp_path, SLOW_CHECK.format(marker=str(marker))))),
    )
    wait_for(lambda: marker.exists() or running.poll() is not None)
    running.send_signal(signal.SIGTERM)
    stdout, said = running.communicate(timeout=20)
    assert (running.returncode, said) == (143, "")
    report = valid(stdout)
    assert report["run"]["complete"] is False
    reasons = {finding["id"]: finding["reason"] for finding in report["findings"]}
    assert reasons == {"acme.slow": "not-run", "sysctl.somaxconn": None}
