"""The disk checks inside fresh servers: a slow disk, a busy one, one that no longer answers, and every kind of bus."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab.product import product_tree
from tests.lab.vm import Disk, boot
from tests.support.program import is_undecided

pytestmark = [
    pytest.mark.xdist_group("server"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make servers"),
    pytest.mark.slow,
    pytest.mark.timeout(1200),
]

RUN = "PYTHONPATH=/job/site python3 -m vdscheck run --json"
DELAY_MS = 20
JOB = f"""
set -e
modprobe dm-delay
modprobe loop
truncate -s 3G /slow.img
loop=$(losetup --find --show /slow.img)
dmsetup create slow --table "0 $(blockdev --getsz $loop) linear $loop 0"
mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 /dev/mapper/slow
mkdir /slow
mount /dev/mapper/slow /slow
dmsetup suspend slow
dmsetup load slow --table "0 $(blockdev --getsz $loop) delay $loop 0 {DELAY_MS}"
dmsetup resume slow
sync
sleep 5
{RUN} --only 'disk.*' --disk /slow --disk /var/lib >out/slow.json
echo slow: done

(while :; do dd if=/dev/zero of=/slow/junk bs=4k count=100 oflag=direct,dsync conv=notrunc 2>/dev/null; done) &
load=$!
sleep 3
cat /proc/pressure/io >out/pressure
{RUN} --only disk.iowait --disk /slow >out/loaded.json
kill $load
wait $load || :
echo loaded: done

sleep 3
dmsetup suspend --nolockfs --noflush slow
date +%s.%N >out/began
{RUN} --disk /slow --disk /var/lib 2>out/hung.stderr | cat >out/hung.json
date +%s.%N >out/ended
ps -eo pid,stat,args >out/processes
dmsetup resume slow
echo hung: done
"""


def by_name(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["id"] + (f"[{each['subject']}]" if each["subject"] else ""): each for each in report["findings"]}


def test_a_slow_a_busy_and_a_dead_disk_are_each_told_for_what_they_are(tmp_path: Path) -> None:
    site = product_tree("bookworm", tmp_path / "site")
    booted = boot("bookworm", job=JOB, out=tmp_path / "out", disk="nvme", files={"site": site}, timeout_s=900)
    assert booted.rc == 0, booted.console[-3000:]
    slow, loaded, hung = (json.loads((booted.out / f"{name}.json").read_text()) for name in ("slow", "loaded", "hung"))
    _slow_disk(slow)
    _busy_disk(loaded)
    _dead_disk(hung, booted.out)


def _slow_disk(report: Mapping[str, Any]) -> None:
    found = by_name(report)
    reads = found["disk.read-latency[/slow]"]
    assert reads["verdict"] == "fail", reads["summary"]
    assert DELAY_MS <= reads["observed"]["value"] <= 2 * DELAY_MS + 20
    value = report["measurements"]["disk.latency[/slow]"]["value"]
    typical = next(each for each in value["read"]["percentiles"] if each["percent"] == 50)
    assert DELAY_MS <= typical["value_us"] / 1000 <= 2 * DELAY_MS
    assert found["disk.fsync-latency[/slow]"]["verdict"] == "fail"
    assert found["disk.fsync-latency[/slow]"]["observed"]["value"] >= DELAY_MS
    assert found["disk.nvme[/slow]"]["verdict"] == "pass", "the medium is NVMe, however slow the layer above it is"
    stack = report["measurements"]["disk.stack[/slow]"]["value"]
    assert [each["kind"] for each in stack["layers"]][:2] == ["dm", "loop"]
    assert [each["name"] for each in stack["devices"]] == ["nvme0n1"]
    assert found["disk.nvme[/var/lib]"]["verdict"] == "pass"
    assert found["disk.scheduler[/var/lib]"]["verdict"] == "pass"
    usual = report["measurements"]["disk.latency[/var/lib]"]["value"]
    assert usual["device"] == "nvme0n1"
    assert usual["device_read"]["count"] > 0


def _busy_disk(report: Mapping[str, Any]) -> None:
    finding = by_name(report)["disk.iowait[/slow]"]
    value = report["measurements"]["disk.activity[/slow]"]["value"]
    assert value["pressure_percent"] > 30
    assert value["iowait_ticks"] > 0.05 * value["cpu_ticks"]
    assert finding["verdict"] == "fail", finding["summary"]
    assert "(PSI)" in finding["summary"]
    assert "nvme0n1 busy" in finding["summary"]


def _dead_disk(report: Mapping[str, Any], out: Path) -> None:
    found = by_name(report)
    for name in ("disk.read-latency[/slow]", "disk.fsync-latency[/slow]", "disk.iops[/slow]"):
        assert (found[name]["verdict"], found[name]["reason"]) == ("unknown", "timeout"), found[name]
    for name in ("disk.read-latency[/var/lib]", "disk.fsync-latency[/var/lib]", "disk.iops[/var/lib]"):
        assert found[name]["reason"] not in {"timeout", "error", "not-run"}, found[name]
    others = {name: each for name, each in found.items() if "[/slow]" not in name}
    assert len(others) > 20
    assert [name for name, each in others.items() if each["reason"] in {"timeout", "error"}] == []
    assert report["run"]["complete"] is True
    assert any("could not be ended" in each for each in report["warnings"])
    # twice the seconds that a run is meant to take, and five; the emulator takes as many again to start and end
    assert report["run"]["duration_s"] < 40
    began, ended = (float((out / name).read_text()) for name in ("began", "ended"))
    assert ended - began < 60
    assert (out / "hung.stderr").read_text() == ""


@pytest.mark.parametrize("disk", ["virtio", "ide"])
def test_only_what_is_nvme_is_said_to_be(disk: Disk, tmp_path: Path) -> None:
    site = product_tree("bookworm", tmp_path / "site")
    job = f"set -e\n{RUN} --only 'disk.*' >out/report.json"
    booted = boot("bookworm", job=job, out=tmp_path / "out", disk=disk, files={"site": site})
    assert booted.rc == 0, booted.console[-3000:]
    report = json.loads((booted.out / "report.json").read_text())
    finding = by_name(report)["disk.nvme[/var/lib]"]
    if disk == "ide":
        assert finding["verdict"] == "fail", finding["summary"]
        return
    # What is behind virtio is told by its times alone: too slow for any NVMe, or not to be known.
    if finding["verdict"] == "fail":
        assert finding["observed"]["low"] > finding["expected"]["fail"]
        assert any(word in finding["summary"] for word in ("fdatasync", "reads anywhere"))
    else:
        assert finding["verdict"] == "not-applicable" or is_undecided(finding), finding["summary"]
