"""What the head of a report says of a host."""

from vdscheck.measurements import Identity, Machine
from vdscheck.plugin import Absent, Facts, header


@header("host")
def host(identity: Identity | Absent, machine: Machine | Absent) -> Facts:
    """Who the host is, and what kind of machine."""
    kind = None if isinstance(machine, Absent) else machine.container or machine.hypervisor
    if isinstance(identity, Absent):
        return Facts(virtualization=kind)
    return Facts(
        name=identity.name,
        machine_id=identity.machine_id,
        boot_id=identity.boot_id,
        os=identity.os,
        kernel=identity.kernel,
        virtualization=kind,
        cpu_model=identity.cpu_model,
        cpus=identity.cpus,
        memory_bytes=identity.memory_bytes,
    )
