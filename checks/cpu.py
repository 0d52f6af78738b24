"""Whether the CPUs that were bought are here, and whether tasks have to wait for them."""

from dataclasses import replace

from vdscheck.measurements import Cpu, CpuPressure, Machine
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    Judgement,
    Severity,
    check,
    evidence,
    not_applicable,
    spoken,
)


@check("cpu.pressure", severity=Severity.MEDIUM)
def pressure(found: CpuPressure, machine: Machine | Absent, some_avg60: AtMost) -> Judgement | Absent:
    """Tasks do not wait for a CPU.

    Why: A task that is ready and waits for a CPU is a request that waits, whatever the load average says.
    False positives: A batch job or a package upgrade in the last minute, and other work beside vdscheck.
    By hand: cat /proc/pressure/cpu
    Sources: https://docs.kernel.org/accounting/psi.html
    """
    if isinstance(machine, Machine) and machine.container is not None:
        return not_applicable(
            f"in {machine.container_in_words} /proc/pressure speaks of the whole host: ask who runs it"
        )
    return some_avg60.judge(
        found.some_avg60_percent,
        "the share of the last minute in which a task waited for a CPU",
        evidence=evidence(found, "some_avg10_percent", "some_avg300_percent", "full_avg60_percent"),
    )


@check("cpu.contract", severity=Severity.HIGH)
def contract(cpu: Cpu, machine: Machine | Absent, sold: AtLeast | Absent) -> Judgement | Absent:
    """All CPUs that were bought are here.

    Why: A missing CPU is paid for every month.
    False positives: CPUs that you took offline yourself.
    By hand: nproc --all; cat /sys/devices/system/cpu/online; in a container cat /sys/fs/cgroup/cpu.max
    Sources: the [offer] table of the configuration
    """
    if isinstance(sold, Absent):
        return not_applicable("no [offer] in the configuration says what was bought: add cpus = 4, for example")
    contained = isinstance(machine, Machine) and machine.container is not None
    # a quota on our own kernel was set by its owner; in a container it is what was really sold
    limited = contained and cpu.quota is not None and cpu.quota < cpu.online
    count = cpu.quota if limited and cpu.quota is not None else cpu.online
    judged = sold.judge(count, "the number of CPUs", evidence=evidence(cpu, "online", "quota", "model"))
    by = " (the container's quota)" if limited else ""
    here = "1 CPU is" if count == 1 else f"{spoken(count)} CPUs are"
    return replace(judged, summary=f"{here} here{by}, {spoken(sold.limit)} were bought")
