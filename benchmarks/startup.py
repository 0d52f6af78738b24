"""What a whole run costs beside `python -c 'import typer'`, paired in one run: ratios, since machines are noisy.

usage: python benchmarks/startup.py [--pairs N] [-o FILE.json]

The program is built as a wheel and installed in an environment of its own, as its users have it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.wheel import build, environment

RUNS = {
    "run --only sysctl.* --json": (("run", "--only", "sysctl.*", "--json", "--passive"), 2.5),
    "--passive --json": (("--passive", "--json"), 4.0),
    "--passive as text": (("--passive",), None),
    "--version": (("--version",), 1.5),
}
PASSIVE_LIMIT_S = 1.0
PSS_LIMIT_MB = 80.0


def seconds(command: Sequence[str | Path]) -> float:
    """The wall time of one process."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, cwd="/")
    return time.perf_counter() - began


def paired(ours: Sequence[str | Path], peer: Sequence[str | Path], pairs: int) -> tuple[float, float, float]:
    """The median ratio of pairs in alternating order, and the median of each in seconds."""
    ratios, times, peer_times = [], [], []
    for number in range(pairs):
        if number % 2:
            ours_s, peer_s = seconds(ours), seconds(peer)
        else:
            peer_s, ours_s = seconds(peer), seconds(ours)
        ratios.append(ours_s / peer_s)
        times.append(ours_s)
        peer_times.append(peer_s)
    return statistics.median(ratios), statistics.median(times), statistics.median(peer_times)


def family(top: int) -> list[int]:
    """A process and all that are below it."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            parents.setdefault(parent, []).append(int(name))
    found = [top]
    for pid in found:
        found.extend(parents.get(pid, ()))
    return found


def most_pss_mb(command: Sequence[str | Path]) -> float:
    """The largest sum of PSS of the process tree that was seen while it ran."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    most = 0
    while running.poll() is None:
        total = 0
        for pid in family(running.pid):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        most = max(most, total)
        time.sleep(0.002)
    return most / 1024


def main() -> None:
    """Print what was reached beside what is wanted, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = environment(folder / "venv", build(folder))
        peer: list[str | Path] = [programs / "python", "-c", "import typer"]
        program = programs / "vdscheck"
        seconds([program, "--passive"])
        found: dict[str, dict[str, float | None]] = {}
        for label, (words, wanted) in RUNS.items():
            ours: list[str | Path] = [program, *words]
            ratio, ours_s, peer_s = paired(ours, peer, asked.pairs)
            found[label] = {
                "ratio": round(ratio, 2),
                "wanted": wanted,
                "s": round(ours_s, 3),
                "peer_s": round(peer_s, 3),
            }
            print(f"{label:28} {ratio:5.2f} of `import typer` (wanted: {wanted or '-'}), {ours_s * 1000:4.0f} ms")
        pss_mb = max(most_pss_mb([program, *words]) for words, _ in RUNS.values())
        print(f"{'memory of the whole tree':28} {pss_mb:5.1f} MB PSS at most (wanted: {PSS_LIMIT_MB:.0f})")
        found["pss"] = {"mb": round(pss_mb, 1), "wanted": PSS_LIMIT_MB}
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
