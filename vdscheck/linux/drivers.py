"""What the drivers of network cards and disks say of the hardware: virtual by design, real, or emulated."""

from collections.abc import Iterator

from vdscheck.measurements import DriverKind
from vdscheck.plugin import Host, UnavailableError

_PARAVIRTUAL = frozenset(
    (
        *("virtio_net", "virtio_blk", "virtio_scsi", "virtio-pmem", "virtio_pmem", "9pnet_virtio", "virtiofs"),
        *("vmxnet3", "vmw_pvscsi", "hv_netvsc", "hv_storvsc", "storvsc"),
        *("vif", "vbd", "xen-netfront", "xen-blkfront", "xen_netfront", "xen_blkfront", "xen-scsifront"),
        *("ena", "gve"),
    )
)
"""Written for a hypervisor or a cloud; on their buses Xen's drivers are called vif and vbd."""

_PASSTHROUGH = frozenset(
    (
        *("mlx4_core", "mlx4_en", "mlx5_core", "mana", "ixgbe", "ixgbevf", "igbvf", "i40e", "i40evf"),
        *("iavf", "ice", "idpf", "bnxt_en", "bnx2x", "tg3", "be2net", "cxgb4", "cxgb4vf", "nfp"),
        *("sfc", "sfc_efx", "qede", "qlcnic", "hinic", "hinic3", "fm10k", "atlantic", "igc", "r8169"),
        *("mpt3sas", "mpi3mr", "smartpqi", "hpsa", "aacraid", "arcmsr", "qla2xxx", "lpfc"),
    )
)
"""Of real hardware that QEMU, VMware, Hyper-V and VirtualBox do not imitate."""

_EMULATED = frozenset(
    (
        *("e1000", "e1000e", "8139cp", "8139too", "pcnet32", "ne2k-pci", "tulip", "de2104x", "vmxnet"),
        *("ata_piix", "pata_acpi", "ata_generic", "pata_legacy", "piix", "sym53c8xx", "BusLogic"),
        *("mptspi", "mptsas", "am53c974", "floppy", "sdhci-pci", "dc395x"),
    )
)
"""What hypervisors imitate for guests without drivers of their own."""

_EITHER = frozenset(("ahci", "megaraid_sas", "igb", "usb-storage", "uas", "mmcblk", "sdhci"))
"""Imitated as well as passed through: the name on the disk decides."""

_IMITATIONS = ("QEMU", "VBOX", "VMware", "Virtual", "Msft")
"""How imitated disks call themselves, in the fields vendor and model."""

_BELOW_A_DISK = frozenset(("sd", "sr", "ses", "nvme-subsystem"))
"""Drivers of what hangs on a controller: the controller's own is above them."""


_BY_DRIVER: dict[str | None, DriverKind] = {
    **dict.fromkeys(_PARAVIRTUAL, "paravirtual"),
    **dict.fromkeys(_PASSTHROUGH, "passthrough"),
    **dict.fromkeys(_EMULATED, "emulated"),
    "nvme": "nvme",
}


def kind_of(driver: str | None, model: str = "") -> DriverKind:
    """What a driver says of its hardware; a disk's vendor and model decide where it can be either."""
    known = _BY_DRIVER.get(driver)
    if driver not in _EITHER and known != "passthrough":
        return known or "unknown"
    if model.strip().startswith(_IMITATIONS):
        return "emulated"
    return known or ("passthrough" if model.strip() else "unknown")


def driver_of(host: Host, device: str) -> str | None:
    """The driver of a device folder, or of the nearest controller above it."""
    for folder in _upwards(host, device):
        try:
            name = host.link(f"{folder}/driver").rpartition("/")[2]
        except UnavailableError:
            continue
        if name and name not in _BELOW_A_DISK:
            return name
    return None


def disk_driver(host: Host, name: str) -> str | None:
    """The driver of a whole disk, by its name in /sys/class/block."""
    return driver_of(host, f"/sys/class/block/{name}/device") or ("nvme" if name.startswith("nvme") else None)


def _upwards(host: Host, device: str) -> Iterator[str]:
    try:
        folder = host.resolved(device)
    except UnavailableError:
        return
    while folder.startswith("/sys/devices/"):
        yield folder
        folder = folder.rpartition("/")[0]
