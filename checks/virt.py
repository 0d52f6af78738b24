"""What kind of machine this is, and whether its devices, clock and processor are those of a good one."""

from dataclasses import replace

from vdscheck.measurements import (
    UNNAMED_CONTAINER,
    ClockSource,
    Cpu,
    Disk,
    Disks,
    Machine,
    Memory,
    Nic,
    Nics,
    SoftNet,
)
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    ByHand,
    Confidence,
    Evidence,
    Expected,
    Judgement,
    Observed,
    OneOf,
    Reason,
    Severity,
    Verdict,
    check,
    evidence,
    not_applicable,
    spoken,
    unmeasured,
)

CLOCK_SOURCES = "/sys/devices/system/clocksource"
OF_MEMORY = "/proc/meminfo, /sys/devices/system/memory"
ORIGIN = 'origin: CoolVDS, "Microservices Patterns That Won\'t Wake You Up at 3 AM" (KVM, not containers)'

_HARDWARE = {
    "kvm": "KVM",
    "xen": "Xen",
    "vmware": "VMware",
    "hyper-v": "Hyper-V",
    "virtualbox": "VirtualBox",
    "bhyve": "bhyve",
    "parallels": "Parallels",
    "acrn": "ACRN",
    "qnx": "QNX",
    "openbsd-vmm": "OpenBSD vmm",
    "apple": "Apple Virtualization",
    "powervm": "PowerVM",
}
"""Hypervisors that run a guest's code on the processor itself, by its virtualisation extensions."""
_OF_APPLICATIONS = frozenset(("docker", "podman", "kubernetes", "containerd"))
"""Containers that people put services into themselves; the others are sold as servers."""


def _where(machine: Machine) -> str:
    """What runs below the kernel, in words."""
    if machine.emulated:
        return "a machine that QEMU emulates"
    if machine.hypervisor is None:
        return "a machine that does not say what it is"
    if machine.hypervisor == "none":
        return "bare metal"
    if machine.hypervisor == "qemu":
        return "a QEMU guest"
    return f"a {_HARDWARE.get(machine.hypervisor, machine.hypervisor)} guest"


def _not_ours(machine: Machine, what: str) -> Absent | None:
    """In a container the devices are the host's."""
    if machine.container is None:
        return None
    return not_applicable(f"{what} to the host of {machine.container_in_words}: ask who runs the host")


@check("virt.hypervisor", severity=Severity.CRITICAL)
def hypervisor(machine: Machine) -> Judgement:
    """A machine with a kernel of its own.

    Why: A shared kernel has the settings and the load of strangers, and an emulated processor is many
        times slower. KVM, another hypervisor that uses the processor's virtualisation, or bare metal give
        you a kernel of your own at full speed.
    False positives: Your own container on your own server, where vdscheck belongs on the server itself.
        QEMU whose owner hides it looks like bare metal, or like nothing that is known.
    By hand: systemd-detect-virt --vm; systemd-detect-virt --container; lscpu | grep -i hypervisor;
        journalctl -k -g 'Hypervisor detected' (KVM says its name, full emulation says nothing);
        cat /sys/class/dmi/id/sys_vendor; readlink /proc/self/ns/pid (pid:[4026531836] is no container)
    Sources: CoolVDS, "Microservices Patterns That Won't Wake You Up at 3 AM" (KVM instead of shared
        kernels); QEMU, "Virtualisation Accelerators" (docs/system/introduction.rst);
        https://docs.kernel.org/virt/kvm/x86/cpuid.html
    """
    verdict, summary, reason = _kind(machine)
    sure = machine.sure or verdict is Verdict.UNKNOWN
    sure = sure and not (verdict is Verdict.FAIL and machine.container in _OF_APPLICATIONS)
    return Judgement(
        verdict=verdict,
        reason=reason,
        summary=summary,
        observed=Observed(machine.container or machine.hypervisor or "not known", None, None, None, None),
        expected=_MACHINE,
        evidence=tuple(_clue(clue) for clue in machine.clues),
        confidence=Confidence.HIGH if sure else Confidence.LOW,
    )


_MACHINE: Expected = {
    "op": "stated",
    "pass": "hardware virtualisation (KVM preferred) or bare metal",
    "fail": "an operating-system container, or full emulation",
    "unit": None,
    "source": ORIGIN,
}


def _kind(machine: Machine) -> tuple[Verdict, str, Reason | None]:
    if machine.container is not None:
        return Verdict.FAIL, _contained(machine), None
    if machine.emulated:
        text = "QEMU emulates the processor itself (TCG): there is no hardware virtualisation"
        return Verdict.FAIL, text, None
    if machine.hypervisor in _HARDWARE:
        return Verdict.PASS, f"{_where(machine)}: hardware virtualisation", None
    if machine.hypervisor in _OTHERS:
        return _OTHERS[machine.hypervisor]
    return Verdict.UNKNOWN, f"{_where(machine)}: not a hypervisor that this version knows", Reason.UNSUPPORTED


_OTHERS: dict[str | None, tuple[Verdict, str, Reason | None]] = {
    "none": (Verdict.PASS, "bare metal: no hypervisor below this kernel", None),
    "xen-pv": (
        Verdict.WARN,
        "a paravirtual Xen guest (PV): its kernel runs without the processor's virtualisation",
        None,
    ),
    "qemu": (
        Verdict.UNKNOWN,
        "QEMU, but nothing tells KVM from full emulation here: ask the provider, or compare the speed",
        Reason.UNSUPPORTED,
    ),
    None: (
        Verdict.UNKNOWN,
        "something virtual runs below this kernel and hides its name: ask the provider what it is",
        Reason.UNSUPPORTED,
    ),
}


def _contained(machine: Machine) -> str:
    where = _where(machine)
    if machine.container in _OF_APPLICATIONS:
        return f"this is a {machine.container} container on {where}: run vdscheck on the machine itself"
    kind = "a container" if machine.container == UNNAMED_CONTAINER else f"a container ({machine.container})"
    return f"this is {kind} on {where}, not a server with a kernel of its own"


def _clue(clue: str) -> Evidence:
    source, _, says = clue.partition(": ")
    return Evidence(source, says or clue, None, source)


@check("virt.virtio", severity=Severity.HIGH)
def virtio(machine: Machine, nics: Nics | Absent, disks: Disks | Absent, emulated: AtMost) -> Judgement | Absent:
    """Network and disks use the hypervisor's own drivers.

    Why: An emulated card or disk stops the whole guest for each of its registers, so it costs CPU time
        and adds latency to every packet and block. Paravirtual devices (virtio, vmxnet3 and pvscsi,
        netvsc and storvsc, Xen's), NVMe and real hardware that is passed through do not.
    False positives: A passed-through card whose driver also serves emulated ones (e1000e).
    By hand: for n in /sys/class/net/*/device/driver; do readlink "$n"; done;
        readlink -f /sys/block/*/device; lsblk -o NAME,MODEL,VENDOR,TRAN,MOUNTPOINTS
    Sources: https://www.linux-kvm.org/page/Virtio; KVM's Documentation/virt/kvm in the kernel tree
    """
    if machine.hypervisor == "none" and machine.container is None:
        return not_applicable("bare metal: the drivers are those of the real hardware")
    absent = _not_ours(machine, "network cards and disks belong")
    if absent:
        return absent
    return _drivers(nics, disks, emulated)


_FOLDER = {Nic: "/sys/class/net", Disk: "/sys/block"}


def _drivers(nics: Nics | Absent, disks: Disks | Absent, emulated: AtMost) -> Judgement | Absent:
    devices: list[Nic | Disk] = []
    if isinstance(nics, Nics):
        devices += nics.nics
    if isinstance(disks, Disks):
        devices += disks.disks
    missing = next((each for each in (nics, disks) if isinstance(each, Absent)), None)
    bad = [device for device in devices if device.kind == "emulated"]
    unclear = [device for device in devices if device.kind == "unknown"]
    seen = tuple(
        Evidence(device.name, f"{device.driver or 'no driver'} ({device.kind})", None, _FOLDER[type(device)])
        for device in devices
    )
    judged = emulated.judge(len(bad), "emulated devices in use", evidence=seen)
    if bad:
        return replace(judged, summary=f"{_listed(bad)}: emulated, where a paravirtual driver would do")
    if missing is None and not devices:
        missing = unmeasured(Reason.UNSUPPORTED, "no network card and no disk is in use that can be seen")
    if missing is not None:
        return replace(judged, verdict=Verdict.UNKNOWN, reason=missing.reason, summary=missing.detail)
    if unclear:
        text = f"{_listed(unclear)}: this version cannot tell whether that is paravirtual or emulated"
        return replace(judged, verdict=Verdict.UNKNOWN, reason=Reason.UNSUPPORTED, summary=text)
    return replace(judged, summary=f"{_listed(devices)}: none is emulated")


def _listed(devices: list[Nic | Disk]) -> str:
    return ", ".join(f"{device.name} ({device.driver or 'no driver'})" for device in devices)


@check("virt.multiqueue", severity=Severity.MEDIUM)
def multiqueue(
    nics: Nics | Absent, cpu: Cpu, soft: SoftNet | Absent, machine: Machine | Absent, queues: AtLeast
) -> Judgement | Absent:
    """Network cards have enough queues for the CPUs.

    Why: With one queue, one CPU takes every packet in, and it is full while the others idle.
    False positives: A host with little traffic never notices.
    By hand: ls -d /sys/class/net/*/queues/rx-*; ethtool -l eth0; cat /proc/net/softnet_stat
    Fix: ethtool -L DEVICE combined N; queues that the card has not can only be had of the provider
    Undo: ethtool -L DEVICE combined OLD
    Sources: https://www.linux-kvm.org/page/Multiqueue; https://docs.kernel.org/networking/scaling.html
    """
    if isinstance(machine, Machine):
        absent = _not_ours(machine, "network cards belong")
        if absent:
            return absent
    if isinstance(nics, Absent):
        return nics
    if not nics.nics:
        return unmeasured(Reason.UNSUPPORTED, "no network card is in use: none is up and plugged in")
    # no card needs more queues than there are CPUs
    wanted = min(queues.pass_limit, cpu.online)
    beyond = None if queues.fail_limit is None else min(queues.fail_limit, cpu.online)
    limit = replace(queues, pass_limit=wanted, fail_limit=beyond)
    worst = min(nics.nics, key=_queues)
    seen = tuple(
        Evidence(nic.name, f"{nic.rx_queues} rx, {nic.tx_queues} tx", None, "/sys/class/net") for nic in nics.nics
    )
    judged = limit.judge(
        _queues(worst),
        f"queues of {worst.name}, for {cpu.online} CPUs,",
        evidence=(*seen, *evidence(soft, "dropped", "squeezed", source="/proc/net/softnet_stat")),
    )
    word = "queue" if _queues(worst) == 1 else "queues"
    text = f"{worst.name} has {_queues(worst)} {word} for {cpu.online} CPUs, {limit.phrase()}"
    fix = ByHand(
        "use all queues that the card has; more than that only the provider can give",
        (f"ethtool -L {worst.name} combined {spoken(wanted)}",),
        (f"ethtool -L {worst.name} combined {_queues(worst)}",),
    )
    if worst.more_queues is False:
        fix = ByHand(f"only the provider can give {worst.name} more queues: it was given without VIRTIO_NET_F_MQ")
    return replace(judged, summary=text, fix=None if judged.verdict is Verdict.PASS else fix)


def _queues(nic: Nic) -> int:
    return min(nic.rx_queues, nic.tx_queues)


@check("virt.clocksource", severity=Severity.HIGH)
def clocksource(clock: ClockSource, sources: OneOf) -> Judgement:
    """Reading the clock is cheap.

    Why: Services read the clock several times a request, and with acpi_pm, hpet or jiffies each read
        leaves the program and asks a slow device, 20 to 100 times dearer.
    False positives: None known: a kernel that fell back to hpet says why in `dmesg | grep -i clocksource`.
    By hand: cat /sys/devices/system/clocksource/clocksource0/{current,available}_clocksource
    Fix: echo NAME > /sys/devices/system/clocksource/clocksource0/current_clocksource, where the kernel
        offers a better one
    Undo: echo OLD > /sys/devices/system/clocksource/clocksource0/current_clocksource
    Sources: https://docs.kernel.org/virt/kvm/x86/timekeeping.html;
        https://docs.kernel.org/virt/hyperv/clocks.html
    """
    better = next((name for name in clock.available if sources.verdict(name) is Verdict.PASS), None)
    path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    fix = None
    if better:
        fix = ByHand(
            f"the kernel offers {better}: try it, and look into dmesg for why it was not taken",
            (f"echo {better} > {path}",),
            (f"echo {clock.current} > {path}",),
        )
    seen = (
        Evidence("available", " ".join(clock.available), None, CLOCK_SOURCES),
        *evidence(clock, "read_ns", source="clock_gettime(2)"),
    )
    judged = sources.judge(clock.current, "the clock source", evidence=seen, fix=fix)
    cost = "" if clock.read_ns is None else f", and one read takes {spoken(clock.read_ns)} ns"
    wanted = "" if judged.verdict is Verdict.PASS else f"; {sources.phrase()}"
    return replace(judged, summary=f"the clock source is {clock.current}{cost}{wanted}")


@check("virt.cpu-features", severity=Severity.MEDIUM)
def cpu_features(cpu: Cpu, level: AtLeast) -> Judgement | Absent:
    """The processor shows its instructions to the guest.

    Why: Programs built for x86-64-v2 (RHEL 9 and its kin, more and more packages) do not start without
        it, and TLS without AES instructions takes several times the CPU. A masked model ("QEMU Virtual
        CPU") hides both although the processor below has them.
    False positives: A processor that is really that old.
    By hand: /lib64/ld-linux-x86-64.so.2 --help | grep x86-64-v; grep -m1 -ow aes /proc/cpuinfo
    Fix: ask the provider for the host's processor model (host-passthrough, or a named model)
    Sources: x86-64 psABI, "Micro-Architecture Levels" (https://gitlab.com/x86-psABIs/x86-64-ABI);
        https://www.qemu.org/docs/master/system/i386/cpu.html (why not to use qemu64 and kvm64)
    """
    has_aes = "aes" in cpu.flags
    seen = (
        Evidence("model", cpu.model, None, "/proc/cpuinfo"),
        Evidence("level", cpu.level or "none", None, "/proc/cpuinfo"),
        Evidence("aes", "yes" if has_aes else "no", None, "/proc/cpuinfo"),
    )
    if cpu.architecture not in ("x86_64", "aarch64"):
        return not_applicable(f"the levels are those of x86-64, and this is {cpu.architecture}")
    if cpu.architecture == "aarch64":
        verdict = Verdict.PASS if has_aes else Verdict.FAIL
        text = f"{cpu.model} has {'AES instructions' if has_aes else 'no AES instructions'}"
        return Judgement(verdict=verdict, summary=text, expected=_AES, evidence=seen)
    judged = level.judge(float((cpu.level or "v0").rpartition("v")[2]), "the x86-64 level", evidence=seen)
    named = f"{cpu.model}: {cpu.level or 'below x86-64-v1'}, {'AES' if has_aes else 'no AES'}"
    judged = replace(judged, summary=f"{named}; x86-64-v{spoken(level.limit)} and AES wanted")
    masked = cpu.model.startswith(_MASKED)
    fix = ByHand("ask the provider for the host's processor model (host-passthrough, or a named model)")
    if judged.verdict is not Verdict.PASS:
        return replace(judged, fix=fix)
    if not has_aes:
        return replace(judged, verdict=Verdict.FAIL, expected=_AES, fix=fix)
    if masked:
        text = f"{named}: a masked model, which hides what the processor below can do"
        return replace(judged, verdict=Verdict.WARN, summary=text, fix=fix)
    return judged


_MASKED = ("QEMU Virtual CPU", "Common KVM processor", "Common 32-bit KVM processor")
"""The models qemu64 and kvm64."""
_AES: Expected = {
    "op": "stated",
    "pass": "AES instructions",
    "fail": "none",
    "unit": None,
    "source": "house: TLS without them takes several times the CPU",
}


@check("virt.balloon", severity=Severity.LOW)
def balloon(memory: Memory, machine: Machine, taken: AtMost) -> Judgement | Absent:
    """The host has taken no memory back.

    Why: A balloon takes memory that was sold away from the guest while it runs, and the page cache and
        the next burst pay for it.
    False positives: Plans that say they are elastic; a balloon that the provider inflates for a moment
        before it moves the guest to another host.
    By hand: grep -E 'nr_balloon_pages|balloon_(in|de)flate' /proc/vmstat; grep Balloon /proc/meminfo
    Sources: virtio 1.2, section 5.5 "Traditional Memory Balloon Device"; mm/balloon_compaction.c
    """
    if machine.hypervisor == "none" and machine.container is None:
        return not_applicable("bare metal: nobody below could take memory away")
    absent = _not_ours(machine, "memory belongs")
    if absent:
        return absent
    seen = evidence(memory, "balloon_driver", "total_bytes", "installed_bytes", source=OF_MEMORY)
    if memory.balloon_driver is None:
        judged = taken.judge(0, "memory that the host took back", evidence=seen)
        return replace(judged, summary="there is no balloon driver, so the host cannot take memory back")
    if memory.ballooned_bytes is None:
        return _by_what_is_left(memory, taken, seen)
    judged = taken.judge(memory.ballooned_bytes, "memory that the host took back", evidence=seen)
    amount = f"{spoken(memory.ballooned_bytes / 2**20)} MiB"
    return replace(judged, summary=f"the balloon ({memory.balloon_driver}) holds {amount} of this machine's memory")


def _by_what_is_left(memory: Memory, taken: AtMost, seen: tuple[Evidence, ...]) -> Judgement | Absent:
    """For drivers that take what they hold out of MemTotal and do not say how much it is."""
    silent = f"{memory.balloon_driver} does not say on this kernel what it holds (Linux 6.16 and later do)"
    if memory.installed_bytes is None or memory.balloon_driver == "vmw_balloon":
        return unmeasured(Reason.UNSUPPORTED, f"{silent}: compare MemTotal with what was bought")
    missing = memory.installed_bytes - memory.with_kernel_share_bytes
    if missing > 0:
        text = f"{silent}, and {spoken(missing / 2**20)} MiB of what is installed are not in MemTotal"
        return unmeasured(Reason.UNSUPPORTED, f"{text}: ask the provider")
    judged = taken.judge(0, "memory that the host took back", evidence=seen)
    text = f"{silent}, but MemTotal is all that is installed, less what the kernel keeps"
    return replace(judged, summary=text, confidence=Confidence.LOW)
