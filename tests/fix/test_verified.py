"""A fix can be made worse only by what it touches: load that comes beside it gives nothing back, what it does."""

import dataclasses
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.fix_hosts import Machine, catalogue, in_memory, taken
from tests.support.fix_namespace import in_namespace
from tests.support.program import plugin
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.fix.flow import Terms, carried_out
from vdscheck.fixes.sysctl import held
from vdscheck.measure.measure import Outcome
from vdscheck.measurements import KERNEL_KEYS, BootTruth, Conntrack, CpuPressure, FileHandles, Sysctls, TcpBuffers
from vdscheck.model.absence import Reason, unmeasured
from vdscheck.model.report import Measurements
from vdscheck.target.host import Host
from vdscheck.target.what_if import WhatIfHost

SOMAXCONN = "net.core.somaxconn"
TABLE = "net.netfilter.nf_conntrack_max"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")

STEAL = '''
from vdscheck.plugin import Host, Judgement, Severity, Verdict, check, measurement, probe

@measurement
class Stolen:
    """The steal column of /proc/stat."""

    ticks: int


@probe("acme.stolen", cheap=True, deadline_s=2.0)
def stolen(host: Host) -> Stolen:
    """Reads /proc/stat."""
    return Stolen(ticks=int(host.read("/proc/stat").split()[8]))


@check("acme.steal", severity=Severity.HIGH)
def steal(found: Stolen) -> Judgement:
    """Steal.

    Why: It is slow.
    False positives: none known
    By hand: cat /proc/stat
    Sources: proc_stat(5)
    """
    verdict = Verdict.PASS if found.ticks < 1_000_000 else Verdict.FAIL
    return Judgement(verdict=verdict, summary=f"{found.ticks} stolen ticks")
'''
PRESSURE = "some avg10={0} avg60={0} avg300={0} total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
MEMORY = """\
MemTotal: 4000000 kB
MemFree: {0} kB
MemAvailable: {0} kB
Buffers: 0 kB
Cached: 0 kB
SwapTotal: 0 kB
SwapFree: 0 kB
"""
RISING = """
rises() {  # a file over $1 that holds $2, and $3 as soon as the journal has an entry
  printf "$2" > calm; printf "$3" > loud
  mount --bind calm "$1"
  (while [ ! -e over ] && ! ls /var/lib/vdscheck/journal/*.json >/dev/null 2>&1; do sleep 0.01; done
   cat loud > calm) &
}
"""


def fixed(script: str, options: str, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """The report of a fix beside which something happens, and the keys after it."""
    done = in_namespace(
        f"{RISING}\n{script}\n"
        f'"$PYTHON" -m vdscheck --fix --yes --json --passive --only "sysctl.*" {options} > report.json; code\n'
        "touch over; cat report.json; keys",
        **more,
    )
    code, report, *keys = done.stdout.splitlines()
    found = dict(json.loads(report))
    assert done.stderr == "", done.stderr
    assert code == f"code {3 if found['fix']['outcome'] == 'given-back' else 0}"
    return found, keys


def verdict(report: dict[str, Any], name: str) -> str:
    return str(next(each["verdict"] for each in report["findings"] if each["id"] == name))


@needs_root
@pytest.mark.parametrize(
    ("file", "calm", "loud", "check"),
    [
        ("/proc/pressure/cpu", PRESSURE.format("0.00"), PRESSURE.format("99.00"), "cpu.pressure"),
        pytest.param(
            "/proc/meminfo",
            MEMORY.format(3000000),
            MEMORY.format(10),
            "memory.available",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["pressure", "memory"],
)
def test_load_that_rises_while_a_fix_is_verified_gives_nothing_back(
    file: str, calm: str, loud: str, check: str
) -> None:
    written = [text.replace("\n", "\\n") for text in (calm, loud)]
    report, keys = fixed(f"rises {file} {' '.join(map(shlex.quote, written))}", f"--only {check}")
    assert report["fix"]["outcome"] == "applied", report["fix"]["detail"]
    assert verdict(report, check) in {"warn", "fail"}, "the report says how it is now"
    assert keys[0] == f"{SOMAXCONN} = 4096"


@needs_root
@pytest.mark.slow
def test_steal_that_rises_beside_a_fix_gives_nothing_back(tmp_path: Path) -> None:
    plugins = plugin(tmp_path, STEAL)
    stat = [f"cpu 1 1 1 1 1 1 1 {ticks} 1 1\\n" for ticks in (0, 9_000_000)]
    report, _ = fixed(
        f"cp -r {shlex.quote(str(plugins))} plugins; export PYTHONPATH=$PWD/plugins; chmod 755 . plugins\n"
        f"rises /proc/stat {' '.join(map(shlex.quote, stat))}",
        "--only acme.steal",
    )
    assert report["fix"]["outcome"] == "applied", report["fix"]["detail"]
    assert verdict(report, "acme.steal") in {"warn", "fail"}


@needs_root
@pytest.mark.slow
def test_a_real_load_that_comes_with_a_fix_gives_nothing_back() -> None:
    hog = "while :; do :; done"
    start = f'for each in 1 2 3; do sh -c {shlex.quote(hog)} & hogs="$hogs $!"; done'
    done = in_namespace(
        f"""
        (while [ ! -e over ] && ! ls /var/lib/vdscheck/journal/*.json >/dev/null 2>&1; do sleep 0.01; done
         {start}; echo $hogs > hogs; wait) &
        fix --yes --json --only 'cpu.*' --only 'memory.*' > report.json; code; touch over
        while [ ! -e hogs ]; do sleep 0.05; done; kill $(cat hogs); wait
        keys
        """
    )
    assert done.stdout.splitlines()[:2] == ["code 0", f"{SOMAXCONN} = 4096"], done


@needs_root
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("echo 0 > /proc/sys/net/ipv4/tcp_syncookies", "sysctl.syn-backlog got worse"),
        pytest.param(
            "echo 'net.ipv4.tcp_tw_reuse = 2' > /etc/sysctl.d/99-late.conf", "99-late.conf", marks=pytest.mark.slow
        ),
        pytest.param(
            "echo 2 > /proc/sys/net/ipv4/tcp_tw_reuse",
            "net.ipv4.tcp_tw_reuse is 2, and 1 was set",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_gets_worse_in_what_a_fix_touches_gives_it_back(spoil: str, why: str) -> None:
    watch = "while [ ! -e /etc/sysctl.d/90-vdscheck.conf ]; do sleep 0.005; done"
    done = in_namespace(
        f"""
        (timeout 100 sh -c {shlex.quote(watch)} && {spoil}) &
        # The drop-in is the last that is written: what happens from then on is seen by verifying, or not at all.
        strace -f -o /dev/null -e trace=fsync -e inject=fsync:delay_exit=300000:when=4 \\
          "$PYTHON" -m vdscheck --fix --yes --json --passive --only 'sysctl.*' > report.json; code
        cat report.json
        keys
        """
    )
    code, report, *keys = done.stdout.splitlines()
    found = json.loads(report)["fix"]
    assert (code, found["outcome"]) == ("code 3", "given-back"), found
    assert why in found["detail"]
    assert keys[0] == f"{SOMAXCONN} = 128"


# On made-up machines


@pytest.fixture
def machine() -> Iterator[Machine]:
    with in_memory() as folder:
        yield Machine(folder / "root", "web")


def busier(machine: Machine, **fields: Any) -> Callable[[Host, Iterable[ProbeEntry]], Outcome]:
    """Measures as the machine does, but connections and open files come from the first measurement after a fix on."""

    def measure(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
        outcome = machine.measure(host, entries)
        if not isinstance(host, WhatIfHost):
            for name, each in fields.items():
                key = f"sysctl.{name.replace('_', '-')}"
                outcome.measurements[key] = taken(replace(outcome.measurements[key].value, **each))
        return outcome

    return measure


def test_a_table_that_fills_beside_a_fix_of_something_else_gives_nothing_back(machine: Machine) -> None:
    full = {
        "conntrack_table": {"count": 262143},
        "open_files": {"allocated": 2466169},
        "tcp_counters": {"time_wait": 9999},
    }
    assert machine.fix(measure=busier(machine, **full)).outcome == "applied"


def test_a_measuring_that_was_ended_after_the_changes_is_done_once_more(machine: Machine) -> None:
    seen = machine.measure().measurements
    asked: list[list[str]] = []

    def measure(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
        if isinstance(host, WhatIfHost) or not (machine.root / "var/lib/vdscheck/journal").is_dir():
            return machine.measure(host, entries)
        asked.append([each.probe.id for each in entries])
        gone = {name: replace(each, value=None) for name, each in seen.items()}
        return Outcome(gone, failed=True) if len(asked) == 1 else machine.measure(host, entries)

    bench = replace(machine.bench(measure=measure), entries=list(catalogue().probes.values()))
    result = carried_out(bench, seen, Terms(True, False, ("vdscheck", "--fix")))
    assert result.record.outcome == "applied", result.record
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert (result.complete, result.failed) == (True, False)


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_pause_took_from_the_verification_is_measured_again(machine: Machine, times: int) -> None:
    """After it every measurement that was under way is too late, though nobody ended the measuring."""
    seen = machine.measure().measurements
    late = unmeasured(Reason.TIMEOUT, "too late")
    asked: list[set[str]] = []

    def measure(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
        found = machine.measure(host, entries)
        if isinstance(host, WhatIfHost) or not (machine.root / "var/lib/vdscheck/journal").is_dir():
            return found
        asked.append(set(found.measurements))
        if len(asked) > times:
            return found
        return replace(
            found, measurements={n: replace(e, value=None, absent=late) for n, e in found.measurements.items()}
        )

    bench = replace(machine.bench(measure=measure), entries=list(catalogue().probes.values()))
    result = carried_out(bench, seen, Terms(True, False, ("vdscheck", "--fix")))
    had = {name for name in asked[0] if seen[name].absent is None}
    assert len(asked) >= 2
    assert had <= asked[1]
    if times == 1:
        assert (result.record.outcome, result.failed) == ("applied", False)
        assert all(result.measurements[name].absent is None for name in had)
    else:
        assert (result.record.outcome, result.failed) in {("applied", True), ("given-back", False)}


def test_a_measuring_that_is_ended_twice_after_a_fix_is_not_called_complete(machine: Machine) -> None:
    seen = machine.measure().measurements

    def measure(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
        found = machine.measure(host, entries)
        verifying = (machine.root / "var/lib/vdscheck/journal").is_dir() and not isinstance(host, WhatIfHost)
        return replace(found, complete=False, failed=True) if verifying else found

    bench = replace(machine.bench(measure=measure), entries=list(catalogue().probes.values()))
    result = carried_out(bench, seen, Terms(True, False, ("vdscheck", "--fix")))
    assert result.record.outcome == "applied", result.record
    assert (result.complete, result.failed) == (False, True)


def test_a_table_that_fills_beside_a_fix_of_its_size_gives_nothing_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "root", "kubernetes-node")
    machine.file("etc/modules-load.d/conntrack.conf", "nf_conntrack\n")
    machine.write(TABLE, "1000")
    record = machine.fix(measure=busier(machine, conntrack_table={"count": 10**9}))
    assert TABLE in {each.key for each in record.changes}
    assert record.outcome == "applied", record.detail


# The table


def test_every_setting_of_the_table_stands_in_the_field_it_says() -> None:
    known = {each.provides for each in catalogue().probes.values()}
    assert {*held.SETTINGS, *held.EVERY_SETTING} <= known
    for kind, fields in held.SETTINGS.items():
        assert {each.field for each in fields} <= {each.name for each in dataclasses.fields(kind)}
        for each in fields:
            assert held.holds(kind, [each.key])
            assert not held.holds(kind, [SOMAXCONN])
    for kind in held.EVERY_SETTING:
        assert all(held.holds(kind, [key]) for key in KERNEL_KEYS)
    assert not held.holds(CpuPressure, KERNEL_KEYS)


def test_what_a_change_would_make_is_what_it_can_have_moved(machine: Machine) -> None:
    """The same table foresees and verifies: what is foreseen of a change is seen in full after it."""
    before: Measurements = machine.measure().measurements | {
        "sysctl.buffers": taken(TcpBuffers(receive_max_bytes=1, send_max_bytes=2))
    }
    values = {
        TABLE: "5",
        "fs.file-max": "7",
        SOMAXCONN: "9",
        "net.ipv4.tcp_rmem": "1 2 30",
        "net.ipv4.tcp_wmem": "1 2 40",
    }
    foreseen = held.supposed(before, values, None)
    busy = dict(foreseen)
    busy["sysctl.conntrack-table"] = taken(replace(foreseen["sysctl.conntrack-table"].value, count=77))
    busy["sysctl.swap"] = taken(replace(foreseen["sysctl.swap"].value, used_bytes=1 << 29))
    moved = held.moved(before, busy, values)
    assert {name: each.value for name, each in moved.items()} == {name: each.value for name, each in foreseen.items()}
    kinds = {type(each.value) for name, each in moved.items() if each.value != before[name].value}
    assert kinds == {Sysctls, Conntrack, FileHandles, TcpBuffers}
    assert BootTruth not in kinds


def test_what_is_not_measured_after_a_change_counts_as_not_known(machine: Machine) -> None:
    before = machine.measure().measurements
    gone = replace(before["sysctl.values"], value=None)
    after = {name: replace(each, value=None) for name, each in before.items()}
    moved = held.moved(before, after, [SOMAXCONN])
    assert moved["sysctl.values"] == gone
    assert moved["sysctl.conntrack-table"] == before["sysctl.conntrack-table"]
    assert held.moved(before, after, [TABLE])["sysctl.conntrack-table"].value is None
