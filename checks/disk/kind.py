"""What kind of disk lies under a path, and how its requests are ordered."""

from dataclasses import replace

from vdscheck.measurements import DiskDevice, DiskLatency, DiskStack, HostLoad, Machine
from vdscheck.plugin import (
    Absent,
    AtMost,
    ByHand,
    Confidence,
    Evidence,
    Expected,
    Judgement,
    Observed,
    OneOf,
    Severity,
    Verdict,
    check,
    evidence,
    not_applicable,
    with_unit,
)

_NVME: Expected = {
    "op": "stated",
    "pass": "NVMe",
    "fail": "anything else that can be known",
    "unit": None,
    "source": "origin: CoolVDS, Microservices Patterns That Won't Wake You Up at 3 AM (NVMe, and verify it yourself)",
}


@check("disk.nvme", severity=Severity.MEDIUM)
def nvme(
    stack: DiskStack,
    latency: DiskLatency | Absent,
    load: HostLoad | Absent,
    not_nvme_fdatasync: AtMost,
    not_nvme_read: AtMost,
) -> Judgement | Absent:
    """The disk under the path is NVMe.

    Why: Databases and logs wait for the disk, and NVMe answers ten to a hundred times faster than what it
        replaces. Storage over the network that shows as NVMe (EBS, Persistent Disk) has the network in every answer.
    False positives: Behind virtio and the like the medium cannot be known from inside (`rotational` lies
        there): such a disk fails when it is slower than NVMe ever is, and is not applicable otherwise. A
        busy neighbour on the same NVMe can make it as slow.
    By hand: findmnt -T /var/lib; lsblk -s -o NAME,TYPE,TRAN,MODEL,ROTA
    Sources: https://docs.kernel.org/admin-guide/devices.html; NVM Express base specification;
        https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html
    """
    other = [each for each in stack.devices if not each.is_nvme and not each.is_unknowable]
    if other:
        return _stated(stack, Verdict.FAIL, f"{_named(other)} under {stack.path} is not NVMe")
    slow = _slower_than_nvme(stack, latency, load, not_nvme_fdatasync, not_nvme_read)
    remote = [each for each in stack.devices if each.network]
    if remote:
        text = f"{_named(remote)} under {stack.path} shows as NVMe and is storage over the network: {remote[0].network}"
        is_slow = isinstance(slow, Judgement) and slow.verdict is Verdict.FAIL
        return slow if is_slow else _stated(stack, Verdict.WARN, text)
    if stack.devices and all(each.is_nvme for each in stack.devices):
        judged = _stated(stack, Verdict.PASS, f"{stack.path} is on NVMe: {stack.in_words}")
        return judged if stack.followed else replace(judged, confidence=Confidence.LOW)
    return slow


def _named(devices: list[DiskDevice]) -> str:
    return " and ".join(each.in_words for each in devices)


def _layers(stack: DiskStack) -> tuple[Evidence, ...]:
    said = "followed to the end" if stack.followed else "not followed to the end: the only disk that is here"
    return (
        Evidence("stack", stack.in_words, None, "/proc/self/mountinfo, /sys/class/block"),
        Evidence("devices", said, None, "/proc/self/mountinfo, /sys/class/block"),
    )


def _stated(stack: DiskStack, verdict: Verdict, text: str) -> Judgement:
    seen = Observed(", ".join(each.in_words for each in stack.devices), None, None, None, None)
    return Judgement(verdict=verdict, summary=text, observed=seen, expected=_NVME, evidence=_layers(stack))


def _slower_than_nvme(
    stack: DiskStack,
    latency: DiskLatency | Absent,
    load: HostLoad | Absent,
    fdatasync: AtMost,
    read: AtMost,
) -> Judgement | Absent:
    """Fail where the disk is slower than NVMe ever is; otherwise its medium is not known."""
    if isinstance(latency, Absent):
        return latency
    proof = _layers(stack)
    typical = latency.fdatasync.percentile_ms(0.5)
    judged = [fdatasync.judge(typical, f"the typical fdatasync in {latency.folder}", evidence=proof)]
    if latency.device_read is not None:
        tail = latency.device_read.percentile_ms(0.99)
        judged.append(read.judge(tail, f"the p99 of reads anywhere on {latency.device}", evidence=proof))
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN):
        for each in judged:
            if each.verdict is verdict:
                busy = "" if isinstance(load, Absent) or not load.in_words else f"; {load.in_words}"
                whose = " and ".join(device.in_words for device in stack.devices)
                return replace(each, summary=f"{whose}: {each.summary}{busy}")
    devices = " and ".join(each.in_words for each in stack.devices)
    return not_applicable(
        f"what is behind {devices} cannot be known from inside; the typical fdatasync of "
        f"{with_unit(typical.value, 'ms')} is within what NVMe does"
    )


@check("disk.scheduler", severity=Severity.LOW)
def scheduler(stack: DiskStack, machine: Machine | Absent, scheduler: OneOf) -> Judgement | Absent:
    """Requests go to a fast disk in the order in which they come.

    Why: NVMe and a hypervisor order requests themselves, and an elaborate scheduler before them costs CPU
        time and adds latency.
    False positives: A host that must share one disk fairly between tenants, with BFQ by choice.
    By hand: grep . /sys/block/*/queue/scheduler
    Fix: echo none > /sys/block/DEVICE/queue/scheduler;
        and for every boot ATTR{queue/scheduler}="none" in a rule of /etc/udev/rules.d
    Undo: echo OLD > /sys/block/DEVICE/queue/scheduler; and remove the rule
    Sources: https://docs.kernel.org/block/switching-sched.html; the source of the limit
    """
    fast = [each for each in stack.devices if each.kind in ("nvme", "paravirtual") and each.scheduler is not None]
    if not fast:
        return not_applicable(f"under {stack.path} there is no NVMe or paravirtual disk that has a scheduler")
    if isinstance(machine, Machine) and machine.container is not None:
        return not_applicable(f"the scheduler belongs to the host of {machine.container_in_words}: ask who runs it")
    worst = next((each for each in fast if scheduler.verdict(str(each.scheduler)) is not Verdict.PASS), fast[0])
    proof = tuple(Evidence(each.name, str(each.scheduler), None, "/sys/block/*/queue/scheduler") for each in fast)
    return scheduler.judge(
        str(worst.scheduler),
        f"the I/O scheduler of {worst.name}",
        evidence=(*proof, *evidence(stack, "path", source="/proc/self/mountinfo")),
        fix=_chosen(worst),
    )


def _chosen(device: DiskDevice) -> ByHand:
    file = f"/sys/block/{device.name}/queue/scheduler"
    return ByHand(
        "choose `none`, and keep it with a udev rule (ATTR{queue/scheduler} in /etc/udev/rules.d)",
        (f"echo none > {file}",),
        (f"echo {device.scheduler} > {file}",),
    )
