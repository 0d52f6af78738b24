"""On a fresh server: an idle one is not called busy, and a quota of systemd (cgroup v2) is called throttling."""

import json
import os
from pathlib import Path

import pytest

from tests.lab.debian import Suite
from tests.lab.product import product_tree
from tests.lab.vm import boot
from tests.support.program import is_undecided
from vdscheck.codec import convert
from vdscheck.measurements import HostLoad, Spin

pytestmark = [
    pytest.mark.xdist_group("server"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make servers"),
]

RUN = "python3 -m vdscheck run --json --only"
STEPS = f"""set -e
export PYTHONPATH=/job/site
sleep 20
{RUN} 'cpu.*' > out/idle.json
systemd-run --quiet --wait --pipe -p CPUQuota=30% -E PYTHONPATH=$PYTHONPATH {RUN} cpu.jitter > out/quota.json
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_idle_server_is_not_busy_and_a_quota_is_throttling(tmp_path: Path) -> None:
    suite: Suite = "trixie"
    site = product_tree(suite, tmp_path / "site")
    booted = boot(suite, job=STEPS, out=tmp_path / "out", files={"site": site})
    assert booted.rc == 0, booted.console[-2000:]
    idle = json.loads((booted.out / "idle.json").read_text())
    load: HostLoad = convert(idle["measurements"]["host.load"]["value"], HostLoad)
    assert load.in_words == ""
    assert load.cpus == 2
    for finding in idle["findings"]:
        assert finding["verdict"] != "unknown" or is_undecided(finding), finding
        assert "busy" not in finding["summary"]
    limited = json.loads((booted.out / "quota.json").read_text())
    (finding,) = limited["findings"]
    assert finding["verdict"] == "fail"
    assert "quota of 0.3 CPUs throttles" in finding["summary"]
    spin: Spin = convert(limited["measurements"]["cpu.spin"]["value"], Spin)
    assert spin.cpus == 1
    assert spin.throttling is not None
    assert spin.throttling.throttled_periods > 0
