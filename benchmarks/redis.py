"""Redis latency beside `redis-benchmark -c 1 -n 20000 -t ping_mbulk`, paired in one run on one server.

usage: python benchmarks/redis.py [--pairs N] [--fault] [-o FILE.json]

redis-benchmark counts in buckets of 8 us and reports their upper ends (7, 15, 23, ... us), so both ratios are given:
that of the figures as they are, which is wanted, and that of our figures put into the same buckets.

`--fault` plants a fault of 2x in our own instrument (each PING is sent twice, and the second answer counts),
which has to break the figures.
"""

import argparse
import csv
import gc
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, in which this file would be taken for the library
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.lab.processes import need
from tests.lab.redis_server import RedisServer
from vdscheck.probes.redis.redis_probes import latency
from vdscheck.probes.redis.url import parse
from vdscheck.target.host import Host

PINGS = 20_000
WINDOW_S = 1.5
WANTED = {"p50": 1.15, "p99": 1.25}


def ours(url: str) -> dict[str, float]:
    """p50 and p99 in us, by the probe itself, with the window of a default run."""
    host = Host(ends_at=time.monotonic() + WINDOW_S)
    *_, found = latency.function(host, parse(url))
    gc.enable()
    return {"p50": found.ping.percentile_us(0.5).value, "p99": found.ping.percentile_us(0.99).value}


def peers(port: int) -> dict[str, float]:
    """p50 and p99 in us, by redis-benchmark: the same command in the same form, on one connection."""
    words = ["redis-benchmark", "-p", str(port), "-c", "1", "-n", str(PINGS), "-t", "ping_mbulk", "--csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    return {"p50": 1000 * float(row["p50_latency_ms"]), "p99": 1000 * float(row["p99_latency_ms"])}


def in_a_process(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """As the product does it: in a forked child."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(send, json.dumps(measure()).encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(said))


def plant_fault() -> None:
    """Send each PING twice: the answer takes about twice as long."""
    from vdscheck.probes.redis.sockets import BoundedSocket

    send_once = BoundedSocket.sendall

    def sendall(self: BoundedSocket, data: bytes) -> None:
        send_once(self, data)
        if data.endswith(b"PING\r\n"):
            began = self.sent_ns
            self._socket.recv(100)
            self._socket.sendall(data)
            self.sent_ns = began

    BoundedSocket.sendall = sendall  # type: ignore[method-assign]


def in_its_buckets(us: float) -> float:
    """A figure as redis-benchmark would report it."""
    return int(us) // 8 * 8 + 7


def pairs_of(server: RedisServer, count: int) -> list[dict[str, Any]]:
    """Pairs in alternating order."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        mine: dict[str, float] = {}
        if number % 2:
            mine = in_a_process(lambda: ours(server.url))
        peer = peers(server.port)
        if not number % 2:
            mine = in_a_process(lambda: ours(server.url))
        found.append({"first": "ours" if number % 2 else "peer", "ours_us": mine, "peer_us": peer})
        print(
            f"  {number + 1:2}  us  ours {mine['p50']:.1f} {mine['p99']:.1f}  peer {peer['p50']:.1f} {peer['p99']:.1f}"
        )
    return found


def main() -> None:
    """Print what was reached beside what is wanted, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--fault", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    need("redis-benchmark", "redis-check-rdb")
    if asked.fault:
        plant_fault()
    with tempfile.TemporaryDirectory() as name, RedisServer(Path(name)) as server:
        pairs = pairs_of(server, asked.pairs)
    result: dict[str, Any] = {"wanted": WANTED, "fault": asked.fault, "load_1min": os.getloadavg()[0], "pairs": pairs}
    broken = []
    for figure, limit in WANTED.items():
        ratio = statistics.median(pair["ours_us"][figure] / pair["peer_us"][figure] for pair in pairs)
        bucketed = statistics.median(
            in_its_buckets(pair["ours_us"][figure]) / pair["peer_us"][figure] for pair in pairs
        )
        result[f"{figure}_ratio"], result[f"{figure}_ratio_in_buckets"] = round(ratio, 3), round(bucketed, 3)
        holds = ratio <= limit
        broken += [] if holds else [figure]
        beside = f"{ratio:.3f} of redis-benchmark ({bucketed:.3f} in its buckets)"
        print(f"{figure}: {beside}, at most {limit} wanted: {'holds' if holds else 'BROKEN'}")
    if asked.output:
        asked.output.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if broken else 0)


main()
