"""What is said of a cluster beside whose it is: what its nodes carry, where they may be, and manifests."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vdscheck.plugin import Files, Matter, Option, SubjectError, safe_text

_LABEL = re.compile(r"[A-Za-z0-9./_-]{1,317}(=[A-Za-z0-9._-]{0,63})?")


def _labels(written: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    labels = [_label(each) for each in written]
    return {check_id: {"label": labels} for check_id in ("cluster.nvme-label", "cluster.label-truth")}


def _label(written: str) -> str:
    name, _, label = written.partition("=")
    if name != "nvme" or not _LABEL.fullmatch(label):
        message = f"--selector {safe_text(written)}: write nvme=KEY=VALUE, as in nvme=disktype=nvme"
        raise SubjectError(message)
    return label


def _read(files: Sequence[str], namespace: str, standard_input: Callable[[], bytes]) -> Any:  # noqa: ANN401
    from vdscheck.probes.cluster.manifests import read

    return read(files, namespace, standard_input)


OPTIONS = (
    Option(
        "selector",
        help="What claims NVMe: nvme=KEY=VALUE, or nvme=KEY (repeatable; nvme=disktype=nvme).",
        takes="texts",
        metavar="nvme=LABEL",
        matter=Matter.MEASURING,
        target="cluster",
        commands=("cluster",),
        limits=_labels,
    ),
    Option(
        "min-nvme",
        help="So many usable nodes carry the NVMe label.",
        takes="whole",
        metavar="N",
        least=0,
        matter=Matter.MEASURING,
        target="cluster",
        commands=("cluster",),
        limits=lambda least: {"cluster.nvme-label": {"wanted": f"{least} nodes"}},
    ),
    Option(
        "region",
        help="Nodes and volumes may be in this region or zone (repeatable).",
        takes="texts",
        metavar="NAME",
        matter=Matter.MEASURING,
        target="cluster",
        commands=("cluster",),
        limits=lambda regions: {"cluster.residency": {"regions": [safe_text(each) for each in regions]}},
    ),
    Option(
        "filename",
        help="Judge the workloads in this manifest (repeatable; - is standard input).",
        takes="texts",
        metavar="FILE",
        short="-f",
        commands=("cluster",),
        files=Files(
            read=_read,
            # The rest is about the cluster, which manifests do not change.
            checks=(
                "cluster.node-selector",
                "cluster.sidecars",
                "cluster.resources",
                "cluster.images",
                "cluster.spread",
            ),
        ),
    ),
)
