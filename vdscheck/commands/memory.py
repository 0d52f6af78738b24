"""The memory that was bought."""

from vdscheck.plugin import Bought

MEMORY = Bought("memory", check="memory.contract", unit="GiB")
