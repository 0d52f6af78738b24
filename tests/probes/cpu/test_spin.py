"""The spinning load finds what was taken from it, says by whom, and leaves nothing behind."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.hog import HOG
from tests.lab.quota import limited
from tests.support import program
from vdscheck.linux import cgroups, own_processes, proc_stat
from vdscheck.linux.proc_stat import Ticks
from vdscheck.measurements import Spin, TimeLost
from vdscheck.model.absence import Absent, Reason, UnavailableError
from vdscheck.plugin import Host
from vdscheck.probes.cpu import gaps, spin_probe, spinner
from vdscheck.probes.cpu import spin as spinners
from vdscheck.probes.cpu.gaps import CpuTotals, KernelCounters
from vdscheck.probes.cpu.spinner import Attribution, Clocks

# What is measured here is who takes a CPU: an emulated server beside it would take both.
pytestmark = pytest.mark.xdist_group("server")

MS = 1_000_000
CPU = min(os.sched_getaffinity(0))

STAT = """\
cpu  98299 0 15644 20637 498 0 320 281 0 0
cpu0 48105 0 7481 12036 50 0 15 141 0 0
cpu1 50193 0 8163 8600 448 0 305 139 0 0
intr 5121823 0 0 0 0 0 1205 0
ctxt 9364721
btime 1764029511
"""
"""As a KVM guest with two CPUs shows it (Linux 6.18)."""
V1 = "nr_periods 32\nnr_throttled 31\nthrottled_time 2295172216\nnr_bursts 0\nburst_time 0\n"
V2 = (
    "usage_usec 14\nuser_usec 9\nsystem_usec 5\nnice_usec 0\ncore_sched.force_idle_usec 0\n"
    "nr_periods 32\nnr_throttled 31\nthrottled_usec 2295172\nnr_bursts 0\nburst_usec 0\n"
)
V2_ROOT = "usage_usec 27230000\nuser_usec 23570000\nsystem_usec 3650000\nnice_usec 0\ncore_sched.force_idle_usec 0\n"


def spun(seconds: float) -> list[Spin]:
    return list(spin_probe.spin.function(Host(ends_at=time.monotonic() + seconds)))


# What the kernel writes


def test_the_eighth_value_of_a_cpu_line_is_steal() -> None:
    found = proc_stat.parsed(STAT)
    assert set(found) == {0, 1}
    assert found[0].steal == 141
    assert found[1].total == 50193 + 8163 + 8600 + 448 + 305 + 139
    assert proc_stat.together(list(found.values())).steal == 280
    assert found[1].busy == 50193 + 8163 + 305
    assert found[1].interrupts == 305


def test_a_line_without_steal_is_not_one_with_zero_steal() -> None:
    assert proc_stat.parsed("cpu0 1 2 3 4 5 6 7\n") == {}
    assert proc_stat.parsed("cpu0 1 2 3 4 5 6 7 0\n")[0].steal == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (V1, (32, 31, 2_295_172_216)),
        (V2, (32, 31, 2_295_172_000)),
        (V2_ROOT, None),
        ("nr_periods 0\nnr_throttled 0\nthrottled_time 0\n", (0, 0, 0)),
        ("nr_periods -1\nnr_throttled 0\nthrottled_time 0\n", None),
        ("", None),
    ],
)
def test_throttling_is_read_from_either_version_of_control_groups(text: str, found: tuple[int, ...] | None) -> None:
    assert cgroups.throttles(text) == found


@pytest.mark.parametrize(
    ("text", "found"), [("12 345 6\n", 345), ("0 0 0\n", 0), ("0 0\n", None), ("", None), ("1 -1 1\n", None)]
)
def test_run_delay_is_the_second_number_of_schedstat(text: str, found: int | None) -> None:
    assert spinner.run_delay(text) == found


@given(st.text() | st.text("cpu0123456789 -\n"))
def test_no_text_makes_the_parsers_fail_or_invent(text: str) -> None:
    for ticks in proc_stat.parsed(text).values():
        assert all(value >= 0 for value in ticks.all)
    assert cgroups.throttles(text) is None or "throttled" in text
    delay = spinner.run_delay(text)
    assert delay is None or delay >= 0


@given(st.dictionaries(st.integers(0, 999), st.lists(st.integers(0, 2**50), min_size=8, max_size=10)))
def test_what_a_kernel_counts_is_read_back(counters: dict[int, list[int]]) -> None:
    text = "".join(f"cpu{cpu} {' '.join(map(str, values))}\n" for cpu, values in counters.items())
    assert {cpu: list(ticks.all) for cpu, ticks in proc_stat.parsed(text).items()} == {
        cpu: values[:8] for cpu, values in counters.items()
    }


# Which CPUs


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=500, unique=True).map(sorted),
    st.none() | st.floats(0.01, 600),
)
def test_it_spins_on_every_cpu_that_quota_and_limit_allow(usable: list[int], quota: float | None) -> None:
    found = spinners.spread(usable, quota)
    most = len(usable) if quota is None else max(1, min(len(usable), int(quota)))
    assert len(found) == len(set(found)) == min(spinners.MOST_CPUS, most)
    assert set(found) <= set(usable)
    assert list(found) == sorted(found)


def test_of_more_than_64_it_takes_64_at_even_distances() -> None:
    assert spinners.spread(range(128), None) == tuple(range(0, 128, 2))


# Where the time of a gap went


def clocks(at: int = 0, cpu: int = 0, waited: int | None = 0, throttled: int = 0, ours: int = 0) -> Clocks:
    return Clocks(at * MS, cpu * MS, None if waited is None else waited * MS, throttled * MS, (ours * MS, 0))


@pytest.mark.parametrize(
    ("after", "parts"),
    [
        (clocks(at=8, cpu=3, waited=5), (0, 5, 0, 0, 0)),
        (clocks(at=8, cpu=3, waited=5, ours=2), (0, 3, 2, 0, 0)),
        (clocks(at=8, cpu=3, waited=5, throttled=5), (5, 0, 0, 0, 0)),
        (clocks(at=8, cpu=3, waited=5, throttled=90), (5, 0, 0, 0, 0)),
        (clocks(at=8, cpu=3, waited=5, throttled=4), (4, 1, 0, 0, 0)),
        (clocks(at=8, cpu=8, waited=0), (0, 0, 0, 0, 5)),
        (clocks(at=8, cpu=3, waited=0), (0, 0, 0, 5, 0)),
        (clocks(at=8, cpu=4, waited=1), (0, 1, 0, 3, 1)),
        (clocks(at=8, cpu=3, waited=None), (0, 5, 0, 0, 0)),
    ],
    ids=["waited", "for us", "throttled", "others were too", "both", "seemed to run", "off", "mixed", "unknown"],
)
def test_a_gap_of_5_ms_is_ascribed_by_the_clocks_of_the_kernel(after: Clocks, parts: tuple[int, ...]) -> None:
    before = clocks(waited=None if after.waited is None else 0)
    assert spinner.split(5 * MS, before, after, after.ours[0]).all == tuple(part * MS for part in parts)


NS = st.integers(0, 10**11)
READINGS = st.builds(Clocks, NS, NS, st.none() | NS, NS, st.just(()))


@given(NS, READINGS, READINGS, NS | NS.map(lambda ns: -ns))
def test_the_parts_of_a_gap_are_its_length_whatever_the_clocks_say(
    length: int, before: Clocks, after: Clocks, ours: int
) -> None:
    found = spinner.split(length, before, after, ours)
    assert sum(found.all) == length
    assert min(found.all) >= 0


def test_a_watch_tells_gaps_from_what_lies_below_them() -> None:
    said: list[str] = []
    now = [0]
    watch = spinner.StallDetector(
        lambda: clocks(at=now[0], cpu=now[0] // 2, waited=now[0] // 2), lambda: (True, True), said.append
    )
    assert watch.gap(0, 200_000) == 200_000
    now[0] = 10
    watch.gap(5 * MS, 10 * MS)
    watch.report(10 * MS)
    began, until, known, noted, judged = json.loads(said[0])
    assert (began, until, known) == (0, 10 * MS, True)
    assert noted == [200_000, 5 * MS]
    assert judged == [[5 * MS, 5 * MS, [0, 5 * MS, 0, 0, 0]]]


@pytest.mark.parametrize(
    ("here", "below_ms", "others_ms", "ours_ms"),
    [((True, False), 0, 4, 2), ((False, True), 0, 6, 0), ((True, False), 1, 5, 1), ((True, False), 3, 6, 0)],
    ids=["on this CPU", "on another", "partly before the gap", "all of it before the gap"],
)
def test_our_own_other_processes_count_where_they_had_this_cpu_and_in_the_gap(
    here: tuple[bool, bool], below_ms: int, others_ms: int, ours_ms: int
) -> None:
    said: list[str] = []
    readings = [clocks(), clocks(at=20, cpu=20 - 6 - below_ms, waited=6 + below_ms, ours=2)]
    readings.append(readings[-1])
    watch = spinner.StallDetector(lambda: readings.pop(0), lambda: here, said.append)
    for number in range(below_ms * 2):
        watch.gap(number * MS, number * MS + MS // 2)
    assert watch.gap(14 * MS, 20 * MS) == 20 * MS
    watch.report(20 * MS)
    assert json.loads(said[0])[4] == [[14 * MS, 6 * MS, [0, others_ms * MS, ours_ms * MS, 0, 0]]]


def test_asking_where_our_processes_are_makes_no_gap_however_long_it_takes() -> None:
    said: list[str] = []
    now = [0]

    def here() -> tuple[bool, bool]:
        now[0] += 3
        return (False, False)

    watch = spinner.StallDetector(lambda: clocks(at=now[0], cpu=now[0]), here, said.append)
    now[0] = 9
    last = watch.gap(5 * MS, 9 * MS)
    assert last == now[0] * MS == 12 * MS
    assert watch.look(last) == 12 * MS
    watch.report(last)
    assert [(at, length) for at, length, _ in json.loads(said[0])[4]] == [(5 * MS, 4 * MS)]


def test_the_cpu_of_a_process_is_the_one_that_it_was_last_on(only_one_cpu: None) -> None:
    burn = time.process_time() + 0.01
    while time.process_time() < burn:
        pass
    assert own_processes.last_cpu(Path("/proc/self/stat").read_text()) == CPU
    sources = spinner.Sources(CPU, (), (os.getpid(), 1 << 22))
    assert sources.here() == (True, False)
    assert spinner.Sources(CPU + 1, (), (os.getpid(),)).here() == (False,)
    assert sources.read().ours[0] >= burn * 1e9 - 1e7
    assert sources.read().ours[1] == 0


@pytest.mark.parametrize("text", ["", "1 (x) S", "1 (a) b) S " + "1 " * 35, "1 (x) S " + "1 " * 35 + "x 0"])
def test_a_stat_without_a_cpu_has_none(text: str) -> None:
    assert own_processes.last_cpu(text) is None


LOST = TimeLost(
    other_tasks_s=0.0,
    throttling_s=0.0,
    steal_s=0.0,
    interrupts_s=0.0,
    hidden_s=0.0,
    stopped_s=0.0,
    vdscheck_s=0.0,
)


@pytest.mark.parametrize(
    ("total", "steal_s", "interrupts_s", "found"),
    [
        (Attribution(0, 0, 0, 0, 50 * MS), 0.0, 0.0, {"hidden_s": 0.05}),
        (Attribution(0, 0, 0, 0, 50 * MS), 0.03, 0.0, {"steal_s": 0.03, "hidden_s": 0.02}),
        (Attribution(0, 0, 0, 50 * MS, 0), 0.05, 0.0, {"steal_s": 0.05}),
        (Attribution(0, 0, 0, 50 * MS, 0), 0.04, 0.0, {"steal_s": 0.05}),
        (Attribution(0, 0, 0, 50 * MS, 0), 0.0, 0.05, {"interrupts_s": 0.05}),
        (Attribution(0, 0, 0, 50 * MS, 0), 0.0, 0.04, {"interrupts_s": 0.05}),
        (Attribution(0, 0, 0, 50 * MS, 0), 0.0, 0.0, {"stopped_s": 0.05}),
        (
            Attribution(3 * MS, 2 * MS, MS, 0, 0),
            9.0,
            9.0,
            {"throttling_s": 0.003, "other_tasks_s": 0.002, "vdscheck_s": 0.001},
        ),
    ],
    ids=["hidden", "partly shown", "steal", "rounded ticks", "interrupts", "rounded as well", "stopped", "known"],
)
def test_what_the_clocks_leave_open_is_named_by_the_ticks_of_the_cpu(
    total: Attribution, steal_s: float, interrupts_s: float, found: dict[str, float]
) -> None:
    lost = gaps.lost(total, steal_s, interrupts_s, 0.01)
    for name in TimeLost.__dataclass_fields__:
        assert getattr(lost, name) == pytest.approx(found.get(name, 0.0)), name


@given(st.builds(Attribution, NS, NS, NS, NS, NS), st.floats(0, 100), st.floats(0, 100))
def test_naming_loses_and_adds_no_time(total: Attribution, steal_s: float, interrupts_s: float) -> None:
    lost = gaps.lost(total, steal_s, interrupts_s, 0.01)
    assert lost.lost_s + lost.vdscheck_s == pytest.approx(sum(total.all) / 1e9)
    assert min(getattr(lost, name) for name in TimeLost.__dataclass_fields__) >= 0


def test_where_the_quota_is_what_spinning_takes_our_other_processes_go_beyond_it() -> None:
    throttled = replace(LOST, throttling_s=0.05)
    assert gaps.without_ours(throttled, 0.03, 1, 1.0).throttling_s == pytest.approx(0.02)
    assert gaps.without_ours(throttled, 0.03, 1, 1.0).vdscheck_s == pytest.approx(0.03)
    assert gaps.without_ours(throttled, 0.03, 1, 0.5) == throttled
    assert gaps.without_ours(throttled, 0.03, 1, None) == throttled


def test_only_the_longest_gaps_are_kept_and_all_are_counted() -> None:
    met = CpuTotals(0)
    for number in range(500):
        met.add(number, MS + number, Attribution(0, MS + number, 0, 0, 0))
    met.add(9, 99 * MS, Attribution(0, 0, 99 * MS, 0, 0))
    assert met.gaps == 500
    found = gaps.longest([met], {0: LOST}, 0)
    assert len(found) == gaps.LONGEST
    assert found[0].length_us == (MS + 499) / 1000
    met.add(10, 9 * MS, Attribution(0, 4 * MS, 5 * MS, 0, 0))
    met.add(11, 5 * MS, Attribution(0, MS // 2, 5 * MS - MS // 2, 0, 0))
    assert met.gaps == 501
    longest, *_ = gaps.longest([met], {0: LOST}, 0)
    assert (longest.length_us, longest.cause) == (4000, "other tasks")
    assert {gap.cause for gap in found} == {"other tasks"}


# Steal


def account(steal: int, idle: int = 0, **more: Any) -> KernelCounters:
    return KernelCounters(0, {0: Ticks(0, 0, 0, idle, 0, 0, 0, steal)}, more.get("throttles", {}), 0)


def test_steal_is_a_share_of_the_window_and_of_all_time() -> None:
    found = gaps.steal(account(10, 90), account(15, 135), [0], 0.01)
    assert not isinstance(found, Absent)
    assert found.share_percent == pytest.approx(10)
    assert found.since_boot_percent == pytest.approx(10)
    none = gaps.steal(account(0, 90), account(0, 135), [0], 0.01)
    assert not isinstance(none, Absent)
    assert none.share_percent == none.since_boot_percent == 0


@pytest.mark.parametrize(
    ("first", "last", "cpus", "words"),
    [
        (account(5), account(4, 9), [0], "ran backwards"),
        (account(5), account(5), [0], "no tick"),
        (account(5), account(5, 9), [0, 1], "no line of CPU 1"),
    ],
)
def test_a_steal_counter_that_makes_no_sense_is_absent_and_not_zero(
    first: KernelCounters, last: KernelCounters, cpus: list[int], words: str
) -> None:
    found = gaps.steal(first, last, cpus, 0.01)
    assert isinstance(found, Absent)
    assert words in found.detail


def test_a_proc_stat_that_the_kernel_did_not_make_shows_no_steal(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "stat").write_text(STAT)
    lines = ["25 1 0:23 / /proc rw - proc proc rw\n", "77 25 0:50 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw\n"]
    (proc / "self/mountinfo").write_text("".join(lines))
    found = spinners._ticks(Host(root=str(tmp_path)))
    assert isinstance(found, Absent)
    assert found.reason is Reason.UNSUPPORTED
    assert "lxcfs" in found.detail
    (proc / "self/mountinfo").write_text(lines[0])
    assert set(spinners._ticks(Host(root=str(tmp_path)))) == {0, 1}  # type: ignore[arg-type]


def test_the_group_that_was_throttled_most_speaks() -> None:
    first = account(0, throttles={"/a": (10, 1, 5), "/b": (0, 0, 0)})
    last = account(0, throttles={"/a": (20, 1, 5), "/b": (10, 9, 9 * 10**8)})
    found = gaps.throttling(first, last, 0.5)
    assert found is not None
    assert (found.periods, found.throttled_periods, found.throttled_s, found.quota_cpus) == (10, 9, 0.9, 0.5)
    assert gaps.throttling(account(0), account(0), 0.5) is None


# The real thing


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def gone(pids: list[int], limit_s: float) -> bool:
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.01)
    return False


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture
def only_one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CPU})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("only_one_cpu")
def test_every_gap_that_a_real_time_task_makes_is_found_and_ascribed_to_other_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gaps, "LONGEST", 1_000_000)
    taken: list[tuple[int, int, Attribution]] = []
    add = CpuTotals.add

    def noting(self: CpuTotals, at_ns: int, length_ns: int, where: Attribution) -> None:
        taken.append((at_ns, length_ns, where))
        add(self, at_ns, length_ns, where)

    monkeypatch.setattr(CpuTotals, "add", noting)
    command = [sys.executable, str(HOG), str(CPU), "5", "150", "1.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hog:
        last = spun(3.0)[-1]
        said, _ = hog.communicate(timeout=30)
    bursts = json.loads(said)
    assert len(bursts) == 9
    found = 0
    for began, ended in bursts:
        around = [row for row in taken if row[0] <= began + MS // 2 and row[0] + row[1] >= ended - MS // 2]
        found += any(length >= 4.5 * MS and where.others >= 4.5 * MS for _, length, where in around)
    assert found == len(bursts)
    assert last.cpus == last.usable_cpus == 1
    assert last.gaps >= len(bursts)
    assert last.lost.other_tasks_s >= 0.0045 * len(bursts)
    assert last.waiting_known


@pytest.mark.usefixtures("only_one_cpu")
def test_what_our_own_other_processes_take_is_not_held_against_the_host() -> None:
    running = spin_probe.spin.function(Host(ends_at=time.monotonic() + 1.5))
    found = []
    for each in running:
        found.append(each)
        end = time.process_time() + 0.06
        while time.process_time() < end:
            pass
    assert found[-1].lost.vdscheck_s >= 0.05


def test_a_window_gives_ever_more_and_leaves_no_process() -> None:
    before = children()
    found = spun(0.8)
    assert len(found) >= 2
    assert all(first.spun_s < last.spun_s for first, last in itertools.pairwise(found))
    assert found[-1].cpus == len(os.sched_getaffinity(0))
    assert found[-1].ended_early == 0
    assert found[-1].steal is not None
    assert found[-1].steal.total_after > found[-1].steal.total_before
    assert children() == before


def test_a_generator_that_is_given_up_takes_its_processes_with_it() -> None:
    before = set(children())
    running = spin_probe.spin.function(Host(ends_at=time.monotonic() + 20))
    next(running)
    spinning = [pid for pid in children() if pid not in before]
    assert spinning
    running.close()
    assert not any(alive(pid) for pid in spinning)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_spinning_process_that_is_ended_or_stopped_is_said_to_have_been(number: signal.Signals) -> None:
    before = set(children())
    running = spin_probe.spin.function(Host(ends_at=time.monotonic() + 1.2))
    next(running)
    spinning = sorted(pid for pid in children() if pid not in before)
    os.kill(spinning[0], number)
    last = list(running)[-1]
    assert last.ended_early == 1
    assert last.spun_s > 0
    assert not any(alive(pid) for pid in spinning)


def test_a_stop_is_neither_steal_nor_other_tasks() -> None:
    before = set(children())
    running = spin_probe.spin.function(Host(ends_at=time.monotonic() + 3.0))
    next(running)
    spinning = sorted(pid for pid in children() if pid not in before)
    os.kill(spinning[0], signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(spinning[0], signal.SIGCONT)
    last = list(running)[-1]
    stops = [gap for gap in last.longest if gap.cause == "stopped"]
    assert stops
    # Its length is without what our own other processes had of it.
    assert stops[0].length_us + 1e6 * last.lost.vdscheck_s >= 299_000
    assert stops[0].length_us > 200_000
    assert last.lost.stopped_s > 0.1


def test_processes_that_are_all_ended_before_they_speak_are_an_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinner, "spin", lambda *_: os._exit(1))
    with pytest.raises(UnavailableError) as refused:
        spun(0.3)
    assert refused.value.absent.reason is Reason.ERROR
    assert "ended before" in refused.value.absent.detail


def test_no_further_process_is_an_absence_and_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    real = os.fork
    started: list[bool] = []

    def fork() -> int:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(True)
        return real()

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {CPU, CPU + 1})
    with pytest.raises(UnavailableError) as refused:
        spun(5)
    assert "cannot start a process" in refused.value.absent.detail
    assert children() == before


def test_spinning_processes_die_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = (
        "import time\nfrom vdscheck.plugin import Host\nfrom vdscheck.probes.cpu.spin_probe import spin\n"
        "for found in spin.function(Host(ends_at=time.monotonic() + 30)):\n    print('running', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        spinning = [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
        assert spinning
        running.kill()
    assert gone(spinning, 5)


def test_a_spinning_process_ends_by_itself_when_its_window_is_over() -> None:
    pid, pipe = spinner.start(CPU, time.monotonic_ns() + 100 * MS, (), ())
    give_up = time.monotonic() + 10
    ended = 0
    while ended == 0 and time.monotonic() < give_up:
        ended, _ = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
    os.close(pipe)
    assert ended == pid


def test_an_ordinary_user_may_measure_it() -> None:
    script = (
        "import ctypes, os, resource, select, time\nimport vdscheck.probes.cpu.spin\nfrom vdscheck.plugin import Host\n"
        "from vdscheck.probes.cpu.spin_probe import spin\n"
        "os.setgid(65534)\nos.setuid(65534)\n"
        "*_, last = spin.function(Host(ends_at=time.monotonic() + 0.5))\n"
        "print(last.waiting_known, last.steal is not None, last.spun_s > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True True True\n", done.stderr


def test_a_quota_makes_jitter_and_the_finding_calls_it_throttling() -> None:
    with limited(0.1) as group:
        script = (
            "import os, sys\nimport vdscheck.cli.run, vdscheck.measure.measure, vdscheck.judge.judge\n"
            "from vdscheck.__main__ import main\n"
            f"open('{group}/cgroup.procs', 'w').write(str(os.getpid()))\n"
            "sys.argv[1:] = ['run', '--only', 'cpu.jitter', '--quick', '--json']\nmain()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=program.environment(),
        )
    report = json.loads(done.stdout)
    (finding,) = report["findings"]
    assert finding["verdict"] == "fail"
    assert "quota of 0.1 CPUs throttles" in finding["summary"]
    assert "CPUQuota" in finding["fix"]["summary"]
    value = report["measurements"]["cpu.spin"]["value"]
    assert value["throttling"]["throttled_periods"] > 0
    assert value["lost"]["throttling_s"] > 0
    assert value["cpus"] == 1
