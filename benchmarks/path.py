"""The tracer beside mtr and icmplib in the lab's network, with the truth from the wire; all pairs in one run.

usage: python benchmarks/path.py [--pairs N] [-o FILE.json]

As root, since it makes the network; the tracer itself runs without any capability. mtr with its defaults is one
target after the other; tuned it is root's, both targets at one time, and with as many packets as the tracer
sends, or with as many rounds. Before each run the routers rest until they may answer as many probes as at first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from tests.lab.net.network import Network
from tests.lab.net.topology import PLACES
from tests.lab.processes import need
from tests.probes.path.tracing import UNPRIVILEGED
from tests.probes.path.wire import Round, captured, rounds

Result = dict[str, Any]
ECHOES = 100
HOPS = {"oslo": 7, "frankfurt": 11}
SILENT_TTL = 6
REST_S = 7.0
"""A Linux router saves up six answers to one address, one a second (net/ipv4/inetpeer.c, XRLIM_BURST_FACTOR)."""
PING = """
import json, sys
from icmplib import ping
found = ping(sys.argv[1], count=100, interval=0.0101, timeout=1, privileged=False)
print(json.dumps(found.rtts))
"""


def off_us(measured_us: Sequence[float], wire_us: Sequence[float]) -> list[float]:
    """By how much figures differ from those of the wire, where the order of both is known or the same."""
    return [abs(one - other) for one, other in zip(measured_us, wire_us, strict=True)]


def p95(values: Sequence[float]) -> float | None:
    """The nearest-rank p95; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)] if ordered else None


def timed(commands: Sequence[Sequence[str]]) -> tuple[list[str], float, float]:
    """What programs that run side by side write, their wall time and their CPU time."""
    began, before = time.perf_counter(), os.times()
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True, cwd=PROJECT) for each in commands]
    said = [each.communicate()[0] for each in running]
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return said, time.perf_counter() - began, cpu


def answered_us(found: Sequence[Round]) -> list[float]:
    """The round trips on the wire, in the order of sending."""
    return [(each.answered_ns - each.sent_ns) / 1000 for each in found if each.answered_ns is not None]


def vdscheck(network: Network) -> Result:
    """10 rounds to both places and 100 echoes to each, as an ordinary user."""
    hosts = [f"{place}={network.address(place)}" for place in HOPS]
    words = ["path", *hosts, "--interval", "0.1", "--no-names", "--json", "--samples"]
    command = network.command("vds", [*UNPRIVILEGED, sys.executable, "-m", "vdscheck", *words])
    with captured(network) as packets:
        (said,), wall_s, cpu_s = timed([command])
    found = json.loads(said)["measurements"]["path.trace"]["value"]
    samples = [each for trace in found["traces"].values() for each in trace["samples"]]
    samples.sort(key=lambda each: each["sent_at_ns"])
    truth = rounds(packets)
    same = [each["rtt_us"] is not None for each in samples] == [each.answered_ns is not None for each in truth]
    off = off_us([each["rtt_us"] for each in samples if each["rtt_us"] is not None], answered_us(truth)) if same else []
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "off_us_p95": p95(off),
        "answers_identical": same,
        "hops_identical": all(_hops(network, place) == _seen(found["traces"][place]) for place in HOPS),
        "claimed_path_loss": sum(hop["loss"] == "path" for trace in found["traces"].values() for hop in trace["hops"]),
        "packets": [trace["packets"] for trace in found["traces"].values()],
    }


def rested(run: Callable[[Network], Result], network: Network) -> Result:
    """One run, with nothing left of what the one before took from the routers."""
    time.sleep(REST_S)
    return run(network)


def _hops(network: Network, place: str) -> list[list[str]]:
    letter = place[0]
    nodes = ["g1", *(f"{letter}{number}" for number in range(2, HOPS[place])), place]
    return [[] if node == "f6" else [network.address(node)] for node in nodes]


def _seen(trace: Mapping[str, Any]) -> list[list[str]]:
    return [[each["address"] for each in hop["responders"]] for hop in trace["hops"]]


def mtr(network: Network, words: Sequence[str], *, together: bool) -> Result:
    """Mtr with its raw output, which has every round trip; matched to the wire by hop and rank."""
    commands = [network.command("vds", ["mtr", "-n", "--raw", *words, network.address(place)]) for place in HOPS]
    off: list[float] = []
    wall_s = cpu_s = 0.0
    for batch in [commands] if together else [[each] for each in commands]:
        with captured(network) as packets:
            said, seconds, cpu = timed(batch)
        wall_s, cpu_s = wall_s + seconds, cpu_s + cpu
        told: dict[int, list[float]] = {}
        for line in "".join(said).splitlines():
            parts = line.split()
            if parts[:1] == ["p"]:
                told.setdefault(int(parts[1]) + 1, []).append(float(parts[2]))
        truth: dict[int, list[float]] = {}
        for each in rounds(packets):
            if each.answered_ns is not None:
                truth.setdefault(each.ttl, []).append((each.answered_ns - each.sent_ns) / 1000)
        for ttl, measured in told.items():
            wire = sorted(truth.get(ttl, []))
            if len(wire) == len(measured):
                off += off_us(sorted(measured), wire)
    return {"wall_s": wall_s, "cpu_s": cpu_s, "off_us_p95": p95(off), "matched": len(off)}


def icmplib(network: Network) -> Result:
    """100 echoes to each place by icmplib, without root; no hops, since its traceroute wants root and an hour."""
    commands = [
        network.command("vds", [*UNPRIVILEGED, sys.executable, "-c", PING, network.address(place)]) for place in HOPS
    ]
    with captured(network) as packets:
        said, wall_s, cpu_s = timed(commands)
    measured = sorted(1000 * each for text in said for each in json.loads(text))
    wire = sorted(answered_us(rounds(packets)))
    off = off_us(measured, wire) if len(measured) == len(wire) else []
    return {"wall_s": wall_s, "cpu_s": cpu_s, "off_us_p95": p95(off), "matched": len(off)}


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that only spin."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


RUNS: Mapping[str, Callable[[Network], Result]] = {
    "vdscheck": vdscheck,
    "mtr tuned, same packets": lambda network: mtr(network, ["-c", "20", "-i", "0.11", "-G", "0.2"], together=True),
    "mtr tuned, same rounds": lambda network: mtr(network, ["-c", "10", "-i", "0.1", "-G", "0.2"], together=True),
    "icmplib": icmplib,
}
DEFAULTS: Mapping[str, Callable[[Network], Result]] = {
    "mtr defaults": lambda network: mtr(network, ["-c", "10"], together=False),
}


def measured(network: Network, pairs: int) -> dict[str, list[Result]]:
    """All runs, in alternating order; what takes long runs less often."""
    found: dict[str, list[Result]] = {name: [] for name in (*RUNS, *DEFAULTS, "vdscheck, both cores busy", "mtr, busy")}
    vdscheck(network)  # not counted: it may find its modules not compiled yet
    for number in range(pairs):
        for name in list(RUNS) if number % 2 == 0 else reversed(list(RUNS)):
            found[name].append(rested(RUNS[name], network))
        if number % 3 == 0:
            for name, run in DEFAULTS.items():
                found[name].append(rested(run, network))
        with busy(os.cpu_count() or 2):
            found["vdscheck, both cores busy"].append(rested(vdscheck, network))
            found["mtr, busy"].append(rested(RUNS["mtr tuned, same rounds"], network))
    return found


def _median(results: Sequence[Result], key: str) -> float | None:
    values = [each[key] for each in results if each.get(key) is not None]
    return statistics.median(values) if values else None


def main() -> None:
    """Print what was reached beside what is wanted, and keep every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    need("mtr")
    with Network(PLACES) as network:
        for node in HOPS:
            network.listen(node)
        network.silent("f6")
        network.loss("f5", 2)
        found = measured(network, asked.pairs)
    print(f"{'':28} {'wall s':>8} {'CPU s':>8} {'|RTT - wire| p95, us':>22}")
    for name, results in found.items():
        wall, cpu, off = (_median(results, key) for key in ("wall_s", "cpu_s", "off_us_p95"))
        off_said = "-" if off is None else f"{off:.0f}"
        print(f"{name:28} {wall or 0:8.2f} {cpu or 0:8.2f} {off_said:>22}")
    ours = found["vdscheck"] + found["vdscheck, both cores busy"]
    for key in ("answers_identical", "hops_identical"):
        print(f"{key.replace('_', ' ')}: {sum(each[key] for each in ours)} of {len(ours)} runs")
    print(f"loss claimed on the way to a hop: {sum(each['claimed_path_loss'] for each in ours)}")
    for name in ("mtr tuned, same packets", "mtr tuned, same rounds"):
        ratios = [ours["wall_s"] / peer["wall_s"] for ours, peer in zip(found["vdscheck"], found[name], strict=True)]
        print(f"wall time over {name}: {statistics.median(ratios):.2f} (wanted: 1.5 at most)")
    print("wanted: wall < 2.5 s, CPU < 0.35 s, off < 50 us idle and < 100 us busy, all identical")
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
