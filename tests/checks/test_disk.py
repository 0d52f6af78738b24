"""Every verdict of the checks of a disk's kind and speed, by tables."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck import testing
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.measurements import (
    DeviceActivity,
    DiskActivity,
    DiskDevice,
    DiskLatency,
    DiskLayer,
    DiskStack,
    HostLoad,
    Machine,
)
from vdscheck.model.absence import Reason, not_applicable, unmeasured
from vdscheck.model.judgement import Confidence, Verdict
from vdscheck.plugin import Distribution, Recorder
from vdscheck.ruleset.ruleset import build

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
UNKNOWN, NOT_HERE = Verdict.UNKNOWN, Verdict.NOT_APPLICABLE


def spread(*parts: tuple[int, float]) -> Distribution:
    """So many samples of so many milliseconds each."""
    recorder = Recorder()
    for count, each_ms in parts:
        recorder.add([round(each_ms * 1e6)] * count)
    found = recorder.distribution()
    assert found is not None
    return found


NVME = DiskDevice(
    name="nvme0n1", driver="nvme", kind="nvme", transport="nvme over pcie", model="KIOXIA", network=None,
    rotational=False, scheduler="none", size_bytes=10**12,
)  # fmt: skip
EBS = replace(NVME, model="Amazon Elastic Block Store", network="Amazon EBS")
VIRTIO = replace(NVME, name="vda", driver="virtio_blk", kind="paravirtual", transport="virtio", model=None)
IDE = replace(NVME, name="sda", driver="ata_piix", kind="emulated", transport="ata", model="QEMU HARDDISK")
SATA = replace(IDE, driver="ahci", kind="passthrough", model="ST4000NM", scheduler="mq-deadline")
STACK = DiskStack(
    path="/var/lib", mount="/", file_system="ext4", source="/dev/nvme0n1p1",
    layers=(DiskLayer(name="nvme0n1p1", kind="partition", detail=None),), devices=(NVME,), followed=True,
)  # fmt: skip
FAST = spread((5000, 0.1))
LATENCY = DiskLatency(
    folder="/var/lib", stands_for=None, named=False, file_bytes=200 << 20, prepared_s=0.2, window_s=3.0, rounds=12,
    warm_up_reads=200, warm_up_syncs=30, read=FAST, reads_per_s=9000.0, read_absent=None, fdatasync=spread((2000, 1.0)),
    iops=40_000.0, iops_method="Linux AIO", device="vda", device_read=FAST, device_absent=None,
)  # fmt: skip
UNREAD = replace(LATENCY, device=None, device_read=None, device_absent=unmeasured(Reason.PERMISSION, "sudo may"))
BUFFERED = replace(
    UNREAD, read=None, reads_per_s=None, iops=None, iops_method=None, file_bytes=0,
    read_absent=unmeasured(Reason.UNSUPPORTED, "no O_DIRECT"),
)  # fmt: skip
IDLE = HostLoad(window_s=1.0, cpus=2, busy_cpus=0.1, load_1min=0.1, io_some_avg10_percent=0.0)
BUSY = replace(IDLE, busy_cpus=1.9, load_1min=4.0)
NOT_RUN = unmeasured(Reason.NOT_RUN, "--passive puts no load on the host")
IN_MEMORY = not_applicable("/var/lib lies in memory (tmpfs)")
KVM = Machine(hypervisor="kvm", emulated=False, container=None, sure=True, clues=())
WORKING = DeviceActivity(
    name="vda", reads_per_s=31.0, writes_per_s=900.0, read_await_ms=12.0, write_await_ms=25.0, queue=20.0,
    busy_percent=99.0,
)  # fmt: skip
REST = DiskActivity(window_s=2.0, cpu_ticks=400, iowait_ticks=0, pressure_percent=0.0, devices=(WORKING,))


def under(*devices: DiskDevice, followed: bool = True) -> dict[str, Any]:
    return {"stack": replace(STACK, devices=devices, followed=followed), "latency": LATENCY, "load": IDLE}


def timed(**changes: Any) -> dict[str, Any]:
    return {"latency": replace(LATENCY, **changes), "load": IDLE}


CASES: list[tuple[str, dict[str, Any], Verdict, str]] = [
    # what it is
    ("disk.nvme", under(NVME), PASS, "/var/lib is on NVMe: ext4 on nvme0n1p1 (partition) on nvme0n1 (KIOXIA"),
    ("disk.nvme", under(NVME, NVME), PASS, ""),
    ("disk.nvme", under(EBS), WARN, "storage over the network: Amazon EBS"),
    ("disk.nvme", under(NVME, EBS), WARN, ""),
    ("disk.nvme", {**under(EBS), "latency": NOT_RUN}, WARN, ""),
    ("disk.nvme", {**under(EBS), **timed(fdatasync=spread((2000, 6.0)))}, FAIL, "6 ms"),
    ("disk.nvme", under(IDE), FAIL, "sda (QEMU HARDDISK, ata) under /var/lib is not NVMe"),
    ("disk.nvme", under(SATA), FAIL, ""),
    ("disk.nvme", under(NVME, SATA), FAIL, "sda"),
    ("disk.nvme", under(VIRTIO), NOT_HERE, "cannot be known from inside"),
    ("disk.nvme", under(replace(VIRTIO, rotational=True)), NOT_HERE, ""),
    ("disk.nvme", under(replace(VIRTIO, kind="unknown", driver=None, transport=None)), NOT_HERE, ""),
    ("disk.nvme", {**under(VIRTIO), "latency": NOT_RUN}, UNKNOWN, "--passive"),
    ("disk.nvme", {**under(VIRTIO), **timed(fdatasync=spread((2000, 6.0)))}, FAIL, "the typical fdatasync"),
    ("disk.nvme", {**under(VIRTIO), **timed(fdatasync=spread((2000, 5.0)))}, NOT_HERE, ""),
    ("disk.nvme", {**under(VIRTIO), **timed(fdatasync=spread((20, 4.0), (19, 9.0)))}, UNKNOWN, "too few samples"),
    (
        "disk.nvme",
        {**under(VIRTIO), **timed(device_read=spread((900, 0.1), (100, 9.0)))},
        FAIL,
        "the p99 of reads anywhere on vda",
    ),
    ("disk.nvme", {**under(VIRTIO), "latency": UNREAD}, NOT_HERE, ""),
    ("disk.scheduler", {"stack": STACK, "machine": KVM}, PASS, "the I/O scheduler of nvme0n1 is none"),
    (
        "disk.scheduler",
        {"stack": replace(STACK, devices=(replace(VIRTIO, scheduler="mq-deadline"),)), "machine": KVM},
        PASS,
        "",
    ),
    (
        "disk.scheduler",
        {"stack": replace(STACK, devices=(NVME, replace(VIRTIO, scheduler="bfq"))), "machine": KVM},
        FAIL,
        "vda is bfq",
    ),
    (
        "disk.scheduler",
        {"stack": replace(STACK, devices=(replace(NVME, scheduler="kyber"),)), "machine": NOT_RUN},
        FAIL,
        "kyber",
    ),
    ("disk.scheduler", {"stack": replace(STACK, devices=(SATA,)), "machine": KVM}, NOT_HERE, ""),
    (
        "disk.scheduler",
        {"stack": replace(STACK, devices=(replace(NVME, scheduler=None),)), "machine": KVM},
        NOT_HERE,
        "",
    ),
    ("disk.scheduler", {"stack": STACK, "machine": replace(KVM, container="lxc")}, NOT_HERE, "ask who runs it"),
    # how fast it is
    ("disk.read-latency", timed(), PASS, "0.1 ms"),
    ("disk.read-latency", timed(read=spread((5000, 1.0))), PASS, ""),
    ("disk.read-latency", timed(read=spread((4000, 0.1), (100, 1.5))), FAIL, "1.5 ms"),
    ("disk.read-latency", timed(read=spread((300, 0.1))), UNKNOWN, "too few samples"),
    ("disk.read-latency", {"latency": BUFFERED, "load": IDLE}, UNKNOWN, "no O_DIRECT"),
    ("disk.fsync-latency", timed(), PASS, "1 ms"),
    ("disk.fsync-latency", timed(fdatasync=spread((2000, 10.0))), PASS, ""),
    ("disk.fsync-latency", timed(fdatasync=spread((1000, 1.0), (30, 25.0))), FAIL, "25"),
    ("disk.fsync-latency", timed(fdatasync=spread((60, 30.0))), FAIL, "30"),
    ("disk.fsync-latency", timed(fdatasync=spread((200, 1.0))), UNKNOWN, "too few samples"),
    ("disk.fsync-latency", {"latency": BUFFERED, "load": IDLE}, PASS, ""),
    ("disk.iops", timed(), PASS, "40,000 4 KiB reads per second"),
    ("disk.iops", timed(iops=10_000.0), PASS, ""),
    ("disk.iops", timed(iops=9_999.0), FAIL, "9,999"),
    ("disk.iops", timed(iops=50_001.0), PASS, "at least 50,001"),
    ("disk.iops", {"latency": BUFFERED, "load": IDLE}, UNKNOWN, "no O_DIRECT"),
    # at rest
    ("disk.iowait", {"activity": REST}, PASS, "0 %"),
    ("disk.iowait", {"activity": replace(REST, iowait_ticks=20)}, PASS, "5 %"),
    ("disk.iowait", {"activity": replace(REST, iowait_ticks=21)}, FAIL, "vda busy 99 %"),
    (
        "disk.iowait",
        {"activity": replace(REST, pressure_percent=80.0)},
        PASS,
        "tasks waited for I/O in 80 % of it (PSI)",
    ),
    ("disk.iowait", {"activity": replace(REST, pressure_percent=None)}, PASS, ""),
    ("disk.iowait", {"activity": replace(REST, cpu_ticks=20, iowait_ticks=2)}, UNKNOWN, "run without --passive"),
]


@pytest.mark.parametrize(
    ("check_id", "values", "verdict", "said"), CASES, ids=lambda each: each if isinstance(each, str) else ""
)
def test_the_verdict_and_what_is_said(check_id: str, values: dict[str, Any], verdict: Verdict, said: str) -> None:
    judged = testing.judged(check_id, **values)
    assert judged.verdict is verdict, judged.summary
    assert said in judged.summary
    assert (judged.reason is not None) is (verdict is UNKNOWN)


def test_a_disk_that_could_not_be_followed_to_is_nvme_with_little_confidence() -> None:
    judged = testing.judged("disk.nvme", **under(NVME, followed=False))
    assert (judged.verdict, judged.confidence) == (PASS, Confidence.LOW)


def test_pressure_without_iowait_is_a_pass_with_little_confidence() -> None:
    judged = testing.judged("disk.iowait", activity=replace(REST, pressure_percent=80.0))
    assert (judged.verdict, judged.confidence) == (PASS, Confidence.LOW)
    assert "vda busy 99 % with 20 under way, 31 reads/s of 12 ms, 900 writes/s of 25 ms" in judged.summary
    quiet = testing.judged("disk.iowait", activity=REST)
    assert (quiet.confidence, "busy" in quiet.summary) == (Confidence.HIGH, False)


@given(st.lists(st.sampled_from([NVME, EBS, VIRTIO]), min_size=1, max_size=3), st.floats(min_value=0.01, max_value=4))
def test_behind_a_hypervisor_a_disk_is_never_found_to_be_nvme(devices: list[DiskDevice], sync_ms: float) -> None:
    values = {**under(*devices), **timed(fdatasync=spread((100, sync_ms)))}
    judged = testing.judged("disk.nvme", **values)
    assert (judged.verdict is PASS) is all(device is NVME for device in devices)


SPEEDS = ("disk.read-latency", "disk.fsync-latency", "disk.iops")


@pytest.mark.parametrize("check_id", SPEEDS)
def test_a_busy_host_and_a_folder_that_stands_for_another_are_said(check_id: str) -> None:
    elsewhere = replace(LATENCY, folder="/var/tmp", stands_for="/var/lib")
    told = testing.judged(check_id, latency=elsewhere, load=BUSY).summary
    assert "the host was busy before this: 1.9 of 2 CPUs, load 4.0" in told
    assert "in /var/tmp" in told
    assert "on the device of /var/lib, where we may not write" in told
    plain = testing.judged(check_id, latency=LATENCY, load=NOT_RUN).summary
    assert "busy" not in plain
    assert "may not write" not in plain


def test_what_was_left_out_as_warm_up_is_said() -> None:
    assert "the first 200 left out (warm-up)" in testing.judged("disk.read-latency", **timed()).summary
    assert "the first 30 left out (warm-up)" in testing.judged("disk.fsync-latency", **timed()).summary


def test_a_read_that_a_cache_may_have_answered_says_so_with_the_whole_disk_beside_it() -> None:
    with_device = testing.judged("disk.read-latency", **timed(device_read=spread((2000, 4.0))))
    assert "it may come from the host's cache: anywhere on vda the p99 is 4 ms" in with_device.summary
    without = testing.judged("disk.read-latency", latency=UNREAD, load=IDLE)
    assert "it may come from the host's cache" in without.summary
    assert any("sudo may" in str(each.value) for each in without.evidence)


def test_a_planted_factor_of_two_around_each_limit_flips_the_verdict() -> None:
    for check_id, good, bad in (
        ("disk.read-latency", timed(read=spread((5000, 0.7))), timed(read=spread((5000, 1.4)))),
        ("disk.fsync-latency", timed(fdatasync=spread((2000, 7.0))), timed(fdatasync=spread((2000, 14.0)))),
        ("disk.iops", timed(iops=14_000.0), timed(iops=7_000.0)),
    ):
        assert testing.judged(check_id, **good).verdict is PASS
        assert testing.judged(check_id, **bad).verdict is FAIL


def test_where_there_is_no_disk_every_check_of_it_is_not_applicable(catalogue: Catalogue) -> None:
    from vdscheck.judge.judge import judge
    from vdscheck.model.report import Taken

    rules = build(catalogue, ["web"], {"only": ["disk.*"]}, "test")
    taken = {
        f"{probe}[/var/lib]": Taken("2026-11-25T00:00:00.000Z", 0.0, "", None, IN_MEMORY)
        for probe in ("disk.stack", "disk.latency", "disk.activity")
    }
    judged = judge(catalogue, rules, taken, "2026-11-25")
    found = {finding.name: finding.verdict for finding in judged.findings if finding.subject == "/var/lib"}
    assert found == dict.fromkeys(
        (f"{each}[/var/lib]" for each in (*SPEEDS, "disk.iowait", "disk.nvme", "disk.scheduler")), NOT_HERE
    )
