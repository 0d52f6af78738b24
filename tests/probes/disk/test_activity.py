"""What the counters of the disks say of a window, and every verdict of iowait."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.codec import encode
from vdscheck.measurements import DeviceActivity, DiskActivity
from vdscheck.model.absence import UnavailableError
from vdscheck.plugin import Host
from vdscheck.probes.disk.activity import _Look, activity, between, counters, stalled_us, ticks
from vdscheck.probes.disk.subject import DiskPath

LINE = " 259       0 nvme0n1 {0} 9736 4044722 {1} {2} 143679 21044768 {3} 0 {4} {5} 33 6692584 7165 60441 3139"
OLD_KERNEL = "   8       0 sda {0} 0 0 {1} {2} 0 0 {3} 0 {4} {5}"


def look(at_s: float, iowait: int, total: int, disks: str, pressure_us: int | None = None) -> _Look:
    spent = (total - iowait, 0, 0, 0, iowait, 0, 0, 0)
    return _Look(at_s, spent, pressure_us, counters(disks))


@pytest.mark.parametrize("shape", [LINE, OLD_KERNEL], ids=["linux-6", "linux-2.6"])
def test_differences_of_the_counters_are_rates_and_waits(shape: str) -> None:
    before = shape.format(1000, 500, 2000, 4000, 700, 9000)
    after = shape.format(1020, 540, 2100, 6000, 1700, 13000)
    name = counters(before).copy().popitem()[0]
    found = between(look(10.0, 5, 1000, before, 1_000_000), look(12.0, 25, 1400, after, 2_500_000), (name,))
    (disk,) = found.devices
    assert disk == DeviceActivity(
        name=name,
        reads_per_s=10.0,
        writes_per_s=50.0,
        read_await_ms=2.0,
        write_await_ms=20.0,
        queue=2.0,
        busy_percent=50.0,
    )
    assert (found.iowait_ticks, found.cpu_ticks, found.pressure_percent) == (20, 400, 75.0)


def test_a_disk_that_did_nothing_has_no_waiting_time_at_all() -> None:
    same = LINE.format(1, 2, 3, 4, 5, 6)
    (disk,) = between(look(0.0, 0, 100, same), look(1.0, 0, 200, same), ("nvme0n1",)).devices
    assert (disk.read_await_ms, disk.write_await_ms, disk.busy_percent, disk.reads_per_s) == (None, None, 0.0, 0.0)
    assert encode(disk)


def test_milliseconds_that_wrap_at_32_bits_go_on() -> None:
    top = (1 << 32) - 100
    before, after = (LINE.format(0, 0, count, passed, 0, 0) for count, passed in ((0, top), (10, 100)))
    (disk,) = between(look(0.0, 0, 0, before), look(1.0, 0, 200, after), ("nvme0n1",)).devices
    assert disk.write_await_ms == 20.0


def test_a_disk_that_is_not_in_both_looks_is_left_out() -> None:
    line = LINE.format(1, 2, 3, 4, 5, 6)
    assert between(look(0.0, 0, 0, line), look(1.0, 0, 200, ""), ("nvme0n1",)).devices == ()
    assert between(look(0.0, 0, 0, line), look(1.0, 0, 200, line), ("sdz",)).devices == ()


def test_iowait_that_runs_backwards_is_none() -> None:
    assert between(look(0.0, 9, 100, ""), look(1.0, 4, 200, ""), ()).iowait_ticks == 0


def only_unavailable(function: Callable[[], object]) -> None:
    with suppress(UnavailableError):
        function()


NOISE = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="cpu some total=0123456789.\n nvme-", max_size=300),
    st.lists(st.integers(), max_size=20).map(lambda all_of_it: "8 0 sda " + " ".join(map(str, all_of_it))),
)


@given(NOISE, NOISE)
def test_no_text_makes_a_parser_fail_otherwise_than_by_saying_so(one: str, other: str) -> None:
    only_unavailable(lambda: ticks(one))
    stalled_us(one)
    first, last = (_Look(at_s, (0,) * 8, stalled_us(text), counters(text)) for at_s, text in ((0.0, one), (1.0, other)))
    assert encode(between(first, last, tuple(first.disks)))


AMOUNTS = st.integers(min_value=0, max_value=(1 << 32) - 1)


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=6, max_size=6), st.floats(min_value=0.01, max_value=100))
def test_whatever_the_counters_do_nothing_is_negative_or_more_than_all(
    numbers: list[tuple[int, int]], passed_s: float
) -> None:
    before, after = (LINE.format(*(pair[which] for pair in numbers)) for which in (0, 1))
    (disk,) = between(look(0.0, 0, 0, before), look(passed_s, 0, 200, after), ("nvme0n1",)).devices
    for value in (disk.reads_per_s, disk.writes_per_s, disk.queue, disk.read_await_ms or 0, disk.write_await_ms or 0):
        assert value >= 0
    assert 0 <= disk.busy_percent <= 100


def test_this_machine_says_what_its_disks_do() -> None:
    host = Host(ends_at=time.monotonic() + 0.3)
    found = list(activity.function(host, DiskPath("/var/lib", asked_for=False)))
    assert len(found) >= 2
    assert isinstance(found[-1], DiskActivity)
    assert found[-1].window_s >= 0.25
    assert found[-1].cpu_ticks > 0
    assert [each.name for each in found[-1].devices]


def test_what_lies_in_memory_has_no_activity() -> None:
    host = Host(ends_at=time.monotonic() + 0.1)
    with pytest.raises(UnavailableError) as caught:
        list(activity.function(host, DiskPath("/dev/shm", asked_for=True)))
    assert caught.value.absent.kind == "not-applicable"
