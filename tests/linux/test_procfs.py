"""The counters of /proc that several probes read."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.linux import procfs
from vdscheck.model.absence import Reason, UnavailableError
from vdscheck.target.host import Host

SNMP = """Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: RtoAlgorithm MaxConn OutSegs RetransSegs
Tcp: 1 -1 1000 7
"""


class Written(Host):
    """A host each of whose files holds this text."""

    text: str = ""

    def read(self, *_: object, **__: Any) -> str:
        """The text, whatever is asked for."""
        return self.text


def of(text: str) -> Host:
    host = Written()
    host.text = text
    return host


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SNMP, {"RtoAlgorithm": 1, "OutSegs": 1000, "RetransSegs": 7}),
        ("", {}),
        ("Tcp: OutSegs\n", {}),
        ("Tcp: OutSegs RetransSegs\nTcp: x 1\n", {"RetransSegs": 1}),
        ("Tcp: A\nTcp: 1\nTcpExt: B\nTcpExt: 2\nTcp: C\nTcp: 3\n", {"A": 1, "C": 3}),
    ],
)
def test_paired_counters_are_read_by_name(text: str, found: dict[str, int]) -> None:
    assert procfs.paired(of(text), "/proc/net/snmp", "Tcp") == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("pswpin 1\npswpout 20\n", {"pswpin": 1, "pswpout": 20}), ("x -1\ny\n z 1\n99 9\n", {"99": 9})],
)
def test_vmstat_is_names_and_numbers(text: str, found: dict[str, int]) -> None:
    assert procfs.vmstat(of(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MemTotal:        2048 kB\nSwapTotal:   0 kB\n", {"MemTotal": 2048 * 1024, "SwapTotal": 0}),
        ("HugePages_Total:       0\nMemTotal: 1 MB\nA: x kB\nB\n", {}),
    ],
)
def test_amounts_of_memory_are_those_in_kib(text: str, found: dict[str, int]) -> None:
    assert procfs.meminfo_bytes(of(text)) == found


def test_softnet_adds_up_all_cpus() -> None:
    text = "000000ff 0000000a 00000001 0\n00000001 00000001 00000002\n"
    assert procfs.softnet(of(text)) == (11, 3)


@pytest.mark.parametrize(
    "text", ["", "\n", "x y z\n", "1 2 3\n", "000000ff 0000000a\n", "000000ff 0000000g 00000000\n"]
)
def test_what_no_kernel_writes_is_no_zero(text: str) -> None:
    with pytest.raises(UnavailableError) as refused:
        procfs.softnet(of(text))
    assert refused.value.absent.reason is Reason.ERROR


READERS: list[Callable[[Host], object]] = [
    lambda host: procfs.paired(host, "/proc/net/snmp", "Tcp"),
    procfs.vmstat,
    procfs.meminfo_bytes,
    procfs.softnet,
]


@given(st.text(max_size=300) | st.text(alphabet="Tcp: kB0123456789abcdef\n\t-", max_size=300))
def test_no_text_makes_a_reader_fail_otherwise_than_by_saying_so(text: str) -> None:
    for read in READERS:
        with suppress(UnavailableError):
            read(of(text))


def test_a_packet_counter_without_softnet_counts_no_drop_there(tmp_path: Path) -> None:
    """A container may not see that file; what it sees is counted all the same."""
    from vdscheck.probes.net.counters import _counted

    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/snmp").write_text(SNMP)
    assert _counted(Host(str(tmp_path))) == {
        "OutSegs": 1000,
        "RetransSegs": 7,
        "softnet": 0,
        **dict.fromkeys(("rx_missed_errors", "rx_fifo_errors", "rx_dropped"), 0),
    }


def test_a_counter_of_segments_that_is_not_there_is_no_zero(tmp_path: Path) -> None:
    from vdscheck.probes.net.counters import _counted

    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/snmp").write_text("Tcp: OutSegs RetransSegs\nTcp: x 1\n")
    with pytest.raises(UnavailableError, match="does not count TCP segments"):
        _counted(Host(str(tmp_path)))
