"""A pause is a pause: what was measured before it is kept, what holds it is measured again, and it is told."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import PROGRAM, children, environment, wait_for
from vdscheck.catalogue.catalogue import assemble
from vdscheck.measure import measure as engine
from vdscheck.measure import pauses
from vdscheck.measure.measure import Effort, Options, Outcome, measure
from vdscheck.measure.pauses import Waits
from vdscheck.model.absence import Absent, Reason
from vdscheck.plugin import Host, Window, measurement, probe

PAUSE_S = 3
LONGEST_MS = 2500
"""A process that only waits for its CPU is not away for so long."""


@measurement
class Gap:
    """The longest time between two looks at the clock, as a latency that a probe measures."""

    longest_ms: int


class Meanwhile:
    """An observer that does something once a probe measures, and again each time that it does so anew."""

    def __init__(self, folder: Path, act: Callable[[int], object], times: int = 1) -> None:
        self.folder, self._act, self._times = folder, act, times
        self._seen: set[str] = set()

    def tick(self) -> None:
        for name in sorted(set(os.listdir(self.folder)) - self._seen):
            self._seen.add(name)
            if len(self._seen) <= self._times:
                self._act(int(name))

    def started(self, _key: str) -> None:
        pass

    def measured(self, _key: str, _taken: Any) -> None:
        self.tick()

    def finished(self, _key: str) -> None:
        pass

    @property
    def runs(self) -> int:
        """How often the probe has begun."""
        return len(os.listdir(self.folder))


def paused(*pids: int) -> "subprocess.Popen[bytes]":
    """Stop some processes, and continue them after a while, though this one may be among them."""
    all_of_them = " ".join(map(str, pids))
    # By a shell in a session of its own: it is not stopped with whoever asks for it.
    script = f"kill -STOP {all_of_them}; sleep {PAUSE_S}; kill -CONT {all_of_them}"
    return subprocess.Popen(["sh", "-c", script], start_new_session=True)


def supervisor() -> int:
    """The process that keeps the deadlines: it has children, unlike the shell that stops and continues."""
    return next(pid for pid in children(os.getpid()) if children(pid) and b"sh\0-c" not in command(pid))


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def taken(folder: Path, observer: Meanwhile, *, window_s: float = 1.0, options: Options | None = None) -> Outcome:
    @probe("test.gap", window=Window(passive_s=window_s, quick_s=window_s, default_s=window_s, thorough_s=window_s))
    def gap(host: Host) -> Iterator[Gap]:
        """Looks at the clock again and again."""
        (folder / str(os.getpid())).touch()
        last_s, longest_s = time.monotonic(), 0.0
        while host.time_left_s:
            host.pause(0.005)
            now_s = time.monotonic()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s
            yield Gap(longest_ms=int(1000 * longest_s))

    catalogue = assemble([("test", gap)])
    return measure(Host(), catalogue.probes.values(), options or Options(Effort.QUICK), observer=observer)


def longest_ms(outcome: Outcome) -> int:
    value = outcome.measurements["test.gap"].value
    assert isinstance(value, Gap)
    return value.longest_ms


@pytest.fixture(autouse=True)
def shells(monkeypatch: pytest.MonkeyPatch) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """None of the shells is left behind."""
    found: list[subprocess.Popen[bytes]] = []
    start = paused

    def noted(*pids: int) -> "subprocess.Popen[bytes]":
        found.append(start(*pids))
        return found[-1]

    monkeypatch.setitem(globals(), "paused", noted)
    yield found
    for each in found:
        each.wait(timeout=60)


@pytest.mark.slow
def test_a_probe_that_is_stopped_is_measured_again(tmp_path: Path) -> None:
    observer = Meanwhile(tmp_path, paused)
    outcome = taken(tmp_path, observer, window_s=2.0 + PAUSE_S)
    assert longest_ms(outcome) < LONGEST_MS
    assert observer.runs == 2
    (said,) = outcome.warnings
    assert said.startswith("test.gap was stopped for ")
    assert said.endswith(" s; it was measured again")
    assert outcome.complete


def given_up(folder: Path, observer: Meanwhile, *, deadline_s: float) -> Absent:
    """Why a probe that is at it for long has no measurement."""

    @probe("test.once", deadline_s=deadline_s)
    def once(_host: Host) -> Gap:
        """Is at it for long."""
        (folder / str(os.getpid())).touch()
        time.sleep(25)
        return Gap(longest_ms=0)

    outcome = measure(Host(), assemble([("test", once)]).probes.values(), Options(), observer=observer)
    absent = outcome.measurements["test.once"].absent
    assert absent is not None
    return absent


def test_a_probe_that_is_stopped_again_is_unknown(tmp_path: Path) -> None:
    def blink(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(pid, signal.SIGCONT)

    observer = Meanwhile(tmp_path, blink, times=2)
    absent = given_up(tmp_path, observer, deadline_s=30)
    assert absent.reason is Reason.TIMEOUT
    assert re.fullmatch(
        r"stopped for (less than 0\.5|[0-9.]+) s while this was measured, and before that as well: run it again",
        absent.detail,
    )
    assert observer.runs == 2


def test_a_probe_that_is_stopped_for_good_is_told(tmp_path: Path) -> None:
    observer = Meanwhile(tmp_path, lambda pid: os.kill(pid, signal.SIGSTOP))
    absent = given_up(tmp_path, observer, deadline_s=1)
    assert (absent.reason, absent.detail) == (Reason.TIMEOUT, "test.once was stopped by a signal, and not continued")


def test_a_pause_of_the_whole_machine_is_told_and_measured_again(tmp_path: Path) -> None:
    observer = Meanwhile(tmp_path, lambda pid: paused(supervisor(), pid, os.getpid()))
    outcome = taken(tmp_path, observer)
    assert longest_ms(outcome) < LONGEST_MS
    assert observer.runs == 2
    (said,) = outcome.warnings
    assert re.fullmatch(r"stopped for [0-9]+\.[0-9] s; what was being measured then was measured again", said)
    assert outcome.complete


@pytest.mark.slow
def test_a_pause_of_those_that_measure_is_no_other(tmp_path: Path) -> None:
    observer = Meanwhile(tmp_path, lambda pid: paused(supervisor(), pid))
    outcome = taken(tmp_path, observer)
    assert longest_ms(outcome) < LONGEST_MS
    assert observer.runs == 2
    assert outcome.complete


@pytest.mark.slow
def test_a_pause_of_the_supervisor_alone_loses_no_measurement(tmp_path: Path) -> None:
    observer = Meanwhile(tmp_path, lambda _pid: paused(supervisor()))
    outcome = taken(tmp_path, observer)
    assert longest_ms(outcome) < LONGEST_MS
    assert outcome.complete


def test_a_pause_longer_than_the_run_may_take_throws_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z stops the program alone: those that measure have sessions of their own, and go on."""
    monkeypatch.setattr(engine, "GRACE_S", 0.5)
    observer = Meanwhile(tmp_path, lambda _pid: paused(os.getpid()))
    outcome = taken(tmp_path, observer, window_s=1.0, options=Options(Effort.QUICK, budget_s=0.1))
    assert longest_ms(outcome) < LONGEST_MS
    assert observer.runs == 1
    assert outcome.complete
    (said,) = outcome.warnings or ["nothing is said"]
    assert re.fullmatch(r"stopped for [0-9]+\.[0-9] s; the measuring went on meanwhile", said)


@pytest.mark.slow
def test_a_measuring_that_is_given_up_is_not_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "GRACE_S", 0.5)
    observer = Meanwhile(tmp_path, lambda _pid: os.kill(supervisor(), signal.SIGSTOP))
    outcome = taken(tmp_path, observer, window_s=0.5, options=Options(Effort.QUICK, budget_s=0.1))
    assert not outcome.complete
    assert outcome.warnings == ["the measuring did not end in time and was given up"]


@pytest.mark.slow
def test_a_run_that_is_put_aside_for_longer_than_its_budget_has_all_its_findings() -> None:
    """As by Ctrl-Z, and fg after a while: --quick is meant to take 4 s."""
    running = subprocess.Popen(
        [*PROGRAM, "--quick", "--offline", "--json"], stdout=subprocess.PIPE, env=environment(), cwd="/", text=True
    )
    # Its children measure.
    wait_for(lambda: [len(children(each)) > 1 for each in children(running.pid)] == [True])
    running.send_signal(signal.SIGSTOP)
    time.sleep(25)
    running.send_signal(signal.SIGCONT)
    stdout, _ = running.communicate(timeout=60)
    found = json.loads(stdout)
    assert (running.returncode, found["run"]["complete"]) == (0, True)
    assert [finding["id"] for finding in found["findings"] if finding["reason"] == "timeout"] == []
    assert any("the measuring went on meanwhile" in said for said in found["warnings"])


# What is no pause


BEFORE = pauses._Account(at_s=100.0, asleep_s=0.0, page_waits=3, queued_s=1.0, stolen_s={b"cpu0": 5.0, b"cpu1": 1.0})


@pytest.mark.parametrize(
    ("late_s", "more", "found_s"),
    [
        (20.0, {}, 20.0),
        (1.4, {}, 0.0),
        (20.0, {"queued_s": 12.0}, 0.0),
        (20.0, {"stolen_s": {b"cpu0": 5.0, b"cpu1": 20.0}}, 0.0),
        (20.0, {"stolen_s": {b"cpu0": 9.0, b"cpu1": 5.0}}, 20.0),
        (2.0, {"page_waits": 13}, 0.0),
        (20.0, {"page_waits": 13}, 20.0),
        (20.0, {"queued_s": None}, 0.0),
        (0.0, {"asleep_s": 30.0}, 30.0),
        (2.0, {"asleep_s": 30.0, "queued_s": 4.0}, 32.0),
        (0.0, {"asleep_s": 0.1}, 0.0),
    ],
    ids=[
        "stopped",
        "a little late",
        "it waited for a CPU",
        "its CPU was stolen",
        "a little of each CPU was stolen",
        "it waited for pages",
        "some pages came late after it",
        "not known",
        "the machine slept",
        "the machine slept, and was busy then",
        "a rounding",
    ],
)
def test_only_what_the_kernel_does_not_account_to_something_else_is_a_pause(
    late_s: float, more: dict[str, Any], found_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [BEFORE, BEFORE._replace(at_s=100.5 + late_s, **more)]
    monkeypatch.setattr(pauses, "_account", lambda: accounts.pop(0))
    monkeypatch.setattr(pauses, "_asleep_s", lambda: float(more.get("asleep_s", 0.0)))
    waits = Waits()
    monkeypatch.setattr(time, "monotonic", lambda: 100.5 + late_s)
    assert waits.paused_s(0.5) == pytest.approx(found_s)


def test_the_account_of_this_process_is_read() -> None:
    account = pauses._account()
    assert account.queued_s is not None
    assert set(account.stolen_s) == {f"cpu{number}".encode() for number in os.sched_getaffinity(0)} | set(
        account.stolen_s
    )
    assert min(account.stolen_s.values()) >= 0
