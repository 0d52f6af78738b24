"""The work of others is told from our own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.catalogue.catalogue import assemble
from vdscheck.linux import own_processes
from vdscheck.measure.measure import Options, measure
from vdscheck.measurements import HostLoad
from vdscheck.model.absence import Absent, Reason, UnavailableError
from vdscheck.plugin import Host, measurement, probe
from vdscheck.probes.host import load
from vdscheck.probes.host.load import Reading

BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


@measurement
class Elders:
    """Which processes a probe takes for its own, and what ours is."""

    pids: tuple[int, ...]
    mine: int
    ours_ticks: int


@probe("test.elders")
def elders(host: Host) -> Elders:
    """Burns some time in a process of its own, and says whose it is."""
    found = own_processes.elders(host)
    subprocess.run([sys.executable, "-c", BURN.format(0.3)], check=True)
    return Elders(pids=found, mine=os.getpid(), ours_ticks=own_processes.tree_ticks(host, found[-1]))


def test_a_probe_knows_the_parent_of_probes_and_the_program_as_its_own() -> None:
    before = own_processes.tree_ticks(Host(), os.getpid())
    catalogue = assemble([("test", elders)])
    found: Elders = measure(Host(), catalogue.probes.values(), Options()).measurements["test.elders"].value
    assert len(found.pids) == 3
    assert found.pids[0] == found.mine
    assert found.pids[2] == os.getpid()
    assert found.ours_ticks - before >= 0.3 * os.sysconf("SC_CLK_TCK") - 2


def test_a_process_of_another_program_is_none_of_ours() -> None:
    script = (
        "from vdscheck.plugin import Host\n"
        "from vdscheck.linux import own_processes\n"
        "print(len(own_processes.elders(Host())))"
    )
    done = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "{script}"; true'], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_the_cpu_time_of_a_process_is_exact_and_of_one_that_is_gone_nothing() -> None:
    before = own_processes.cpu_time_ns((os.getpid(),))
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert own_processes.cpu_time_ns((os.getpid(),)) - before >= 50_000_000
    with subprocess.Popen(["true"]) as done:
        done.wait()
    assert own_processes.cpu_time_ns((done.pid,)) == 0


def test_to_settle_ends_when_the_others_rest_and_at_the_latest_at_its_limit() -> None:
    own_processes.settle(())
    own_processes.settle((os.getpid(),), limit_s=0.05)
    with subprocess.Popen([sys.executable, "-c", BURN.format(600)]) as busy:
        own_processes.settle((busy.pid,), limit_s=0.1)
        assert busy.poll() is None
        busy.kill()


def process(root: Path, pid: int, parent: int, ticks: tuple[int, int, int, int], children: str | None) -> None:
    folder = root / f"proc/{pid}"
    (folder / f"task/{pid}").mkdir(parents=True)
    before = "0 " * 9
    times = " ".join(map(str, ticks))
    (folder / "stat").write_text(f"{pid} (a) name) S {parent} {before}{times} 20 0 1 0\n")
    if children is not None:
        (folder / f"task/{pid}/children").write_text(children)


@pytest.mark.parametrize("told", [True, False], ids=["children are told", "children are looked for"])
def test_a_tree_is_a_process_all_below_it_and_those_that_it_waited_for(tmp_path: Path, *, told: bool) -> None:
    process(tmp_path, 10, 1, (1, 2, 3, 4), "11 12 " if told else None)
    process(tmp_path, 11, 10, (100, 0, 0, 0), "13" if told else None)
    process(tmp_path, 12, 10, (0, 1000, 0, 0), "" if told else None)
    process(tmp_path, 13, 11, (0, 0, 0, 10_000), "" if told else None)
    process(tmp_path, 20, 1, (77, 77, 77, 77), "" if told else None)
    assert own_processes.tree_ticks(Host(root=str(tmp_path)), 10) == 11_110
    assert own_processes.tree_ticks(Host(root=str(tmp_path)), 99) == 0


@given(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.1, 100))
def test_what_we_use_ourselves_is_not_the_work_of_others(before: int, ours: int, others: int, window_s: float) -> None:
    first = Reading(0.0, before, 5, 2)
    last = Reading(window_s, before + ours + others, 5 + ours, 2)
    assert load.busy_cpus(first, last, 0.01) == pytest.approx(others * 0.01 / window_s)
    assert load.busy_cpus(first, first, 0.01) == 0


@pytest.mark.parametrize(("text", "found"), [("0.00 0.01 0.05 1/80 4711\n", 0.0), ("3.20 1.00 0.50 2/80 1\n", 3.2)])
def test_the_load_is_the_first_number(text: str, found: float) -> None:
    assert load.load_average(text) == found


@pytest.mark.parametrize("text", ["", "\n", "none", "-1 0 0", "nan 0 0", "inf"])
def test_what_is_not_a_load_is_absent(text: str) -> None:
    with pytest.raises(UnavailableError) as refused:
        load.load_average(text)
    assert refused.value.absent.reason is Reason.ERROR


def measured(seconds: float) -> HostLoad:
    catalogue = assemble([("test", load.load)])
    options = Options(durations_s={"host.load": seconds})
    found = measure(Host(), catalogue.probes.values(), options).measurements["host.load"]
    assert not isinstance(found.outcome, Absent), found.outcome
    value: HostLoad = found.value
    return value


def test_a_process_of_others_counts_and_one_of_ours_does_not() -> None:
    burn = [sys.executable, "-c", BURN.format(60)]
    cpu = {min(os.sched_getaffinity(0))}
    others = subprocess.Popen(["sh", "-c", f'{burn[0]} -c "{burn[2]}"; true'], start_new_session=True)
    os.sched_setaffinity(others.pid, cpu)
    try:
        with_others = measured(1.0)
    finally:
        os.killpg(others.pid, 9)
        others.wait()
    assert with_others.busy_cpus > 0
    assert with_others.cpus == os.cpu_count()
    ours = [Reading(0.0, 100, 10, 2), Reading(1.0, 100 + 97, 10 + 97, 2)]
    assert load.busy_cpus(ours[0], ours[1], 0.01) == 0


def test_a_host_with_no_proc_stat_has_no_load_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("intr 0\n")
    with pytest.raises(UnavailableError):
        next(load.load.function(Host(root=str(tmp_path), ends_at=time.monotonic() + 0.01)))
