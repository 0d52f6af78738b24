"""Machines, amounts, limits and evidence in words."""

import re
from itertools import groupby

from vdscheck.model.judgement import Evidence, Expected, Finding
from vdscheck.threshold import with_unit

_KINDS = {
    "kvm": "KVM guest",
    "xen": "Xen guest",
    "vmware": "VMware guest",
    "hyper-v": "Hyper-V guest",
    "qemu": "QEMU guest",
    "none": "bare metal",
    "docker": "Docker container",
    "lxc": "LXC container",
    "openvz": "OpenVZ container",
    "podman": "Podman container",
    "kubernetes": "Kubernetes pod",
    "systemd-nspawn": "nspawn container",
}
_KIB = 1024
_EXACT_FROM = 10


def kind_of_machine(virtualization: str | None) -> str:
    """`KVM guest`, `docker container`; as it is called where we have no better word, empty where not known."""
    if virtualization is None:
        return ""
    return _KINDS.get(virtualization, virtualization)


def distribution(name: str | None) -> str:
    """`Debian 12` for `Debian GNU/Linux 12 (bookworm)`; empty where not known."""
    return re.sub(r" GNU/Linux\b| \([^()]*\)$", "", name or "")


def kernel(release: str | None) -> str:
    """`Linux 6.1.0-18-amd64`; empty where not known."""
    if release is None:
        return ""
    return f"Linux {release}" if release[:1].isdigit() else release


def amount_of_memory(size_bytes: int) -> str:
    """`7.6 GiB`, `64 GiB`, `512 MiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return _amount(size, unit)
        size /= _KIB
    return _amount(size, "TiB")


def limit(expected: Expected) -> str:
    """`at most 1 %, beyond 5 % it fails`."""
    word = {"at-most": "at most ", "at-least": "at least ", "one-of": "", "stated": ""}[expected["op"]]
    wanted, fail, unit = expected["pass"], expected["fail"], expected["unit"]
    said = "none" if wanted is None else f"{word}{with_unit(wanted, unit)}"
    if fail is None:
        return f"{said}, anything else warns"
    if fail == wanted:
        return said
    if expected["op"] == "stated":
        return f"{said}; what fails: {with_unit(fail, unit)}"
    return f"{said}, beyond {with_unit(fail, unit)} it fails"


def facts(finding: Finding) -> str:
    """The evidence of a finding; what comes from one source stands together, and that source behind it."""
    said = []
    if finding.observed is not None and finding.observed.count is not None:
        said.append(f"{finding.observed.count:,} samples")
    for source, group in groupby(finding.evidence, key=lambda fact: fact.source):
        said.append(f"{', '.join(map(_fact, group))} ({source})")
    return "; ".join(said)


def _fact(fact: Evidence) -> str:
    name = fact.name
    if fact.unit is not None:
        name = re.sub(r"_(bytes|ns|us|ms|s|percent)$", "", name)
    counted = isinstance(fact.value, int) and fact.unit == "B" and fact.value >= 0
    value = amount_of_memory(int(fact.value)) if counted else with_unit(fact.value, fact.unit)
    return f"{name.replace('_', ' ')} {value}"


def _amount(size: float, unit: str) -> str:
    text = f"{size:,.0f}" if size >= _EXACT_FROM else f"{size:.1f}".removesuffix(".0")
    return f"{text} {unit}"
