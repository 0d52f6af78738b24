"""What kind of machine this is: what runs below the kernel, and whether we are in a container."""

import re
from collections.abc import Iterator

from vdscheck.linux import optional_files
from vdscheck.linux.cpuinfo import Processors, processors
from vdscheck.measurements import Machine
from vdscheck.plugin import Host, UnavailableError, frozen, probe
from vdscheck.probes.virt import container, cpuid

QEMU = "qemu"
"""QEMU, and nothing says whether with KVM or in full emulation: its firmware is the same for both."""
SOME = "some"
"""A hypervisor that does not say its name."""
TCG = "tcg"
"""QEMU's full emulation."""
METAL = "none"

_SIGNATURES = {
    "KVMKVMKVM": "kvm",
    "Linux KVM Hv": "kvm",
    "TCGTCGTCGTCG": TCG,
    "XenVMMXenVMM": "xen",
    "VMwareVMware": "vmware",
    "VBoxVBoxVBox": "virtualbox",
    "bhyve bhyve ": "bhyve",
    "ACRNACRNACRN": "acrn",
    "QNXQVMBSQG": "qnx",
    "prl hyperv  ": "parallels",
    " lrpepyh  vr": "parallels",
    "OpenBSDVMM58": "openbsd-vmm",
    "Microsoft Hv": "hyper-v",
}
"""Those that also sign as Hyper-V, for Windows guests, come before it.

Sources: the kernel's Documentation/virt/kvm/x86/cpuid.rst, systemd's src/basic/virt.c, QEMU's
target/i386/cpu.c (TCG).
"""
_FIRMWARE = (
    ("sys_vendor", "VMware", "vmware"),
    ("sys_vendor", "VMW", "vmware"),
    ("sys_vendor", "innotek GmbH", "virtualbox"),
    ("product_name", "VirtualBox", "virtualbox"),
    ("product_name", "KVM", "kvm"),
    ("product_name", "OpenStack", "kvm"),
    ("product_name", "KubeVirt", "kvm"),
    ("product_name", "vServer", "kvm"),
    ("product_name", "Droplet", "kvm"),
    ("product_name", "AHV", "kvm"),
    ("product_name", "Google Compute Engine", "kvm"),
    ("product_name", "HVM domU", "xen"),
    ("sys_vendor", "Xen", "xen"),
    ("product_name", "BHYVE", "bhyve"),
    ("sys_vendor", "Parallels", "parallels"),
    ("product_name", "Parallels", "parallels"),
    ("sys_vendor", "QEMU", QEMU),
    ("bios_vendor", "SeaBIOS", QEMU),
    ("bios_vendor", "Bochs", QEMU),
    ("sys_vendor", "Bochs", QEMU),
    ("product_name", "Standard PC (", QEMU),
)
"""What a field of the firmware's tables begins with, and what that means.

Sources: systemd's src/basic/virt.c; vServer, Droplet and AHV are Hetzner's, DigitalOcean's and
Nutanix's names for their KVM guests.
"""
_CLOCKS = (("kvm-clock", "kvm"), ("xen", "xen"), ("hyperv_clocksource_tsc_page", "hyper-v"))
_CLOCK_DEVICES = {"KVM virtual PTP": "kvm", "hyperv": "hyper-v"}
_PCI_VENDORS = {
    "0x1b36": QEMU,
    "0x1234": QEMU,
    "0x15ad": "vmware",
    "0x5853": "xen",
    "0x80ee": "virtualbox",
    "0x1ab8": "parallels",
    "0x1414": "hyper-v",
    "0x1af4": SOME,
}
"""From pci.ids. 0x1af4 is virtio, which a card of real hardware can speak as well."""
_TCG_ON_ARM = "ARM implementer 0x00 part 0x051"
"""QEMU's own processor, which only its emulation has (target/arm/tcg/cpu64.c, aarch64_max_tcg_initfn)."""
_QEMU_SUBSYSTEM = ("0x1af4", "0x1100")
_SYSTEMD = {"microsoft": "hyper-v", "oracle": "virtualbox", "amazon": "kvm", "google": "kvm", "vm-other": SOME}


@frozen
class _Clue:
    says: str
    means: str | None = None
    """A hypervisor, or QEMU, SOME, TCG, METAL; None where it only adds to the picture."""
    decisive: bool = False


@probe("virt.machine", formerly="machine.kind", cheap=True, deadline_s=5.0)
def kind(host: Host) -> Machine:
    """Asks CPUID, the firmware tables, the device tree, /sys/hypervisor, clock sources, PCI, namespaces."""
    cpus = processors(host.read("/proc/cpuinfo"))
    clues = [
        *_cpuid(host),
        *_processor(cpus),
        *_firmware(host),
        *_device_tree(host),
        *_xen(host),
        *_clock_sources(host),
        *_pci(host),
    ]
    hypervisor, emulated, sure = _decided(clues)
    surroundings = container.look(host)
    return Machine(
        hypervisor=hypervisor,
        emulated=emulated,
        container=surroundings.kind,
        sure=sure and surroundings.sure,
        clues=(*(clue.says for clue in clues), *surroundings.clues),
    )


def _decided(clues: list[_Clue]) -> tuple[str | None, bool, bool]:
    """The hypervisor, whether it emulates every instruction, and whether a fact decided."""
    meant = [clue.means for clue in clues if clue.means]
    deciding = {clue.means for clue in clues if clue.means and clue.decisive}
    if "virtualbox" in meant:
        # it offers KVM's interface to Linux guests, and signs as KVM
        return "virtualbox", False, "virtualbox" in deciding
    if TCG in meant:
        return QEMU, True, True
    named = next((each for each in meant if each not in (QEMU, SOME, METAL)), None)
    if named:
        # a cloud's name in the firmware of a processor without a hypervisor: one of its metal servers?
        sure = named in deciding and METAL not in deciding
        return "xen-pv" if "xen-pv" in meant else named, False, sure or "xen-pv" in meant
    if QEMU in meant or SOME in meant:
        return QEMU if QEMU in meant else None, False, False
    return METAL if METAL in meant else None, False, METAL in deciding


def _cpuid(host: Host) -> Iterator[_Clue]:
    try:
        found = cpuid.signatures(host)
    except UnavailableError:
        yield from _systemd(host)
        return
    for signature, means in _SIGNATURES.items():
        if signature in found:
            yield _Clue(f"CPUID: {signature.strip()}", means, decisive=True)
            return
    yield _Clue("CPUID: no hypervisor that is known has signed")


def _systemd(host: Host) -> Iterator[_Clue]:
    """It runs the same instruction; a name that it does not find is no proof that there is none."""
    try:
        name = host.run(("systemd-detect-virt", "--vm"), timeout_s=2.0).strip()[:32]
    except UnavailableError:
        return
    if name and name != "none":
        means = _SYSTEMD.get(name, name)
        yield _Clue(f"systemd-detect-virt: {name}", means, decisive=means not in (QEMU, SOME))


def _processor(cpus: Processors) -> Iterator[_Clue]:
    if cpus.model.startswith("QEMU TCG CPU") or cpus.model == _TCG_ON_ARM:
        yield _Clue(f"/proc/cpuinfo: {cpus.model}", TCG, decisive=True)
    elif cpus.model.startswith(("QEMU Virtual CPU", "Common KVM processor")):
        yield _Clue(f"/proc/cpuinfo: {cpus.model}", QEMU)
    if cpus.architecture in ("x86_64", "i686"):
        if "hypervisor" in cpus.flags:
            yield _Clue("/proc/cpuinfo: the hypervisor flag is set", SOME)
        else:
            yield _Clue("/proc/cpuinfo: the hypervisor flag is not set", METAL, decisive=True)


def _firmware(host: Host) -> Iterator[_Clue]:
    fields = {name: optional_files.line(host, f"/sys/class/dmi/id/{name}") for name in _FIELDS}
    vendor, product = fields["sys_vendor"] or "", fields["product_name"] or ""
    if not any(fields.values()):
        return
    said = f"DMI: {vendor} {product}".rstrip()
    means = _meant_by_firmware(fields)
    if means is not None:
        yield _Clue(said, means, decisive=means not in (QEMU, SOME))
    else:
        yield _Clue(said, METAL)


_FIELDS = ("sys_vendor", "product_name", "bios_vendor")


def _meant_by_firmware(fields: dict[str, str | None]) -> str | None:
    vendor, product = fields["sys_vendor"] or "", fields["product_name"] or ""
    if vendor == "Microsoft Corporation" and product == "Virtual Machine":
        return "hyper-v"
    if vendor == "Amazon EC2":
        # the Nitro hypervisor is KVM; a .metal instance has none
        return METAL if re.search(r"\.metal(-|$)", product) else "kvm"
    return next((means for name, start, means in _FIRMWARE if (fields[name] or "").startswith(start)), None)


def _device_tree(host: Host) -> Iterator[_Clue]:
    said = optional_files.line(host, "/proc/device-tree/hypervisor/compatible")
    if said:
        means = next((each for each in ("kvm", "xen", "vmware") if each in said), SOME)
        yield _Clue(f"device tree: hypervisor {said}", means, decisive=means != SOME)
        return
    model = optional_files.line(host, "/proc/device-tree/compatible")
    if model:
        means = QEMU if "dummy-virt" in model or "qemu" in model else METAL
        yield _Clue(f"device tree: {model}", means)


def _xen(host: Host) -> Iterator[_Clue]:
    if (optional_files.line(host, "/sys/hypervisor/type") or "") != "xen":
        return
    if "control_d" in (optional_files.line(host, "/proc/xen/capabilities") or ""):
        yield _Clue("/proc/xen/capabilities: the hypervisor's own machine (dom0)", METAL, decisive=True)
        return
    guest = optional_files.line(host, "/sys/hypervisor/guest_type")
    means = "xen-pv" if guest == "PV" else "xen"
    yield _Clue(f"/sys/hypervisor: xen{f', guest type {guest}' if guest else ''}", means, decisive=True)


def _clock_sources(host: Host) -> Iterator[_Clue]:
    for device in host.glob("/sys/class/ptp/ptp*"):
        name = optional_files.line(host, f"{device}/clock_name") or ""
        if name in _CLOCK_DEVICES:
            yield _Clue(f"{device}: {name}", _CLOCK_DEVICES[name], decisive=True)
    said = optional_files.line(host, "/sys/devices/system/clocksource/clocksource0/available_clocksource")
    if said is None:
        return
    for name, means in _CLOCKS:
        if name in said.split():
            yield _Clue(f"clock sources: {name} is offered", means, decisive=True)
            return
    yield _Clue(f"clock sources: {said}")


def _pci(host: Host) -> Iterator[_Clue]:
    """One clue for each maker of virtual hardware."""
    seen: dict[str, str] = {}
    for device in host.glob("/sys/bus/pci/devices/*"):
        vendor = optional_files.line(host, f"{device}/vendor")
        means = _PCI_VENDORS.get(vendor or "")
        if means is None:
            below = (
                optional_files.line(host, f"{device}/subsystem_vendor"),
                optional_files.line(host, f"{device}/subsystem_device"),
            )
            means = QEMU if below == _QEMU_SUBSYSTEM else None
            vendor = f"subsystem {below[0]}:{below[1]}"
        if means and vendor:
            seen.setdefault(vendor, means)
    for vendor, means in seen.items():
        name = "virtio" if vendor == "0x1af4" else means
        yield _Clue(f"PCI: a device of {vendor} ({name})", means)
