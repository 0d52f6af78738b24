"""Round trips between two processes of this machine, and why there may be none."""

import errno
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vdscheck.model.absence import Reason, UnavailableError
from vdscheck.plugin import Host
from vdscheck.probes.cpu import loopback
from vdscheck.stats import bounded_from

SCRIPT = """
import time
from vdscheck.model.absence import UnavailableError
from vdscheck.plugin import Host
from vdscheck.probes.cpu.loopback import loopback
try:
    found = list(loopback.function(Host(ends_at=time.monotonic() + 0.3)))
    print("measured", found[-1].rtt.count)
except UnavailableError as error:
    print(error.absent.reason.value, error.absent.detail)
"""


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def in_a_network_of_its_own(before: str) -> str:
    command = f"{before}exec {sys.executable} -c '{SCRIPT}'"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_round_trips_are_enough_to_bound_a_p99_and_the_other_process_is_gone_afterwards() -> None:
    before = children()
    found = list(loopback.loopback.function(Host(ends_at=time.monotonic() + 0.5)))
    assert len(found) >= 2
    assert all(first.rtt.count < last.rtt.count for first, last in itertools.pairwise(found))
    last = found[-1]
    assert last.rtt.count >= bounded_from(0.99)
    assert 0 < last.rtt.min_us <= last.rtt.percentile_us(0.5).value <= last.rtt.max_us
    assert (last.request_bytes, last.reply_bytes) == (14, 7)
    assert children() == before


def test_where_the_loopback_interface_is_down_it_says_so() -> None:
    said = in_a_network_of_its_own("")
    assert said.startswith("unreachable "), said
    assert "ip link set lo up" in said


def test_where_it_is_up_in_a_network_of_its_own_it_measures() -> None:
    assert in_a_network_of_its_own("ip link set lo up; ").startswith("measured ")


def test_packets_that_are_dropped_do_not_hang_it() -> None:
    drop = "{ type filter hook input priority 0; policy drop; }"
    said = in_a_network_of_its_own(f'ip link set lo up; nft add table inet t; nft add chain inet t c "{drop}"; ')
    assert said.startswith("timeout "), said
    assert "firewall" in said


def test_an_answering_process_that_stops_is_a_timeout() -> None:
    before = set(children())
    running = loopback.loopback.function(Host(ends_at=time.monotonic() + 5))
    next(running)
    (answering,) = [pid for pid in children() if pid not in before]
    os.kill(answering, 19)
    with pytest.raises(UnavailableError) as refused:
        list(running)
    assert refused.value.absent.reason is Reason.TIMEOUT
    assert set(children()) == before


def test_an_answering_process_that_dies_is_an_error_and_leaves_nothing() -> None:
    before = set(children())
    running = loopback.loopback.function(Host(ends_at=time.monotonic() + 5))
    next(running)
    (answering,) = [pid for pid in children() if pid not in before]
    os.kill(answering, 9)
    with pytest.raises(UnavailableError) as refused:
        list(running)
    assert refused.value.absent.reason is Reason.ERROR
    assert set(children()) == before


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENETUNREACH, Reason.UNREACHABLE),
        (errno.EADDRNOTAVAIL, Reason.UNREACHABLE),
        (errno.EAGAIN, Reason.TIMEOUT),
        (errno.ECONNRESET, Reason.ERROR),
        (errno.EMFILE, Reason.ERROR),
    ],
)
def test_each_refusal_has_its_reason(number: int, reason: Reason) -> None:
    assert loopback._refusal(OSError(number, "")).reason is reason
