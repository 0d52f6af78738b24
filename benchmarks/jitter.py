"""Clock gaps beside an injected truth: a real-time task takes 5.0 ms of one CPU each second, and writes down when.

usage: python benchmarks/jitter.py [--pairs N] [--seconds S] [--planted FACTOR] [-o FILE.json]

As root. The truth is the hog's own reading of the clock for each burst; a gap is right when it differs from its burst
by no more than 0.3 ms. `redis-cli --intrinsic-latency` (package redis-tools) runs beside it in alternating order: it
reports its longest gap only. With --planted 2 the instrument measures every gap twice as long as it is: then the
benchmark must fail.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.lab.hog import HOG
from vdscheck.measurements import Gap
from vdscheck.plugin import Host
from vdscheck.probes.cpu import spin, spinner

WANTED_MS = 0.3
BURST_MS = 5.0
EVERY_MS = 1000.0

Truth = list[tuple[int, int]]


def with_hog(cpu: int, seconds: float, measured: Callable[[], Any]) -> tuple[Truth, Any]:
    """Measure while the hog works; what it wrote down, and what was measured."""
    words = [sys.executable, str(HOG), str(cpu), str(BURST_MS), str(EVERY_MS), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as hog:
        found = measured()
        said, _ = hog.communicate(timeout=seconds + 30)
    return [(began, ended) for began, ended in json.loads(said)], found


def ours(seconds: float) -> tuple[int, tuple[Gap, ...]]:
    """When the instrument began, and the gaps that it reports."""
    began_ns = time.monotonic_ns()
    *_, last = spin.watched(Host(ends_at=time.monotonic() + seconds))
    return began_ns, last.longest


def redis_longest_ms(cpu: int, seconds: float) -> float:
    """The longest gap that redis-cli reports."""
    words = ["taskset", "-c", str(cpu), "redis-cli", "--intrinsic-latency", str(int(seconds))]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 30)
    return max(int(found) for found in re.findall(r"Max latency so far: ([0-9]+) microseconds", done.stdout)) / 1000


def reported(bursts: Truth, began_ns: int, gaps: tuple[Gap, ...], cpu: int) -> list[dict[str, float | None]]:
    """For each burst its true length and that of the gap that holds its middle."""
    rows: list[dict[str, float | None]] = []
    for began, ended in bursts:
        middle_s = ((began + ended) / 2 - began_ns) / 1e9
        lengths = [
            gap.length_us / 1000
            for gap in gaps
            if gap.cpu == cpu and gap.at_s <= middle_s <= gap.at_s + gap.length_us / 1e6
        ]
        rows.append({"true_ms": (ended - began) / 1e6, "reported_ms": max(lengths, default=None)})
    return rows


def pair(cpu: int, seconds: float, *, ours_first: bool) -> dict[str, Any]:
    """One run of each, with the hog beside both."""
    found: dict[str, Any] = {"ours_first": ours_first}
    for is_ours in (ours_first, not ours_first):
        if is_ours:
            bursts, (began_ns, gaps) = with_hog(cpu, seconds, lambda: ours(seconds))
            found["bursts"] = reported(bursts, began_ns, gaps, cpu)
        else:
            truth, longest_ms = with_hog(cpu, seconds, lambda: redis_longest_ms(cpu, seconds))
            longest_true_ms = max(ended - began for began, ended in truth) / 1e6
            found["redis"] = {"longest_true_ms": longest_true_ms, "longest_reported_ms": longest_ms}
    return found


def plant(factor: float) -> None:
    """Let the instrument take every gap for so many times as long."""
    attribute = spinner.StallDetector._attribute  # noqa: SLF001 - a fault is planted inside

    def wrong(self: spinner.StallDetector, last: int, now: int, found: spinner.Clocks | None = None) -> int:
        return attribute(self, round(now - factor * (now - last)), now, found)

    spinner.StallDetector._attribute = wrong  # type: ignore[method-assign]  # noqa: SLF001


def main() -> int:
    """Print what was reached beside what is wanted, and keep all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--planted", type=float)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    if asked.planted:
        plant(asked.planted)
    cpu = max(os.sched_getaffinity(0))
    pairs = [pair(cpu, asked.seconds, ours_first=number % 2 == 0) for number in range(asked.pairs)]
    bursts = [burst for each in pairs for burst in each["bursts"]]
    errors_ms = [abs(row["reported_ms"] - row["true_ms"]) for row in bursts if row["reported_ms"] is not None]
    right = sum(error_ms <= WANTED_MS for error_ms in errors_ms)
    peers_ms = [each["redis"]["longest_reported_ms"] - each["redis"]["longest_true_ms"] for each in pairs]
    ratios = [row["reported_ms"] / row["true_ms"] for row in bursts if row["reported_ms"] is not None]
    figures = {
        "bursts": len(bursts),
        "within_0.3_ms": right,
        "median_error_ms": round(statistics.median(errors_ms), 4) if errors_ms else None,
        "largest_error_ms": round(max(errors_ms), 4) if errors_ms else None,
        "median_ratio": round(statistics.median(ratios), 4) if ratios else None,
        "redis_longest_median_error_ms": round(statistics.median(peers_ms), 4),
    }
    holds = bool(bursts) and right == len(bursts)
    print(f"{right} of {len(bursts)} bursts of {BURST_MS:g} ms within {WANTED_MS} ms (wanted: all): {figures}")
    if asked.output:
        kept = {"figures": figures, "wanted_ms": WANTED_MS, "planted": asked.planted, "holds": holds, "pairs": pairs}
        asked.output.write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
