"""The engine keeps its deadlines and its promises whatever a probe does."""

import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.program import TIMEOUT_S, wait_for
from tests.support.project import PROJECT
from vdscheck.catalogue.catalogue import assemble
from vdscheck.measure import supervisor
from vdscheck.measure.measure import Effort, Options, Outcome, measure
from vdscheck.model.absence import Absent, Reason
from vdscheck.plugin import Host, SubjectError, UnavailableError, Window, measurement, probe, unmeasured
from vdscheck.target import secrets


@measurement
class One:
    """A number."""

    x: int


@measurement
class Two:
    """Another one."""

    x: int


@measurement
class Named:
    """Texts of a server."""

    names: tuple[str, ...]


@measurement
class Three:
    """A third one."""

    x: int


def taken(*probes: Any, options: Options | None = None, **more: Any) -> Outcome:
    catalogue = assemble(("test", each) for each in probes)
    return measure(Host(), catalogue.probes.values(), options or Options(), **more)


def absence(outcome: Outcome, key: str) -> Absent:
    absent = outcome.measurements[key].absent
    assert absent is not None
    return absent


def processes_with(mark: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                line = Path(f"/proc/{name}/environ").read_bytes()
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if mark.encode() in line and state not in "ZX":
                found.append(int(name))
    return found


@probe("test.one", cheap=True)
def one(_host: Host) -> One:
    """Says one."""
    return One(x=1)


def test_a_measurement_arrives_with_its_time_its_method_and_its_duration() -> None:
    outcome = taken(one)
    found = outcome.measurements["test.one"]
    assert found.value == One(x=1)
    assert found.method == "Says one."
    assert found.taken_at.endswith("Z")
    assert found.duration_s >= 0
    assert outcome.complete


def test_zero_is_a_measurement() -> None:
    @probe("test.zero")
    def zero(_host: Host) -> One:
        """Says zero."""
        return One(x=0)

    assert taken(zero).measurements["test.zero"].value == One(x=0)


def test_an_absence_arrives_as_an_absence_whether_it_is_returned_or_raised() -> None:
    @probe("test.returned")
    def returned(_host: Host) -> One | Absent:
        """Has nothing."""
        return unmeasured(Reason.UNREACHABLE, "nobody answers")

    @probe("test.raised")
    def raised(host: Host) -> Two:
        """Reads what is not there."""
        return Two(x=len(host.read("/there/is/no/such/file")))

    outcome = taken(returned, raised)
    assert absence(outcome, "test.returned") == unmeasured(Reason.UNREACHABLE, "nobody answers")
    assert absence(outcome, "test.raised").reason is Reason.UNSUPPORTED


def hang_with_sigterm_ignored(_host: Host) -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)


def hang_in_c(_host: Host) -> None:
    pow(3, 10**10)


def hang_on_a_fifo(_host: Host) -> None:
    path = f"/tmp/vdscheck-test-{os.getpid()}"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    os.unlink(path)
    os.read(descriptor, 1)


def hang_in_a_forked_session(_host: Host) -> None:
    if os.fork():
        while True:
            time.sleep(60)
    os.setsid()
    if os.fork():
        os._exit(0)
    hang_with_sigterm_ignored(_host)


def hang_blocking_every_signal(_host: Host) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    while True:
        pass


HANGS = [
    hang_with_sigterm_ignored,
    hang_in_c,
    hang_on_a_fifo,
    hang_in_a_forked_session,
    hang_blocking_every_signal,
]


@pytest.mark.parametrize("hang", HANGS, ids=lambda hang: hang.__name__)
def test_a_deadline_is_kept_however_a_probe_hangs(hang: Any) -> None:
    @probe("test.hangs", deadline_s=0.3)
    def hangs(host: Host) -> Two:
        """Never returns."""
        hang(host)
        return Two(x=1)

    outcome = taken(one, hangs)
    assert absence(outcome, "test.hangs").reason is Reason.TIMEOUT
    assert outcome.measurements["test.one"].value == One(x=1)


@pytest.mark.parametrize("hang", HANGS, ids=lambda hang: hang.__name__)
def test_the_reader_of_a_pipe_sees_the_end_on_time_however_a_probe_hangs(hang: Any) -> None:
    program = f"""
from tests.measure.test_measure import *
@probe("test.hangs", deadline_s=0.3)
def hangs(host: Host) -> Two:
    '''Never returns.'''
    {hang.__name__}(host)
    return Two(x=1)
outcome = taken(one, hangs)
print(outcome.measurements["test.hangs"].absent.reason.value)
"""
    # The reader waits for the end of the file, so anything that still holds stdout keeps it waiting.
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=True,
        cwd=PROJECT,
    )
    assert done.stdout == b"timeout\n"


def test_of_the_cheap_probes_in_one_child_only_the_one_that_hangs_is_lost() -> None:
    @probe("test.bad", cheap=True, deadline_s=0.3)
    def bad(_host: Host) -> Two:
        """Never returns."""
        while True:
            pass

    @probe("test.later", cheap=True)
    def later(_host: Host) -> Three:
        """Comes after it."""
        return Three(x=3)

    outcome = taken(one, bad, later)
    assert outcome.measurements["test.one"].value == One(x=1)
    assert absence(outcome, "test.bad").reason is Reason.TIMEOUT
    assert outcome.measurements["test.later"].value == Three(x=3)


@pytest.mark.slow
def test_what_comes_after_a_probe_that_hangs_has_the_time_that_it_took() -> None:
    @probe("test.bad", cheap=True, deadline_s=1.0)
    def bad(_host: Host) -> Two:
        """Never returns."""
        while True:
            pass

    @probe("test.later", cheap=True, deadline_s=3.0)
    def later(_host: Host) -> Three:
        """Comes after it, and takes a while."""
        time.sleep(1.2)
        return Three(x=3)

    outcome = taken(bad, later, options=Options(budget_s=1.0))
    assert absence(outcome, "test.bad").reason is Reason.TIMEOUT
    assert outcome.measurements["test.later"].value == Three(x=3)
    assert outcome.complete


@pytest.mark.parametrize(
    ("death", "said"),
    [
        (lambda: ctypes.string_at(0), "SIGSEGV"),
        (lambda: os._exit(3), "exit code 3"),
        (os.abort, "SIGABRT"),
        (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 3), "signal 37"),
        (lambda: sys.exit(1), "SystemExit"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: bytearray(4 << 30), "MemoryError"),
    ],
    ids=["segv", "exit", "abort", "real-time signal", "sys.exit", "exception", "memory"],
)
def test_a_probe_that_dies_is_one_unknown_with_the_cause(death: Any, said: str) -> None:
    @probe("test.dies", cheap=True)
    def dies(_host: Host) -> Two:
        """Dies."""
        death()
        return Two(x=1)

    @probe("test.later", cheap=True)
    def later(_host: Host) -> Three:
        """Comes after it."""
        return Three(x=3)

    outcome = taken(dies, later)
    lost = absence(outcome, "test.dies")
    assert lost.reason is Reason.ERROR
    assert said in lost.detail
    assert outcome.measurements["test.later"].value == Three(x=3)


def test_what_a_probe_leaves_behind_is_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    @probe("test.leaves")
    def leaves(_host: Host) -> Two:
        """Leaves a daemon behind."""
        if os.fork() == 0:
            os.setsid()
            daemon = os.fork()
            if daemon == 0:
                time.sleep(600)
            pid_file.write_text(str(daemon))
            os._exit(0)
        os.wait()
        return Two(x=1)

    assert taken(leaves).measurements["test.leaves"].value == Two(x=1)
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def test_a_gigabyte_of_output_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    @probe("test.loud", deadline_s=20)
    def loud(_host: Host) -> Two:
        """Writes a gigabyte to every descriptor it knows."""
        block = b"x" * (1 << 20)
        for _ in range(1024):
            os.write(1, block)
            os.write(2, block)
        return Two(x=1)

    assert taken(loud, options=Options(Effort.THOROUGH)).measurements["test.loud"].value == Two(x=1)
    assert capfd.readouterr() == ("", "")


@measurement
class Text:
    """A text."""

    text: str


def test_a_measurement_of_a_hundred_megabytes_is_refused() -> None:
    @probe("test.large", deadline_s=20)
    def large(_host: Host) -> Text:
        """Returns far too much."""
        return Text(text="x" * (100 << 20))

    lost = absence(taken(large, options=Options(Effort.THOROUGH)), "test.large")
    assert lost.reason is Reason.ERROR
    assert "bytes" in lost.detail


def test_noise_in_the_pipe_is_not_a_measurement() -> None:
    @probe("test.noise")
    def noise(_host: Host) -> Two:
        """Writes into every descriptor that it finds."""
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"garbage\n" * 100)
            except OSError:
                continue
        return Two(x=1)

    assert absence(taken(noise), "test.noise").reason is Reason.ERROR


@pytest.mark.parametrize("value", [Two(x=1), 7, None, One(x=[])], ids=repr)  # type: ignore[arg-type]
def test_a_value_of_another_type_is_an_error_of_the_probe(value: Any) -> None:
    @probe("test.wrong")
    def wrong(_host: Host) -> One:
        """Returns something else."""
        return value  # type: ignore[no-any-return]

    assert absence(taken(wrong), "test.wrong").reason is Reason.ERROR


def test_the_last_measurement_of_a_generator_before_its_deadline_counts() -> None:
    @probe("test.generator", window=Window(0.2, 0.2, 0.2, 0.2), deadline_s=0.2)
    def generator(host: Host) -> Iterator[One]:
        """Gets better, and then hangs."""
        for number in range(5):
            yield One(x=number)
            host.pause(0.01)
        while True:
            time.sleep(1)

    assert taken(generator).measurements["test.generator"].value == One(x=4)


def test_a_generator_that_fails_after_a_measurement_says_so_rather_than_half_of_it() -> None:
    @probe("test.generator", window=Window(0.2, 0.2, 0.2, 0.2))
    def generator(_host: Host) -> Iterator[One]:
        """Gets worse."""
        yield One(x=1)
        raise ValueError

    assert absence(taken(generator), "test.generator").reason is Reason.ERROR


def test_a_generator_that_measures_nothing_in_its_window_says_so() -> None:
    @probe("test.nothing", window=Window(passive_s=0.1, quick_s=0.1, default_s=0.1, thorough_s=0.1))
    def nothing(host: Host) -> Iterator[One]:
        """Was too slow."""
        while host.time_left_s > 0:
            host.pause(0.2)
            if host.time_left_s > 0:
                yield One(x=1)

    lost = absence(taken(nothing), "test.nothing")
    assert (lost.reason, lost.detail) == (Reason.TIMEOUT, "test.nothing measured nothing within its window of 0.1 s")


@pytest.mark.parametrize("effort", Effort)
def test_a_window_is_as_long_as_the_effort_says(effort: Effort) -> None:
    @probe("test.window", window=Window(0.1, 0.2, 0.3, 0.4))
    def window(host: Host) -> Iterator[Text]:
        """Tells how long it may go on."""
        yield Text(text=f"{host.time_left_s:.1f}")

    wanted = {"passive": "0.1", "quick": "0.2", "default": "0.3", "thorough": "0.4"}[effort.value]
    assert taken(window, options=Options(effort)).measurements["test.window"].value == Text(text=wanted)


def test_passive_leaves_out_what_loads_the_host_and_offline_what_sends() -> None:
    @probe("test.loads", window=Window(None, 1, 1, 1))
    def loads(_host: Host) -> Iterator[One]:
        """Loads the host."""
        yield One(x=1)

    @probe("test.sends", sends=True)
    def sends(_host: Host) -> Two:
        """Sends."""
        return Two(x=1)

    outcome = taken(loads, sends, options=Options(Effort.PASSIVE, offline=True))
    assert absence(outcome, "test.loads").reason is Reason.NOT_RUN
    assert absence(outcome, "test.sends").reason is Reason.NOT_RUN
    assert taken(sends).measurements["test.sends"].value == Two(x=1)


@measurement
class Interval:
    """When a probe ran, on the monotonic clock."""

    start_s: float
    end_s: float


@measurement
class AloneInterval(Interval):
    """The same of the one that runs alone."""


@measurement
class OtherInterval(Interval):
    """The same of another one that runs alone."""


def test_what_runs_alone_has_nothing_of_ours_beside_it_and_the_rest_runs_together() -> None:
    def took(kind: type[Interval]) -> Interval:
        start = time.monotonic()
        time.sleep(0.2)
        return kind(start_s=start, end_s=time.monotonic())

    @probe("test.first")
    def first(_host: Host) -> Interval:
        """Runs with others."""
        return took(Interval)

    @probe("test.alone", alone=True)
    def alone(_host: Host) -> AloneInterval:
        """Runs alone."""
        return took(AloneInterval)  # type: ignore[return-value]

    @probe("test.other", alone=True)
    def other(_host: Host) -> OtherInterval:
        """Runs alone as well."""
        return took(OtherInterval)  # type: ignore[return-value]

    outcome = taken(first, alone, other)
    spans = sorted((found.value.start_s, found.value.end_s) for found in outcome.measurements.values())
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@dataclass(frozen=True)
class Folder:
    """A folder that is examined."""

    path: str

    @classmethod
    def chosen(cls, settings: dict[str, Any]) -> dict[str, "Folder"]:
        return {path: cls(path) for path in settings.get("folders", ())}


def test_a_probe_with_a_subject_runs_once_for_each() -> None:
    @probe("test.folder")
    def folder(host: Host, which: Folder) -> One:
        """Counts names."""
        return One(x=len(host.names(which.path)))

    outcome = taken(folder, options=Options(settings={"folders": ["/", "/nowhere"]}))
    assert outcome.measurements["test.folder[/]"].value.x > 3
    assert absence(outcome, "test.folder[/nowhere]").reason is Reason.UNSUPPORTED
    assert absence(taken(folder), "test.folder").kind == "not-applicable"


def test_a_subject_of_this_host_is_measured_offline_and_each_other_one_is_named() -> None:
    @dataclass(frozen=True)
    class Place:
        local: bool

        @classmethod
        def chosen(cls, _settings: dict[str, Any]) -> dict[str, "Place"]:
            return {"here": cls(local=True), "there": cls(local=False)}

    def reached(_host: Host, _place: Any) -> One:
        """Reaches it."""
        return One(x=1)

    reached.__annotations__["_place"] = Place
    found = taken(probe("test.place", sends=True)(reached), options=Options(offline=True))
    assert found.measurements["test.place[here]"].value == One(x=1)
    assert absence(found, "test.place[there]").reason is Reason.NOT_RUN


def test_what_cannot_be_a_subject_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Nothing:
        @classmethod
        def chosen(cls, _settings: dict[str, Any]) -> dict[str, "Nothing"]:
            message = "this is none"
            raise SubjectError(message)

    def never(_host: Host, _nothing: Any) -> Two:
        """Is never called."""
        return Two(x=1)

    def writes(_host: Host) -> One:
        """Leaves a file."""
        (tmp_path / "measured").write_text("")
        return One(x=1)

    never.__annotations__["_nothing"] = Nothing
    with pytest.raises(SubjectError, match="this is none"):
        taken(probe("test.writes")(writes), probe("test.never")(never))
    assert not (tmp_path / "measured").exists()


def test_an_interrupted_run_keeps_what_it_has_and_names_the_rest() -> None:
    @probe("test.slow", deadline_s=600)
    def slow(_host: Host) -> Two:
        """Takes its time."""
        time.sleep(600)
        return Two(x=1)

    done: list[str] = []

    class Seen:
        """Notes what is done."""

        def started(self, _key: str) -> None: ...

        def measured(self, key: str, _taken: Any) -> None:
            done.append(key)

        def finished(self, _key: str) -> None: ...

        def tick(self) -> None: ...

    outcome = taken(one, slow, observer=Seen(), stopped=lambda: "test.one" in done)
    assert not outcome.complete
    assert outcome.measurements["test.one"].value == One(x=1)
    assert absence(outcome, "test.slow").reason is Reason.NOT_RUN


def test_a_run_that_is_interrupted_before_it_starts_measures_nothing() -> None:
    outcome = taken(one, stopped=lambda: True)
    assert not outcome.complete
    assert absence(outcome, "test.one").reason is Reason.NOT_RUN


def test_children_end_when_the_program_is_killed() -> None:
    program = """
from tests.measure.test_measure import *
@probe("test.slow", deadline_s=20)
def slow(host: Host) -> Two:
    '''Takes its time.'''
    time.sleep(19)
    return Two(x=1)
print("ready", flush=True)
taken(slow)
"""
    mark = f"VDSCHECK_MARK_{uuid.uuid4().hex}"
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "MARK": mark},
        cwd=PROJECT,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    wait_for(lambda: len(processes_with(mark)) == 3)
    running.kill()
    assert running.wait(5) == -signal.SIGKILL
    running.stdout.close()
    wait_for(lambda: not processes_with(mark))


def test_a_child_whose_jobs_are_done_may_do_what_is_left_at_its_end(tmp_path: Path) -> None:
    @probe("test.ending")
    def ending(_host: Host) -> Two:
        """Has something to do when its process ends."""
        real = os._exit

        def exit_after_a_while(status: int) -> NoReturn:
            time.sleep(0.3)
            (tmp_path / "ended").touch()
            real(status)

        os._exit = exit_after_a_while
        return Two(x=1)

    assert taken(ending).measurements["test.ending"].value == Two(x=1)
    assert (tmp_path / "ended").exists()


def test_a_child_whose_jobs_are_done_and_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "ENDING_LIMIT_S", 0.5)

    @probe("test.endless", deadline_s=60)
    def endless(_host: Host) -> Two:
        """Never ends by itself."""
        os._exit = lambda _code: time.sleep(600)  # type: ignore[assignment,return-value]
        return Two(x=1)

    assert taken(endless).measurements["test.endless"].value == Two(x=1)


def test_a_descendant_that_holds_the_pipe_of_a_child_that_has_ended_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "ENDING_LIMIT_S", 600.0)
    pid_file = tmp_path / "pid"

    @probe("test.heir", deadline_s=60)
    def heir(_host: Host) -> Two:
        """Leaves a process behind."""
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
        pid_file.write_text(str(pid))
        return Two(x=1)

    assert taken(heir).measurements["test.heir"].value == Two(x=1)
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Path]:
    """The cgroup v1 freezer, whose frozen tasks are in state D and no signal ends them (unlike those of v2)."""
    mounted = Path("/sys/fs/cgroup/freezer")
    if (mounted / "cgroup.procs").exists() and os.access(mounted, os.W_OK):
        yield mounted
        return
    own = tmp_path / "freezer"
    own.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "cgroup", "-o", "freezer", "none", own], capture_output=True, timeout=10, check=False
    )
    if mount.returncode:
        pytest.skip("needs root and a kernel with the cgroup v1 freezer to make a process that no signal ends")
    yield own
    subprocess.run(["umount", own], timeout=10, check=True)


def test_a_child_that_cannot_be_killed_is_abandoned_and_named(tmp_path: Path, freezer: Path) -> None:
    cell = freezer / f"vdscheck-test-{os.getpid()}"
    cell.mkdir()
    pid_file = tmp_path / "pid"

    @probe("test.frozen", deadline_s=0.5)
    def frozen(_host: Host) -> Two:
        """Freezes itself for good."""
        pid_file.write_text(str(os.getpid()))
        (cell / "cgroup.procs").write_text(str(os.getpid()))
        (cell / "freezer.state").write_text("FROZEN")
        return Two(x=1)

    try:
        outcome = taken(one, frozen)
        assert absence(outcome, "test.frozen").reason is Reason.TIMEOUT
        assert any(pid_file.read_text() in warning for warning in outcome.warnings)
    finally:
        (cell / "freezer.state").write_text("THAWED")
        wait_for(lambda: not (cell / "cgroup.procs").read_text())
        cell.rmdir()


def test_a_child_holds_nothing_open_but_its_pipe() -> None:
    @probe("test.descriptors")
    def descriptors(_host: Host) -> Text:
        """Lists its descriptors."""
        return Text(
            text=json.dumps(
                {
                    fd: os.readlink(f"/proc/self/fd/{fd}")
                    for fd in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{fd}") or fd < "3"
                }
            )
        )

    with open(os.devnull, "w") as _other:
        found = json.loads(taken(descriptors).measurements["test.descriptors"].value.text)
    assert [found[fd] for fd in "012"] == ["/dev/null"] * 3
    rest = [target for fd, target in found.items() if fd not in "012" and not target.endswith("/fd")]
    assert len(rest) <= 1


LEARNT = "t0ken-that-a-program-made"


@pytest.mark.parametrize("cheap", [True, False], ids=["one after the other", "side by side"])
@pytest.mark.parametrize("hangs", [True, False], ids=["given up", "done"])
def test_what_one_process_learns_no_other_repeats(monkeypatch: pytest.MonkeyPatch, *, cheap: bool, hangs: bool) -> None:
    """A server that is told a token by one process says it to the next, which has another one."""
    monkeypatch.setattr(secrets, "_known", type(secrets._known)())

    @probe("test.a", cheap=cheap, deadline_s=1.0)
    def logs_in(_host: Host) -> One:
        """Logs in."""
        secrets.register(LEARNT)
        time.sleep(60 if hangs else 0.2)
        return One(x=1)

    @probe("test.b", cheap=cheap, deadline_s=5.0)
    def is_told(_host: Host) -> Named:
        """Is told the token of the other process."""
        return Named(names=(LEARNT, "osl-1"))

    @probe("test.c", cheap=cheap, deadline_s=5.0)
    def fails(_host: Host) -> Two:
        """Is told it in an error."""
        raise UnavailableError(unmeasured(Reason.ERROR, f"the server says: {LEARNT} may not"))

    outcome = taken(logs_in, is_told, fails)
    assert (outcome.measurements["test.a"].value is None) == hangs
    assert outcome.measurements["test.b"].value == Named(names=("***", "osl-1"))
    assert absence(outcome, "test.c").detail == "the server says: *** may not"
