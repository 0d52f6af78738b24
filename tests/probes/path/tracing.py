"""Runs the tracer inside a network of the lab, as a user without any capability, and gives back what it measured."""

import json
import sys
import time
from typing import Any

from tests.lab.net.network import Network
from tests.lab.processes import must
from tests.support.project import PROJECT
from vdscheck.codec import decode
from vdscheck.measurements import Paths

UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
PROGRAM = (*UNPRIVILEGED, sys.executable, "-m", "vdscheck")


def traced(
    network: Network,
    *written: str,
    window_s: float = 3.0,
    privileged: bool = False,
    node: str = "vds",
    **how: Any,
) -> Paths:
    """What a survey of these places finds."""
    question = json.dumps({"path": list(written), "path-how": how, "window_s": window_s})
    argv = [sys.executable, "-m", "tests.probes.path.tracing", question]
    command = network.command(node, argv if privileged else [*UNPRIVILEGED, *argv])
    return decode(must(command, timeout_s=20, cwd=PROJECT).encode(), Paths)


def _trace(question: dict[str, Any]) -> None:
    from vdscheck.codec import encode
    from vdscheck.probes.path.subject import Places
    from vdscheck.probes.path.survey import survey
    from vdscheck.target.host import Host

    places = Places.chosen(question)[""]
    *_, last = survey(Host(ends_at=time.monotonic() + question["window_s"]), places)
    sys.stdout.write(encode(last).decode())


if __name__ == "__main__":
    _trace(json.loads(sys.argv[1]))
