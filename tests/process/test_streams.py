"""Standard output and standard error that nobody reads, that do not block, or that went away in the middle of a run."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import PROGRAM, environment, plugin, vdscheck
from tests.support.project import PROJECT

TIMEOUT_S = 60
BLOCKED_S = 15
"""Ten times what a run may take to end after a signal."""

WAITS = """
import os, time
from vdscheck.plugin import *

@measurement
class Acme:
    '''Nothing.'''
    x: int

@probe("acme.probe", deadline_s=30)
def measured(host: Host) -> Acme:
    '''Measures until it is told to end.'''
    while not os.path.exists({until!r}):
        time.sleep(0.01)
    return Acme(x=1)

@check("acme.check", severity=Severity.LOW)
def judged(acme: Acme) -> Judgement:
    '''It is checked.

    Why: a test
    False positives: none
    By hand: look
    Sources: none
    '''
    return Judgement(verdict=Verdict.FAIL, summary="as it is")
"""


def start(*words: str, stdout: int, stderr: int, **more: Any) -> subprocess.Popen[bytes]:
    options: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "env": environment(TERM="xterm", LC_ALL="C.UTF-8"),
        "cwd": "/",
    } | more
    return subprocess.Popen([*PROGRAM, *words], stdout=stdout, stderr=stderr, **options)


@contextmanager
def pipe(*, blocking: bool = True) -> Iterator[tuple[int, int]]:
    """The two ends of a pipe that holds one page."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, blocking)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def drained(reader: int, running: subprocess.Popen[bytes]) -> bytes:
    """What comes until the program has ended, read in small pieces."""
    found = bytearray()
    while running.poll() is None or select.select([reader], [], [], 0)[0]:
        if select.select([reader], [], [], 0.05)[0]:
            found += os.read(reader, 1000)
    return bytes(found)


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def is_in_a_call_on(descriptor: int, running: subprocess.Popen[bytes]) -> bool:
    """Whether it waits in a system call whose first argument is that descriptor: proc(5), `syscall`."""
    words = Path(f"/proc/{running.pid}/syscall").read_text().split()
    return words[1:2] == [hex(descriptor)]


def is_full(writer: int) -> bool:
    return not select.select([], [writer], [], 0)[1]


@pytest.mark.parametrize("words", [["schema"], ["--passive", "--json", "--only", "sysctl.*"], ["run", "--help"]])
def test_a_pipe_that_does_not_block_gets_all_of_it(words: list[str]) -> None:
    with pipe(blocking=False) as (reader, writer):
        running = start(*words, stdout=writer, stderr=subprocess.PIPE)
        wait_until(lambda: is_full(writer) or running.poll() is not None)
        found = drained(reader, running)
        _, stderr = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, stderr) == (0, b"")
    assert found == vdscheck(*words).stdout.encode() or json.loads(found)["run"]["complete"]


def test_standard_error_that_does_not_block_gets_its_line() -> None:
    with pipe(blocking=False) as (reader, writer):
        os.write(writer, b"x" * 4096)
        running = start("--only", "nothing", stdout=subprocess.PIPE, stderr=writer)
        found = drained(reader, running)
        stdout, _ = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, stdout) == (2, b"")
    assert found.removeprefix(b"x" * 4096).startswith(b"vdscheck: ")
    assert found.endswith(b"\n")


@pytest.mark.parametrize(
    ("words", "number", "blocking"),
    [
        (["schema"], signal.SIGINT, True),
        (["schema"], signal.SIGTERM, False),
        (["list"], signal.SIGTERM, True),
        (["--passive", "--json"], signal.SIGINT, True),
        (["--passive", "--json"], signal.SIGTERM, False),
    ],
)
def test_a_pipe_that_nobody_reads_is_left_at_the_first_signal(
    tmp_path: Path, words: list[str], number: signal.Signals, *, blocking: bool
) -> None:
    files = ["-o", f"json={tmp_path}/saved.json"] if "--json" in words else []
    with pipe(blocking=blocking) as (_, writer):
        running = start(*words, *files, stdout=writer, stderr=subprocess.PIPE)
        wait_until(lambda: is_full(writer))
        running.send_signal(number)
        _, stderr = running.communicate(timeout=BLOCKED_S)
    assert running.returncode == 128 + number
    assert stderr == b"vdscheck: standard output: nobody reads it: the rest was not written\n"
    if files:
        assert json.loads((tmp_path / "saved.json").read_bytes())["run"]["complete"] is True


def test_a_pipe_that_is_both_and_that_nobody_reads_is_left_at_the_first_signal() -> None:
    with pipe() as (_, writer):
        running = start("schema", stdout=writer, stderr=writer)
        wait_until(lambda: is_full(writer))
        running.terminate()
        assert running.wait(timeout=BLOCKED_S) == 143


def test_standard_error_that_nobody_reads_is_left_at_the_first_signal() -> None:
    with pipe() as (_, writer):
        os.write(writer, b"x" * 4096)
        running = start("--only", "nothing", stdout=subprocess.DEVNULL, stderr=writer)
        wait_until(lambda: is_in_a_call_on(2, running))
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=BLOCKED_S) == 2


@pytest.mark.parametrize("stopped", [False, True], ids=["that nobody reads", "that is stopped"])
def test_a_terminal_is_left_at_the_first_signal(*, stopped: bool) -> None:
    master, terminal = pty.openpty()
    if stopped:
        termios.tcflow(terminal, termios.TCOOFF)
    running = start("schema", stdout=terminal, stderr=subprocess.PIPE)
    wait_until(lambda: is_in_a_call_on(1, running))
    running.terminate()
    _, stderr = running.communicate(timeout=BLOCKED_S)
    os.close(terminal)
    os.close(master)
    assert running.returncode == 143
    assert stderr == b"vdscheck: standard output: nobody reads it: the rest was not written\n"


def test_a_slow_reader_gets_the_whole_report_of_an_interrupted_run(tmp_path: Path) -> None:
    folder = plugin(tmp_path, WAITS.format(until=str(tmp_path / "until")))
    master, terminal = pty.openpty()
    with pipe() as (reader, writer):
        running = start(
            *["--json", "--only", "acme.check"],
            stdout=writer,
            stderr=terminal,
            env=environment(PYTHONPATH=str(folder), TERM="xterm"),
        )
        wait_until(lambda: bool(select.select([master], [], [], 0)[0]))
        running.send_signal(signal.SIGINT)
        found = drained(reader, running)
    os.close(terminal)
    os.close(master)
    assert running.returncode == 130
    assert json.loads(found)["run"]["complete"] is False


# A terminal that went away


@pytest.mark.parametrize(
    ("words", "code", "is_own"),
    [
        ([], 0, False),
        (["--json"], 0, True),
        (["-v", "--fail-on", "fail"], 1, True),
        (["-q", "--min-score", "50"], 1, False),
    ],
    ids=["text", "json, its own and nohup", "fail-on, its own and nohup", "min-score"],
)
def test_a_terminal_that_goes_away_costs_neither_the_run_nor_its_files(
    tmp_path: Path, words: list[str], code: int, *, is_own: bool
) -> None:
    until = tmp_path / "until"
    folder = plugin(tmp_path, WAITS.format(until=str(until)))
    master, terminal = pty.openpty()

    def take() -> None:
        if is_own:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    running = start(
        *["--passive", "--only", "acme.check", *words, "-o", f"json={tmp_path}/saved.json"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(PYTHONPATH=str(folder), TERM="xterm"),
        start_new_session=True,
        preexec_fn=take,
    )
    os.close(terminal)
    wait_until(lambda: bool(select.select([master], [], [], 0)[0]))
    os.close(master)
    until.touch()
    assert running.wait(timeout=TIMEOUT_S) == code
    saved = json.loads((tmp_path / "saved.json").read_bytes())
    assert saved["run"]["complete"] is True
    assert [finding["verdict"] for finding in saved["findings"]] == ["fail"]


def test_a_terminal_that_takes_its_session_with_it_ends_the_run_and_leaves_an_incomplete_file(tmp_path: Path) -> None:
    folder = plugin(tmp_path, WAITS.format(until=str(tmp_path / "never")))
    master, terminal = pty.openpty()
    running = start(
        *["--passive", "--only", "acme.check", "-o", f"json={tmp_path}/saved.json"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(PYTHONPATH=str(folder), TERM="xterm"),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    wait_until(lambda: bool(select.select([master], [], [], 0)[0]))
    os.close(master)
    assert running.wait(timeout=TIMEOUT_S) == 129
    assert json.loads((tmp_path / "saved.json").read_bytes())["run"]["complete"] is False


def test_readers_that_go_away_cost_neither_the_run_nor_its_files(tmp_path: Path) -> None:
    until = tmp_path / "until"
    folder = plugin(tmp_path, WAITS.format(until=str(until)))
    out, error = os.pipe(), os.pipe()
    running = start(
        *["--passive", "--only", "acme.check", "--redis", "redis://:x@127.0.0.1:1"],
        *["-o", f"json={tmp_path}/saved.json", "-o", "text=/dev/full"],
        stdout=out[1],
        stderr=error[1],
        env=environment(PYTHONPATH=str(folder)),
    )
    for end in (*out, *error):
        os.close(end)
    until.touch()
    assert running.wait(timeout=TIMEOUT_S) == 4  # of /dev/full, and nothing else
    assert json.loads((tmp_path / "saved.json").read_bytes())["run"]["complete"] is True


@pytest.mark.slow
def test_a_live_table_whose_terminal_goes_away_is_measured_to_its_end(tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    running = start(
        *["jitter", "--duration", "2", "-o", f"json={tmp_path}/saved.json"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    wait_until(lambda: bool(select.select([master], [], [], 0)[0]))
    os.close(master)
    assert running.wait(timeout=TIMEOUT_S) == 0
    assert json.loads((tmp_path / "saved.json").read_bytes())["run"]["complete"] is True


ASKS = """
import os, signal, sys, time
from vdscheck.render.formats import say, show
from vdscheck.render.text.live import Live
from vdscheck.render.text.progress import progress
from vdscheck.render.text.question import can_ask, confirmed
from vdscheck.cli import output

signal.signal(signal.SIGHUP, signal.SIG_IGN)
could = can_ask()
print("ready", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
clock = iter(range(100))
line = progress(sys.stderr, lambda: next(clock))
line.started("a.b")
line.tick()
line.close()
table = Live(sys.stderr, lambda found, width, height: b"a\\n", lambda: next(clock))
table.measured("a", None)
table.close()
say("a line")
show(b"a plan")
output.to_stdout(b"the report")
open(sys.argv[1], "w").write(repr((could, can_ask(), confirmed("Apply?", lambda: False))))
"""


def test_whatever_is_said_drawn_or_asked_bears_that_the_terminal_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(environment(TERM="xterm", PYTHONPATH=str(PROJECT)))
        os.execv(sys.executable, [sys.executable, "-c", ASKS, str(gone)])
    said = b""
    while not said.endswith(b"\n"):
        said += os.read(terminal, 100)
    os.close(terminal)
    gone.touch()
    _, status = os.waitpid(child, 0)
    assert (os.waitstatus_to_exitcode(status), gone.read_text()) == (0, "(True, False, False)")
