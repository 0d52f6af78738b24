"""`vdscheck cluster`: from its options to its exit code."""

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from vdscheck import __version__
from vdscheck.catalogue.catalogue import load
from vdscheck.cli.deliver import draw, or_early, report_of, write
from vdscheck.cli.judge import from_standard_input
from vdscheck.cli.request import Asked, Settings, UsageError, answered, settle
from vdscheck.codec import encode
from vdscheck.measure import measure
from vdscheck.measure.jobs import FRAME_LIMIT_BYTES, now
from vdscheck.measurements.cluster import Manifests
from vdscheck.model.records import frozen
from vdscheck.model.report import Report, Run, Taken
from vdscheck.render.formats import prepare
from vdscheck.render.text.progress import progress
from vdscheck.report import build
from vdscheck.ruleset import ruleset
from vdscheck.target.cluster import Cluster, Login, login
from vdscheck.target.kubeconfig import NAMESPACE_NAME, ClusterError
from vdscheck.target.secrets import file_of
from vdscheck.target.text import absolute, safe_text

PROFILE = "cluster"
OF_MANIFESTS = (
    "cluster.node-selector",
    "cluster.sidecars",
    "cluster.resources",
    "cluster.images",
    "cluster.spread",
)
"""What is judged of manifests: the rest is about the cluster, which they do not change."""
MANIFESTS_LIMIT_BYTES = FRAME_LIMIT_BYTES - (64 << 10)
"""What a process that measures may tell, less what stands around it."""
MANIFESTS_LIMIT_S = 60.0
"""How long to read the largest manifests may take on a slow machine."""
_LABEL = re.compile(r"[A-Za-z0-9./_-]{1,317}(=[A-Za-z0-9._-]{0,63})?")


@frozen
class Wanted:
    """What the command line asks of a cluster; None and empty are "not said"."""

    context: str | None = None
    kubeconfig: str | None = None
    namespaces: Sequence[str] = ()
    selectors: Sequence[str] = ()
    min_nvme: int | None = None
    regions: Sequence[str] = ()
    node_reports: str | None = None
    files: Sequence[str] = ()

    @property
    def said(self) -> dict[str, Any]:
        """By the keys that a configuration has for it."""
        return {
            "context": self.context,
            "kubeconfig": self.kubeconfig,
            "namespace": self.namespaces,
            "selector": self.selectors,
            "min-nvme": self.min_nvme,
            "region": self.regions,
            "node-reports": self.node_reports,
        }


def examine(asked: Asked, wanted: Wanted, received: Sequence[int]) -> int:
    """Examine a cluster, or manifests, and report."""
    return or_early(asked, received, "cluster", lambda: _examine(asked, wanted, received))


def _examine(asked: Asked, wanted: Wanted, received: Sequence[int]) -> int:
    began, started_at = time.monotonic(), now()
    settings = settle(asked if asked.only or not wanted.files else replace(asked, only=OF_MANIFESTS))
    settings = replace(settings, said_of_cluster=wanted.said)
    offline = bool(settings.first("offline", asked.offline))
    if offline and not wanted.files:
        message = "--offline leaves nothing to examine but manifests: name one with -f"
        raise UsageError(message)
    if settings.plans:
        message = "sh is the plan of a fix, and nothing in a cluster is ever changed"
        raise UsageError(message)
    catalogue = load()
    profiles = list(settings.first("profile", asked.profile, (PROFILE,)))
    rules = ruleset.build(catalogue, profiles, _overrides(settings, wanted), __version__, "cluster")
    cluster = _cluster(settings, wanted, received, offline=offline)
    run_id = build.new_run_id()

    def made(measurements: Mapping[str, Taken], warnings: Sequence[str], *, complete: bool) -> Report:
        duration_s = round(time.monotonic() - began, 3)
        note = Run(run_id, started_at, duration_s, complete, tuple(map(safe_text, asked.command)))
        target = build.target_note("cluster", catalogue.headers.get("cluster"), measurements, name=cluster.login.name)
        return report_of(settings, catalogue, rules, note, target, measurements, warnings)

    chosen = {each.probe.id: each for entry in rules.selected for each in catalogue.probes_of(entry)}
    chosen |= {each.probe.id: each for each in catalogue.header_probes("cluster") if not (offline and each.probe.sends)}
    entries = [chosen[name] for name in sorted(chosen)]
    observer = progress(sys.stderr)
    try:
        outcome = measure.measure(
            cluster,
            entries,
            measure.Options(offline=offline, budget_s=sum(each.probe.deadline_s for each in entries)),
            observer=observer,
            stopped=lambda: bool(received),
            meanwhile=lambda: prepare(name for name, _ in settings.outputs),
        )
    finally:
        observer.close()
    warnings = settings.of_the_configuration
    found = made(outcome.measurements, [*warnings, *outcome.warnings], complete=outcome.complete)
    return write(
        draw(found, settings, settings.terminal), settings, received, failed=outcome.failed or outcome.given_up
    )


def _overrides(settings: Settings, wanted: Wanted) -> dict[str, Any]:
    """What the options say of limits, in the form that a configuration has and the report keeps."""
    overrides = settings.overrides
    limits: dict[str, dict[str, Any]] = {key: dict(named) for key, named in overrides.get("limits", {}).items()}
    labels = [_label(each) for each in settings.first("selector", wanted.selectors, ())]
    if labels:
        for check_id in ("cluster.nvme-label", "cluster.label-truth"):
            limits.setdefault(check_id, {})["label"] = labels
    least = settings.first("min-nvme", wanted.min_nvme)
    if least is not None:
        limits.setdefault("cluster.nvme-label", {})["wanted"] = f"{least} nodes"
    regions = [safe_text(each) for each in settings.first("region", wanted.regions, ())]
    if regions:
        limits.setdefault("cluster.residency", {})["regions"] = regions
    return overrides | ({"limits": limits} if limits else {})


def _label(written: str) -> str:
    name, _, label = written.partition("=")
    if name != "nvme" or not _LABEL.fullmatch(label):
        message = f"--selector {safe_text(written)}: write nvme=KEY=VALUE, as in nvme=disktype=nvme"
        raise UsageError(message)
    return label


def _cluster(settings: Settings, wanted: Wanted, received: Sequence[int], *, offline: bool) -> Cluster:
    """The cluster, found and not yet asked, and what the manifests say."""
    namespaces = tuple(settings.first("namespace", wanted.namespaces, ()))
    for name in namespaces:
        if not NAMESPACE_NAME.fullmatch(name):
            message = f"--namespace {safe_text(name)}: not the name of a namespace"
            raise UsageError(message)
    folder = settings.first("node-reports", wanted.node_reports)
    if folder is not None and not answered(lambda: os.path.isdir(folder), folder):
        message = f"--node-reports {safe_text(folder)}: there is no such folder"
        raise UsageError(message)
    who = Login((), None, "manifests", "default") if offline else _login(settings, wanted)
    manifests = _manifests(wanted.files, namespaces[0] if namespaces else who.namespace, received)
    # With manifests the whole cluster counts: what its pods request is what is not free.
    return Cluster(who, () if manifests else namespaces, None if folder is None else absolute(folder), manifests)


def _login(settings: Settings, wanted: Wanted) -> Login:
    """Which cluster, and as whom."""
    file = settings.first("kubeconfig", wanted.kubeconfig)
    if file is not None and wanted.kubeconfig is None and settings.file is not None and not file.startswith("~/"):
        # Who wrote the configuration means a file beside it, not one in whatever folder this is called.
        file = os.path.join(os.path.dirname(settings.file), file)
    context = settings.first("context", wanted.context)
    by_variable = os.environ.get("KUBECONFIG")
    shown = file or (file_of("KUBECONFIG", by_variable) if by_variable else "~/.kube/config")
    try:
        return answered(lambda: login(file, context), shown, otherwise=": name another one with --kubeconfig")
    except ClusterError as error:
        raise UsageError(str(error)) from error


def _begun(file: str) -> None:
    """Read the first byte of a file: what never answers need not be waited for as long as a large one.

    A pipe may take its time, and what else is wrong is said when all of it is read.
    """
    with suppress(OSError):
        if os.path.isfile(file):
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.read(descriptor, 1)
            os.close(descriptor)


def _manifests(files: Sequence[str], namespace: str, received: Sequence[int]) -> Manifests | None:
    """What the manifests say; None where none were named. Raises SubjectError."""
    if not files:
        return None
    from vdscheck.probes.cluster.manifests import STANDARD_INPUT, read

    content = from_standard_input(received) if STANDARD_INPUT in files else b""
    for file in files:
        if file != STANDARD_INPUT:
            answered(partial(_begun, file), file)
    found = answered(lambda: read(files, namespace, lambda: content), *files, seconds=MANIFESTS_LIMIT_S)
    if (size_bytes := len(encode(found))) > MANIFESTS_LIMIT_BYTES:
        # Lost later, all workloads would be unknown, and a gate that asks for failures alone would hold.
        message = (
            f"{safe_text(' '.join(files))}: what is in them takes {size_bytes:,} bytes, more than the "
            f"{MANIFESTS_LIMIT_BYTES:,} that are examined at once: name fewer, or parts of them"
        )
        raise UsageError(message)
    return found
