"""The disk instruments beside fio, on one file and disk, paired in alternating order: ratios, since disks are noisy.

usage: python benchmarks/disk.py [--folder DIR] [--pairs N] [--runs N] [--fault] [-o FILE.json]

Every raw pair is kept. `--fault` doubles what the instruments see and asks whether the comparison breaks:
it must, in ten of ten.
"""

import argparse
import contextlib
import dataclasses
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vdscheck.plugin import Distribution, Recorder
from vdscheck.probes.disk.appends import LOG_BYTES, Log
from vdscheck.probes.disk.files import TestFile, filled, past_the_cache
from vdscheck.probes.disk.reads import Qd32ByAio, Rate, qd1_reads, qd32_reader

PROJECT = Path(__file__).resolve().parents[1]
FILE_BYTES = 200 << 20
SECONDS = 2.0
FAULTY_RUNS = 10

Figures = dict[str, float]

WANTED: Mapping[str, tuple[float, float]] = {
    "read p50": (0.9, 1.1),
    "read p99": (0.9, 1.1),
    "read IOPS at depth 1": (0.9, 1.1),
    "IOPS at depth 32": (0.9, float("inf")),
    "fdatasync p50": (0.9, 1.1),
    "fdatasync p99": (0.9, 1.1),
    "in a full run: read p50": (0.9, 1.1),
    "in a full run: fdatasync p50": (0.9, 1.1),
}
"""The least and the most that the median ratio may be."""


@dataclasses.dataclass
class Bench:
    """The file that both read, and the folder that both write in."""

    folder: Path
    descriptor: int

    @property
    def file(self) -> Path:
        """The file that is read."""
        return self.folder / "read.test"


def fio(bench: Bench, *words: str) -> dict[str, Any]:
    """What one job of fio found."""
    limits = ("--runtime", str(SECONDS), "--time_based", "--output-format=json", "--norandommap", "--randrepeat=0")
    command = ["fio", "--name=job", *words, *limits]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=bench.folder)
    return dict(json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0])


def percentiles(name: str, found: Mapping[str, Any]) -> Figures:
    """The two percentiles of fio that are compared, in microseconds."""
    return {f"{name} p{each}": found["percentile"][f"{each}.000000"] / 1000 for each in (50, 99)}


def fio_read(bench: Bench) -> Figures:
    """Reads one by one: psync, past the cache."""
    words = (f"--filename={bench.file}", f"--size={FILE_BYTES}", "--rw=randread", "--bs=4k", "--direct=1")
    found = fio(bench, *words, "--ioengine=psync")["read"]
    return {**percentiles("read", found["clat_ns"]), "read IOPS at depth 1": found["iops"]}


def fio_many(bench: Bench) -> Figures:
    """Reads with 32 under way: libaio."""
    words = (f"--filename={bench.file}", f"--size={FILE_BYTES}", "--rw=randread", "--bs=4k", "--direct=1")
    return {"IOPS at depth 32": fio(bench, *words, "--ioengine=libaio", "--iodepth=32")["read"]["iops"]}


def fio_log(bench: Bench) -> Figures:
    """The job for etcd; a new file each time, since fio would overwrite the old one."""
    file = bench.folder / "log.test"
    file.unlink(missing_ok=True)
    words = (f"--filename={file}", "--size=64m", "--bs=2300", "--rw=write", "--ioengine=sync", "--fdatasync=1")
    found = percentiles("fdatasync", fio(bench, *words)["sync"]["lat_ns"])
    file.unlink()
    return found


def recorded(samples: list[int]) -> Distribution:
    """The distribution of samples, as the program reports it."""
    recorder = Recorder()
    recorder.add(samples)
    found = recorder.distribution()
    if found is None:
        sys.exit("an instrument found nothing at all")
    return found


def our_read(bench: Bench) -> Figures:
    """The same by our instrument."""
    took, in_all_ns = qd1_reads(bench.descriptor, FILE_BYTES, SECONDS)
    found = recorded(took)
    p50, p99 = (found.percentile_us(quantile).value for quantile in (0.5, 0.99))
    return {"read p50": p50, "read p99": p99, "read IOPS at depth 1": len(took) / in_all_ns * 1e9}


def our_many(bench: Bench) -> Figures:
    """The same by our instrument."""
    by = qd32_reader(bench.descriptor, FILE_BYTES)
    rate = by.run(SECONDS)
    by.close()
    return {"IOPS at depth 32": rate.count / rate.took_ns * 1e9}


def our_log(bench: Bench) -> Figures:
    """The same by our instrument."""
    folder = os.open(bench.folder, os.O_PATH | os.O_DIRECTORY)
    log = Log(folder, LOG_BYTES)
    found = recorded(log.append(SECONDS))
    log.close()
    os.close(folder)
    return {f"fdatasync p{each}": found.percentile_us(each / 100).value for each in (50, 99)}


PAIRS: tuple[tuple[Callable[[Bench], Figures], Callable[[Bench], Figures]], ...] = (
    (our_read, fio_read),
    (our_many, fio_many),
    (our_log, fio_log),
)


def program(bench: Bench, *words: str) -> Figures:
    """What the whole program finds."""
    command = [sys.executable, "-m", "vdscheck", "run", "--json", "--offline", "--disk", str(bench.folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    value = json.loads(done.stdout)["measurements"][f"disk.latency[{bench.folder}]"]["value"]
    typical = {
        name: next(each["value_us"] for each in value[name]["percentiles"] if each["percent"] == 50)
        for name in ("read", "fdatasync")
    }
    return {f"in a full run: {name} p50": found for name, found in typical.items()}


def full(bench: Bench) -> Figures:
    """The instrument inside a full default run."""
    return program(bench)


def alone(bench: Bench) -> Figures:
    """The instrument alone."""
    return program(bench, "--only", "disk.fsync-latency")


Pair = tuple[Figures, Figures]


def paired(
    bench: Bench, ours: Callable[[Bench], Figures], peer: Callable[[Bench], Figures], pairs: int
) -> Iterator[Pair]:
    """Pairs of figures, ours first and then the peer's, taken in alternating order."""
    for number in range(pairs):
        order = (ours, peer) if number % 2 else (peer, ours)
        found = {each: each(bench) for each in order}
        yield found[ours], found[peer]


def ratios(pairs: list[Pair]) -> dict[str, float]:
    """The median ratio of each figure."""
    return {name: statistics.median(ours[name] / peer[name] for ours, peer in pairs) for name in pairs[0][0]}


@contextlib.contextmanager
def planted() -> Iterator[None]:
    """Make each call take twice as long, and lose every other read of many."""
    read, sync, run = os.preadv, os.fdatasync, Qd32ByAio.run

    def twice(call: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: object) -> object:
            began = time.perf_counter_ns()
            result = call(*arguments)
            until = 2 * time.perf_counter_ns() - began
            while time.perf_counter_ns() < until:
                pass
            return result

        return slow

    def halved(self: Qd32ByAio, seconds: float) -> Rate:
        rate = run(self, seconds)
        return Rate(rate.count // 2, rate.took_ns)

    os.preadv, os.fdatasync, Qd32ByAio.run = twice(read), twice(sync), halved  # type: ignore[method-assign]
    try:
        yield
    finally:
        os.preadv, os.fdatasync, Qd32ByAio.run = read, sync, run  # type: ignore[method-assign]


def holds(name: str, ratio: float) -> bool:
    """Whether a ratio is what is wanted."""
    least, most = WANTED[name]
    return least <= ratio <= most


def compared(bench: Bench, pairs: int, runs: int) -> dict[str, Any]:
    """All figures beside their peers', with every raw pair."""
    kept: dict[str, Any] = {}
    comparisons = [(ours, peer, pairs) for ours, peer in PAIRS]
    comparisons += [(full, alone, runs)] if runs else []
    for ours, peer, count in comparisons:
        found = list(paired(bench, ours, peer, count))
        for name, ratio in ratios(found).items():
            least, most = WANTED[name]
            wanted = f"at least {least}" if most == float("inf") else f"{least} to {most}"
            verdict = "holds" if holds(name, ratio) else "FALLS SHORT"
            raw = [(round(one[name], 2), round(other[name], 2)) for one, other in found]
            print(f"{name:30} {ratio:5.3f} of {peer.__name__:9} (wanted: {wanted:12}) {verdict:12} {raw}")
            kept[name] = {"ratio": round(ratio, 4), "wanted": wanted, "peer": peer.__name__, "pairs": raw}
    return kept


def broken_by_a_fault(bench: Bench) -> dict[str, Any]:
    """In how many runs a planted factor of two breaks each comparison."""
    broken: dict[str, list[float]] = {}
    for ours, peer in PAIRS:
        for _ in range(FAULTY_RUNS):
            expected = peer(bench)
            with planted():
                seen = ours(bench)
            for name, value in seen.items():
                broken.setdefault(name, []).append(round(value / expected[name], 3))
    for name, found in broken.items():
        count = sum(not holds(name, ratio) for ratio in found)
        print(f"{name:30} broken in {count} of {len(found)}: {found}")
    return {
        name: {"ratios": found, "broken": sum(not holds(name, each) for each in found)}
        for name, found in broken.items()
    }


def overhead_ns(seconds: float = 0.2) -> float:
    """What our loop adds to a read, at most: a read that takes next to nothing (of /dev/zero)."""
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    took, _ = qd1_reads(descriptor, FILE_BYTES, seconds)
    os.close(descriptor)
    return statistics.median(took)


def main() -> None:
    """Print what was reached beside what is wanted, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/var/lib"))
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--runs", type=int, default=7, help="pairs of whole runs of the program; 0 leaves them out")
    parser.add_argument("--fault", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    gc.disable()
    folder = Path(tempfile.mkdtemp(prefix="vdscheck-bench-", dir=asked.folder))
    try:
        descriptor = os.open(folder / "read.test", os.O_CREAT | os.O_RDWR, 0o600)
        file = TestFile(descriptor, named=True)
        absent = past_the_cache(file)
        if absent is not None:
            sys.exit(f"{asked.folder}: {absent.detail}")
        filled(file, FILE_BYTES, time.monotonic() + 60)
        bench = Bench(folder, descriptor)
        print(f"our loop adds at most {overhead_ns():.0f} ns to a read (median of reads of /dev/zero)")
        found = broken_by_a_fault(bench) if asked.fault else compared(bench, asked.pairs, asked.runs)
    finally:
        shutil.rmtree(folder)
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
