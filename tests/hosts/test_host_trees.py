"""Each kind of host is recognised for what it is: captured and constructed trees in, verdicts out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import host_trees
from vdscheck import testing
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.judge.judge import judge
from vdscheck.measure.measure import Effort, Options, measure
from vdscheck.measurements import Machine
from vdscheck.model.judgement import Finding
from vdscheck.model.report import Taken

BOUGHT = {"cpus": 2, "memory": "4 GiB", "disk": "20 GB"}
LETTERS = {"P": "pass", "W": "warn", "F": "fail", "U": "unknown", "-": "not-applicable"}
COLUMNS = (
    *("virt.hypervisor", "virt.virtio", "virt.multiqueue", "virt.clocksource", "virt.cpu-features"),
    *("virt.balloon", "cpu.pressure", "cpu.contract", "memory.contract", "disk.contract"),
    *("memory.available", "memory.swap", "time.sync", "disk.space[/]"),
)

VERDICTS = {
    # virt:                     H V M C F B  pressure, contracts, memory, time, space
    "arm64-graviton":          "P P P P P P  P PPP PU P P",
    "arm64-kvm":               "P P P P P P  P PPP PU P P",
    "arm64-tcg":               "F P F P P P  P PFP PU P P",
    "aws-nitro":               "P P P P P P  P PPP PU P P",
    "bare-metal":              "P - F P P -  P PPP PU P P",
    "docker-on-metal":         "F - - P P -  - PPP PU P P",
    "gce":                     "P P P P P P  P PPP PU P P",
    "hyper-v-azure":           "P P P P P P  P PPP PU P P",
    "kvm-firecracker":         "P P F P P P  F PPP PU F P",
    "kvm-hyperv-enlightened":  "P P F P P W  P PPP PU P P",
    "lxc":                     "F - - P P -  - PFP PU - P",
    "openvz":                  "F - - P P -  U FFP PU P P",
    "qemu-kvm-hidden":         "U P P P P P  P PPP PU P P",
    "runc-hostpid":            "F - - P P -  - PPP PU - P",
    "runc-privileged":         "F - - P P -  - PPP PU - P",
    "runc-userns":             "F - - P P -  - PPP PU - P",
    "tcg-debian-12":           "F P F F P P  P PFP PU F P",
    "tcg-debian-13-ide":       "F F F P F P  F PFP PU F P",
    "tcg-hidden":              "F P F F F P  F PFP PU F P",
    "virtualbox":              "P F F P P P  P PPP PU P P",
    "vmware":                  "P P P P P P  P PPP PU P P",
    "vmware-emulated-devices": "P F F P P P  P PPP PU P P",
    "xen-hvm":                 "P P P P P P  P PPP PU P P",
    "xen-pv":                  "W P P P P P  P PFP PU P P",
}  # fmt: skip

MACHINES = {
    "arm64-graviton": ("kvm", None),
    "arm64-kvm": ("kvm", None),
    "arm64-tcg": ("qemu", None),
    "aws-nitro": ("kvm", None),
    "bare-metal": ("none", None),
    "docker-on-metal": ("none", "docker"),
    "gce": ("kvm", None),
    "hyper-v-azure": ("hyper-v", None),
    "kvm-firecracker": ("kvm", None),
    "kvm-hyperv-enlightened": ("kvm", None),
    "lxc": ("none", "lxc"),
    "openvz": ("none", "openvz"),
    "qemu-kvm-hidden": ("qemu", None),
    "runc-hostpid": ("kvm", "container"),
    "runc-privileged": ("kvm", "container"),
    "runc-userns": ("kvm", "container"),
    "tcg-debian-12": ("qemu", None),
    "tcg-debian-13-ide": ("qemu", None),
    "tcg-hidden": ("qemu", None),
    "virtualbox": ("virtualbox", None),
    "vmware": ("vmware", None),
    "vmware-emulated-devices": ("vmware", None),
    "xen-hvm": ("xen", None),
    "xen-pv": ("xen-pv", None),
}


def examined(catalogue: Catalogue, name: str, folder: Path) -> tuple[Mapping[str, Finding], Mapping[str, Taken]]:
    from vdscheck.ruleset.ruleset import build

    overrides: dict[str, Any] = {"offer": BOUGHT, "only": [column.partition("[")[0] for column in COLUMNS]}
    ruleset = build(catalogue, ["web"], overrides, "test")
    host = host_trees.unpack(host_trees.all_hosts()[name], folder)
    needed = {entry.probe.id: entry for check in ruleset.selected for entry in catalogue.probes_of(check)}
    outcome = measure(host, needed.values(), Options(effort=Effort.PASSIVE))
    findings = judge(catalogue, ruleset, outcome.measurements, "2026-11-24").findings
    return {finding.name: finding for finding in findings}, outcome.measurements


def test_every_host_tree_has_its_verdicts_here() -> None:
    assert set(host_trees.all_hosts()) == set(VERDICTS) == set(MACHINES)


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_each_host_gets_the_verdicts_that_it_deserves(catalogue: Catalogue, name: str, tmp_path: Path) -> None:
    findings, measured = examined(catalogue, name, tmp_path)
    seen = {column: findings[column].verdict.value for column in COLUMNS if column in findings}
    letters = VERDICTS[name].replace(" ", "")
    expected = {column: LETTERS[letter] for column, letter in zip(COLUMNS, letters, strict=True)}
    assert seen == expected, {finding.name: finding.summary for finding in findings.values()}
    machine = measured["virt.machine"].value
    assert isinstance(machine, Machine)
    assert (machine.hypervisor, machine.container) == MACHINES[name]
    for finding in findings.values():
        assert "None" not in finding.summary
        assert len(finding.summary.splitlines()) == 1


def test_a_stale_dockerenv_makes_no_container(catalogue: Catalogue, tmp_path: Path) -> None:
    machine = examined(catalogue, "kvm-firecracker", tmp_path)[1]["virt.machine"].value
    assert any("/.dockerenv" in clue for clue in machine.clues)
    assert machine.container is None
    assert machine.sure


def test_full_emulation_is_told_from_kvm_although_the_firmware_says_qemu_for_both(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    emulated = examined(catalogue, "tcg-debian-12", tmp_path / "tcg")[1]["virt.machine"].value
    kvm = examined(catalogue, "kvm-hyperv-enlightened", tmp_path / "kvm")[1]["virt.machine"].value
    assert all(any("DMI: QEMU" in clue for clue in each.clues) for each in (emulated, kvm))
    assert emulated.emulated
    assert not kvm.emulated


def test_a_hidden_hypervisor_flag_does_not_hide_full_emulation(catalogue: Catalogue, tmp_path: Path) -> None:
    machine = examined(catalogue, "tcg-hidden", tmp_path)[1]["virt.machine"].value
    assert any("flag is not set" in clue for clue in machine.clues)
    assert machine.emulated


def test_disks_under_lvm_on_raid_are_found_and_the_card_reader_is_not(catalogue: Catalogue, tmp_path: Path) -> None:
    disks = examined(catalogue, "bare-metal", tmp_path)[1]["disk.devices"].value
    assert {disk.name for disk in disks.disks} == {"nvme0n1", "nvme1n1"}
    assert {disk.kind for disk in disks.disks} == {"nvme"}


def test_a_card_that_is_unplugged_under_a_bond_is_not_in_use(catalogue: Catalogue, tmp_path: Path) -> None:
    nics = examined(catalogue, "bare-metal", tmp_path)[1]["virt.nics"].value
    assert [nic.name for nic in nics.nics] == ["eno1"]


def test_a_container_knows_its_quota_and_its_memory_limit(catalogue: Catalogue, tmp_path: Path) -> None:
    measured = examined(catalogue, "lxc", tmp_path)[1]
    assert measured["cpu.processors"].value.quota == 2.0
    assert measured["memory.amounts"].value.limit_bytes == 2 << 30
    assert measured["memory.amounts"].value.limit_used_bytes == 734003200 - 209715200


def test_an_empty_folder_is_unknown_everywhere_and_fails_nothing(catalogue: Catalogue, tmp_path: Path) -> None:
    from vdscheck.plugin import Host
    from vdscheck.ruleset.ruleset import build

    ruleset = build(catalogue, ["web"], {"only": [column.partition("[")[0] for column in COLUMNS]}, "test")
    needed = {entry.probe.id: entry for check in ruleset.selected for entry in catalogue.probes_of(check)}
    outcome = measure(Host(root=str(tmp_path)), needed.values(), Options(effort=Effort.PASSIVE))
    findings = judge(catalogue, ruleset, outcome.measurements, "2026-11-24").findings
    assert {finding.verdict.value for finding in findings} == {"unknown", "not-applicable"}
    assert all(finding.id.endswith(".contract") for finding in findings if finding.verdict == "not-applicable")
    assert {finding.reason for finding in findings if finding.verdict == "unknown"} == {"not-run"}


def test_a_tree_survives_being_written_and_read_again(tmp_path: Path) -> None:
    for file in host_trees.all_hosts().values():
        tree = host_trees.load(file)
        copy = tmp_path / file.name
        copy.write_text(testing.text(tree), encoding="utf-8")
        assert host_trees.load(copy) == tree


def test_what_is_captured_here_measures_the_same_as_here(tmp_path: Path) -> None:
    from vdscheck.plugin import Host
    from vdscheck.probes.cpu import processors
    from vdscheck.probes.disk import file_systems
    from vdscheck.probes.virt import hypervisor as machine
    from vdscheck.probes.virt import nics as devices

    steady = (machine.kind, processors.cpu, devices.nics, file_systems.disks)
    before = [_measured(probe.function, Host()) for probe in steady]
    tree = testing.capture(steady)
    while before != (before := [_measured(probe.function, Host()) for probe in steady]):
        tree = testing.capture(steady)  # others have changed something meanwhile
    tree.meta = {"captured": {"command": "test", "date": "today", "uname": "this"}}
    file = tmp_path / "here.toml"
    file.write_text(testing.text(tree), encoding="utf-8")
    host = host_trees.unpack(file, tmp_path / "root")
    assert [_measured(probe.function, host) for probe in steady] == before


def _measured(function: Any, host: Any) -> Any:
    from vdscheck.model.absence import UnavailableError

    try:
        return function(host)
    except UnavailableError as error:
        return error.absent


def test_captured_trees_carry_no_address_serial_number_or_id() -> None:
    for name, file in host_trees.all_hosts().items():
        tree = host_trees.load(file)
        if "captured" in tree.meta:
            assert tree.files["/etc/machine-id"].strip("0\n") == "", name
            assert tree.files["/proc/sys/kernel/hostname"] == "captured\n", name
            assert not [path for path in tree.files if path.endswith(("/address", "serial", "_uuid"))], name
