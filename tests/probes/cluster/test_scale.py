"""A large cluster: what is read of it is right, in pages, and memory does not grow with its pods."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.kube_load import PODS_A_DEPLOYMENT, load
from tests.lab.kube_server import KubeServer
from tests.support.program import PROGRAM, environment

NODES, PODS = 5_000, 20_000
MOST_MB = 150
GROWTH = 1.25


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    except OSError:
        pass
    return found


def pss_mb(pid: int) -> float:
    """The memory of a process and its descendants, each shared page counted once (proc(5), smaps_rollup)."""
    total = 0
    for each in tree(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def examined(server: KubeServer, folder: Path) -> tuple[dict[str, Any], float]:
    """The report, and the most memory that the run had."""
    file, most = folder / "report.json", 0.0
    words = [*PROGRAM, "cluster", "--kubeconfig", str(server.kubeconfig()), "--json"]
    # What the coverage tool adds is not the program's memory.
    variables = {name: value for name, value in environment().items() if not name.startswith("COV")}
    with file.open("wb") as out, subprocess.Popen(words, stdout=out, env=variables, cwd="/") as process:
        while process.poll() is None:
            most = max(most, pss_mb(process.pid))
            time.sleep(0.05)
    assert process.returncode == 0
    return json.loads(file.read_bytes()), most


def workloads(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["measurements"]["cluster.workloads"]["value"])


@pytest.mark.xdist_group("server")
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="the kernel has no smaps_rollup")
def test_a_cluster_of_five_thousand_nodes_is_read_in_little_memory(tmp_path: Path) -> None:
    with KubeServer(tmp_path / "kube") as server:
        load(server, NODES, range(PODS))
        found, memory_mb = examined(server, tmp_path)
        assert found["target"]["nodes"] == NODES
        assert sum(each["pods"]["count"] for each in workloads(found)["workloads"]) == PODS
        assert len(workloads(found)["workloads"]) == PODS // PODS_A_DEPLOYMENT
        pages = {each["what"]: each for each in workloads(found)["reads"]}
        assert (pages["pods"]["items"], pages["pods"]["requests"]) == (PODS, PODS // 500)
        assert found["measurements"]["cluster.nodes"]["value"]["read"]["requests"] == NODES // 500
        assert pages["pods"]["size_bytes"] > 1_000_000
        load(server, 0, range(PODS, 5 * PODS))
        larger, larger_mb = examined(server, tmp_path)
        assert sum(each["pods"]["count"] for each in workloads(larger)["workloads"]) == 5 * PODS
    print(f"{memory_mb:.0f} MB with {PODS:,} pods, {larger_mb:.0f} MB with {5 * PODS:,}")
    assert memory_mb <= MOST_MB
    assert larger_mb <= GROWTH * memory_mb
