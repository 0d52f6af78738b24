"""What could not be seen is not what needs no change: a fix says so, changes nothing, and ends with 3."""

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import boot_hosts
from tests.support.fix_hosts import TODAY, VERSION, Machine, catalogue, in_memory, taken
from tests.support.fix_namespace import in_namespace
from tests.support.program import plugin, vdscheck
from tests.support.reports import middling, script
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.cli import reference
from vdscheck.fix.flow import Terms, carried_out
from vdscheck.judge.judge import judge
from vdscheck.measure.measure import Outcome
from vdscheck.model.absence import Reason, not_applicable, unmeasured
from vdscheck.model.fixes import FixRecord, LeftAlone
from vdscheck.model.report import Taken
from vdscheck.render.text.fix import fix_text
from vdscheck.ruleset import ruleset
from vdscheck.target.host import Host
from vdscheck.target.what_if import WhatIfHost

REUSE = "net.ipv4.tcp_tw_reuse"
SCHEMA = json.loads(reference.schema())
NEEDED = ("sysctl.boot", "sysctl.node-agents", "sysctl.owner", "sysctl.values")
"""Whose absence leaves every key undecided."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")


@pytest.fixture
def machine() -> Iterator[Machine]:
    with in_memory() as folder:
        yield Machine(folder / "root", "web")


def absent(reason: Reason) -> Taken:
    return Taken("2026-11-25T00:00:00Z", 5.0, "made up", None, unmeasured(reason, f"it was {reason.value}"))


def without(
    machine: Machine, name: str, what: Taken, looks: Iterable[int] = range(100)
) -> Callable[[Host, Iterable[ProbeEntry]], Outcome]:
    """Measures as the machine does, but for one measurement in some of its looks."""
    chosen, seen = set(looks), [0]

    def measure(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
        outcome = machine.measure(host, entries)
        if not isinstance(host, WhatIfHost):
            if seen[0] in chosen:
                outcome.measurements[name] = what
            seen[0] += 1
        return outcome

    return measure


def fixed(machine: Machine, measure: Callable[[Host, Iterable[ProbeEntry]], Outcome], **more: Any) -> FixRecord:
    """A fix whose first measurement is that one's as well."""
    first = measure(machine.host, ())
    bench = machine.bench(measure=measure)
    terms = Terms(more.pop("yes", True), more.pop("dry_run", False), ("vdscheck", "--fix"))
    return carried_out(bench, first.measurements, terms).record


@pytest.mark.parametrize(
    "reason",
    [
        Reason.TIMEOUT,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (Reason.PERMISSION, Reason.ERROR, Reason.UNSUPPORTED)),
    ],
)
@pytest.mark.parametrize("name", NEEDED)
def test_a_measurement_that_every_key_needs_leaves_the_fix_undecided(
    machine: Machine, name: str, reason: Reason
) -> None:
    before = machine.values, machine.files
    record = fixed(machine, without(machine, name, absent(reason)))
    assert record.outcome == "undecided"
    assert {each.key: each.why for each in record.left_alone}[name].endswith(
        f"could not be seen: it was {reason.value}"
    )
    assert (machine.values, machine.files) == before
    assert not (machine.root / "var").exists()


@pytest.mark.parametrize("name", ["sysctl.boot", *(pytest.param(e, marks=pytest.mark.slow) for e in NEEDED[1:])])
def test_what_is_seen_at_the_second_look_is_fixed(machine: Machine, name: str) -> None:
    record = fixed(machine, without(machine, name, absent(Reason.TIMEOUT), looks=[0]))
    assert record.outcome == "applied", record


def key_gone(machine: Machine, key: str, what: Any) -> Callable[[Host, Iterable[ProbeEntry]], Outcome]:
    def measure(host: Host, entries: Iterable[ProbeEntry]) -> Outcome:
        outcome = machine.measure(host, entries)
        if "sysctl.values" in outcome.measurements:
            found = outcome.measurements["sysctl.values"].value
            values = {name: value for name, value in found.values.items() if name != key}
            outcome.measurements["sysctl.values"] = taken(replace(found, values=values, missing={key: what}))
        return outcome

    return measure


@pytest.mark.parametrize("reason", [Reason.PERMISSION, pytest.param(Reason.ERROR, marks=pytest.mark.slow)])
@pytest.mark.parametrize("key", [REUSE, "net.core.somaxconn", "vm.swappiness"])
def test_one_key_that_cannot_be_read_is_named_and_nothing_is_changed(
    machine: Machine, key: str, reason: Reason
) -> None:
    before = machine.values, machine.files
    record = fixed(machine, key_gone(machine, key, unmeasured(reason, "no")))
    assert record.outcome == "undecided"
    assert LeftAlone(key, "it could not be seen: no") in record.left_alone
    assert (machine.values, machine.files) == before


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (REUSE, not_applicable("not here")),
        (REUSE, unmeasured(Reason.UNSUPPORTED, "this kernel was built without it")),
        ("kernel.panic", unmeasured(Reason.ERROR, "a key that no selected check judges")),
    ],
)
def test_a_key_that_is_not_there_or_that_nobody_judges_decides_nothing(machine: Machine, key: str, what: Any) -> None:
    assert fixed(machine, key_gone(machine, key, what)).outcome == "applied"


def too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 3 << 30)


def a_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


@needs_root
@pytest.mark.parametrize("unreadable", [too_large, a_device])
def test_a_file_that_cannot_be_read_leaves_undecided_what_it_may_set(
    machine: Machine, unreadable: Callable[[Path], None]
) -> None:
    assert fixed(machine, machine.measure).outcome == "applied"
    before = machine.values, machine.files
    unreadable(machine.root / "etc/sysctl.d/95-later.conf")
    record = fixed(machine, machine.measure)
    assert record.outcome == "undecided"
    said = {each.key: each.why for each in record.left_alone}[REUSE]
    assert said.endswith("/etc/sysctl.d/95-later.conf cannot be read here, and may set it")
    os.unlink(machine.root / "etc/sysctl.d/95-later.conf")
    assert (machine.values, machine.files) == before


@needs_root
def test_a_file_that_is_read_before_ours_decides_nothing_of_what_ours_sets(machine: Machine) -> None:
    too_large(machine.root / "etc/sysctl.d/10-before.conf")
    record = fixed(machine, machine.measure, dry_run=True)
    assert record.outcome == "planned"
    left = {each.key for each in record.left_alone}
    assert left
    assert left.isdisjoint(each.key for each in record.changes)


@needs_root
def test_an_image_with_a_file_that_cannot_be_read_is_undecided(tmp_path: Path) -> None:
    boot_hosts.host(tmp_path)
    (tmp_path / "etc/sysctl.d").mkdir(parents=True, exist_ok=True)
    too_large(tmp_path / "etc/sysctl.d/99-x.conf")
    done = vdscheck("--root", str(tmp_path), "--fix", "--yes", "--passive", "--json", "--profile", "web")
    assert done.returncode == 3, done.stderr
    fix = json.loads(done.stdout)["fix"]
    assert fix["outcome"] == "undecided"
    assert any("99-x.conf cannot be read here" in each["why"] for each in fix["left_alone"])
    assert not (tmp_path / "var/lib/vdscheck").exists()


def test_a_plan_that_is_only_shown_names_what_could_not_be_seen(machine: Machine) -> None:
    record = fixed(machine, key_gone(machine, REUSE, unmeasured(Reason.PERMISSION, "no")), dry_run=True)
    assert record.outcome == "planned"
    assert record.left_alone[0] == LeftAlone(REUSE, "it could not be seen: no")
    assert {each.key for each in record.changes}.isdisjoint({REUSE})


def test_where_nothing_is_selected_that_judges_a_setting_there_is_nothing_to_see(machine: Machine) -> None:
    bench = machine.bench(measure=without(machine, "sysctl.values", absent(Reason.TIMEOUT)))
    rules = ruleset.build(catalogue(), ["redis"], {"only": ["redis.latency"]}, VERSION)
    bench.judge = lambda measurements: judge(catalogue(), rules, measurements, TODAY)
    first = bench.measure(machine.host, ()).measurements
    assert carried_out(bench, first, Terms(yes=True, dry_run=False, command=())).record.outcome == "nothing-to-do"


def test_a_fix_that_is_undecided_looks_so_in_text_and_script() -> None:
    record = FixRecord(
        id=None,
        outcome="undecided",
        detail="what could not be seen may need a change",
        score_before=70,
        score_promised=70,
        changes=(),
        left_alone=(LeftAlone("sysctl.boot", "took longer than 10 s"),),
    )
    text = fix_text(record, width=80, colour=False, utf8=True).decode()
    assert "FIX  undecided: not all settings could be seen, and nothing was changed" in text
    assert "left alone: sysctl.boot: took longer than 10 s" in text
    assert "nothing to do" not in text
    assert b"Nothing to do" not in script(replace(middling(), fix=record))
    assert b"Undecided" in script(replace(middling(), fix=record))


# The program itself


def outcome(text: str) -> dict[str, Any]:
    report = json.loads(text)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return dict(report["fix"])


@needs_root
@pytest.mark.parametrize(
    ("hide", "named"),
    [
        ("mount -t tmpfs none /proc", "sysctl.owner"),
        pytest.param("mount -t tmpfs none /proc/sys", "/proc/sys", marks=pytest.mark.slow),
        pytest.param(
            "mount --bind /dev/null /proc/sys/net/core/somaxconn", "net.core.somaxconn", marks=pytest.mark.slow
        ),
    ],
    ids=["proc", "proc-sys", "one-key"],
)
def test_a_fix_that_cannot_look_is_undecided_and_ends_with_3(hide: str, named: str) -> None:
    done = in_namespace(
        f"""
        {hide}
        fix --yes --json > report.json; code
        ls -A /etc/sysctl.d /var/lib/vdscheck | tr '\\n' ' '; echo
        fix --dry-run --json > plan.json; code
        fix --yes; code
        cat report.json plan.json
        """
    )
    code, left, planned, *shown, report, plan = done.stdout.splitlines()
    assert (code, left, planned, shown[-1]) == (
        "code 3",
        "/etc/sysctl.d:  /var/lib/vdscheck: ",
        "code 0",
        "code 3",
    ), done
    assert any("undecided" in line for line in shown)
    assert not any("nothing to do" in line for line in shown)
    for text in (report, plan):
        found = outcome(text)
        assert named in {each["key"] for each in found["left_alone"]}, found
    assert outcome(report)["outcome"] == "undecided"
    assert done.stderr == ""


def test_an_image_whose_next_boot_is_not_seen_is_undecided(tmp_path: Path) -> None:
    root = tmp_path / "image"
    boot_hosts.host(root)
    slow = plugin(
        tmp_path,
        "from vdscheck.probes.sysctl.boot import predict as boot\n"
        "import time\n"
        "boot.booting_kernel = lambda _host: time.sleep(60)\n"
        "object.__setattr__(boot.boot_truth, 'deadline_s', 0.2)\n",
    )
    done = vdscheck("--fix", "--yes", "--json", "--passive", "--root", str(root), "--only", "sysctl.*", plugins=slow)
    found = outcome(done.stdout)
    assert (done.returncode, found["outcome"]) == (3, "undecided"), found
    assert "sysctl.boot" in {each["key"] for each in found["left_alone"]}
    assert not (root / "etc/sysctl.d/90-vdscheck.conf").exists()
