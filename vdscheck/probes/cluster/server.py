"""The API server: its version, and how fast it answers."""

import time

from vdscheck.measurements.cluster import ClusterServer
from vdscheck.plugin import Cluster, ForbiddenError, Reason, Recorder, UnavailableError, safe_text, secrets, unmeasured
from vdscheck.probes.cluster.objects import Version
from vdscheck.probes.cluster.reading import decoded

GETS = 40
"""A p90 with a finite upper bound takes 36."""
ENOUGH_S = 15.0
VERSION_LIMIT = 64


def asked(cluster: Cluster) -> ClusterServer:
    """One GET after the other on one connection, the first left out: it makes the connection."""
    version = ""
    try:
        version = decoded(cluster.get("/version"), Version, "/version").git_version
    except ForbiddenError as error:
        if error.nobody:
            raise
    path = f"/api/v1/namespaces/{cluster.login.namespace}"
    got = f"namespace {cluster.login.namespace}"
    try:
        cluster.get(path)
    except ForbiddenError:
        path, got = "/version", "/version (no namespace may be read)"
        cluster.get(path)
    recorder, until = Recorder(), time.monotonic() + ENOUGH_S
    for _ in range(GETS):
        began_ns = time.monotonic_ns()
        cluster.get(path)
        recorder.add([time.monotonic_ns() - began_ns])
        if time.monotonic() > until:
            break
    found = recorder.distribution()
    if found is None:
        raise UnavailableError(unmeasured(Reason.TIMEOUT, "the server answered nothing"))
    return ClusterServer(
        context=cluster.login.name,
        host=cluster.host,
        version=secrets.redacted(safe_text(version))[:VERSION_LIMIT],
        get=found,
        got=f"{got}: {cluster.withheld}" if cluster.withheld else got,
    )
