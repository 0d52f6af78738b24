"""What the machine, processor, memory, clock and disk probes make of files, and of this very machine."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import host_trees
from vdscheck import testing
from vdscheck.codec import encode
from vdscheck.linux import cgroups, cpuinfo, drivers, mounts, psi
from vdscheck.measurements import CpuPressure, Memory, Swapping
from vdscheck.model.absence import Absent, Reason, UnavailableError
from vdscheck.plugin import Host
from vdscheck.probes.cpu import processors
from vdscheck.probes.disk import file_systems
from vdscheck.probes.memory import memory
from vdscheck.probes.time import sync
from vdscheck.probes.virt import clocksource, container, cpuid, hypervisor, nics

ONCE = (
    *(hypervisor.kind, processors.cpu, processors.stall, memory.amounts, memory.stall, clocksource.clocksource),
    *(sync.kernel_clock, nics.nics, nics.softnet, file_systems.disks, file_systems.file_systems),
)


# Parsers


def only_unavailable(function: Callable[[], Any]) -> None:
    with suppress(UnavailableError):
        function()


NOISE = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="processor:flags 0123456789abcdef\n\t-=.,some fullavg", max_size=300),
    st.integers().map(str),
    st.integers(min_value=1 << 60, max_value=1 << 70).map(lambda number: f"nr_balloon_pages {number}\n"),
)


@given(NOISE)
def test_no_text_makes_a_parser_fail_otherwise_than_by_saying_so(text: str) -> None:
    only_unavailable(lambda: cpuinfo.processors(text))
    only_unavailable(lambda: processors.counted(text))
    only_unavailable(lambda: mounts.parsed(text))
    only_unavailable(lambda: psi.parsed(text, "/proc/pressure/cpu", CpuPressure))
    only_unavailable(lambda: cgroups.whole(text))
    only_unavailable(lambda: drivers.kind_of(text, text))


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Host:
    folder = tmp_path_factory.mktemp("captured")
    return host_trees.unpack(host_trees.HOSTS / "kvm-firecracker.toml", folder)


FILES = sorted(
    path
    for path in host_trees.load(host_trees.HOSTS / "kvm-firecracker.toml").files
    if path.startswith(("/proc/cpuinfo", "/proc/self", "/proc/2", "/proc/pressure", "/proc/net/softnet", "/proc/swaps"))
    or (path.startswith("/sys/") and "/memory/memory" not in path)
    or path == "/proc/vmstat"
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(path=st.sampled_from(FILES), content=st.one_of(st.binary(max_size=80), NOISE.map(lambda text: text.encode())))
def test_whatever_stands_in_a_file_a_probe_measures_or_says_why_not(captured: Host, path: str, content: bytes) -> None:
    place = Path(captured.root + path).resolve()
    before = place.read_bytes()
    place.write_bytes(content)
    try:
        for probe in ONCE:
            only_unavailable(lambda probe=probe: encode(probe.function(captured)))  # type: ignore[misc]
    finally:
        place.write_bytes(before)


FACTS = ("adjtimex", "clock-read-ns", "cpuid", "psutil-virtual-memory", "page-bytes", "statvfs-%2F")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
SHAPED = st.fixed_dictionaries(
    dict.fromkeys(
        (
            *("status", "offset", "maxerror", "esterror", "total", "available"),
            *("size_bytes", "free_bytes", "inodes", "inodes_free"),
        ),
        st.integers() | LEAVES,
    )
)
JSON = SHAPED | st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=st.sampled_from(FACTS), value=JSON)
def test_whatever_a_captured_fact_holds_a_probe_measures_or_says_why_not(captured: Host, name: str, value: Any) -> None:
    place = Path(captured.root) / f".vdscheck/facts/{name}.json"
    before = place.read_bytes()
    place.write_text(json.dumps(value))
    try:
        for probe in ONCE:
            only_unavailable(lambda probe=probe: encode(probe.function(captured)))  # type: ignore[misc]
    finally:
        place.write_bytes(before)


# Processors


@pytest.mark.parametrize(
    ("level", "without", "found"),
    [
        (4, None, "x86-64-v4"),
        (4, "avx512bw", "x86-64-v3"),
        (3, "abm", "x86-64-v2"),
        (3, "pni", "x86-64-v1"),
        (2, None, "x86-64-v2"),
        (2, "lahf_lm", "x86-64-v1"),
        (1, None, "x86-64-v1"),
        (1, "lm", None),
        (0, None, None),
    ],
)
def test_a_level_needs_all_features_of_its_own_and_of_those_below(
    level: int, without: str | None, found: str | None
) -> None:
    flags = {flag for _, named in processors.LEVELS[:level] for flag in named} - {without}
    assert processors.level(flags) == found


def test_the_levels_are_those_of_the_abi() -> None:
    # the psABI's table in the kernel's names: SSE3 is pni, LZCNT is in abm, OSXSAVE shows as xsave
    assert {name: " ".join(sorted(flags)) for name, flags in processors.LEVELS} == {
        "x86-64-v1": "cmov cx8 fpu fxsr lm mmx sse sse2 syscall",
        "x86-64-v2": "cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3",
        "x86-64-v3": "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave",
        "x86-64-v4": "avx512bw avx512cd avx512dq avx512f avx512vl",
    }


def test_the_same_level_as_the_dynamic_linker_says() -> None:
    loader = next(iter(sorted(Path("/lib64").glob("ld-linux-x86-64.so.*"))), None)
    assert loader is not None
    said = subprocess.run([loader, "--help"], capture_output=True, text=True, check=True).stdout
    supported = re.findall(r"(x86-64-v[0-9]) \(supported", said)
    assert processors.cpu.function(Host()).level == (max(supported) if supported else "x86-64-v1")


@pytest.mark.parametrize(
    ("text", "count"),
    [("0\n", 1), ("0-3\n", 4), ("0-3,8,10-11", 7), ("", None), ("3-0", None), ("0-", None), ("x", None)],
)
def test_a_list_of_cpus_is_counted(text: str, count: int | None) -> None:
    assert processors.counted(text) == count


def test_an_arm_processor_has_its_name_from_its_part_number() -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd aes\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd4f\n"
    found = cpuinfo.processors(text)
    assert (found.model, found.architecture, found.count) == ("Neoverse-V2", "aarch64", 1)


def test_a_board_name_on_arm_is_not_counted_as_a_processor() -> None:
    assert cpuinfo.processors("Processor\t: ARMv7 rev 5\nprocessor\t: 0\nprocessor\t: 1\n").count == 2


@pytest.mark.parametrize(
    ("files", "mountinfo", "cgroup", "quota"),
    [
        ({"/sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, "cgroup2", "0::/a", 1.5),
        ({"/sys/fs/cgroup/a/cpu.max": "max 100000\n"}, "cgroup2", "0::/a", None),
        (
            {"/sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "/sys/fs/cgroup/a/cpu.max": "50000 100000\n"},
            "cgroup2",
            "0::/a/b",
            0.5,
        ),
        (
            {"/sys/fs/cgroup/a/cpu.cfs_quota_us": "200000\n", "/sys/fs/cgroup/a/cpu.cfs_period_us": "100000\n"},
            "cgroup",
            "3:cpu,cpuacct:/a",
            2.0,
        ),
        (
            {"/sys/fs/cgroup/a/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/a/cpu.cfs_period_us": "100000\n"},
            "cgroup",
            "3:cpu,cpuacct:/a",
            None,
        ),
        ({"/sys/fs/cgroup/cpu.max": "0 100000\n"}, "cgroup2", "0::/", None),
        ({}, "cgroup2", "0::/../../escape", None),
    ],
)
def test_the_tightest_quota_from_ours_up_to_the_root_counts(
    tmp_path: Path, files: dict[str, str], mountinfo: str, cgroup: str, quota: float | None
) -> None:
    details = "rw,cpu,cpuacct" if mountinfo == "cgroup" else "rw"
    line = f"30 20 0:26 / /sys/fs/cgroup rw shared:4 - {mountinfo} cgroup {details}\n"
    host = testing.host(tmp_path, {**files, "/proc/self/mountinfo": line, "/proc/self/cgroup": cgroup + "\n"})
    assert cgroups.cpu_quota(host) == quota


def test_a_container_that_sees_the_path_of_its_host_still_finds_its_own_limit(tmp_path: Path) -> None:
    line = "30 20 0:26 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
    files = {
        "/proc/self/mountinfo": line,
        "/proc/self/cgroup": "3:cpu:/docker/abc\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert cgroups.cpu_quota(testing.host(tmp_path, files)) == 3.0


# Mounts


def test_blanks_in_mount_points_are_read_back() -> None:
    text = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/a\134b rw,errors=continue"
    found = mounts.parsed(text + "\n")
    assert [(mount.point, mount.source, mount.root) for mount in found] == [("/mnt 2", "/dev/a\\b", "/mnt1")]


def test_the_deepest_mount_holds_a_path_and_the_last_of_two_at_one_point() -> None:
    lines = "\n".join(
        f"{number} 1 8:{number} / {point} rw - ext4 /dev/sda{number} rw"
        for number, point in enumerate(("/", "/var", "/var/lib", "/var", "/varnish"), 1)
    )
    table = mounts.parsed(lines)

    def source(path: str) -> str | None:
        found = mounts.holder(table, path)
        return found.source if found else None

    assert [source(path) for path in ("/", "/var", "/var/log", "/var/lib/x", "/varnish", "/vari")] == [
        *("/dev/sda1", "/dev/sda4", "/dev/sda4", "/dev/sda3", "/dev/sda5", "/dev/sda1")
    ]
    assert mounts.holder((), "/") is None


# Containers

INITIAL = {"/proc/self/ns/pid": "pid:[4026531836]", "/proc/self/ns/user": "user:[4026531837]"}
OWN = {"/proc/self/ns/pid": "pid:[4026532999]", "/proc/self/ns/user": "user:[4026531837]"}
ALL_USERS = {"/proc/self/uid_map": "         0          0 4294967295\n"}
DOCKER_ROOT = "1 0 0:50 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/x/diff,workdir=/w\n"


@pytest.mark.parametrize(
    ("files", "links", "kind", "sure"),
    [
        ({**ALL_USERS, "/proc/2/comm": "kthreadd\n"}, INITIAL, None, True),
        ({**ALL_USERS, "/proc/2/comm": "kthreadd\n", "/.dockerenv": ""}, INITIAL, None, True),
        ({**ALL_USERS, "/.dockerenv": "", "/run/systemd/container": "lxc\n"}, INITIAL, None, True),
        (ALL_USERS, INITIAL, None, True),
        (ALL_USERS, OWN, "container", True),
        ({**ALL_USERS, "/.dockerenv": ""}, OWN, "docker", True),
        ({**ALL_USERS, "/run/.containerenv": ""}, OWN, "podman", True),
        ({**ALL_USERS, "/proc/1/environ": "HOME=/\0container=lxc\0"}, OWN, "lxc", True),
        ({**ALL_USERS, "/run/systemd/container": "systemd-nspawn\n"}, OWN, "systemd-nspawn", True),
        ({**ALL_USERS, "/proc/2/comm": "bash\n"}, {}, "container", True),
        ({"/proc/self/uid_map": "         0     100000      65536\n"}, INITIAL, "container", True),
        ({"/proc/vz/x": "", "/proc/1/environ": ""}, {}, "openvz", True),
        ({**ALL_USERS, "/proc/self/mountinfo": DOCKER_ROOT}, INITIAL, "docker", False),
        ({**ALL_USERS, "/proc/self/cgroup": "0::/kubepods.slice/x\n"}, OWN, "kubernetes", True),
        ({"/proc/vz/x": "", "/proc/bc/0/x": "", **ALL_USERS}, INITIAL, None, True),
        ({"/.dockerenv": ""}, {}, "docker", False),
        ({}, {}, None, False),
    ],
    ids=lambda value: ",".join(map(str, value)) if isinstance(value, dict) else str(value),
)
def test_facts_decide_whether_this_is_a_container_and_clues_which(
    tmp_path: Path, files: dict[str, str], links: dict[str, str], kind: str | None, *, sure: bool
) -> None:
    found = container.look(testing.host(tmp_path, files, links))
    assert (found.kind, found.sure) == (kind, sure)


# Drivers and disks


@pytest.mark.parametrize(
    ("driver", "model", "kind"),
    [
        ("virtio_net", "", "paravirtual"),
        ("virtio_scsi", "QEMU HARDDISK", "paravirtual"),
        ("vmw_pvscsi", "VMware Virtual disk", "paravirtual"),
        ("hv_storvsc", "Msft Virtual Disk", "paravirtual"),
        ("ena", "", "paravirtual"),
        ("nvme", "Amazon Elastic Block Store", "nvme"),
        ("mlx5_core", "", "passthrough"),
        ("ahci", "QEMU HARDDISK", "emulated"),
        ("ahci", "SAMSUNG MZ7LH960", "passthrough"),
        ("ahci", "", "unknown"),
        ("megaraid_sas", "QEMU HARDDISK", "emulated"),
        ("mpt3sas", "VMware Virtual disk", "emulated"),
        ("ata_piix", "QEMU HARDDISK", "emulated"),
        ("e1000", "", "emulated"),
        ("igb", "", "unknown"),
        ("of-the-future", "", "unknown"),
        (None, "", "unknown"),
    ],
)
def test_a_driver_tells_what_hardware_it_drives(driver: str | None, model: str, kind: str) -> None:
    assert drivers.kind_of(driver, model) == kind


DISK = {
    "/sys/devices/pci0/virtio1/block/vda/size": "41943040\n",
    "/sys/devices/pci0/virtio1/block/vda/removable": "0\n",
    "/sys/devices/pci0/virtio1/block/vda/vda1/partition": "1\n",
    "/sys/devices/pci0/virtio1/block/vda/vda1/size": "41940000\n",
    "/sys/devices/pci0/virtio2/block/vdb/size": "1000\n",
    "/sys/devices/virtual/block/loop0/loop/backing_file": "/var/image\n",
    "/sys/devices/virtual/block/loop0/size": "100\n",
    "/sys/devices/virtual/block/dm-0/dm/name": "data\n",
    "/sys/devices/virtual/block/dm-0/slaves/vdb": "",
    "/sys/devices/virtual/block/dm-0/size": "900\n",
    "/sys/devices/pci0/ata1/block/sr0/size": "2097151\n",
    "/sys/devices/pci0/ata1/block/sr0/removable": "1\n",
    "/proc/swaps": "Filename Type Size Used Priority\n",
}
DISK_LINKS = {
    "/sys/class/block/vda": "../../devices/pci0/virtio1/block/vda",
    "/sys/class/block/vda1": "../../devices/pci0/virtio1/block/vda/vda1",
    "/sys/class/block/vdb": "../../devices/pci0/virtio2/block/vdb",
    "/sys/class/block/loop0": "../../devices/virtual/block/loop0",
    "/sys/class/block/dm-0": "../../devices/virtual/block/dm-0",
    "/sys/class/block/sr0": "../../devices/pci0/ata1/block/sr0",
    "/sys/dev/block/254:0": "../../devices/pci0/virtio1/block/vda",
    "/sys/dev/block/254:1": "../../devices/pci0/virtio1/block/vda/vda1",
    "/sys/dev/block/253:0": "../../devices/virtual/block/dm-0",
    "/sys/dev/block/7:0": "../../devices/virtual/block/loop0",
    "/sys/devices/pci0/virtio1/block/vda/device": "../../../virtio1",
    "/sys/devices/pci0/virtio1/driver": "../../../bus/virtio/drivers/virtio_blk",
    "/sys/devices/pci0/virtio2/block/vdb/device": "../../../virtio2",
    "/sys/devices/pci0/virtio2/driver": "../../../bus/virtio/drivers/virtio_blk",
}


def mount_line(point: str, device: str, kind: str, source: str) -> str:
    return f"1 0 {device} / {point} rw - {kind} {source} rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "swaps", "used"),
    [
        (mount_line("/", "254:1", "ext4", "/dev/vda1"), "", ["vda"]),
        (mount_line("/", "254:1", "ext4", "/dev/root"), "", ["vda"]),
        (mount_line("/", "253:0", "ext4", "/dev/mapper/data"), "", ["vdb"]),
        (mount_line("/", "0:30", "btrfs", "/dev/mapper/data"), "", ["vdb"]),
        (mount_line("/", "0:30", "btrfs", "/dev/vda1"), "", ["vda"]),
        (
            mount_line("/", "254:1", "ext4", "/dev/vda1") + mount_line("/snap", "7:0", "squashfs", "/dev/loop0"),
            "",
            ["vda"],
        ),
        (mount_line("/", "254:1", "ext4", "/dev/vda1"), "/dev/dm-0 partition 1 0 -2\n", ["vda", "vdb"]),
        (mount_line("/", "254:1", "ext4", "/dev/vda1"), "/swapfile file 1 0 -2\n", ["vda"]),
        (mount_line("/", "0:40", "zfs", "rpool/ROOT"), "", ["vda", "vdb"]),
    ],
    ids=["partition", "root", "lvm", "btrfs-lvm", "btrfs", "loop", "swap", "swapfile", "zfs"],
)
def test_disks_in_use_are_found_through_what_lies_between(
    tmp_path: Path, mountinfo: str, swaps: str, used: list[str]
) -> None:
    files = {**DISK, "/proc/self/mountinfo": mountinfo, "/proc/swaps": DISK["/proc/swaps"] + swaps}
    found = file_systems.disks.function(testing.host(tmp_path, files, DISK_LINKS))
    assert [disk.name for disk in found.disks] == used
    assert {disk.kind for disk in found.disks} == {"paravirtual"}
    assert found.attached_bytes == (41943040 + 1000) * 512


@pytest.mark.parametrize(
    ("driver", "features", "more"),
    [
        ("virtio_net", "1" * 64 + "\n", True),
        ("virtio_net", "1" * 22 + "0" + "1" * 41 + "\n", False),
        ("virtio_net", "0" * 22 + "1" + "0" * 41 + "\n", True),
        ("virtio_net", "1" * 22 + "\n", None),
        ("virtio_net", None, None),
        ("e1000", "0" * 64 + "\n", None),
    ],
)
def test_a_virtio_card_tells_whether_it_can_have_more_queues(
    tmp_path: Path, driver: str, features: str | None, *, more: bool | None
) -> None:
    files = {
        "/sys/class/net/eth0/flags": "0x1003\n",
        "/sys/devices/pci0/virtio2/uevent": "",
        **({} if features is None else {"/sys/devices/pci0/virtio2/features": features}),
    }
    links = {
        "/sys/class/net/eth0/device": "../../../devices/pci0/virtio2",
        "/sys/devices/pci0/virtio2/driver": f"../../../bus/virtio/drivers/{driver}",
    }
    (card,) = nics.nics.function(testing.host(tmp_path, files, links)).nics
    assert card.more_queues is more


def test_slaves_that_go_round_in_a_circle_end(tmp_path: Path) -> None:
    files = {
        **DISK,
        "/sys/devices/virtual/block/md0/slaves/md1": "",
        "/sys/devices/virtual/block/md1/slaves/md0": "",
        "/proc/self/mountinfo": mount_line("/", "9:0", "ext4", "/dev/md0"),
    }
    links = {
        **DISK_LINKS,
        "/sys/class/block/md0": "../../devices/virtual/block/md0",
        "/sys/class/block/md1": "../../devices/virtual/block/md1",
        "/sys/dev/block/9:0": "../../devices/virtual/block/md0",
    }
    assert [disk.name for disk in file_systems.disks.function(testing.host(tmp_path, files, links)).disks] == [
        "vda",
        "vdb",
    ]


# Memory and swap


def test_swap_is_watched_until_the_window_ends() -> None:
    began = time.monotonic()
    seen = list(memory.swapping.function(Host(ends_at=began + 0.6)))
    assert len(seen) >= 2
    assert all(isinstance(each, Swapping) for each in seen)
    assert [each.window_s for each in seen] == sorted(each.window_s for each in seen)
    assert 0.5 <= seen[-1].window_s <= time.monotonic() - began + 0.001


@pytest.mark.parametrize(
    ("vmstat", "ballooned"),
    [
        ("balloon_inflate 300\nballoon_deflate 100\n", 200 * 4096),
        ("balloon_inflate 0\nballoon_deflate 0\n", 0),
        ("nr_balloon_pages 7\nballoon_inflate 300\nballoon_deflate 100\n", 7 * 4096),
        ("pswpin 0\n", None),
    ],
)
def test_what_a_balloon_holds_comes_from_the_kernels_counters(
    tmp_path: Path, vmstat: str, ballooned: int | None
) -> None:
    files = {
        "/proc/vmstat": vmstat,
        "/sys/bus/virtio/drivers/virtio_balloon/virtio0/driver": "",
        "/sys/bus/virtio/drivers/virtio_balloon/module/x": "",
        "/.vdscheck/facts/psutil-virtual-memory.json": '{"total": 1000000, "available": 0}',
    }
    found = memory.amounts.function(testing.host(tmp_path, files))
    assert found == Memory(
        total_bytes=1000000,
        available_bytes=0,
        installed_bytes=None,
        ballooned_bytes=ballooned,
        balloon_driver="virtio_balloon",
        limit_bytes=None,
        limit_used_bytes=None,
    )


def test_a_driver_without_a_device_is_no_balloon(tmp_path: Path) -> None:
    files = {
        "/proc/vmstat": "balloon_inflate 0\n",
        "/sys/bus/virtio/drivers/virtio_balloon/bind": "",
        "/.vdscheck/facts/psutil-virtual-memory.json": '{"total": 1, "available": 1}',
    }
    assert memory.amounts.function(testing.host(tmp_path, files)).balloon_driver is None


def test_memory_blocks_that_are_offline_are_not_installed(tmp_path: Path) -> None:
    files = {
        "/sys/devices/system/memory/block_size_bytes": "8000000\n",
        "/sys/devices/system/memory/memory0/online": "1\n",
        "/sys/devices/system/memory/memory1/online": "0\n",
        "/.vdscheck/facts/psutil-virtual-memory.json": '{"total": 1, "available": 1}',
    }
    assert memory.amounts.function(testing.host(tmp_path, files)).installed_bytes == 128 << 20


# Pressure and the clock


def test_pressure_is_read_with_and_without_the_line_full() -> None:
    some = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n"
    first = psi.parsed(some, "/proc/pressure/cpu", CpuPressure)
    assert (first.some_avg60_percent, first.full_avg60_percent, first.some_total_us) == (0.25, None, 77)
    both = psi.parsed(some + "full avg10=0.00 avg60=3.00 avg300=0.00 total=5\n", "x", CpuPressure)
    assert both.full_avg60_percent == 3.0


@pytest.mark.parametrize("text", ["", "some\n", "some avg10=nan avg60=1 avg300=1 total=1\n", "some avg10=-1 total=x"])
def test_what_is_not_pressure_is_refused(text: str) -> None:
    with pytest.raises(UnavailableError):
        psi.parsed(text, "/proc/pressure/cpu", CpuPressure)


def test_the_kernels_clock_is_read_in_the_unit_that_it_says(tmp_path: Path) -> None:
    fact = '{"status": %d, "offset": 5000, "maxerror": 1, "esterror": 2}'
    name = "/.vdscheck/facts/adjtimex.json"
    nano = sync.kernel_clock.function(testing.host(tmp_path / "nano", {name: fact % 0x2001}))
    micro = sync.kernel_clock.function(testing.host(tmp_path / "micro", {name: fact % 0x0041}))
    assert (nano.synchronised, nano.offset_us) == (True, 5.0)
    assert (micro.synchronised, micro.offset_us) == (False, 5000.0)


def test_who_steers_the_clock_is_said_where_it_shows(tmp_path: Path) -> None:
    fact = {"/.vdscheck/facts/adjtimex.json": '{"status": 1, "offset": 0, "maxerror": 1, "esterror": 2}'}
    chrony = {
        "/run/chrony/chronyd.pid": "1\n",
        "/.vdscheck/facts/run-chronyc--n--c-tracking.json": '"A9FEA97B,169.254.169.123,4,1700000000.1,0.0\\n"',
    }

    def source(name: str, files: dict[str, str]) -> str | None:
        found: str | None = sync.kernel_clock.function(testing.host(tmp_path / name, {**fact, **files})).source
        return found

    assert source("nobody", {}) is None
    assert source("timesyncd", {"/run/systemd/timesync/synchronized": ""}) == "systemd-timesyncd"
    assert source("chrony", chrony) == "chrony, from 169.254.169.123"
    assert source("silent", {"/run/chrony/chronyd.pid": "1\n"}) == "chrony"


@pytest.mark.parametrize(
    ("file", "service", "source"),
    [
        ("/run/systemd/timesync/synchronized", "systemd-timesyncd", "systemd-timesyncd"),
        ("/run/systemd/timesync/x", "systemd-timesyncd", None),
        ("/run/chrony/chronyd.pid", "chrony", "chrony"),
        ("/run/nothing", None, None),
    ],
)
def test_a_time_service_that_runs_is_known_also_where_it_has_reached_no_server(
    tmp_path: Path, file: str, service: str | None, source: str | None
) -> None:
    fact = {"/.vdscheck/facts/adjtimex.json": '{"status": 64, "offset": 0, "maxerror": 16000000, "esterror": 2}'}
    found = sync.kernel_clock.function(testing.host(tmp_path, {**fact, file: ""}))
    assert (found.service, found.source) == (service, source)


# File systems


def statvfs(size: int) -> str:
    return json.dumps({"size_bytes": size, "free_bytes": 0, "inodes": 0, "inodes_free": 0})


def test_each_file_system_counts_once_and_those_in_memory_or_far_away_do_not(tmp_path: Path) -> None:
    lines = "".join(
        (
            mount_line("/", "8:1", "ext4", "/dev/sda1"),
            mount_line("/var", "8:2", "xfs", "/dev/sda2"),
            mount_line("/var/log", "8:2", "xfs", "/dev/sda2"),
            mount_line("/tmp", "0:30", "tmpfs", "tmpfs"),
            mount_line("/home", "0:31", "nfs4", "server:/home"),
            mount_line("/srv", "0:32", "fuse.sshfs", "host:/"),
            mount_line("/opt", "7:0", "squashfs", "/dev/loop0"),
            mount_line("/data", "8:3", "ext4", "/dev/sda3"),
        )
    )
    facts = {f"/.vdscheck/facts/statvfs-{name}.json": statvfs(9) for name in ("%2F", "%2Fvar", "%2Fdata")}
    places = {f"{place}/x": "" for place in ("/var/log", "/data/lib", "/tmp", "/home", "/srv", "/opt")}
    host = testing.host(tmp_path, {**facts, **places, "/proc/self/mountinfo": lines}, {"/var/lib": "/data/lib"})
    assert list(file_systems.file_systems.function(host).by_mount) == ["/", "/var", "/data"]


# This machine, against the programs that everybody uses


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    return done.stdout


def test_the_processors_agree_with_lscpu() -> None:
    lines = dict(line.split(":", 1) for line in said("lscpu").splitlines() if ":" in line)
    found = processors.cpu.function(Host())
    assert found.online == int(lines["CPU(s)"])
    assert found.model == lines["Model name"].strip()
    assert found.architecture == lines["Architecture"].strip()
    kind = hypervisor.kind.function(Host())
    assert (kind.hypervisor == "none") == ("Hypervisor vendor" not in lines)
    if lines.get("Hypervisor vendor", "").strip() == "KVM" and not kind.emulated:
        assert kind.hypervisor == "kvm"


def test_cpuid_says_the_same_as_the_kernels_device() -> None:
    if not os.access("/dev/cpu/0/cpuid", os.R_OK):
        # the module cpuid is not loaded or we are not root: the flag is the same bit, seen by the kernel
        flagged = "hypervisor" in Path("/proc/cpuinfo").read_text()
        assert flagged == bool(set(cpuid.signatures(Host())) & set(hypervisor._SIGNATURES))
        return
    assert cpuid._executed(cpuid.BASES[0]) == cpuid._from_device(cpuid.BASES[0])


def test_the_disks_agree_with_lsblk() -> None:
    rows = json.loads(said("lsblk", "--json", "--bytes", "--nodeps", "-o", "NAME,SIZE,TYPE,RM"))["blockdevices"]
    sizes = {row["name"]: int(row["size"]) for row in rows if row["type"] == "disk" and row["size"] and not row["rm"]}
    sizes = {name: size for name, size in sizes.items() if not name.startswith("zram")}
    found = file_systems.disks.function(Host())
    assert found.attached_bytes == sum(sizes.values())
    assert {disk.name: disk.size_bytes for disk in found.disks}.items() <= sizes.items()


def test_the_file_systems_agree_with_df() -> None:
    for mount, found in file_systems.file_systems.function(Host()).by_mount.items():
        fields = said("df", "-B1", "--output=size,itotal,source", mount).splitlines()[1].split()
        assert (found.size_bytes, found.inodes, found.device) == (int(fields[0]), int(fields[1]), fields[2])


def free() -> tuple[int, int]:
    """What free says: all of the memory, and what is available."""
    words = said("free", "--bytes").splitlines()[1].split()
    return int(words[1]), int(words[6])


def test_the_memory_agrees_with_free() -> None:
    # Others take and give back memory meanwhile.
    before, found, after = free(), memory.amounts.function(Host()), free()
    assert found.total_bytes == before[0]
    differs_bytes = max(256 << 20, found.total_bytes // 20)
    assert min(before[1], after[1]) - differs_bytes < found.available_bytes < max(before[1], after[1]) + differs_bytes


def test_the_clock_agrees_with_another_way_of_asking() -> None:
    import ctypes

    class Timex(ctypes.Structure):
        _fields_ = (("modes", ctypes.c_uint), ("longs", ctypes.c_long * 4), ("status", ctypes.c_int))
        _pack_ = 0

    buffer = (ctypes.c_long * 64)()
    assert ctypes.CDLL(None).ntp_adjtime(buffer) >= 0
    status = Timex.from_buffer(buffer).status
    assert sync.kernel_clock.function(Host()).synchronised == (not status & 0x40)


def test_reading_the_clock_costs_something_and_not_much() -> None:
    found = clocksource.clocksource.function(Host())
    assert found.current in found.available
    assert found.read_ns is not None
    assert 5 < found.read_ns < 100_000


@pytest.mark.parametrize("probe", ONCE, ids=lambda probe: probe.id)
def test_each_probe_answers_here_within_its_deadline(probe: Any) -> None:
    began = time.monotonic()
    try:
        probe.function(Host())
    except UnavailableError as error:
        absent: Absent = error.absent
        assert absent.kind == "not-applicable" or absent.reason in (Reason.UNSUPPORTED, Reason.PERMISSION)
    assert time.monotonic() - began < 10 * probe.deadline_s


@pytest.mark.parametrize("content", ["", "a" * 2000, "MemTotal: many kB\n", "MemTotal:\n"])
def test_a_meminfo_that_no_kernel_wrote_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "meminfo").write_text(content)
    (tmp_path / "vmstat").write_text("pswpin 0\npswpout 0\n")
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path))
    # of an empty file psutil asks sysinfo(2) for swap instead
    for ask in (memory._virtual_memory, *([memory._swap_memory] if content else [])):
        with pytest.raises(UnavailableError) as error:
            ask()
        assert error.value.absent.detail == "/proc/meminfo is not what a kernel writes there"


def test_swapping_is_measured_also_when_the_window_was_over_before_the_first_look() -> None:
    host = Host(ends_at=time.monotonic() - 1)
    assert len(list(memory.swapping.function(host))) == 1


@pytest.mark.parametrize("content", ["", "\n", "tsc kvm-clock\n", "\x1b\\xff\n"])
def test_a_clock_source_that_no_kernel_names_is_not_judged(tmp_path: Path, content: str) -> None:
    files = {
        f"{clocksource.FOLDER}/current_clocksource": content,
        f"{clocksource.FOLDER}/available_clocksource": "tsc\n",
    }
    with pytest.raises(UnavailableError, match="is not what a kernel writes there"):
        clocksource.clocksource.function(testing.host(tmp_path, files))
