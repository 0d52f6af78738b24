"""Labels of nodes held against reports that fresh servers with NVMe, virtio and IDE disks made of themselves."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab.kube_server import KubeServer, node
from tests.lab.product import product_tree
from tests.lab.vm import Disk, boot
from tests.support.program import report

pytestmark = pytest.mark.xdist_group("server")

RUN = "PYTHONPATH=/job/site python3 -m vdscheck run --json --quick --offline --only 'disk.*' > out/report.json"
DISKS: tuple[Disk, ...] = ("nvme", "virtio", "ide")
SLOWER_THAN_ANY_NVME_MS = 5
"""The typical fdatasync beyond which the cluster profile takes a disk that it cannot see for no NVMe."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fresh_servers_prove_what_is_in_them(tmp_path: Path) -> None:
    site = product_tree("bookworm", tmp_path / "site")
    targets: dict[str, dict[str, Any]] = {}
    reports = tmp_path / "reports"
    reports.mkdir()
    for disk in DISKS:
        booted = boot("bookworm", job=RUN, out=tmp_path / disk, disk=disk, files={"site": site})
        assert booted.rc == 0, booted.console[-2000:]
        made = json.loads((booted.out / "report.json").read_text())
        targets[disk] = made["target"]
        (reports / f"{disk}.json").write_text(json.dumps(made))
    # one image, so one machine id; each boot has its own
    assert len({each["boot_id"] for each in targets.values()}) == len(DISKS)
    with KubeServer(tmp_path / "kube") as server:
        for name, target in targets.items():
            ids = {"machine_id": target["machine_id"], "boot_id": target["boot_id"]}
            server.create("/api/v1/nodes", node(f"labelled-{name}", labels={"disktype": "nvme"}, **ids))
        bare = {"machine_id": targets["nvme"]["machine_id"], "boot_id": targets["nvme"]["boot_id"]}
        server.create("/api/v1/nodes", node("bare-nvme", **bare))
        server.create("/api/v1/nodes", node("rebooted", labels={"disktype": "nvme"}, **bare | {"boot_id": "another"}))
        words = ("--kubeconfig", str(server.kubeconfig()), "--node-reports", str(reports))
        found = report("cluster", *words, "--only", "cluster.label-truth")
    told = {each["subject"]: each for each in found["findings"]}
    assert told["proven"]["verdict"] == "pass"
    assert "labelled-nvme" in told["proven"]["summary"]
    assert "labelled-ide" in told["disproven"]["summary"]
    assert "bare-nvme" in told["unlabelled"]["summary"]
    assert told["unlabelled"]["fix"]["commands"] == ["kubectl label node bare-nvme disktype=nvme"]
    assert told["not-proven"]["verdict"] == "unknown"
    assert "rebooted" in told["not-proven"]["summary"]
    # A disk behind virtio is never proven; an emulated one may be so slow that it cannot be NVMe: then it is disproven.
    value = json.loads((reports / "virtio.json").read_text())["measurements"]["disk.latency[/var/lib]"]["value"]
    (typical_us,) = [each["value_us"] for each in value["fdatasync"]["percentiles"] if each["percent"] == 50]
    slow = typical_us / 1000 > SLOWER_THAN_ANY_NVME_MS
    answers = {name for name in ("proven", "not-proven", "disproven") if "labelled-virtio" in told[name]["summary"]}
    assert answers == {"disproven" if slow else "not-proven"}
    removed = ["labelled-ide", "labelled-virtio"] if slow else ["labelled-ide"]
    assert told["disproven"]["fix"]["commands"] == [f"kubectl label node {name} disktype-" for name in removed]
