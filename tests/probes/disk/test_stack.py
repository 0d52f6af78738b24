"""What lies under a path: constructed stacks of every kind in, layers and disks out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import host_trees
from vdscheck.codec import encode
from vdscheck.measurements import DiskStack
from vdscheck.model.absence import Absent, Reason, UnavailableError
from vdscheck.plugin import Host
from vdscheck.probes.disk.devices import chosen
from vdscheck.probes.disk.stack import stack
from vdscheck.probes.disk.subject import USUAL, DiskPath

VAR_LIB = DiskPath("/var/lib", asked_for=False)
PCI = "/sys/devices/pci0000:00/0000:00:04.0"
VIRTUAL = "/sys/devices/virtual/block"


@dataclass
class Machine:
    """A tree of /sys/class/block and /proc/self/mountinfo, as the kernel lays it out."""

    mounts: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    numbers: int = 0

    def block(self, name: str, below: str = VIRTUAL, *, slaves: str = "", **files: str) -> str:
        """A block device; its number is 252:N in the order of making. Returns its number."""
        here = f"{below}/{name}"
        self.numbers += 1
        number = f"252:{self.numbers}"
        self.links[f"/sys/class/block/{name}"] = here
        self.links[f"/sys/dev/block/{number}"] = here
        self.files[f"{here}/size"] = "41943040\n"
        self.files[f"{here}/dev"] = f"{number}\n"
        for each in slaves.split():
            self.links[f"{here}/slaves/{each}"] = f"/sys/class/block/{each}"
        for file, text in files.items():
            self.files[f"{here}/{file.replace('__', '/')}"] = f"{text}\n"
        return number

    def drive(self, name: str, driver: str, *, pci: str = PCI, between: str = "", **files: str) -> str:
        """A whole disk on a PCI device with that driver."""
        self.links[f"{pci}/driver"] = f"/sys/bus/pci/drivers/{driver}"
        device = f"{pci}{between}"
        self.links[f"{device}/block/{name}/device"] = device
        return self.block(name, f"{device}/block", **files)

    def nvme(self, name: str, model: str, *, transport: str = "pcie", **files: str) -> str:
        return self.drive(
            name, "nvme", between="/nvme/nvme0", device__model=model, device__transport=transport,
            queue__scheduler="[none] mq-deadline", queue__rotational="0", **files,
        )  # fmt: skip

    def partition(self, name: str, of: str) -> str:
        return self.block(name, self.links[f"/sys/class/block/{of}"], partition="1")

    def mount(self, number: str, point: str, kind: str, source: str, *, root: str = "/", options: str = "rw") -> None:
        self.mounts.append(f"{30 + len(self.mounts)} 1 {number} {root} {point} rw shared:1 - {kind} {source} {options}")

    def made(self, folder: Path, *, there: tuple[str, ...] = ("/var/lib",)) -> Host:
        self.files["/proc/self/mountinfo"] = "\n".join(self.mounts) + "\n"
        for path, text in self.files.items():
            place = folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        for path, target in self.links.items():
            place = folder / path.lstrip("/")
            if not os.path.lexists(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(target)
            if not target.startswith("/sys/class/"):
                (folder / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for path in there:
            (folder / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return Host(root=str(folder))


def partition() -> Machine:
    host = Machine()
    host.nvme("nvme0n1", "Samsung MZQL23T8HCLS")
    host.mount(host.partition("nvme0n1p2", "nvme0n1"), "/", "ext4", "/dev/nvme0n1p2")
    return host


def lvm_on_luks_on_md() -> Machine:
    host = Machine()
    for name, pci in (("nvme0n1", PCI), ("nvme1n1", PCI.replace("04", "05"))):
        host.drive(name, "nvme", pci=pci, between=f"/nvme/{name[:5]}", device__model="KIOXIA", device__transport="pcie")
        host.partition(f"{name}p3", name)
    host.block("md0", slaves="nvme0n1p3 nvme1n1p3", md__level="raid1")
    host.block("dm-0", slaves="md0", dm__uuid="CRYPT-LUKS2-7a", dm__name="secret")
    number = host.block("dm-1", slaves="dm-0", dm__uuid="LVM-abc", dm__name="vg-root")
    host.mount(number, "/", "xfs", "/dev/mapper/vg-root")
    return host


def loop() -> Machine:
    host = partition()
    number = host.block("loop3", loop__backing_file="/srv/disk image.img")
    host.mount(number, "/var/lib", "ext4", "/dev/loop3")
    return host


def bind() -> Machine:
    host = partition()
    host.mount("252:2", "/var/lib", "ext4", "/dev/nvme0n1p2", root="/data/lib")
    return host


def btrfs_on_two() -> Machine:
    host = Machine()
    host.nvme("nvme0n1", "KIOXIA")
    host.drive("sda", "ahci", pci=PCI.replace("04", "07"), between="/ata1/host0/target0:0:0/0:0:0:0",
               device__model="ST4000NM", device__vendor="ATA", queue__rotational="1")  # fmt: skip
    for name in ("nvme0n1", "sda"):
        host.links[f"/sys/fs/btrfs/1234-uuid/devices/{name}"] = host.links[f"/sys/class/block/{name}"]
    host.mount("0:33", "/", "btrfs", "/dev/sda", root="/@")
    return host


def overlay_over_a_host_folder() -> Machine:
    host = partition()
    host.mount("0:50", "/var/lib", "overlay", "overlay", options="rw,lowerdir=/x,upperdir=/srv/upper,workdir=/y")
    return host


def overlay_in_a_container() -> Machine:
    host = Machine()
    host.nvme("nvme0n1", "KIOXIA")
    host.mount("0:50", "/", "overlay", "overlay", options="rw,lowerdir=/x,upperdir=/var/lib/docker/a/diff,workdir=/y")
    return host


def multipath() -> Machine:
    host = Machine()
    for name, port in (("sda", "3"), ("sdb", "4")):
        host.drive(name, "qla2xxx", pci=PCI.replace("04", f"0{port}"), device__model="LUN C-Mode",
                   between=f"/host{port}/rport-{port}:0-1/target{port}:0:0/{port}:0:0:0")  # fmt: skip
    number = host.block("dm-0", slaves="sda sdb", dm__uuid="mpath-3600a", dm__name="mpatha")
    host.mount(number, "/", "xfs", "/dev/mapper/mpatha")
    return host


def nvme(model: str, transport: str = "pcie") -> Machine:
    host = Machine()
    host.mount(host.nvme("nvme0n1", model, transport=transport), "/", "ext4", "/dev/nvme0n1")
    return host


def nvme_with_native_multipath() -> Machine:
    host = Machine()
    subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    number = host.block("nvme0n1", subsystem)
    host.links[f"{subsystem}/nvme0n1/device"] = subsystem
    host.files[f"{subsystem}/model"] = "Dell PowerStore\n"
    host.links[f"{subsystem}/nvme1"] = "/sys/devices/virtual/nvme-fabrics/ctl/nvme1"
    host.files["/sys/devices/virtual/nvme-fabrics/ctl/nvme1/transport"] = "tcp\n"
    host.mount(number, "/", "xfs", "/dev/nvme0n1")
    return host


def virtio() -> Machine:
    host = Machine()
    between = "/virtio1"
    host.links[f"{PCI}{between}/driver"] = "/sys/bus/virtio/drivers/virtio_blk"
    number = host.drive("vda", "virtio-pci", between=between, queue__rotational="1", queue__scheduler="none [bfq]")
    host.mount(number, "/", "ext4", "/dev/vda")
    return host


ON_NVME = "on nvme0n1p2 (partition) on nvme0n1 (Samsung MZQL23T8HCLS, nvme over pcie)"
PARTS = "nvme0n1p3 (partition) on nvme1n1p3 (partition)"
BOTH = "nvme0n1 (KIOXIA, nvme over pcie) and nvme1n1 (KIOXIA, nvme over pcie)"
PATHS = "sda (LUN C-Mode, fibre channel) and sdb (LUN C-Mode, fibre channel)"
STACKS = [
    (partition, f"ext4 {ON_NVME}"),
    (lvm_on_luks_on_md, f"xfs on dm-1 (lvm vg-root) on dm-0 (crypt secret) on md0 (raid raid1) on {PARTS} on {BOTH}"),
    (loop, f"ext4 on loop3 (loop /srv/disk image.img) {ON_NVME}"),
    (bind, f"ext4 on /var/lib (bind /data/lib) {ON_NVME}"),
    (btrfs_on_two, "btrfs on nvme0n1 (KIOXIA, nvme over pcie) and sda (ST4000NM, ata)"),
    (overlay_over_a_host_folder, f"overlay on overlay (overlay /srv/upper) {ON_NVME}"),
    (overlay_in_a_container, "overlay on overlay (overlay /var/lib/docker/a/diff) on nvme0n1 (KIOXIA, nvme over pcie)"),
    (multipath, f"xfs on dm-0 (multipath mpatha) on {PATHS}"),
    (nvme_with_native_multipath, "xfs on nvme0n1 (Dell PowerStore, nvme over tcp)"),
    (virtio, "ext4 on vda (virtio)"),
]


@pytest.mark.parametrize(("machine", "said"), STACKS, ids=lambda each: getattr(each, "__name__", None))
def test_a_stack_is_followed_to_its_disks(machine: object, said: str, tmp_path: Path) -> None:
    host = machine().made(tmp_path, there=("/var/lib", "/srv/upper"))  # type: ignore[operator]
    found = stack.function(host, VAR_LIB)
    assert found.in_words == said
    assert found.followed is (machine is not overlay_in_a_container)
    assert encode(found)


@pytest.mark.parametrize(
    ("model", "transport", "network"),
    [
        ("Amazon Elastic Block Store", "pcie", "Amazon EBS"),
        ("Amazon EC2 NVMe Instance Storage", "pcie", None),
        ("nvme_card-pd", "pcie", "Google Persistent Disk or Hyperdisk"),
        ("nvme_card", "pcie", None),
        ("nvme_card3", "pcie", None),
        ("MSFT NVMe Accelerator v1.0", "pcie", "Azure managed disk"),
        ("Microsoft NVMe Direct Disk v2", "pcie", None),
        ("Linux", "tcp", "nvme over tcp"),
        ("Linux", "rdma", "nvme over rdma"),
        ("PowerMax", "fc", "nvme over fc"),
        ("QEMU NVMe Ctrl", "pcie", None),
    ],
)
def test_storage_over_the_network_that_shows_as_nvme_is_named(
    model: str, transport: str, network: str | None, tmp_path: Path
) -> None:
    found = stack.function(nvme(model, transport).made(tmp_path), VAR_LIB)
    (device,) = found.devices
    assert (device.is_nvme, device.network, device.scheduler, device.rotational) == (True, network, "none", False)


def test_of_a_virtual_disk_the_kernel_says_what_it_says_and_the_medium_stays_unknown(tmp_path: Path) -> None:
    (device,) = stack.function(virtio().made(tmp_path), VAR_LIB).devices
    assert (device.rotational, device.scheduler, device.is_unknowable, device.is_nvme) == (True, "bfq", True, False)


def refusal(machine: Machine, folder: Path, disk: DiskPath = VAR_LIB) -> Absent:
    with pytest.raises(UnavailableError) as caught:
        stack.function(machine.made(folder), disk)
    return caught.value.absent


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "nfs4", "cifs", "9p", "virtiofs", "fuse.sshfs"])
def test_what_has_no_disk_of_this_machine_is_not_applicable(kind: str, tmp_path: Path) -> None:
    host = partition()
    host.mount("0:60", "/var/lib", kind, "somewhere")
    absent = refusal(host, tmp_path)
    assert absent.kind == "not-applicable"
    assert ("memory" in absent.detail) is (kind in {"tmpfs", "ramfs"})


def test_a_disk_in_compressed_memory_is_none(tmp_path: Path) -> None:
    host = Machine()
    host.mount(host.block("zram0"), "/var/lib", "ext4", "/dev/zram0")
    assert refusal(host, tmp_path).kind == "not-applicable"


def test_what_cannot_be_followed_is_unknown_where_there_are_several_disks(tmp_path: Path) -> None:
    host = lvm_on_luks_on_md()
    host.mount("0:70", "/var/lib", "zfs", "tank/lib")
    absent = refusal(host, tmp_path)
    assert absent.reason is Reason.UNSUPPORTED
    assert "zfs on tank/lib" in absent.detail
    assert "nvme0n1, nvme1n1" in absent.detail


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    absent = refusal(partition(), tmp_path, DiskPath("/srv/nowhere", asked_for=True))
    assert absent.reason is Reason.UNSUPPORTED
    assert "there is no /srv/nowhere here" in absent.detail


def test_a_loop_in_the_layers_ends(tmp_path: Path) -> None:
    host = Machine()
    number = host.block("dm-0", slaves="dm-1")
    host.block("dm-1", slaves="dm-0")
    host.nvme("nvme0n1", "KIOXIA")
    host.mount(number, "/", "ext4", "/dev/dm-0")
    found = stack.function(host.made(tmp_path), VAR_LIB)
    assert [each.name for each in found.layers] == ["dm-0", "dm-1"]
    assert not found.followed


def test_a_link_inside_a_captured_tree_leads_to_the_mount_behind_it(tmp_path: Path) -> None:
    host = partition()
    host.mount(host.nvme("nvme9n1", "second", transport="tcp"), "/data", "xfs", "/dev/nvme9n1")
    host.links["/var/lib"] = "/data/lib"
    made = host.made(tmp_path, there=())
    assert stack.function(made, VAR_LIB).mount == "/data"


@pytest.mark.parametrize(
    ("text", "scheduler"),
    [("[none] mq-deadline", "none"), ("none [mq-deadline] kyber bfq", "mq-deadline"), ("none", "none"), ("", None)],
)
def test_the_chosen_scheduler_stands_in_brackets(text: str, scheduler: str | None) -> None:
    assert chosen(text) == scheduler


@given(st.text(max_size=200))
def test_no_text_makes_the_scheduler_more_than_a_word(text: str) -> None:
    found = chosen(text)
    assert found is None or (found in text and " " not in found)


CHOSEN: list[tuple[Mapping[str, object], dict[str, bool]]] = [
    ({}, {USUAL: False}),
    ({"disk": []}, {USUAL: False}),
    ({"disk": ["/srv/"]}, {"/srv": True}),
    ({"disk": ["/srv", "//./srv//", "/../srv", "/var/lib"]}, {"/srv": True, "/var/lib": True}),
    ({"disk": ["/a b\udcff"]}, {"/a b\\xff": True}),
]


@pytest.mark.parametrize(("settings", "paths"), CHOSEN)
def test_the_paths_are_absolute_and_each_counts_once(settings: Mapping[str, object], paths: dict[str, bool]) -> None:
    assert {path: disk.asked_for for path, disk in DiskPath.chosen(settings).items()} == paths


def test_a_relative_path_is_taken_from_the_folder_that_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(DiskPath.chosen({"disk": ["data"]})) == [f"{tmp_path}/data"]


HOSTS = [
    ("aws-nitro", "nvme0n1 (Amazon Elastic Block Store, nvme)", True),
    ("bare-metal", "ext4 on dm-0 (dm vg0-root) on md0 (raid) on nvme0n1p1 (partition)", True),
    ("docker-on-metal", "nvme0n1 (SAMSUNG MZVLB512HBJQ-00000, nvme)", False),
    ("hyper-v-azure", "sda (Msft Virtual Disk, scsi)", True),
    ("kvm-firecracker", "ext4 on vda (virtio)", True),
    ("tcg-debian-12", "nvme0n1 (QEMU NVMe Ctrl, nvme)", True),
    ("tcg-debian-13-ide", "sda (QEMU HARDDISK, ata)", True),
    ("xen-pv", "xvda (xen)", True),
]


@pytest.mark.parametrize(("name", "said", "followed"), HOSTS)
def test_the_disks_of_captured_and_constructed_hosts(name: str, said: str, followed: bool, tmp_path: Path) -> None:  # noqa: FBT001
    host = host_trees.unpack(host_trees.all_hosts()[name], tmp_path)
    found = stack.function(host, VAR_LIB)
    assert said in found.in_words
    assert found.followed is followed


def test_this_machine_itself_has_a_disk_under_var_lib() -> None:
    found = stack.function(Host(), VAR_LIB)
    assert isinstance(found, DiskStack)
    assert found.devices
