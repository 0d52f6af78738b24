"""Every verdict of the checks of the machine, its processors, memory, clock and disks."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks.test_cpu import QUIET, TICKS, loopback
from vdscheck import testing
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.measurements import (
    ClockSource,
    Cpu,
    CpuPressure,
    Disk,
    Disks,
    FileSystem,
    FileSystems,
    HostLoad,
    KernelClock,
    LoopbackRtt,
    Machine,
    Memory,
    MemoryPressure,
    Nic,
    Nics,
    SoftNet,
    Spin,
    Swapping,
    TimeLost,
)
from vdscheck.model.absence import Reason, not_applicable, unmeasured
from vdscheck.model.judgement import Confidence, Verdict
from vdscheck.plugin import AtLeast, ByHand

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
UNKNOWN, NOT_HERE = Verdict.UNKNOWN, Verdict.NOT_APPLICABLE
GIB = 1 << 30

KVM = Machine(hypervisor="kvm", emulated=False, container=None, sure=True, clues=("CPUID: KVMKVMKVM",))
METAL = replace(KVM, hypervisor="none")
LXC = replace(KVM, container="lxc")
DOCKER = replace(KVM, container="docker")
NIC = Nic(name="eth0", driver="virtio_net", kind="paravirtual", rx_queues=4, tx_queues=4, more_queues=None, up=True)
DISK = Disk(name="vda", driver="virtio_blk", kind="paravirtual", model=None, size_bytes=80 * 10**9)
DISKS = Disks(disks=(DISK,), attached_bytes=80 * 10**9)
CPU = Cpu(model="EPYC", architecture="x86_64", online=4, flags=("aes",), level="x86-64-v3", quota=None)
MEMORY = Memory(
    total_bytes=8 * GIB - 250 * (1 << 20),
    available_bytes=4 * GIB,
    installed_bytes=8 * GIB,
    ballooned_bytes=0,
    balloon_driver="virtio_balloon",
    limit_bytes=None,
    limit_used_bytes=None,
)
CLOCK = ClockSource(current="kvm-clock", available=("kvm-clock", "tsc"), read_ns=40.0)
STALLS: dict[str, Any] = {
    "some_avg10_percent": 0.0,
    "some_avg60_percent": 0.0,
    "some_avg300_percent": 0.0,
    "full_avg60_percent": 0.0,
    "some_total_us": 0,
}
SWAPPING = Swapping(total_bytes=GIB, used_bytes=0, window_s=2.0, pages_in=0, pages_out=0, pages_in_since_boot=0)
SYNCHRONISED = KernelClock(
    synchronised=True,
    maximum_error_us=200_000,
    estimated_error_us=50,
    offset_us=1.0,
    source="chrony",
    service="chrony",
)
ROOT = FileSystem(
    device="/dev/vda1",
    type="ext4",
    size_bytes=80 * GIB,
    free_bytes=40 * GIB,
    inodes=1000,
    inodes_free=900,
)
NO_CARD = unmeasured(Reason.UNSUPPORTED, "no network card can be seen from here")
NO_OFFER = not_applicable("no chosen profile sets this limit")


CASES: list[tuple[str, dict[str, Any], Verdict]] = [
    # what it is
    ("virt.hypervisor", {"machine": KVM}, PASS),
    ("virt.hypervisor", {"machine": METAL}, PASS),
    ("virt.hypervisor", {"machine": replace(KVM, hypervisor="vmware")}, PASS),
    ("virt.hypervisor", {"machine": replace(KVM, hypervisor="xen-pv")}, WARN),
    ("virt.hypervisor", {"machine": replace(KVM, hypervisor="qemu", emulated=True)}, FAIL),
    ("virt.hypervisor", {"machine": LXC}, FAIL),
    ("virt.hypervisor", {"machine": DOCKER}, FAIL),
    ("virt.hypervisor", {"machine": replace(METAL, container="container")}, FAIL),
    ("virt.hypervisor", {"machine": replace(KVM, hypervisor="qemu")}, UNKNOWN),
    ("virt.hypervisor", {"machine": replace(KVM, hypervisor=None)}, UNKNOWN),
    ("virt.hypervisor", {"machine": replace(KVM, hypervisor="of-the-future")}, UNKNOWN),
    # its devices
    ("virt.virtio", {"machine": KVM, "nics": Nics(nics=(NIC,)), "disks": DISKS}, PASS),
    (
        "virt.virtio",
        {"machine": KVM, "nics": Nics(nics=(replace(NIC, driver="e1000", kind="emulated"),)), "disks": DISKS},
        FAIL,
    ),
    (
        "virt.virtio",
        {"machine": KVM, "nics": NO_CARD, "disks": replace(DISKS, disks=(replace(DISK, kind="emulated"),))},
        FAIL,
    ),
    ("virt.virtio", {"machine": KVM, "nics": NO_CARD, "disks": DISKS}, UNKNOWN),
    ("virt.virtio", {"machine": KVM, "nics": NO_CARD, "disks": NO_CARD}, UNKNOWN),
    ("virt.virtio", {"machine": KVM, "nics": Nics(nics=()), "disks": replace(DISKS, disks=())}, UNKNOWN),
    (
        "virt.virtio",
        {"machine": KVM, "nics": Nics(nics=(replace(NIC, kind="unknown"),)), "disks": DISKS},
        UNKNOWN,
    ),
    ("virt.virtio", {"machine": METAL, "nics": NO_CARD, "disks": NO_CARD}, NOT_HERE),
    ("virt.virtio", {"machine": LXC, "nics": NO_CARD, "disks": DISKS}, NOT_HERE),
    ("virt.multiqueue", {"nics": Nics(nics=(NIC,)), "cpu": CPU, "soft": NO_CARD, "machine": KVM}, PASS),
    (
        "virt.multiqueue",
        {
            "nics": Nics(nics=(NIC, replace(NIC, name="eth1", rx_queues=1))),
            "cpu": CPU,
            "soft": SoftNet(dropped=0, squeezed=0),
            "machine": KVM,
        },
        FAIL,
    ),
    (
        "virt.multiqueue",
        {
            "nics": Nics(nics=(replace(NIC, rx_queues=1, tx_queues=1),)),
            "cpu": replace(CPU, online=1),
            "soft": NO_CARD,
            "machine": KVM,
        },
        PASS,
    ),
    (
        "virt.multiqueue",
        {
            "nics": Nics(nics=(replace(NIC, rx_queues=0),)),
            "cpu": replace(CPU, online=1),
            "soft": NO_CARD,
            "machine": KVM,
        },
        FAIL,
    ),
    ("virt.multiqueue", {"nics": Nics(nics=()), "cpu": CPU, "soft": NO_CARD, "machine": KVM}, UNKNOWN),
    ("virt.multiqueue", {"nics": NO_CARD, "cpu": CPU, "soft": NO_CARD, "machine": KVM}, UNKNOWN),
    ("virt.multiqueue", {"nics": NO_CARD, "cpu": CPU, "soft": NO_CARD, "machine": DOCKER}, NOT_HERE),
    # its clock and processor
    *(
        ("virt.clocksource", {"clock": replace(CLOCK, current=name)}, PASS)
        for name in ("kvm-clock", "tsc", "xen", "hyperv_clocksource_tsc_page", "arch_sys_counter")
    ),
    *(
        ("virt.clocksource", {"clock": replace(CLOCK, current=name)}, FAIL)
        for name in ("acpi_pm", "hpet", "jiffies", "refined-jiffies", "")
    ),
    ("virt.cpu-features", {"cpu": CPU}, PASS),
    ("virt.cpu-features", {"cpu": replace(CPU, level="x86-64-v2")}, PASS),
    ("virt.cpu-features", {"cpu": replace(CPU, level="x86-64-v1")}, FAIL),
    ("virt.cpu-features", {"cpu": replace(CPU, level=None)}, FAIL),
    ("virt.cpu-features", {"cpu": replace(CPU, flags=())}, FAIL),
    ("virt.cpu-features", {"cpu": replace(CPU, model="QEMU Virtual CPU version 2.5+")}, WARN),
    ("virt.cpu-features", {"cpu": replace(CPU, architecture="aarch64", level=None)}, PASS),
    ("virt.cpu-features", {"cpu": replace(CPU, architecture="aarch64", level=None, flags=())}, FAIL),
    ("virt.cpu-features", {"cpu": replace(CPU, architecture="riscv64", level=None)}, NOT_HERE),
    ("virt.balloon", {"memory": MEMORY, "machine": KVM}, PASS),
    ("virt.balloon", {"memory": replace(MEMORY, balloon_driver=None), "machine": KVM}, PASS),
    ("virt.balloon", {"memory": replace(MEMORY, ballooned_bytes=4096), "machine": KVM}, WARN),
    (
        "virt.balloon",
        {"memory": replace(MEMORY, ballooned_bytes=None, balloon_driver="hv_balloon"), "machine": KVM},
        PASS,
    ),
    (
        "virt.balloon",
        {
            "memory": replace(MEMORY, ballooned_bytes=None, balloon_driver="xen", installed_bytes=9 * GIB),
            "machine": KVM,
        },
        UNKNOWN,
    ),
    (
        "virt.balloon",
        {"memory": replace(MEMORY, ballooned_bytes=None, balloon_driver="vmw_balloon"), "machine": KVM},
        UNKNOWN,
    ),
    ("virt.balloon", {"memory": MEMORY, "machine": METAL}, NOT_HERE),
    ("virt.balloon", {"memory": MEMORY, "machine": LXC}, NOT_HERE),
    # how it is pressed
    ("cpu.pressure", {"found": CpuPressure(**STALLS), "machine": KVM}, PASS),
    ("cpu.pressure", {"found": CpuPressure(**{**STALLS, "some_avg60_percent": 10.0}), "machine": NO_CARD}, PASS),
    ("cpu.pressure", {"found": CpuPressure(**{**STALLS, "some_avg60_percent": 10.1}), "machine": KVM}, FAIL),
    ("cpu.pressure", {"found": CpuPressure(**STALLS), "machine": LXC}, NOT_HERE),
    ("memory.available", {"memory": MEMORY, "stalls": MemoryPressure(**STALLS), "machine": KVM}, PASS),
    (
        "memory.available",
        {"memory": replace(MEMORY, available_bytes=0), "stalls": NO_CARD, "machine": KVM},
        FAIL,
    ),
    (
        "memory.available",
        {"memory": replace(MEMORY, total_bytes=0, available_bytes=0), "stalls": NO_CARD, "machine": KVM},
        FAIL,
    ),
    (
        "memory.available",
        {
            "memory": replace(MEMORY, limit_bytes=GIB, limit_used_bytes=GIB - 1),
            "stalls": NO_CARD,
            "machine": DOCKER,
        },
        FAIL,
    ),
    (
        "memory.available",
        {"memory": replace(MEMORY, limit_bytes=GIB, limit_used_bytes=GIB), "stalls": NO_CARD, "machine": KVM},
        PASS,
    ),
    ("memory.swap", {"swapping": SWAPPING, "stalls": NO_CARD, "machine": KVM}, PASS),
    ("memory.swap", {"swapping": replace(SWAPPING, total_bytes=0), "stalls": NO_CARD, "machine": KVM}, PASS),
    ("memory.swap", {"swapping": replace(SWAPPING, pages_in=1), "stalls": NO_CARD, "machine": KVM}, WARN),
    ("memory.swap", {"swapping": replace(SWAPPING, pages_in=9999), "stalls": NO_CARD, "machine": KVM}, FAIL),
    ("memory.swap", {"swapping": SWAPPING, "stalls": NO_CARD, "machine": LXC}, NOT_HERE),
    # its time
    ("time.sync", {"clock": SYNCHRONISED, "machine": KVM}, PASS),
    ("time.sync", {"clock": SYNCHRONISED, "machine": LXC}, PASS),
    ("time.sync", {"clock": replace(SYNCHRONISED, synchronised=False), "machine": KVM}, PASS),
    (
        "time.sync",
        {"clock": replace(SYNCHRONISED, synchronised=False, maximum_error_us=16_000_000), "machine": KVM},
        FAIL,
    ),
    (
        "time.sync",
        {"clock": replace(SYNCHRONISED, synchronised=False, maximum_error_us=16_000_000), "machine": LXC},
        NOT_HERE,
    ),
    ("time.sync", {"clock": replace(SYNCHRONISED, maximum_error_us=15_999_999), "machine": NO_CARD}, PASS),
]


@pytest.mark.parametrize(("check_id", "measured", "verdict"), CASES, ids=lambda value: str(value)[:60])
def test_each_check_gives_each_of_its_verdicts(check_id: str, measured: dict[str, Any], verdict: Verdict) -> None:
    judged = testing.judged(check_id, **measured)
    assert judged.verdict is verdict, judged.summary
    assert (judged.reason is not None) == (verdict is UNKNOWN)
    assert judged.summary


def test_each_judging_check_is_seen_to_pass_and_not_to_pass() -> None:
    seen: dict[str, set[Verdict]] = {}
    for check_id, _, verdict in CASES:
        seen.setdefault(check_id, set()).add(verdict)
    assert all(verdicts & {WARN, FAIL} and PASS in verdicts for verdicts in seen.values()), seen


SOLD_CPUS = AtLeast(pass_limit=4, unit="CPUs", source="offer: test")
SOLD_MEMORY = AtLeast(pass_limit=8, unit="GiB", source="offer: test")
SOLD_DISK = AtLeast(pass_limit=80, unit="GB", source="offer: test")
SPACE = FileSystems(by_mount={"/": ROOT})


@pytest.mark.parametrize(
    ("check_id", "measured", "verdict"),
    [
        ("cpu.contract", {"cpu": CPU, "machine": KVM, "sold": NO_OFFER}, NOT_HERE),
        ("cpu.contract", {"cpu": CPU, "machine": KVM, "sold": SOLD_CPUS}, PASS),
        ("cpu.contract", {"cpu": replace(CPU, online=3), "machine": KVM, "sold": SOLD_CPUS}, FAIL),
        ("cpu.contract", {"cpu": replace(CPU, online=0), "machine": KVM, "sold": SOLD_CPUS}, FAIL),
        ("cpu.contract", {"cpu": replace(CPU, quota=2.0), "machine": KVM, "sold": SOLD_CPUS}, PASS),
        ("cpu.contract", {"cpu": replace(CPU, quota=2.0), "machine": LXC, "sold": SOLD_CPUS}, FAIL),
        ("cpu.contract", {"cpu": replace(CPU, quota=64.0), "machine": LXC, "sold": SOLD_CPUS}, PASS),
        ("memory.contract", {"memory": MEMORY, "machine": KVM, "sold": NO_OFFER}, NOT_HERE),
        ("memory.contract", {"memory": MEMORY, "machine": KVM, "sold": SOLD_MEMORY}, PASS),
        (
            "memory.contract",
            {"memory": replace(MEMORY, installed_bytes=7 * GIB), "machine": KVM, "sold": SOLD_MEMORY},
            FAIL,
        ),
        (
            "memory.contract",
            {"memory": replace(MEMORY, installed_bytes=None), "machine": KVM, "sold": SOLD_MEMORY},
            PASS,
        ),
        (
            "memory.contract",
            {
                "memory": replace(MEMORY, installed_bytes=None, total_bytes=7 * GIB),
                "machine": KVM,
                "sold": SOLD_MEMORY,
            },
            FAIL,
        ),
        (
            "memory.contract",
            {
                "memory": replace(MEMORY, limit_bytes=2 * GIB, limit_used_bytes=0),
                "machine": LXC,
                "sold": SOLD_MEMORY,
            },
            FAIL,
        ),
        ("disk.contract", {"disks": DISKS, "file_systems": SPACE, "machine": KVM, "sold": NO_OFFER}, NOT_HERE),
        ("disk.contract", {"disks": DISKS, "file_systems": SPACE, "machine": KVM, "sold": SOLD_DISK}, PASS),
        (
            "disk.contract",
            {
                "disks": replace(DISKS, attached_bytes=79 * 10**9),
                "file_systems": SPACE,
                "machine": KVM,
                "sold": SOLD_DISK,
            },
            FAIL,
        ),
        ("disk.contract", {"disks": NO_CARD, "file_systems": SPACE, "machine": KVM, "sold": SOLD_DISK}, UNKNOWN),
        ("disk.contract", {"disks": NO_CARD, "file_systems": SPACE, "machine": LXC, "sold": SOLD_DISK}, PASS),
        ("disk.contract", {"disks": DISKS, "file_systems": NO_CARD, "machine": LXC, "sold": SOLD_DISK}, UNKNOWN),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_was_bought_is_compared_with_what_is_here(
    check_id: str, measured: dict[str, Any], verdict: Verdict
) -> None:
    judged = testing.judged(check_id, **measured)
    assert judged.verdict is verdict, judged.summary
    if measured["sold"] is NO_OFFER:
        assert judged.summary.startswith("no [offer] in the configuration says what was bought")


def test_a_contract_that_rests_on_an_estimate_says_so() -> None:
    estimated = replace(MEMORY, installed_bytes=None)
    judged = testing.judged("memory.contract", memory=estimated, machine=KVM, sold=SOLD_MEMORY)
    assert judged.confidence is Confidence.LOW


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (ROOT, PASS, "50 %"),
        (replace(ROOT, free_bytes=0), FAIL, "0 %"),
        (replace(ROOT, size_bytes=400 * GIB, free_bytes=39 * GIB), FAIL, "9.75 %"),
        (replace(ROOT, size_bytes=20 * GIB, free_bytes=4 * GIB), FAIL, "4 GiB"),
        (replace(ROOT, size_bytes=4 * GIB, free_bytes=2 * GIB), PASS, "50 %"),
        (replace(ROOT, inodes_free=0), FAIL, "0 % of its inodes"),
        (replace(ROOT, inodes=0, inodes_free=0), PASS, "50 %"),
        (replace(ROOT, size_bytes=0, free_bytes=0, inodes=0, inodes_free=0), FAIL, "0 %"),
    ],
)
def test_room_is_the_worst_of_the_share_the_bytes_and_the_inodes(
    found: FileSystem, verdict: Verdict, said: str
) -> None:
    judged = testing.judged_each("disk.space", found=FileSystems(by_mount={"/": found, "/ok": ROOT}))
    assert judged["/"].verdict is verdict
    assert said in judged["/"].summary
    assert judged["/ok"].verdict is PASS


def test_a_container_for_applications_fails_with_less_confidence_than_one_sold_as_a_server() -> None:
    docker = testing.judged("virt.hypervisor", machine=DOCKER)
    lxc = testing.judged("virt.hypervisor", machine=LXC)
    assert (docker.confidence, lxc.confidence) == (Confidence.LOW, Confidence.HIGH)
    assert "run vdscheck on the machine itself" in docker.summary


def test_a_slow_clock_comes_with_the_command_for_a_better_one() -> None:
    slow = replace(CLOCK, current="hpet", available=("hpet", "tsc"), read_ns=1800.0)
    judged = testing.judged("virt.clocksource", clock=slow)
    assert isinstance(judged.fix, ByHand)
    assert judged.fix.commands == ("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",)
    assert "1,800 ns" in judged.summary
    assert testing.judged("virt.clocksource", clock=replace(slow, available=("hpet",))).fix is None


@pytest.mark.parametrize("service", ["systemd-timesyncd", "chrony"])
def test_a_time_service_that_runs_is_not_to_be_installed_but_asked(service: str) -> None:
    clock = replace(SYNCHRONISED, synchronised=False, maximum_error_us=16_000_000, source=None, service=service)
    judged = testing.judged("time.sync", clock=clock, machine=KVM)
    assert judged.verdict is FAIL
    assert f"{service} runs" in judged.summary
    assert isinstance(judged.fix, ByHand)
    assert "install" not in " ".join((judged.fix.summary, *judged.fix.commands))
    assert judged.fix.undo == ()
    alone = testing.judged("time.sync", clock=replace(clock, service=None), machine=KVM)
    assert isinstance(alone.fix, ByHand)
    assert "install" in alone.fix.summary


@pytest.mark.parametrize(("more", "commands"), [(True, 1), (None, 1), (False, 0)])
def test_a_command_for_more_queues_is_proposed_unless_the_card_has_none(*, more: bool | None, commands: int) -> None:
    card = replace(NIC, rx_queues=1, tx_queues=1, more_queues=more)
    judged = testing.judged("virt.multiqueue", nics=Nics(nics=(card,)), cpu=CPU, soft=NO_CARD, machine=KVM)
    assert judged.verdict is FAIL
    assert isinstance(judged.fix, ByHand)
    assert len(judged.fix.commands) == len(judged.fix.undo) == commands
    assert "only the provider" in judged.fix.summary


def test_the_clues_are_kept_as_evidence() -> None:
    judged = testing.judged("virt.hypervisor", machine=KVM)
    assert [(each.name, each.value) for each in judged.evidence] == [("CPUID", "KVMKVMKVM")]


# Any measurement at all

AMOUNT = st.just(0) | st.integers(0, 1 << 62)
SHARE = st.just(0.0) | st.floats(0, 1e9)
ANY_MACHINE = st.builds(
    Machine,
    hypervisor=st.none() | st.sampled_from(["kvm", "none", "qemu", "xen-pv", "?"]),
    emulated=st.booleans(),
    container=st.none() | st.sampled_from(["docker", "lxc", "container"]),
    sure=st.booleans(),
    clues=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)
KIND = st.sampled_from(["paravirtual", "nvme", "passthrough", "emulated", "unknown"])
ANY: dict[type, st.SearchStrategy[Any]] = {
    Machine: ANY_MACHINE,
    Nics: st.builds(
        Nics,
        nics=st.lists(st.builds(Nic, kind=KIND, rx_queues=AMOUNT, tx_queues=AMOUNT), max_size=3).map(tuple),
    ),
    Disks: st.builds(Disks, disks=st.lists(st.builds(Disk, kind=KIND), max_size=3).map(tuple), attached_bytes=AMOUNT),
    SoftNet: st.builds(SoftNet, dropped=AMOUNT, squeezed=AMOUNT),
    ClockSource: st.builds(ClockSource, read_ns=st.none() | SHARE),
    Cpu: st.builds(
        Cpu,
        architecture=st.sampled_from(["x86_64", "aarch64", "other"]),
        online=AMOUNT,
        flags=st.lists(st.sampled_from(["aes", "avx"])).map(tuple),
        level=st.none() | st.sampled_from(["x86-64-v1", "x86-64-v4"]),
        quota=st.none() | SHARE,
    ),
    Memory: st.builds(
        Memory,
        total_bytes=AMOUNT,
        available_bytes=AMOUNT,
        installed_bytes=st.none() | AMOUNT,
        ballooned_bytes=st.none() | AMOUNT,
        balloon_driver=st.none() | st.sampled_from(["virtio_balloon", "xen"]),
        limit_bytes=st.none() | AMOUNT,
        limit_used_bytes=st.none() | AMOUNT,
    ),
    Swapping: st.builds(
        Swapping,
        total_bytes=AMOUNT,
        used_bytes=AMOUNT,
        window_s=SHARE,
        pages_in=AMOUNT,
        pages_out=AMOUNT,
        pages_in_since_boot=AMOUNT,
    ),
    CpuPressure: st.builds(
        CpuPressure,
        some_avg10_percent=SHARE,
        some_avg60_percent=SHARE,
        some_avg300_percent=SHARE,
        full_avg60_percent=st.none() | SHARE,
        some_total_us=AMOUNT,
    ),
    MemoryPressure: st.just(MemoryPressure(**STALLS)),
    KernelClock: st.builds(
        KernelClock, maximum_error_us=AMOUNT, estimated_error_us=AMOUNT, offset_us=st.floats(-1e9, 1e9)
    ),
    Spin: st.builds(
        lambda ticks, **more: replace(QUIET, lost=TimeLost(**more), steal=replace(TICKS, steal_after=100 + ticks)),
        ticks=st.integers(0, 10**6),
        **dict.fromkeys(TimeLost.__dataclass_fields__, st.floats(0, 100)),
    ),
    LoopbackRtt: st.integers(0, 10**11).map(loopback),
    HostLoad: st.builds(
        HostLoad, window_s=SHARE, cpus=AMOUNT, busy_cpus=SHARE, load_1min=SHARE, io_some_avg10_percent=SHARE
    ),
    FileSystems: st.builds(
        FileSystems,
        by_mount=st.dictionaries(
            st.sampled_from(["/", "/var"]),
            st.builds(FileSystem, size_bytes=AMOUNT, free_bytes=AMOUNT, inodes=AMOUNT, inodes_free=AMOUNT),
        ),
    ),
}
OURS = ("virt", "cpu", "memory", "time", "disk")


@given(data=st.data())
def test_whatever_was_measured_every_check_comes_to_a_verdict(catalogue: Catalogue, data: st.DataObject) -> None:
    ids = [
        check_id
        for check_id, entry in sorted(catalogue.checks.items())
        if entry.check.area in OURS
        # the instruments of disks have tables of their own
        and all(need.type in ANY for need in entry.needs if need.kind == "measurement")
    ]
    entry = catalogue.checks[data.draw(st.sampled_from(ids))]
    measured: dict[str, Any] = {}
    for need in entry.needs:
        if need.kind == "measurement":
            known = ANY[need.type]
            measured[need.name] = data.draw(st.just(NO_CARD) | known if need.bears_absence else known)
        elif need.name == "sold":
            measured["sold"] = data.draw(st.sampled_from([NO_OFFER, SOLD_DISK]))
    assert all(each.summary for each in testing.judged_each(entry.check.id, **measured).values())
