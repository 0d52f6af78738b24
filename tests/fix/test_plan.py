"""What `--fix` plans: which keys, which values, what it leaves alone and why, and that nothing ever gets worse."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.fix_hosts import DEFAULTS, Machine, mentioned_later, scatter
from vdscheck.fix.plan import worse
from vdscheck.fixes.sysctl.boot import FILE as DROP_IN
from vdscheck.measurements import NodeAgents
from vdscheck.model.judgement import Finding, Verdict

PROFILES = ("web", "redis", "postgres", "kubernetes-node", "latency")
SOMAXCONN, REUSE, FORWARD = "net.core.somaxconn", "net.ipv4.tcp_tw_reuse", "net.ipv4.ip_forward"
WELL = {
    REUSE: "1",
    "net.ipv4.conf.all.rp_filter": "2",
    "net.ipv4.tcp_slow_start_after_idle": "0",
}
"""What a kernel lacks for the profile web."""
MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
BY_HAND = "vm.overcommit_memory"
"""Strict overcommit may cost a running service its memory, so only a person sets it."""


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="vdscheck-") as folder:
        yield Path(folder) / "root"


def web(root: Path) -> Machine:
    """A machine on which one thing is wrong: tcp_tw_reuse."""
    machine = Machine(root, "web")
    lines = {key: value for key, value in WELL.items() if key != REUSE}
    for key, value in lines.items():
        machine.write(key, value)
    machine.file("etc/sysctl.d/10-well.conf", "".join(f"{key} = {value}\n" for key, value in lines.items()))
    return machine


def planned(machine: Machine) -> dict[str, tuple[str | None, str | None, str, bool]]:
    """Of each change: now, at boot, wanted, and whether a line is written."""
    record = machine.fix(dry_run=True)
    return {each.key: (each.before, each.at_boot, each.wanted, each.file is not None) for each in record.changes}


def left(machine: Machine) -> dict[str, str]:
    return {each.key: each.why for each in machine.fix(dry_run=True).left_alone}


# Which values


def test_what_is_wrong_now_and_at_boot_is_set_and_kept(root: Path) -> None:
    assert planned(web(root)) == {REUSE: ("2", "2", "1", True)}


def test_what_is_better_than_its_limit_is_never_lowered(root: Path) -> None:
    machine = web(root)
    machine.write(SOMAXCONN, "65535")
    machine.file("etc/sysctl.d/50-old.conf", f"{SOMAXCONN} = 1024\n")
    assert planned(machine)[SOMAXCONN] == ("65535", "1024", "65535", True)


def test_a_value_that_the_next_boot_brings_anyway_is_set_without_a_line(root: Path) -> None:
    machine = web(root)
    machine.write(SOMAXCONN, "128")
    assert planned(machine)[SOMAXCONN] == ("128", "4096", "4096", False)


def test_also_where_a_later_file_brings_it(root: Path) -> None:
    machine = web(root)
    machine.file("etc/sysctl.d/99-theirs.conf", f"{REUSE} = 1\n{SOMAXCONN} = 8192\n")
    assert planned(machine) == {REUSE: ("2", "1", "1", False), SOMAXCONN: ("4096", "8192", "8192", False)}
    assert machine.fix().score_promised == 100


def test_a_value_that_is_right_now_and_lost_at_boot_is_only_kept(root: Path) -> None:
    machine = web(root)
    machine.write(REUSE, "1")
    assert planned(machine) == {REUSE: ("1", "2", "1", True)}


def test_two_keys_of_one_check_are_both_mended(root: Path) -> None:
    machine = web(root)
    machine.write("net.ipv4.tcp_syncookies", "0")
    machine.write("net.ipv4.tcp_max_syn_backlog", "128")
    machine.file("etc/sysctl.d/20-flood.conf", "net.ipv4.tcp_syncookies=0\nnet.ipv4.tcp_max_syn_backlog=128\n")
    assert set(planned(machine)) == {REUSE, "net.ipv4.tcp_syncookies", "net.ipv4.tcp_max_syn_backlog"}
    assert machine.fix().outcome == "applied"
    assert machine.verdicts["sysctl.syn-backlog"] is Verdict.PASS
    assert machine.fix().outcome == "nothing-to-do"


def test_of_two_findings_that_disagree_the_value_that_satisfies_both_is_found(root: Path) -> None:
    machine = Machine(root, "kubernetes-node")
    machine.write("net.ipv4.conf.default.rp_filter", "1")
    machine.file("etc/sysctl.d/20-a.conf", "net.ipv4.conf.all.rp_filter = 1\nnet.ipv4.conf.default.rp_filter = 1\n")
    assert planned(machine)["net.ipv4.conf.all.rp_filter"] == ("0", "1", "2", True)


def test_the_plan_says_who_wants_it_and_what_may_be_restarted(root: Path) -> None:
    machine = web(root)
    machine.write(SOMAXCONN, "128")
    changes = {each.key: each for each in machine.fix(dry_run=True).changes}
    assert changes[REUSE].why == "sysctl.tcp-tw-reuse (web: origin)"
    assert changes[REUSE].may_restart == ()
    assert changes[SOMAXCONN].may_restart == ("nginx",)
    assert changes[REUSE].file == DROP_IN


def test_of_several_profiles_the_one_is_named_that_asks_for_it(root: Path) -> None:
    machine = Machine(root, "redis", "latency")
    machine.write(SOMAXCONN, "128")
    changes = {each.key: each for each in machine.fix(dry_run=True).changes}
    assert "sysctl.somaxconn (latency: tuned)" in changes[SOMAXCONN].why
    assert changes[REUSE].why == "sysctl.tcp-tw-reuse (latency: origin)"


def test_the_promised_score_is_the_one_that_is_found(root: Path) -> None:
    machine = Machine(root, "web")
    machine.write(SOMAXCONN, "1")
    record = machine.fix()
    assert record.score_before is not None
    assert record.score_promised is not None
    assert record.score_before < record.score_promised
    assert machine.judged.score.value == record.score_promised


# What is left alone


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{REUSE} = 0", "/etc/sysctl.d/99-theirs.conf:2 sets it to 0 after"),
        ("net/ipv4/tcp_tw_reuse=2", "/etc/sysctl.d/99-theirs.conf:2 sets it to 2 after"),
        (f"-{REUSE}", "/etc/sysctl.d/99-theirs.conf:2 keeps it from being set: take that line out"),
        (f"{REUSE} = banana", "/etc/sysctl.d/99-theirs.conf:2 sets it to 'banana' after"),
        (f"{REUSE} =", "/etc/sysctl.d/99-theirs.conf:2 sets it to '' after"),
    ],
)
def test_what_a_later_file_overrides_is_named_with_its_line(root: Path, line: str, why: str) -> None:
    machine = web(root)
    machine.file("etc/sysctl.d/99-theirs.conf", f"# theirs\n{line}\n")
    assert planned(machine) == {}
    assert why in left(machine)[REUSE]


def test_a_file_that_never_ends_is_named_by_each_key_that_it_keeps_from_being_set(root: Path) -> None:
    machine = web(root)
    (machine.root / "etc/sysctl.d").mkdir(exist_ok=True)
    os.mkfifo(machine.root / "etc/sysctl.d/99-theirs.conf")
    assert planned(machine) == {}
    assert "/etc/sysctl.d/99-theirs.conf: is no file" in left(machine)[REUSE]


def test_a_glob_in_a_later_file_does_not_override_a_line_that_names_the_key(root: Path) -> None:
    machine = web(root)
    machine.file("etc/sysctl.d/99-theirs.conf", "net.ipv4.tcp_tw_* = 0\n")
    assert planned(machine)[REUSE] == ("2", "0", "1", True)
    assert machine.fix().outcome == "applied"


def test_another_name_of_the_same_value_is_seen(root: Path) -> None:
    machine = Machine(root, "kubernetes-node")
    machine.file("etc/sysctl.d/99-theirs.conf", "net.ipv4.conf.all.forwarding = 0\n")
    assert FORWARD not in planned(machine)
    assert "/etc/sysctl.d/99-theirs.conf:1" in left(machine)[FORWARD]


def test_an_init_that_applies_nothing_is_said(root: Path) -> None:
    machine = web(root)
    link = machine.root / "usr/lib/systemd/system/sysinit.target.wants/systemd-sysctl.service"
    link.unlink()
    assert planned(machine) == {}
    assert "nothing in sysctl.d is applied at boot" in left(machine)[REUSE]


def test_what_a_program_sets_after_each_boot_is_left_to_it(root: Path) -> None:
    machine = web(root)
    machine.file("etc/rc.local", f"#!/bin/sh\nsysctl -w {REUSE}=0\n")
    (machine.root / "etc/rc.local").chmod(0o755)
    assert planned(machine) == {}
    assert "rc.local sets it to 0 after each boot: let that say 1 (/etc/rc.local)" in left(machine)[REUSE]


def test_a_program_that_sets_the_wanted_value_needs_no_line_of_ours(root: Path) -> None:
    machine = web(root)
    machine.file("etc/rc.local", f"#!/bin/sh\nsysctl -w {REUSE}=1\n")
    (machine.root / "etc/rc.local").chmod(0o755)
    assert planned(machine) == {REUSE: ("2", "1", "1", False)}
    assert machine.fix().outcome == "applied"


@pytest.mark.parametrize("key", [FORWARD, "net.ipv4.conf.all.rp_filter", "vm.overcommit_memory"])
def test_on_a_kubernetes_node_what_its_agents_set_is_theirs(root: Path, key: str) -> None:
    machine = Machine(root, "kubernetes-node")
    machine.write("net.ipv4.conf.all.rp_filter", "1")
    machine.file("etc/sysctl.d/10-a.conf", "net.ipv4.conf.all.rp_filter = 1\n")
    assert key in planned(machine)
    machine.agents = NodeAgents(is_node=True, evidence=("/var/lib/kubelet/config.yaml",))
    assert key not in planned(machine)
    assert "/var/lib/kubelet/config.yaml" in left(machine)[key]


def test_the_kernel_of_a_containers_host_is_not_touched(root: Path) -> None:
    machine = Machine(root, "web", ours=False)
    assert planned(machine) == {}
    assert "the kernel is not this machine's own (a clue): ask who runs the host" in left(machine)[REUSE]


def test_a_key_that_exists_only_once_a_module_is_loaded_is_left_alone(root: Path) -> None:
    machine = Machine(root, "kubernetes-node")
    machine.write("net.netfilter.nf_conntrack_max", "1000")
    assert "net.netfilter.nf_conntrack_max" not in planned(machine)
    assert "/etc/modules-load.d" in left(machine)["net.netfilter.nf_conntrack_max"]


def test_a_key_on_which_the_profiles_conflict_is_left_alone(root: Path) -> None:
    machine = Machine(root, "redis", "postgres")
    assert BY_HAND not in planned(machine)
    assert "no value satisfies both" in left(machine)["sysctl.overcommit"]


def test_what_may_cost_a_service_its_memory_is_for_a_person(root: Path) -> None:
    machine = Machine(root, "postgres")
    assert BY_HAND not in planned(machine)
    assert any(each.fix is not None and not each.fix.safe for each in machine.judged.findings)


# Never worse


def test_worse_is_less_credit_or_what_was_known_and_is_not(root: Path) -> None:
    finding = next(each for each in Machine(root, "web").judged.findings if each.id == "sysctl.somaxconn")
    order = {
        (Verdict.PASS, Verdict.WARN): True,
        (Verdict.PASS, Verdict.UNKNOWN): True,
        (Verdict.PASS, Verdict.WAIVED): True,
        (Verdict.PASS, Verdict.NOT_APPLICABLE): False,
        (Verdict.WARN, Verdict.FAIL): True,
        (Verdict.WARN, Verdict.UNKNOWN): False,
        (Verdict.FAIL, Verdict.WARN): False,
        (Verdict.FAIL, Verdict.FAIL): False,
        (Verdict.UNKNOWN, Verdict.FAIL): False,
        (Verdict.NOT_APPLICABLE, Verdict.FAIL): False,
    }
    for (before, after), said in order.items():
        found = worse([replace(finding, verdict=before)], [replace(finding, verdict=after)])
        assert bool(found) is said, (before, after)


def _holds(machine: Machine, seed: int) -> int:
    """Fix a scattered machine: nothing is worse, and all that is ours to set passes. How many keys were set."""
    scatter(machine, seed)
    findings = machine.judged.findings
    record = machine.fix()
    where = (machine.profiles, seed, record)
    assert record.outcome in {"applied", "nothing-to-do"}, where
    judged = machine.judged
    assert worse(findings, judged.findings) == [], where
    assert judged.score.value == record.score_promised, where
    assert machine.fix().outcome == "nothing-to-do", where
    later = mentioned_later(machine)
    for finding in judged.findings:
        if finding.verdict not in (Verdict.WARN, Verdict.FAIL):
            continue
        keys = [key for key in DEFAULTS if key in finding.summary]
        theirs = ("net.ipv4.conf.all.forwarding", "net.ipv4.conf.*", "net.ipv4.tcp_*", "vm.*", "net.*.somaxconn")
        overridden = any(key in later for key in keys) or any(each in later for each in theirs)
        of_a_module = "net.netfilter.nf_conntrack_max" in keys
        # systemd-sysctl leaves a key that is set to the same value again where it stood first, and a line between
        # that sets it by its other name comes after both: ours changes nothing, and the line is named.
        lines = [each.why for each in record.left_alone if each.key in keys]
        other_name = keys == ["net.ipv4.ip_forward"] and any("let that line say" in why for why in lines)
        assert keys, where
        assert overridden or of_a_module or other_name or BY_HAND in keys, (finding.name, finding.summary, where)
    machine.reboot()
    rebooted = machine.values
    for each in record.changes:
        assert rebooted[each.key].split() == each.wanted.split(), where
    return len(record.changes)


@pytest.mark.parametrize("profile", PROFILES)
def test_random_states_never_get_worse_and_what_is_ours_passes(profile: str) -> None:
    assert _many(profile, 5, first=100_000) >= 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_thousand_random_states_never_get_worse_and_what_is_ours_passes(profile: str) -> None:
    assert _many(profile, 1000, first=0) >= 2000


def _many(profile: str, count: int, *, first: int) -> int:
    changes = 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory(dir=MEMORY, prefix="vdscheck-") as folder:
            changes += _holds(Machine(Path(folder) / "root", profile), seed)
    return changes


SPARED = {
    "sysctl.tcp-tw-reuse": REUSE,
    "sysctl.rp-filter": "net.ipv4.conf.all.rp_filter",
    "sysctl.slow-start-after-idle": "net.ipv4.tcp_slow_start_after_idle",
    "sysctl.somaxconn": SOMAXCONN,
}


@pytest.mark.parametrize("wrong", [1, 2, 3, 4])
@pytest.mark.parametrize("harmful", [1, 2])
def test_a_change_that_makes_another_finding_worse_is_left_and_the_rest_is_planned(
    root: Path, monkeypatch: pytest.MonkeyPatch, wrong: int, harmful: int
) -> None:
    """What passes by a harmful change stands for the finding that it makes worse."""
    machine = web(root)
    asked = list(SPARED)[:wrong]
    for check in asked:
        machine.write(SPARED[check], DEFAULTS[SPARED[check]] if check != "sysctl.somaxconn" else "128")
    (root / "etc/sysctl.d/10-well.conf").unlink()
    bad = {check for check in list(SPARED)[:harmful] if check in asked}

    def said(_: object, after: Iterable[Finding]) -> list[str]:
        return [f"acme.{each.id}" for each in after if each.id in bad and each.verdict is Verdict.PASS]

    before = planned(machine)
    monkeypatch.setattr("vdscheck.fix.plan.worse", said)
    record = machine.fix(dry_run=True)
    assert {SPARED[check] for check in asked} <= set(before)
    assert {each.key for each in record.changes} == set(before) - {SPARED[check] for check in bad}
    why = {each.key: each.why for each in record.left_alone}
    for check in bad:
        assert why[SPARED[check]].startswith("it would make acme.sysctl.")
