"""The bandwidth that was bought: what socket buffers are to hold hangs on it."""

from vdscheck.plugin import Bought

BANDWIDTH = Bought("bandwidth", check="sysctl.socket-buffers", unit="Mbit/s")
