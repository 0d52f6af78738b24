"""The instrument that measures disks, how they are named, and the disk that was bought."""

from vdscheck.plugin import Argument, Bought, Instrument, Matter, Option

DISK = Option(
    "disk",
    help="Examine the disk under this path (repeatable; /var/lib).",
    takes="texts",
    metavar="PATH",
    matter=Matter.REACH,
    target="host",
    commands=("run",),
)
ALONE = Instrument(
    "disk",
    help="Measure the disk under a path alone, live: read and fsync latency, IOPS.",
    checks=("disk.*",),
    probe="disk.latency",
    argument=Argument("disk", "PATH", "The disk under this path; /var/lib."),
)
SIZE = Bought("disk", check="disk.contract", unit="GB")
