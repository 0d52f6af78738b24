"""The instrument that looks for time which others take, and the CPUs that were bought."""

from vdscheck.plugin import Bought, Instrument

JITTER = Instrument(
    "jitter",
    help="Measure the time that others take from the CPUs alone, live: steal and gaps.",
    checks=("cpu.jitter", "cpu.steal"),
    probe="cpu.spin",
)
CPUS = Bought("cpus", check="cpu.contract", unit="CPUs", whole=True)
