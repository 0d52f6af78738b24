"""`vdscheck cluster --json` beside `kubectl get nodes` and `kubectl get pods -A`, alternating, on one API server.

usage: python benchmarks/cluster.py [--rounds N] [--nodes N] [--pods N] [-o FILE.json]

Wall time, and the most memory that the process tree has (PSS: each shared page counted once). kubectl is the machine's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # this folder, in which this file would be taken for the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.lab.kube_load import load
from tests.lab.kube_server import KubeServer
from tests.probes.cluster.test_scale import pss_mb

WALL_WANTED, MEMORY_WANTED_MB = 0.6, 150


def run(words: list[str], kubeconfig: str) -> tuple[float, float]:
    """Seconds, and MB at most."""
    began, most = time.monotonic(), 0.0
    environment = os.environ | {"KUBECONFIG": kubeconfig}
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, pss_mb(process.pid))
            time.sleep(0.05)
    if process.returncode != 0:
        message = f"{' '.join(words)} ended with {process.returncode}"
        raise RuntimeError(message)
    return time.monotonic() - began, most


def main() -> int:
    """Run, print, and say by the exit code whether all that is wanted holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--pods", type=int, default=20_000)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder, KubeServer(Path(folder)) as server:
        load(server, asked.nodes, range(asked.pods))
        config = str(server.kubeconfig())
        for number in range(asked.rounds):
            wall_s, memory_mb = run([sys.executable, "-m", "vdscheck", "cluster", "--json"], config)
            nodes_s, nodes_mb = run(["kubectl", "get", "nodes"], config)
            pods_s, pods_mb = run(["kubectl", "get", "pods", "-A"], config)
            rounds.append(
                {
                    "wall_s": wall_s,
                    "memory_mb": memory_mb,
                    "kubectl_wall_s": nodes_s + pods_s,
                    "kubectl_memory_mb": max(nodes_mb, pods_mb),
                }
            )
            print(f"round {number + 1}: {rounds[-1]}", flush=True)
    wall = statistics.median(each["wall_s"] / each["kubectl_wall_s"] for each in rounds)
    memory = max(each["memory_mb"] for each in rounds)
    print(f"wall {wall:.2f} of kubectl (at most {WALL_WANTED}), memory {memory:.0f} MB (at most {MEMORY_WANTED_MB})")
    if asked.output:
        asked.output.write_text(
            json.dumps({"wall_ratio": wall, "memory_mb": memory, "rounds": rounds}, indent=1) + "\n"
        )
    return 0 if wall <= WALL_WANTED and memory <= MEMORY_WANTED_MB else 1


if __name__ == "__main__":
    sys.exit(main())
