"""What may never answer is asked in a process of its own; whoever asks goes on at the deadline or at a signal."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support import dead_mount
from tests.support.program import children, wait_for
from vdscheck import __main__ as start
from vdscheck.model.absence import Reason, UnavailableError, unmeasured
from vdscheck.process import guard, signals
from vdscheck.process.guard import Countdown, LostChildError, NoAnswerError, in_child, opened_in_child
from vdscheck.process.signals import StoppedError

NEVER_S = 60


class Odd(Exception):  # noqa: N818
    """Its class takes something else than it shows."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{what} {number}")
        self.number = number


def never() -> NoReturn:
    time.sleep(NEVER_S)
    raise AssertionError


def raising(error: BaseException) -> Callable[[], Any]:
    def function() -> NoReturn:
        raise error

    return function


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0bytes" * 100_000,
        None,
        True,
        7,
        1.5,
        "text",
        ("a", None, ["b", {"c": 1}]),
        unmeasured(Reason.ERROR, "x"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_function_returns_comes_back(value: object) -> None:
    assert in_child(lambda: value) == value


def test_what_is_asked_is_asked_in_another_process_and_nothing_is_open_there() -> None:
    receive, send = os.pipe()

    def look() -> tuple[int, int, dict[int, str]]:
        names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return (
            os.getpid(),
            os.getsid(0),
            {int(n.rpartition("/")[2]): os.readlink(n) for n in names if os.path.lexists(n)},
        )

    pid, session, is_open = in_child(look, keeps=(send,))
    assert pid != os.getpid()
    assert session == pid
    assert [is_open.pop(standard) for standard in (0, 1, 2)] == ["/dev/null"] * 3
    assert is_open.pop(send) == os.readlink(f"/proc/self/fd/{send}")
    assert len(is_open) == 1  # through which the answer comes
    os.close(receive)
    os.close(send)


def test_what_a_function_raises_is_raised_here() -> None:
    with pytest.raises(UnavailableError) as unavailable:
        in_child(raising(UnavailableError(unmeasured(Reason.PERMISSION, "no"))))
    assert unavailable.value.absent == unmeasured(Reason.PERMISSION, "no")
    with pytest.raises(FileNotFoundError) as missing:
        in_child(lambda: os.stat("/no/such"))
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, "/no/such")
    with pytest.raises(Odd, match="thing 7") as odd:
        in_child(raising(Odd(7, "thing")))
    assert odd.value.number == 7
    with pytest.raises(SystemExit):
        in_child(raising(SystemExit(3)))

    class Local(Exception):  # noqa: N818
        pass

    with pytest.raises(RuntimeError, match="Local: nobody else knows its class"):
        in_child(raising(Local("nobody else knows its class")))
    with pytest.raises(AttributeError, match="pickle"):
        in_child(lambda: lambda: None)


def test_what_never_answers_is_over_at_the_deadline_and_ended() -> None:
    pids: list[int] = []
    fork = os.fork

    def noted() -> int:
        pids.append(fork())
        return pids[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fork", noted)
        with pytest.raises(NoAnswerError) as error:
            in_child(never, 0.2)
    assert error.value.strerror == "does not answer within 0.2 s"
    assert isinstance(error.value, OSError)
    assert not os.path.exists(f"/proc/{pids[0]}")


def test_a_signal_ends_the_waiting_at_once() -> None:
    with pytest.raises(StoppedError):
        in_child(never, NEVER_S, stopped=lambda: True)


def test_a_signal_that_comes_while_one_waits_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[int] = []
    monkeypatch.setattr(signals, "_received", ())
    signals.listen(received)
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: received.append(number))
    ours = os.getpid()

    def look() -> None:
        os.kill(ours, signal.SIGUSR1)
        never()

    try:
        with pytest.raises(StoppedError):
            in_child(look, NEVER_S)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [signal.SIGUSR1]


def test_an_answer_that_is_there_counts_also_where_a_signal_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_is_ready", lambda channel, _seconds: _ready_in_the_end(channel))
    assert in_child(lambda: "here", stopped=lambda: True) == "here"


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os._exit(3), "ended in the middle of it (exit code 3)"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "was ended by SIGSEGV"),
    ],
    ids=["exit", "signal"],
)
def test_a_process_that_ends_without_an_answer_is_told(end: Callable[[], Any], how: str) -> None:
    with pytest.raises(LostChildError) as error:
        in_child(end)
    assert error.value.how == how
    assert error.value.strerror == f"the process that looked at it {how}"


def test_who_pauses_does_not_lose_the_answer_that_came_meanwhile() -> None:
    """The clock is far beyond the deadline when the pipe is looked at: what is in it counts first."""
    clock = [0.0]

    def leaps() -> float:
        clock[0] += 0.9
        return clock[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "_is_ready", lambda channel, _seconds: _ready_in_the_end(channel))
        patch.setattr(time, "monotonic", leaps)
        assert in_child(lambda: "here", 0.5) == "here"


def _ready_in_the_end(channel: int) -> bool:
    import select

    return bool(select.select([channel], [], [], 10)[0])


def test_time_in_which_the_process_was_paused_does_not_count() -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = [100.0]
        patch.setattr(time, "monotonic", lambda: now[0])
        countdown = Countdown(5.0)
        now[0] += 3600.0
        assert not countdown.over()
        for _ in range(4):
            now[0] += 0.9
            assert not countdown.over()
        now[0] += 0.5
        assert countdown.over()


def test_a_descriptor_is_passed_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    descriptor = opened_in_child(lambda: os.open(tmp_path, os.O_PATH))
    try:
        assert os.fstat(descriptor).st_ino == tmp_path.stat().st_ino
        assert not os.get_inheritable(descriptor)
        assert os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path)
    finally:
        os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        opened_in_child(lambda: os.open(tmp_path / "none", os.O_PATH))
    with pytest.raises(NoAnswerError):
        opened_in_child(never, 0.1)


@pytest.mark.parametrize("call", ["pipe", "fork"])
def test_without_a_further_process_or_descriptor_it_is_done_here(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, call, refuse)
    assert in_child(os.getpid) == os.getpid()


def test_none_of_it_leaves_a_descriptor_or_a_process_behind() -> None:
    before = set(os.listdir("/proc/self/fd"))
    others = set(children(os.getpid()))
    in_child(lambda: 1)
    os.close(opened_in_child(lambda: os.open("/", os.O_PATH)))
    for refused in (raising(ValueError("x")), lambda: os._exit(1)):
        with pytest.raises((OSError, ValueError)):
            in_child(refused)
    assert set(children(os.getpid())) <= others
    with pytest.raises(NoAnswerError):
        in_child(never, 0.1)
    assert set(os.listdir("/proc/self/fd")) == before
    wait_for(lambda: all(is_ended(pid) for pid in set(children(os.getpid())) - others))


def is_ended(pid: int) -> bool:
    """Whether a child has ended: on a busy machine a killed one may take longer than it is waited for."""
    return os.waitpid(pid, os.WNOHANG) != (0, 0)


def test_without_dev_null_nothing_is_heard_of_it_either() -> None:
    """As in a rescue shell: what is written there goes nowhere, and what is read is nothing."""
    script = """if True:
        import os
        from vdscheck.process import guard
        guard.os.devnull = "/no/such"
        def look():
            read = b""
            try:
                read = os.read(0, 10)
                os.write(1, b"heard")
            except OSError as error:
                return read, error.errno
        print(guard.in_child(look))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"(b'', {errno.EBADF})\n"


@dead_mount.needs_fuse
def test_a_process_that_cannot_be_killed_is_left_behind_and_holds_nothing_open(tmp_path: Path) -> None:
    """The program's output ends with the program, though a child of it waits in state D for ever."""
    script = f"""if True:
        import os, sys, time
        from vdscheck.process import guard
        try:
            guard.in_child(lambda: os.stat({str(tmp_path)!r}), 0.3)
        except guard.NoAnswerError as error:
            print(error.strerror)
        print(len(open(f"/proc/self/task/{{os.getpid()}}/children").read().split()) - 1)
        sys.stdout.flush()
        os.close(1); os.close(2)
        time.sleep({NEVER_S})
    """
    running = dead_mount.popen(tmp_path, [sys.executable, "-c", script])
    try:
        assert running.stdout is not None
        # One left behind: and yet what was written here comes to its end.
        assert running.stdout.read() == "does not answer within 0.3 s\n1\n"
        assert running.poll() is None
    finally:
        running.kill()
        running.communicate()


def test_with_few_processes_and_descriptors_it_still_answers() -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))

    script = "from vdscheck.process import guard; import os; print(guard.in_child(lambda: 7))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60, preexec_fn=limited
    )
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_the_program_waits_for_the_signals_that_its_children_hand_over() -> None:
    assert signals.ENDING == start.ENDING


def test_of_the_signals_that_end_a_program_only_failures_and_a_kill_are_not_waited_for() -> None:
    left = {
        "SIGCHLD",
        "SIGCONT",
        "SIGPIPE",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGWINCH",
        "SIGXFSZ",
    }
    failures = {"SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}
    others = {signal.Signals[name] for name in {"SIGKILL", *left, *failures}}
    assert signal.valid_signals() == {*signals.ENDING, *others}
