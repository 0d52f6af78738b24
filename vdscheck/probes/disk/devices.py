"""One whole disk: its driver, transport, model and scheduler, and the network storage that shows as it."""

import re

from vdscheck.linux import optional_files
from vdscheck.linux.block_devices import BLOCK, Blocks
from vdscheck.linux.drivers import disk_driver, kind_of
from vdscheck.measurements import DiskDevice

_NETWORK_MODELS = (
    ("Amazon Elastic Block Store", "Amazon EBS"),
    ("nvme_card-pd", "Google Persistent Disk or Hyperdisk"),
    ("MSFT NVMe Accelerator", "Azure managed disk"),
)
"""How the NVMe model of storage over the network begins; their local disks are called otherwise.

Sources: https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html,
https://github.com/GoogleCloudPlatform/guest-configs (udev rules; a local SSD is `nvme_card`),
https://github.com/Azure/azure-vm-utils (a local disk is `Microsoft NVMe Direct Disk`).
"""
_FABRICS = ("nvme over tcp", "nvme over rdma", "nvme over fc")
_IMITATORS = ("QEMU", "VBOX", "VMware", "Msft")
_BY_PATH = (
    (r"/ata[0-9]+/", "ata"),
    (r"/usb[0-9]+/", "usb"),
    (r"/virtio[0-9]+/", "virtio"),
    (r"/mmc[0-9]+/", "mmc"),
    (r"/vbd-[0-9]+/", "xen"),
    (r"/session[0-9]+/", "iscsi"),
    (r"/rport-[0-9:-]+/", "fibre channel"),
    (r"/host[0-9]+/", "scsi"),
)
"""What a device's folder below /sys/devices says of the way to it; the first that matches."""


def device(blocks: Blocks, name: str) -> DiskDevice:
    """What the host shows of a whole disk."""
    model = model_of(blocks, name)
    driver = disk_driver(blocks.host, name)
    transport = _transport(blocks, name)
    return DiskDevice(
        name=name,
        driver=driver,
        kind=kind_of(driver, model or ""),
        transport=transport,
        model=model,
        network=_network(model, transport),
        rotational={"0": False, "1": True}.get(blocks.line(name, "queue/rotational") or ""),
        scheduler=chosen(blocks.line(name, "queue/scheduler") or ""),
        size_bytes=blocks.size_bytes(name),
    )


def model_of(blocks: Blocks, name: str) -> str | None:
    """The model of a disk, with its maker where that tells an imitation."""
    maker, model = blocks.line(name, "device/vendor") or "", blocks.line(name, "device/model") or ""
    # of virtio and Xen disks the field vendor is a number
    return (f"{maker} {model}".strip() if maker in _IMITATORS else model) or None


def chosen(text: str) -> str | None:
    """The scheduler in brackets, or the only one (`none`) of a device without a queue of requests."""
    marked = re.search(r"\[([a-z0-9_-]+)\]", text)
    if marked:
        return marked[1]
    return text if re.fullmatch(r"[a-z0-9_-]+", text) else None


def _network(model: str | None, transport: str | None) -> str | None:
    if transport in ("iscsi", "fibre channel"):
        return f"a disk over {transport}"
    if transport in _FABRICS:
        return transport
    return next((name for start, name in _NETWORK_MODELS if (model or "").startswith(start)), None)


def _transport(blocks: Blocks, name: str) -> str | None:
    if name.startswith("nvme"):
        found = blocks.line(name, "device/transport") or _of_a_path(blocks, name)
        return f"nvme over {found}" if found else "nvme"
    where = blocks.host.resolved(f"{BLOCK}/{name}")
    return next((transport for shape, transport in _BY_PATH if re.search(shape, where)), None)


def _of_a_path(blocks: Blocks, name: str) -> str | None:
    """Of a drive with several paths (an NVMe subsystem) the transport stands with each of its controllers."""
    controllers = blocks.host.glob(f"{BLOCK}/{name}/device/nvme[0-9]*")
    return next(filter(None, (optional_files.line(blocks.host, f"{each}/transport") for each in controllers)), None)
